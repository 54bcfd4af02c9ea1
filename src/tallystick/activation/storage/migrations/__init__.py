"""The history of the schema. What a migration does is never edited once it was released.

There is no way back, so none of them has a ``downgrade``: restore a backup from before it.
"""
