"""Short exchanges by hand, over real sockets: however the bytes come, the answers are those of the application."""

import socket
import time

import pytest

from support.activation import Device

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def line(served_data):
    return served_data.buy("smartdriver=100000").lines[0]


@pytest.fixture
def connection(served):
    with socket.create_connection(("127.0.0.1", served.port), timeout=120) as connection:
        yield connection


def request(body, *more):
    head = "\r\n".join(("POST /v1/messages HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more))
    return f"{head}\r\n\r\n".encode() + body


def read(file):
    """Status, headers and body of the next answer."""
    status = int(file.readline().split()[1])
    headers = {}
    while (said := file.readline().strip()) != b"":
        name, _, value = said.decode().partition(": ")
        headers[name.lower()] = value
    return status, headers, file.read(int(headers["content-length"]))


def read_all(connection, count):
    with connection.makefile("rb") as file:
        return [read(file) for _ in range(count)]


def test_the_answer_is_the_same_byte_for_byte_however_the_bytes_come(served, connection, line):
    message = Device("pieces").activate((line, 1)).encode() + b"\n"
    whole = request(message)
    connection.sendall(whole)
    (first,) = read_all(connection, 1)
    for place in range(1, len(whole), len(whole) // 5):
        connection.sendall(whole[:place])
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(whole[place:])
        assert read_all(connection, 1)[0][2] == first[2]
    assert served.ask("POST", "/v1/messages", message * 20).envelopes == first[2].decode().split() * 20


def test_a_body_that_takes_its_time_is_answered_by_the_application(connection, line):
    message = Device("slow body").activate((line, 1)).encode()
    whole = request(message, "X-Request-ID: slow-1")
    connection.sendall(whole[:-10])
    connection.settimeout(2)  # more than the shortcut waits
    with pytest.raises(TimeoutError):
        connection.recv(1)
    connection.settimeout(30)
    connection.sendall(whole[-10:])
    ((status, headers, body),) = read_all(connection, 1)
    assert (status, headers["x-request-id"]) == (200, "slow-1")
    assert body.startswith(b"eyJ")


def test_pipelined_requests_are_answered_in_their_order(connection, line):
    device = Device("pipeline")
    first, second = device.activate((line, 1)).encode(), device.say("refresh").encode()
    many = [
        request(first, "X-Request-ID: 1"),
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: 2\r\n\r\n",
        request(b"junk", "X-Request-ID: 3"),
        request(b"", "X-Request-ID: 4"),
        request(second, "X-Request-ID: 5"),
        request(first, "X-Request-ID: 6", "Accept: application/json"),
    ]
    connection.sendall(b"".join(many))
    answers = read_all(connection, len(many))
    assert [headers["x-request-id"] for _, headers, _ in answers] == list("123456")
    assert [status for status, _, _ in answers] == [200, 200, 200, 422, 200, 200]
    assert answers[2][2].startswith(b"# line 1 was not taken (envelope-malformed)")
    assert answers[0][2].decode().strip() in answers[5][2].decode()


def test_a_thousand_pipelined_requests_of_junk(connection):
    connection.sendall(request(b"junk") * 1000)
    assert {status for status, _, _ in read_all(connection, 1000)} == {200}


def test_a_client_that_asks_for_it_is_hung_up_on_after_its_answer(connection, line):
    connection.sendall(request(Device("close").activate((line, 1)).encode(), "Connection: close"))
    ((status, headers, _),) = read_all(connection, 1)
    assert (status, headers["connection"]) == (200, "close")
    assert connection.recv(1) == b""


def test_what_a_client_sent_that_hung_up_is_taken_all_the_same(served, line):
    message = Device("gone").activate((line, 1))
    with socket.create_connection(("127.0.0.1", served.port)) as gone:
        gone.sendall(request(message.encode()))
    first, again = served.post(message), served.post(message)
    assert first.envelopes == again.envelopes != []


def test_a_head_that_was_said_before_begins_whatever_comes_behind_it(served, connection, line):
    """The same head again and again, as a client says it: each body is taken as it is, and nothing else is lost."""
    device = Device("known head")
    message = device.activate((line, 1)).encode()
    other = device.say("refresh").encode().ljust(len(message))  # as long, so that the head is the same
    ask = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    said = [message, message, other, b"x" * len(message), b"\n" * len(message), b"a\n" * (len(message) // 2), message]
    for body in (body.ljust(len(message)) for body in said):
        connection.sendall(request(body))
        ((status, _, answer),) = read_all(connection, 1)
        expected = served.ask("POST", "/v1/messages", body)  # by another client, with another head
        assert (status, answer) == (expected.status, expected.body)
    whole = request(message)
    for pieces in ([whole[:9], whole[9:]], [whole[:-9], whole[-9:]], [b"\r\n" + whole]):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        assert read_all(connection, 1)[0][2].startswith(b"eyJ")
    connection.sendall(whole + ask + whole + whole)
    assert [answer[2][:3] for answer in read_all(connection, 4)] == [b"eyJ", b'{"s', b"eyJ", b"eyJ"]
    connection.sendall(whole)
    connection.sendall(ask)  # it comes while the one before is decided
    assert [answer[2][:3] for answer in read_all(connection, 2)] == [b"eyJ", b'{"s']


def test_an_id_of_a_request_is_that_of_its_own_head(connection, line):
    message = Device("named").activate((line, 1)).encode()
    found = []
    for more in ((), ("X-Request-ID: a",), (), ("X-Request-ID: b",), ("X-Request-ID: a",), ()):
        connection.sendall(request(message, *more))
        found.append(read_all(connection, 1)[0][1]["x-request-id"])
    assert [found[place] for place in (1, 3, 4)] == ["a", "b", "a"]
    assert len({*found}) == 5


def test_a_client_that_hangs_up_after_each_answer_is_known_by_its_head(served, line):
    """``Connection: close`` behind a head that is known, on a connection that stays open."""
    message = Device("polite").activate((line, 1)).encode()
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", served.port), timeout=120) as connection:
            connection.sendall(request(message))
            read_all(connection, 1)
            connection.sendall(request(message, "Connection: close"))
            ((status, headers, _),) = read_all(connection, 1)
            assert (status, headers["connection"]) == (200, "close")
            assert connection.recv(1) == b""


def test_an_idle_connection_is_closed_five_seconds_after_its_last_answer_and_not_sooner(connection, line):
    message = Device("idle").activate((line, 1)).encode()
    for _ in range(4):
        connection.sendall(request(message))
        read_all(connection, 1)
        answered = time.monotonic()
        time.sleep(1.5)
    assert connection.recv(1) == b""
    assert 4 < time.monotonic() - answered < 60  # five, and what a busy machine adds
