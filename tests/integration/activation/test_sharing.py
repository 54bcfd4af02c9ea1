"""Processes that share a database share the work on events: each webhook gets each event, whoever dies meanwhile."""

import contextlib
import http.server
import json
import os
import re
import signal
import threading
from pathlib import Path

import httpx2
import pytest

from support.postgres import Cluster
from support.processes import make_activation, run, serving, wait_until

pytestmark = pytest.mark.slow

# An endpoint's second, so that what a dead process had taken is free again after half a minute.
ENVIRONMENT = {"TALLYSTICK_WEBHOOKS_ALLOW_PRIVATE": "127.0.0.1", "TALLYSTICK_WEBHOOKS_TIMEOUT_SECONDS": "1"}
WORKERS = ("--workers", "2")
ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


class Receiver:
    """An endpoint. ``kills``: it kills whoever calls first, before it answers."""

    def __init__(self):
        receiver = self
        self.got, self.kills, self.killed = [], None, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if receiver.kills is not None:
                    candidates, receiver.kills = receiver.kills, None
                    victim = next(pid for pid in candidates() if holds(pid, self.client_address[1]))
                    os.kill(victim, signal.SIGKILL)
                    receiver.killed.append(victim)
                    return
                receiver.got.append((self.headers["webhook-id"], body))
                with contextlib.suppress(OSError):
                    self.send_response(204)
                    self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def positions(self):
        return [body["position"] for _, body in self.got]


def holds(pid, port):
    """Whether a process holds the socket of loopback with this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if str(entry.readlink()) in inodes:
                return True
    return False


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(scope="module")
def cluster():
    found = Cluster()
    yield found
    found.remove()


@pytest.fixture(params=ENGINES)
def shop(request, tmp_path):
    """A data directory, and how to make something happen."""
    options = ("--database", request.getfixturevalue("cluster").new_database()) if request.param != "sqlite" else ()
    data, _, bought = make_activation(tmp_path, *options, env=ENVIRONMENT)

    def change(quantity):
        line = bought["lines"][0]["line"]
        run("activation", "line", "change", line, "--quantity", quantity, "--data", data, env=ENVIRONMENT)

    return data, change


def serve(data, *options):
    return serving("activation", "serve", "--data", data, "--port", "0", *options, env=ENVIRONMENT)


def hook(data, receiver):
    run("activation", "webhooks", "add", receiver.url, "--after", "0", "--data", data, env=ENVIRONMENT)


def workers_of(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("ascii").split()]


@pytest.mark.parametrize("shop", ENGINES[1:], indirect=True)
def test_with_two_workers_events_arrive_also_when_the_one_that_sends_is_killed(shop, receiver):
    data, change = shop
    hook(data, receiver)
    with serve(data, *WORKERS) as (_, process):
        receiver.kills = lambda: workers_of(process)
        wait_until(lambda: receiver.killed, what="a worker that sends")
        for quantity in (7, 8, 9):
            change(quantity)
        wait_until(lambda: set(receiver.positions()) == {1, 2, 3, 4}, seconds=60, what="every event")
        assert len(workers_of(process)) == 2  # the dead one was started again


@pytest.mark.parametrize("shop", ENGINES[1:], indirect=True)
def test_two_servers_share_a_database_and_what_one_had_taken_when_it_died_is_sent_by_the_other(shop, receiver):
    data, change = shop
    hook(data, receiver)
    with serve(data) as (_, first):
        receiver.kills = lambda: [first.pid]
        wait_until(lambda: receiver.killed, what="a server that sends")
        first.wait()
        with serve(data), serve(data):
            for quantity in (7, 8, 9):
                change(quantity)
            wait_until(lambda: set(receiver.positions()) == {1, 2, 3, 4}, seconds=60, what="every event")
    ids = {webhook_id for webhook_id, _ in receiver.got}
    assert len(ids) == 4  # a repeat has the same id


def test_two_servers_that_live_send_each_event_once(shop, receiver):
    data, change = shop
    hook(data, receiver)
    with serve(data), serve(data, *WORKERS):
        for quantity in range(7, 12):
            change(quantity)
        wait_until(lambda: len(receiver.got) >= 6, what="every event")
    assert sorted(receiver.positions()) == [1, 2, 3, 4, 5, 6]


def counted(url, route):
    text = httpx2.get(f"{url}/metrics").text
    pattern = rf'tallystick_http_requests_total\{{method="GET",route="{route}",status="200"\}} ([0-9.]+)'
    assert "tallystick_build{" in text
    assert "tallystick_database_up 1.0" in text
    return sum(float(found) for found in re.findall(pattern, text))


def test_metrics_count_what_all_workers_did_whoever_is_asked_and_go_on_when_one_died(tmp_path):
    data, _, _ = make_activation(tmp_path)
    with serve(data, *WORKERS) as (told, process):
        url = told["url"]
        for _ in range(20):  # each on a connection of its own, so that both workers have some
            assert httpx2.get(f"{url}/healthz").status_code == 200
        assert [counted(url, "/healthz") for _ in range(10)] == [20] * 10
        before = set(workers_of(process))
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(set(workers_of(process)) - before) == 1, what="another worker")

        def is_served():
            with contextlib.suppress(httpx2.HTTPError):
                return httpx2.get(f"{url}/readyz").status_code == 200
            return False

        wait_until(is_served)
        assert counted(url, "/healthz") == 20
