"""Killed at any moment, on full, read-only and damaged disks: a field server goes on with the next start."""

import json
import resource
import shutil
import signal
import subprocess
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from support.fieldserver.helpers import Issuer, license_claim
from support.fieldserver.processes import FieldServer, run

pytestmark = pytest.mark.slow

ISSUER = Issuer()


@pytest.fixture
def server(tmp_path):
    field_server = FieldServer(tmp_path / "data")
    yield field_server
    field_server.stop()


@contextmanager
def mounted(directory, options):
    """A small file system of its own. Needs root."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(directory)]
    subprocess.run(command, capture_output=True, check=True)  # as root, as CI is
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_it_stops_cleanly_on_both_signals(server):
    for number in (signal.SIGTERM, signal.SIGINT):
        server.start()
        server.get("/v1/licenses")
        assert server.stop(number) == 0


def test_it_stops_while_a_slow_client_is_connected(server):
    server.start()
    connection = server.connect()
    connection.putrequest("POST", "/v1/inbox")
    connection.putheader("Content-Length", "10")
    connection.endheaders()
    begun = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begun < 60
    connection.close()


def test_killed_between_any_two_steps_it_loses_nothing_that_it_said(server):
    server.start()
    server.deliver(ISSUER.keyset())
    said, number = [], 0
    for round_ in range(6):
        stop = threading.Event()

        def work(stop=stop):
            nonlocal number
            with suppress(OSError, AssertionError, json.JSONDecodeError, ValueError):
                while not stop.is_set():
                    number += 1
                    body = server.ask(purpose="return", wants=[{"line": "7K3M9Q2A", "quantity": number % 1000}])
                    said.append(body)
                    if number % 7 == 0:
                        server.deliver(ISSUER.grant(server.id, number, request=body["digest"], confirm=True))

        server.ask(purpose="relinquish")
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.05 + 0.06 * round_)
        server.stop(signal.SIGKILL)
        stop.set()
        thread.join()
        server.start()
        state = server.get("/v1/licenses")
        known = {row["digest"] for row in (*state["outbox"], *state["outcomes"])}
        if said:
            assert said[-1]["digest"] in known
    sequences = [body["sequence"] for body in said if not body["repeated"]]
    assert len(sequences) == len(set(sequences)) > 6


def test_a_full_disk_changes_nothing_and_checks_go_on(tmp_path):
    with mounted(tmp_path / "small", "size=256k") as small:
        server = FieldServer(small / "data").start()
        try:
            server.deliver(ISSUER.keyset(), ISSUER.grant(server.id, 1))
            with suppress(OSError), (small / "ballast").open("wb", buffering=0) as ballast:
                while ballast.write(b"x" * 4096):
                    pass
            codes = set()
            for number in range(100):
                body = json.dumps({"purpose": "return", "wants": [{"line": "7K3M9Q2A", "quantity": number}]})
                before = server.get("/v1/outbox")
                status, _, answer = server.post_request(body.encode())
                if status != 200:
                    codes.add((status, answer["code"]))
                    assert server.get("/v1/outbox") == before
                    break
            assert codes == {(507, "disk-full")}
            assert server.get("/v1/checks/mqtt")["licensed"]
            assert server.stop(signal.SIGKILL) is not None
            server.start()
            assert server.get("/v1/outbox") == before
            (small / "ballast").unlink()
            assert server.post_request(body.encode())[0] == 200
        finally:
            server.stop()


def test_a_file_size_limit_is_a_full_disk(server):
    server.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
    server.deliver(ISSUER.keyset())
    grant = ISSUER.grant(server.id, 1, licenses=tuple(license_claim(f"7K3M9Q{n:02}") for n in range(30)))
    status, _, answer = server.call("POST", "/v1/inbox", grant.encode())
    assert (status, answer["code"]) == (507, "disk-full")
    assert server.get("/v1/licenses")["applied"] is None
    server.stop()
    server.start()
    assert server.deliver(grant)["results"][0]["outcome"] == "applied"


def test_a_read_only_disk_answers_checks_and_refuses_steps(tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        server = FieldServer(disk / "data").start()
        try:
            server.deliver(ISSUER.keyset(), ISSUER.grant(server.id, 1))
            message = server.ask(purpose="refresh")["message"]
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            status, _, answer = server.post_request(b'{"purpose":"relinquish"}')
            assert (status, answer["code"]) == (500, "disk-failed")
            assert server.get("/v1/checks/mqtt")["licensed"]
            assert server.get("/v1/outbox") == (message + "\n").encode()
            server.stop()
            server.start()  # also a start needs no writing
            assert server.get("/v1/checks/mqtt")["licensed"]
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
            assert server.post_request(b'{"purpose":"relinquish"}')[0] == 200
        finally:
            server.stop()


def test_one_damaged_slot_falls_back_and_two_are_named(server):
    server.start()
    server.deliver(ISSUER.keyset())
    server.deliver(ISSUER.grant(server.id, 1))
    server.deliver(ISSUER.grant(server.id, 2))
    server.stop()
    slots = [server.directory / name for name in ("vault-a", "vault-b")]
    newest = max(slots, key=lambda path: int.from_bytes(path.read_bytes()[8:16], "big"))
    newest.write_bytes(b"junk")
    status, _ = run("status", "--data", server.directory, "--json")
    assert status["applied"]["number"] == 1
    for slot in slots:
        slot.write_bytes(b"junk")
    problem, err = run("status", "--data", server.directory, "--json", expect=1)
    assert problem["code"] == "vault-damaged"
    assert "vault-damaged" in err
    verdict, err = run("check", "mqtt", "--data", server.directory, "--json", expect=1)
    assert verdict["standing"] == "not-licensed"
    assert "vault-damaged" in err


def test_a_vault_that_is_damaged_while_running_never_stops_the_agent(server):
    server.start()
    server.deliver(ISSUER.keyset(), ISSUER.grant(server.id, 1))
    for name in ("vault-a", "vault-b"):
        (server.directory / name).write_bytes(b"junk")
    status, _, answer = server.post_request(b'{"purpose":"refresh"}')
    assert (status, answer["code"]) == (500, "vault-damaged")
    assert "vault-damaged" in server.get("/v1/checks/mqtt")["why"] or time.sleep(1.1)
    assert "vault-damaged" in server.get("/v1/checks/mqtt")["why"]


def test_a_restored_backup_is_named_by_the_next_reply(server, tmp_path):
    server.start()
    server.deliver(ISSUER.keyset(), ISSUER.grant(server.id, 1))
    server.stop()
    shutil.copytree(server.directory, tmp_path / "backup")
    server.start()
    for number in range(3):
        server.ask(purpose="return", wants=[{"line": "7K3M9Q2A", "quantity": number}])
    server.stop()
    shutil.rmtree(server.directory)
    shutil.copytree(tmp_path / "backup", server.directory)
    server.start()
    asked = server.ask(purpose="refresh")
    answer = server.deliver(ISSUER.refusal(server.id, asked["digest"], "fork", seen=3))
    assert (answer["results"][0]["outcome"], answer["waiting"]) == ("refused", 1)
    state = server.get("/v1/licenses")
    assert state["rolled_back_at"] is not None
    assert [(row["purpose"], row["sequence"]) for row in state["outbox"]] == [("refresh", 4)]


def test_a_process_that_holds_the_lock_is_named(server):
    server.start()
    server.deliver(ISSUER.keyset())
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX);"
        " print('held', flush=True); time.sleep(30)"
    )
    holder = subprocess.Popen(["python3", "-c", code, str(server.directory / "lock")], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        status, _, answer = server.post_request(b'{"purpose":"refresh"}')
        assert (status, answer["code"]) == (503, "vault-locked")
        assert server.call("GET", "/v1/identity", password=False)[0] == 200
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert server.post_request(b'{"purpose":"refresh"}')[0] == 200
