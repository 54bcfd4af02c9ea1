"""The file courier: messages out to a tally file, and whatever comes back in a file sorted by what it is.

Guarantees: a file is written beside its place, synced, renamed and read back, so that a stick that is pulled out never
holds half of one under its name, and nobody is told that one is there that is not; the same messages give the same lines. What is read may be anything of any size: it is read as a
stream, every line is verified before it is kept, good lines go through beside bad ones, and a bad one is handed back
with its code. Reading the same file again changes nothing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tallystick.administrator.core.courier import Courier
from tallystick.administrator.core.ways import ADD
from tallystick.administrator.memory.inventory import Inventory
from tallystick.administrator.memory.messages import KnownReply, Mailbag, Outbound, read_message
from tallystick.administrator.ports import next_step_of
from tallystick.directories import LedAwayError, check_leads_there, create_file, open_directory, read_from_disk
from tallystick.domain.ids import DeviceId, EntitlementId
from tallystick.errors import Error
from tallystick.protocol import tallyfile
from tallystick.protocol.envelope import PublicKey, Unverified
from tallystick.protocol.keys import parse_keyset
from tallystick.protocol.messages import (
    CREDIT,
    ENTITLEMENT,
    GRANT,
    KEYS,
    REFUSAL,
    REQUEST,
    EntitlementCertificate,
    convert_claims,
)
from tallystick.protocol.problems import WireError
from tallystick.protocol.tallyfile import BadLine, GoodLine
from tallystick.sentences import _

CHUNK_BYTES: Final = 1 << 20
BATCH_LINES: Final = 500
BAD_LINES_KEPT_MAX: Final = 100
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)


class TallyFileError(Error):
    """A file could not be read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BadImport:
    """A line that could not be used, and what to do. Line 0: the file itself."""

    file: str
    line_number: int
    code: str
    detail: str
    next_step: str


@dataclass(slots=True, kw_only=True)
class ImportSummary:
    """What files brought. Counts are of lines that were good; ``fresh`` of those that were not known before."""

    keysets: int = 0
    entitlements: int = 0
    replies: int = 0
    requests: int = 0
    fresh: int = 0
    bad: int = 0

    @property
    def good(self) -> int:
        """How many lines could be used."""
        return self.keysets + self.entitlements + self.replies + self.requests


def write_export(path: Path, waiting: Sequence[Outbound], *, names: dict[DeviceId, str]) -> None:
    """Write messages to a tally file, under its name only when they are on the disk. Raises ``Error``."""
    write_durably(path, export_bytes(waiting, names=names))


def export_bytes(waiting: Sequence[Outbound], *, names: dict[DeviceId, str]) -> bytes:
    """The tally file itself."""
    comment = _header(waiting, names)
    return b"".join(tallyfile.format_file([message.compact for message in waiting], comment=comment))


def write_durably(path: Path, data: bytes, *, device: int | None = None) -> None:
    """The file is there as a whole, on the disk, and was read back from it; or nothing is there under its name.

    A stick may be pulled out at any moment: its directory is opened once and everything is done in it, so that nothing
    lands in an empty place where the stick was; and it is told when the name leads elsewhere afterwards. ``device``: the
    ``st_dev`` on which it shall be. Raises ``Error`` (``disk-failed``, ``disk-full``, ``link-leads-away``).
    """
    try:
        check_leads_there(path.parent)
        directory = open_directory(path.parent)
        try:
            there = path.parent.stat() if directory is None else os.fstat(directory)
            if device not in {None, there.st_dev}:
                raise OSError(errno.ENODEV, "it was pulled out")
            _write(path, data, directory)
        finally:
            if directory is not None:
                os.close(directory)
    except OSError as error:
        code = "disk-full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "disk-failed"
        if isinstance(error, LedAwayError):
            code = "link-leads-away"
        raise TallyFileError(
            code, expected=_("to write {path}", path=path), seen=error.strerror or str(error)
        ) from None


def _write(path: Path, data: bytes, directory: int | None) -> None:
    """Beside its place, synced, renamed, and read again. Raises ``OSError``."""
    name, beside = path.name, f".{path.name}.{os.getpid()}.part"
    if directory is None:
        name, beside = str(path), str(path.with_name(beside))
    try:
        descriptor = create_file(beside, mode=0o666, directory=directory)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, name, src_dir_fd=directory, dst_dir_fd=directory)
        if directory is not None:
            with suppress(OSError):  # some file systems of sticks cannot be asked; then nothing more is to do
                os.fsync(directory)
        if read_from_disk(path) != data:
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)
            raise OSError(errno.EIO, "what is on it now is not what was written")
    except OSError:
        with suppress(OSError):
            os.unlink(beside, dir_fd=directory)
        raise


class Import:
    """Reads files into the inventory and the mailbag.

    Afterwards ``device_ids`` are those that replies came for, ``certificates`` the entitlements that were named, and
    ``bad_lines`` the first hundred lines that were handed back.
    """

    def __init__(
        self,
        *,
        inventory: Inventory,
        mailbag: Mailbag,
        courier: Courier,
        now: int,
        left_out: Collection[str] = (),
        accounts_left_out: Collection[str] = (),
    ) -> None:
        """``left_out``: issuers whose root a person did not want; ``accounts_left_out``: the same of accounts."""
        self._left_out = set(left_out)
        self._accounts_left_out = set(accounts_left_out)
        self._left_keys: dict[str, str] = {}  # by kid, whose it is
        self._inventory = inventory
        self._mailbag = mailbag
        self._courier = courier
        self._now = now
        self._names = inventory.names()
        self.result = ImportSummary()
        self.bad_lines: list[BadImport] = []
        self.device_ids: set[DeviceId] = set()
        self.certificates: set[EntitlementId] = set()

    def read(self, path: Path) -> None:
        """One file. One that cannot be read is handed back as its line 0, so that the others are taken all the same."""
        try:
            self._read(path)
        except TallyFileError as error:
            self._hand_back(path, 0, error)

    def _read(self, path: Path) -> None:
        """Keysets first, wherever they stand, because the other lines are verified with them."""
        for line in lines_of(path):
            if isinstance(line, GoodLine) and line.envelope.typ == KEYS:
                self._take(path, line)
        batch: list[KnownReply | Outbound] = []
        for line in lines_of(path):
            if isinstance(line, BadLine):
                self._hand_back(path, line.line_number, line.error)
            elif line.envelope.typ != KEYS:
                message = self._take(path, line)
                if message is not None:
                    batch.append(message)
            if len(batch) >= BATCH_LINES:
                self._keep(batch)
                batch.clear()
        self._keep(batch)

    def _take(self, path: Path, line: GoodLine) -> KnownReply | Outbound | None:
        try:
            return self._sort(line.envelope)
        except WireError as error:
            self._hand_back(path, line.line_number, error)
            return None

    def _sort(self, envelope: Unverified) -> KnownReply | Outbound | None:
        """Keysets and certificates are kept at once; messages are returned, to be kept together."""
        self._check_wanted(envelope)
        match envelope.typ:
            case typ if typ == KEYS:
                _other, is_new = self._inventory.learn_keyset(envelope)
                self.result.keysets += 1
                self.result.fresh += is_new
            case typ if typ == ENTITLEMENT:
                known, is_new = self._inventory.add_entitlement(envelope, now=self._now)
                self.certificates.add(known.entitlement_id)
                self.result.entitlements += 1
                self.result.fresh += is_new
            case typ if typ in {GRANT, REFUSAL, CREDIT}:
                reply = self._courier.read_reply(envelope.compact)
                self._check_device(reply.device_id)
                return reply
            case typ if typ == REQUEST:
                message = read_message(envelope)
                self._check_device(message.device_id)
                return message
            case typ:
                raise WireError("kind-unexpected", expected=_("a message of Tallystick"), seen=typ[:40])
        return None

    def _check_wanted(self, envelope: Unverified) -> None:
        """What a person left out is refused by its name. Raises ``WireError``."""
        issuer = None
        if envelope.typ == KEYS and self._left_out:
            keyset = parse_keyset(envelope)
            if keyset.issuer in self._left_out:
                issuer = keyset.issuer
                self._left_keys |= {PublicKey(key.jwk.x).thumbprint: issuer for key in keyset.keys}
        issuer = issuer or self._left_keys.get(envelope.kid or "")
        if issuer is not None:
            raise WireError(
                "key-unknown",
                expected=_("a vendor whose root is trusted here"),
                seen=_("{issuer}, whose root was left out", issuer=issuer),
            )
        if envelope.typ == ENTITLEMENT and self._accounts_left_out:
            account = convert_claims(envelope.payload, EntitlementCertificate).account
            if account in self._accounts_left_out:
                raise WireError(
                    "outside-scope",
                    expected=_("an entitlement of an account that is known here"),
                    seen=_("one of {account}, which was left out", account=account),
                )

    def _check_device(self, device_id: DeviceId) -> None:
        if device_id not in self._names:
            raise WireError(
                "device-wrong",
                expected=_("a field server that is in the list here"),
                seen=_("one with device id {device_id}", device_id=device_id),
            )

    def _keep(self, batch: Sequence[KnownReply | Outbound]) -> None:
        replies = [message for message in batch if isinstance(message, KnownReply)]
        requests = [message for message in batch if isinstance(message, Outbound)]
        result = self.result
        result.fresh += self._mailbag.gather(requests, now=self._now, durable=True)
        result.fresh += self._mailbag.keep_replies(replies, now=self._now, names=self._names, durable=True)
        result.replies += len(replies)
        result.requests += len(requests)
        self.device_ids |= {reply.device_id for reply in replies}

    def _hand_back(self, path: Path, line_number: int, error: Error) -> None:
        self.result.bad += 1
        if len(self.bad_lines) < BAD_LINES_KEPT_MAX:
            self.bad_lines.append(
                BadImport(
                    file=str(path),
                    line_number=line_number,
                    code=error.code,
                    detail=error.sentence,
                    next_step=_next_step(error.code),
                )
            )


def lines_of(path: Path) -> Iterator[GoodLine | BadLine]:
    """The lines of a file, one after the other. Raises ``TallyFileError``."""
    return tallyfile.parse_chunks(_chunks(path))


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError:
        raise TallyFileError("not-found", expected=_("a file to import"), seen=_("no {path}", path=path.name)) from None
    except OSError as error:
        raise TallyFileError(
            "disk-failed", expected=_("to read {path}", path=path.name), seen=error.strerror or str(error)
        ) from None


def _next_step(code: str) -> str:
    if code == "device-wrong":
        return _("If that field server is one of yours, add it ({add}), then import this file again.", add=ADD)
    if code == "key-unknown":
        return _(
            "Import a file with the activation server's keys first (its download page, or GET /v1/keys), then this again."
        )
    return next_step_of(code)


def _header(waiting: Sequence[Outbound], names: dict[DeviceId, str]) -> str:
    issuers = sorted({message.issuer for message in waiting})
    devices = sorted({names.get(message.device_id, message.device_id[:12]) for message in waiting})
    shown = ", ".join(devices[:10]) + (f" and {len(devices) - 10} more" if len(devices) > 10 else "")
    return (
        f"Tallystick: {len(waiting)} message(s) of {len(devices)} field server(s), for the activation server "
        f"{', '.join(issuers)}.\n"
        f"From: {shown}\n"
        "1. Upload this file at the activation server. 2. Bring its reply file back.\n"
        "3. tallystick admin import REPLY.tally, where the field servers can be reached.\n"
        "It may be uploaded any number of times. Lines that begin with # are for you and are never trusted."
    )
