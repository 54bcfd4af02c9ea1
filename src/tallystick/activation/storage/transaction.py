"""One unit of work on a database: ``activation.ports.Transaction`` and a few lists more.

Reads are set-based and lock in id order; writes are set-based, too. See ``batches`` for what is on the way to a reply.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TypeVar

from msgspec.structs import replace
from sqlalchemy import Connection, Executable, exists, func, select, update

from tallystick.activation.core.permissions import Scope
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
)
from tallystick.activation.core.trail import Record
from tallystick.activation.storage import rows, schema, statements
from tallystick.activation.storage.batches import BatchKeys
from tallystick.activation.storage.deployment import DeploymentTable
from tallystick.activation.storage.dialects import KEYS_MAX, Dialect
from tallystick.activation.storage.events import EventTables, outbox_values
from tallystick.activation.storage.frames import FrameTable
from tallystick.activation.storage.incidents import IncidentTables
from tallystick.activation.storage.people import PeopleTables
from tallystick.activation.storage.scoped import ScopedTables
from tallystick.activation.storage.tables import (
    DECLARATIONS,
    ENTITLEMENTS,
    ENTRIES,
    FIELD_SERVERS,
    GRANTS,
    HOLDINGS,
    INCIDENTS,
    KINDS,
    LINES,
    PRODUCTS,
    SERVICE_CLOCK,
)
from tallystick.activation.storage.trail import TrailTable
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import DeviceId, Digest, EntitlementId, LineId, entitlement_reference
from tallystick.domain.ledger import Entry

ValueT = TypeVar("ValueT")
_RESTORED = "restored-at"
_RESTORE_IS_OPEN = "restore-is-open"
_LAST_OF_ID = "~"  # sorts behind every symbol of a device id


class SqlTransaction:
    """See ``activation.ports.Transaction``. ``locks`` is false where nothing will be written."""

    def __init__(self, connection: Connection, dialect: Dialect, *, locks: bool) -> None:
        self._raw = connection
        self._dialect = dialect
        self._locks = locks
        self._unwritten: Mapping[str, list[rows.Values]] | None = None
        self._batches = dialect.batches
        self._products: dict[str, Product] = {}
        self._device_accounts: dict[DeviceId, str | None] = {}  # every field server that has a row
        self._line_accounts: dict[LineId, str] = {}
        self._records: list[Record] = []

    @property
    def people(self) -> PeopleTables:
        """People, sessions, tokens."""
        return PeopleTables(self._connection, self._dialect, locks=self._locks)

    @property
    def incidents(self) -> IncidentTables:
        """Incidents, and how far people are with each."""
        return IncidentTables(self._connection, self._dialect)

    @property
    def trail(self) -> TrailTable:
        """The audit trail."""
        return TrailTable(self._connection, self._dialect, self._records)

    @property
    def frames(self) -> FrameTable:
        """QR codes that people read."""
        return FrameTable(self._connection, self._dialect)

    @property
    def deployment(self) -> DeploymentTable:
        """Whose database this is."""
        return DeploymentTable(self._connection, self._dialect)

    def within(self, scope: Scope) -> ScopedTables:
        """What exists for a caller."""
        return ScopedTables(self._connection, scope)

    @property
    def connection(self) -> Connection:
        """For the other modules of ``storage``."""
        return self._connection

    @property
    def _connection(self) -> Connection:
        """What is asked comes after what was saved."""
        if self._unwritten is not None:
            self._write_down(commits=False)
        return self._raw

    def finish(self) -> None:
        """Write what was saved last. What is left of the unit of work is its commit, which may be done as well."""
        if self._records:
            self.trail.write()
        if self._unwritten is not None:
            self._write_down(commits=True)

    def _write_down(self, *, commits: bool) -> None:
        sets, self._unwritten = self._unwritten, None
        if sets and any(sets.values()):
            self._batches.write(self._raw, sets, commits=commits)

    # On the way to a reply

    def load_field_servers_for_update(self, ids: Collection[DeviceId]) -> dict[DeviceId, FieldServer]:
        """See ``activation.ports.Transaction``."""
        found = self._batches.field_servers(self._connection, sorted(set(ids)), locks=self._locks) if ids else ()
        return self._field_servers(found)

    def load_lines_for_update(self, ids: Collection[LineId]) -> dict[LineId, Line]:
        """See ``activation.ports.Transaction``."""
        found = self._batches.lines(self._connection, sorted(set(ids)), locks=self._locks) if ids else ()
        return {line.line_id: line for line in self._lines(found)}

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
        asked = BatchKeys(
            field_servers=sorted(devices),
            digests=sorted(digests),
            sequences=sorted(sequences),
            grants=sorted(grants),
            lines=sorted(lines),
        )
        found = self._batches.asked(self._connection, asked, locks=self._locks)
        past = found.past
        used: dict[tuple[DeviceId, int], Digest] = {}
        for row in past.sequences:
            used.setdefault((row.device_id, row.number), row.digest)
        return Loaded(
            field_servers=self._field_servers(found.field_servers),
            lines={line.line_id: line for line in self._lines(found.lines)},
            past=Past(
                answers={row.digest: rows.answer_of(row) for row in past.answers},
                sequences=used,
                grants={(row.device_id, row.number): row.digest for row in past.grants},
            ),
        )

    def load_host_id_owners(self, host_ids: Collection[str]) -> dict[str, dict[DeviceId, str | None]]:
        """See ``activation.ports.Transaction``. Two first contacts with one host id wait for each other."""
        if self._locks:
            self._dialect.lock_names(self._connection, (f"host-id:{host_id}" for host_id in host_ids))
        owners: dict[str, dict[DeviceId, str | None]] = {}
        for row in self._batches.owners(self._connection, sorted(set(host_ids))):
            owners.setdefault(row.host_folded, {})[row.device_id] = row.account
        return owners

    def count_idle(self, account: str) -> int:
        """See ``activation.ports.Transaction``."""
        server, kept = FIELD_SERVERS.c, HOLDINGS.c
        is_kept = exists().where(kept.device_id == server.device_id, (kept.held > 0) | (kept.returning > 0))
        statement = select(func.count()).where(
            server.account == account, server.status != Status.LISTED.value, ~is_kept
        )
        return int(self._connection.execute(statement).scalar_one())

    def load_used_proofs(self, keys: Collection[tuple[DeviceId, str]]) -> dict[tuple[DeviceId, str], Digest]:
        """See ``activation.ports.Transaction``."""
        found = self._select(statements.PROOFS_BY_JTI, [jti for _, jti in keys])
        return {(row.device_id, row.jti): row.digest for row in found if (row.device_id, row.jti) in keys}

    def load_restore(self) -> Restore | None:
        """See ``activation.ports.Transaction``."""
        at = self.events.mark(_RESTORED)
        return None if at is None else Restore(at=at, is_open=bool(self.events.mark(_RESTORE_IS_OPEN)))

    def save_restore(self, restore: Restore) -> None:
        """See ``activation.ports.Transaction``."""
        self.events.set_mark(_RESTORED, restore.at)
        self.events.set_mark(_RESTORE_IS_OPEN, int(restore.is_open))

    def load_holdings(self, line_ids: Collection[LineId]) -> list[Holding]:
        """See ``activation.ports.Transaction``."""
        return [rows.holding_of(row) for row in self._select(statements.HOLDINGS_BY_LINE, line_ids)]

    def save(self, changes: Changes) -> None:
        """See ``activation.ports.Transaction``."""
        known = set(self._device_accounts)
        servers = [changes.field_servers[device_id] for device_id in sorted(changes.field_servers)]
        self._device_accounts |= {server.device_id: server.account for server in servers}
        self._line_accounts |= {line.line_id: line.account for line in changes.lines.values()}
        lines, devices = self._line_accounts, self._device_accounts
        holdings = sorted(changes.holdings.values(), key=lambda holding: (holding.line_id, holding.device_id))
        kept = [holding for holding in holdings if holding.held or holding.returning or holding.quarantined]
        gone = [holding for holding in holdings if not (holding.held or holding.returning or holding.quarantined)]
        sets: dict[str, list[rows.Values]] = {
            "new_field_servers": [
                rows.field_server_values(server) for server in servers if server.device_id not in known
            ],
            "field_servers": [rows.field_server_values(server) for server in servers if server.device_id in known],
            "lines": [rows.line_changes(changes.lines[key]) for key in sorted(changes.lines)],
            "entries": [rows.entry_values(entry, lines.get(entry.line_id)) for entry in changes.entries],
            "gone_holdings": [rows.holding_values(holding, None) for holding in gone],
            "holdings": [rows.holding_values(holding, lines.get(holding.line_id)) for holding in kept],
            "messages": [rows.message_values(message, devices.get(message.device_id)) for message in changes.messages],
            "grants": [rows.grant_values(grant, devices.get(grant.device_id)) for grant in changes.grants],
            "proofs": [rows.proof_values(proof) for proof in changes.proofs],
            "incidents": [rows.incident_values(one, devices.get(one.device_id)) for one in changes.incidents],
            # One declaration may be changed twice in a batch: the last one counts.
            "declarations": [
                rows.declaration_values(one)
                for one in {(one.device_id, one.at): one for one in changes.declarations}.values()
            ],
            "outbox": [outbox_values(changes.events)] if changes.events else [],
        }
        if self._unwritten is not None:
            self._write_down(commits=False)
        self._unwritten = sets  # it goes with what comes next: another statement, or the commit

    @property
    def events(self) -> EventTables:
        """The stream of events, webhooks and deliveries."""
        return EventTables(self._connection, self._dialect)

    # What people manage

    def load_issued_grant(self, device_id: DeviceId, number: int) -> IssuedGrant | None:
        """See ``activation.ports.Transaction``."""
        statement = select(GRANTS).where(GRANTS.c.device_id == device_id, GRANTS.c.number == number)
        return self._first(statement, rows.grant_of)

    def load_declarations(self, *, account: str | None, since_at: int) -> list[LostDeclaration]:
        """See ``activation.ports.Transaction``. Two who count at once wait for each other."""
        if self._locks:
            self._dialect.lock_names(self._connection, [f"declarations:{account}"])
        statement = select(DECLARATIONS).where(DECLARATIONS.c.account == account, DECLARATIONS.c.at >= since_at)
        return self._all(statement.order_by(DECLARATIONS.c.at), rows.declaration_of)

    def load_last_declaration(self, device_id: DeviceId) -> LostDeclaration | None:
        """See ``activation.ports.Transaction``."""
        statement = select(DECLARATIONS).where(DECLARATIONS.c.device_id == device_id)
        return self._first(statement.order_by(DECLARATIONS.c.at.desc()).limit(1), rows.declaration_of)

    def load_clock(self) -> ServiceClock:
        """See ``activation.ports.Transaction``."""
        return self._first(select(SERVICE_CLOCK), rows.clock_of) or ServiceClock()

    def load_clock_for_update(self) -> ServiceClock:
        """See ``activation.ports.Transaction``."""
        first = self._dialect.insert(SERVICE_CLOCK).values(number=1, at=0, seconds=0)
        self._connection.execute(first.on_conflict_do_nothing())
        return self._first(select(SERVICE_CLOCK).with_for_update(), rows.clock_of) or ServiceClock()

    def save_clock(self, clock: ServiceClock) -> None:
        """See ``activation.ports.Transaction``."""
        values = {"at": clock.at, "seconds": clock.seconds, "doubted_at": clock.doubted_at}
        self._connection.execute(update(SERVICE_CLOCK).values(values))

    def load_quarantine_ends(self, line_ids: Collection[LineId]) -> dict[LineId, int]:
        """See ``activation.ports.Transaction``."""
        return {row.line_id: row.until for row in self._select(statements.QUARANTINE_ENDS, line_ids)}

    def load_due_quarantines(self, seconds: int) -> list[DeviceId]:
        """See ``activation.ports.Transaction``."""
        due = (FIELD_SERVERS.c.status == Status.LOST.value, FIELD_SERVERS.c.waits_until <= seconds)
        return self._all(select(FIELD_SERVERS.c.device_id).where(*due), lambda row: DeviceId(row.device_id))

    def find_field_servers(self, *, after: DeviceId | None = None, limit: int = 1000) -> list[FieldServer]:
        """See ``activation.ports.Transaction``."""
        statement = select(FIELD_SERVERS).where(FIELD_SERVERS.c.device_id > (after or ""))
        return self._all(statement.order_by(FIELD_SERVERS.c.device_id).limit(limit), rows.field_server_of)

    def find_lines(self, *, after: LineId | None = None, limit: int = 1000) -> list[Line]:
        """See ``activation.ports.Transaction``."""
        statement = statements.LINES_WITH_PRODUCTS.where(LINES.c.line_id > (after or ""))
        return list(self._lines(self._connection.execute(statement.order_by(LINES.c.line_id).limit(limit))))

    def find_expiring_lines(self, *, after: int, until: int) -> list[Line]:
        """Lines that end between two moments, soonest first."""
        statement = statements.LINES_WITH_PRODUCTS.where(LINES.c.expires_at > after, LINES.c.expires_at <= until)
        statement = statement.order_by(LINES.c.expires_at, LINES.c.line_id)
        return list(self._lines(self._connection.execute(statement)))

    def count_open_returns(self) -> tuple[int, int]:
        """How many holdings of which some is returning, and since when the oldest (0: none)."""
        statement = select(func.count(), func.min(HOLDINGS.c.since_at)).where(HOLDINGS.c.returning > 0)
        count, oldest = self._connection.execute(statement).one()
        return int(count), int(oldest or 0)

    def schema_version(self) -> str | None:
        """The version of the schema."""
        return schema.version(self._connection)

    def find_open_returns(self) -> list[Holding]:
        """See ``activation.ports.Transaction``."""
        statement = select(HOLDINGS).where(HOLDINGS.c.returning > 0)
        order = (HOLDINGS.c.since_at, HOLDINGS.c.device_id, HOLDINGS.c.line_id)
        return self._all(statement.order_by(*order), rows.holding_of)

    def find_incidents(self, *, limit: int = 1000) -> list[Incident]:
        """See ``activation.ports.Transaction``."""
        return self._all(select(INCIDENTS).order_by(INCIDENTS.c.id.desc()).limit(limit), rows.incident_of)

    def find_entries(self, line_id: LineId, *, after: int = 0, limit: int = 10_000) -> list[Entry]:
        """See ``activation.ports.Transaction``."""
        statement = select(ENTRIES).where(ENTRIES.c.line_id == line_id, ENTRIES.c.number > after)
        return self._all(statement.order_by(ENTRIES.c.number).limit(limit), rows.entry_of)

    def find_entitlements(self, *, after: EntitlementId | None = None, limit: int = 1000) -> list[Entitlement]:
        """Entitlements with their lines, in id order, a page at a time."""
        statement = select(ENTITLEMENTS).where(ENTITLEMENTS.c.entitlement_id > (after or ""))
        found = list(self._connection.execute(statement.order_by(ENTITLEMENTS.c.entitlement_id).limit(limit)))
        return self._entitlements(found)

    def load_entitlement(self, entitlement_id: EntitlementId) -> Entitlement | None:
        """See ``activation.ports.Transaction``."""
        column = ENTITLEMENTS.c
        is_first = column.current_id.is_(None) & (column.entitlement_id == entitlement_id)
        statement = select(ENTITLEMENTS).where((column.current_id == entitlement_id) | is_first)
        found = next(iter(self._entitlements(list(self._connection.execute(statement)))), None)
        return None if found is None else replace(found, entitlement_id=entitlement_id)

    def replace_entitlement_id(self, reference: str, entitlement_id: EntitlementId) -> None:
        """From now on this one opens it, and no other one."""
        statement = update(ENTITLEMENTS).where(ENTITLEMENTS.c.reference == reference)
        self._connection.execute(statement.values(current_id=entitlement_id))

    def replace_line_secret(self, line_id: LineId, secret: bytes) -> None:
        """From now on the activation ID with this secret proves the right to activate, and no other one."""
        line = replace(self.load_lines_for_update([line_id])[line_id], secret=secret)
        values = rows.line_changes(line) | {"secret": secret}  # with its seal, which covers the secret
        self._connection.execute(update(LINES).where(LINES.c.line_id == line_id).values(values))

    def save_entitlement(self, entitlement: Entitlement, entries: Sequence[Entry]) -> None:
        """See ``activation.ports.Transaction``."""
        header = {
            "entitlement_id": entitlement.entitlement_id,
            "account": entitlement.account,
            "created_at": entitlement.created_at,
            "reference": entitlement_reference(entitlement.entitlement_id),
            "current_id": None,
        }
        self.people.save_account(entitlement.account, now=entitlement.created_at)
        self._write(statements.INSERT_ENTITLEMENT, [header])
        self._write(
            statements.INSERT_LINE,
            [rows.line_values(line, position) for position, line in enumerate(entitlement.lines)],
        )
        self._write(statements.INSERT_ENTRY, [rows.entry_values(entry, entitlement.account) for entry in entries])
        self._line_accounts |= {line.line_id: line.account for line in entitlement.lines}

    def load_catalog(self) -> Catalog:
        """See ``activation.ports.Transaction``."""
        kinds = self._all(select(KINDS).order_by(KINDS.c.position), lambda row: str(row.kind))
        products = self._all(select(PRODUCTS).order_by(PRODUCTS.c.sku), rows.product_of)
        return Catalog(kinds=tuple(kinds), products={product.sku: product for product in products})

    def save_catalog(self, catalog: Catalog) -> None:
        """See ``activation.ports.Transaction``. Products that the new catalog does not name stay, too."""
        self._connection.execute(KINDS.delete())
        kinds = [{"kind": kind, "position": position} for position, kind in enumerate(catalog.kinds)]
        self._write(statements.INSERT_KIND, kinds)
        products = [rows.product_values(catalog.products[sku]) for sku in sorted(catalog.products)]
        self._write(statements.upsert_product(self._dialect), products)
        self._products.clear()

    # Inside

    def _select(self, statement: Executable, keys: Collection[str]) -> Iterator[rows.Row]:
        ordered = sorted(set(keys))
        for start in range(0, len(ordered), KEYS_MAX):
            yield from self._connection.execute(statement, {"keys": ordered[start : start + KEYS_MAX]})

    def _all(self, statement: Executable, read: Callable[[rows.Row], ValueT]) -> list[ValueT]:
        return [read(row) for row in self._connection.execute(statement)]

    def _first(self, statement: Executable, read: Callable[[rows.Row], ValueT]) -> ValueT | None:
        row = self._connection.execute(statement).first()
        return None if row is None else read(row)

    def _write(self, statement: Executable, values: list[rows.Values]) -> None:
        if values:
            self._connection.execute(statement, values)

    def _field_servers(self, found: Iterable[rows.Row]) -> dict[DeviceId, FieldServer]:
        servers = [rows.field_server_of(row) for row in found]
        self._device_accounts |= {server.device_id: server.account for server in servers}
        return {server.device_id: server for server in servers}

    def _lines(self, found: Iterable[rows.Row]) -> Iterator[Line]:
        for row in found:
            product = self._products.get(row.sku)
            if product is None:
                product = self._products[row.sku] = rows.product_of(row, engineering=row.product_engineering)
            self._line_accounts[row.line_id] = row.account
            yield rows.line_of(row, product)

    def _entitlements(self, headers: Sequence[rows.Row]) -> list[Entitlement]:
        statement = statements.LINES_BY_ENTITLEMENT
        found = self._select(statement, [header.entitlement_id for header in headers])
        grouped = groupby(self._lines(found), key=lambda line: line.entitlement_id)
        lines = {entitlement_id: tuple(group) for entitlement_id, group in grouped}
        return [
            Entitlement(
                entitlement_id=header.entitlement_id,
                account=header.account,
                created_at=header.created_at,
                lines=lines.get(header.entitlement_id, ()),
            )
            for header in headers
        ]
