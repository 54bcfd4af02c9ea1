"""Ed25519 is deterministic: the same key over the same bytes is the same signature, and a signature that fits once fits
always. So both are remembered while a simulation runs. What is checked with which key is still the parties' decision:
only the arithmetic is replaced, one level below ``protocol.envelope``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from tallystick.protocol import envelope

REMEMBERED_MAX: Final = 200_000
_ARITHMETIC: Final = ("crypto_sign", "crypto_sign_open", "crypto_sign_seed_keypair")


def remember_signatures() -> None:
    """From now on, in this process. More than once is once. (A signature that does not fit is an error, not remembered.)"""
    below: Any = envelope  # what is replaced is not for others
    for name in _ARITHMETIC:
        if not hasattr(getattr(below, name), "cache_info"):
            setattr(below, name, lru_cache(maxsize=REMEMBERED_MAX)(getattr(below, name)))
