"""Power cuts: what a party had said is still so, whatever became of the bytes and names that were not made durable.

A scenario runs as a process of its own under strace; its system calls are replayed against a model of a disk
(``disk``), the power goes at each point where that makes a difference, and whatever is found then is opened by the
real code and judged (``judges``). ``python -m powercuts`` runs all; ``--fault`` seeds an error from outside.
"""
