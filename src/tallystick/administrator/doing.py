"""Doing an operation: begun by a page or by a command, it is kept, marked as running, and stopped in the same way.

An operation is on disk before anything is sent, so that ending the program, or the laptop's battery, leaves one that
goes on where it was. Whoever asks for it to stop may be another process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from tallystick.administrator.app import Administrator
from tallystick.administrator.core.goals import Goal, GoalResult, Report
from tallystick.administrator.ports import Progress
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error

_LISTENED_SECONDS: Final = 0.5


def begin(administrator: Administrator, goals: Mapping[DeviceId, Goal]) -> int:
    """Keep the goals; the number of the operation. Raises ``Error``."""
    return administrator.operations.begin(goals, names=administrator.inventory.names(), now=administrator.clock.now())


def run(
    administrator: Administrator,
    number: int,
    goals: Mapping[DeviceId, Goal],
    progress: Progress | None = None,
    *,
    stop: threading.Event | None = None,
) -> list[Report]:
    """Run what is open of it, and keep every report as it comes. Raises ``Error`` (``too-busy`` where it runs already)."""
    operations, stop, is_over = administrator.operations, stop or threading.Event(), threading.Event()

    def keep(report: Report) -> None:
        operations.keep(number, report)

    def listen() -> None:
        while not is_over.wait(_LISTENED_SECONDS):
            with suppress(Error):  # what stands in the way of looking is told by who writes
                if operations.is_asked_to_stop(number):
                    stop.set()

    with operations.run(number):
        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        try:
            reports = administrator.workflows.run(goals, progress, stop=stop, on_report=keep)
            there = {report.device_id for report in reports}
            for report in (*(one for one in reports if one.result is GoalResult.INTERRUPTED), *_gone(goals, there)):
                keep(report)
            operations.end(number, now=administrator.clock.now())
        finally:
            is_over.set()
            listener.join()
    return reports


def _gone(goals: Mapping[DeviceId, Goal], there: set[DeviceId]) -> Iterator[Report]:
    """Of field servers that were taken off the list meanwhile."""
    for device_id in goals.keys() - there:
        yield Report(
            device_id=device_id,
            name=device_id[:12],
            result=GoalResult.LEFT,
            detail="it was taken off the list meanwhile",
        )
