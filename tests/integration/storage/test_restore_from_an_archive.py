"""The drill of docs/operations/backup.md: a base backup and an archive of the log, restored with the commands of the page.

A real PostgreSQL, the real ``pg_receivewal``, a real activation server, and real field servers that go on working until all of
it is gone at once. What was let out is still so afterwards, with no announcement; a restore to a moment has forgotten, and
is announced.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from support.parties import Activation, FieldServer, free_port
from support.postgres import SETTINGS, Cluster, program, unprivileged
from tallystick.domain.ids import parse_activation_id
from tallystick.errors import Error
from tallystick.fieldserver.commissioning import open_agent
from tallystick.fieldserver.platform import SystemClock, SystemRandom, load_home
from tallystick.fieldserver.state import Activate, ActivationWant, Refresh, Return
from tallystick.protocol import tallyfile

PAGE = Path(__file__).parents[3] / "docs" / "operations" / "backup.md"
WORK_SECONDS = 3.0


def blocks(heading: str) -> list[list[str]]:
    """The commands of a chapter of the page, block by block."""
    text = PAGE.read_text("utf-8").split(f"### {heading}\n", 1)[1].split("\n### ", 1)[0]
    found = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)
    return [[line.strip() for line in block.splitlines()] for block in found]


SET_UP, RESTORE, TO_A_MOMENT, ANNOUNCE = blocks("PostgreSQL: continuous archiving")


class Archive:
    """A PostgreSQL and its archive on "another machine"; every command is one of the page."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.cluster = Cluster()
        self.port = free_port()
        self.cluster.stop()
        settings = SETTINGS | {"unix_socket_directories": f"'{self.cluster.home}'", "port": str(self.port)}
        with (self.cluster.data / "postgresql.auto.conf").open("a") as file:  # this machine's own
            file.writelines(f"{name} = {value}\n" for name, value in settings.items())
        self.places = {"/archive": self.cluster.home / "archive", "/var/lib/postgresql": self.cluster.home / "new"}
        for place in self.places.values():
            place.mkdir()
            if not os.getuid():
                shutil.chown(place, "nobody", "nogroup")
        self.running: list[subprocess.Popen[bytes]] = []
        self.data = self.cluster.data
        self.pg_ctl("start")
        self.sql("CREATE DATABASE tally")
        self.url = f"postgresql+psycopg://tally@/tally?host={self.cluster.home}&port={self.port}"
        self.activation = Activation(home / "activation", database=self.url)
        self.activation.make()
        sold = self.activation.buy("connected-devices=500")
        self.line, self.activation_id = sold["lines"][0]["line"], sold["lines"][0]["activation_id"]

    def pg_ctl(self, what: str) -> None:
        self.shell(f"pg_ctl --pgdata={self.data} --wait --mode=immediate {what}")

    def sql(self, statement: str) -> str:
        return self.shell(f'psql -d postgres -tAc "{statement}"').strip()

    def shell(self, command: str) -> str:
        """One line of the page, as the user that PostgreSQL runs as; ``pg_receivewal`` goes on."""
        for name, place in self.places.items():
            command = command.replace(name, str(place))
        environment = os.environ | {
            "PATH": f"{Path(program('psql')).parent}:{os.environ['PATH']}",
            "PGHOST": str(self.cluster.home),
            "PGPORT": str(self.port),
            "PGUSER": "tally",
        }
        options = {"cwd": self.cluster.home, "env": environment, **unprivileged()}
        if command.startswith("pg_receivewal"):
            log = (self.home / "receiving.log").open("wb")
            with log:
                self.running.append(subprocess.Popen(["bash", "-ec", f"exec {command}"], stderr=log, **options))
            return ""
        if command.startswith("tallystick activation"):
            words = command.replace("/var/lib/tallystick", str(self.activation.directory)).split()[2:]
            return str(self.activation.run("activation", *words, *self.activation.options))
        with (self.home / "output").open("w+b") as output:  # a pipe would stay open for as long as PostgreSQL runs
            done = subprocess.run(
                ["bash", "-ec", command], stdout=output, stderr=output, timeout=120, check=False, **options
            )
            output.seek(0)
            said = output.read().decode()
        assert done.returncode == 0, (command, said)
        return said

    def follow(self, commands: list[str]) -> None:
        for command in commands:
            self.shell(command)

    def burn(self) -> None:
        """The machine with the activation server's processes and PostgreSQL is gone, in the middle of everything."""
        pid = int((self.data / "postmaster.pid").read_text("utf-8").split()[0])
        os.kill(pid, signal.SIGSTOP)
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
        for victim in (*children, pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.activation.kill()
        time.sleep(0.2)
        shutil.rmtree(self.data)
        for lock in self.cluster.home.glob(".s.PGSQL.*"):
            lock.unlink()
        while self.running:
            receiving = self.running.pop()
            receiving.terminate()
            receiving.wait(20)
        self.data = self.places["/var/lib/postgresql"] / "restored"

    def remove(self) -> None:
        self.activation.stop()
        for one in self.running:
            one.kill()
            one.wait()
        if (self.data / "postmaster.pid").exists():
            self.pg_ctl("stop")
        shutil.rmtree(self.cluster.home)


class Roof:
    """A field server with its real engine and vault, and whoever carries for it."""

    def __init__(self, home: Path, name: str, archive: Archive) -> None:
        made = FieldServer(home / name)
        made.make()
        self.agent = open_agent(load_home(made.directory), clock=SystemClock(), random=SystemRandom())
        self.activation, self.activation_id = archive.activation, parse_activation_id(archive.activation_id)
        self.agent.deliver(list(tallyfile.parse_chunks([(archive.activation.directory / "keyset.tally").read_bytes()])))
        self.told: dict[str, bytes] = {}  # what was let out, by the message

    def ask(self, quantity: int | None) -> None:
        wish = Refresh() if quantity is None else Return(wants=None) if not quantity else self.want(quantity)
        with contextlib.suppress(Error):  # it waits for an answer
            self.agent.ask(wish)

    def want(self, quantity: int) -> Activate:
        return Activate(wants=(ActivationWant(activation_id=self.activation_id, quantity=quantity),))

    def carry(self) -> int:
        """One message at a time: what was told for it, and deliver it. How many were answered."""
        answered = 0
        for waiting in self.agent.outbox():
            reply = self.post(waiting.compact)
            if reply:
                self.told[waiting.compact] = reply
                self.agent.deliver(list(tallyfile.parse_chunks([reply])))
                answered += 1
        return answered

    def post(self, compact: str) -> bytes:
        try:
            status, _, said = self.activation.call(
                "POST", "/v1/messages", f"{compact}\n".encode(), {"Content-Type": tallyfile.MEDIA_TYPE}
            )
        except OSError:
            return b""
        return said if status == 200 else b""

    def work(self, until: threading.Event) -> None:
        for quantity in itertools.cycle((1, 2, None, 0)):
            if until.is_set():
                return
            self.ask(quantity)
            self.carry()

    def held(self) -> int:
        return sum(one.quantity for one in self.agent.peek().licenses)


@pytest.fixture
def archive(tmp_path):
    found = Archive(tmp_path)
    yield found
    found.remove()


def replies(said: bytes) -> list[bytes]:
    return [line for line in said.splitlines() if line and not line.startswith(b"#")]


def work_until_it_burns(archive: Archive, roofs: list[Roof]) -> None:
    is_over = threading.Event()
    workers = [threading.Thread(target=roof.work, args=(is_over,)) for roof in roofs]
    for worker in workers:
        worker.start()
    time.sleep(WORK_SECONDS)
    archive.burn()
    is_over.set()
    for worker in workers:
        worker.join()


def is_recovered(archive: Archive) -> None:
    deadline = time.monotonic() + 60
    while archive.sql("SELECT pg_is_in_recovery()") != "f":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def forgotten(roofs: list[Roof]) -> int:
    """Of how many messages that were answered the same bytes do not come back."""
    return sum(replies(roof.post(compact)) != replies(said) for roof in roofs for compact, said in roof.told.items())


@pytest.mark.postgres
def test_a_restore_from_the_archive_forgets_nothing_that_was_let_out(archive, tmp_path):
    roofs = [Roof(tmp_path, f"roof-{number}", archive) for number in range(3)]
    archive.activation.start()
    archive.follow(SET_UP)
    work_until_it_burns(archive, roofs)
    assert sum(len(roof.told) for roof in roofs) > 10
    archive.follow(RESTORE)
    is_recovered(archive)
    archive.activation.start()
    assert forgotten(roofs) == 0
    for roof in roofs:  # and everybody goes on, with no announcement
        roof.carry()
        roof.ask(5)
        assert roof.carry() >= 1
        assert roof.held() == 5
    assert archive.activation.command("incidents", "--json") == []
    assert archive.activation.lines()[archive.line]["available"] == 485
    archive.activation.verify()


@pytest.mark.postgres
def test_without_the_last_segment_it_is_an_old_backup(archive, tmp_path):
    """The drill can fail: what ``archive_command`` alone would have shipped is not enough."""
    roofs = [Roof(tmp_path, "roof", archive)]
    archive.activation.start()
    archive.follow(SET_UP)
    work_until_it_burns(archive, roofs)
    (rename,) = [command for command in RESTORE if ".partial" in command]
    archive.follow([command for command in RESTORE if command != rename])
    is_recovered(archive)
    archive.activation.start()
    assert forgotten(roofs) > 0


@pytest.mark.postgres
def test_a_restore_to_a_moment_is_announced_and_gives_nothing_out_twice(archive, tmp_path):
    before, after = (Roof(tmp_path, name, archive) for name in ("before", "after"))
    archive.activation.start()
    archive.follow(SET_UP)
    before.ask(200)
    before.carry()
    time.sleep(1.1)
    moment = archive.sql("SELECT now()")
    time.sleep(1.1)
    before.ask(250)
    before.carry()
    after.ask(250)
    after.carry()
    assert (before.held(), after.held()) == (250, 250)
    archive.burn()
    start = next(place for place, command in enumerate(RESTORE) if command.startswith("pg_ctl"))
    archive.follow(RESTORE[:start])
    archive.follow([re.sub(r"'2027[^']*'", f"'{moment}'", command) for command in TO_A_MOMENT])
    archive.follow(RESTORE[start:])
    is_recovered(archive)
    archive.follow(ANNOUNCE)
    archive.activation.start()
    assert archive.activation.lines()[archive.line]["frozen"] is True
    assert archive.activation.lines()[archive.line]["available"] == 300  # the 250 of one that it does not know, too
    stranger = Roof(tmp_path, "stranger", archive)
    stranger.ask(300)
    stranger.carry()
    assert stranger.held() == 0
    for roof in (before, after):  # until everybody was heard from
        for _ in range(4):
            roof.ask(None)
            roof.carry()
        assert roof.held() == 250
    assert archive.activation.lines()[archive.line]["available"] == 0
    archive.activation.command("lift-freeze", "--all")
    for _ in range(2):
        stranger.ask(1)
        stranger.carry()
    assert stranger.held() == 0
    archive.activation.verify()
