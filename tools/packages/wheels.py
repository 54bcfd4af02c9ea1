"""Wheel and sdist, and beside them the exact versions that were tested."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

PROGRAMS = ("activation", "fieldserver", "administrator")


def run(*words: str | Path, **environment: str) -> str:
    """Ends the program, with what the other one said, where it failed."""
    done = subprocess.run(
        [str(word) for word in words], check=False, capture_output=True, text=True, env=os.environ | environment
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def version() -> str:
    """Of the project, as pyproject.toml says it."""
    found = re.search(r'^version = "([^"]+)"', Path("pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert found  # noqa: S101 - hatchling would not build either
    return found[1]


def committed_at() -> str:
    """The moment of the commit: what archives say of their files, so that each build gives the same bytes."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return os.environ["SOURCE_DATE_EPOCH"]
    return run("git", "log", "-1", "--format=%ct").strip()


def build(directory: Path) -> list[Path]:
    """Wheel, sdist, and for each program the list that installs it: ``pip install --require-hashes -r LIST``."""
    directory.mkdir(exist_ok=True)
    for kind in ("wheel", "sdist"):
        run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", directory, SOURCE_DATE_EPOCH=committed_at())
    name = f"tallystick-{version()}"
    wheel = directory / f"{name}-py3-none-any.whl"
    made = [wheel, directory / f"{name}.tar.gz"]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    for program in PROGRAMS:
        pins = Path(f"requirements/{program}.txt").read_text("ascii")
        made.append(directory / f"{name}-{program}.txt")
        made[-1].write_text(
            f"# pip install --require-hashes -r {made[-1].name}   (where this file and the wheel are)\n"
            f"{pins}./{wheel.name} \\\n    --hash=sha256:{digest}\n",
            "ascii",
        )
    made.append(directory / f"{name}-constraints.txt")
    made[-1].write_text("".join(f"{pin}\n" for pin in read_pins(Path("requirements/base.txt"))), "ascii")
    return made


def read_pins(file: Path) -> dict[Requirement, list[str]]:
    """Every package of a list of pins, with the hashes of its files."""
    found: dict[Requirement, list[str]] = {}
    hashes: list[str] = []
    for line in file.read_text("ascii").splitlines():
        if pin := re.match(r"[a-z0-9].*==[^\\]*", line):
            hashes = found[Requirement(pin[0])] = []
        elif digest := re.search(r"--hash=(\S+)", line):
            hashes.append(digest[1])
    return found
