"""What an operation would do, before anything is sent: what would be granted, returned or refused, and why. Pure.

It decides by the rules that the activation server decides by (``domain.rules``), from what is known here: the
entitlements' certificates, what the activation server said last that is available, and what the field servers said last.
What others hold, or what a vendor has suspended since, only the activation server knows: what it was not asked
(``forecast``) is likely, and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

from tallystick.administrator.core.goals import Activate, Goal, Refresh, Return, ReturnOneCarry, Sync, TakeOutOfService
from tallystick.administrator.memory.inventory import FieldServerRecord, KnownLine
from tallystick.administrator.ports import next_step_of
from tallystick.domain.catalog import Product
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import DeviceId, LineId, parse_activation_id
from tallystick.domain.ledger import Balances
from tallystick.domain.rules import Denied, Want, decide_activation, decide_return
from tallystick.protocol.reasons import reason_text
from tallystick.sentences import N_, Sentence, _


class PredictedEffect(StrEnum):
    """What would become of one line on one field server."""

    GRANTED = "granted"
    RETURNED = "returned"
    UNCHANGED = "unchanged"
    REFUSED = "refused"
    ASKED = "asked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One line on one field server, before and after. ``line_id`` None: the field server as a whole."""

    device_id: DeviceId
    name: str
    effect: PredictedEffect
    line_id: LineId | None = None
    product: str = ""
    before: int = 0
    after: int = 0
    code: str | None = None
    why: str = ""
    next_step: str = ""
    wanted: int = 0  # the end state that is asked for; ``after`` where it is refused is what it was
    is_certain: bool = False  # the activation server said so

    @property
    def rights(self) -> int:
        """How many licenses it is about."""
        return abs((self.wanted if self.effect is PredictedEffect.REFUSED else self.after) - self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSum:
    """So many licenses on so many field servers will meet one effect."""

    effect: PredictedEffect
    rights: int
    field_servers: int
    is_certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LineStanding:
    """Where the rights of a line are, as far as that is known here, and since when."""

    line: KnownLine
    held_here: int
    returning_here: int
    departed: int = 0  # held by field servers that were removed from the list

    @property
    def elsewhere(self) -> int | None:
        """What field servers that are not in the list kept, when the activation server was asked last."""
        if self.line.available is None:
            return self.departed or None
        return max(0, self.line.terms.quantity - self.line.available - sum(self.line.held_then.values()))


_WILL: Final = {
    PredictedEffect.GRANTED: N_("will be granted"),
    PredictedEffect.RETURNED: N_("will be returned"),
    PredictedEffect.UNCHANGED: N_("will stay as it is"),
    PredictedEffect.REFUSED: N_("will be refused"),
    PredictedEffect.ASKED: N_("will be asked"),
}
_LIKELY: Final = {
    PredictedEffect.GRANTED: N_("will likely be granted"),
    PredictedEffect.RETURNED: N_("will likely be returned"),
    PredictedEffect.UNCHANGED: N_("will likely stay as it is"),
    PredictedEffect.REFUSED: N_("will likely be refused"),
    PredictedEffect.ASKED: N_("will be asked"),
}


def effect_text(row: Prediction | EffectSum) -> Sentence:
    """What will happen, or what is likely."""
    return _((_WILL if row.is_certain else _LIKELY)[row.effect])


def sums_of(rows: Sequence[Prediction]) -> list[EffectSum]:
    """Rights, not rows."""
    return [
        EffectSum(
            effect=effect,
            rights=sum(row.rights for row in rows if row.effect is effect),
            field_servers=len({row.device_id for row in rows if row.effect is effect}),
            is_certain=all(row.is_certain for row in rows if row.effect is effect),
        )
        for effect in PredictedEffect
        if any(row.effect is effect for row in rows)
    ]


def standings_of(
    about: Collection[LineId | None],
    records: Sequence[FieldServerRecord],
    *,
    lines: Mapping[LineId, KnownLine],
    proving: Collection[DeviceId],
) -> list[LineStanding]:
    """Of the lines in ``about``. ``proving``: field servers that gave up rights that are not proven yet."""
    return [
        LineStanding(
            line=line,
            held_here=sum(record.held.get(line_id, 0) for record in records),
            returning_here=sum(record.returning.get(line_id, 0) for record in records if record.device_id in proving),
        )
        for line_id, line in lines.items()
        if line_id in about
    ]


def end_states(record: FieldServerRecord, goal: Goal) -> dict[LineId, int]:
    """What a goal asks a field server to hold, as far as it names lines."""
    match goal:
        case Activate(wants=wants):
            return {want.line_id: want.quantity for want in wants}
        case Return(wants=wants):
            return dict(wants) if wants is not None else dict.fromkeys(record.held, 0)
        case ReturnOneCarry() | TakeOutOfService():
            return dict.fromkeys(record.held, 0)
        case Refresh() | Sync():
            return {}
        case _:
            assert_never(goal)


def likely_available(line: KnownLine, records: Sequence[FieldServerRecord]) -> int:
    """What was available when the activation server was asked last, less what was taken here since; else what is not held here."""
    if line.available is None:
        return max(0, line.terms.quantity - sum(record.held.get(line.line_id, 0) for record in records))
    taken = sum(
        max(0, record.held.get(line.line_id, 0) - line.held_then.get(record.device_id, 0)) for record in records
    )
    return max(0, line.available - taken)


def foresee(
    goals: Mapping[DeviceId, Goal],
    records: Sequence[FieldServerRecord],
    *,
    lines: Mapping[LineId, KnownLine],
    now: int,
) -> list[Prediction]:
    """For every goal, in its order. Several field servers that want the last license of a line do not all get it."""
    by_id = {record.device_id: record for record in records}
    left = {line_id: likely_available(line, records) for line_id, line in lines.items()}
    found: list[Prediction] = []
    for device_id, goal in goals.items():
        if device_id in by_id:
            found += _foresee_one(by_id[device_id], goal, lines=lines, left=left, now=now)
    return found


def _foresee_one(
    record: FieldServerRecord,
    goal: Goal,
    *,
    lines: Mapping[LineId, KnownLine],
    left: dict[LineId, int],
    now: int,
) -> list[Prediction]:
    trouble = record.trouble
    if trouble is not None:
        return [
            _whole(record, PredictedEffect.REFUSED, code=trouble.code, why=trouble.seen, next_step=trouble.next_step)
        ]
    if record.report is None:
        return [_whole(record, PredictedEffect.ASKED, why=_("It was not looked at yet; what it holds is not known."))]
    waiting = len(record.report.outbox)
    also = _(" {waiting} of its messages wait already and go first.", waiting=waiting) if waiting else ""
    match goal:
        case Activate(wants=wants):
            ends = {want.line_id: want.quantity for want in wants}
            return _activation(record, ends, lines=lines, left=left, now=now)
        case Return(wants=wants):
            ends = dict(wants) if wants is not None else dict.fromkeys(record.held, 0)
            return _return(record, ends, lines=lines, is_all=wants is None)
        case ReturnOneCarry():
            return _one_carry(record, lines=lines)
        case TakeOutOfService():
            return _out_of_service(record, lines=lines)
        case Refresh():
            return [
                _whole(
                    record,
                    PredictedEffect.ASKED,
                    why=_("It asks what it should hold now; nothing is given back.{also}", also=also),
                )
            ]
        case Sync():
            return [
                _whole(
                    record, PredictedEffect.ASKED, why=_("What waits is carried, in both directions.{also}", also=also)
                )
            ]
        case _:
            assert_never(goal)


def _activation(
    record: FieldServerRecord,
    ends: Mapping[LineId, int],
    *,
    lines: Mapping[LineId, KnownLine],
    left: dict[LineId, int],
    now: int,
) -> list[Prediction]:
    domain = {line_id: _domain_line(lines[line_id], left[line_id]) for line_id in ends if line_id in lines}
    wants = [Want(line_id=line_id, quantity=quantity, is_proven=True) for line_id, quantity in ends.items()]
    known = [want for want in wants if want.line_id in domain]
    decision = decide_activation(known, kind=record.kind, lines=domain, held=record.held, reserved=record.held, now=now)
    if isinstance(decision, Denied):
        return _denied(record, decision, ends, lines=lines)
    rows = []
    for line_id, quantity in ends.items():
        before = record.held.get(line_id, 0)
        if line_id in left:  # what one gives back is not there for the next before it is proven
            left[line_id] -= max(0, quantity - before)
        why = "" if line_id in domain else _("Its entitlement is not known here; the activation server decides.")
        effect = PredictedEffect.UNCHANGED if quantity == before else PredictedEffect.GRANTED
        if quantity < before:
            effect = PredictedEffect.RETURNED
        rows.append(_row(record, line_id, effect, before, quantity, lines=lines, why=why))
    return rows


def _return(
    record: FieldServerRecord, ends: Mapping[LineId, int], *, lines: Mapping[LineId, KnownLine], is_all: bool
) -> list[Prediction]:
    if not ends or (is_all and not record.held):
        return [_whole(record, PredictedEffect.UNCHANGED, why=_("It holds nothing."))]
    domain = {
        line_id: _domain_line(lines[line_id], lines[line_id].terms.quantity) for line_id in ends if line_id in lines
    }
    wants = [Want(line_id=line_id, quantity=quantity) for line_id, quantity in ends.items()]
    decision = decide_return(wants, lines=domain, held=record.held)
    if isinstance(decision, Denied):
        return _denied(record, decision, ends, lines=lines)
    return [
        _row(
            record,
            line_id,
            PredictedEffect.UNCHANGED if record.held.get(line_id, 0) == quantity else PredictedEffect.RETURNED,
            record.held.get(line_id, 0),
            quantity,
            lines=lines,
        )
        for line_id, quantity in ends.items()
    ]


def _one_carry(record: FieldServerRecord, *, lines: Mapping[LineId, KnownLine]) -> list[Prediction]:
    if record.report is None or not record.report.licenses:
        return [_whole(record, PredictedEffect.UNCHANGED, why=_("It holds nothing."))]
    barred = [license_ for license_ in record.report.licenses if not license_.one_carry]
    if barred:
        names = ", ".join(f"{license_.product} ({license_.line})" for license_ in barred)
        code = "one-carry-not-allowed"
        why = _("Its vendor does not allow that for {names}.", names=names)
        return [_whole(record, PredictedEffect.REFUSED, code=code, why=why, next_step=next_step_of(code))]
    return _return(record, dict.fromkeys(record.held, 0), lines=lines, is_all=True)


def _out_of_service(record: FieldServerRecord, *, lines: Mapping[LineId, KnownLine]) -> list[Prediction]:
    if record.report is not None and record.report.final is True:
        return [_whole(record, PredictedEffect.UNCHANGED, why=_("It is out of service already."))]
    if record.report is not None and not record.report.licenses:
        return [_whole(record, PredictedEffect.ASKED, why=_("It holds nothing, and would never take a license again."))]
    return _one_carry(record, lines=lines)


def _denied(
    record: FieldServerRecord, decision: Denied, ends: Mapping[LineId, int], *, lines: Mapping[LineId, KnownLine]
) -> list[Prediction]:
    """A message is granted whole or not at all, so lines without a fault of their own are refused with the others."""
    reasons = {reason.line: reason for reason in reversed(decision.reasons)}
    rows = []
    for line_id in ends:
        reason = reasons.get(line_id)
        before = record.held.get(line_id, 0)
        code = reason.code if reason else None
        why = (
            reason_text(reason)
            if reason
            else _("Nothing is wrong with this line, but a request is granted as a whole or not at all.")
        )
        row = _row(record, line_id, PredictedEffect.REFUSED, before, before, lines=lines, why=why)
        rows.append(replace(row, code=code, next_step=next_step_of(code), wanted=ends[line_id]))
    return rows


def _row(
    record: FieldServerRecord,
    line_id: LineId,
    effect: PredictedEffect,
    before: int,
    after: int,
    *,
    lines: Mapping[LineId, KnownLine],
    why: str = "",
) -> Prediction:
    report = record.report
    products = {} if report is None else {license_.line: license_.product for license_ in report.licenses}
    product = lines[line_id].terms.product if line_id in lines else products.get(line_id, "")
    return Prediction(
        device_id=record.device_id,
        name=record.name,
        effect=effect,
        line_id=line_id,
        product=product,
        before=before,
        after=after,
        why=why,
        wanted=after,
    )


def _whole(
    record: FieldServerRecord, effect: PredictedEffect, *, why: str, code: str | None = None, next_step: str = ""
) -> Prediction:
    return Prediction(
        device_id=record.device_id, name=record.name, effect=effect, code=code, why=why, next_step=next_step
    )


def _domain_line(known: KnownLine, available: int) -> Line:
    """The line with what is likely available of it."""
    terms = known.terms
    activation_id = parse_activation_id(terms.activation_id)
    return Line(
        line_id=known.line_id,
        entitlement_id=known.entitlement_id,
        account=known.account,
        product=Product(
            sku=terms.product,
            name=terms.name,
            kinds=frozenset(terms.kinds),
            features=dict(terms.features),
            returnable=terms.returnable,
            one_carry=terms.one_carry,
            engineering=terms.engineering,
        ),
        secret=activation_id.secret,
        expires_at=terms.expires,
        engineering=terms.engineering,
        balances=Balances(bought=terms.quantity, available=available, held=terms.quantity - available),
    )
