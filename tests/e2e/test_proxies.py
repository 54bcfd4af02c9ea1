"""The examples in examples/proxies before a real activation server: large files, addresses of clients, invitations."""

import http.client
import json
import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from support.authority import Authority
from support.browser import Reader
from support.parties import free_port
from support.processes import make_activation, serving, wait_until
from support.site import PASSWORD

pytestmark = pytest.mark.debian
EXAMPLES = Path(__file__).parents[2] / "examples" / "proxies"
NAME = "licenses.example.com"
CLIENT = "127.0.0.7"  # the proxy has another address
BUNDLE_BYTES = 50_000_000
COMMENT = b"# " + b"x" * 997 + b"\n"


def changed(text, *pairs):
    for before, after in pairs:
        assert before in text, f"the example no longer says {before}"
        text = text.replace(before, after)
    return text


def nginx(directory, port, behind, certificate):
    site = changed(
        (EXAMPLES / "nginx.conf").read_text("utf-8"),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/ssl/{NAME}/fullchain.pem", certificate),
        (f"/etc/ssl/{NAME}/key.pem", certificate),
        ("127.0.0.1:8470", behind),
    )
    (directory / "site.conf").write_text(site, "utf-8")
    places = "".join(
        f"{name}_temp_path {directory}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (directory / "nginx.conf").write_text(
        f"daemon off; pid {directory}/pid; error_log {directory}/log; user root;"
        f"events {{}} http {{ access_log off; {places} include {directory}/site.conf; }}",
        "utf-8",
    )
    return [program("nginx"), "-p", directory, "-c", directory / "nginx.conf"], {}


def caddy(directory, port, behind, certificate):
    site = changed(
        (EXAMPLES / "Caddyfile").read_text("utf-8"),
        (f"{NAME} {{", f"https://{NAME}:{port} {{\n\tbind 127.0.0.1"),
        ("# tls ", "tls "),
        (f"/etc/ssl/{NAME}/fullchain.pem", certificate),
        (f"/etc/ssl/{NAME}/key.pem", certificate),
        ("127.0.0.1:8470", behind),
    )
    (directory / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + site, "utf-8")
    homes = {name: str(directory) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    return [program("caddy"), "run", "--config", directory / "Caddyfile", "--adapter", "caddyfile"], homes


def program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin")
    assert found, f"{name} is missing: make system-packages"
    return found


@contextmanager
def running(words_, environment, log, port):
    with log.open("wb") as file:
        process = subprocess.Popen([str(word) for word in words_], env=environment, stdout=file, stderr=file)
        try:
            wait_until(lambda: is_open(port) or process.poll() is not None, 120, "a proxy that listens")
            assert process.poll() is None, log.read_text("utf-8")
            yield
        finally:
            process.terminate()
            process.wait(120)


def is_open(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


class Behind:
    """An activation server behind a proxy, and clients that reach it by name."""

    def __init__(self, port, own, trusted, log, code):
        self.port, self.own, self.log, self.code = port, own, log, code
        self.url = f"https://{NAME}:{port}"
        self.trusted = trusted

    @contextmanager
    def client(self):
        transport = httpx2.HTTPTransport(verify=self.trusted, local_address=CLIENT)
        with httpx2.Client(transport=transport, timeout=300) as found:
            yield Named(found, self.port)

    def logged(self):
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines() if line.startswith("{")]


class Named:
    """A client whose name server says that the name is here."""

    def __init__(self, client, port):
        self._client, self._port = client, port
        self._own = {"headers": {"Host": f"{NAME}:{port}"}, "extensions": {"sni_hostname": NAME}}

    def get(self, path, **more):
        return self._ask("GET", path, **more)

    def post(self, path, **more):
        return self._ask("POST", path, **more)

    def _ask(self, method, path, headers=None, **more):
        headers = self._own["headers"] | (headers or {})
        url = f"https://127.0.0.1:{self._port}{path}"
        answer = self._client.request(
            method, url, headers=headers, extensions=self._own["extensions"], follow_redirects=False, **more
        )
        if answer.status_code == 303:
            return self.get(answer.headers["location"].removeprefix(f"https://{NAME}:{self._port}"))
        return answer


@pytest.fixture(params=[nginx, caddy], ids=lambda made: made.__name__, scope="module")
def behind(request, tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("behind")
    authority = Authority(tmp_path)
    authority.context(NAME)
    data, _, _ = make_activation(tmp_path)
    port, log = free_port(), tmp_path / "activation.log"
    settings = {"TALLYSTICK_LOG_FORMAT": "json", "TALLYSTICK_LOG_LEVEL": "info", "TALLYSTICK_LOG_REQUESTS": "true"}
    with (
        log.open("wb") as file,
        serving("activation", "serve", "--data", data, "--port", "0", env=settings, stderr=file) as (told, _),
    ):
        own = told["url"].removeprefix("http://").rstrip("/")
        directory = tmp_path / "proxy"
        directory.mkdir()
        command, environment = request.param(directory, port, own, str(tmp_path / f"{NAME}30.pem"))
        with running(command, environment, directory / "said", port):
            yield Behind(port, own, ssl.create_default_context(cafile=authority.file), log, told["setup_code"])


@pytest.fixture
def client(behind):
    with behind.client() as found:
        yield found


def test_a_file_of_fifty_megabytes_goes_through_to_its_last_line(behind, client):
    good = COMMENT * (BUNDLE_BYTES // len(COMMENT))
    answer = client.post(
        "/v1/messages",
        content=good + b"no message\n",
        headers={"Content-Type": "application/x-tally", "Accept": "application/json"},
    )
    own = http.client.HTTPConnection(behind.own, timeout=300)
    own.request(
        "POST", "/v1/messages", b"no message\n", {"Content-Type": "application/x-tally", "Accept": "application/json"}
    )
    wanted = json.loads(own.getresponse().read())
    own.close()
    assert answer.status_code == 200, answer.text
    wanted[0]["line_number"] += good.count(b"\n")
    assert answer.json() == wanted


def test_the_log_names_the_client_and_not_the_proxy_nor_what_it_says_of_itself(behind, client):
    answer = client.get("/v1/keys", headers={"X-Forwarded-For": "203.0.113.9"})
    assert answer.status_code == 200
    found = wait_until(lambda: [row for row in behind.logged() if row.get("route") == "/v1/keys"], 60, "its line")
    assert [row["client"] for row in found] == [CLIENT]


def test_an_invitation_names_the_address_that_people_use(behind, client):
    reader = Reader(client)
    who = {"name": "Ana", "email": "ana@example.com", "password": PASSWORD}
    assert "Vendor administrator" in reader.send("/set-up", code=behind.code, **who).text
    invited = {"email": "bo@example.com", "name": "Bo", "role": "vendor-support", "own_password": PASSWORD}
    assert f"{behind.url}/invitation/" in reader.send("/people", chosen={"do": "person"}, **invited).text
