"""Fail-over, really: a replicated PostgreSQL that is killed, cut off and restarted under load (``make ha``)."""
