"""What is open on a field server, since when, and what a technician does next. Pure; every sentence is made here.

From what is known alone, also when nothing can be reached: what the field server said last, what waits in both
directions, and the plan. The phases, in the order in which they are looked for:

=========  =====================================================================================================
trouble    another certificate, or a wrong password: nothing can go on before that is mended
deliver    a reply waits here for the field server
prove      the field server has given rights up; the proof is not at the activation server yet, so they hang
ask        a request is on its way to the activation server
planned    what is planned differs from what it holds
receipt    all is done; a receipt waits here, to be delivered some day
silent     nothing is open, and it was not reached the last time
idle       nothing to do
=========  =====================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tallystick.administrator.memory.inventory import Assignment, FieldServerRecord
from tallystick.administrator.memory.messages import Inbound, Outbound
from tallystick.protocol.device_api import WaitingNote

PROOFS = frozenset({"confirm", "relinquish"})
CHANGING = frozenset({"activate", "return", "relinquish"})

_SYNC = "tallystick admin sync"
_EXPORT = "tallystick admin export FILE.tally"
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


class Phase(StrEnum):
    """How far the operation on a field server is; see the table above."""

    TROUBLE = "trouble"
    DELIVER = "deliver"
    PROVE = "prove"
    ASK = "ask"
    PLANNED = "planned"
    RECEIPT = "receipt"
    SILENT = "silent"
    IDLE = "idle"


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """The phase, what to do in words (empty: nothing), and since when it is open."""

    phase: Phase
    text: str = ""
    since_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """A message that no reply is known to, in the bag, on the field server, or both."""

    purpose: str
    since_at: int
    exported_at: int | None = None
    is_gathered: bool = True
    code: str | None = None


def decide_next_step(
    record: FieldServerRecord,
    *,
    outbound: Sequence[Outbound] = (),
    inbound: Sequence[Inbound] = (),
    assignments: Sequence[Assignment] = (),
    now: int,
    has_route: bool | None = None,
) -> NextStep:
    """``has_route``: whether this computer reaches the activation server; None where nobody has looked."""
    trouble = record.trouble
    if trouble is not None and trouble.code != "unreachable":
        return NextStep(phase=Phase.TROUBLE, text=f"{trouble.code}: {trouble.next_step}", since_at=trouble.at)
    replies = [reply for reply in inbound if reply.kind != "credit"]
    if replies:
        return _deliver(record, replies, now=now)
    waiting = _open_messages(record, outbound, inbound, now=now)
    proofs = [message for message in waiting if message.purpose in PROOFS]
    if proofs:
        since = min(message.since_at for message in proofs)
        what = "the confirm" if any(message.purpose == "confirm" for message in proofs) else "the proof"
        text = f"returning since {age_text(now - since)}: {_carry(what, proofs, now=now, has_route=has_route)}"
        return NextStep(phase=Phase.PROVE, text=text, since_at=since)
    if waiting:
        since = min(message.since_at for message in waiting)
        what = f"{waiting[-1].purpose} asked for {age_text(now - since)} ago"
        text = f"{what}: {_carry('the request', waiting, now=now, has_route=has_route)}"
        return NextStep(phase=Phase.ASK, text=text, since_at=since)
    differing = [one for one in assignments if record.held.get(one.line_id, 0) != one.quantity]
    if differing:
        ends = ", ".join(f"{one.line_id}={one.quantity}" for one in differing)
        return NextStep(phase=Phase.PLANNED, text=f"planned {ends}: tallystick admin activate {record.name}")
    if inbound:
        text = f"all is done; a receipt for it goes along with the next {_SYNC} that reaches it"
        return NextStep(phase=Phase.RECEIPT, text=text, since_at=inbound[0].kept_at)
    if trouble is not None:
        return NextStep(phase=Phase.SILENT, text=f"not reached: {trouble.seen}", since_at=trouble.at)
    return NextStep(phase=Phase.IDLE)


def age_text(seconds: int) -> str:
    """An age as people say it."""
    for unit, name in _UNITS:
        count = seconds // unit
        if count >= 1:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "a moment"


def _deliver(record: FieldServerRecord, replies: Sequence[Inbound], *, now: int) -> NextStep:
    since = min(reply.kept_at for reply in replies)
    refused = next((reply for reply in replies if reply.code), None)
    if refused is not None:
        text = f"the field server could not use a reply ({refused.code}): {refused.detail}"
    else:
        text = (
            f"a reply waits here since {age_text(now - since)}: go where {record.address} can be reached, then {_SYNC}"
        )
    return NextStep(phase=Phase.DELIVER, text=text, since_at=since)


def _open_messages(
    record: FieldServerRecord, outbound: Sequence[Outbound], inbound: Sequence[Inbound], *, now: int
) -> list[_Open]:
    gathered = {message.digest for message in outbound}
    told: Sequence[WaitingNote] = () if record.report is None else record.report.outbox
    answers = {reply.request for reply in inbound}
    answered = max((note.sequence for note in told if note.digest in answers), default=0)
    found = [
        _Open(
            purpose=message.purpose,
            since_at=_plausible(message.written_at, message.gathered_at),
            exported_at=message.exported_at,
            code=message.code,
        )
        for message in outbound
    ]
    return found + [
        _Open(purpose=note.purpose, since_at=_plausible(note.written_at, record.seen_at or now), is_gathered=False)
        for note in told
        if note.digest not in gathered and note.sequence > answered
    ]


def _plausible(written_at: int, known_at: int) -> int:
    """The field server's clock may be wrong; what it wrote was certainly written when we saw it."""
    return written_at if 0 < known_at - written_at <= 10 * 365 * 86_400 else known_at


def _carry(what: str, waiting: Sequence[_Open], *, now: int, has_route: bool | None) -> str:
    unread = next((message for message in waiting if message.code), None)
    if unread is not None:
        return f"the activation server could not read it ({unread.code}); ask again on the field server, then {_SYNC}"
    if not all(message.is_gathered for message in waiting):
        return f"gather {what} from the field server: {_SYNC}"
    if has_route:
        return f"carry {what} to the activation server: {_SYNC}"
    exported = [message.exported_at for message in waiting if message.exported_at is not None]
    if len(exported) == len(waiting):
        return (
            f"exported {age_text(now - max(exported))} ago: upload that file at the activation server, then "
            f"tallystick admin import REPLY.tally (lost it? {_EXPORT} writes it again)"
        )
    other = "" if has_route is False else f" (with a route to it, {_SYNC} does it)"
    return f"carry {what} to the activation server: {_EXPORT}{other}"
