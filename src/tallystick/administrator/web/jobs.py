"""What runs while pages are looked at: one operation at a time, and looking around, each in a thread of its own.

An operation is on disk before it begins (``doing``), so that closing the browser changes nothing. Operations that the
command line runs are seen, and stopped, like our own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from tallystick.administrator.app import Administrator
from tallystick.administrator.core.goals import Goal
from tallystick.administrator.core.operations import Operation
from tallystick.administrator.core.reach import Reach
from tallystick.administrator.ports import Stage
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.sentences import _

Opener = Callable[[], AbstractContextManager[Administrator]]


@dataclass(slots=True, kw_only=True)
class Running:
    """Implements ``ports.Progress`` for one operation."""

    number: int
    stop: threading.Event = field(default_factory=threading.Event)
    stages: dict[DeviceId, Stage] = field(default_factory=dict)

    def step(self, device_id: DeviceId, stage: Stage) -> None:
        """Remember how far it is."""
        self.stages[device_id] = stage


class Jobs:
    """The threads of the pages."""

    def __init__(self, opened: Opener, reach: Reach) -> None:
        self._opened = opened
        self.reach = reach
        self._lock = threading.Lock()
        self._slot = threading.Lock()  # so that never more than 64 field servers are asked at once
        self._running: Running | None = None
        self._looking: threading.Thread | None = None
        self._threads: list[threading.Thread] = []
        self.problems: dict[int, str] = {}

    # Operations

    def begin(self, goals: Mapping[DeviceId, Goal]) -> int:
        """Keep and start an operation. Raises ``Error`` (``too-busy``)."""
        self._check_free()
        with self._opened() as administrator:
            number = administrator.begin(goals)
            try:
                self._start(number, goals)
            except Error:
                administrator.operations.do_not_run(number)
                raise
        return number

    def go_on(self, operation: Operation) -> None:
        """Take up what an operation has left open. Raises ``Error`` (``too-busy``)."""
        self._check_free()
        self._start(operation.number, operation.open_goals)

    def running(self, number: int | None = None) -> Running | None:
        """What runs, if it is ``number``."""
        found = self._running
        return found if found is not None and number in {None, found.number} else None

    def cancel(self, number: int) -> None:
        """Let every visit end its step, and begin no other, also where another process runs it."""
        found = self.running(number)
        if found is not None:
            found.stop.set()
            return
        with self._opened() as administrator:
            if administrator.operations.is_running(number):
                administrator.operations.ask_to_stop(number)

    def close(self) -> None:
        """Stop, and wait for what is in the middle of a step."""
        if self._running is not None:
            self._running.stop.set()
        for thread in self._threads:
            thread.join()

    def _check_free(self) -> None:
        found = self._running
        if found is not None:
            raise Error(
                "too-busy",
                expected=_("one operation at a time"),
                seen=_("operation {number}, which still runs", number=found.number),
            )

    def _start(self, number: int, goals: Mapping[DeviceId, Goal]) -> None:
        with self._lock:
            self._check_free()
            self._running = Running(number=number)
        self.problems.pop(number, None)
        self._thread(lambda: self._operate(number, goals))

    def _operate(self, number: int, goals: Mapping[DeviceId, Goal]) -> None:
        running = self._running
        if running is None:
            return
        try:
            with self._slot, self._opened() as administrator:
                administrator.run(number, goals, running, stop=running.stop)
        except Error as error:  # a full disk, say: what was kept is kept, and the operation goes on later
            self.problems[number] = f"{error.code}: {error}"
        finally:
            self._running = None

    # Looking around

    @property
    def is_looking(self) -> bool:
        """Whether somebody is being asked right now."""
        return self._looking is not None and self._looking.is_alive()

    def look(self) -> None:
        """Ask every field server and activation server, unless that is happening already."""
        with self._lock:
            if not self.is_looking:
                self._looking = self._thread(self._look)

    def look_if_older(self, seconds: int, *, now: int) -> None:
        """Ask again for whoever keeps looking at a page. 0: never by itself."""
        if seconds and self._running is None and (self.reach.asked_at or 0) + seconds <= now:
            self.look()

    def _look(self) -> None:
        with self._slot, self._opened() as administrator:
            administrator.look()
            self.reach.note_all_asked()

    def _thread(self, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        thread.start()
        return thread
