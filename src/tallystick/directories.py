"""Directories, and names in them, that outlast a power cut.

What ``fsync`` does for the bytes of a file, it does not do for its name: that is in the directory, which is synced by
itself. A directory is a name in another one, too, up to where the disk begins.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

_LINKS_MAX: Final = 40


class LedAwayError(OSError):
    """A link on a stick leads off it."""


def make_directory(path: Path) -> None:
    """Make a directory that only its owner can read, where there is none, and its name durable, and those above it.

    Also what an interrupted call before this one has left is made durable. Raises ``OSError``.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    device = path.stat().st_dev
    for above in path.absolute().parents:
        with suppress(PermissionError):  # nothing that we made is in what we cannot read; Windows has no such thing
            sync_directory(above)
        if above.stat().st_dev != device:
            return


def create_file(path: str | os.PathLike[str], *, mode: int = 0o600, directory: int | None = None) -> int:
    """A descriptor of a new, empty file, to read and write. What has its name is removed, never followed or written into.

    Whoever prepared a stick or a shared directory can put a symbolic link there that leads to a file of ours.
    ``directory``: an open one that a relative ``path`` is in. Raises ``OSError``.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):  # not everywhere
        flags |= getattr(os, name, 0)
    try:
        return os.open(path, flags, mode, dir_fd=directory)
    except FileExistsError:
        os.unlink(path, dir_fd=directory)
        return os.open(path, flags, mode, dir_fd=directory)


def check_leads_there(directory: Path) -> None:
    """Raises ``LedAwayError`` where a link on a stick or another disk of its own leads off that disk.

    Whoever prepared a stick can put a link to a directory of ours there. Links on the disk of the system, or on that of the
    home of whoever runs this, are their own, and lead where they want.
    """
    places = [Path("/")]
    with suppress(RuntimeError):  # whoever has no home
        places.append(Path.home())
    own = {place.stat().st_dev for place in places if place.exists()}
    place, parts = Path(directory.absolute().anchor), list(directory.absolute().parts[1:])
    links = 0
    while parts:
        place = place.parent if (part := parts.pop(0)) == ".." else place / part
        if not place.is_symlink():
            continue
        links += 1
        if links > _LINKS_MAX:
            raise LedAwayError(errno.ELOOP, os.strerror(errno.ELOOP), str(directory))
        target = place.parent / place.readlink()
        on = place.lstat().st_dev
        if on not in own and target.exists() and target.stat().st_dev != on:
            raise LedAwayError(errno.ELOOP, f"{place} is a link to {target}, on another disk", str(directory))
        place, parts = Path(target.anchor), [*target.parts[1:], *parts]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises ``OSError``."""
    descriptor = open_directory(path)
    if descriptor is None:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_directory(path: Path) -> int | None:
    """A descriptor of a directory, to work in it whatever becomes of its name; None where the system has none (Windows).

    Raises ``OSError``.
    """
    is_directory = getattr(os, "O_DIRECTORY", None)
    if is_directory is None:
        return None
    return os.open(path, os.O_RDONLY | is_directory | getattr(os, "O_CLOEXEC", 0))


def read_from_disk(path: Path) -> bytes:
    """What whoever plugs a stick in next would read: by its name, and, where the system lets us, not from memory."""
    with path.open("rb") as file:
        if sys.platform == "linux":
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read()
