"""The real disk, clock, randomness and lock, and the files of a data directory.

The only module here, with ``cli``, that asks the operating system for time or randomness. What it makes durable is
durable when it returns; what it cannot write raises ``Error`` (``disk-full``, ``disk-failed``).

A data directory holds: ``device.key`` (the seed of the device's key; whoever has it is this field server),
``vault-a`` and ``vault-b``, ``fieldserver.json``, ``tls.key`` and ``tls.pem``, ``password.scrypt`` and
``password.txt``, and ``lock``. All are readable by their owner only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from tallystick import __version__
from tallystick.directories import LedAwayError, check_leads_there, create_file, sync_directory
from tallystick.domain.text import identifies
from tallystick.errors import Error
from tallystick.fieldserver.state import Device, Trust
from tallystick.fieldserver.vault import SLOTS, refuse_disk
from tallystick.protocol import messages
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import Claims, Facts, Hash, Text, convert_claims
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import know

WALL_CLOCK: Final = time.time
MONOTONIC: Final = time.monotonic
SEED_BYTES: Final = 32

SEED_FILE: Final = "device.key"
SETTINGS_FILE: Final = "fieldserver.json"
LOCK_FILE: Final = "lock"
TLS_KEY_FILE: Final = "tls.key"
TLS_CERTIFICATE_FILE: Final = "tls.pem"
PASSWORD_FILE: Final = "password.txt"  # noqa: S105 - a name of a file
PASSWORD_HASH_FILE: Final = "password.scrypt"  # noqa: S105 - a name of a file
BEGUN_FILE: Final = "init-begun"

_PIECE_BYTES: Final = 64 * 1024
_PIECES_MAX: Final = 1024  # 64 MiB: what is read of any file
_LOCK_PAUSE_SECONDS: Final = 0.01
_LOCK_SECONDS: Final = 5.0
_sync_data = getattr(os, "fdatasync", os.fsync)


class SystemClock:
    """The wall clock of this machine."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())


class SystemRandom:
    """The operating system's randomness."""

    def bytes(self, count: int) -> bytes:
        """``count`` bytes that nobody can guess."""
        return secrets.token_bytes(count)


class FileDisk:
    """Slots as files of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def read(self, name: str) -> bytes | None:
        """All bytes of a slot, None where there is no such file."""
        try:
            return _read(self._directory / name)
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Overwrite the beginning of the file, in place: blocks that it has already are used again."""
        path = self._directory / name
        is_new = not path.exists()
        # Ours, in the data directory: never one that a link leads to.
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(file, data[done:], done)
        finally:
            os.close(file)
        if is_new:
            sync_directory(self._directory)

    def sync(self, name: str) -> None:
        """Return when the file's bytes are on the disk."""
        _sync_file(self._directory / name)


class FileLock:
    """``flock`` on one file, for processes, and a lock of this process for its threads."""

    def __init__(self, path: Path, *, seconds: float = _LOCK_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._threads = threading.Lock()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock. Raises ``Error`` (``vault-locked``) when it does not come free in time."""
        deadline = time.monotonic() + self._seconds
        if not self._threads.acquire(timeout=self._seconds):
            raise self._locked(_("another thread that writes"))
        try:
            file = self._open()
            try:
                while not _try_flock(file):
                    if time.monotonic() >= deadline:
                        raise self._locked(_("another process that writes"))
                    time.sleep(_LOCK_PAUSE_SECONDS)
                yield
            finally:
                os.close(file)  # which lets the lock go
        finally:
            self._threads.release()

    def _open(self) -> int:
        # Read-only, so that it works on a disk that became read-only; `init` made the file.
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            pass
        except OSError as error:
            refuse_disk(error, _("to open {name}", name=self._path.name))
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            refuse_disk(error, _("to make {name}", name=self._path.name))

    def _locked(self, seen: str) -> Error:
        return Error(
            "vault-locked",
            expected=_("the vault to be free within {seconds:g} seconds", seconds=self._seconds),
            seen=seen,
        )


class Settings(Claims, frozen=True):
    """``fieldserver.json``. ``host_id`` None: asked for at every start, so that a move to another host shows.

    ``root``: the fingerprint of the root that was named at init. ``trust_first``: trust at first delivery was asked for.
    Releases before there was either recorded neither.
    """

    kind: Text
    name: Text
    host_id: Text | None = None
    root: Hash | None = None
    trust_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """An initialised data directory."""

    directory: Path
    seed: bytes
    settings: Settings
    device: Device


def load_home(directory: Path) -> Home:
    """Read who this field server is. Raises ``Error`` (``not-initialised``, ``vault-damaged``, ``disk-failed``)."""
    if not (directory / SETTINGS_FILE).exists():
        raise Error(
            "not-initialised",
            expected=_("a data directory that init has made at {directory}", directory=directory),
            seen=_("none"),
        )
    settings = parse_settings(read_file(directory / SETTINGS_FILE))
    seed = read_seed(directory)
    facts = Facts(
        kind=settings.kind,
        host_id=settings.host_id or find_host_id(),
        name=settings.name,
        software=f"tallystick {__version__}",
    )
    trust = Trust.FIRST if settings.trust_first else Trust.UNRECORDED if settings.root is None else Trust.NAMED
    device = Device(key=PrivateKey(seed), facts=facts, root=settings.root, trust=trust)
    return Home(directory=directory, seed=seed, settings=settings, device=device)


def parse_settings(data: bytes, *, code: str = "vault-damaged") -> Settings:
    """``fieldserver.json``, strictly. Raises ``Error`` with ``code``."""
    try:
        return convert_claims(data, Settings)
    except WireError as error:
        raise Error(code, expected=_("kind, name and host id of 1 to 128 symbols"), seen=error.seen) from None


def encode_settings(settings: Settings) -> bytes:
    """For ``fieldserver.json``."""
    return messages.encode_claims(settings) + b"\n"


def read_seed(directory: Path) -> bytes:
    """The device's seed. Raises ``Error`` (``not-initialised``, ``vault-damaged``, ``disk-failed``)."""
    seed = read_file(directory / SEED_FILE)
    if len(seed) != SEED_BYTES:
        raise Error(
            "vault-damaged",
            expected=_("{seed_bytes} bytes in {seed_file}", seed_bytes=SEED_BYTES, seed_file=SEED_FILE),
            seen=_("{count} bytes", count=len(seed)),
        )
    return seed


def stamp_of(directory: Path) -> tuple[tuple[int, int, int], ...] | None:
    """Changes whenever the vault was written; None where there is none. Two calls of ``stat``."""
    try:
        found = [os.stat(directory / name) for name in SLOTS]  # noqa: PTH116 - half the time of Path.stat
    except OSError:
        return None
    return tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found)


def _check_leads_there(path: Path) -> None:
    try:
        check_leads_there(path.parent)
    except LedAwayError as error:
        expected = _("to write {name} where its name says", name=path.name)
        raise Error("link-leads-away", expected=expected, seen=error.strerror or str(error)) from error
    except OSError as error:
        refuse_disk(error, _("to write {name}", name=path.name))


def write_file(path: Path, data: bytes, *, is_named: bool = False) -> None:
    """Write a file durably and as one: it is there whole, or as it was. Raises ``Error`` (``disk-...``).

    ``is_named``: by a person, perhaps on a stick; then no link of it is followed off it (``link-leads-away``).
    """
    if is_named:
        _check_leads_there(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")  # two commands may write the same file at once
    try:
        file = create_file(draft)
        try:
            done = 0
            while done < len(data):
                done += os.write(file, data[done:])
            os.fsync(file)
        finally:
            os.close(file)
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        refuse_disk(error, _("to write {name}", name=path.name))


def find_host_id() -> str:
    """What tells this machine from others: from its machine id, else from its network card.

    Hashed, because a machine id is not meant to leave its machine as it is.
    """
    for path in (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id")):
        try:
            machine_id = path.read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        if identifies(machine_id):
            return hashlib.sha256(f"tallystick host\0{machine_id}".encode()).hexdigest()[:32]
    return hashlib.sha256(f"tallystick host\0{uuid.getnode():012x}".encode()).hexdigest()[:32]


def _read(path: Path) -> bytes:
    """What is in a file, up to the limit. In pieces: one read of so many bytes asks for the memory of all of them first."""
    with path.open("rb") as file:
        return b"".join(islice(iter(partial(file.read, _PIECE_BYTES), b""), _PIECES_MAX))


def read_file(path: Path) -> bytes:
    """A file of the data directory. Raises ``Error`` (``not-initialised``, ``disk-failed``)."""
    try:
        return _read(path)
    except FileNotFoundError:
        raise Error(
            "not-initialised", expected=_("{path}, which init makes", path=path.name), seen=_("no such file")
        ) from None
    except OSError as error:
        refuse_disk(error, _("to read {name}", name=path.name))


def _sync_file(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _sync_data(file)
    finally:
        os.close(file)


def _try_flock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES, errno.EINTR}:
            return False
        refuse_disk(error, _("a disk that can lock files"))
    return True


know(Settings)
