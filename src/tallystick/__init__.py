"""Tallystick: open, self-hosted license activation, with licenses that come back.

Nothing is imported here, so that a field server loads only what it needs. The parties are in ``activation``,
``fieldserver`` and ``administrator``; what they say to each other is in ``protocol``.
"""

__version__ = "0.1.0"
