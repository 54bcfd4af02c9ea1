"""Rule 13: whoever is called has a total deadline and a size limit; the field server's own API never waits for its route."""

import ast
import contextlib
import resource
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

import tallystick
from support.authority import Authority
from tallystick.activation.commands import client as management
from tallystick.activation.outbound import mail, safe_post
from tallystick.activation.settings import MailSettings
from tallystick.administrator.network import clients, transport
from tallystick.administrator.network import proxy as proxies
from tallystick.administrator.ports import Contact
from tallystick.conformance import routes as conformance
from tallystick.errors import Error
from tallystick.fieldserver import route

pytestmark = pytest.mark.slow

SOURCE = Path(tallystick.__file__).parent
SECONDS = 1.5
MEBIBYTE = 1024 * 1024
CALLING = {"httpx2", "http.client", "smtplib", "urllib.request", "requests", "aiohttp", "ftplib", "imaplib"}


class Peer:
    """A malicious peer on loopback. ``greeting`` is said at once, then ``drip`` for ever, at its pace."""

    def __init__(self, greeting, drip, pause):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.greeting, self.drip, self.pause = greeting, drip, pause
        self.is_over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while not self.is_over.is_set():
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection):
        with connection:
            try:
                connection.sendall(self.greeting)
                while not self.is_over.wait(self.pause):
                    connection.sendall(self.drip)
            except OSError:
                return

    def close(self):
        self.is_over.set()
        self.listener.close()


PEERS = {
    "a head that drips": (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"a", 0.05),
    "a body that drips": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" ", 0.05),
    "a body without end": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b" " * MEBIBYTE, 0.0),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a" * MEBIBYTE, 0.0),
    "a greeting that drips": (b"220-", b"a", 0.05),
    "greetings without end": (b"220-hello\r\n", b"220-and hello again\r\n" * 50_000, 0.0),
    "a handshake that drips": (b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb\x03\x03", b"a", 0.05),
    "silence": (b"", b"", 3600.0),
}


@pytest.fixture(params=PEERS)
def peer(request, tmp_path):
    made: Any = Peer(*PEERS[request.param])
    made.certificate, made.folder = Authority(tmp_path).file.read_text(), tmp_path
    yield made
    made.close()


def own_route(peer):
    made = route.ActivationRoute(
        f"http://127.0.0.1:{peer.port}", agent=None, clock=Clock(), random=None, monotonic=time.monotonic
    )
    try:
        made._fetch_keys()
    finally:
        made.stop()


def own_probe(peer):
    made = route.ActivationRoute(
        f"http://127.0.0.1:{peer.port}", agent=None, clock=Clock(), random=None, monotonic=time.monotonic
    )
    try:
        made.look().result()
    finally:
        made.stop()


class Clock:
    def now(self):
        return 0


def activation(peer):
    clients.RealNetwork().activation(f"http://127.0.0.1:{peer.port}").keys()


def field_server(peer):
    contact = Contact(
        address=f"https://127.0.0.1:{peer.port}", certificate=peer.certificate, fingerprint="SHA256:x", password="p"
    )
    with clients.RealNetwork().field_server(contact) as port:
        port.identity()


def certificate(peer):
    clients.RealNetwork().certificate(f"https://127.0.0.1:{peer.port}")


def through_proxy(peer):
    proxy = proxies.Proxy(address=f"http://127.0.0.1:{peer.port}", is_for_field_servers=True)
    transport.open_tunnel(proxy, "https://device.example:443", "device.example", 443).close()


def webhook(peer):
    url = f"http://127.0.0.1:{peer.port}/hook"
    answered = safe_post.post(url, body=b"{}", headers={}, allowed=("127.0.0.1",), timeout_seconds=SECONDS)
    assert answered.status in {None, 200}  # a head was enough; what follows it was not waited for


def webhook_over_tls(peer):
    url = f"https://127.0.0.1:{peer.port}/hook"
    answered = safe_post.post(url, body=b"{}", headers={}, allowed=("127.0.0.1",), timeout_seconds=SECONDS)
    assert answered.status is None


def commands_over_tls(peer):
    management._Line(f"https://127.0.0.1:{peer.port}", "token").send("GET", "/v1/accounts", {}, None)


def mails_over_tls(peer):
    settings = MailSettings(host="127.0.0.1", port=peer.port, security="tls", sender="a@b.example", recipients=("c@d",))
    mail.send_mail(settings, mail.make_mail(settings, "issuer", (), now=0))


def commands(peer):
    management._Line(f"http://127.0.0.1:{peer.port}", "token").send("GET", "/v1/accounts", {}, None)


def mails(peer):
    settings = MailSettings(
        host="127.0.0.1", port=peer.port, security="none", sender="a@b.example", recipients=("c@d",)
    )
    mail.send_mail(settings, mail.make_mail(settings, "issuer", (), now=0))


def conformance_kit(peer):
    trusted = peer.folder / "peer.pem"
    trusted.write_text(peer.certificate)
    conformance.HttpsFieldServer(f"https://127.0.0.1:{peer.port}", certificate=trusted, password="p").outbox()


CALLS = {
    own_route: "fieldserver/route.py",
    own_probe: "fieldserver/route.py",
    activation: "administrator/network/clients.py",
    field_server: "administrator/network/clients.py",
    certificate: "administrator/network/clients.py",
    through_proxy: "administrator/network/transport.py",
    webhook: "activation/outbound/safe_post.py",
    webhook_over_tls: "activation/outbound/safe_post.py",
    commands_over_tls: "activation/commands/client.py",
    mails_over_tls: "activation/outbound/mail.py",
    commands: "activation/commands/client.py",
    mails: "activation/outbound/mail.py",
    conformance_kit: "conformance/routes.py",
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The same limits, for people who wait for tests."""
    monkeypatch.setattr(route, "EXCHANGE_WHOLE_SECONDS", SECONDS)
    for name in ("ANSWER_WHOLE_SECONDS", "PROBE_WHOLE_SECONDS"):
        monkeypatch.setattr(clients, name, SECONDS)
    monkeypatch.setattr(clients, "CONNECT_SECONDS", SECONDS)
    monkeypatch.setattr(transport, "CONNECT_SECONDS", SECONDS / 2)
    monkeypatch.setattr(management, "WHOLE_SECONDS_MAX", SECONDS)
    monkeypatch.setattr(mail, "WHOLE_SECONDS", SECONDS)
    monkeypatch.setattr(conformance, "WHOLE_SECONDS", SECONDS)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_every_client_ends_in_time_and_in_little_memory(call, peer):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    with contextlib.suppress(Error, OSError, httpx2.HTTPError):
        call(peer)
    assert time.monotonic() - started < 20 * SECONDS  # and not for ever, on a slow machine either
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 160 * MEBIBYTE


def test_every_module_that_calls_somebody_is_in_the_table():
    """A new client is found here: it has to be called by the test above."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        if name.startswith("simulator/"):  # it calls its own parties
            continue
        tree = ast.parse(path.read_text("utf-8"))
        imported = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
        called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        if imported & CALLING or called & {"create_connection", "urlopen", "open_connection"}:
            found.add(name)
    assert found == set(CALLS.values())


def test_the_own_api_never_waits_for_its_route(tmp_path):
    """Four calls of ``/v1/identity`` held all its threads while the activation server said a byte now and then."""
    import sys

    sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "fieldserver"))
    from support.fieldserver.processes import FieldServer

    peer = Peer(*PEERS["a head that drips"])
    device = FieldServer(tmp_path / "fs").start("--activation", f"http://127.0.0.1:{peer.port}")
    try:
        callers = [threading.Thread(target=device.call, args=("GET", "/v1/identity")) for _ in range(12)]
        for caller in callers:
            caller.start()
        started = time.monotonic()
        assert device.get("/v1/licenses")
        assert device.get("/v1/identity")["activation"]["reachable"] is False
        for caller in callers:
            caller.join()
        assert time.monotonic() - started < 20 * SECONDS
    finally:
        device.stop()
        peer.close()
