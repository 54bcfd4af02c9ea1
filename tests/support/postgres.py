"""A real PostgreSQL in a temporary directory, with fsync on. It refuses to run as root: then another user runs it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

SETTINGS = {
    "listen_addresses": "''",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "60",
    "deadlock_timeout": "50ms",
    "log_min_messages": "fatal",
}


def program(name: str) -> str:
    """A program of the PostgreSQL server, which Debian keeps off PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    path = str(found[-1]) if found else shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name}: the PostgreSQL server programs are not installed (make ci installs them)")
    return path


def unprivileged() -> dict[str, Any]:
    """Arguments of ``subprocess`` that run a program as somebody who is not root."""
    return {} if os.getuid() else {"user": "nobody", "group": "nogroup", "extra_groups": []}


class Cluster:
    """One PostgreSQL server and its databases, reached over a Unix socket."""

    def __init__(self, **settings: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tallystick-pg-"))
        self.data = self.home / "data"
        self.settings = SETTINGS | settings
        self._databases = 0
        if not os.getuid():
            shutil.chown(self.home, "nobody", "nogroup")
        self._run(
            "initdb", "--no-sync", "--auth=trust", "--username=tally", "--encoding=UTF8", "--locale=C", "-D", self.data
        )
        self.start()

    def start(self) -> None:
        options = " ".join(f"-c {name}={value}" for name, value in self.settings.items())
        options += f" -c unix_socket_directories={self.home}"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.home / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """``kill -9`` of the whole server, as a power cut does it."""
        pid = int((self.data / "postmaster.pid").read_text("utf-8").split()[0])
        os.kill(pid, signal.SIGSTOP)  # so that it starts nobody who would outlive it
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()]
        for victim in (*children, pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + 120
        while any(_is_alive(victim) for victim in (*children, pid)) and time.monotonic() < deadline:
            time.sleep(0.005)
        # Where nobody reaps it, the dead process still has its number, and the next start would take it for alive.
        for lock in (self.data / "postmaster.pid", *self.home.glob(".s.PGSQL.*.lock")):
            lock.unlink()

    def kill_backend(self, database: str) -> None:
        """``kill -9`` of one backend, for which the server ends all others and recovers."""
        victims = self.sql(
            f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND backend_type = 'client backend' "
            "AND pid <> pg_backend_pid() ORDER BY backend_start LIMIT 1",
            database=database,
        )
        for (pid,) in victims:
            os.kill(pid, signal.SIGKILL)

    def remove(self) -> None:
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.home, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of a new and empty database."""
        self._databases += 1
        name = f"tally{self._databases}"
        self.sql(f"CREATE DATABASE {name}", database="postgres")
        return self.url(name)

    def copy_database(self, url: str) -> str:
        """A copy of a database that nobody is connected to; its URL."""
        copy = self.new_database()
        self.put_back(url, copy)
        return copy

    def put_back(self, source: str, target: str) -> None:
        """Make ``target`` what ``source`` is. Nobody may be connected to either, so whoever is, is not any more."""
        names = [url.rpartition("?")[0].rpartition("/")[2] for url in (source, target)]
        for name in names:
            self.end_connections(name)
        self.sql(f"DROP DATABASE {names[1]} WITH (FORCE)", database="postgres")
        self.sql(f"CREATE DATABASE {names[1]} TEMPLATE {names[0]}", database="postgres")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tally@/{database}?host={self.home}"

    def sql(self, statement: str, *, database: str) -> list[tuple[Any, ...]]:
        """Run a statement as the superuser, outside of any transaction."""
        with psycopg.connect(f"host={self.home} user=tally dbname={database}", autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def end_connections(self, database: str) -> int:
        """End every connection to a database, as a fail-over does it."""
        condition = f"datname = '{database}' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        return len(
            self.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {condition}", database=database)
        )

    def _run(self, name: str, *arguments: str | Path) -> None:
        # What the server says goes to its log: a pipe would stay open for as long as it runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [program(name), *arguments],
                stdout=output,
                stderr=output,
                cwd=self.home,
                timeout=300,
                check=False,
                **unprivileged(),
            )
            output.seek(0)
            said = output.read().decode("utf-8", "replace")
        if done.returncode:
            log = self.home / "log"
            raise RuntimeError(f"{name}: {said}\n{log.read_text('utf-8')[-2000:] if log.exists() else ''}")


def _is_alive(pid: int) -> bool:
    """Whether it runs: one that is dead and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
