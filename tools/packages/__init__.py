"""What is handed out: ``python -m packages``; into ``dist/``, the same bytes whenever the same commit is built.

``wheel``: wheel and sdist, and beside them for each program a list of every package with its hash; ``pyz``: Device Administrator
in one file; ``release``: bill of materials, notes, checksums and their signature beside what was built.
"""
