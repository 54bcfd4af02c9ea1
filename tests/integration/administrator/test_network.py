"""The real network against a peer that says anything: one family of errors, limits in bytes, nothing else comes out."""

import datetime as dt
import http.server
import json
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tallystick.administrator.network import clients
from tallystick.administrator.network.clients import RealNetwork, fingerprint_of
from tallystick.administrator.ports import Contact, PortError

pytestmark = pytest.mark.slow

HTTP_OK, HTTP_REFUSED, HTTP_BUSY, HTTP_BROKEN = 200, 401, 429, 502


class Peer:
    """Answers every request with what the test says, over HTTP or HTTPS."""

    def __init__(self, tls=None):
        self.status, self.headers, self.body = HTTP_OK, {}, b"{}"
        self.seen = []
        peer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                length = int(self.headers.get("Content-Length") or 0)
                peer.seen.append((self.path, self.headers.get("Authorization"), self.rfile.read(length)))
                self.send_response(peer.status)
                for name, value in peer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in peer.body if isinstance(peer.body, list) else [peer.body]:
                    try:
                        self.wfile.write(piece)
                    except OSError:
                        return

            do_POST = do_GET  # noqa: N815 - the name that http.server wants

            def log_message(self, *_):
                pass

        self.httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.httpd.socket = context.wrap_socket(self.httpd.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.httpd.server_address[1]}"
        self.thread = threading.Thread(target=self.httpd.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


@pytest.fixture
def real():
    network_ = RealNetwork(trust_environment=False)
    yield network_
    network_.close()


@pytest.fixture
def peer():
    with Peer() as peer_:
        yield peer_


def refused(work, *words):
    with pytest.raises(PortError) as error:
        work(*words)
    return error.value


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"hello", b"[1]", b'[{"reply": 7}]', b'[{"reply": [7]}]', b"\xff\xfe", b"[" * 100_000, b'{"a":'],
)
def test_an_answer_that_is_not_tallysticks_is_unreachable(real, peer, body):
    peer.body = body
    assert refused(real.activation(peer.url).exchange, ["a.b.c"]).code == "unreachable"
    assert refused(real.activation(peer.url).lookup, "EN-1").code == "unreachable"


def test_replies_come_as_text_or_as_a_list(real, peer):
    row = {"digest": "d", "outcome": "granted", "code": None, "detail": "", "next_step": "go", "new_in_v2": 1}
    peer.body = json.dumps([{**row, "reply": "a\nb\n"}, {**row, "reply": ["c"]}, {**row, "reply": None}]).encode()
    assert [answer.replies for answer in real.activation(peer.url).exchange(["x"])] == [("a", "b"), ("c",), ()]


def test_problems_pass_through_with_code_and_next_step(real, peer):
    peer.status = 409
    peer.body = json.dumps({"code": "on-hold", "expected": "e", "seen": "s", "next_step": "n"}).encode()
    error = refused(real.activation(peer.url).keys)
    assert (error.code, error.expected, error.seen, error.next_step) == ("on-hold", "e", "s", "n")


def test_a_code_that_this_version_does_not_know_passes_through_too(real, peer):
    peer.status, peer.body = 409, b'{"code": "from-the-future"}'
    error = refused(real.activation(peer.url).keys)
    assert error.code == "from-the-future"
    assert error.next_step


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b'{"code": 5}', b"[]"])
def test_a_gateway_that_answers_for_it_is_unreachable_with_the_status(real, peer, body):
    peer.status, peer.body = HTTP_BROKEN, body
    assert "502" in refused(real.activation(peer.url).keys).seen


def test_an_answer_without_end_is_cut_off(real, peer, monkeypatch):
    monkeypatch.setattr(clients, "ANSWER_BYTES_MAX", 100_000)
    peer.body = [b"x" * 10_000] * 1_000
    assert "without end" in refused(real.activation(peer.url).keys).seen


def test_nobody_there_is_unreachable_and_the_address_is_named(real):
    error = refused(real.activation("http://127.0.0.1:9").keys)
    assert (error.code, "127.0.0.1:9" in error.expected, error.seen) == ("unreachable", True, "Connection refused")


@pytest.mark.parametrize("url", ["http://", "http://[", "nonsense", "http://no-such-host.invalid"])
def test_an_address_that_is_none_is_unreachable(real, url):
    def ask():
        real.activation(url).keys()

    assert refused(ask).code == "unreachable"


# HTTPS with a pinned certificate


@pytest.fixture
def secured(world):
    directory = world.field_server("roof", add=False).directory
    with Peer(tls=(directory / "tls.pem", directory / "tls.key")) as peer_:
        pem = (directory / "tls.pem").read_text()
        yield (
            peer_,
            Contact(
                address=peer_.url,
                certificate=pem,
                fingerprint=fingerprint_of(ssl.PEM_cert_to_DER_cert(pem)),
                password="pw",
            ),
        )


def test_the_identity_needs_no_password_and_gets_none(real, secured):
    peer, contact = secured
    with real.field_server(contact) as port:
        assert refused(port.identity).code == "unreachable"
        peer.status = HTTP_REFUSED
        assert refused(port.licenses).code == "password-wrong"
        peer.status, peer.headers = HTTP_BUSY, {"Retry-After": "7"}
        peer.body = b'{"code": "too-many-tries"}'
        error = refused(port.outbox)
    assert (error.code, "7 seconds" in error.next_step) == ("too-many-tries", True)
    assert [authorization is not None for _, authorization, _ in peer.seen] == [False, True, True]


def test_another_certificate_gets_not_one_byte(real, secured, world):
    peer, contact = secured
    other = (world.field_server("cellar", add=False).directory / "tls.pem").read_text()
    pinned = Contact(address=contact.address, certificate=other, fingerprint="SHA256:other", password="pw")
    with real.field_server(pinned) as port:
        error = refused(port.licenses)
    assert (error.code, peer.seen) == ("certificate-changed", [])
    assert contact.fingerprint in error.seen
    assert "SHA256:other" in error.expected


def test_without_a_stored_password_nothing_is_asked(real, secured):
    peer, contact = secured
    bare = Contact(address=contact.address, certificate=contact.certificate, fingerprint=contact.fingerprint)
    with real.field_server(bare) as port:
        assert refused(port.licenses).code == "password-wrong"
    assert peer.seen == []


def test_the_pin_decides_and_not_the_dates_because_clocks_on_site_are_wrong(real, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "roof")])
    long_ago = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(long_ago)
        .not_valid_after(long_ago + dt.timedelta(days=1))
        .sign(key, SHA256())
    )
    (tmp_path / "tls.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with Peer(tls=(tmp_path / "tls.pem", tmp_path / "tls.key")) as peer_:
        shown = real.certificate(peer_.url)
        contact = Contact(
            address=peer_.url, certificate=shown.certificate, fingerprint=shown.fingerprint, password="pw"
        )
        peer_.body = b"# nothing waits\n"
        with real.field_server(contact) as port:
            assert port.outbox() == peer_.body
