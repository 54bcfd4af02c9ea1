"""Processes that this run started, and nothing else: started, stopped, killed by their ids.

PostgreSQL's server leaves the process that started it; so this process adopts what is orphaned below it, knows it by
that, lets go of it when it ends, and ends all of it at the end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from support.postgres import unprivileged

EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "high-availability"
_PR_SET_CHILD_SUBREAPER: Final = 36
_FIRST_PORT, _PORTS = 20_000, 10_000  # below what the system gives away by itself
_STOP_SECONDS: Final = 30.0

FoundT = TypeVar("FoundT")


class NotInTimeError(Exception):
    """Something that had to happen did not."""


def wait_for(what: str, condition: Callable[[], FoundT | None], seconds: float) -> FoundT:
    """Poll until ``condition`` gives something true. Raises ``NotInTimeError``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise NotInTimeError(f"{what} did not happen within {seconds:.0f} s")


def example_environment(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """The environment that an example file names, with this run's values. Raises ``KeyError`` for one without."""
    lines = (EXAMPLES / name).read_text("utf-8").splitlines()
    examples = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    unknown = set(values) - set(examples)
    if unknown:
        raise KeyError(f"{name} does not name {sorted(unknown)}")
    private = {key for key, value in examples.items() if "10.0.0." in value or "/" in value}
    if private - set(values):
        raise KeyError(f"{name} names {sorted(private - set(values))}, which belong to a machine")
    return examples | dict(values)


def tree_of(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text("ascii").split():
                found += tree_of(int(child))
    return found


def is_running(pid: int) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def signal_all(pids: Sequence[int], number: int) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Processes:
    """Everything that runs, in one temporary directory, as somebody who is not root."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._started: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._port = _FIRST_PORT + os.getpid() * 37 % _PORTS
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._reaper = threading.Thread(target=self._reap, daemon=True)
        self._reaper.start()

    def directory(self, name: str) -> Path:
        """A directory for one process."""
        path = self.home / name
        path.mkdir(mode=0o700)
        self.give_away(path)
        return path

    def give_away(self, path: Path) -> None:
        """Let what runs here own it."""
        if not os.getuid():
            shutil.chown(path, "nobody", "nogroup")

    def port(self) -> int:
        """A port of loopback that is free."""
        import socket  # noqa: PLC0415 - here only

        while True:
            self._port = _FIRST_PORT + (self._port + 1 - _FIRST_PORT) % _PORTS
            with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", self._port)):
                return self._port

    def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], *, as_root: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a program; what it says goes to ``NAME.log``."""
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        with (self.home / f"{name}.log").open("ab") as log, self._lock:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=kept | {"HOME": str(self.home)} | dict(environment),
                start_new_session=True,
                **({} if as_root else unprivileged()),
            )
            self._started[process.pid] = process
        return process

    def stop(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> None:
        """End one, and wait for it."""
        signal_all([process.pid], number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise NotInTimeError(f"process {process.pid} did not end at signal {number}") from error

    def kill(self, pids: Sequence[int]) -> None:
        """``kill -9``, all at once, and wait until they are gone."""
        signal_all(pids, signal.SIGKILL)
        wait_for("the end of what was killed", lambda: not any(is_running(pid) for pid in pids), _STOP_SECONDS)
        with self._lock:
            for pid in pids:
                if pid in self._started:
                    self._started[pid].wait()
        self._let_go()

    def close(self) -> None:
        """End everything: first what would start something again, then what it started."""
        with self._lock:
            started = list(self._started.values())
        signal_all([process.pid for process in started], signal.SIGKILL)
        for process in started:
            process.wait(_STOP_SECONDS)
        deadline = time.monotonic() + _STOP_SECONDS
        while (left := list(self._adopted())) and time.monotonic() < deadline:
            signal_all([pid for orphan in left for pid in tree_of(orphan)], signal.SIGKILL)
            self._let_go()
            time.sleep(0.05)
        self._is_over.set()
        self._reaper.join()

    def _adopted(self) -> Iterator[int]:
        for task in Path("/proc/self/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in task.read_text("ascii").split():
                    if int(child) not in self._started:
                        yield int(child)

    def _let_go(self) -> None:
        with self._lock:
            for pid in self._adopted():
                if not is_running(pid):
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
            for process in self._started.values():
                process.poll()

    def _reap(self) -> None:
        while not self._is_over.wait(0.1):
            self._let_go()
