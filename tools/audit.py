"""Looks the pinned packages up in a database of known vulnerabilities; a finding fails.

Where no database can be reached nothing was audited. That is said loudly and does not fail: a build machine without
the Internet must still be able to say whether the code is right.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SUMMARY = Path("build/audit.txt")
# What pip-audit writes on standard error when the service, not a package, is the trouble.
_UNREACHABLE = (
    "ConnectionError",
    "Could not connect",
    "Failed to establish a new connection",
    "Max retries exceeded",
    "NameResolutionError",
    "ProxyError",
    "ServiceError",
    "SSLError",
    "Temporary failure in name resolution",
    "timed out",
)


def audit(requirements: list[str]) -> int:
    """Run pip-audit over requirement files that are pinned with hashes; 0 unless it finds something or breaks."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--disable-pip", "--require-hashes"]
        command += ["--timeout=20", "--format=json", f"--output={report}"]
        command += [f"--requirement={name}" for name in requirements]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        text = report.read_text("utf-8") if report.exists() else ""
    if not text:
        if any(sign in ran.stderr for sign in _UNREACHABLE):
            return _not_audited(ran.stderr)
        print(ran.stderr, file=sys.stderr)
        return 1
    packages: list[dict[str, Any]] = json.loads(text)["dependencies"]
    skipped = [package for package in packages if "skip_reason" in package]
    found = [(package, bad) for package in packages for bad in package.get("vulns", [])]
    for package, bad in found:
        fixed = ", ".join(bad["fix_versions"]) or "no version yet"
        print(f"audit: {package['name']} {package['version']}: {bad['id']}, fixed in {fixed}")
    if found:
        _summarise(f"{len(found)} known vulnerabilities")
        return 1
    if skipped and len(skipped) == len(packages):
        return _not_audited(f"{skipped[0]['name']}: {skipped[0]['skip_reason']}")
    _summarise(f"{len(packages) - len(skipped)} packages, no known vulnerability; {len(skipped)} NOT AUDITED")
    print(f"audit: {len(packages) - len(skipped)} packages, no known vulnerability")
    for package in skipped:
        print(f"audit: NOT AUDITED: {package['name']}: {package['skip_reason']}")
    return 0


def _summarise(text: str) -> None:
    """What the last line of `make ci` says, long after the lines of the audit itself."""
    SUMMARY.parent.mkdir(exist_ok=True)
    SUMMARY.write_text(f"{text}\n", "utf-8")


def _not_audited(why: str) -> int:
    _summarise("NOT AUDITED, no database of known vulnerabilities could be reached")
    last = why.strip().splitlines()[-1] if why.strip() else "no answer"
    print("*" * 100)
    print("*** NOT AUDITED: the database of known vulnerabilities could not be reached from this machine.")
    print(f"*** {last[:200]}")
    print("*** Run `make audit` again where it can be reached.")
    print("*" * 100)
    return 0


if __name__ == "__main__":
    sys.exit(audit(sys.argv[1:]))
