"""The running activation server: one instance on its data, its process, its workers, its background work."""
