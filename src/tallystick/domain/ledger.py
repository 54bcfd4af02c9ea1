"""Double entry: where every right of a line is, and how it came there (protocol, P5).

Per line, ``available + held + returning + quarantined + retired = bought``, always. A right moves by an entry, from
one account to another. The entries of a line are numbered without a gap and chained by SHA-256, so that a receipt
that names an entry can be checked against the whole ledger, and a ledger that was altered shows it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from tallystick.domain.ids import DeviceId, LineId
from tallystick.errors import InvariantError
from tallystick.structs import know


class Account(StrEnum):
    """Where a right of a line can be. ``BOUGHT`` is the counter account: what it gave out is what was bought."""

    BOUGHT = "bought"
    AVAILABLE = "available"
    HELD = "held"
    RETURNING = "returning"
    QUARANTINED = "quarantined"
    RETIRED = "retired"


class Entry(Struct, frozen=True, kw_only=True):
    """``quantity`` rights of ``line_id`` moved from one account to another.

    ``cause`` is the digest of the message that made it, or ``person:<name>: <why>`` or ``time: <why>``.
    """

    line_id: LineId
    number: int  # 1, 2, 3 ... per line
    source: Account
    target: Account
    quantity: int
    device_id: DeviceId | None
    cause: str
    booked_at: int
    chain: str  # hex SHA-256 over the chain of the entry before and this one

    def chained(self, before: str) -> str:
        """The chain value that this entry must have after ``before``."""
        moved = (self.line_id, str(self.number), self.source, self.target, str(self.quantity))
        text = "\x1f".join((before, *moved, self.device_id or "", self.cause, str(self.booked_at)))
        return hashlib.sha256(text.encode()).hexdigest()


class Balances(Struct, frozen=True, kw_only=True):
    """The accounts of one line, the number of its last entry and the chain up to it.

    ``available`` may be below zero only after a restore (protocol, section 9).
    """

    bought: int = 0
    available: int = 0
    held: int = 0
    returning: int = 0
    quarantined: int = 0
    retired: int = 0
    entries: int = 0
    chain: str = ""

    def check_conserved(self) -> None:
        """Raises ``InvariantError`` unless the accounts add up to what was bought."""
        total = self.available + self.held + self.returning + self.quarantined + self.retired
        if total != self.bought or min(self.held, self.returning, self.quarantined, self.retired, self.bought) < 0:
            raise InvariantError(f"accounts that add up to {self.bought} bought", repr(self))


def apply_booking(
    balances: Balances,
    *,
    line_id: LineId,
    source: Account,
    target: Account,
    quantity: int,
    device_id: DeviceId | None,
    cause: str,
    booked_at: int,
) -> tuple[Balances, Entry]:
    """Move ``quantity`` (at least one) and return the new balances and the entry that says so."""
    if quantity < 1 or source is target:
        raise InvariantError("a quantity of at least one between two accounts", f"{quantity} {source} {target}")
    draft = Entry(
        line_id=line_id,
        number=balances.entries + 1,
        source=source,
        target=target,
        quantity=quantity,
        device_id=device_id,
        cause=cause,
        booked_at=booked_at,
        chain="",
    )
    entry = replace(draft, chain=draft.chained(balances.chain))
    return _moved(balances, entry), entry


def apply_entry(balances: Balances, entry: Entry) -> Balances:
    """The balances after ``entry``. Raises ``InvariantError`` when it does not follow or does not conserve."""
    if entry.number != balances.entries + 1 or entry.chain != entry.chained(balances.chain):
        raise InvariantError(
            f"entry {balances.entries + 1} of line {entry.line_id}, chained to the one before",
            f"entry {entry.number} with chain {entry.chain[:12]}",
        )
    return _moved(balances, entry)


def recompute(entries: Iterable[Entry]) -> Balances:
    """The balances of one line from its entries alone, in order. Raises ``InvariantError``."""
    balances = Balances()
    for entry in entries:
        balances = apply_entry(balances, entry)
    return balances


def _moved(balances: Balances, entry: Entry) -> Balances:
    # The counter account runs the other way: rights that leave it were bought, rights that enter it were taken back.
    given = entry.quantity if entry.source is _BOUGHT else -entry.quantity
    taken = -entry.quantity if entry.target is _BOUGHT else entry.quantity
    amounts = {
        entry.source: getattr(balances, entry.source) + given,
        entry.target: getattr(balances, entry.target) + taken,
    }
    after = replace(balances, **amounts, entries=entry.number, chain=entry.chain)
    after.check_conserved()
    return after


_BOUGHT = Account.BOUGHT

know(Entry, Balances)
