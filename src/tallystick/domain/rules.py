"""May this be granted? Decisions over end states, whole or not at all, with a reason per line (protocol, section 7).

Pure: what a decision needs is passed in. It leaves bookings to the bookkeeping and signatures to the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from tallystick.domain.entitlement import Line
from tallystick.domain.ids import LineId
from tallystick.domain.text import is_among
from tallystick.structs import know

LINES_MAX: Final = 50  # lines of one grant
RESERVED_LINES_MAX: Final = (
    2 * LINES_MAX
)  # lines kept for one field server, proven or not: what one credit has room for


class Reason(Struct, frozen=True):
    """Why a line, or (``line`` None) the whole message, was denied. ``protocol.reasons`` makes the sentence."""

    code: str
    line: LineId | None = None
    values: dict[str, int | str | tuple[str, ...]] = {}


class Granted(Struct, frozen=True, kw_only=True):
    """The complete set to hold from now on (lines at zero left out)."""

    quantities: Mapping[LineId, int]


class Denied(Struct, frozen=True, kw_only=True):
    """Nothing changes. There is at least one reason."""

    reasons: tuple[Reason, ...]


class Want(Struct, frozen=True, kw_only=True):
    """An end state for one line. ``is_proven``: the activation secret was proven; never needed to give up rights."""

    line_id: LineId
    quantity: int
    is_proven: bool = False


def decide_activation(
    wants: Sequence[Want],
    *,
    kind: str,
    lines: Mapping[LineId, Line],
    held: Mapping[LineId, int],
    reserved: Mapping[LineId, int],
    now: int,
    takes_back: bool = False,
) -> Granted | Denied:
    """Set the wanted end states, leave other lines as they are, or deny with every reason at once.

    ``held`` is the newest grant's quantity and ``reserved`` the maximum that the line already keeps for this field
    server: only what exceeds the reservation must be available. A lower end state gives back, as a return does;
    ``takes_back``: the vendor does, whatever it is sold with.
    """
    reasons = _duplicates(wants)
    for want in wants:
        line = lines.get(want.line_id)
        if line is None or not want.is_proven:
            reasons.append(Reason("activation-id-wrong", want.line_id))
            continue
        growth = want.quantity - reserved.get(want.line_id, 0)
        if want.quantity > held.get(want.line_id, 0):
            reasons.extend(_against_growth(line, kind=kind, growth=growth, now=now))
        elif not takes_back:
            reasons.extend(_against_return(line, want, held))
    return _result(reasons, wants, held)


def decide_return(
    wants: Sequence[Want], *, lines: Mapping[LineId, Line], held: Mapping[LineId, int], return_all: bool = False
) -> Granted | Denied:
    """Lower the wanted lines, or with ``return_all`` everything, or deny with every reason at once."""
    if return_all:
        wants = [Want(line_id=line_id, quantity=0) for line_id in held]
    reasons = _duplicates(wants)
    for want in wants:
        line = lines.get(want.line_id)
        have = held.get(want.line_id, 0)
        if want.quantity > have:
            reasons.append(Reason("return-raises", want.line_id, {"held": have, "wanted": want.quantity}))
        elif line is not None:
            reasons.extend(_against_return(line, want, held))
    return _result(reasons, wants, held)


def decide_change(
    wants: Sequence[Want],
    *,
    kind: str,
    lines: Mapping[LineId, Line],
    held: Mapping[LineId, int],
    reserved: Mapping[LineId, int],
    now: int,
    takes_back: bool,
) -> Granted | Denied:
    """A person at the activation server sets end states: no proof is needed. ``takes_back``: it is one of the vendor's."""
    proven = [Want(line_id=want.line_id, quantity=want.quantity, is_proven=True) for want in wants]
    return decide_activation(
        proven, kind=kind, lines=lines, held=held, reserved=reserved, now=now, takes_back=takes_back
    )


def decide_company(
    decision: Granted | Denied, *, lines: Mapping[LineId, Line], reserved: Mapping[LineId, int]
) -> Granted | Denied:
    """May these lines be together on one field server? It serves one account, and a grant and a credit have limits.

    ``reserved`` counts what is not proven to be given back, too: it is credited one day, all of it by one message.
    """
    if isinstance(decision, Denied):
        return decision
    kept = reserved.keys() | decision.quantities.keys()
    accounts = {lines[line_id].account for line_id in kept}
    if len(decision.quantities) > LINES_MAX:
        return Denied(reasons=(_too_many(LINES_MAX, held=len(decision.quantities)),))
    if len(kept) > max(RESERVED_LINES_MAX, len(reserved)):
        return Denied(reasons=(_too_many(RESERVED_LINES_MAX, reserved=len(kept)),))
    if len(accounts) > 1:
        return Denied(reasons=(Reason("account-differs"),))
    return decision


def tell_quarantines(
    reasons: Sequence[Reason], *, lines: Mapping[LineId, Line], ends: Mapping[LineId, int]
) -> tuple[Reason, ...]:
    """The reasons; where a line has not enough, with what of it is in quarantine until when (``ends``, by line)."""
    return tuple(
        Reason(
            reason.code,
            reason.line,
            {**reason.values, "quarantined": lines[reason.line].balances.quarantined, "until": ends[reason.line]},
        )
        if reason.code == "not-enough" and reason.line is not None and reason.line in ends
        else reason
        for reason in reasons
    )


def _too_many(most: int, **lines: int) -> Reason:
    return Reason("too-many-lines", values={"most": most, **lines})


def _against_growth(line: Line, *, kind: str, growth: int, now: int) -> list[Reason]:
    reasons = []

    def deny(code: str, **values: int | str | tuple[str, ...]) -> None:
        reasons.append(Reason(code, line.line_id, values))

    if not is_among(kind, line.product.kinds):
        deny("kind-mismatch", sku=line.product.sku, kinds=tuple(sorted(line.product.kinds)), kind=kind)
    if line.expires_at is not None and line.expires_at <= now:
        deny("line-expired", seconds=now - line.expires_at)
    if line.suspended:
        deny("line-suspended")
    if line.frozen:
        deny("line-frozen")
    if growth > 0 and growth > line.balances.available:
        deny("not-enough", wanted=growth, available=line.balances.available)
    return reasons


def _against_return(line: Line, want: Want, held: Mapping[LineId, int]) -> list[Reason]:
    if line.product.returnable or want.quantity >= held.get(want.line_id, 0):
        return []
    return [Reason("not-returnable", want.line_id, {"sku": line.product.sku})]


def _duplicates(wants: Sequence[Want]) -> list[Reason]:
    seen: set[LineId] = set()
    reasons = []
    for want in wants:
        if want.line_id in seen:
            reasons.append(Reason("line-twice", want.line_id))
        seen.add(want.line_id)
    return reasons


def _result(reasons: Sequence[Reason], wants: Sequence[Want], held: Mapping[LineId, int]) -> Granted | Denied:
    if reasons:
        return Denied(reasons=tuple(reasons))
    after = {**held, **{want.line_id: want.quantity for want in wants}}
    return Granted(quantities={line_id: quantity for line_id, quantity in after.items() if quantity})


know(Reason, Granted, Denied, Want)
