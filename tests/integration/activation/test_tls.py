"""The activation server's own TLS: ``serve --certificate --key``, and a certificate that changes while it serves."""

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request

import pytest

from support.authority import Authority
from support.parties import surroundings

pytestmark = pytest.mark.slow

TALLYSTICK = [sys.executable, "-m", "tallystick", "activation"]
SECONDS = 120
NAME = "localhost"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    subprocess.run([*TALLYSTICK, "init", "--data", directory], check=True, capture_output=True)
    return directory


class Served:
    """An activation server with a certificate of its own."""

    def __init__(self, data, authority, *options):
        self.authority, self.files = authority, authority.directory
        self.replace(days=20)
        self.log = (self.files / "log").open("w+")
        self.process = subprocess.Popen(
            [*TALLYSTICK, "serve", "--data", data, "--port", "0", "--json", *self.options(), *options],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.port = int(self.url.rpartition(":")[2])

    def options(self):
        return ["--certificate", self.files / "chain.pem", "--key", self.files / "key.pem"]

    def replace(self, *, days):
        """As a tool that renews certificates does it: new files take the places of the old ones, one after the other."""
        both = self.authority.certify(NAME, days=days).read_text()
        key, begin, chain = both.partition("-----BEGIN CERTIFICATE-----")
        for name, text in (("chain.pem", begin + chain), ("key.pem", key)):
            (self.files / "new").write_text(text)
            (self.files / "new").replace(self.files / name)

    def connect(self, **settings):
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # the old versions, too: it is the server that refuses
        for name, value in settings.items():
            setattr(context, name, value)
        return context.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS), server_hostname=NAME
        )

    def certificate(self):
        with self.connect() as connection:
            return connection.getpeercert(binary_form=True)

    def health(self, connection):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        return answer.split(b"\r\n")[0]

    def wait_until(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, (self.files / "log").read_text()
            time.sleep(0.1)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self.process.stdout.close()
        self.log.close()
        return code


@pytest.fixture
def served(data, authority):
    made = Served(data, authority)
    yield made
    made.end()


def test_it_serves_by_tls_alone_and_says_so_in_its_address(served):
    assert served.url.startswith("https://")
    context = ssl.create_default_context(cafile=str(served.authority.file))
    with urllib.request.urlopen(f"https://{NAME}:{served.port}/healthz", context=context, timeout=SECONDS) as reply:
        assert json.load(reply)["status"] == "ok"
    with socket.create_connection(("127.0.0.1", served.port), timeout=SECONDS) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not plain.recv(65536).startswith(b"HTTP")


@pytest.mark.filterwarnings("ignore:.*TLSv1_1:DeprecationWarning")
def test_a_version_of_tls_before_1_2_is_refused(served):
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served.connect(minimum_version=ssl.TLSVersion.TLSv1_1, maximum_version=ssl.TLSVersion.TLSv1_1)
    with served.connect(maximum_version=ssl.TLSVersion.TLSv1_2) as connection:
        assert served.health(connection) == b"HTTP/1.1 200 OK"


def test_a_renewed_certificate_is_taken_without_a_restart_and_open_connections_go_on(served):
    before = served.certificate()
    with served.connect() as kept:
        served.replace(days=25)

        def is_renewed():
            assert served.health(kept) == b"HTTP/1.1 200 OK"
            return served.certificate() != before

        served.wait_until(is_renewed)
    with served.connect() as anew:
        assert served.health(anew) == b"HTTP/1.1 200 OK"


def test_a_broken_certificate_never_replaces_one_that_works_and_is_logged(served):
    before = served.certificate()
    (served.files / "chain.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    served.wait_until(lambda: "the one before stays" in (served.files / "log").read_text())
    assert served.certificate() == before
    (served.files / "key.pem").unlink()
    assert served.certificate() == before
    served.replace(days=26)
    served.wait_until(lambda: served.certificate() != before)


def test_workers_serve_by_tls_and_each_takes_the_new_certificate(data, authority):
    served = Served(data, authority, "--workers", "2")
    try:
        before = served.certificate()
        served.replace(days=25)
        served.wait_until(lambda: before not in {served.certificate() for _ in range(20)})
    finally:
        assert served.end() == 0


def run(data, *options):
    done = subprocess.run(
        [*TALLYSTICK, "serve", "--data", data, "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=surroundings(home=data.parent),
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_what_cannot_be_used_is_refused_before_anything_listens(data, authority, workers):
    good, other = authority.certify(NAME), authority.file
    encrypted = authority.directory / "encrypted.pem"
    subprocess.run(
        ["openssl", "ec", "-in", good, "-aes256", "-passout", "pass:x", "-out", encrypted],
        check=True,
        capture_output=True,
    )
    for certificate, key in (
        (good, other),
        (data / "absent.pem", good),
        (good, data / "absent.pem"),
        (good, encrypted),
    ):
        code, said = run(data, "--certificate", certificate, "--key", key, *workers)
        assert (code, said.count("certificate-unusable")) == (1, 1), said
    for alone in ("--certificate", "--key"):
        code, said = run(data, alone, good, *workers)
        assert code == 2
        assert f"only {alone}" in said
