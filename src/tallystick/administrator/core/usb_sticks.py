"""USB sticks that are plugged in at this moment: mounted removable media that can be written to. Best effort, never raises.
Seen at work on Linux; of macOS and Windows what they say is read as they document it, and nobody has watched it yet.

``$TALLYSTICK_STICKS`` names further directories, parted as PATH is, for mounts in unusual places.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STICKS_VARIABLE: Final = "TALLYSTICK_STICKS"
_MOUNT_ROOTS: Final = ("/media/", "/run/media/", "/mnt/")
_ESCAPES: Final = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))
_FILE_SYSTEMS: Final = frozenset(
    {"vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "ext4", "ext3", "ext2", "btrfs", "hfsplus", "udf"}
)
_MACOS_LINE: Final = re.compile(r"\S+ on (?P<place>/Volumes/.+) \((?P<marks>[^()]*)\)")
_MACOS_SYSTEMS: Final = frozenset({"msdos", "exfat", "hfs", "apfs", "ntfs", "udf"})
_LETTERS: Final = "DEFGHIJKLMNOPQRSTUVWXYZ"
_REMOVABLE: Final = 2  # DRIVE_REMOVABLE of GetDriveTypeW
_SECONDS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stick:
    """Where it is, what people call it, how much room is on it, and what the system calls it (``st_dev``)."""

    path: Path
    name: str
    bytes_free: int
    device: int


def find_sticks() -> list[Stick]:
    """What is there now, by name."""
    found: dict[Path, Stick] = {}
    for path in _places():
        try:
            if path.is_dir() and os.access(path, os.W_OK):
                free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize if hasattr(os, "statvfs") else 0
                found[path] = Stick(path=path, name=path.name or str(path), bytes_free=free, device=path.stat().st_dev)
        except OSError:
            continue
    return sorted(found.values(), key=lambda stick: stick.name.casefold())


def _places() -> Iterator[Path]:
    for text in os.environ.get(STICKS_VARIABLE, "").split(os.pathsep):
        if text:
            yield Path(text)
    if sys.platform == "darwin":
        yield from parse_macos_mounts(_said_by("/sbin/mount"))
    elif sys.platform == "win32":
        import ctypes  # noqa: PLC0415 - only there

        yield from choose_windows_drives({one: ctypes.windll.kernel32.GetDriveTypeW(f"{one}:\\") for one in _LETTERS})
    else:
        yield from parse_linux_mounts(_read(Path("/proc/self/mounts")))


def parse_linux_mounts(text: str) -> Iterator[Path]:
    """The mount points of removable media in ``/proc/self/mounts``: device, place and file system, parted by spaces."""
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) < 3 or fields[2] not in _FILE_SYSTEMS:
            continue
        place = fields[1]
        for escaped, plain in _ESCAPES:
            place = place.replace(escaped, plain)
        if place.startswith(_MOUNT_ROOTS):
            yield Path(place)


def parse_macos_mounts(text: str) -> Iterator[Path]:
    """The same of what ``mount`` says there: ``/dev/disk4s1 on /Volumes/STICK (msdos, local, nodev)``."""
    for line in text.splitlines():
        found = _MACOS_LINE.fullmatch(line)
        if found is None:
            continue
        kind, *marks = (mark.strip() for mark in found["marks"].split(","))
        if kind in _MACOS_SYSTEMS and "local" in marks and not {"read-only", "nobrowse"} & set(marks):
            yield Path(found["place"])


def choose_windows_drives(kinds: Mapping[str, int]) -> Iterator[Path]:
    """The removable ones of letters with what ``GetDriveTypeW`` says of each."""
    yield from (Path(f"{letter}:\\") for letter, kind in sorted(kinds.items()) if kind == _REMOVABLE)


def _read(table: Path) -> str:
    try:
        return table.read_text("utf-8", "replace")
    except OSError:
        return ""


def _said_by(program: str) -> str:
    try:
        return subprocess.run([program], capture_output=True, timeout=_SECONDS, check=False).stdout.decode(
            "utf-8", "replace"
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
