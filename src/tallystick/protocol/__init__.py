"""Bytes to verified messages and back: signatures, keys, message kinds, the tally file. No input or output."""
