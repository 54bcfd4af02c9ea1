"""Which operations run at this moment, in whichever process: a lock of the operating system on a file for each of them.

Guarantees: a mark ends with the process that held it, however that ended, so that what died is never taken for what runs.
Without a directory (simulations) only this process is looked at.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tallystick.errors import Error
from tallystick.sentences import _


class Marks:
    """The marks of one data directory, for all threads of this process."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._taken: dict[int, int | None] = {}  # the open files
        self._waiting: set[int] = set()  # taken, and nobody runs it yet

    def take(self, number: int) -> None:
        """From now on it runs, for everybody else. Raises ``Error`` (``too-busy``, ``disk-failed``, ``disk-full``)."""
        with self._lock:
            if number in self._taken:
                raise _busy(number)
            self._taken[number] = self._open(number)
            self._waiting.add(number)

    def let_go(self, number: int) -> None:
        """It does not run any more."""
        with self._lock:
            self._waiting.discard(number)
            descriptor = self._taken.pop(number, None)
            if descriptor is None or self._directory is None:
                return
            if sys.platform != "win32":  # while it is still locked: nobody locks a file that is about to go
                with suppress(OSError):
                    self._path(self._directory, number).unlink()
            os.close(descriptor)

    @contextmanager
    def hold(self, number: int) -> Iterator[bool]:
        """While the body runs, so does the operation; False where it was taken before, for this. Raises ``Error`` (``too-busy``, ``disk-failed``, ``disk-full``)."""
        with self._lock:
            is_ours = number in self._waiting
            self._waiting.discard(number)
        if not is_ours:
            self.take(number)
            with self._lock:
                self._waiting.discard(number)
        try:
            yield not is_ours
        finally:
            self.let_go(number)

    def is_held(self, number: int) -> bool:
        """Whether the operation runs, here or in another process."""
        with self._lock:
            if number in self._taken:
                return True
        if self._directory is None:
            return False
        try:
            descriptor = os.open(self._path(self._directory, number), os.O_RDWR)
        except OSError:
            return False
        try:
            return not _try_lock(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, number: int) -> int | None:
        if self._directory is None:
            return None
        path = self._path(self._directory, number)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            code = "disk-full" if error.errno == errno.ENOSPC else "disk-failed"
            raise Error(code, expected=_("to write {path}", path=path), seen=error.strerror or str(error)) from None
        if not _try_lock(descriptor):
            os.close(descriptor)
            raise _busy(number)
        return descriptor

    @staticmethod
    def _path(directory: Path, number: int) -> Path:
        return directory / f"operation-{number}.lock"


def _busy(number: int) -> Error:
    return Error(
        "too-busy",
        expected=_("one at a time to run an operation"),
        seen=_("that operation {number} runs already", number=number),
    )


def _try_lock(descriptor: int) -> bool:
    """Take the lock; False where somebody else has it. It is let go of when the file is closed."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415 - only there

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415 - only elsewhere

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
