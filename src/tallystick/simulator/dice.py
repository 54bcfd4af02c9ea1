"""Seeded chance, the same on every machine and every Python version (splitmix64)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

ItemT = TypeVar("ItemT")

_MASK: Final = 2**64 - 1
_GOLDEN: Final = 0x9E3779B97F4A7C15


class Dice:
    """A stream of numbers that follows from its seed and nothing else."""

    __slots__ = ("_state",)

    def __init__(self, *seed: object) -> None:
        text = "\x1f".join(map(str, seed)).encode()
        self._state = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")

    def number(self) -> int:
        """64 bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return mixed ^ (mixed >> 31)

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1."""
        return self.number() % limit

    def between(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``."""
        return low + self.below(high - low + 1)

    def chance(self, per_mille: int) -> bool:
        """True ``per_mille`` times in a thousand."""
        return self.below(1000) < per_mille

    def pick(self, items: Sequence[ItemT]) -> ItemT:
        """One of them."""
        return items[self.below(len(items))]

    def weighted(self, weights: Mapping[ItemT, int]) -> ItemT:
        """One of the keys, as often as its weight says."""
        left = self.below(sum(weights.values()))
        for item, weight in weights.items():
            left -= weight
            if left < 0:
                return item
        raise ValueError(weights)

    def bytes(self, count: int) -> bytes:
        """``count`` bytes."""
        blocks = [self.number().to_bytes(8, "big") for _ in range(-(-count // 8))]
        return b"".join(blocks)[:count]
