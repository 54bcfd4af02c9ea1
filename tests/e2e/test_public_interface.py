"""The promised commands with the promised JSON keys and exit codes, on real processes, from purchase to verify."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
DONE, REFUSED, USAGE, UNREACHABLE, PARTLY = range(5)


class Site:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = str(directory / "activation")

    def call(self, *words: object, expect: int = DONE, home: str = "laptop"):
        done = subprocess.run(
            [sys.executable, "-m", "tallystick", *map(str, words), "--json"],
            env={**os.environ, "TALLYSTICK_HOME": str(self.directory / home), "TALLYSTICK_ROUTE": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == expect, (words, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout) if done.stdout.strip() else None

    @contextmanager
    def running(self, *words: object) -> Iterator[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tallystick", *map(str, words), "--json"], stdout=subprocess.PIPE, text=True
        )
        try:
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            process.stdout.close()


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


def test_every_promised_command_answers_with_its_promised_keys(site):
    made = site.call("activation", "init", "--data", site.data, "--issuer", "Example Controls")
    assert made["issuer"] == "Example Controls"
    assert made["root_fingerprint"]
    site.call("activation", "catalog", "load", EXAMPLES / "catalog.yaml", "--data", site.data)
    bought = site.call(
        "activation", "entitlement", "create", "--data", site.data, "--account", "Harbour",
        "--product", "smartdriver=3", "--product", "snmp-notification=1", "--expires", "2099-12-31",
    )  # fmt: skip
    assert {"line", "activation_id", "product", "quantity"} <= bought["lines"][0].keys()
    smartdriver = next(line for line in bought["lines"] if line["product"] == "smartdriver")
    certificate = site.directory / "bought.tally"
    words = ("activation", "entitlement", "certificate", bought["entitlement_id"], "--data", site.data)
    site.call(*words, "-o", certificate)

    device = str(site.directory / "device")
    who = ("--kind", "AS-P", "--name", "roof", "--host-id", "h1", "--trust-first")
    made = site.call("fieldserver", "init", "--data", device, *who)
    assert made.keys() >= {"device_id", "kind", "name", "certificate_fingerprint", "password_file"}
    with site.running("activation", "serve", "--data", site.data, "--port", "0") as activation:
        with site.running("fieldserver", "run", "--data", device, "--port", "0") as address:
            _a_technicians_day(site, activation, address, made, bought, smartdriver)
        _the_activation_servers_http(activation)
    _people_at_the_activation_server(site, made, smartdriver)


def _a_technicians_day(site, activation, address, made, bought, smartdriver):
    fingerprint = made["certificate_fingerprint"]
    password = ("--password-file", made["password_file"])
    site.call("admin", "add", address, *password, "--fingerprint", "SHA256:" + "A" * 43, expect=REFUSED)
    site.call("admin", "add", address, *password, "--fingerprint", fingerprint)
    site.call("admin", "entitlement", "add", bought["entitlement_id"], "--activation", activation)
    assert site.call("admin", "route").keys() >= {"route", "why"}
    line = smartdriver["line"]
    site.call("admin", "assign", f"{line}=2", "roof")
    site.call("admin", "activate", "roof")
    (row,) = site.call("admin", "servers")
    assert row.keys() >= {"name", "device_id", "kind", "address", "reachable", "licenses", "next_step"}
    (license_,) = row["licenses"]
    assert (license_["line"], license_["product"], license_["quantity"]) == (line, "smartdriver", 2)
    assert row["reachable"] is True
    site.call("admin", "show", "roof")
    site.call("admin", "status")
    site.call("admin", "refresh", "--all")
    verdict = site.call(
        "fieldserver", "check", "smartdriver", "--used", "3", "--data", site.directory / "device", expect=REFUSED
    )
    assert (verdict["required"], verdict["used"], verdict["available"], verdict["activated"]) == (3, 2, 0, 2)
    site.call("fieldserver", "status", "--data", site.directory / "device")
    site.call("admin", "return", "roof", "--line", f"{line}=1")
    site.call("admin", "return", "roof", "--one-carry")
    (row,) = site.call("admin", "servers")
    assert row["licenses"] == []
    site.call("admin", "activate", "roof", "--line", f"{smartdriver['activation_id']}=3")
    _return_by_file(site)


def _return_by_file(site):
    up, down = site.directory / "up.tally", site.directory / "down.tally"
    site.call("admin", "return", "roof", "--route", "offline", expect=PARTLY)
    site.call("admin", "export", up)
    site.call("activation", "message", up, "-o", down, "--data", site.data)
    site.call("admin", "import", down, "--route", "offline")
    (waiting,) = site.call("activation", "returns", "--data", site.data)
    assert waiting.keys() >= {"device_id", "name", "line", "quantity", "age_seconds", "next_step"}
    assert (waiting["name"], waiting["quantity"]) == ("roof", 3)
    site.call("fieldserver", "outbox", "--data", site.directory / "device")
    site.call("admin", "sync")
    assert site.call("activation", "returns", "--data", site.data) == []
    site.call("admin", "import", down)  # a file again, after everything: no harm


def _the_activation_servers_http(activation):
    address = urlsplit(activation)
    for path in ("/healthz", "/v1/keys"):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=120)
        connection.request("GET", path)
        assert connection.getresponse().status == 200
        connection.close()


def _people_at_the_activation_server(site, made, smartdriver):
    rows = site.call("activation", "lines", "--data", site.data)
    row = next(row for row in rows if row["line"] == smartdriver["line"])
    assert (row["bought"], row["available"], row["held"], row["returning"]) == (3, 3, 0, 0)
    assert (row["quarantined"], row["retired"], row["product"]) == (0, 0, "smartdriver")
    (server,) = site.call("activation", "field-servers", "--data", site.data)
    assert server["device_id"] == made["device_id"]
    file = site.directory / "started-here.tally"
    site.call("activation", "return", "roof", "--data", site.data, "-o", file)
    site.call("fieldserver", "deliver", file, "--data", site.directory / "device")
    site.call("activation", "declare-lost", "roof", "--reason", "burnt", "--data", site.data)
    assert site.call("activation", "incidents", "--data", site.data) == []
    site.call("activation", "verify", "--data", site.data)
    site.call("activation", "restore", "--data", site.data)
    assert all(row["frozen"] for row in site.call("activation", "lines", "--data", site.data))
    site.call("activation", "verify", "--data", site.data)


def test_exit_codes_say_how_it_ended(site):
    site.call("activation", "init", "--data", site.data)
    site.call("activation", "init", "--data", site.data, expect=REFUSED)
    site.call("activation", "message", expect=USAGE)
    password = site.directory / "password.txt"
    password.write_text("secret\n")
    site.call("admin", "add", "https://127.0.0.1:9", "--password-file", password, expect=UNREACHABLE)
    site.call("activation", "lines", "--data", site.directory / "nowhere", expect=REFUSED)
