"""Real processes on loopback: an activation server, field servers, and Device Administrator's command line."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tallystick.administrator.cli import app
from tallystick.cli import app as root

COMMAND = [sys.executable, "-m", "tallystick"]
EXAMPLES = Path(__file__).parents[3] / "examples"
KINDS = {"roof": "AS-P", "cellar": "AS-B", "edge": "Edge Server"}


def tallystick(*words, expect=0):
    """A command of another party, in this process: its sockets and files are real all the same."""
    result = CliRunner().invoke(root, [*map(str, words)], prog_name="tallystick")
    assert result.exit_code == expect, (words, result.exit_code, result.stdout, result.stderr, result.exception)
    return json.loads(result.stdout) if "--json" in words else result.stdout


class Process:
    """A server process of ours, stopped by its id."""

    def __init__(self, *words):
        self.words = words
        self.port = 0
        self.process = None

    def start(self):
        words = [*COMMAND, *map(str, self.words), "--port", str(self.port), "--json"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.port = int(self.url.rpartition(":")[2])  # the same again after a restart
        return self

    def stop(self, number=signal.SIGTERM):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=120)
        if self.process is not None:
            self.process.stdout.close()
        self.process = None


class FieldServer(Process):
    def __init__(self, directory, name, *options):
        super().__init__("fieldserver", "run", "--data", directory, *options)
        self.directory, self.name = directory, name
        self.made = tallystick(
            "fieldserver", "init", "--data", directory, "--kind", KINDS[name], "--name", name,
            "--host-id", f"host-{name}-{directory.parent.name}", "--trust-first", "--json",
        )  # fmt: skip
        self.id = self.made["device_id"]
        self.password_file = self.made["password_file"]

    def held(self):
        status = tallystick("fieldserver", "status", "--data", self.directory, "--json")
        return {license_["line"]: license_["quantity"] for license_ in status["licenses"]}


class Activation(Process):
    def __init__(self, directory):
        super().__init__("activation", "serve", "--data", directory)
        self.directory = directory
        tallystick("activation", "init", "--data", directory, "--issuer", "Example Controls")
        tallystick("activation", "catalog", "load", EXAMPLES / "catalog.yaml", "--data", directory)

    def buy(self, *products):
        words = [word for product in products for word in ("--product", product)]
        return tallystick(
            "activation", "entitlement", "create", "--data", self.directory, "--account", "acme", *words, "--json"
        )

    def certify(self, entitlement_id, file):
        tallystick("activation", "entitlement", "certificate", entitlement_id, "--data", self.directory, "-o", file)

    def lines(self):
        rows = tallystick("activation", "lines", "--data", self.directory, "--json")
        return {row["line"]: row for row in rows}

    def upload(self, file, reply):
        tallystick("activation", "message", file, "-o", reply, "--data", self.directory)

    def verify(self):
        tallystick("activation", "verify", "--data", self.directory)


class Administrator:
    """The command line with a data directory of its own; in this process, unless ``start`` is used."""

    def __init__(self, home):
        self.home = home
        self.route = None
        self.stdout = self.stderr = ""

    @property
    def environment(self):
        wanted = {"TALLYSTICK_HOME": str(self.home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return wanted | ({"TALLYSTICK_ROUTE": self.route} if self.route else {})

    def __call__(self, *words, expect=0):
        result = CliRunner().invoke(app, [*map(str, words)], env=self.environment)
        self.stdout, self.stderr = result.stdout, result.stderr
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        expected = expect if isinstance(expect, tuple) else (expect,)
        assert result.exit_code in expected, (words, result.exit_code, result.stdout, result.stderr)
        return json.loads(result.stdout) if "--json" in words else result.stdout

    def start(self, *words):
        return subprocess.Popen(
            [*COMMAND, "admin", *map(str, words)],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def servers(self):
        return {row["name"]: row for row in self("servers", "--json")}


@pytest.fixture(scope="session")
def templates(tmp_path_factory):
    """Initialised once, copied per test: key generation and migrations take their time."""
    directory = tmp_path_factory.mktemp("templates")
    activation = Activation(directory / "activation")
    return activation.directory


@pytest.fixture
def world(tmp_path, templates):
    with contextlib.ExitStack() as stack:
        yield World(tmp_path, templates, stack)


class World:
    def __init__(self, directory, template, stack):
        self.directory, self.stack = directory, stack
        self.admin = Administrator(directory / "home")
        shutil.copytree(template, directory / "activation")
        self.activation = Activation.__new__(Activation)
        Process.__init__(self.activation, "activation", "serve", "--data", directory / "activation")
        self.activation.directory = directory / "activation"
        stack.callback(self.activation.stop)

    def field_server(self, name, *options, add=True):
        server = FieldServer(self.directory / name, name, *options)
        self.stack.callback(server.stop)
        server.start()
        if add:
            self.admin("add", server.url, "--password-file", server.password_file)
        return server

    def path(self, name):
        return self.directory / name
