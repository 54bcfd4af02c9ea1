"""How Device Administrator reaches field servers and the activation server."""
