"""`make bench`: how fast Tallystick is, beside limits that are measured in the same run on the same machine.

Nothing here is part of the package, and no test depends on it.
"""
