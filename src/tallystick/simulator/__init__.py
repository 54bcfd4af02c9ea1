"""Ships with the product: the demo, and a seeded world in which the real code of all parties meets every fault."""
