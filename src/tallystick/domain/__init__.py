"""What licenses are and which rules they follow: frozen values and pure functions, standard library only."""
