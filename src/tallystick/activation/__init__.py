"""The activation server: knows what was bought and what is activated where."""
