"""Device Administrator, the technician's program: assigns, activates, refreshes and returns licenses."""
