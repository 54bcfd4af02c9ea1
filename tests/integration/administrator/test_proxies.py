"""The way through a proxy: CONNECT to an HTTPS activation server, passwords, refusals; field servers only when told so."""

import datetime as dt
import ipaddress
import socket
import ssl
import threading
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from support.adminpages import pages_of
from support.proxy import Proxy, pump
from tallystick.administrator.app import PROXY_SETTING, open_administrator, open_sealer
from tallystick.administrator.memory.database import open_database
from tallystick.administrator.memory.inventory import Inventory
from tallystick.administrator.network.proxy import parse_proxy, read_stored, without_secrets
from tallystick.errors import Error

pytestmark = pytest.mark.slow


@pytest.fixture
def secured(world, monkeypatch):
    """An activation server behind HTTPS, as most are, whose certificate this computer trusts."""
    bought = world.activation.buy("smartdriver=3")
    world.activation.start()
    _make_certificate(world.path("tls.pem"), world.path("tls.key"))
    monkeypatch.setenv("SSL_CERT_FILE", str(world.path("tls.pem")))
    with Terminator(world.activation.url, world.path("tls.pem"), world.path("tls.key")) as terminator:
        world.secured_url = terminator.url
        world.entitlement_id = bought["entitlement_id"]
        world.line = bought["lines"][0]["line"]
        world.roof = world.field_server("roof", add=False)
        yield world


def test_an_activation_is_carried_through_a_proxy_with_a_password(secured):
    admin = secured.admin
    secured.path("proxy.txt").write_text("four words")
    with Proxy(only="ann:four words") as proxy:
        words = ("proxy", proxy.url, "--user", "ann", "--password-file", secured.path("proxy.txt"))
        assert admin(*words, "--json") == {"proxy": proxy.url, "user": "ann", "field_servers": False}
        assert "four words" not in admin.stdout
        admin("entitlement", "add", secured.entitlement_id, "--activation", secured.secured_url)
        admin("add", secured.roof.url, "--password-file", secured.roof.password_file)
        admin("activate", "roof", "--line", f"{secured.line}=2")
        target = urlsplit(secured.secured_url).netloc
        assert set(proxy.asked) == {("CONNECT", target)}, "through it to the activation server, and to nobody else"
    admin("return", "roof", expect=4)
    assert "unreachable" in admin.stderr, "the proxy is gone, and nobody goes around it"
    admin("proxy", "--none")
    admin("sync")
    assert secured.activation.lines()[secured.line]["available"] == 3


def test_field_servers_are_reached_through_it_only_when_told_so(secured):
    admin = secured.admin
    with Proxy() as proxy:
        admin("proxy", proxy.url, "--field-servers")
        admin("add", secured.roof.url, "--password-file", secured.roof.password_file)
        admin("sync")
        assert {target for _, target in proxy.asked} == {urlsplit(secured.roof.url).netloc}
        assert len(proxy.asked) > 1, "the certificate was looked at, and what was said went the same way"
        count = len(proxy.asked)
        admin("proxy", proxy.url)
        admin("sync")
        assert len(proxy.asked) == count


@pytest.mark.parametrize(("status", "only"), [(407, "ann:other"), (403, ""), (502, "")])
def test_a_proxy_that_refuses_is_told_with_what_it_said(secured, status, only):
    admin = secured.admin
    with Proxy(only=only, refuses=0 if only else status) as proxy:
        admin("proxy", proxy.url)
        for url in (secured.secured_url, secured.activation.url):  # CONNECT, and an absolute address
            admin("entitlement", "add", secured.entitlement_id, "--activation", url, expect=(1, 3))
            if url == secured.secured_url or status == 407:
                assert "proxy-refused" in admin.stderr
            assert str(status) in admin.stderr
            assert "Next: " in admin.stderr
        admin("proxy", proxy.url, "--field-servers")
        admin("add", secured.roof.url, "--password-file", secured.roof.password_file, expect=1)
        assert "proxy-refused" in admin.stderr
        assert "tallystick admin proxy, or the page Route" in admin.stderr
        with pages_of(admin.home) as page:
            page.send(
                "/add",
                data={"do": "pin", "address": secured.roof.url, "password": "p"},
            )
            assert "<code>proxy-refused</code>" in page.text
            assert str(status) in page.text


def test_the_pages_set_a_proxy_and_never_show_its_password(secured):
    with Proxy(only="ann:secret words") as proxy, pages_of(secured.admin.home) as page:
        page.send(
            "/route/proxy",
            data={"proxy": proxy.url, "proxy_user": "ann", "proxy_password": "secret words", "proxy_field_servers": ""},
        )
        assert proxy.url in page.text
        assert "secret words" not in page.text
        page.send("/route/proxy", data={"proxy": proxy.url, "proxy_user": "ann", "proxy_password": ""})  # as it was
        page.send("/plan/entitlement", data={"entitlement": secured.entitlement_id, "url": secured.secured_url})
        assert "SmartDriver" in page.text
        assert proxy.asked
        page.send("/route/proxy", data={"proxy": proxy.url, "proxy_user": "ben", "proxy_password": ""})
        page.send("/plan/entitlement", data={"entitlement": secured.entitlement_id, "url": secured.secured_url})
        assert "<code>proxy-refused</code>" in page.text or "proxy-refused" in page.text
    assert b"secret words" not in b"".join(path.read_bytes() for path in secured.admin.home.iterdir())


def test_a_proxy_that_an_earlier_version_kept_still_counts(tmp_path):
    database = open_database(tmp_path)
    inventory = Inventory(database, open_sealer(tmp_path))
    inventory.set_setting(PROXY_SETTING, "http://proxy.example:3128")
    assert read_stored(inventory.secret(PROXY_SETTING)).address == "http://proxy.example:3128"
    made = parse_proxy("http://ann:p%40ss@proxy.example", is_for_field_servers=True)
    inventory.set_secret(PROXY_SETTING, made.stored())
    assert read_stored(inventory.secret(PROXY_SETTING)) == made
    assert (made.user, made.password, made.address) == ("ann", "p@ss", "http://proxy.example:80")
    assert made.url == "http://ann:p%40ss@proxy.example:80"
    database.close()
    (tmp_path / "passwords.key").write_bytes(bytes(32))  # another key: the proxy is not known here any more
    with open_administrator(directory=tmp_path) as administrator:
        assert read_stored(administrator.inventory.secret(PROXY_SETTING)) is None


@pytest.mark.parametrize(
    "text", ["socks5://h:1", "http://", "proxy:3128", "http://h:99999", "http://h/path", "http://[", ""]
)
def test_what_is_no_proxy_is_refused_and_no_secret_is_repeated(text):
    with pytest.raises(Error) as error:
        parse_proxy(text.replace("://", "://ann:secret@"))
    assert error.value.code == "usage"
    assert "secret" not in error.value.seen
    assert without_secrets("http://ann:secret@h:1") == "http://h:1"


class Terminator:
    """TLS in front of an HTTP server, as a gateway does it."""

    def __init__(self, url, certificate, key):
        self.there = (urlsplit(url).hostname, urlsplit(url).port)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.listen)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()

    def listen(self):
        while True:
            try:
                plain, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.pass_on, args=(plain,), daemon=True).start()

    def pass_on(self, plain):
        try:
            with (
                self.context.wrap_socket(plain, server_side=True) as here,
                socket.create_connection(self.there) as there,
            ):
                pump(here, there)
        except OSError:
            plain.close()


def _make_certificate(certificate_file, key_file):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "activation.example")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    certificate_file.write_bytes(made.public_bytes(Encoding.PEM))
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
