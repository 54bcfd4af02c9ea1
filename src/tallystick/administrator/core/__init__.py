"""What Device Administrator decides and does: goals, workflows, couriers, plans. Sockets and disks are ports."""
