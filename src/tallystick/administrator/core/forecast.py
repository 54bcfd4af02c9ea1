"""The dry run with a route: the activation server is asked what it will decide, and nothing happens by that.

What it says is put in the place of what is guessed from here. Where it cannot be asked, or says that only the message
itself decides, the guess stays and is marked as likely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallystick.administrator.core.courier import Courier
from tallystick.administrator.core.dry_run import PredictedEffect, Prediction, end_states, foresee
from tallystick.administrator.core.goals import Activate, Goal, Return
from tallystick.administrator.memory.inventory import FieldServerRecord, KnownLine
from tallystick.administrator.ports import PortError, next_step_of
from tallystick.domain.ids import DeviceId, LineId, parse_activation_id
from tallystick.domain.rules import LINES_MAX
from tallystick.protocol.dry_run import ASKS_MAX, Ask, EndState, Foreseen, dry_run_proof
from tallystick.sentences import _

# An activation server of an earlier release knows no dry run.
_TOO_OLD: Final = frozenset({"not-found", "method-wrong"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A dry run. ``said_at``: when the activation server said so; None: ``why`` it did not, and all is likely."""

    rows: tuple[Prediction, ...]
    said_at: int | None = None
    why: str = ""


def forecast(
    courier: Courier | None,
    goals: Mapping[DeviceId, Goal],
    records: Sequence[FieldServerRecord],
    *,
    lines: Mapping[LineId, KnownLine],
    now: int,
) -> Forecast:
    """For every goal, in its order. ``courier`` None: it is known that there is no route."""
    rows = foresee(goals, records, lines=lines, now=now)
    by_issuer = _asks(goals, records, lines)
    if not by_issuer:
        return Forecast(rows=tuple(rows))
    if courier is None:
        return Forecast(rows=tuple(rows), why=_("there is no route to the activation server"))
    said: dict[DeviceId, Foreseen] = {}
    said_at, why = None, ""
    for issuer, asks in by_issuer.items():
        try:
            for begin in range(0, len(asks), ASKS_MAX):
                answer = courier.foresee(issuer, asks[begin : begin + ASKS_MAX])
                said_at = now
                said |= zip((DeviceId(ask.device_id) for ask in asks[begin:]), answer.answers, strict=False)
        except PortError as error:
            why = _("it does not know dry runs yet") if error.code in _TOO_OLD else error.said[1]
    return Forecast(rows=tuple(_with_answers(rows, said)), said_at=said_at, why=why)


def _asks(
    goals: Mapping[DeviceId, Goal], records: Sequence[FieldServerRecord], lines: Mapping[LineId, KnownLine]
) -> dict[str, list[Ask]]:
    """What can be asked, by activation server: of field servers that were seen, about lines whose activation ID is known."""
    by_id = {record.device_id: record for record in records}
    found: dict[str, list[Ask]] = {}
    for device_id, goal in goals.items():
        record = by_id.get(device_id)
        ends = {} if record is None else end_states(record, goal)
        if record is None or record.report is None or record.trouble is not None:
            continue
        issuers = {lines[line_id].issuer for line_id in ends if line_id in lines}
        if len(issuers) != 1 or len(ends) > LINES_MAX or not ends.keys() <= lines.keys():
            continue
        if not isinstance(goal, Activate | Return):
            continue  # who gives up first asks nobody
        ask = Ask(
            device_id=device_id,
            kind=record.kind,
            purpose="activate" if isinstance(goal, Activate) else "return",
            wants=tuple(
                EndState(
                    line=line_id,
                    quantity=quantity,
                    proof=dry_run_proof(parse_activation_id(lines[line_id].terms.activation_id), device_id),
                )
                for line_id, quantity in ends.items()
            ),
        )
        found.setdefault(issuers.pop(), []).append(ask)
    return found


def _with_answers(rows: Sequence[Prediction], said: Mapping[DeviceId, Foreseen]) -> Iterator[Prediction]:
    for row in rows:
        answer = said.get(row.device_id)
        if answer is None or row.line_id is None:
            yield row
        elif answer.outcome == "granted":
            yield _granted(row, answer)
        elif answer.outcome == "refused":
            yield _refused(row, answer)
        else:
            yield replace(
                row, why=_("Only its message decides: what it says has to be compared first. {why}", why=row.why)
            )


def _granted(row: Prediction, answer: Foreseen) -> Prediction:
    change = next((one for one in answer.lines if one.line == row.line_id), None)
    if change is None:
        return row
    effect = PredictedEffect.UNCHANGED
    if change.after != change.before:
        effect = PredictedEffect.GRANTED if change.after > change.before else PredictedEffect.RETURNED
    return replace(
        row, effect=effect, before=change.before, after=change.after, code=None, why="", next_step="", is_certain=True
    )


def _refused(row: Prediction, answer: Foreseen) -> Prediction:
    reason = next((one for one in answer.reasons if one.line == row.line_id), None)
    whole = next((one for one in answer.reasons if one.line is None), None)
    code = str(answer.code) if answer.code else None
    told = reason or whole
    why = _("Nothing is wrong with this line, but a request is granted as a whole or not at all.")
    if told is not None:
        code, why = told.code, _("expected {expected}; saw {seen}", expected=told.expected, seen=told.seen)
    elif not answer.reasons:
        why = _("The activation server says so of this field server.")
    else:
        code = None
    return replace(
        row,
        effect=PredictedEffect.REFUSED,
        after=row.before,
        code=code,
        why=why,
        next_step=next_step_of(code),
        is_certain=True,
    )
