"""A real activation server: its data directory, its commands, its process on a free port."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from support.activation import ISSUER
from tallystick import cli
from tallystick.activation.server.instance import Activation, open_activation
from tallystick.domain.entitlement import Entitlement, Line

EXAMPLE_CATALOG = Path(__file__).parents[2] / "examples" / "catalog.yaml"
MEDIA_TYPE = "application/x-tally"


@dataclass
class Done:
    """What a command printed, and how it ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


@dataclass
class Data:
    """A data directory and the commands on it, run in this process."""

    path: Path
    made: dict[str, Any] = field(default_factory=dict)

    def run(self, *words: str) -> Done:
        result = CliRunner().invoke(cli.app, ["activation", *words, "--data", str(self.path)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout, result.stderr)

    def ok(self, *words: str) -> Any:
        """The JSON value of a command that must succeed."""
        done = self.run(*words, "--json")
        assert done.exit_code == 0, done
        return done.json

    def init(self, *options: str) -> Data:
        if options:
            return self._init(*options)
        made = _initialised()
        shutil.copytree(made.path, self.path)
        self.made = made.made
        return self

    def _init(self, *options: str) -> Data:
        self.made = self.ok("init", "--issuer", ISSUER, *options)
        self.ok("catalog", "load", str(EXAMPLE_CATALOG))
        return self

    def buy(self, *products: str, account: str = "Harbour", **options: str) -> Entitlement:
        words = [word for product in products for word in ("--product", product)]
        words += [word for name, value in options.items() for word in (f"--{name}", value)]
        made = self.ok("entitlement", "create", "--account", account, *words)
        with self.opened() as activation:
            found = activation.read(lambda tx: tx.load_entitlement(made["entitlement_id"]))
        assert found is not None
        return found

    def line(self, line: Line) -> dict[str, Any]:
        return next(row for row in self.ok("lines") if row["line"] == line.line_id)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Activation]:
        activation = open_activation(self.path)
        try:
            yield activation
        finally:
            activation.close()


@cache
def _initialised() -> Data:
    """As init makes it, once for all tests of a process; each gets a copy."""
    path = Path(tempfile.mkdtemp(prefix="tallystick-test-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return Data(path / "data")._init()


@dataclass
class Answer:
    """An HTTP answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def envelopes(self) -> list[str]:
        return [line for line in self.body.decode().splitlines() if line and not line.startswith("#")]

    @property
    def comments(self) -> list[str]:
        return [line for line in self.body.decode().splitlines() if line.startswith("#")]


class Served:
    """A process that serves a data directory."""

    def __init__(self, data: Path, *options: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tallystick",
                "activation",
                "serve",
                "--data",
                data,
                "--port",
                "0",
                "--json",
                *options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        first = self.process.stdout.readline()
        if not first:
            raise RuntimeError(self.process.stderr.read())
        self.announced = json.loads(first)
        self.port = int(self.announced["url"].rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 120, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def post(self, *compacts: str, **headers: str) -> Answer:
        return self.ask("POST", "/v1/messages", "".join(f"{compact}\n" for compact in compacts).encode(), **headers)

    def rows(self, *compacts: str) -> list[dict[str, Any]]:
        answer = self.post(*compacts, Accept="application/json")
        assert answer.status == 200, answer
        return answer.json

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.process.communicate()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """A clean stop: the exit code, and what it said on standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=120)
        return self.process.returncode, stderr
