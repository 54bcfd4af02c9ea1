"""An activation server's store in memory, with transactions that commit whole or not at all.

Its tables are plain dictionaries of frozen values, so that a simulator can copy a state, put an old one back, and
compare two. It implements ``activation.ports.Store`` and nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec.structs import replace

from tallystick.activation.core.ports import (
    Changes,
    FieldServer,
    Holding,
    Incident,
    IssuedGrant,
    Loaded,
    LostDeclaration,
    Past,
    Restore,
    ServiceClock,
    Status,
    TakenMessage,
    Transaction,
)
from tallystick.domain.catalog import Catalog
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import DeviceId, Digest, EntitlementId, LineId
from tallystick.domain.ledger import Entry
from tallystick.domain.text import folded

ResultT = TypeVar("ResultT")


@dataclass(slots=True)
class Tables:
    """Everything that an activation server knows. Values are frozen, so a shallow copy is a snapshot."""

    catalog: Catalog = field(default_factory=Catalog)
    entitlements: dict[EntitlementId, Entitlement] = field(default_factory=dict)
    lines: dict[LineId, Line] = field(default_factory=dict)
    field_servers: dict[DeviceId, FieldServer] = field(default_factory=dict)
    messages: dict[Digest, TakenMessage] = field(default_factory=dict)
    sequences: dict[tuple[DeviceId, int], Digest] = field(default_factory=dict)
    grants: dict[tuple[DeviceId, int], IssuedGrant] = field(default_factory=dict)
    proofs: dict[tuple[DeviceId, str], Digest] = field(default_factory=dict)
    restore: Restore | None = None
    holdings: dict[tuple[DeviceId, LineId], Holding] = field(default_factory=dict)
    entries: dict[tuple[LineId, int], Entry] = field(default_factory=dict)
    incidents: tuple[Incident, ...] = ()
    declarations: dict[tuple[DeviceId, int], LostDeclaration] = field(default_factory=dict)
    clock: ServiceClock = field(default_factory=ServiceClock)

    def copy(self) -> Tables:
        """A snapshot."""
        draft = copy(self)
        for name in (
            "entitlements",
            "lines",
            "field_servers",
            "messages",
            "sequences",
            "grants",
            "proofs",
            "holdings",
            "entries",
        ):
            setattr(draft, name, dict(getattr(self, name)))
        draft.declarations = dict(self.declarations)
        return draft


class MemoryStore:
    """A store whose last commit is ``tables``."""

    def __init__(self, tables: Tables | None = None) -> None:
        self.tables = tables or Tables()

    def transact(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """Run ``work`` on a copy and keep the copy only if it returns."""
        draft = self.tables.copy()
        result = work(MemoryTransaction(draft))
        self.tables = draft
        return result

    def snapshot(self) -> Any:
        """A backup: what ``put_back`` takes."""
        return self.tables.copy()

    def put_back(self, snapshot: Any) -> None:
        """The last commit is what it was then."""
        self.tables = snapshot.copy()

    def compare(self) -> None:
        """Memory is what it is."""

    def prune(self, *, before: int) -> list[Digest]:  # noqa: ARG002 - SQL does
        """Memory forgets nothing. Returns which messages are gone."""
        return []

    def copy_database(self, *, now: int) -> None:
        """Memory has no database."""

    def close(self) -> None:
        """Nothing is open."""


class MemoryTransaction:
    """One unit of work on a draft."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables

    def load_field_servers_for_update(self, ids: Collection[DeviceId]) -> dict[DeviceId, FieldServer]:
        """See ``activation.ports.Transaction``."""
        return {key: self.tables.field_servers[key] for key in sorted(ids) if key in self.tables.field_servers}

    def load_lines_for_update(self, ids: Collection[LineId]) -> dict[LineId, Line]:
        """See ``activation.ports.Transaction``."""
        found = {key: self.tables.lines[key] for key in sorted(ids) if key in self.tables.lines}
        products = self.tables.catalog.products
        return {key: replace(line, product=products.get(line.product.sku, line.product)) for key, line in found.items()}

    def load_asked(
        self,
        *,
        devices: Collection[DeviceId],
        digests: Collection[Digest],
        sequences: Collection[tuple[DeviceId, int]],
        grants: Collection[tuple[DeviceId, int]],
        lines: Collection[LineId],
    ) -> Loaded:
        """See ``activation.ports.Transaction``."""
        tables = self.tables
        kept = {line_id for device_id, line_id in tables.holdings if device_id in devices}
        return Loaded(
            field_servers=self.load_field_servers_for_update(devices),
            past=Past(
                answers={key: tables.messages[key].answer for key in digests if key in tables.messages},
                sequences={key: tables.sequences[key] for key in sequences if key in tables.sequences},
                grants={key: tables.grants[key].digest for key in grants if key in tables.grants},
            ),
            lines=self.load_lines_for_update(kept.union(lines)),
        )

    def load_host_id_owners(self, host_ids: Collection[str]) -> dict[str, dict[DeviceId, str | None]]:
        """See ``activation.ports.Transaction``."""
        owners: dict[str, dict[DeviceId, str | None]] = {}
        for server in self.tables.field_servers.values():
            host_id = folded(server.host_id)
            if host_id in host_ids and server.status in {Status.ACTIVE, Status.HOLD}:
                owners.setdefault(host_id, {})[server.device_id] = server.account
        return owners

    def count_idle(self, account: str) -> int:
        """See ``activation.ports.Transaction``."""
        kept = {place[0] for place, holding in self.tables.holdings.items() if holding.held or holding.returning}
        return sum(
            server.account == account and server.status is not Status.LISTED and server.device_id not in kept
            for server in self.tables.field_servers.values()
        )

    def load_used_proofs(self, keys: Collection[tuple[DeviceId, str]]) -> dict[tuple[DeviceId, str], Digest]:
        """See ``activation.ports.Transaction``."""
        return {key: self.tables.proofs[key] for key in keys if key in self.tables.proofs}

    def load_restore(self) -> Restore | None:
        """See ``activation.ports.Transaction``."""
        return self.tables.restore

    def save_restore(self, restore: Restore) -> None:
        """See ``activation.ports.Transaction``."""
        self.tables.restore = restore

    def load_holdings(self, line_ids: Collection[LineId]) -> list[Holding]:
        """See ``activation.ports.Transaction``."""
        return [holding for holding in self.tables.holdings.values() if holding.line_id in line_ids]

    def save(self, changes: Changes) -> None:
        """See ``activation.ports.Transaction``."""
        tables = self.tables
        tables.field_servers |= changes.field_servers
        tables.lines |= changes.lines
        tables.entries |= {(entry.line_id, entry.number): entry for entry in changes.entries}
        for key, holding in changes.holdings.items():
            before = tables.holdings.get(key)
            if not (holding.held or holding.returning or holding.quarantined):
                tables.holdings.pop(key, None)
            elif before is not None and before.returning and holding.returning:
                tables.holdings[key] = replace(holding, since_at=before.since_at)
            else:
                tables.holdings[key] = holding
        for message in changes.messages:
            tables.messages[message.digest] = message
            tables.sequences.setdefault((message.device_id, message.sequence), message.digest)
        tables.grants |= {(grant.device_id, grant.number): grant for grant in changes.grants}
        tables.proofs |= {(proof.device_id, proof.jti): proof.digest for proof in changes.proofs}
        tables.incidents += tuple(changes.incidents)
        tables.declarations |= {(item.device_id, item.at): item for item in changes.declarations}

    def load_issued_grant(self, device_id: DeviceId, number: int) -> IssuedGrant | None:
        """See ``activation.ports.Transaction``."""
        return self.tables.grants.get((device_id, number))

    def load_declarations(self, *, account: str | None, since_at: int) -> list[LostDeclaration]:
        """See ``activation.ports.Transaction``."""
        return [item for item in self.tables.declarations.values() if item.account == account and item.at >= since_at]

    def load_last_declaration(self, device_id: DeviceId) -> LostDeclaration | None:
        """See ``activation.ports.Transaction``."""
        found = [item for item in self.tables.declarations.values() if item.device_id == device_id]
        return max(found, key=lambda item: item.at, default=None)

    def load_quarantine_ends(self, line_ids: Collection[LineId]) -> dict[LineId, int]:
        """See ``activation.ports.Transaction``."""
        ends: dict[LineId, int] = {}
        for holding in self.load_holdings(line_ids):
            until = self.tables.field_servers[holding.device_id].lost_until
            if holding.quarantined and until is not None:
                ends[holding.line_id] = min(until, ends.get(holding.line_id, until))
        return ends

    def load_due_quarantines(self, seconds: int) -> list[DeviceId]:
        """See ``activation.ports.Transaction``."""
        return [
            server.device_id
            for server in self.tables.field_servers.values()
            if server.status is Status.LOST and (server.waits_until or 0) <= seconds
        ]

    def load_clock(self) -> ServiceClock:
        """See ``activation.ports.Transaction``."""
        return self.tables.clock

    def load_clock_for_update(self) -> ServiceClock:
        """See ``activation.ports.Transaction``."""
        return self.tables.clock

    def save_clock(self, clock: ServiceClock) -> None:
        """See ``activation.ports.Transaction``."""
        self.tables.clock = clock

    def find_field_servers(self, *, after: DeviceId | None = None, limit: int = 1000) -> list[FieldServer]:
        """See ``activation.ports.Transaction``."""
        keys = sorted(key for key in self.tables.field_servers if after is None or key > after)
        return [self.tables.field_servers[key] for key in keys[:limit]]

    def find_lines(self, *, after: LineId | None = None, limit: int = 1000) -> list[Line]:
        """See ``activation.ports.Transaction``."""
        keys = sorted(key for key in self.tables.lines if after is None or key > after)
        return list(self.load_lines_for_update(keys[:limit]).values())

    def find_open_returns(self) -> list[Holding]:
        """See ``activation.ports.Transaction``."""
        return sorted(
            (item for item in self.tables.holdings.values() if item.returning), key=lambda item: item.since_at
        )

    def find_incidents(self, *, limit: int = 1000) -> list[Incident]:
        """See ``activation.ports.Transaction``."""
        return list(reversed(self.tables.incidents))[:limit]

    def find_entries(self, line_id: LineId, *, after: int = 0, limit: int = 10_000) -> list[Entry]:
        """See ``activation.ports.Transaction``."""
        found = []
        for number in range(after + 1, after + 1 + limit):
            entry = self.tables.entries.get((line_id, number))
            if entry is None:
                break
            found.append(entry)
        return found

    def load_entitlement(self, entitlement_id: EntitlementId) -> Entitlement | None:
        """See ``activation.ports.Transaction``."""
        found = self.tables.entitlements.get(entitlement_id)
        if found is None:
            return None
        lines = self.load_lines_for_update([line.line_id for line in found.lines])
        return replace(found, lines=tuple(lines[line.line_id] for line in found.lines))

    def save_entitlement(self, entitlement: Entitlement, entries: Sequence[Entry]) -> None:
        """See ``activation.ports.Transaction``."""
        self.tables.entitlements[entitlement.entitlement_id] = entitlement
        self.tables.lines |= {line.line_id: line for line in entitlement.lines}
        self.tables.entries |= {(entry.line_id, entry.number): entry for entry in entries}

    def load_catalog(self) -> Catalog:
        """See ``activation.ports.Transaction``."""
        return self.tables.catalog

    def save_catalog(self, catalog: Catalog) -> None:
        """See ``activation.ports.Transaction``."""
        self.tables.catalog = replace(catalog, products={**self.tables.catalog.products, **catalog.products})
