"""Device Administrator's pages: on this computer only, for the person who opened them."""
