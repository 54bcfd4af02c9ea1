"""What all parties share at the ends of a connection: bounds for whoever is called, and for whoever calls."""
