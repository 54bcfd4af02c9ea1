"""The socket at which programs ask: who may, what is bounded, and what a program makes of whatever listens there."""

import json
import os
import socket
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from support.answers import GOOD, NONCE, ROOT_OF_GOOD, World
from support.fieldserver.helpers import NOW, Desk, holding, license_claim
from tallystick.errors import Error
from tallystick.fieldserver import asking, checks, local_socket
from tallystick.fieldserver.answering import Answerer
from tallystick.fieldserver.checks import Checks
from tallystick.fieldserver.local_socket import LocalSocket

TARGET = f"/v1/check?feature=mqtt&required=1&nonce={NONCE}"


class Clock:
    def __init__(self):
        self.value = NOW

    def now(self):
        return self.value


class Agent:
    """Checks of a state in hand, at a real socket."""

    def __init__(self, path, state, device):
        self.state, self.clock, self.stamp, self.monotonic = state, Clock(), 1, time.monotonic
        self.checks = Checks(load=self.load, stamp=lambda: self.stamp, wall_clock=lambda: float(self.clock.value))
        self.socket = LocalSocket(
            path,
            answer=Answerer(device=device, checks=self.checks, clock=self.clock).answer,
            monotonic=self.read_monotonic,
        )
        self.socket.listen(mode=0o600, group=None)
        self.socket.start()

    def read_monotonic(self):
        return self.monotonic()

    def load(self):
        if isinstance(self.state, Exception):
            raise self.state
        return self.state

    def put(self, state):
        self.state, self.stamp = state, self.stamp + 1
        self.checks.look()


PROGRAMS = []


def connect(path, **options):
    """A program whose connection ends with the test. It is patient: how busy this machine is must not matter."""
    PROGRAMS.append(asking.connect(path, **{"deadline_seconds": 60, **options}))
    return PROGRAMS[-1]


@pytest.fixture(autouse=True)
def programs():
    yield
    while PROGRAMS:
        PROGRAMS.pop().close()


@pytest.fixture
def desk():
    return holding(licenses=(license_claim(quantity=3),))


@pytest.fixture
def agent(tmp_path, monkeypatch, desk):
    monkeypatch.chdir(tmp_path)  # paths of sockets are short, those of tests are not
    made = Agent(Path("check.sock"), desk.state, desk.device)
    yield made
    made.socket.stop()


@pytest.fixture
def root(desk):
    return desk.issuer.root.public.thumbprint


def raw(request, *, path="check.sock", seconds=60.0):
    """What comes for these bytes, until the agent closes."""
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(seconds)
        one.connect(path)
        one.sendall(request)
        return read_all(one)


def read_all(one):
    pieces = []
    try:
        while piece := one.recv(65536):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def flood(one):
    for _ in range(100_000):
        one.sendall(b"x" * 10_000)


def get(target, *fields):
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode()


def status(reply):
    return int(reply.split(b" ", 2)[1])


def test_a_program_gets_its_verdict(agent, root):
    licenses = connect("check.sock", root=root)
    assert licenses.check("mqtt", 3).is_licensed
    assert licenses.check("mqtt", 4).code == "too-few"
    assert licenses.check("other").code == "not-licensed"


def test_a_program_that_names_another_root_gets_none(agent):
    assert connect("check.sock", root=ROOT_OF_GOOD).check("mqtt").code == "other-issuer"


def test_what_the_vault_says_now_is_answered(agent, root, desk):
    licenses = connect("check.sock", root=root)
    assert licenses.check("mqtt", 3).is_licensed
    desk.grant(2, licenses=(license_claim(quantity=1),))
    agent.put(desk.state)
    assert licenses.check("mqtt", 3).code == "too-few"
    assert licenses.check("mqtt", 1).is_licensed


def test_a_relinquished_license_is_gone_at_the_socket(agent, root, desk):
    licenses = connect("check.sock", root=root)
    assert licenses.check("mqtt").is_licensed
    agent.put(replace(desk.state, epoch=2, applied=None))
    assert licenses.check("mqtt").code == "not-licensed"


def test_a_vault_that_was_put_back_is_told_from_the_newest(agent, root, desk):
    older = desk.state
    desk.grant(2, licenses=(license_claim(quantity=1),))
    agent.put(desk.state)
    licenses = connect("check.sock", root=root)
    assert licenses.check("mqtt").is_licensed
    agent.put(older)
    assert licenses.check("mqtt").code == "older-grant"
    assert connect("check.sock", root=root, remembered=licenses.remembered).check("mqtt").code == "older-grant"


def test_a_field_server_without_keys_answers_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    empty = Desk()
    made = Agent(Path("check.sock"), empty.state, empty.device)
    licenses = connect("check.sock", root=ROOT_OF_GOOD)
    assert licenses.check("mqtt").code == "not-licensed"
    made.socket.stop()


def test_a_vault_that_cannot_be_read_is_no_answer_and_says_so(agent, root):
    agent.put(Error("vault-damaged", expected="one whole slot of two", seen="none"))
    verdict = connect("check.sock", root=root).check("mqtt")
    assert verdict.code == "agent-refused"
    assert "vault-damaged" in verdict.why


def test_a_fault_of_the_agent_is_no_answer(agent, root, monkeypatch, caplog):
    agent.put(RuntimeError("unforeseen"))
    agent.socket._answer = lambda _question: 1 / 0
    assert connect("check.sock", root=root).check("mqtt").code == "agent-refused"
    assert "A check failed" in caplog.text


def test_the_answer_reads_for_people(agent):
    reply = raw(get(TARGET, "Connection: close")).decode()
    head, _, body = reply.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\ncontent-type: application/x-tally\r\n")
    assert f"content-length: {len(body)}" in head
    assert body.startswith("# mqtt: licensed (3 activated, 1 required)\n")
    assert "For people" in body or "for people" in body


@pytest.mark.parametrize(
    ("request_", "code", "number"),
    [
        (b"\r\n\r\n", "json-malformed", 422),
        (b"hello\r\n\r\n", "json-malformed", 422),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", "json-malformed", 422),
        (b"GET  /v1/check HTTP/1.1\r\n\r\n", "json-malformed", 422),
        (b"GET /v1/check HTTP/2\r\n\r\n", "json-malformed", 422),
        (get("/"), "not-found", 404),
        (get("/v1/check"), "check-wrong", 422),
        (get("/v1/check?feature=mqtt"), "check-wrong", 422),
        (get(TARGET).replace(b"GET", b"POST"), "method-wrong", 405),
        (get(TARGET, "Content-Length: 5") + b"hello", "method-wrong", 405),
        (get(TARGET, "Transfer-Encoding: chunked") + b"0\r\n\r\n", "method-wrong", 405),
        (b"GET /" + b"a" * 5000, "body-too-large", 413),
        (b"a" * 8192, "body-too-large", 413),
        (get(TARGET, "X: " + "y" * 4096), "body-too-large", 413),
    ],
)
def test_what_is_no_question_is_refused_and_the_connection_closed(agent, request_, code, number):
    reply = raw(request_)
    assert status(reply) == number
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["code"] == code


def test_a_head_without_end_is_cut_at_its_limit(agent, root):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect("check.sock")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            flood(one)
    assert connect("check.sock", root=root).check("mqtt").is_licensed


def test_a_question_may_come_in_pieces_and_many_on_one_connection(agent):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect("check.sock")
        for byte in get(TARGET):
            one.sendall(bytes([byte]))
        first = one.recv(100_000)
        one.sendall(get(TARGET) * 3 + get(TARGET, "Connection: close"))
        rest = read_all(one)
    assert status(first) == 200
    assert rest.count(b"HTTP/1.1 200 OK") == 4
    assert rest.count(b"connection: close") == 1


def test_http_1_0_is_answered_once(agent):
    assert raw(get(TARGET).replace(b"HTTP/1.1", b"HTTP/1.0")).count(b"HTTP/1.1 200 OK") == 1


def test_who_reads_slowly_gets_all_of_it_and_holds_up_nobody(agent, root, desk):
    desk.grant(2, licenses=tuple(license_claim(product="x" * 40, features={f"f{n}": 1}) for n in range(50)))
    agent.put(desk.state)
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(5)
        one.connect("check.sock")
        one.sendall(get(TARGET) * 40 + get(TARGET, "Connection: close"))
        assert connect("check.sock", root=root).check("f7").is_licensed
        assert read_all(one).count(b"HTTP/1.1 200 OK") == 41


def test_a_silent_connection_is_closed_and_its_place_is_free(agent, root):
    now = [time.monotonic()]
    agent.monotonic = lambda: now[0]
    with socket.socket(socket.AF_UNIX) as silent:
        silent.settimeout(5)
        silent.connect("check.sock")
        silent.sendall(b"GET /v1/che")
        assert connect("check.sock", root=root).check("mqtt").is_licensed
        now[0] += local_socket.SILENT_SECONDS + 1
        assert connect("check.sock", root=root).check("mqtt").is_licensed  # wakes it
        assert silent.recv(10) == b""


def test_one_user_never_has_more_than_half_of_the_places(agent, root):
    held = []
    for _ in range(local_socket.USER_MAX):
        one = socket.socket(socket.AF_UNIX)
        one.connect("check.sock")
        held.append(one)
    verdict = connect("check.sock", root=root).check("mqtt")
    assert verdict.code == "agent-refused"
    assert "too-busy" in verdict.why
    for one in held:
        one.close()
    licenses = connect("check.sock", root=root)
    for _ in range(100):
        if licenses.check("mqtt").is_licensed:
            break
        time.sleep(0.01)
    assert licenses.check("mqtt").is_licensed
    assert not {*agent.socket._users.values()} - {1}


def test_many_programs_at_once_are_all_answered(agent, root):
    codes = []

    def ask():
        licenses = connect("check.sock", root=root)
        codes.extend(licenses.check("mqtt").code for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == ["licensed"] * 160


# The path


def make(path, *, mode=0o600, group=None):
    made = LocalSocket(path, answer=lambda _question: b"", monotonic=time.monotonic)
    made.listen(mode=mode, group=group)
    return made


def test_the_socket_has_the_mode_and_the_group_that_were_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make(Path("a"), mode=0o660, group=str(os.getgid()) and "root" if os.getuid() == 0 else None)
    assert stat.S_IMODE(Path("a").stat().st_mode) == 0o660
    made.stop()
    assert not os.path.lexists("a")


def test_the_socket_of_an_agent_that_was_killed_is_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = socket.socket(socket.AF_UNIX)
    left.bind("a")
    left.close()
    make(Path("a")).stop()


def test_a_socket_that_is_in_use_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = make(Path("a"))
    with pytest.raises(Error) as caught:
        make(Path("a"))
    assert caught.value.code == "address-taken"
    assert os.path.lexists("a")
    first.stop()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_left_alone(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "target").write_text("x")
    {"file": lambda: (tmp_path / "a").write_text("x"), "directory": (tmp_path / "a").mkdir,
     "link": lambda: (tmp_path / "a").symlink_to("target")}[kind]()  # fmt: skip
    with pytest.raises(Error) as caught:
        make(Path("a"))
    assert caught.value.code == "address-taken"
    assert os.path.lexists("a")


def test_a_path_that_is_too_long_is_named_with_its_length(tmp_path):
    with pytest.raises(Error) as caught:
        make(tmp_path / ("a" * 120))
    assert "107" in caught.value.expected


def test_a_group_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Error) as caught:
        make(Path("a"), group="no-such-group")
    assert caught.value.code == "address-taken"


# What listens there need not be an agent


class Fake:
    """Says what it is told to, to one program after the other."""

    def __init__(self, say):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("fake.sock")
        self.listener.listen()
        self.say = say
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            with one:
                try:
                    one.settimeout(60)
                    request = one.recv(65536)
                    self.say(one, request)
                except OSError:
                    pass


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = []

    def start(say):
        made.append(Fake(say))
        return connect("fake.sock", root=ROOT_OF_GOOD)

    yield start
    for one in made:
        one.listener.shutdown(socket.SHUT_RDWR)
        one.listener.close()


def http(body, *, length=None, status="200 OK"):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


def nonce_of(request):
    return request.split(b"nonce=")[1].split(b" ")[0].decode()


def test_whoever_has_the_device_s_key_and_the_vendor_s_grant_is_the_agent(fake):
    def say(one, request):
        one.sendall(http(World(answer={"nonce": nonce_of(request)}).body()))

    assert fake(say).check("mqtt-client", 2).is_licensed


def test_an_old_answer_is_found_out(fake):
    assert fake(lambda one, _request: one.sendall(http(GOOD.body()))).check("mqtt-client", 2).code == "answer-differs"


def gigabyte(one, _request):
    one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
    while True:
        one.sendall(b"# filling\n" * 10_000)


def endless(one, _request):
    one.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        one.sendall(b"x: y\r\n" * 10_000)


def more(one, _request):
    one.sendall(http(GOOD.body(), length=10))


@pytest.mark.parametrize(
    ("say", "code"),
    [
        (gigabyte, "answer-too-large"),
        (endless, "answer-malformed"),
        (more, "answer-malformed"),
        (lambda one, _: None, "answer-malformed"),
        (lambda one, _: one.sendall(http(GOOD.body(), length=10**6)), "answer-too-large"),
        (lambda one, _: one.sendall(http(GOOD.body(), length=len(GOOD.body()) + 1)), "answer-malformed"),
        (lambda one, _: one.sendall(http(GOOD.body())[:-9]), "answer-malformed"),
        (lambda one, _: one.sendall(http(b"", status="404 Not Found")), "agent-refused"),
        (lambda one, _: one.sendall(b"HTTP/1.1 503 Busy\r\n\r\n"), "agent-refused"),
        (lambda one, _: one.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD.body()), "answer-malformed"),
        (lambda one, _: one.sendall(http(b"", length="-1")), "answer-malformed"),
        (lambda one, _: one.sendall(http(b"", length="1\r\nContent-Length: 2")), "answer-malformed"),
        (lambda one, _: one.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "answer-malformed"),
        (lambda one, _: one.sendall(b"\0" * 100_000), "answer-malformed"),
        (lambda one, _: one.sendall(http(b"")), "answer-malformed"),
        (lambda one, _: one.sendall(http(b"HTTP/1.1 200 OK\r\n\r\n")), "answer-malformed"),
    ],
)
def test_whatever_listens_there_is_never_believed(fake, say, code):
    verdict = fake(say).check("mqtt-client", 2)
    assert verdict.code == code, verdict.why


class Patient:
    """Says what it is told to, and then nothing, until the test is over: only the deadline can end a question."""

    def __init__(self):
        self.over = threading.Event()

    def silent(self, _one, _request):
        assert self.over.wait(60)

    def drip(self, one, _request):
        one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 204800\r\n\r\n")
        while not self.over.wait(0.001):
            one.sendall(b"#")


@pytest.mark.parametrize("how", ["silent", "drip"])
def test_an_agent_that_never_ends_its_answer_costs_the_deadline_and_no_more(fake, how):
    patient = Patient()
    licenses = fake(getattr(patient, how))
    licenses._seconds = 0.1
    try:
        assert licenses.check("mqtt-client").code == "agent-silent"
        assert not patient.over.is_set()
    finally:
        patient.over.set()


def test_no_agent_no_socket_and_no_vault_are_said_without_any_wait(tmp_path, monkeypatch):
    """The deadline is a year, and nothing sleeps. `make bench ROWS=B8` has the milliseconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.sleep", lambda _seconds: pytest.fail("it sleeps"))
    (tmp_path / "file").write_text("x")
    left = socket.socket(socket.AF_UNIX)
    left.bind("left.sock")
    left.close()
    for path in ("absent.sock", "no/such/directory", "file", "left.sock", "a" * 200, "\0", ""):
        verdict = connect(path, root=ROOT_OF_GOOD, deadline_seconds=365 * 86_400).check("mqtt")
        assert (verdict.code, verdict.is_licensed, bool(verdict.why)) == ("agent-absent", False, True), path
    for data in (tmp_path, tmp_path / "absent", tmp_path / "file"):
        verdict = checks.open(data, root=ROOT_OF_GOOD).check("mqtt")
        assert (verdict.is_licensed, bool(verdict.why)) == (False, True), data


def test_what_came_behind_an_answer_is_no_answer_to_the_next_question(fake):
    connections = []

    def say(one, request):
        connections.append(one.fileno())
        one.sendall(http(World(answer={"nonce": nonce_of(request)}).body()) + b"HTTP/1.1 200 OK\r\n\r\n")

    licenses = fake(say)
    assert licenses.check("mqtt-client", 2).is_licensed
    assert licenses.check("mqtt-client", 2).is_licensed
    assert len(connections) == 2


def test_a_program_asks_again_where_the_agent_was_started_anew(tmp_path, monkeypatch, desk, root):
    monkeypatch.chdir(tmp_path)
    licenses = connect("check.sock", root=root)
    for _ in range(3):
        agent = Agent(Path("check.sock"), desk.state, desk.device)
        assert licenses.check("mqtt").is_licensed
        assert licenses.check("mqtt").is_licensed
        agent.socket.stop()
        assert licenses.check("mqtt").code == "agent-absent"
