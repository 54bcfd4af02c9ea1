"""The books of one unit of work. Whatever changes what a field server may hold goes through here.

Guarantees: a changed field server is never saved without the ledger entries that its changed reservation asks for
(P5), and a grant is never signed without being reserved. Leaves to others: whether a change is right
(``domain.rules``, ``issuing``, ``returns``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from msgspec.structs import replace

from tallystick.activation.core import events
from tallystick.activation.core.ports import (
    Changes,
    FieldServer,
    Holding,
    Incident,
    IncidentKind,
    IssuedGrant,
    Past,
    Signer,
    Status,
    Transaction,
)
from tallystick.domain import grant as reservation
from tallystick.domain import rules
from tallystick.domain.entitlement import Line
from tallystick.domain.grant import Outstanding, Reserved
from tallystick.domain.ids import DeviceId, Digest, LineId, license_id
from tallystick.domain.ledger import Account, Entry, apply_booking
from tallystick.domain.rules import Reason
from tallystick.errors import InvariantError
from tallystick.protocol import messages
from tallystick.protocol.envelope import digest_of
from tallystick.protocol.messages import GRANT, Grant, LicenseClaim


class Books:
    """Field servers and lines as loaded and locked, what was changed, and the entries that say so."""

    def __init__(self, transaction: Transaction, signer: Signer, *, now: int) -> None:
        self.transaction = transaction
        self.signer = signer
        self.now = now
        self.changes = Changes()
        self.field_servers: dict[DeviceId, FieldServer] = {}
        self.lines: dict[LineId, Line] = {}
        self._field_servers_before: dict[DeviceId, FieldServer] = {}
        self._lines_before: dict[LineId, Line] = {}

    def load(self, devices: Collection[DeviceId]) -> None:
        """Lock field servers."""
        found = self.transaction.load_field_servers_for_update(devices)
        self.field_servers |= found
        self._field_servers_before |= found

    def load_lines(self, lines: Collection[LineId] = ()) -> None:
        """Lock ``lines`` and every line that a loaded field server has a reservation on. Call it once, after ``load``."""
        wanted = set(lines)
        for field_server in self.field_servers.values():
            for outstanding in field_server.outstanding:
                wanted |= outstanding.quantities.keys()
        found = self.transaction.load_lines_for_update(wanted)
        self.lines |= found
        self._lines_before |= found

    def load_asked(
        self,
        *,
        devices: Collection[DeviceId],
        digests: Collection[Digest],
        sequences: Collection[tuple[DeviceId, int]],
        grants: Collection[tuple[DeviceId, int]],
        lines: Collection[LineId],
    ) -> Past:
        """Lock field servers, ``lines`` and their own lines, all at once; what is known of the past."""
        found = self.transaction.load_asked(
            devices=devices, digests=digests, sequences=sequences, grants=grants, lines=lines
        )
        self.field_servers |= found.field_servers
        self._field_servers_before |= found.field_servers
        self.lines |= found.lines
        self._lines_before |= found.lines
        return found.past

    def change(self, after: FieldServer, *, cause: str) -> list[Entry]:
        """Keep ``after`` and book the difference in what the lines keep for it."""
        before = self.field_servers.get(after.device_id)
        self.field_servers[after.device_id] = after
        self.changes.field_servers[after.device_id] = after
        if before is not None and before.outstanding == after.outstanding and before.status is after.status:
            return []
        old = _booked(before) if before else {}
        new = _booked(after)
        entries: list[Entry] = []
        for line_id in sorted(old.keys() | new.keys()):
            had, has = old.get(line_id, _NOTHING), new.get(line_id, _NOTHING)
            if had != has:
                entries += self._move(after.device_id, line_id, had, has, cause)
        return entries

    def book(
        self, line_id: LineId, source: Account, target: Account, quantity: int, *, cause: str, device: DeviceId | None
    ) -> Entry:
        """Move rights of one line from one account to another."""
        line = self.line(line_id)
        balances, entry = apply_booking(
            line.balances,
            line_id=line_id,
            source=source,
            target=target,
            quantity=quantity,
            device_id=device,
            cause=cause,
            booked_at=self.now,
        )
        self.keep_line(replace(line, balances=balances))
        self.changes.entries.append(entry)
        return entry

    def keep_line(self, line: Line) -> None:
        """A line with other terms or balances."""
        self._lines_before.setdefault(line.line_id, self.lines.get(line.line_id, line))
        self.lines[line.line_id] = line
        self.changes.lines[line.line_id] = line

    def line(self, line_id: LineId) -> Line:
        """A loaded line. Raises ``InvariantError``: a reservation on a line that is gone cannot be."""
        try:
            return self.lines[line_id]
        except KeyError:
            raise InvariantError("a line that was loaded", line_id) from None

    def grant(
        self,
        field_server: FieldServer,
        quantities: Mapping[LineId, int],
        *,
        request: Digest | None,
        cause: str,
        confirm: bool = False,
    ) -> str:
        """Reserve, sign and keep the next grant: the complete set ``quantities``. Returns the envelope.

        The proof is wanted when rights are returning, or when ``confirm`` asks for it.
        """
        number = field_server.number + 1
        newest = Outstanding(epoch=field_server.epoch, number=number, quantities=dict(quantities))
        after = field_server.changed(number=number, outstanding=reservation.append(field_server.outstanding, newest))
        self.change(after, cause=cause)
        claims = Grant(
            iss=self.signer.keyset.issuer,
            sub=after.device_id,
            iat=self.now,
            epoch=after.epoch,
            number=number,
            request=request,
            seen=after.sequence,
            licenses=tuple(self._license(after.device_id, *item) for item in sorted(quantities.items())),
            confirm=confirm or any(kept.returning for kept in after.reserved().values()),
        )
        envelope = self.signer.sign(GRANT, messages.encode_claims(claims))
        self.changes.grants.append(
            IssuedGrant(
                device_id=after.device_id,
                number=number,
                epoch=after.epoch,
                digest=digest_of(envelope),
                issued_at=self.now,
                envelope=envelope if request is None else None,
            )
        )
        return envelope

    def tell_quarantines(self, reasons: Sequence[Reason]) -> tuple[Reason, ...]:
        """The reasons; where too few are available, with what is in quarantine and until when. It decides nothing.

        Only whoever proved the line, or works here, is told that a line has not enough.
        """
        short = {reason.line for reason in reasons if reason.code == "not-enough" and reason.line is not None}
        short = {line_id for line_id in short if self.line(line_id).balances.quarantined}
        ends = self.transaction.load_quarantine_ends(short) if short else {}
        return rules.tell_quarantines(reasons, lines=self.lines, ends=ends)

    def note(self, kind: IncidentKind, device_id: DeviceId, detail: str, *, digest: Digest | None = None) -> None:
        """An incident, saved in the same transaction as what caused it."""
        incident = Incident(kind=kind, device_id=device_id, at=self.now, detail=detail, digest=digest)
        self.changes.incidents.append(incident)

    def save(self) -> None:
        """Write everything that was changed, and the events about it."""
        self.changes.events += events.events_of(
            self.changes,
            field_servers_before=self._field_servers_before,
            lines_before=self._lines_before,
            lines=self.lines,
            now=self.now,
        )
        self.transaction.save(self.changes)

    def _license(self, device_id: DeviceId, line_id: LineId, quantity: int) -> LicenseClaim:
        line = self.line(line_id)
        return LicenseClaim(
            license=license_id(device_id, line_id),
            line=line_id,
            product=line.product.sku,
            quantity=quantity,
            features=dict(line.product.features),
            expires=line.expires_at,
            one_carry=line.product.one_carry and line.product.returnable,
            engineering=line.engineering,
        )

    def _move(
        self,
        device_id: DeviceId,
        line_id: LineId,
        had: Reserved,
        has: Reserved,
        cause: str,
    ) -> list[Entry]:
        self.changes.holdings[device_id, line_id] = Holding(
            device_id=device_id,
            line_id=line_id,
            held=has.held,
            returning=has.returning,
            quarantined=has.quarantined,
            since_at=self.now,
        )
        return [
            self.book(line_id, source, target, quantity, cause=cause, device=device_id)
            for source, target, quantity in _transfers(had, has)
        ]


_NOTHING = Reserved()
_ACCOUNTS = (Account.HELD, Account.RETURNING, Account.QUARANTINED, Account.AVAILABLE)


def _booked(field_server: FieldServer) -> dict[LineId, Reserved]:
    """In which accounts the reservation of a field server stands: quarantine while it is declared lost."""
    reserved = field_server.reserved()
    if field_server.status is Status.LOST:
        return {line_id: Reserved(quarantined=kept.held + kept.returning) for line_id, kept in reserved.items()}
    return reserved


def _transfers(had: Reserved, has: Reserved) -> Iterator[tuple[Account, Account, int]]:
    """What to move, from where to where, so that a line keeps what it ``has`` to keep in place of what it ``had``."""
    held, returning, quarantined = has.held - had.held, has.returning - had.returning, has.quarantined - had.quarantined
    changes = (held, returning, quarantined, -held - returning - quarantined)
    giving: list[tuple[Account, int]] = []
    wanting: dict[Account, int] = {}
    for account, change in zip(_ACCOUNTS, changes, strict=True):
        if change < 0:
            giving.append((account, -change))
        elif change > 0:
            wanting[account] = change
    for source, left in giving:
        for target, amount in wanting.items():
            quantity = min(left, amount)
            if quantity:
                yield source, target, quantity
                wanting[target] -= quantity
                left -= quantity  # noqa: PLW2901 - what is left for the next target
