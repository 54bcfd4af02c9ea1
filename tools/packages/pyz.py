"""Device Administrator in one file for one system: ``python3 tallystick-admin.pyz``, or a double click.

Compiled modules cannot be imported from an archive, so it holds wheels: those for every Python in ``wheels/any``, the others
beside, in a directory for each Python. ``start.py`` unpacks what fits, once for each version of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import zipfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from packaging.requirements import Requirement

from packages import wheels

PYTHONS = ("3.11", "3.12", "3.13")
PURE = {"fonttools"}  # as quick for a report without its compiled part, which is four megabytes for each Python
DOWNLOADS = Path("build/wheels")  # checked by their hashes when they came, and kept
_ANYWHERE = ("--platform", "any", "--implementation", "py", "--abi", "none")
# What each system is called by the wheels that run on it, by Python, and by markers.
SYSTEMS = {
    "linux_x86_64": (tuple(f"{name}_x86_64" for name in ("manylinux2014", "manylinux_2_17", "manylinux_2_28")), "linux", "x86_64"),
    "linux_aarch64": (tuple(f"{name}_aarch64" for name in ("manylinux2014", "manylinux_2_17", "manylinux_2_28")), "linux", "aarch64"),
    "macos_arm64": (("macosx_11_0_arm64", "macosx_12_0_arm64", "macosx_10_9_universal2", "macosx_10_13_universal2"), "darwin", "arm64"),
    "windows_amd64": (("win_amd64",), "win32", "AMD64"),
}  # fmt: skip
FIRST_MOMENT = (1980, 1, 1, 0, 0, 0)  # of a file in a zip; the same in each build


def build(directory: Path, system: str | None) -> Path:
    """The file for a system, by default for this one. Needs the wheel in the directory, and an index for the others."""
    name = f"tallystick-{wheels.version()}"
    here = f"{'linux' if sys.platform == 'linux' else sys.platform}_{_machine()}"
    system = system or here
    if system not in SYSTEMS:
        sys.exit(f"PYZ_FOR is one of {', '.join(SYSTEMS)}, not {system}")
    made = directory / ("tallystick-admin.pyz" if system == here else f"tallystick-admin-{system}.pyz")
    places: dict[str, bytes] = {}
    by_file: dict[str, dict[str, Path]] = defaultdict(dict)
    pythons = os.environ.get("PYZ_PYTHONS", " ".join(PYTHONS)).split()
    for python in pythons:
        for file in _download(system, python):
            by_file[file.name][python] = file
    for file_name, found in by_file.items():
        for python, file in found.items():
            place = "any" if len(found) == len(pythons) else python
            places[f"wheels/{place}/{file_name}"] = file.read_bytes()
    own = directory / f"{name}-py3-none-any.whl"
    places[f"wheels/any/{own.name}"] = own.read_bytes()
    _other, platform, machine = SYSTEMS[system]
    said = {"version": wheels.version(), "pythons": pythons, "platform": platform, "machine": machine}
    places["said.json"] = json.dumps(said, indent=1).encode()
    places["__main__.py"] = (Path(__file__).with_name("start.py")).read_bytes()
    with made.open("wb") as whole:
        whole.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(whole, "w") as archive:
            for place in sorted(places):
                entry = zipfile.ZipInfo(place, FIRST_MOMENT)
                entry.compress_type = zipfile.ZIP_STORED if place.endswith(".whl") else zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, places[place])
    made.chmod(0o755)
    return made


def _download(system: str, python: str) -> list[Path]:
    """The wheels of the pins whose markers hold there; each is checked by its hash."""
    tags, platform, machine = SYSTEMS[system]
    environment = {
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_system": {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}[platform],
        "python_full_version": f"{python}.0",
        "python_version": python,
        "os_name": "nt" if platform == "win32" else "posix",
        "sys_platform": platform,
    }
    compiled = [word for tag in tags for word in ("--platform", tag)]
    lists: dict[bool, str] = {False: "", True: ""}
    for pin, hashes in wheels.read_pins(Path("requirements/administrator.txt")).items():
        if pin.marker is None or pin.marker.evaluate(environment):
            lists[pin.name in PURE] += f"{_bare(pin)} {' '.join(f'--hash={one}' for one in hashes)}\n"
    there = DOWNLOADS / f"{system}-{python}-{hashlib.sha256(repr(lists).encode()).hexdigest()[:16]}"
    if not there.exists():
        DOWNLOADS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=DOWNLOADS) as temporary:
            pins, beside = Path(temporary) / "pins.txt", Path(temporary) / "wheels"
            for is_pure, words in ((False, compiled), (True, _ANYWHERE)):
                pins.write_text(lists[is_pure], "ascii")
                pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps")
                strictly = ("--require-hashes", "--only-binary=:all:", "--python-version", python)
                wheels.run(*pip, *strictly, *words, "-d", beside, "-r", pins)
            with suppress(OSError):  # somebody else was quicker
                beside.rename(there)
    return sorted(there.glob("*.whl"))


def _bare(pin: Requirement) -> str:
    return f"{pin.name}{pin.specifier}"


def _machine() -> str:
    return os.uname().machine
