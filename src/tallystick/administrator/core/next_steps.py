"""What is open on a field server, since when, and what a technician does next, as an action with values. Pure.

``step_sentence`` words it: a shell reads commands, a page names its buttons.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tallystick.administrator.core.ways import EXPORT, SYNC, TAKE_IN, activate
from tallystick.administrator.memory.inventory import Assignment, FieldServerRecord
from tallystick.administrator.memory.messages import Inbound, Outbound
from tallystick.protocol.device_api import WaitingNote
from tallystick.sentences import N_, Sentence, _, _n

PROOFS = frozenset({"confirm", "relinquish"})
CHANGING = frozenset({"activate", "return", "relinquish"})


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


class Action(StrEnum):
    """What to do about it."""

    NOTHING = "nothing"
    MEND = "mend"
    REACH = "reach"
    DELIVER = "deliver"
    ASK_FOR_REPLY = "ask-for-reply"  # the field server could not use the one that was delivered
    ASK_AGAIN = "ask-again"  # the activation server could not read the message
    GATHER = "gather"
    CARRY = "carry"  # there is a route
    EXPORT = "export"  # there is none
    EXPORT_OR_CARRY = "export-or-carry"  # nobody has looked
    UPLOAD = "upload"  # it was exported
    ACTIVATE = "activate"
    KEEP = "keep"


_WORDS: Final[Mapping[Action, str]] = {
    Action.MEND: N_("{code}: {next_step}"),
    Action.REACH: N_("not reached: {seen}"),
    Action.DELIVER: N_("a reply waits here since {age}: go where {address} can be reached, then {sync}"),
    Action.ASK_FOR_REPLY: N_("the field server could not use a reply ({code}): {detail}"),
    Action.ASK_AGAIN: N_(
        "{what}: the activation server could not read it ({code}); ask again on the field server, then {sync}"
    ),
    Action.GATHER: N_("{what}: gather {message} from the field server: {sync}"),
    Action.CARRY: N_("{what}: carry {message} to the activation server: {sync}"),
    Action.EXPORT: N_("{what}: carry {message} to the activation server: {export}"),
    Action.EXPORT_OR_CARRY: N_(
        "{what}: carry {message} to the activation server: {export} (with a route to it, {sync} does it)"
    ),
    Action.UPLOAD: N_(
        "{what}: exported {exported} ago: upload that file at the activation server, then {take_in} "
        "(lost it? {export} writes it again)"
    ),
    Action.ACTIVATE: N_("planned {ends}: {activate}"),
    Action.KEEP: N_("all is done; a receipt for it goes along with the next {sync} that reaches it"),
}
_MESSAGES: Final = {"confirm": N_("the confirm"), "relinquish": N_("the proof")}


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """The phase, what to do with the values that it needs, and since when it is open."""

    phase: Phase
    action: Action = Action.NOTHING
    since_at: int | None = None
    values: Mapping[str, str | int] = field(default_factory=dict)


def step_sentence(step: NextStep) -> str:
    """What to do in words, for each reader in theirs; empty where there is nothing to do."""
    if step.action is Action.NOTHING:
        return ""
    values: dict[str, object] = dict(step.values)
    for name in ("age_seconds", "exported_seconds"):
        if name in values:
            values[name.removesuffix("_seconds")] = age_sentence(int(step.values[name]))
    if step.phase is Phase.PROVE:
        values["what"] = _("returning since {age}", age=values["age"])
    elif step.phase is Phase.ASK:
        values["what"] = _("{purpose} asked for {age} ago", purpose=values["purpose"], age=values["age"])
    message = _MESSAGES.get(str(values.get("purpose")), N_("the request"))
    values |= {"message": _(message), "sync": SYNC, "export": EXPORT, "take_in": TAKE_IN}
    values["activate"] = activate(str(values.get("name")))
    text = _WORDS[step.action]
    return _(text, **{name: value for name, value in values.items() if f"{{{name}}}" in text})


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
        values: dict[str, str | int] = {"code": trouble.code, "next_step": trouble.next_step}
        return NextStep(phase=Phase.TROUBLE, action=Action.MEND, values=values, since_at=trouble.at)
    replies = [reply for reply in inbound if reply.kind != "credit"]
    if replies:
        return _deliver(record, replies, now=now)
    waiting = _open_messages(record, outbound, inbound, now=now)
    proofs = [message for message in waiting if message.purpose in PROOFS]
    if proofs:
        purpose = "confirm" if any(message.purpose == "confirm" for message in proofs) else "relinquish"
        return _carry(Phase.PROVE, purpose, proofs, now=now, has_route=has_route)
    if waiting:
        return _carry(Phase.ASK, waiting[-1].purpose, waiting, now=now, has_route=has_route)
    differing = [one for one in assignments if record.held.get(one.line_id, 0) != one.quantity]
    if differing:
        ends = ", ".join(f"{one.line_id}={one.quantity}" for one in differing)
        return NextStep(phase=Phase.PLANNED, action=Action.ACTIVATE, values={"ends": ends, "name": record.name})
    if inbound:
        return NextStep(phase=Phase.RECEIPT, action=Action.KEEP, since_at=inbound[0].kept_at)
    if trouble is not None:
        return NextStep(phase=Phase.SILENT, action=Action.REACH, values={"seen": trouble.seen}, since_at=trouble.at)
    return NextStep(phase=Phase.IDLE)


def age_sentence(seconds: int) -> Sentence:
    """An age as people say it."""
    if seconds >= 86_400:
        return _n("{count} day", "{count} days", count=seconds // 86_400)
    if seconds >= 3_600:
        return _n("{count} hour", "{count} hours", count=seconds // 3_600)
    if seconds >= 60:
        return _n("{count} minute", "{count} minutes", count=seconds // 60)
    return _("a moment")


def _deliver(record: FieldServerRecord, replies: Sequence[Inbound], *, now: int) -> NextStep:
    since = min(reply.kept_at for reply in replies)
    refused = next((reply for reply in replies if reply.code), None)
    if refused is not None:
        values: dict[str, str | int] = {"code": refused.code or "", "detail": refused.detail}
        return NextStep(phase=Phase.DELIVER, action=Action.ASK_FOR_REPLY, values=values, since_at=since)
    values = {"age_seconds": now - since, "address": record.address}
    return NextStep(phase=Phase.DELIVER, action=Action.DELIVER, values=values, since_at=since)


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


def _carry(phase: Phase, purpose: str, waiting: Sequence[_Open], *, now: int, has_route: bool | None) -> NextStep:
    since = min(message.since_at for message in waiting)
    values: dict[str, str | int] = {"purpose": purpose, "age_seconds": now - since}
    unread = next((message.code for message in waiting if message.code), None)
    exported = [message.exported_at for message in waiting if message.exported_at is not None]
    if unread is not None:
        action = Action.ASK_AGAIN
        values["code"] = unread
    elif not all(message.is_gathered for message in waiting):
        action = Action.GATHER
    elif has_route:
        action = Action.CARRY
    elif len(exported) == len(waiting):
        action = Action.UPLOAD
        values["exported_seconds"] = now - max(exported)
    else:
        action = Action.EXPORT if has_route is False else Action.EXPORT_OR_CARRY
    return NextStep(phase=phase, action=action, values=values, since_at=since)
