"""The auditor's part about terms: what a line was sold for, and what a grant, a credit and a relinquish make of it.

What was sold is told by whoever sells (``sold``), and by persons who change an end date or suspend (``ordered``); what
the activation server stores must follow from that alone. A grant must say the terms of its lines as they were when it
was signed. Lines that grow must be open, in time, for this kind of field server, and of one account with everything
that is kept for it; what cannot be returned is not taken back at a field server's wish; what must be confirmed is
not given up in one carry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tallystick.simulator.evidence import Violation

Row = Mapping[str, Any]

FIXED: Final = ("account", "sku", "features", "kinds", "returnable", "one_carry", "engineering")
CHANGED: Final = ("expires", "suspended")


@dataclass(slots=True)
class _Terms:
    sold: Row  # what never changes
    now: dict[str, Any]  # the end date, and whether it is suspended, as committed
    ordered: list[dict[str, Any]] = field(default_factory=list)  # what a person asked for
    frozen: bool = False


class TermsJudge:
    """Knows the terms of lines that it was told of; others are not judged."""

    def __init__(self) -> None:
        self._lines: dict[str, _Terms] = {}

    def sold(self, line: str, terms: Row) -> None:
        """What somebody bought, with every term."""
        self._lines[line] = _Terms(
            sold={name: terms[name] for name in FIXED}, now={name: terms[name] for name in CHANGED}
        )

    def ordered(self, line: str, **terms: Any) -> None:
        """A person asks for another end date, or to suspend or take up again. It may fail."""
        known = self._lines[line]
        known.ordered.append({**known.now, **terms})

    def obeyed(self, line: str, **terms: Any) -> None:
        """The person was told that it is so."""
        known = self._lines[line]
        if {**known.now, **terms} != known.now:
            raise Violation("terms", f"line {line} was to be {terms}, and is {known.now}")

    def row(self, row: Row, *, is_put_back: bool) -> None:
        """A line as it is stored now. ``is_put_back``: by a restore, so that what a person ordered since is undone."""
        known = self._lines.get(row["line"])
        if known is None:
            return
        known.frozen = row["frozen"]
        changed = {name: row[name] for name in FIXED if row[name] != known.sold[name]}
        if changed:
            raise Violation("terms", f"line {row['line']} was sold as {dict(known.sold)}, and is stored with {changed}")
        now = {name: row[name] for name in CHANGED}
        if now != known.now and not is_put_back and now not in known.ordered:
            raise Violation("terms", f"line {row['line']} is {now}, was {known.now}, and nobody asked for that")
        known.now = now

    def granted(self, licenses: Collection[Row]) -> None:
        """A grant that was signed just now says what its lines are sold for, and when they end."""
        for item in licenses:
            known = self._lines.get(item["line"])
            if known is None:
                continue
            sold = known.sold
            expected = {
                "product": sold["sku"],
                "features": sold["features"],
                "expires": known.now["expires"],
                "one_carry": sold["one_carry"] and sold["returnable"],
                "engineering": sold["engineering"],
            }
            said = {name: item.get(name, False) for name in expected}
            if said != expected:
                raise Violation("terms", f"a grant says {said} of line {item['line']}, sold is {expected}")

    def grew(self, lines: Collection[str], *, kind: str | None, at: int) -> None:
        """More was granted of ``lines``, at a moment of the activation server's clock."""
        for line in lines:
            known = self._lines.get(line)
            if known is None:
                continue
            expires = known.now["expires"]
            against = [
                *([f"ended at {expires}"] if expires is not None and expires <= at else ()),
                *(["suspended"] if known.now["suspended"] else ()),
                *(["frozen"] if known.frozen else ()),
                *([f"for {known.sold['kinds']}, not {kind}"] if kind not in known.sold["kinds"] else ()),
            ]
            if against:
                raise Violation("terms", f"line {line} grew at {at}, and is {', '.join(against)}")

    def shrank(self, lines: Collection[str]) -> None:
        """A field server's wish gave back some of ``lines``."""
        fixed = [line for line in lines if line in self._lines and not self._lines[line].sold["returnable"]]
        if fixed:
            raise Violation("terms", f"line {fixed[0]} cannot be returned, and was")

    def given_up(self, copy: str, lines: Collection[str]) -> None:
        """A field server gave up ``lines`` by itself, in one carry."""
        for line in lines:
            known = self._lines.get(line)
            if known is not None and not (known.sold["one_carry"] and known.sold["returnable"]):
                raise Violation("terms", f"{copy} gave up line {line} in one carry, which its terms do not allow")

    def together(self, device: str, lines: Collection[str], before: Collection[str]) -> None:
        """What is kept for one field server is of one account, if it was before (after a restore it may not be)."""
        accounts = self._accounts(lines)
        if len(accounts) > 1 >= len(self._accounts(before)):
            raise Violation("terms", f"{device[:8]} is granted lines of several accounts: {sorted(accounts)}")

    def _accounts(self, lines: Collection[str]) -> set[str]:
        return {self._lines[line].sold["account"] for line in lines if line in self._lines}
