"""However much comes in, memory stays where it was: a gigabyte at every entrance that takes a stream (make ci), and less
of it in make test.

What is measured is the resident memory of the process while the body streams in, at its highest (VmHWM).
"""

import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from support.parties import COMMAND, Activation, FieldServer, Technician, memory_of, surroundings
from tallystick.activation.http.protocol_api import EMPTY_BYTES_MAX
from tallystick.fieldserver import asking

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
GROWTH_MAX = 64 * MIB  # a chunk of lines, or an inbox of 16 MiB, in its parsed form, and the allocator's slack
CHUNK = 256 * 1024
LINE = b"eyJhbGciOiJFZERTQSJ9." + b"A" * 900 + b"." + b"B" * 86 + b"\n"

KINDS = {
    "zeros without a line end": b"\0" * CHUNK,
    "comments": (b"# " + b"x" * 997 + b"\n") * (CHUNK // 1000),
}
# Every line of these gets an answer of its own, so such a body is refused long before it ends.
SHORT_KINDS = {"junk lines": b"junk\n" * (CHUNK // 5), "lines like envelopes": LINE * (CHUNK // len(LINE))}


def test_an_agent_runs_and_answers_in_the_memory_of_a_small_device(tmp_path):
    """40 MiB that are its own, of a device of 64 MB: beyond it the kernel gives none. What it reads asks for no more than is there."""
    data, path = tmp_path / "fs", Path(tempfile.mkdtemp(prefix="t")) / "s"
    made = [*COMMAND, "fieldserver", "init", "--data", data, "--kind", "AS-P", "--name", "small", "--trust-first"]
    subprocess.run(made, check=True, capture_output=True)
    limits = ["prlimit", f"--data={40 * MIB}", f"--stack={512 * 1024}", "--"]
    words = [*limits, *COMMAND, "fieldserver", "run", "--data", data, "--port", "0", "--socket", path]
    agent = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert agent.stdout.readline().startswith("https://")
        licenses = asking.connect(path, root="A" * 43, deadline_seconds=60)
        assert [licenses.check("mqtt-client").code for _ in range(100)] == ["not-licensed"] * 100
        licenses.close()
    finally:
        agent.terminate()
        agent.wait(60)
        agent.stdout.close()
        path.parent.rmdir()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("memory")
    activation = Activation(directory / "activation")
    activation.make()
    (directory / "fs").mkdir()
    server = FieldServer(directory / "fs" / "roof")
    server.make()
    activation.start()
    server.start()
    yield activation, server, directory
    server.stop()
    activation.stop()


def stream(piece, size):
    for _ in range(0, size, len(piece)):
        yield piece


def assert_bounded(process, send, seconds):
    """``send`` is called; the memory of ``process`` grows by no more than a fixed amount."""
    send(1)  # what it loads once
    before = memory_of(process.pid)[0]
    reset_peak(process.pid)
    begun = time.monotonic()
    answer = send(None)
    took = time.monotonic() - begun
    grown = memory_of(process.pid)[1] - before
    assert grown < GROWTH_MAX, f"{grown / MIB:.0f} MiB more, in {took:.1f} s"
    assert took < seconds
    return answer


def reset_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@pytest.mark.parametrize("size", [32 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)], ids=["32MiB", "1GiB"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_body_without_end_at_the_activation_server_takes_no_memory(site, kind, size):
    activation, _, _ = site

    def send(pieces):
        body = stream(KINDS[kind], size if pieces is None else pieces * CHUNK)
        return activation.call("POST", "/v1/messages", body, {"Accept": "application/json"}, seconds=600)

    status, _, answer = assert_bounded(activation, send, seconds=300)
    if size > EMPTY_BYTES_MAX:
        assert (status, answer["code"]) == (422, "not-text")
    elif kind == "comments":
        assert (status, answer["code"]) == (422, "no-messages")
    else:
        assert [row["code"] for row in answer] == ["line-too-long"]


@pytest.mark.parametrize("kind", SHORT_KINDS)
def test_bad_lines_without_end_at_the_activation_server_take_no_memory_and_come_to_an_end(site, kind):
    activation, _, _ = site

    def send(pieces):
        body = stream(SHORT_KINDS[kind], 16 * MIB if pieces is None else pieces * CHUNK)
        return activation.call("POST", "/v1/messages", body, {"Accept": "application/json"}, seconds=600)

    status, _, answer = assert_bounded(activation, send, seconds=120)
    assert (status, answer["code"]) == (422, "not-text") if kind == "junk lines" else status in {200, 422}


@pytest.mark.parametrize("kind", {**KINDS, **SHORT_KINDS})
def test_a_body_without_end_at_a_field_server_is_refused_and_takes_little_memory(site, kind):
    _, server, _ = site
    piece = (KINDS | SHORT_KINDS)[kind]

    def send(pieces):
        body = stream(piece, 64 * MIB if pieces is None else pieces * CHUNK)
        try:
            return server.call("POST", "/v1/inbox", body, seconds=120)
        except (BrokenPipeError, ConnectionResetError, OSError):
            return None  # it had enough, and said so to nobody: this client was still writing

    answer = assert_bounded(server, send, seconds=60)
    assert answer is None or (answer[0], answer[2]["code"]) == (413, "body-too-large")
    assert server.call("GET", "/v1/licenses")[0] == 200


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def sparse(path, size):
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.mark.parametrize("size", [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)], ids=["64MiB", "1GiB"])
@pytest.mark.parametrize("party", ["message", "import", "deliver", "catalog", "entitlement"])
def test_a_file_without_end_takes_no_memory_at_any_command(site, party, size, tmp_path):
    activation, server, directory = site
    file = sparse(tmp_path / "big.tally", size)
    data = ["--data", str(activation.directory)]
    words = {
        "message": ["activation", "message", str(file), "-o", str(tmp_path / "reply.tally"), *data],
        "catalog": ["activation", "catalog", "load", str(file), *data],
        "deliver": ["fieldserver", "deliver", str(file), "--data", str(server.directory)],
        "import": ["admin", "import", str(file)],
        "entitlement": ["admin", "entitlement", "add", str(file)],
    }[party]
    code, errors, most = run_and_measure(words, home=directory / "home", seconds=300)
    assert code == 1, errors
    assert any(word in errors for word in ("line-too-long", "body-too-large", "were not taken")), errors
    assert most < 160 * MIB, f"{most / MIB:.0f} MiB"
    assert not (tmp_path / "reply.tally").exists() or (tmp_path / "reply.tally").stat().st_size < 10_000


def run_and_measure(words, home, seconds):
    """A command to its end; its exit code, what it said, and its memory at its highest.

    A process starts with the memory peak of the one that forked it, and a test runner is large: so a small one forks.
    """
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *COMMAND, *words],
        capture_output=True,
        text=True,
        env=surroundings(home=home),
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stderr, int(done.stdout) * 1024


def test_a_technician_does_not_swallow_an_answer_without_end(site):
    """Something in the place of a field server, with its certificate, that talks for ever."""
    _, server, directory = site
    technician = Technician(directory / "home")
    technician.add(server)
    server.stop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.directory / "tls.pem", server.directory / "tls.key")
    said = []
    with socket.create_server(("127.0.0.1", server.port)) as listener:
        talker = threading.Thread(target=talk_for_ever, args=(listener, context, said), daemon=True)
        talker.start()
        code, errors, most = run_and_measure(["admin", "refresh", "roof"], home=technician.home, seconds=60)
        listener.shutdown(socket.SHUT_RDWR)
    talker.join(10)
    server.start()
    assert (code, "unreachable" in errors) == (3, True), errors
    assert 16 * MIB < sum(said) < 64 * MIB
    assert most < 160 * MIB, f"{most / MIB:.0f} MiB"


def talk_for_ever(listener, context, said):
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                secured.sendall(b" " * 65536)
                said.append(65536)
