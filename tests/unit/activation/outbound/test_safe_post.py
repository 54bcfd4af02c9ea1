"""Where webhooks may go, and how long they wait: against real sockets on loopback."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tallystick.activation.outbound import safe_post
from tallystick.errors import Error

LOOPBACK = ("127.0.0.0/8",)


class Server:
    """Answers every connection with the same bytes, in pieces."""

    def __init__(self, *pieces, pause=0.0):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.pieces, self.pause = pieces, pause
        self.seen = []
        threading.Thread(target=self.run, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/hook?a=1"

    def run(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with client:
                self.seen.append(client.recv(65536))
                try:
                    for piece in self.pieces:
                        client.sendall(piece)
                        time.sleep(self.pause)
                except OSError:
                    pass


def post(url, allowed=LOOPBACK, timeout_seconds=2):
    return safe_post.post(
        url, body=b"{}", headers={"webhook-id": "evt_1"}, allowed=allowed, timeout_seconds=timeout_seconds
    )


def test_a_post_that_is_taken():
    server = Server(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert post(server.url).is_taken
    assert server.seen[0].startswith(b"POST /hook?a=1 HTTP/1.1")
    assert b"webhook-id: evt_1" in server.seen[0]


def test_a_redirect_is_an_answer_and_is_not_followed():
    inner = Server(b"HTTP/1.1 200 OK\r\n\r\n")
    outer = Server(f"HTTP/1.1 302 Found\r\nLocation: {inner.url}\r\nContent-Length: 0\r\n\r\n".encode())
    answered = post(outer.url)
    assert (answered.status, answered.is_taken, inner.seen) == (302, False, [])


def test_who_drips_is_not_waited_for():
    server = Server(*[b"H"] * 200, pause=0.1)
    started = time.monotonic()
    answered = post(server.url, timeout_seconds=0.5)
    assert answered.status is None
    assert "0.5 seconds" in answered.detail
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 999999 X\r\n\r\n", b"\x00\xff" * 40])
def test_whatever_comes_back_is_no_fault_of_ours(reply):
    assert not post(Server(reply).url).is_taken


def test_nobody_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "refused" in post(f"http://127.0.0.1:{port}/").detail.lower()


INSIDE = [
    "https://127.0.0.1/",
    "https://127.1.2.3:8443/",
    "https://10.1.2.3/",
    "https://192.168.1.1/",
    "https://172.16.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[ff02::1]/",
]


@pytest.mark.parametrize("url", INSIDE)
def test_addresses_inside_are_refused_before_anything_is_sent(url):
    with pytest.raises(Error) as refused:
        safe_post.check_url(url, ())
    assert refused.value.code == "webhook-target"


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["93.184.216.34", "10.0.0.1"], ["::1"]])
def test_a_name_that_leads_inside_is_refused_also_beside_a_public_address(monkeypatch, addresses):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    answered = post("https://rebinding.example/", allowed=())
    assert answered.status is None
    assert "public Internet" in answered.detail


def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_checked(monkeypatch):
    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    port = server.listener.getsockname()[1]
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    asked = []
    real = socket.getaddrinfo

    def resolve(host, *more, **options):
        if host != "hooks.example":
            return real(host, *more, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers[len(asked) - 1][0], port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    answered = post(f"http://hooks.example:{port}/", allowed=("hooks.example",))
    assert answered.is_taken
    assert len(asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "https://",
        "https:///path",
        "gopher://example.com",
        "file:///etc/passwd",
        "https://example.com:99999/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/\r\nX: y",
        "https://user@example.com/",
        "https://example.com/#part",
        "https://example.com/" + "a" * 3000,
        "https://ex\u00e4mple.com/",
        "https://[::1",
    ],
)
def test_what_is_no_plain_https_url_is_refused(url):
    with pytest.raises(Error) as refused:
        safe_post.check_url(url, ())
    assert refused.value.code == "webhook-target"


def test_what_the_settings_allow_is_allowed_and_nothing_beside_it():
    assert safe_post.check_url("http://127.0.0.1:1/", ("127.0.0.1/32",))
    assert safe_post.check_url("http://hooks.internal/", ("hooks.internal",))
    for url in ("http://127.0.0.2/", "http://other.internal/", "https://10.0.0.1/"):
        with pytest.raises(Error):
            safe_post.check_url(url, ("127.0.0.1/32", "hooks.internal"))
