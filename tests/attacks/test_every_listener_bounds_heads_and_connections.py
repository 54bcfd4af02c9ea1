"""Rule 6: every listener bounds heads, the time for one, and connections; slow ones are dropped first."""

import ast
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tallystick
from support.served import Data, Served
from tallystick.administrator.web import app as administrator_pages
from tallystick.connections import listening
from tallystick.connections.listening import Places, address_of
from tallystick.fieldserver import local_socket
from tallystick.fieldserver.local_socket import LocalSocket

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "fieldserver"))
from support.fieldserver.processes import FieldServer

SOURCE = Path(tallystick.__file__).parent
MEBIBYTE = 1024 * 1024


class Listener:
    """A real process that listens. ``path`` is answered to anybody."""

    def __init__(self, party, directory):
        self.party = party
        if party == "activation":
            self.served = Served(Data(directory / "data").init().path)
            self.pid, self.port, self.path = self.served.process.pid, self.served.port, "/healthz"
        elif party == "fieldserver":
            self.served = FieldServer(directory / "fs").start()
            self.pid, self.port, self.path = self.served.process.pid, self.served.port, "/v1/identity"
        else:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tallystick", "admin", "web", "--no-open", "--json"],
                stdout=subprocess.PIPE,
                text=True,
                env={"HOME": str(directory), "PATH": "/usr/bin:/bin", "TALLYSTICK_HOME": str(directory / "home")},
            )
            link = json.loads(self.process.stdout.readline())["url"]
            self.pid, self.port, self.path = self.process.pid, int(link.split(":")[2].split("/")[0]), "/static/none"

    def connect(self, source="127.0.0.1"):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=120, source_address=(source, 0))
        if self.party != "fieldserver":
            return plain
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(plain)

    def is_answering(self):
        with self.connect() as connection:
            connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
            return connection.recv(12).startswith(b"HTTP/1.1 ")

    def memory(self):
        fields = Path(f"/proc/{self.pid}/status").read_text().split("VmRSS:")[1].split()
        return int(fields[0]) * 1024

    def close(self):
        if self.party == "administrator":
            self.process.terminate()
            self.process.wait(10)
            self.process.stdout.close()
        elif self.party == "activation":
            self.served.stop()
        else:
            self.served.stop()


@pytest.fixture(params=["activation", "fieldserver", "administrator"], scope="module")
def listener(request, tmp_path_factory):
    made = Listener(request.param, tmp_path_factory.mktemp(request.param))
    yield made
    made.close()


HEADS = {
    "one long header": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ", b"a" * 65536),
    "many headers": (b"GET / HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n" * 8192),
    "a long path": (b"GET /", b"a" * 65536),
    "an endless trailer": (
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Long: ",
        b"a" * 65536,
    ),
    "an endless chunk extension": (
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"a" * 65536,
    ),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_head_without_end_is_ended_and_takes_no_memory(listener, head):
    assert listener.is_answering()
    before = listener.memory()
    begin, more = HEADS[head]
    sent = 0
    with listener.connect() as connection:
        connection.settimeout(2)
        try:
            connection.sendall(begin)
            while sent < 60 * MEBIBYTE:
                connection.sendall(more)
                sent += len(more)
        except OSError:
            pass  # it was ended, or is read no further
    assert sent < 60 * MEBIBYTE
    assert listener.memory() - before < 24 * MEBIBYTE
    assert listener.is_answering()


@pytest.mark.slow
def test_silent_and_dripping_connections_shut_nobody_out(listener):
    """More of them than there are places: the slow ones go, and whoever speaks is answered."""
    many = 300
    held = []
    try:
        for number in range(many):
            connection = listener.connect()
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nX-Drip: ")
            held.append(connection)
        for _ in range(5):
            started = time.monotonic()
            assert listener.is_answering()
            assert time.monotonic() - started < 20
    finally:
        for connection in held:
            connection.close()


def test_one_address_has_its_part_only_and_proxies_are_exempt():
    places = Places(connections_max=8, address_max=2, unbounded=("127.0.0.0/8", "::1"))
    assert [places.take("198.51.100.7") for _ in range(3)] == [False, False, True]
    assert [places.take("127.0.0.1") for _ in range(9)] == [False] * 9
    places.give("198.51.100.7")
    places.give("198.51.100.7")
    assert places.take("198.51.100.7") is False
    assert address_of("2001:db8::1") == address_of("2001:db8::ffff")
    assert address_of("::ffff:198.51.100.7") == "198.51.100.7"


# Whatever listens, and what bounds it; a new one is found here.
LISTENERS = {
    "activation/server/service.py": "listening.Bounded",
    "activation/server/workers.py": "listening.Bounded, of each worker",
    "administrator/web/app.py": "listening.Bounded",
    "fieldserver/service.py": "listening.Bounded",
    "fieldserver/local_socket.py": "its own: test_the_local_socket_...",
    "conformance/client.py": "nothing: it plays an agent to one program that its caller starts",
}


def test_every_place_that_listens_is_known():
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("simulator/"):
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        names = {getattr(node.func, "attr", getattr(node.func, "id", "")) for node in calls}
        listens = any(
            isinstance(node.func, ast.Attribute)
            and node.func.attr == "listen"
            and ast.unparse(node.func.value) != "event"
            for node in calls
            if "programs" not in ast.unparse(node.func)
        )
        servers = {
            "create_server",
            "create_unix_server",
            "start_server",
            "start_unix_server",
            "HTTPServer",
            "TCPServer",
        }
        if listens or names & servers:
            found.add(name)
    assert found == set(LISTENERS)


def test_the_local_socket_is_not_held_by_silent_dripping_or_endless_ones(tmp_path):
    clock = Ticks()
    one = LocalSocket(tmp_path / "s", answer=lambda _question: b"", monotonic=clock)
    one.listen(mode=0o600, group=None)
    one.start()
    held = []
    try:
        for number in range(local_socket.USER_MAX):
            held.append(program(one.path))
            held[-1].sendall(b"GET /v1/check?" if number % 2 else b"")
        with program(one.path) as late:  # of the same user
            assert b"503" in late.recv(100)
        endless = held[1]
        with contextlib.suppress(OSError):
            for _ in range(100):
                endless.sendall(b"a" * 8192)
        assert b"413" in endless.recv(100)
        clock.now += local_socket.SILENT_SECONDS + 1
        for silent in held[2:]:
            with contextlib.suppress(OSError):
                silent.sendall(b"a")  # a drip is no answer
        for silent in held[2:]:
            with contextlib.suppress(ConnectionError):
                while silent.recv(4096):
                    pass  # until it is closed
        with program(one.path) as now:
            now.sendall(b"GET /nothing HTTP/1.1\r\n\r\n")
            assert now.recv(100).startswith(b"HTTP/1.1 4")
    finally:
        for connection in held:
            connection.close()
        one.stop()


class Ticks:
    now = 0.0

    def __call__(self):
        return self.now


def program(path):
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(60)
    connected.connect(str(path))
    return connected


def test_every_listener_is_bounded():
    """Whatever makes a uvicorn configuration names a protocol of its own; a new one is found here."""
    found = {}
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("simulator/"):  # for loopback, among its own parties
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"uvicorn.Config", "uvicorn.run"}:
                found[name] = next(ast.unparse(word.value) for word in node.keywords if word.arg == "http")
    assert set(found) == {"activation/server/service.py", "fieldserver/service.py", "administrator/web/app.py"}
    from tallystick.activation.http.fast_path import Shortcut
    from tallystick.fieldserver.service import PatientProtocol

    for protocol in (Shortcut, PatientProtocol, administrator_pages._Protocol):
        assert issubclass(protocol, listening.Bounded)
    assert all(name.startswith(("Shortcut", "PatientProtocol", "_Protocol")) for name in found.values())
