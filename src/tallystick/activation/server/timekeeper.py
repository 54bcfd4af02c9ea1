"""Counts the time in service of one serving process, and ends the waiting periods that are over (``core.clock``)."""

from __future__ import annotations

import time
from collections.abc import Callable

from tallystick.activation.core.clock import Tick, keep_time
from tallystick.activation.core.ports import Signer
from tallystick.activation.storage import SqlStore


def steady_seconds() -> float:
    """A clock that nobody sets. It goes on while the computer sleeps, where the system has such a one."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


class Timekeeper:
    """``clock`` is the real time, which people and programs set; ``steady`` is not. One for each process."""

    def __init__(
        self, store: SqlStore, signer: Signer, *, clock: Callable[[], int], steady: Callable[[], float] = steady_seconds
    ) -> None:
        self._store = store
        self._signer = signer
        self._clock = clock
        self._steady = steady
        self._before = clock()
        self._steady_before = steady()

    def tick(self) -> None:
        """Count what has passed since the last time. Raises ``DatabaseError``; then the next one counts all of it."""
        now, steady = self._clock(), self._steady()
        tick = Tick(now=now, before=self._before, elapsed=int(steady - self._steady_before))
        self._store.transact(lambda transaction: keep_time(transaction, self._signer, tick))
        self._before, self._steady_before = now, steady
