"""Clients that are slow, silent or endless: each has its end, and nobody else waits for them."""

import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from support.activation import PRODUCTS, Device
from tallystick.activation.core import entitlements
from tallystick.activation.server.instance import open_activation
from tallystick.domain.catalog import Catalog

pytestmark = pytest.mark.slow

TALLYSTICK = [sys.executable, "-m", "tallystick", "activation"]
SECONDS = 60
PROMPT_SECONDS = 5.0  # far above what an answer takes on a busy machine, far below what a slow client takes


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    subprocess.run(
        [*TALLYSTICK, "init", "--data", directory, "--issuer", "Example Controls"], check=True, capture_output=True
    )
    return directory


@pytest.fixture
def line(data):
    activation = open_activation(data)
    catalog = Catalog(kinds=("AS-P", "AS-B", "Edge Server"), products=PRODUCTS)
    activation.transact(lambda tx: tx.save_catalog(catalog))
    bought = activation.transact(
        lambda tx: entitlements.create_entitlement(
            tx,
            activation.signer,
            account="acme",
            products=[("smartdriver", 1_000_000)],
            expires_at=None,
            random_bytes=activation.random_bytes,
            by="me",
            now=activation.now(),
        )
    )
    activation.close()
    return bought.lines[0]


@contextlib.contextmanager
def serving(data):
    process = subprocess.Popen(
        [*TALLYSTICK, "serve", "--data", data, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process, json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def served(data):
    with serving(data) as found:
        yield found


def connect(url):
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def post(url, body):
    request = urllib.request.Request(f"{url}/v1/messages", body, {"Content-Type": "application/x-tally"})
    with urllib.request.urlopen(request, timeout=SECONDS) as reply:
        return reply.read()


def check_prompt(url, line, name, count=10):
    """An honest client gets its answers, and soon."""
    spans = []
    for number in range(count):
        start = time.monotonic()
        assert post(url, Device(f"{name} {number}").activate((line, 1)).encode()).startswith(b"eyJ")
        spans.append(time.monotonic() - start)
    assert statistics.median(spans) < PROMPT_SECONDS


HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


def memory_mib(process):
    text = Path(f"/proc/{process.pid}/status").read_text("ascii")
    return int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def test_nobody_waits_for_clients_that_send_a_byte_a_second(served, line):
    _, url = served
    message = Device("slow").activate((line, 1)).encode()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(url)) for _ in range(100)]
        for number, client in enumerate(clients):
            client.sendall(HEAD % len(message) if number % 2 else HEAD[:20])
        for place in range(2):
            for number, client in enumerate(clients):
                client.sendall(message[place : place + 1] if number % 2 else HEAD[20 + place : 21 + place])
            time.sleep(1)
        check_prompt(url, line, "beside the slow")


def test_nobody_waits_for_clients_that_never_read(served, line):
    process, url = served
    bundle = b"\n".join(Device(f"mute {number}").activate((line, 1)).encode() for number in range(2000))
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            client = stack.enter_context(connect(url))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(HEAD % len(bundle) + bundle)
        check_prompt(url, line, "beside the mute")
    assert memory_mib(process) < 200


def test_a_body_without_an_end_is_refused_when_that_is_clear_and_nobody_waits(served, line):
    process, url = served
    for number, filler in enumerate(
        (b"x" * 65536, b"\n" * 65536, b"# and so on\n" * 5000, b"not an envelope\n" * 5000)
    ):
        with connect(url) as client:
            client.sendall(HEAD % 10_000_000_000)
            answer = []
            reader = threading.Thread(target=lambda client=client, answer=answer: answer.append(client.recv(4096)))
            reader.start()
            deadline = time.monotonic() + SECONDS
            while not answer and time.monotonic() < deadline:
                try:
                    client.sendall(filler)
                except OSError:
                    break
            reader.join(SECONDS)
            assert b" 422 " in answer[0]
        check_prompt(url, line, f"beside {number}", count=2)
    assert memory_mib(process) < 200


def test_a_bundle_that_a_crash_cut_off_is_sent_again_and_finishes(data, line):
    devices = [Device(f"bundle {number}") for number in range(3000)]
    bundle = b"".join(device.activate((line, 1)).encode() + b"\n" for device in devices)
    with serving(data) as (process, url):

        def send():
            with contextlib.suppress(OSError):
                post(url, bundle)

        sender = threading.Thread(target=send)
        sender.start()
        activation = open_activation(data)
        deadline = time.monotonic() + SECONDS
        while not (before := len(activation.read(lambda tx: tx.find_field_servers(limit=5000)))):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        sender.join(SECONDS)
    assert before > 0
    taken = {one.device_id: one for one in activation.read(lambda tx: tx.find_field_servers(limit=5000))}
    with serving(data) as (_, url):
        replies = [reply for reply in post(url, bundle).splitlines() if not reply.startswith(b"#")]
    assert len(replies) == len(devices)
    after = {one.device_id: one for one in activation.read(lambda tx: tx.find_field_servers(limit=5000))}
    assert len(after) == len(devices)
    assert all(after[device_id] == one for device_id, one in taken.items())  # nothing was done twice
    activation.close()
    verified = subprocess.run([*TALLYSTICK, "verify", "--data", data, "--json"], capture_output=True, check=True)
    assert json.loads(verified.stdout)["entries"] == len(devices) + 1


def test_the_command_that_was_killed_in_a_bundle_gives_the_same_replies_when_it_is_run_again(data, line, tmp_path):
    request, reply = tmp_path / "request.tally", tmp_path / "reply.tally"
    request.write_text(
        "".join(Device(f"command {number}").activate((line, 1)) + "\n" for number in range(3000)), "ascii"
    )
    command = [*TALLYSTICK, "message", request, "-o", reply, "--data", data]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    activation = open_activation(data)
    deadline = time.monotonic() + SECONDS
    while not activation.read(lambda tx: tx.find_field_servers(limit=1)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not reply.exists()
    subprocess.run(command, check=True, capture_output=True)
    first = reply.read_bytes()
    subprocess.run(command, check=True, capture_output=True)
    assert reply.read_bytes() == first
    assert first.count(b"\n") > 3000
    assert len(activation.read(lambda tx: tx.find_field_servers(limit=5000))) == 3000
    activation.close()
