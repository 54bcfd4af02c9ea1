"""QR codes that people read: kept for each of them until the transfer is whole, then delivered like a file.

Guarantees: a code that was kept is there after the browser was closed; nobody sees another's; what is kept is bounded;
frames that contradict each other are not mixed. What a whole transfer says goes the way of every upload, see ``delivery``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.activation.core import exchanges
from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services import messages
from tallystick.activation.services.base import Office, OfficeError, not_found
from tallystick.activation.services.schemas import ReplyDocument
from tallystick.activation.storage import SqlTransaction
from tallystick.errors import Error
from tallystick.protocol.frames import Frame, Gathering
from tallystick.protocol.tallyfile import parse_chunks
from tallystick.sentences import _

TRANSFERS_MAX: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """One message of a transfer. ``answer`` is None where it was not taken; ``code`` says why it cannot be."""

    line_number: int
    device_name: str
    purpose: str
    code: str | None
    answer: ReplyDocument | None


def keep(office: Office, caller: Caller, frames: Sequence[Frame]) -> list[tuple[Frame, Error]]:
    """Keep frames, of any transfers; those that cannot be kept come back (``frame-contradicts``, ``frames-too-many``)."""

    def work(transaction: SqlTransaction, now: int) -> list[tuple[Frame, Error]]:
        table, refused = transaction.frames, []
        table.lock(caller.subject)
        table.forget_old(now=now)
        kept = {gathering.transfer: gathering for gathering, _other in table.load(caller.subject)}
        for frame in frames:
            try:
                if frame.transfer not in kept:
                    if len(kept) >= TRANSFERS_MAX:
                        table.forget(caller.subject, _without_oldest(kept))
                    kept[frame.transfer] = Gathering(frame.transfer, frame.count, {})
                if kept[frame.transfer].add(frame):
                    table.save(caller.subject, frame, now=now)
            except Error as error:
                refused.append((frame, error))
        return refused

    return office.change(caller, Permission.DELIVER, work)


def transfers(office: Office, caller: Caller) -> list[tuple[Gathering, int]]:
    """The caller's transfers and when (Unix seconds) the last code of each was read, the newest first."""
    return office.read(caller, Permission.DELIVER, lambda transaction: transaction.frames.load(caller.subject))


def content(office: Office, caller: Caller, transfer: str) -> bytes:
    """The tally file of a whole transfer. Raises ``Error`` (``not-found``, ``frames-missing``, ``frames-differ``)."""
    for gathering, _other in transfers(office, caller):
        if gathering.transfer == transfer:
            return gathering.content()
    raise not_found(_("a transfer of which you read codes here"), transfer)


def forget(office: Office, caller: Caller, transfer: str) -> None:
    """Let go of one."""
    office.change(
        caller, Permission.DELIVER, lambda transaction, _other: transaction.frames.forget(caller.subject, transfer)
    )


def brought(office: Office, caller: Caller, file: bytes) -> list[Brought]:
    """What a tally file holds and what became of each message, as far as it was taken; nothing is delivered here."""
    found: list[Brought] = []
    for chunk in exchanges.chunks(parse_chunks([file])):
        for line in exchanges.read_lines(chunk, office.signer.keyset):
            request = line.message.request if line.message else None
            found.append(
                Brought(
                    line_number=line.line_number,
                    device_name=request.facts.name if request else "",
                    purpose=request.purpose if request else "",
                    code=line.error.code if line.error else None,
                    answer=_answer(office, caller, line.digest) if line.digest else None,
                )
            )
    return found


def _answer(office: Office, caller: Caller, digest: str) -> ReplyDocument | None:
    try:
        return messages.load_reply(office, caller, digest)
    except OfficeError:
        return None


def _without_oldest(kept: dict[str, Gathering]) -> str:
    """Take the oldest whole transfer out: it was delivered. Raises ``Error`` (``frames-too-many``) where all are open."""
    gone = next((one.transfer for one in reversed(kept.values()) if one.is_whole), None)
    if gone is None:
        raise OfficeError(
            "frames-too-many",
            expected=_("at most {transfers_max} transfers at a time", transfers_max=TRANSFERS_MAX),
            seen=_("one more"),
        )
    del kept[gone]
    return gone
