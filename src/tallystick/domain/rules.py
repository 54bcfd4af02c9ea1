"""May this be granted? Decisions over end states, whole or not at all, with a reason per line (protocol, section 7).

Pure: what a decision needs is passed in. It leaves bookings to the bookkeeping and signatures to the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from tallystick.domain.entitlement import Line
from tallystick.domain.ids import LineId
from tallystick.structs import know

LINES_MAX: Final = 50  # lines of one grant
RESERVED_LINES_MAX: Final = (
    2 * LINES_MAX
)  # lines kept for one field server, proven or not: what one credit has room for


class Reason(Struct, frozen=True, kw_only=True):
    """Why a line, or (``line_id`` None) the whole message, was denied."""

    code: str
    expected: str
    seen: str
    line_id: LineId | None = None


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
) -> Granted | Denied:
    """Set the wanted end states, leave other lines as they are, or deny with every reason at once.

    ``held`` is the newest grant's quantity and ``reserved`` the maximum that the line already keeps for this field
    server: only what exceeds the reservation must be available.
    """
    reasons = _duplicates(wants)
    for want in wants:
        line = lines.get(want.line_id)
        if line is None or not want.is_proven:
            reasons.append(
                Reason(
                    code="activation-id-wrong",
                    expected="a line that exists, proven with its activation ID",
                    seen="no such line, or a proof that does not fit",
                    line_id=want.line_id,
                )
            )
            continue
        growth = want.quantity - reserved.get(want.line_id, 0)
        if want.quantity > held.get(want.line_id, 0):
            reasons.extend(_against_growth(line, kind=kind, growth=growth, now=now))
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
            reasons.append(
                Reason(
                    code="return-raises",
                    expected=f"at most the {have} that this field server holds",
                    seen=f"an end state of {want.quantity}",
                    line_id=want.line_id,
                )
            )
        elif want.quantity < have and line is not None and not line.product.returnable:
            reasons.append(
                Reason(
                    code="not-returnable",
                    expected="a product that can be returned",
                    seen=f"{line.product.sku}, which its vendor sells without return",
                    line_id=want.line_id,
                )
            )
    return _result(reasons, wants, held)


def decide_change(
    wants: Sequence[Want],
    *,
    kind: str,
    lines: Mapping[LineId, Line],
    held: Mapping[LineId, int],
    reserved: Mapping[LineId, int],
    now: int,
) -> Granted | Denied:
    """A person at the activation server sets end states: no proof and no consent to a return is needed."""
    proven = [Want(line_id=want.line_id, quantity=want.quantity, is_proven=True) for want in wants]
    return decide_activation(proven, kind=kind, lines=lines, held=held, reserved=reserved, now=now)


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
        expected, seen = f"at most {LINES_MAX} lines", f"{len(decision.quantities)} lines"
    elif len(kept) > max(RESERVED_LINES_MAX, len(reserved)):
        expected = f"at most {RESERVED_LINES_MAX} lines, with those whose return is not proven"
        seen = f"{len(kept)} lines"
    elif len(accounts) > 1:
        reason = Reason(
            code="account-differs",
            expected="licenses of one account on a field server",
            seen="a line of another account than those it holds",
        )
        return Denied(reasons=(reason,))
    else:
        return decision
    return Denied(reasons=(Reason(code="too-many-lines", expected=expected, seen=seen),))


def _against_growth(line: Line, *, kind: str, growth: int, now: int) -> list[Reason]:
    reasons = []

    def deny(code: str, expected: str, seen: str) -> None:
        reasons.append(Reason(code=code, expected=expected, seen=seen, line_id=line.line_id))

    if kind not in line.product.kinds:
        kinds = ", ".join(sorted(line.product.kinds))
        deny("kind-mismatch", f"a field server of kind {kinds} for {line.product.sku}", f"one of kind {kind}")
    if line.expires_at is not None and line.expires_at <= now:
        deny("line-expired", "a line that has not expired", f"one that expired {now - line.expires_at} seconds ago")
    if line.suspended:
        deny("line-suspended", "a line that is not suspended", "one that its vendor suspended")
    if line.frozen:
        deny("line-frozen", "a line that may grow", "one that is frozen since the activation server was restored")
    if growth > 0 and growth > line.balances.available:
        deny("not-enough", f"{growth} more available", f"{line.balances.available} available")
    return reasons


def _duplicates(wants: Sequence[Want]) -> list[Reason]:
    seen: set[LineId] = set()
    reasons = []
    for want in wants:
        if want.line_id in seen:
            reasons.append(
                Reason(
                    code="line-twice",
                    expected="each line once",
                    seen="the same line twice in one message",
                    line_id=want.line_id,
                )
            )
        seen.add(want.line_id)
    return reasons


def _result(reasons: Sequence[Reason], wants: Sequence[Want], held: Mapping[LineId, int]) -> Granted | Denied:
    if reasons:
        return Denied(reasons=tuple(reasons))
    after = {**held, **{want.line_id: want.quantity for want in wants}}
    return Granted(quantities={line_id: quantity for line_id, quantity in after.items() if quantity})


know(Reason, Granted, Denied, Want)
