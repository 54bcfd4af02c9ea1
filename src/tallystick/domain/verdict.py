"""May this feature run now, and why not (protocol, P6). The worst answer is "not licensed, and why"."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from msgspec import Struct

from tallystick.domain.dates import moment_text
from tallystick.domain.ids import LicenseId, LineId
from tallystick.structs import know

SUM_MAX: Final = 2**53 - 1  # as much as every language counts exactly
_NAMED_MAX: Final = 3


class Standing(StrEnum):
    """What a check found."""

    LICENSED = "licensed"
    TOO_FEW = "too-few"
    EXPIRED = "expired"
    NOT_LICENSED = "not-licensed"


class License(Struct, frozen=True, kw_only=True):
    """A license as the field server holds it. ``features`` are counts per unit, ``expires_at`` Unix seconds."""

    license_id: LicenseId
    line_id: LineId
    product: str
    quantity: int
    features: tuple[tuple[str, int], ...]
    expires_at: int | None
    engineering: bool
    one_carry: bool


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer of a check. ``code`` is stable, and a row of docs/errors.md where it is not ``licensed``.

    ``required`` is what the software asks for, ``activated`` what the licenses in force carry together (counted up to
    2^53 - 1), ``used`` what of it is taken, ``available`` what is left. ``is_violation``: more is required than activated.
    """

    feature: str
    standing: Standing
    code: str
    required: int
    used: int
    available: int
    activated: int
    why: str
    expires_at: int | None = None  # the next moment at which a license of this feature expires
    engineering: bool = False

    @property
    def is_licensed(self) -> bool:
        """Whether the feature may run."""
        return self.standing is Standing.LICENSED

    @property
    def is_violation(self) -> bool:
        """Whether more is required than is activated."""
        return self.required > self.activated


def decide_verdict(
    feature: str, *, required: int, licenses: Iterable[License], time_seen: int, now: int | None = None
) -> Verdict:
    """Judge ``required`` units of ``feature`` at ``time_seen``, the highest time the field server has seen.

    ``now``: what its clock says, for the reason only: one that was ahead is told from a license that is over.
    """
    activated, next_expiry, engineering, over = 0, None, False, list[License]()
    for license_ in licenses:
        count = dict(license_.features).get(feature, 0) * license_.quantity
        if not count:
            continue
        if license_.expires_at is not None and license_.expires_at <= time_seen:
            over.append(license_)
            continue
        activated = min(activated + count, SUM_MAX)
        engineering = engineering or license_.engineering
        if license_.expires_at is not None:
            next_expiry = license_.expires_at if next_expiry is None else min(next_expiry, license_.expires_at)
    if activated and required <= activated:
        standing, why = Standing.LICENSED, f"{activated} activated, {required} required"
    elif activated:
        standing, why = Standing.TOO_FEW, f"{required} required, only {activated} activated"
        why += f"; {_why_over(feature, over, now)}" if over else ": activate more"
    elif over:
        standing, why = Standing.EXPIRED, "no license of this feature is in force; " + _why_over(feature, over, now)
        next_expiry = max(license_.expires_at or 0 for license_ in over)
    else:
        standing, why = Standing.NOT_LICENSED, "no license of this feature is activated on this field server"
    used = min(required, activated)
    return Verdict(
        feature=feature,
        standing=standing,
        code=str(standing),
        required=required,
        used=used,
        available=activated - used,
        activated=activated,
        why=why,
        expires_at=next_expiry,
        engineering=engineering,
    )


def refuse_check(feature: str, required: int, *, code: str, why: str) -> Verdict:
    """Not licensed, for another reason than what is held."""
    return Verdict(
        feature=feature,
        standing=Standing.NOT_LICENSED,
        code=code,
        required=required,
        used=0,
        available=0,
        activated=0,
        why=why,
    )


def _why_over(feature: str, over: Sequence[License], now: int | None) -> str:
    """Which licenses are over, of which line, and what to do: the newest end first."""
    newest = sorted(over, key=lambda one: -(one.expires_at or 0))
    named = ", ".join(
        f"{one.quantity * dict(one.features)[feature]} of line {one.line_id} ({one.product}, {moment_text(one.expires_at or 0)})"
        for one in newest[:_NAMED_MAX]
    )
    if now is not None and (newest[0].expires_at or 0) > now:
        return f"the clock was ahead, and the end of {named} seemed to have come: refresh"
    more = f" and {len(newest) - _NAMED_MAX} more" if len(newest) > _NAMED_MAX else ""
    return f"expired: {named}{more}. Have the line extended, then refresh"


know(License, Verdict)
