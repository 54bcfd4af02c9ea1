"""USB sticks that are plugged in at this moment: mounted removable media that can be written to. Best effort, never raises.

``$TALLYSTICK_STICKS`` names further directories, parted as PATH is, for mounts in unusual places.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STICKS_VARIABLE: Final = "TALLYSTICK_STICKS"
_MOUNT_ROOTS: Final = ("/media/", "/run/media/", "/mnt/")
_ESCAPES: Final = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))
_FILE_SYSTEMS: Final = frozenset(
    {"vfat", "exfat", "ntfs", "ntfs3", "fuseblk", "ext4", "ext3", "ext2", "btrfs", "hfsplus", "udf"}
)
_REMOVABLE: Final = 2  # DRIVE_REMOVABLE of GetDriveTypeW


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
        yield from _children(Path("/Volumes"))
    elif sys.platform == "win32":
        import ctypes  # noqa: PLC0415 - only there

        for letter in "DEFGHIJKLMNOPQRSTUVWXYZ":
            if ctypes.windll.kernel32.GetDriveTypeW(f"{letter}:\\") == _REMOVABLE:
                yield Path(f"{letter}:\\")
    else:
        yield from _linux_mounts(Path("/proc/self/mounts"))


def _children(root: Path) -> Iterator[Path]:
    try:
        yield from (path for path in root.iterdir() if not path.is_symlink())
    except OSError:
        return


def _linux_mounts(table: Path) -> Iterator[Path]:
    try:
        text = table.read_text("utf-8", "replace")
    except OSError:
        return
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) < 3 or fields[2] not in _FILE_SYSTEMS:
            continue
        place = fields[1]
        for escaped, plain in _ESCAPES:
            place = place.replace(escaped, plain)
        if place.startswith(_MOUNT_ROOTS):
            yield Path(place)
