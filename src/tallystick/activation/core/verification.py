"""``activation verify``: recompute everything from the ledger alone, and compare (protocol, P5).

Per line: the entries are gapless and chained and lead to the stored balances; what field servers hold, by the
reservation rule over their outstanding grants, is what the accounts say.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tallystick.activation.core.ports import FieldServer, Status, Transaction
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.ledger import Balances, apply_entry
from tallystick.errors import InvariantError


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was looked at, and every contradiction, in words."""

    lines: int
    entries: int
    field_servers: int
    faults: tuple[str, ...]

    @property
    def is_green(self) -> bool:
        """Whether everything adds up."""
        return not self.faults


def verify_books(transaction: Transaction) -> Report:
    """Read everything and change nothing. Memory grows with lines, not with history."""
    faults: list[str] = []
    kept: dict[LineId, dict[str, int]] = {}
    per_server: dict[tuple[DeviceId, LineId], tuple[int, int, int]] = {}
    field_servers = 0
    for server in _all_field_servers(transaction):
        field_servers += 1
        for line_id, reserved in server.reserved().items():
            total = kept.setdefault(line_id, {"held": 0, "returning": 0, "quarantined": 0})
            booked = (reserved.held, reserved.returning, 0)
            if server.status is Status.LOST:
                booked = (0, 0, reserved.held + reserved.returning)
            per_server[server.device_id, line_id] = booked
            for name, quantity in zip(total, booked, strict=True):
                total[name] += quantity
    lines = entries = 0
    for line in _all_lines(transaction):
        lines += 1
        count, fault = _recompute(transaction, line)
        entries += count
        if fault:
            faults.append(fault)
        for name, quantity in kept.get(line.line_id, {"held": 0, "returning": 0, "quarantined": 0}).items():
            booked_quantity = getattr(line.balances, name)
            if booked_quantity != quantity:
                faults.append(
                    f"line {line.line_id}: {booked_quantity} {name} in the books, {quantity} by the reservation rule"
                )
        for holding in transaction.load_holdings([line.line_id]):
            seen = (holding.held, holding.returning, holding.quarantined)
            if per_server.pop((holding.device_id, line.line_id), (0, 0, 0)) != seen:
                faults.append(f"line {line.line_id}: the holding of {holding.device_id} does not fit its grants")
    faults += [
        f"line {line_id}: {device_id} has grants but no holding"
        for (device_id, line_id), booked in per_server.items()
        if any(booked)
    ]
    return Report(lines=lines, entries=entries, field_servers=field_servers, faults=tuple(faults))


def _recompute(transaction: Transaction, line: Line) -> tuple[int, str | None]:
    balances = Balances()
    try:
        while page := transaction.find_entries(line.line_id, after=balances.entries):
            for entry in page:
                balances = apply_entry(balances, entry)
    except (InvariantError, ValueError) as error:  # or what no account is called
        return balances.entries, f"line {line.line_id}: {error}"
    if balances != line.balances:
        return balances.entries, f"line {line.line_id}: the ledger gives {balances}, stored is {line.balances}"
    return balances.entries, None


def _all_lines(transaction: Transaction) -> Iterator[Line]:
    after: LineId | None = None
    while page := transaction.find_lines(after=after):
        yield from page
        after = page[-1].line_id


def _all_field_servers(transaction: Transaction) -> Iterator[FieldServer]:
    after: DeviceId | None = None
    while page := transaction.find_field_servers(after=after):
        yield from page
        after = page[-1].device_id
