"""The process: it announces itself, stops cleanly, survives kill -9, and says why it cannot start."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from support.activation import Device
from support.served import Data, Served
from tallystick.activation.server.instance import DATABASE_FILE

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_cleanly_and_can_be_started_again(data, number):
    served = Served(data.path)
    assert served.ask("GET", "/healthz").status == 200
    assert served.stop(number) == (0, "")


def test_a_person_reads_its_address(data):
    command = [sys.executable, "-m", "tallystick", "activation", "serve", "--data", data.path, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert "listens at http://127.0.0.1:" in process.stdout.readline()
        process.terminate()
        assert process.wait(20) == 0


def test_replies_that_a_client_got_are_still_there_after_kill_9(data):
    made = data.buy("smartdriver=1000")
    served = Served(data.path)
    got, stop = {}, threading.Event()

    def client(name):
        number = 0
        while not stop.is_set():
            message = Device(f"{name}-{number}").activate((made.lines[0], 1))
            number += 1
            try:
                got[message] = served.post(message).envelopes
            except (OSError, ValueError):
                return
            except Exception:  # noqa: BLE001 - http.client has many names for a peer that is gone
                return

    threads = [threading.Thread(target=client, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    served.kill()
    stop.set()
    for thread in threads:
        thread.join()
    assert len(got) > 5
    again = Served(data.path)
    try:
        for message, replies in got.items():
            assert again.post(message).envelopes == replies
    finally:
        assert again.stop() == (0, "")
    assert data.ok("verify")["green"] is True
    held = data.line(made.lines[0])["held"]
    assert len(got) <= held <= len(got) + 4  # what was committed while its client was cut off


def test_due_quarantines_are_settled_when_it_starts(tmp_path):
    data = Data(tmp_path / "a").init("--waiting-days", "0")
    made = data.buy("smartdriver=5")
    served = Served(data.path)
    served.post(Device("gone").activate((made.lines[0], 5)))
    lost = data.ok("declare-lost", "gone", "--reason", "burnt")
    assert lost["quarantined"] == [{"line": made.lines[0].line_id, "quantity": 5}]
    assert data.line(made.lines[0])["available"] == 5
    served.stop()


def refused(*words):
    done = subprocess.run(
        [sys.executable, "-m", "tallystick", "activation", "serve", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_port_that_is_taken_is_named(data):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, said = refused("--data", str(data.path), "--port", str(taken.getsockname()[1]))
    assert code == 1
    assert "address-taken" in said
    assert "Traceback" not in said


def test_a_host_that_is_not_ours_is_named(data):
    code, said = refused("--data", str(data.path), "--host", "192.0.2.1", "--port", "0")
    assert (code, "address-taken" in said) == (1, True)


def test_no_data_is_named(tmp_path):
    code, said = refused("--data", str(tmp_path / "nothing"), "--port", "0")
    assert (code, "not-initialised" in said) == (1, True)


def test_a_database_that_fails_in_service_gives_a_retryable_problem_and_then_goes_on(data):
    made = data.buy("smartdriver=5")
    served = Served(data.path)
    message = Device("later").activate((made.lines[0], 1))
    blocker = sqlite3.connect(data.path / DATABASE_FILE, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        answer = served.post(message)
        assert answer.status == 503
        assert (answer.json["code"], answer.headers["Retry-After"]) == ("database-unavailable", "1")
        assert served.ask("GET", "/healthz").status == 200
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    assert served.rows(message)[0]["outcome"] == "granted"
    code, said = served.stop()
    assert code == 0
    assert "was not taken" in said


def test_books_that_contradict_themselves_stop_it_and_nothing_is_written(data):
    made = data.buy("smartdriver=5")
    served = Served(data.path)
    device = Device("before")
    device.take(served.post(device.activate((made.lines[0], 1))).envelopes[0])
    with sqlite3.connect(data.path / DATABASE_FILE) as connection:  # rights that field servers hold, out of nothing
        connection.execute("UPDATE lines SET held = held - 1, available = available + 1")
    answer = served.post(device.relinquish())
    assert (answer.status, answer.json["code"]) == (500, "invariant")
    served.process.wait(20)
    code, said = served.stop()
    assert (code, "invariant" in said) == (1, True)
    with sqlite3.connect(data.path / DATABASE_FILE) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (1,)
    assert data.run("verify").exit_code == 1


def test_it_writes_its_line_even_when_nobody_set_unbuffered(data):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "tallystick", "activation", "serve", "--data", data.path, "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert "url" in process.stdout.readline()
        process.terminate()
        process.wait(20)
