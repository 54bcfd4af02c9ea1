"""A hundred field servers, technicians with three routes, one activation server, and somebody who kills them all.

Everything is a real process. The technicians go on with their work whatever happens; the killer does, from a seed:
``kill -9`` of anybody, also in the middle of a write; full and read-only disks; clocks that step; a network that loses
requests and replies; directories and the database copied away and put back. Every now and then all processes are
stopped where they are, and the auditor judges that instant (``support.judge``). Then peace: everything open is
repeated until nothing waits, and everything must be there.

What is drawn from the seed is the same in every run; how it falls on real processes is not.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.judge import ACCUSATIONS, Books, judge, state_row
from support.parties import (
    COMMAND,
    TRACEBACK,
    Activation,
    Disk,
    FieldServer,
    Technician,
    free_ports_answer,
    starve,
    surroundings,
)
from support.tap import Tap
from tallystick.administrator.app import open_administrator
from tallystick.administrator.core import pinning
from tallystick.fieldserver.local_socket import SOCKET_FILE
from tallystick.simulator.evidence import Violation

WAVE = 8
LOSS = 0.06
DAY = 86_400
KINDS = ("AS-P", "AS-B", "Edge Server")
COMMAND_SECONDS = 240
_ENDINGS = {0, 1, 3, 4, -signal.SIGKILL}


class Chaos:
    """The world of one run."""

    def __init__(
        self, directory: Path, *, seed: int, field_servers: int, with_restore: bool, database: Any = None
    ) -> None:
        self.directory = directory
        self.seed = seed
        self.with_restore = with_restore
        self.cluster = database
        self.activation = Activation(directory / "activation", database=database and database.new_database())
        self.tap = Tap(self.activation.port, seed=seed)
        self.field_servers: list[FieldServer] = []
        self.technicians: dict[str, Technician] = {}
        self.count = field_servers
        self.lines: list[str] = []
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.spawning = threading.RLock()
        self.office = threading.Lock()  # held by whoever runs a command on the activation server's data
        self.is_over = threading.Event()
        self.suspects: set[str] = set()
        self.owed: dict[str, tuple[int, int | None]] = {}
        self.was_restored = False
        self.floors: dict[str, tuple[int, int, int]] = {}
        self.faults: dict[str, int] = {}
        self.operations: dict[str, int] = {}
        self.frames = 0
        self.failures: list[str] = []
        self.disk: Disk | None = None
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._log = (directory / "events.log").open("w")

    # Setting the stage

    def build(self) -> None:
        """Everybody is there, and nobody has done anything yet."""
        self.activation.make()
        (self.directory / "field-servers").mkdir()
        disk = Disk(self.directory / "field-servers" / "small", "6m")
        self.disk = disk if disk.mount() else None
        for number in range(self.count):
            is_small = self.disk is not None and number % 10 == 1
            place = self.directory / "field-servers" / ("small" if is_small else "")
            options = ("--activation", self.tap.url) if number % 3 == 0 else ()
            server = FieldServer(place / f"fs-{number:03}", *options)
            # The hand on the clock is ours: it must move when that disk is full, too.
            server.clock = self.directory / "field-servers" / f"fs-{number:03}.clock"
            server.make(KINDS[number % 3 if number % 2 else 0])
            self.field_servers.append(server)
        bought = self.activation.buy(
            f"connected-devices={self.count * 3}",
            f"smartdriver={self.count}",
            f"personal-dashboards={max(2, self.count // 3)}",
        )
        self.lines = [line["line"] for line in bought["lines"]]
        self.activation.start()
        self.tap.upstream = self.activation.port
        for start in range(0, self.count, WAVE):
            wave = self.field_servers[start : start + WAVE]
            for server in wave:
                server.launch()
            for server in wave:
                server.ready()
        self._hire(bought["entitlement_id"])
        self.note(f"{self.count} field servers, lines {self.lines}, disk of its own: {self.disk is not None}")

    def _hire(self, entitlement_id: str) -> None:
        """Technicians with one list of field servers, and their routes."""
        first = self.directory / "technician-online"
        with open_administrator(directory=first) as administrator:
            for server in self.field_servers:
                pinning.add_field_server(
                    administrator.network,
                    administrator.inventory,
                    address=server.url,
                    password=server.password,
                    fingerprint=None,
                    now=administrator.clock.now(),
                )
            pinning.learn_entitlement(
                administrator.courier,
                administrator.inventory,
                text=entitlement_id,
                url=self.tap.url,
                now=administrator.clock.now(),
            )
        self.technicians["online"] = Technician(first)
        for name, route in (("relay", None), ("files", "offline")):
            shutil.copytree(first, self.directory / f"technician-{name}")
            self.technicians[name] = Technician(self.directory / f"technician-{name}", route=route)

    def close(self) -> None:
        """End what is left, each by its own id."""
        if self._log.closed:
            return
        self.is_over.set()
        for process in list(self.running.values()):
            with contextlib.suppress(OSError):
                process.send_signal(signal.SIGCONT)
                process.kill()
        for server in (*self.field_servers, self.activation):
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)
            server.kill()
        self.tap.close()
        self._log.close()
        if self.disk is not None:
            self.disk.unmount()

    def note(self, text: str) -> None:
        """One line of the log of this run."""
        with self._lock:
            self._log.write(f"{time.monotonic() - self._begun:7.2f} {text}\n")
            self._log.flush()

    # Work

    def work(self, seconds: float) -> None:
        """Technicians and the killer, at once."""
        self.tap.loss = LOSS
        targets: list[tuple[str, Callable[[], None]]] = [
            ("online", lambda: self._technician("online", self.field_servers)),
            ("relay", lambda: self._technician("relay", self.field_servers[1:])),
            ("files", lambda: self._technician("files", self.field_servers[2::3] + self.field_servers[1::3])),
        ]
        threads = [threading.Thread(target=self._guard, args=(name, work)) for name, work in targets]
        for thread in threads:
            thread.start()
        killer = Killer(self)
        try:
            killer.run(seconds)
        finally:
            self.is_over.set()
            killer.heal()
            for thread in threads:
                thread.join()
        assert not self.failures, "\n".join(self.failures)

    def _guard(self, name: str, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told where the test can see it
            self.failures.append(f"{name}: {type(error).__name__}: {error}")
            self.is_over.set()

    def _technician(self, name: str, servers: list[FieldServer]) -> None:
        dice = random.Random(f"{self.seed} {name}")
        while not self.is_over.is_set():
            chosen = [server.name for server in dice.sample(servers, dice.randint(1, max(2, len(servers) // 6)))]
            words = self._words(dice, chosen)
            self.operations[words[0]] = self.operations.get(words[0], 0) + 1
            self.admin(name, *words)
            if name == "files":
                self._carry_files(dice, name)
                if dice.random() < 0.4:
                    self._carry_a_stick(dice, dice.choice(servers))

    def _words(self, dice: random.Random, chosen: list[str]) -> list[str]:
        line = dice.choice(self.lines)
        match dice.choices(("activate", "return", "return-line", "one-carry", "refresh", "sync"), (8, 4, 3, 2, 1, 2))[
            0
        ]:
            case "activate":
                return ["activate", *chosen, "--line", f"{line}={dice.randint(0, 3)}"]
            case "return":
                return ["return", *chosen]
            case "return-line":
                return ["return", *chosen, "--line", f"{line}={dice.randint(0, 1)}"]
            case "one-carry":
                return ["return", *chosen, "--one-carry"]
            case "refresh":
                return ["refresh", *chosen]
            case _:
                return ["sync"]

    def admin(self, name: str, *words: str, expect: set[int] = _ENDINGS) -> int:
        """One command of a technician, to whatever end."""
        return self._run(name, ["admin", *words], self.technicians[name].environment(), expect)

    def _carry_files(self, dice: random.Random, name: str) -> None:
        """Out to a file, up, down, and back in; twice, because the confirmation is to be carried, too."""
        up, down = self.directory / f"{name}-up.tally", self.directory / f"{name}-down.tally"
        for _ in range(dice.choice((1, 2, 2))):
            if self.is_over.is_set():
                return
            up.unlink(missing_ok=True)
            self.admin(name, "export", str(up))
            if up.exists() and self._upload(name, up, down):
                self.admin(name, "import", str(down))

    def _carry_a_stick(self, dice: random.Random, server: FieldServer) -> None:
        """Beside the running agent: two processes on one vault."""
        up, down = self.directory / "stick-up.tally", self.directory / "stick-down.tally"
        up.unlink(missing_ok=True)
        words = ["fieldserver", "outbox", "-o", str(up), "--data", str(server.directory)]
        self._run("files", words, surroundings(server.clock), _ENDINGS)
        if up.exists() and self._upload("files", up, down):
            for _ in range(dice.choice((1, 2))):
                words = ["fieldserver", "deliver", str(down), "--data", str(server.directory)]
                self._run("files", words, surroundings(server.clock), _ENDINGS)

    def _upload(self, name: str, up: Path, down: Path) -> bool:
        """What the upload box does. Whether there is a whole reply file."""
        self.tap.note(up.read_bytes())
        down.unlink(missing_ok=True)
        words = ["activation", "message", str(up), "-o", str(down), *self._data()]
        with self.office:
            self._run(name, words, surroundings(self.activation.clock), _ENDINGS)
        return down.exists()

    def _data(self) -> list[str]:
        return ["--data", str(self.activation.directory), *self.activation.options]

    def _run(self, name: str, words: list[str], environment: dict[str, str], expect: set[int]) -> int:
        with self.spawning:
            process = subprocess.Popen(
                [*COMMAND, *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            self.running[name] = process
        _, errors = process.communicate(timeout=COMMAND_SECONDS)
        self.running.pop(name, None)
        told = errors.decode("utf-8", "replace")
        self.note(f"{name}: {' '.join(words[:14])} -> {process.returncode} {told.strip().splitlines()[:1]}")
        is_fault = TRACEBACK in told or "invariant" in told
        if process.returncode not in expect or (is_fault and process.returncode != -signal.SIGKILL):
            self.note(told)
            raise AssertionError(f"{' '.join(words)} ended with {process.returncode}: {told[-3000:]}")
        return process.returncode

    # Judgement

    def pids(self) -> list[int]:
        """Of all processes."""
        found = [server.pid for server in (*self.field_servers, self.activation)]
        found += [process.pid for process in list(self.running.values()) if process.poll() is None]
        return [pid for pid in found if pid is not None]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Everybody stands still, in the middle of whatever they do."""
        with self.spawning:
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
            try:
                deadline = time.monotonic() + 120
                while not all(_is_stopped(pid) for pid in pids) and time.monotonic() < deadline:
                    time.sleep(0.005)
                yield
            finally:
                for pid in pids:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

    def look(self) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[str, Any]]]:
        """The books and the vaults, at one instant."""
        with self.frozen():
            books = Books(self.activation.directory, self.activation.options[1] if self.cluster else None).rows()
            return books, {server.name: state_row(server) for server in self.field_servers}

    def audit(self) -> Any:
        """One instant, judged. Raises ``Violation``."""
        books, states = self.look()
        self.frames += 1
        for name, state in states.items():
            place = (state["epoch"], state["number"], state["sequence"])
            if place[:2] < self.floors.get(name, place)[:2] or place[2] < self.floors.get(name, place)[2]:
                raise Violation("vault", f"{name} went back from {self.floors[name]} to {place}")
            self.floors[name] = place
        return judge(
            books,
            directory=self.activation.directory,
            heard=list(self.tap.heard),
            states=states,
            suspects=self.suspects,
            was_restored=self.was_restored,
        )

    # Peace

    def make_peace(self) -> None:
        """Everything that is open is repeated until nothing waits. Raises ``Violation`` where that does not end."""
        self.tap.loss, self.tap.is_cut = 0.0, False
        self.is_over.clear()
        for attempt in range(8):
            self._release_holds()
            for name in self.technicians:
                self.admin(name, "sync")
            self._carry_files(random.Random(attempt), "files")
            self.admin("online", "refresh", "--all")
            self.activation.command("lift-freeze", "--all", env=surroundings(self.activation.clock))
            books, states = self.look()
            on_hold = [row for row in books["field_servers"] if row["status"] == "hold"]
            open_ = [name for name, state in states.items() if state["waiting"]]
            self.note(f"peace {attempt}: {len(on_hold)} on hold, waiting at {open_}")
            if not on_hold and not open_ and attempt:
                break
        else:
            raise Violation("P2", f"the parties do not come to rest: {open_} wait, {len(on_hold)} are on hold")
        for name in self.technicians:
            self.admin(name, "sync", expect={0})

    def _release_holds(self) -> None:
        for row in Books(self.activation.directory, self.activation.options[1] if self.cluster else None).rows()[
            "field_servers"
        ]:
            if row["status"] == "hold":
                self.activation.command("release", row["device_id"], env=surroundings(self.activation.clock))

    def check_everything(self) -> None:
        """What must hold after peace."""
        auditor = self.audit()
        auditor.check_agreement()
        self.activation.verify()
        for name, (incidents, told) in self.owed.items():
            device = auditor.copies[name].device
            accusations = sum(kind in ACCUSATIONS for kind in auditor.incidents.get(device, ()))
            now = auditor.copies[name].rolled_back_at
            if not self.was_restored and accusations <= incidents and now in {None, told}:
                raise Violation("P7", f"{name} was put back to an older state, and nobody noticed")
        for _ in range(6):
            if self.admin("online", "return", "--all") == 0:
                break
        auditor = self.audit()
        auditor.check_agreement()
        for line in auditor.lines.values():
            if line.totals["available"] != line.bought:
                raise Violation("P2", f"everything is returned, {line.totals}, and {line.bought} were bought")
        self.activation.verify()
        self._check_answers_repeat()
        self._check_logs()
        self.note(f"{self.frames} frames, faults {self.faults}, operations {self.operations}, tap {self.tap.exchanges}")

    def _check_answers_repeat(self) -> None:
        """P4: what was answered is answered with the same bytes, whoever asks, and it changes nothing."""
        books = Books(self.activation.directory, self.activation.options[1] if self.cluster else None)
        before = books.rows()
        known = {row["digest"]: row["reply"].split() for row in before["messages"]}
        heard = list(self.tap.heard)
        status, _, rows = self.activation.call(
            "POST", "/v1/messages", "\n".join(heard).encode(), {"Accept": "application/json"}, seconds=120
        )
        assert (status, len(rows)) == (200, len(heard)), rows
        for row in rows:
            if row["digest"] in known and row["reply"].split() != known[row["digest"]]:
                raise Violation("P4", f"message {row['digest']} got another reply than before")
        if not self.was_restored and books.rows()["entries"] != before["entries"]:
            raise Violation("P4", "the same messages again have changed the books")

    def _check_logs(self) -> None:
        for log in (*self.directory.glob("*.log"), *self.directory.glob("field-servers/**/*.log")):
            said = log.read_text("utf-8", "replace")
            is_fault = TRACEBACK in said or "fault of Tallystick" in said
            assert log.name == "events.log" or not is_fault, f"{log}: {said[-3000:]}"
        assert not self.tap.broken, self.tap.broken


class Killer:
    """Who does the harm."""

    def __init__(self, chaos: Chaos) -> None:
        self.chaos = chaos
        self.dice = random.Random(f"{chaos.seed} killer")
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.busy: set[str] = set()  # field servers that something is being done to
        self.backups: dict[str, Path] = {}
        self.database_backup: Path | str | None = None
        self.is_served = True

    def run(self, seconds: float) -> None:
        """Harm, until the time is over."""
        begun = time.monotonic()
        plan: list[tuple[float, Callable[[], None]]] = []
        if self.chaos.with_restore:
            plan = [(0.25 * seconds, self._back_up_database), (0.6 * seconds, self._put_back_database)]
        events = {
            self._kill_technician: 7,
            self._kill_field_servers: 5,
            self._kill_activation: 3,
            self._step_a_clock: 3,
            self._starve_field_server: 3,
            self._starve_activation: 2,
            self._starve_technician: 2,
            self._cut_the_network: 1,
            self._spoil_the_disk: 2,
            self._back_up_field_server: 4,
            self._put_back_field_server: 2,
            self._release: 1,
            self._audit: 5,
        }
        if self.chaos.cluster is not None:
            events[self._kill_cluster] = 2
        while time.monotonic() - begun < seconds and not self.chaos.is_over.is_set():
            time.sleep(self.dice.uniform(0.05, 0.5))
            self._mend(time.monotonic())
            if plan and time.monotonic() - begun >= plan[0][0] and self.is_served:
                plan.pop(0)[1]()
                continue
            self.dice.choices(list(events), list(events.values()))[0]()
        while plan and not self.chaos.failures:
            self._mend(float("inf"))
            plan.pop(0)[1]()

    def heal(self) -> None:
        """The faults stop."""
        self._mend(float("inf"))
        for server in self.chaos.field_servers:
            if server.pid is None:
                server.start()
        if self.chaos.activation.pid is None:
            self.chaos.activation.start()

    def _mend(self, now: float) -> None:
        due = [work for at, work in self.later if at <= now]
        self.later = [(at, work) for at, work in self.later if at > now]
        for work in due:
            work()

    def _after(self, seconds: float, work: Callable[[], None]) -> None:
        self.later.append((time.monotonic() + seconds, work))

    def _tell(self, fault: str, detail: str = "") -> None:
        self.chaos.faults[fault] = self.chaos.faults.get(fault, 0) + 1
        self.chaos.note(f"* {fault} {detail}")

    def _pick(self, count: int = 1) -> list[FieldServer]:
        free = [
            server for server in self.chaos.field_servers if server.name not in self.busy and server.pid is not None
        ]
        return self.dice.sample(free, min(count, len(free)))

    # kill -9

    def _kill_technician(self) -> None:
        running = sorted(self.chaos.running)
        if running:
            name = self.dice.choice(running)
            process = self.chaos.running.get(name)
            if process is not None:
                self._tell("kill a command", name)
                process.kill()

    def _kill_field_servers(self) -> None:
        chosen = self._pick(self.dice.randint(1, max(1, self.chaos.count // 12)))
        self._tell("kill field servers", " ".join(server.name for server in chosen))
        for server in chosen:
            server.kill()
            self.busy.add(server.name)
        self._after(self.dice.uniform(0.1, 2), lambda: self._start(chosen))

    def _start(self, servers: list[FieldServer]) -> None:
        for server in servers:
            server.launch()
        for server in servers:
            server.ready()
            self.busy.discard(server.name)

    def _kill_activation(self) -> None:
        if self.is_served:
            self._tell("kill the activation server")
            self.chaos.activation.kill()
            self.is_served = False
            self._after(self.dice.uniform(0.1, 1.5), self._serve)

    def _serve(self) -> None:
        self.chaos.activation.start()
        self.is_served = True

    def _kill_cluster(self) -> None:
        self._tell("kill the database")
        self.chaos.cluster.kill()
        self.chaos.cluster.start()

    # Clocks, disks, the network

    def _step_a_clock(self) -> None:
        offset = self.dice.choice((-400, -30, -1, 1, 30, 400)) * DAY + self.dice.randint(-3600, 3600)
        parties: list[FieldServer | Activation | Technician] = [
            self.chaos.activation,
            *self.chaos.technicians.values(),
            *self.dice.sample(self.chaos.field_servers, 3),
        ]
        party = self.dice.choice(parties)
        self._tell("step a clock", f"{party.clock.name} by {offset} s")
        party.clock.write_text(str(offset))

    def _starve_field_server(self) -> None:
        for server in self._pick():
            self._tell("full disk of a field server", server.name)
            self.busy.add(server.name)
            server.starve(self.dice.choice((0, 0, 4096)))

            def feed(server: FieldServer = server) -> None:
                server.starve(None)
                self.busy.discard(server.name)

            self._after(self.dice.uniform(0.5, 3), feed)

    def _starve_activation(self) -> None:
        if self.is_served:
            self._tell("full disk of the activation server")
            self.chaos.activation.starve(self.dice.choice((0, 32 * 1024)))
            self._after(self.dice.uniform(0.3, 2), lambda: self.chaos.activation.starve(None))

    def _starve_technician(self) -> None:
        running = sorted(self.chaos.running)
        if running:
            name = self.dice.choice(running)
            process = self.chaos.running.get(name)
            if process is not None and process.poll() is None:
                self._tell("full disk of a command", name)
                starve(process.pid, self.dice.choice((0, 4096, 50_000)))

    def _cut_the_network(self) -> None:
        self._tell("cut the network")
        self.chaos.tap.is_cut = True

        def mend() -> None:
            self.chaos.tap.is_cut = False

        self._after(self.dice.uniform(0.3, 2), mend)

    def _spoil_the_disk(self) -> None:
        disk = self.chaos.disk
        if disk is None or "disk" in self.busy:
            return
        self.busy.add("disk")
        if self.dice.random() < 0.5:
            self._tell("fill a disk")
            disk.fill()
        elif disk.set_writable(is_writable=False):
            self._tell("make a disk read-only")

        def mend() -> None:
            disk.set_writable(is_writable=True)
            disk.empty()
            self.busy.discard("disk")

        self._after(self.dice.uniform(0.5, 3), mend)

    # Copied away and put back

    def _back_up_field_server(self) -> None:
        for server in self._pick():
            backup = self.chaos.directory / "backups" / server.name
            self._tell("back up a field server", server.name)
            shutil.rmtree(backup, ignore_errors=True)
            with self.chaos.frozen():
                shutil.copytree(server.directory, backup, ignore=shutil.ignore_patterns(SOCKET_FILE))
            self.backups[server.name] = backup

    def _put_back_field_server(self) -> None:
        names = sorted(set(self.backups) - self.busy)
        if not names or len(self.chaos.suspects) > self.chaos.count // 6 or "disk" in self.busy or not self.is_served:
            return
        name = self.dice.choice(names)
        server = next(server for server in self.chaos.field_servers if server.name == name)
        backup = self.backups.pop(name)
        self._tell("put an old copy of a field server back", name)
        with self.chaos.spawning:  # its people stop what works on the directory, and no more than that
            stick = self.chaos.running.get("files")
            if stick is not None:
                stick.kill()
            server.kill()
            shutil.rmtree(server.directory)
            shutil.copytree(backup, server.directory)
            self._owe(server)
        server.start()

    def _owe(self, server: FieldServer) -> None:
        """The truth: does the activation server know more of it than it does itself?"""
        now = state_row(server)
        books, _ = self.chaos.look()
        known = next((row for row in books["field_servers"] if row["device_id"] == server.id), None)
        self.chaos.suspects.add(server.id)
        self.chaos.floors.pop(server.name, None)
        if known is not None and known["status"] == "active" and known["sequence"] > now["sequence"]:
            accused = [
                row for row in books["incidents"] if row["device_id"] == server.id and row["kind"] in ACCUSATIONS
            ]
            self.chaos.owed[server.name] = (len(accused), now["rolled_back_at"])

    def _back_up_database(self) -> None:
        self._tell("back up the database")
        chaos = self.chaos
        with chaos.office:
            chaos.activation.kill()
            if chaos.cluster is None:
                self.database_backup = chaos.directory / "backups" / "activation"
                shutil.copytree(chaos.activation.directory, self.database_backup)
            else:
                self.database_backup = chaos.cluster.copy_database(chaos.activation.options[1])
            chaos.activation.start()

    def _put_back_database(self) -> None:
        self._tell("put an old copy of the database back")
        chaos = self.chaos
        running = chaos.running.get("files")
        if running is not None:
            running.kill()
        with chaos.office, chaos.spawning:
            chaos.activation.kill()
            if chaos.cluster is None:
                shutil.rmtree(chaos.activation.directory)
                shutil.copytree(str(self.database_backup), chaos.activation.directory)
            else:
                chaos.cluster.put_back(str(self.database_backup), chaos.activation.options[1])
            chaos.was_restored = True
            chaos.activation.command("restore", env=surroundings(chaos.activation.clock))
            chaos.activation.start()

    # People

    def _release(self) -> None:
        if self.is_served:
            self._tell("release holds")
            with self.chaos.office:
                self.chaos._release_holds()

    def _audit(self) -> None:
        self.chaos.audit()


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"T", "t", "Z", "X"}
    except OSError:
        return True


__all__ = ["Chaos", "free_ports_answer"]
