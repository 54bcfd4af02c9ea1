"""The keys of the activation server: where they are, who signs with them, how they change."""
