"""Files that are there whole or not at all, even when the power goes.

Written beside their place, synced, then renamed; the directory is synced, too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from tallystick.directories import LedAwayError, check_leads_there, sync_directory
from tallystick.errors import Error
from tallystick.sentences import _

EXAMPLE_CATALOG: Final = Path(__file__).with_name("example-catalog.yaml")


class FileError(Error):
    """A file could not be read or written."""


def save_file(path: Path, chunks: Iterable[bytes], *, mode: int = 0o644) -> None:
    """Write ``path`` whole. What was there before stays until the new file is complete. Raises ``FileError``."""
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            draft = Path(file.name)
            try:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
                draft.replace(path)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        sync_directory(path.parent)
    except OSError as error:
        raise file_fault(path, error) from error


def check_named(path: Path) -> None:
    """A place that a person named: on a stick, no link of it is followed off it. Raises ``FileError``."""
    try:
        check_leads_there(path.parent)
    except OSError as error:
        raise file_fault(path, error) from error


def save_named_file(path: Path, chunks: Iterable[bytes], *, mode: int = 0o644) -> None:
    """The same as ``save_file`` in such a place. Raises ``FileError``."""
    check_named(path)
    save_file(path, chunks, mode=mode)


def remove_drafts(directory: Path, names: Iterable[str]) -> None:
    """Remove what a ``save_file`` of these names that was interrupted has left in a directory. Raises ``FileError``."""
    for name in names:
        for draft in directory.glob(f".{name}.*"):
            try:
                draft.unlink(missing_ok=True)
            except OSError as error:
                raise file_fault(draft, error) from error


def load_file(path: Path, *, bytes_max: int) -> bytes:
    """A small file. Raises ``FileError``."""
    try:
        with path.open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise file_fault(path, error) from error
    if len(data) > bytes_max:
        raise FileError(
            "body-too-large",
            expected=_("{path} with at most {bytes_max} bytes", path=path, bytes_max=bytes_max),
            seen=_("more"),
        )
    return data


def file_fault(path: Path, error: OSError) -> FileError:
    """What to call an error of the operating system about ``path``."""
    seen = error.strerror or str(error)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return FileError("disk-full", expected=_("room for {path}", path=path), seen=seen)
        case _ if isinstance(error, LedAwayError):
            return FileError("link-leads-away", expected=_("{path} where its name says", path=path), seen=seen)
        case errno.ENOENT | errno.ENOTDIR | errno.EISDIR:
            return FileError("not-found", expected=_("the file {path}", path=path), seen=seen)
        case _:
            return FileError("disk-failed", expected=_("{path} to be readable and writable", path=path), seen=seen)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep a second process that asks for the same waiting. Raises ``FileError``."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise file_fault(directory, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
