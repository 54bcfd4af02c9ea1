"""What a field server needs from the world, small enough that a simulator can break every part of it.

A ``Disk`` that fails raises ``OSError``; nothing else is expected of it, and nothing else is caught.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Disk(Protocol):
    """Named slots. What was written may be lost, in whole or in part, until it is synced."""

    def read(self, name: str) -> bytes | None:
        """All bytes of a slot, None where there is no such slot."""

    def write(self, name: str, data: bytes) -> None:
        """Put ``data`` at the beginning of a slot. What stood behind it may stay."""

    def sync(self, name: str) -> None:
        """Return only when everything that was written to the slot is durable."""


class Clock(Protocol):
    """The wall clock, which may jump and go back."""

    def now(self) -> int:
        """Unix seconds."""


class Random(Protocol):
    """A source of secrets."""

    def bytes(self, count: int) -> bytes:
        """``count`` bytes that nobody can guess."""


class Lock(Protocol):
    """One writer at a time, among all processes and threads that share a data directory."""

    def hold(self) -> AbstractContextManager[None]:
        """Wait for the lock and hold it. Raises ``Error`` (``vault-locked``) when it does not come free."""
