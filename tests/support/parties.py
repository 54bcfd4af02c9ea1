"""Tallystick as people run it: real processes on loopback that can be killed, stopped in mid-step, starved and moved in time.

Nothing here is a test. Every process is started through the command line, logs into a file, has a clock of its own
(``support/clock``), and is ended by its own process id.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import random
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

COMMAND = [sys.executable, "-m", "tallystick"]
EXAMPLES = Path(__file__).parents[2] / "examples"
CLOCK = Path(__file__).parent / "clock"
ISSUER = "Example Controls"
START_SECONDS = 120
TRACEBACK = "Traceback (most recent call last)"
# What the system gives to whoever asks for any port lies above; so nobody takes a port while its owner is down.
_PORTS = (10_240, 32_000)
_dice = random.Random(os.getpid())


def free_port() -> int:
    """A port of loopback that is free, and that nobody is given by chance."""
    while True:
        port = _dice.randrange(*_PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def surroundings(clock: Path | None = None, home: Path | None = None, **more: str) -> dict[str, str]:
    """The environment of a process: no proxy, its own clock, its own home."""
    found = {
        name: value
        for name, value in os.environ.items()
        if name.lower() not in {"http_proxy", "https_proxy", "all_proxy"}
        and not name.startswith(("TALLYSTICK_", "COV_"))
    }
    found |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONFAULTHANDLER": "1"}
    if clock is not None:
        found |= {"TALLYSTICK_TEST_CLOCK": str(clock), "PYTHONPATH": str(CLOCK)}
    if home is not None:
        found["TALLYSTICK_HOME"] = str(home)
    return found | more


def run(*words: object, expect: int | tuple[int, ...] = 0, seconds: float = 240, **options: Any) -> Any:
    """One command to its end; what it prints, as JSON where ``--json`` is among the words."""
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        timeout=seconds,
        check=False,
        **({"env": surroundings()} | options),
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    expected = expect if isinstance(expect, tuple) else (expect,)
    assert done.returncode in expected, (words, done.returncode, out[-2000:], err[-2000:])
    assert TRACEBACK not in err, (words, err[-4000:])
    return json.loads(out) if "--json" in words else Said(out, err, done.returncode)


def run_here(*words: object, expect: int | tuple[int, ...] = 0, **options: Any) -> Any:
    """The same without a process of its own, for commands in great number: its sockets and files are real all the same."""
    from typer.testing import CliRunner

    from tallystick.cli import app

    done = CliRunner().invoke(app, [*map(str, words)], prog_name="tallystick", env=options.get("env"))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    expected = expect if isinstance(expect, tuple) else (expect,)
    assert done.exit_code in expected, (words, done.exit_code, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout) if "--json" in words else Said(done.stdout, done.stderr, done.exit_code)


class Said(str):  # noqa: SLOT000 - it carries two more things
    """Standard output, with the rest of what a command leaves behind."""

    def __new__(cls, out: str, err: str = "", code: int = 0) -> Self:
        said = super().__new__(cls, out)
        said.err, said.code = err, code
        return said

    err: str
    code: int


class Process:
    """A party that serves: always at the same address, whatever happens to it in between."""

    def __init__(self, *words: object, log: Path, scheme: str = "http") -> None:
        self.words = words
        self.log = log
        self.scheme = scheme
        self._take_port()
        self.clock = log.with_suffix(".clock")
        self.process: subprocess.Popen[str] | None = None
        self.run = run
        self._was_ready = False

    def _take_port(self) -> None:
        self.port = free_port()
        self.url = f"{self.scheme}://127.0.0.1:{self.port}"

    def launch(self, **options: Any) -> None:
        """Start it, and do not wait. One that ended by itself before is let go."""
        if self.process is not None:
            self.stop()
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *map(str, self.words), "--port", str(self.port), "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=surroundings(self.clock),
                **options,
            )

    def ready(self) -> None:
        """Wait until it listens."""
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("{") or "url" not in json.loads(line):
            code = self.process.wait(START_SECONDS)
            if "address-taken" in line and not self._was_ready:  # before anybody was told of it
                self._take_port()
                self.start()
                return
            raise AssertionError(f"{self.words} ended with {code}: {line}{self.log.read_text()[-2000:]}")
        self._was_ready = True

    def start(self, **options: Any) -> None:
        """Start it, and wait until it listens."""
        self.launch(**options)
        self.ready()

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def kill(self) -> None:
        """``kill -9``."""
        self.stop(signal.SIGKILL)

    def stop(self, number: int = signal.SIGTERM) -> int | None:
        """End it, and wait until it has ended; its exit code."""
        process, self.process = self.process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def set_clock(self, seconds: int) -> None:
        """Its wall clock is ahead by so many seconds from now on."""
        self.clock.write_text(str(seconds), "ascii")

    def starve(self, size: int | None) -> None:
        """No file may grow beyond ``size`` bytes, as on a full disk; None: there is room again."""
        if self.pid is not None:
            starve(self.pid, size)

    def rss(self) -> int:
        """How much memory it has now, in bytes."""
        return memory_of(self.process.pid if self.process else 0)[0]


def starve(pid: int, size: int | None) -> None:
    """Limit the size of files that a running process may write. Needs no privilege, and works at any moment."""
    with contextlib.suppress(ProcessLookupError):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most if size is None else size, most))


def memory_of(pid: int) -> tuple[int, int]:
    """Resident memory of a process now, and at its highest, in bytes."""
    now = most = 0
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            now = int(value.split()[0]) * 1024
        elif name == "VmHWM":
            most = int(value.split()[0]) * 1024
    return now, most


class Activation(Process):
    """An activation server on a directory of its own. ``template``: one that ``init`` and ``catalog load`` made."""

    def __init__(self, directory: Path, *, database: str | None = None) -> None:
        self.directory = directory
        self.options = () if database is None else ("--database", database)
        super().__init__("activation", "serve", "--data", directory, *self.options, log=directory.with_suffix(".log"))

    def make(self, *options: object) -> None:
        """What its people do first."""
        self.run("activation", "init", "--data", self.directory, "--issuer", ISSUER, *options, *self.options)
        self.command("catalog", "load", EXAMPLES / "catalog.yaml")

    def command(self, *words: object, **options: Any) -> Any:
        """One command on its data."""
        return self.run("activation", *words, "--data", self.directory, *self.options, **options)

    def buy(self, *products: str) -> Any:
        """A new entitlement."""
        words = [word for product in products for word in ("--product", product)]
        return self.command("entitlement", "create", "--account", "acme", *words, "--json")

    def lines(self) -> dict[str, dict[str, Any]]:
        """Where the rights of every line are."""
        return {row["line"]: row for row in self.command("lines", "--json")}

    def verify(self) -> None:
        """The books add up."""
        assert self.command("verify", "--json")["green"] is True

    def call(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, seconds: float = 60
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        """One request; status, headers, body (JSON where it says so)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        return _call(connection, method, path, body, headers or {})


class FieldServer(Process):
    """A field server on a directory of its own."""

    def __init__(self, directory: Path, *options: object) -> None:
        self.directory = directory
        super().__init__(
            "fieldserver", "run", "--data", directory, *options, log=directory.with_suffix(".log"), scheme="https"
        )
        self.id = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.directory.name

    def make(self, kind: str = "AS-P") -> None:
        """In this process: a hundred of them would take their time otherwise."""
        from tallystick.fieldserver.commissioning import commission
        from tallystick.fieldserver.platform import Settings, SystemClock, SystemRandom

        settings = Settings(
            kind=kind,
            name=self.name,
            host_id=f"host-{self.name}-{self.directory.parent.parent.name}"[:128],
            trust_first=True,
        )
        made = commission(self.directory, settings=settings, clock=SystemClock(), random=SystemRandom())
        self.id = made.home.device.device_id

    @property
    def password(self) -> str:
        """The password of its API."""
        return (self.directory / "password.txt").read_text("ascii").strip()

    def look(self) -> Any:
        """The state that it would load now (see ``fieldserver.state``), without touching it."""
        from tallystick.fieldserver.commissioning import open_agent
        from tallystick.fieldserver.platform import SystemClock, SystemRandom, load_home

        return open_agent(load_home(self.directory), clock=SystemClock(), random=SystemRandom()).peek()

    def held(self) -> dict[str, int]:
        """Quantities by line."""
        return {str(license_.line_id): license_.quantity for license_ in self.look().licenses}

    def command(self, *words: object, **options: Any) -> Any:
        """One command on its data, beside the agent."""
        return self.run("fieldserver", *words, "--data", self.directory, **options)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        password: str | None = "",
        seconds: float = 60,
    ) -> tuple[int, http.client.HTTPMessage, Any]:
        """One request over TLS with its certificate; ``password`` None: without one."""
        context = ssl.create_default_context(cafile=self.directory / "tls.pem")
        context.check_hostname = False
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=seconds, context=context)
        sent = dict(headers or {})
        if password is not None:
            sent.setdefault("Authorization", basic(password or self.password))
        return _call(connection, method, path, body, sent)


class Technician:
    """Device Administrator, one command a process, with a home and a clock of its own."""

    def __init__(self, home: Path, *, route: str | None = None) -> None:
        self.home = home
        self.clock = home.with_suffix(".clock")
        self.more = {} if route is None else {"TALLYSTICK_ROUTE": route}
        self.run = run

    def environment(self) -> dict[str, str]:
        """Of its commands."""
        return surroundings(self.clock, self.home, **self.more)

    def __call__(self, *words: object, **options: Any) -> Any:
        return self.run("admin", *words, env=self.environment(), **options)

    def launch(self, *words: object, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command, and do not wait."""
        return subprocess.Popen(
            [*COMMAND, "admin", *map(str, words)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def add(self, server: FieldServer) -> None:
        """Pin its certificate."""
        self("add", server.url, "--password-file", server.directory / "password.txt")


def basic(password: str) -> str:
    """An ``Authorization`` header."""
    return "Basic " + base64.b64encode(f"administrator:{password}".encode()).decode()


def _call(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: dict[str, str]
) -> tuple[int, http.client.HTTPMessage, Any]:
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        data = response.read()
        kind = response.headers.get("Content-Type", "")
        return response.status, response.headers, json.loads(data) if "json" in kind else data
    finally:
        connection.close()


def free_ports_answer(urls: list[str], seconds: float = START_SECONDS) -> None:
    """Wait until all of these addresses take connections."""
    deadline = time.monotonic() + seconds
    for url in urls:
        port = urlsplit(url).port or 0
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, f"{url} does not listen"
                time.sleep(0.05)


class Disk:
    """A small disk of its own (a tmpfs), which a test fills and makes read-only. Needs root."""

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        self.size = size

    def mount(self) -> bool:
        """Whether it could be mounted."""
        self.path.mkdir(parents=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.path)]
        return not os.getuid() and subprocess.run(words, capture_output=True, check=False).returncode == 0

    def unmount(self) -> None:
        """Also while somebody uses it."""
        subprocess.run(["umount", "-l", str(self.path)], check=True)

    def set_writable(self, *, is_writable: bool) -> bool:
        """Whether that could be done: a file that is open for writing keeps a disk writable."""
        mode = "rw" if is_writable else "ro"
        words = ["mount", "-o", f"remount,{mode}", str(self.path)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Not a byte is left."""
        with contextlib.suppress(OSError), (self.path / "ballast").open("ab", buffering=0) as file:
            while file.write(b"\0" * 4096):
                pass

    def empty(self) -> None:
        """There is room again."""
        (self.path / "ballast").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(path: Path, size: str = "8m"):
    """A small disk. Needs root."""
    disk = Disk(path, size)
    assert disk.mount(), "a disk of its own needs root and mount, as CI has them"
    try:
        yield disk
    finally:
        disk.unmount()
