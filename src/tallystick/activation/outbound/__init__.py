"""What the activation server sends by itself: webhooks and mail."""
