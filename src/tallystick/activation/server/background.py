"""What a serving process does beside answering, each in its own time, until it stops.

A chore that fails is told and done again; after an ``InvariantError`` the whole process stops. A chore never holds
up another one, and none is waited for longer than it takes to finish what it is at.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.errors import Error, InvariantError

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundTask:
    """``work`` is done every ``seconds``; ``wake`` is set to have it done at once."""

    name: str
    seconds: float
    work: Callable[[], object]


class BackgroundTasks:
    """A thread for each."""

    def __init__(self, chores: Sequence[BackgroundTask], *, on_broken: Callable[[InvariantError], None]) -> None:
        self._on_broken = on_broken
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(chore,), name=chore.name, daemon=True) for chore in chores
        ]

    def start(self) -> None:
        """Begin. Each is done for the first time after its ``seconds``."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin nothing any more."""
        self._stop.set()

    def join(self, seconds: float) -> None:
        """Wait for what is under way."""
        for thread in self._threads:
            thread.join(seconds)

    def _run(self, chore: BackgroundTask) -> None:
        while not self._stop.wait(chore.seconds):
            try:
                chore.work()
            except InvariantError as error:
                self._on_broken(error)
                return
            except Error as error:
                _LOG.warning("%s failed, it is tried again: %s", chore.name, error)
            except Exception:  # noqa: BLE001 - the chore must go on, and this is told
                _LOG.exception("%s failed by a fault of Tallystick, it is tried again", chore.name)
