"""A wall clock that a test moves, for processes that have this directory on ``PYTHONPATH``.

``time.time`` and ``time.time_ns`` are ahead by the seconds that the file named by ``TALLYSTICK_TEST_CLOCK`` holds,
read at every call: so the clock of a process steps while it runs, as a technician or a bad battery steps it. The
monotonic clock, which timeouts use, goes on as ever.
"""

import os
import time

_FILE = os.environ.get("TALLYSTICK_TEST_CLOCK")

if _FILE:
    _time, _time_ns = time.time, time.time_ns

    def _offset() -> int:
        try:
            with open(_FILE, encoding="ascii") as file:  # noqa: PTH123 - pathlib would be imported for every process
                return int(file.read() or "0")
        except (OSError, ValueError):
            return 0

    time.time = lambda: _time() + _offset()
    time.time_ns = lambda: _time_ns() + _offset() * 1_000_000_000
