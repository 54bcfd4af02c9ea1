"""Backup and restore of a data directory: one file with the database, the keyset and the settings; keys only if asked.

A backup is taken while the server serves: SQLite's own copy sees one commit and nothing of the next. On PostgreSQL the
database is backed up with PostgreSQL's tools, and the file holds the rest. A restore never leaves a database in place
that was not announced as an old backup (protocol, section 9): it is announced under another name first, then renamed,
and the settings, which make a directory usable, come last.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Never

from tallystick import __version__
from tallystick.activation.core import interventions
from tallystick.activation.files import check_named, file_fault, load_file, save_file, save_named_file
from tallystick.activation.keys import sealing, signing
from tallystick.activation.keys.signing import KEYS_DIRECTORY, KEYSET_FILE, SIGNING_FILE
from tallystick.activation.settings import SETTINGS_FILE, read_document, without_secrets
from tallystick.activation.storage import open_store
from tallystick.directories import create_file, make_directory
from tallystick.errors import Error
from tallystick.protocol.keys import Keyset
from tallystick.sentences import _

MANIFEST: Final = "manifest.json"
DATABASE_NAME: Final = "tallystick.sqlite"
_FORMAT: Final = 1
_MARK: Final = ".restoring"  # says which database a restore has put in place, until the settings are there
_SMALL_BYTES_MAX: Final = 1024 * 1024
_PIECE_BYTES: Final = 1024 * 1024
_KEY_NAME: Final = f"{KEYS_DIRECTORY}/{SIGNING_FILE}"
_SEALED_NAME: Final = f"{_KEY_NAME}.sealed"
_SMALL: Final = (KEYSET_FILE, SETTINGS_FILE, _KEY_NAME, _SEALED_NAME)  # a bare key is in older backups only


class BackupError(Error):
    """A backup that cannot be made or used (``backup-wrong``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What is in a backup."""

    issuer: str
    keyset_version: int
    made_at: int
    has_database: bool
    has_keys: bool
    left_out: tuple[str, ...] = ()  # secrets of the settings: set them again before serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did."""

    backup: Backup
    frozen_lines: int
    field_servers: int


def make_backup(
    data: Path,
    output: Path,
    *,
    database: Path | None,
    passphrase: str | None,
    random_bytes: Callable[[int], bytes],
    now: int,
) -> Backup:
    """Write ``output``. Raises ``Error``.

    ``database``: the SQLite file; None: it is elsewhere and not part of it. ``passphrase``: the signing key is in it,
    too, sealed; None: it is not.
    """
    keyset = signing.load_keyset(data)
    small = {KEYSET_FILE: load_file(data / KEYSET_FILE, bytes_max=_SMALL_BYTES_MAX)}
    public, left_out = without_secrets(read_document(data))
    small[SETTINGS_FILE] = public.encode() if public else load_file(data / SETTINGS_FILE, bytes_max=_SMALL_BYTES_MAX)
    if passphrase is not None:
        key = load_file(data / _KEY_NAME, bytes_max=_SMALL_BYTES_MAX)
        small[_SEALED_NAME] = sealing.seal(key, passphrase, place=_KEY_NAME, random_bytes=random_bytes)
    backup = Backup(
        issuer=keyset.issuer,
        keyset_version=keyset.version,
        made_at=now,
        has_database=database is not None,
        has_keys=passphrase is not None,
        left_out=tuple(left_out),
    )
    check_named(output)  # the copies beside it, too
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=output.absolute().parent) as scratch:
        files: dict[str, bytes | Path] = dict(small)
        if database is not None:
            files[DATABASE_NAME] = _copy_sqlite(database, Path(scratch) / DATABASE_NAME)
        archive = Path(scratch) / "archive"
        _write_archive(archive, files, backup)
        save_named_file(output, _pieces(archive), mode=0o600)
    return backup


def restore_backup(source: Path, data: Path, *, database: Path, passphrase: Callable[[], str], now: int) -> Restored:
    """Put a backup into a directory that has no settings and no database, announced as what it is. Raises ``Error``.

    ``passphrase`` is asked when the backup has a sealed key; with a wrong one nothing is put in place. One that was
    interrupted before the settings, without which nothing opens the database, can be run again.
    """
    mark, place = data / _MARK, str(database.absolute()).encode()
    is_interrupted = mark.exists() and load_file(mark, bytes_max=_SMALL_BYTES_MAX) == place
    for taken in (data / SETTINGS_FILE, database):
        if taken.exists() and not (is_interrupted and taken == database):
            raise BackupError(
                "already-initialised", expected=_("a directory without a database in use"), seen=str(taken)
            )
    try:
        make_directory(data)
        draft = data / ".restoring.sqlite"
        for name in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-use"))):
            name.unlink(missing_ok=True)
        backup, small = _read_archive(source, draft)
        sealed = small.pop(_SEALED_NAME, None)
        if sealed is not None:
            try:
                small[_KEY_NAME] = sealing.unseal(sealed, passphrase(), place=_KEY_NAME)
            except BaseException:
                draft.unlink(missing_ok=True)
                raise
        _place_keys(data, small)
        keyset = signing.load_keyset(data)
        lines = field_servers = 0
        if backup.has_database:
            lines, field_servers = _announce(draft, keyset, now=now)
            save_file(mark, [place], mode=0o600)
            draft.replace(database)
        save_file(data / SETTINGS_FILE, [small[SETTINGS_FILE]], mode=0o600)
        mark.unlink(missing_ok=True)
    except OSError as error:
        raise file_fault(data, error) from error
    return Restored(backup=backup, frozen_lines=lines, field_servers=field_servers)


class _KeysetOnly:
    """A signer for what signs nothing: a restore is announced without the signing key."""

    def __init__(self, keyset: Keyset) -> None:
        self.keyset = keyset

    def sign(self, typ: str, payload: bytes) -> Never:
        """Nothing of a restore is signed."""
        raise BackupError(
            "keys-unusable",
            expected=_("nothing to sign"),
            seen=_("{typ} of {count} bytes", typ=typ, count=len(payload)),
        )


def _announce(draft: Path, keyset: Keyset, *, now: int) -> tuple[int, int]:
    store = open_store(f"sqlite:///{draft.absolute()}", service=True)
    try:
        found = store.transact(
            lambda transaction: interventions.announce_restore(transaction, _KeysetOnly(keyset), now=now)
        )
    finally:
        store.close()
        draft.with_name(draft.name + "-use").unlink(missing_ok=True)
    with closing(sqlite3.connect(draft)) as connection:  # everything into the one file that is renamed
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return found


def _copy_sqlite(source: Path, target: Path) -> Path:
    if not source.exists():
        raise BackupError(
            "database-missing", expected=_("the database that init has made"), seen=_("no {source}", source=source)
        )
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as before,
            closing(sqlite3.connect(target)) as after,
        ):
            before.backup(after)
            after.execute("PRAGMA journal_mode = DELETE")
            (state,) = after.execute("PRAGMA quick_check").fetchone()
    except sqlite3.Error as error:
        raise BackupError(
            "database-damaged", expected=_("{source} to be copied whole", source=source), seen=str(error)
        ) from error
    if state != "ok":
        raise BackupError("database-damaged", expected=_("a whole copy"), seen=str(state)[:100])
    return target


def _write_archive(path: Path, files: dict[str, bytes | Path], backup: Backup) -> None:
    digests = {}
    for name, content in files.items():
        digest = hashlib.sha256()
        for piece in [content] if isinstance(content, bytes) else _pieces(content):
            digest.update(piece)
        digests[name] = digest.hexdigest()
    manifest = {
        "format": _FORMAT,
        "version": __version__,
        "issuer": backup.issuer,
        "keyset_version": backup.keyset_version,
        "made_at": backup.made_at,
        "left_out": list(backup.left_out),
        "files": digests,
    }
    with os.fdopen(create_file(path), "wb") as out, tarfile.open(fileobj=out, mode="w:gz", compresslevel=3) as archive:
        for name, content in {MANIFEST: json.dumps(manifest, indent=2).encode(), **files}.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = 0o600, backup.made_at
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.size = content.stat().st_size
                with content.open("rb") as file:
                    archive.addfile(entry, file)


def _read_archive(source: Path, draft: Path) -> tuple[Backup, dict[str, bytes]]:
    """Only names that a backup has are looked at; nothing is unpacked to where the archive says."""
    small: dict[str, bytes] = {}
    seen: dict[str, str] = {}
    try:
        with tarfile.open(source, "r:gz") as archive:
            for entry in archive:
                stream = archive.extractfile(entry) if entry.isreg() else None
                if stream is None or entry.name in seen or entry.name not in {MANIFEST, DATABASE_NAME, *_SMALL}:
                    _refuse(_("only files of a backup, found {entry!r}", entry=entry.name[:60]))
                if entry.name == DATABASE_NAME:
                    seen[entry.name] = _save_stream(stream, draft)
                    continue
                if entry.size > _SMALL_BYTES_MAX:
                    _refuse(_("{entry} is too large", entry=entry.name))
                small[entry.name] = stream.read()
                seen[entry.name] = hashlib.sha256(small[entry.name]).hexdigest()
        manifest: dict[str, Any] = json.loads(small.pop(MANIFEST))
        listed = dict(manifest["files"])
        backup = Backup(
            issuer=str(manifest["issuer"]),
            keyset_version=int(manifest["keyset_version"]),
            made_at=int(manifest["made_at"]),
            has_database=DATABASE_NAME in listed,
            has_keys=bool({_KEY_NAME, _SEALED_NAME} & listed.keys()),
            left_out=tuple(map(str, manifest.get("left_out", ()))),
        )
    except FileNotFoundError:
        raise BackupError("not-found", expected=_("a backup"), seen=_("no {source}", source=source)) from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, OSError) as error:
        _refuse(str(error)[:150] or type(error).__name__)
    del seen[MANIFEST]
    if manifest["format"] != _FORMAT or seen != listed or not {KEYSET_FILE, SETTINGS_FILE} <= seen.keys():
        _refuse(_("files that differ from its manifest"))
    return backup, small


def _save_stream(stream: IO[bytes], path: Path) -> str:
    digest = hashlib.sha256()
    descriptor = create_file(path)
    with os.fdopen(descriptor, "wb") as file:
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _place_keys(data: Path, small: dict[str, bytes]) -> None:
    """A keyset that is there and newer stays: field servers may have it already."""
    path = data / KEYSET_FILE
    if not path.exists():
        save_file(path, [small[KEYSET_FILE]])
    if _KEY_NAME in small and not (data / _KEY_NAME).exists():
        make_directory(data / KEYS_DIRECTORY)
        save_file(data / _KEY_NAME, [small[_KEY_NAME]], mode=0o600)


def _pieces(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise file_fault(path, error) from error


def _refuse(seen: str) -> Never:
    raise BackupError("backup-wrong", expected=_("a backup as `activation backup` writes it, whole"), seen=seen)
