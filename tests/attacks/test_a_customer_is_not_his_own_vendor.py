"""A foreign keyset and grant, through an unmodified field server's own inbox and with its own password, buy nothing.

The agent of a field server that trusts at first delivery believes them, and says so to its technician. A licensed program
that names its vendor's root does not: `not licensed: other issuer`, at the data directory and at the socket.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

import pytest

from support.answers import NONCE
from support.clients import build_go, compile_c, write_blocks
from support.fieldserver.helpers import Issuer, license_claim
from support.processes import run, serving
from tallystick.fieldserver import asking, checks
from tallystick.protocol.answers import Question, Reader

pytestmark = pytest.mark.slow

VENDOR = Issuer("Example Controls", seed=1)
MALLORY = Issuer("Example Controls", seed=77)  # the name is free to choose, the root is not
ROOT = VENDOR.root.public.thumbprint
FOREVER = license_claim(quantity=1_000_000_000, features={"mqtt-client": 1_000_000})


class Attacked:
    """A field server that runs, and what its customer can do to it."""

    def __init__(self, data, url, socket, made):
        self.data, self.url, self.socket, self.made = data, url, socket, made

    def call(self, path, body=None, password=None):
        password = password or Path(self.made["password_file"]).read_text("ascii").strip()
        request = urllib.request.Request(self.url + path, data=body)
        request.add_header("Authorization", "Basic " + b64encode(f"administrator:{password}".encode()).decode())
        request.add_header("Content-Type", "application/x-tally")
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(request, context=context, timeout=120) as answer:
            return json.loads(answer.read())

    def forge(self):
        """Mallory's keys and grant, into the inbox."""
        grant = MALLORY.grant(self.made["device_id"], 1, licenses=(FOREVER,))
        return self.call("/v1/inbox", f"{MALLORY.keyset()}\n{grant}\n".encode())["results"]

    def curl(self):
        target = f"http://localhost/v1/check?feature=mqtt-client&required=1&nonce={NONCE}"
        done = subprocess.run(
            ["curl", "-sS", "--unix-socket", self.socket, target], capture_output=True, check=True, timeout=20
        )
        return done.stdout


@pytest.fixture
def attacked(tmp_path):
    """What makes one, with options of ``init``."""
    short = Path(tempfile.mkdtemp(prefix="t"))  # paths of sockets are short, those of tests are not
    open_services = []

    def make(*options):
        data = tmp_path / "device"
        who = ("--kind", "AS-P", "--name", "roof", "--host-id", "h1")
        made = run("fieldserver", "init", "--data", data, *who, *options)
        service = serving("fieldserver", "run", "--data", data, "--port", "0", "--socket", short / "s")
        told, _ = service.__enter__()
        open_services.append(service)
        return Attacked(data, told["url"], str(short / "s"), made)

    yield make
    for service in open_services:
        service.__exit__(None, None, None)
    assert not os.path.lexists(short / "s")
    shutil.rmtree(short)


def test_a_program_that_names_its_vendor_does_not_believe_another(attacked):
    site = attacked("--trust-first")
    assert [result["outcome"] for result in site.forge()] == ["applied", "applied"]
    assert site.call("/v1/checks/mqtt-client?used=1")["licensed"], "the agent itself was taken in"

    assert checks.open(site.data, root=ROOT).check("mqtt-client").code == "other-issuer"
    licenses = asking.connect(site.socket, root=ROOT, deadline_seconds=10)
    verdict = licenses.check("mqtt-client")
    licenses.close()
    assert (verdict.code, verdict.is_licensed) == ("other-issuer", False)
    said = run("fieldserver", "check", "mqtt-client", "--root", ROOT, "--data", site.data, expect=1)
    assert (said["licensed"], said["code"]) == (False, "other-issuer")
    body = site.curl()
    question = Question(feature="mqtt-client", required=1, nonce=NONCE)
    assert Reader([ROOT]).decide(question, body).code == "other-issuer"
    assert b"TRUSTED AT FIRST DELIVERY" in body


def made_in_other_languages(folder):
    """The programs of clients/c and of the pages, as a vendor builds them: each takes a socket, a root and a feature."""
    for page in ("go.md", "javascript.md"):
        write_blocks(page, folder)
    return {
        "C": [compile_c("gcc", folder / "in-c", "tallystick.c", "example/licensed.c")],
        "Go": [build_go(folder, "in-go", "check.go", "main.go")],
        "JavaScript": ["node", folder / "main.mjs"],
    }


def what_it_says(program, socket, root):
    """Asked again while the agent took longer than the program waits: how busy this machine is must not matter."""
    for _ in range(30):
        command = [*program, socket, root, "mqtt-client"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if "agent-silent" not in done.stdout:
            break
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.clients
def test_a_program_in_c_go_or_javascript_that_names_its_vendor_does_not_believe_another(attacked, tmp_path):
    programs = made_in_other_languages(tmp_path)
    site = attacked("--trust-first")
    assert [result["outcome"] for result in site.forge()] == ["applied", "applied"]
    said = {language: what_it_says(program, site.socket, ROOT) for language, program in programs.items()}
    assert {language: (code, words.rpartition(" ")[2].strip()) for language, (code, words) in said.items()} == {
        "C": (1, "other-issuer"),
        "Go": (1, "other-issuer"),
        "JavaScript": (1, "other-issuer"),
    }
    # All came that far: who names Mallory's root is licensed by Mallory.
    theirs = MALLORY.root.public.thumbprint
    taken_in = {language: what_it_says(program, site.socket, theirs)[0] for language, program in programs.items()}
    assert taken_in == dict.fromkeys(programs, 0)


def test_a_field_server_that_was_given_its_root_does_not_take_another(attacked):
    site = attacked("--root", ROOT)
    assert [result["code"] for result in site.forge()] == ["root-differs", "no-root"]
    grant = VENDOR.grant(site.made["device_id"], 1, licenses=(license_claim(features={"mqtt-client": 1}),))
    results = site.call("/v1/inbox", f"{VENDOR.keyset()}\n{grant}\n".encode())["results"]
    assert [result["outcome"] for result in results] == ["applied", "applied"]
    licenses = asking.connect(site.socket, root=ROOT, deadline_seconds=10)
    for _ in range(20):
        verdict = licenses.check("mqtt-client")
    licenses.close()
    assert verdict.is_licensed
    assert [result["code"] for result in site.forge()] == ["root-differs", "key-unknown"]


def test_wrong_passwords_of_others_do_not_lock_a_program_out(attacked):
    site = attacked("--root", ROOT)
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError):
            site.call("/v1/licenses", password="wrong")
    licenses = asking.connect(site.socket, root=ROOT, deadline_seconds=10)
    assert licenses.check("mqtt-client").code == "not-licensed"
    licenses.close()
