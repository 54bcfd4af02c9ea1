"""Structs that threads may read at the same time.

msgspec looks at the fields of a struct or dataclass when it first meets it, and publishes what it found before it is
complete. Two threads that meet one for the first time at once crash the whole process (msgspec 0.22, SIGSEGV). So every
module shows it the kinds that it defines while it is being imported, which only one thread does: see ``know``.
"""

from __future__ import annotations

from typing import Final

import msgspec

KNOWN: Final[set[type]] = set()


def know(*kinds: type) -> None:
    """Have msgspec look at ``kinds`` now. For the end of the module that defines them."""
    for kind in kinds:
        msgspec.json.Decoder(kind)
        KNOWN.add(kind)
