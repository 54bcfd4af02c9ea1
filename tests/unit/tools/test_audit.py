"""tools/audit.py, with a pip-audit of our own making."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

AUDIT = Path(__file__).parents[3] / "tools" / "audit.py"
CLEAN = {"name": "good", "version": "1.0", "vulns": []}
BAD = {"name": "bad", "version": "2.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2.1"]}]}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found"}


@pytest.fixture
def audit(tmp_path):
    """Runs the audit; pip-audit writes this report (or none), this on standard error, and ends with this code."""

    def run(packages=None, *, stderr="", code=0):
        (tmp_path / "pip_audit.py").write_text(
            "import pathlib, sys\n"
            "output = next(name for name in sys.argv if name.startswith('--output=')).removeprefix('--output=')\n"
            f"report = {None if packages is None else json.dumps({'dependencies': packages})!r}\n"
            "if report is not None:\n"
            "    pathlib.Path(output).write_text(report)\n"
            f"print({stderr!r}, file=sys.stderr)\n"
            f"sys.exit({code})\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, str(AUDIT), "requirements.txt"]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)

    return run


def test_nothing_found_passes(audit):
    ran = audit([CLEAN, UNKNOWN])
    assert ran.returncode == 0
    assert "1 packages, no known vulnerability" in ran.stdout
    assert "NOT AUDITED: unknown" in ran.stdout


def test_a_finding_fails_and_is_named(audit):
    ran = audit([CLEAN, BAD], code=1)
    assert ran.returncode == 1
    assert "bad 2.0: CVE-2026-1, fixed in 2.1" in ran.stdout


@pytest.mark.parametrize("stderr", ["requests.exceptions.ConnectionError: no route", "ServiceError: Could not connect"])
def test_an_unreachable_service_is_said_loudly_and_passes(audit, stderr):
    ran = audit(stderr=stderr, code=1)
    assert ran.returncode == 0
    assert "*** NOT AUDITED" in ran.stdout


def test_a_service_that_knows_no_package_at_all_is_said_loudly_and_passes(audit):
    ran = audit([UNKNOWN])
    assert ran.returncode == 0
    assert "*** NOT AUDITED" in ran.stdout


@pytest.mark.parametrize(
    ("packages", "stderr", "said"),
    [
        ([CLEAN, UNKNOWN], "", "1 packages, no known vulnerability; 1 NOT AUDITED"),
        ([CLEAN, BAD], "", "1 known vulnerabilities"),
        ([UNKNOWN], "", "NOT AUDITED, no database"),
        (None, "ProxyError", "NOT AUDITED, no database"),
    ],
)
def test_what_it_came_to_is_kept_for_the_last_lines_of_ci(audit, tmp_path, packages, stderr, said):
    audit(packages, stderr=stderr, code=int(bool(stderr)))
    assert said in (tmp_path / "build" / "audit.txt").read_text()


def test_a_broken_audit_fails(audit):
    ran = audit(stderr="error: requirements.txt: no such file", code=1)
    assert ran.returncode == 1
    assert "no such file" in ran.stderr
