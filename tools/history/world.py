"""One run: an activation server with two workers on PostgreSQL, everybody who acts, and the books when all is quiet.

Bounded in time and in requests; everything listens on loopback or on a Unix socket, and lives in one temporary directory.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import psycopg

from history.actors import Crowd, FieldServer, Killer, Lines, People, Web
from history.record import History, Verb
from support.judge import Books
from support.parties import Activation
from support.postgres import Cluster

TOOLS: Final = Path(__file__).parents[1]
FAULTS: Final = TOOLS.parent / "tests" / "support" / "faults"
FIELD_SERVERS: Final = 10
COURIERS: Final = 6
BOUGHT: Final = ("connected-devices=14", "smartdriver=10")
REQUESTS_MAX: Final = 200_000
RACE_SECONDS: Final = {"unchecked-settle": 0.1}  # between two races to settle, if not two
LOCKED_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 60.0
DESK_SECONDS: Final = 100.0  # more than any wait of the database
_STOP_SECONDS: Final = 20.0


class Desk:
    """The process ``history.desk``, one order at a time."""

    def __init__(self, data: Path, database: str, environment: Mapping[str, str], history: History) -> None:
        self._history = history
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "history.desk", str(data), database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=dict(environment),
        )
        self._expect("ready")

    def do(self, what: str, change: Mapping[str, Any]) -> Verb:
        """Have it done; the outcome is noted."""
        with self._lock:
            verb = self._history.add_verb(what, "*", change)
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps({"do": what}) + "\n")
            self._process.stdin.flush()
            outcome = self._line()
            if outcome == "done":
                verb.outcome, verb.ended = outcome, self._history.now()
            return verb

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], DESK_SECONDS)
        if not ready:
            raise RuntimeError("the desk does not answer")
        return self._process.stdout.readline().strip()

    def _expect(self, word: str) -> None:
        said = self._line()
        if said != word:
            raise RuntimeError(f"the desk said {said!r}")


class Template:
    """An activation server that ``init`` and its people have made, to be copied for each run."""

    def __init__(self, home: Path, cluster: Cluster) -> None:
        self.directory = home / "template"
        self.database = cluster.new_database()
        activation = Activation(self.directory, database=self.database)
        activation.make("--lost-per-year", "1000")
        self.sold = activation.buy(*BOUGHT)
        words = ("token", "create", "history", "--role", "vendor-administrator", "--days", "1", "--json")
        self.token = str(activation.command(*words)["token"])


class Run:
    """One run in a directory of its own, on a database of its own."""

    def __init__(self, home: Path, cluster: Cluster, *, template: Template, seed: int, fault: str) -> None:
        self.history = History()
        self._seed = seed
        self._cluster = cluster
        self._database = cluster.copy_database(template.database)
        self._environment = _environment(fault)
        self._race_seconds = RACE_SECONDS.get(fault, 2.0)
        self._is_over = threading.Event()
        self._errors: list[str] = []
        self.activation = Activation(home / "activation", database=self._database)
        self._process: subprocess.Popen[bytes] | None = None
        self._home = home
        self._template = template
        self.last_words = ""  # of a server that ended by itself

    def build(self) -> None:
        """Everybody is there."""
        shutil.copytree(self._template.directory, self.activation.directory)
        sold, token = self._template.sold, self._template.token
        words = ["activation", "serve", "--data", self.activation.directory, "--workers", "2"]
        words += ["--port", self.activation.port, *self.activation.options, "--json"]
        with (self._home / "serve.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tallystick", *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
            )
        assert self._process.stdout is not None
        if b"{" not in self._process.stdout.readline():
            raise RuntimeError((self._home / "serve.log").read_text("utf-8")[-2000:])
        keys = (self.activation.directory / "keyset.tally").read_bytes()
        dice = random.Random(f"{self._seed} field servers")
        servers = [
            FieldServer(self._home / f"fs-{number}", number, self.history, seed=dice.randbytes(32), keys=keys)
            for number in range(FIELD_SERVERS)
        ]
        seed = dice.randbytes(32)
        twin = [FieldServer(self._home / name, 99, self.history, seed=seed, keys=keys) for name in ("first", "second")]
        self.history.suspects.add(twin[0].device_id)
        self._web = Web(self.activation.port, token, self.history)
        self._crowd = Crowd(servers, (twin[0], twin[1]), Lines(sold["lines"]))
        self._desk = Desk(self.activation.directory, self._database, self._environment, self.history)
        self._people = People(self._web, self._crowd, self._desk.do, self._locked)

    @contextlib.contextmanager
    def _locked(self, device: str) -> Iterator[Callable[[int], None]]:
        """A transaction that is at the row of a field server, until so many wait for a lock. None, where the database is away."""
        connection: psycopg.Connection[Any] | None = None
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(psycopg.OperationalError):
                connection = psycopg.connect(self._database.replace("+psycopg", "", 1))
                stack.callback(connection.close)
                connection.execute("SET lock_timeout = 2000")
                connection.execute("SELECT 1 FROM field_servers WHERE device_id = %s FOR UPDATE", [device])

            def wait_for(count: int) -> None:
                waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                deadline = time.monotonic() + LOCKED_SECONDS
                with contextlib.suppress(psycopg.OperationalError):
                    while connection is not None and time.monotonic() < deadline:
                        found = connection.execute(waiting).fetchone()
                        if found is not None and found[0] >= count:
                            return
                        time.sleep(0.01)

            yield wait_for

    def work(self, seconds: float, posts: int, *, kills: bool) -> None:
        """Everybody acts, whatever is killed, for so long or until there were so many posts."""
        assert self._process is not None
        pid = self._process.pid
        name = self._database.rpartition("?")[0].rpartition("/")[2]
        killer = Killer(lambda: pid, self._cluster, name, self.history)
        acts: list[tuple[str, float, Callable[[random.Random], None]]] = [
            *((f"courier {number}", 0.0, self._carry) for number in range(COURIERS)),
            ("terms", 0.02, lambda dice: self._people.change_terms(dice, self._is_over.wait)),
            ("standing", 0.3, self._people.change_standing),
            ("settling", self._race_seconds, self._people.race_to_settle),
            ("freeze", 2.0, lambda _: self._people.freeze_and_lift(self._is_over.wait)),
            ("looks", 0.02, lambda dice: self._web.look(dice.choice(self._crowd.lines.ids))),
            ("twin", 0.5, self._speak_twice),
            *([("killer", 1.6, killer.kill_something)] if kills else []),
        ]
        threads = [threading.Thread(target=self._act, args=act, daemon=True) for act in acts]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self._errors and len(self.history.posts) < posts:
            if self._process.poll() is not None:
                break
            self._is_over.wait(0.1)
        self._is_over.set()
        for thread in threads:
            thread.join(DESK_SECONDS)
            if thread.is_alive():
                self._errors.append("somebody does not come to an end")
        if self._errors:
            raise RuntimeError("\n".join(self._errors))

    def _carry(self, dice: random.Random) -> None:
        self._crowd.carry(self._web, dice)

    def _speak_twice(self, dice: random.Random) -> None:
        twin = self._crowd.twin[0]
        self._crowd.speak_twice(self._web, dice)
        self._web.verb("release", twin.device_id, "POST", f"/v1/field-servers/{twin.device_id}/release")

    def _act(self, name: str, pause: float, act: Callable[[random.Random], None]) -> None:
        dice = random.Random(f"{self._seed} {name}")
        try:
            while not self._is_over.wait(pause * dice.uniform(0.5, 1.5)):
                act(dice)
        except BaseException:  # noqa: BLE001 - told where the run can see it
            self._errors.append(f"{name}: {traceback.format_exc()}")

    def read_books(self) -> Mapping[str, list[dict[str, Any]]]:
        """When all is quiet: what is open is answered, and the server has stopped."""
        deadline = time.monotonic() + QUIET_SECONDS
        while not self._is_answering():
            if self._process is not None and self._process.poll() is not None:
                # Its own state contradicted itself: it says so, and writes nothing any more.
                self.last_words = (self._home / "serve.log").read_text("utf-8", "replace")[-1000:]
                self.stop()
                return self._rows()
            if time.monotonic() > deadline:
                raise RuntimeError("the activation server does not come back")
            time.sleep(0.2)
        for one in self._crowd.field_servers:
            messages = one.speak(None)
            if messages:
                for reply in self._web.post(messages, list(messages)).values():
                    one.take(reply)
        for line in self._crowd.lines.ids:
            self._web.look(line)
        self.stop()
        return self._rows()

    def _rows(self) -> Mapping[str, list[dict[str, Any]]]:
        rows: Mapping[str, list[dict[str, Any]]] = Books(self.activation.directory, self._database).rows()
        return rows

    def _is_answering(self) -> bool:
        before = len(self.history.looks)
        for _ in range(4):
            self._web.look(self._crowd.lines.ids[0])
        return len(self.history.looks) == before + 4

    def verify(self) -> None:
        """What ``tallystick activation verify`` says."""
        self.activation.verify()

    def stop(self) -> None:
        """End what this run started."""
        if hasattr(self, "_desk"):
            self._desk.close()
            del self._desk
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _environment(fault: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")}
    path = [str(TOOLS), *([str(FAULTS)] if fault else [])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "TALLYSTICK_TEST_FAULT": fault}


def temporary_home() -> Path:
    """In memory, where there is: the vaults' syncs are shown elsewhere (``powercuts``)."""
    beside = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in it
    return Path(tempfile.mkdtemp(prefix="tallystick-history-", dir=beside if beside.is_dir() else None))


def remove(home: Path) -> None:
    """Leave nothing behind."""
    shutil.rmtree(home, ignore_errors=True)
