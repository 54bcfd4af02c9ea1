"""What the laptop remembers, in one SQLite database: field servers, messages, passwords, what is running."""
