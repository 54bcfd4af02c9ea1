"""What a command loads before it does anything is most of its time: only what it needs."""

import json
import os
import subprocess
import sys

import pytest

from tallystick.activation.core.ports import Policy
from tallystick.activation.server import instance
from tallystick.fieldserver import platform
from tallystick.fieldserver.commissioning import commission

pytestmark = pytest.mark.slow

# Loading one of these takes longer than most commands work.
HEAVY = {
    "PIL", "alembic", "argon2", "cryptography.x509", "fastapi", "fpdf", "httpx2", "jinja2", "keyring", "prometheus_client", "pyotp",
    "rich.console", "segno", "sqlalchemy", "starlette", "uvicorn", "uvloop", "yaml", "zeroconf", "zxcvbn",
}  # fmt: skip
STORAGE = {"argon2", "pyotp", "sqlalchemy"}
API = STORAGE | {"fastapi", "starlette"}
MANAGEMENT = "tallystick.activation.http.management."
MODULES = {MANAGEMENT + name for name in ("entitlements", "field_servers", "people", "webhooks")}
SCRIPT = """
import json, sys
from tallystick.cli import main
try:
    main()
finally:
    print(*sorted(set(json.loads(%r)) & set(sys.modules)), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    there = tmp_path_factory.mktemp("there")
    instance.initialise(there / "activation", issuer="loads.test", policy=Policy(), database=None).close()
    commission(
        there / "roof",
        settings=platform.Settings(kind="AS-P", name="roof", host_id="roof-1", trust_first=True),
        clock=platform.SystemClock(),
        random=platform.SystemRandom(),
        keys=None,
    )
    return there


DATA = {"activation": "activation", "fieldserver": "roof"}


@pytest.mark.parametrize(
    ("command", "exit_code", "needed"),
    [
        ("--help", 0, {"rich.console"}),
        ("--version", 0, set()),
        ("fieldserver check smartdriver --json", 1, set()),
        ("fieldserver status --json", 0, set()),
        ("fieldserver outbox --json", 0, set()),
        ("admin servers --json", 0, {"httpx2"}),
        ("admin status --json", 0, {"httpx2"}),
        ("activation verify --json", 0, STORAGE),
        ("activation returns --json", 0, API | {MANAGEMENT + "field_servers"}),
        ("activation lines --json", 0, API | {MANAGEMENT + "entitlements"}),
        ("activation lines", 0, API | {MANAGEMENT + "entitlements"}),
        ("activation person list --json", 0, API | {MANAGEMENT + "people"}),
        ("activation webhooks list --json", 0, API | {MANAGEMENT + "webhooks"}),
    ],
)
def test_a_command_loads_what_it_needs_and_nothing_else_that_is_heavy(directories, command, exit_code, needed):
    words = command.split()
    if words[0] in DATA:
        words += ["--data", str(directories / DATA[words[0]])]
    script = SCRIPT % json.dumps(sorted(HEAVY | MODULES))
    ran = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={
            **os.environ,
            "TALLYSTICK_HOME": str(directories / "laptop"),
            "TALLYSTICK_PASSPHRASE": "a long one, for a test",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == exit_code, ran.stderr
    assert set(ran.stderr.splitlines()[-1].split()) == needed
