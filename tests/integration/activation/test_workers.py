"""Several processes at one address: they share the work, end together, and outlive a worker but not their watcher."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

TALLYSTICK = [sys.executable, "-m", "tallystick", "activation"]
SECONDS = 120


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    subprocess.run([*TALLYSTICK, "init", "--data", directory], check=True, capture_output=True)
    return directory


@pytest.fixture
def served(data):
    process = subprocess.Popen(
        [*TALLYSTICK, "serve", "--data", data, "--port", "0", "--workers", "2", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    url = json.loads(process.stdout.readline())["url"]
    yield process, url
    process.kill()
    process.wait()
    process.stdout.close()


def workers_of(process):
    return {int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()}


def wait_until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_healthy(url):
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=SECONDS) as reply:
            return json.load(reply)["status"] == "ok"
    except (OSError, ValueError):
        return False


def test_two_workers_serve_and_end_together_at_a_signal(served):
    process, url = served
    pids = workers_of(process)
    assert len(pids) == 2
    assert all(is_healthy(url) for _ in range(10))
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    wait_until(lambda: not any(is_running(pid) for pid in pids))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_died_is_started_again_and_ends_with_the_others(served, how):
    process, url = served
    before = workers_of(process)
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: len(workers_of(process)) == 2 and workers_of(process) != before)
    wait_until(lambda: all(is_healthy(url) for _ in range(10)))
    pids = workers_of(process)
    process.send_signal(how)
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_a_worker_that_finds_no_database_when_it_is_started_again_is_tried_until_there_is_one(data, served):
    process, url = served
    before = workers_of(process)
    database = data / "tallystick.sqlite"
    database.rename(data / "away")
    tried = set()
    os.kill(min(before), signal.SIGKILL)

    def has_tried_twice():
        tried.update(workers_of(process) - before)
        return len(tried) >= 2

    wait_until(has_tried_twice)
    assert process.poll() is None
    (data / "away").rename(database)
    wait_until(lambda: len(workers_of(process)) == 2)
    wait_until(lambda: all(is_healthy(url) for _ in range(10)))
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_workers_do_not_outlive_the_process_that_watches_them(served):
    process, _ = served
    pids = workers_of(process)
    process.kill()
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_a_taken_port_is_told_once(data):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*TALLYSTICK, "serve", "--data", data, "--port", str(port), "--workers", "2"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    assert (done.returncode, done.stderr.count("address-taken")) == (1, 1)


KILLED_WHILE_ANNOUNCED = """
import os, signal, socket, sys, threading
from tallystick.activation.server import workers

begun_in, begun_out = os.pipe()

def serve(listener, begin, gone):
    os.write(begun_out, b"%8d" % os.getpid())
    begin()
    gone.wait()

def announce():
    first = {int(os.read(begun_in, 8)) for _ in range(2)}
    os.kill(min(first), signal.SIGKILL)
    third = int(os.read(begun_in, 8))  # still announcing, and the worker was started again
    assert third not in first
    print("started again", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)

with workers.reserve(socket.AF_INET, "127.0.0.1", 0) as holder:
    sys.exit(not workers.run(2, holder, serve, announce=announce, backlog=5))
"""


def test_a_worker_that_dies_while_it_is_announced_is_started_again():
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_ANNOUNCED], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stdout) == (0, "started again\n"), done.stderr
