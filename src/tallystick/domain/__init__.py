"""What licenses are and which rules they follow: frozen values and pure functions, nothing that waits or is stored."""
