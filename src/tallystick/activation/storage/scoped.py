"""What one caller sees: every list and look-up within a ``Scope``.

Account isolation is here and by construction: ``ScopedTables`` has no statement that is not bound to its scope, and
what is outside is not found, as if it did not exist. Lists are read a page at a time, from the key of the last item.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, FromClause, Select, func, or_, select, tuple_

from tallystick.activation.core.permissions import Scope
from tallystick.activation.core.ports import (
    FieldServer,
    Holding,
    IncidentKind,
    IncidentState,
    IssuedGrant,
    LostDeclaration,
    Status,
    TakenMessage,
)
from tallystick.activation.storage import rows, statements
from tallystick.activation.storage.incidents import (
    UNRESOLVED,
    WITH_STATES,
    NumberedIncident,
    is_in,
    numbered_incident,
)
from tallystick.activation.storage.tables import (
    ACCOUNTS,
    DECLARATIONS,
    ENTITLEMENTS,
    ENTRIES,
    FIELD_SERVERS,
    GRANTS,
    HOLDINGS,
    INCIDENT_STATES,
    INCIDENTS,
    LINES,
    MESSAGES,
    PRODUCTS,
)
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import DeviceId, EntitlementId, LineId
from tallystick.domain.ledger import Entry
from tallystick.domain.text import folded

ValueT = TypeVar("ValueT")
_HISTORY_KEYS: Final = (("at",), ("at", "id"), ("issued_at", "number"), ("taken_at", "sequence", "digest"))  # by source
_KEYS_MAX: Final = 5000  # more than a page has: one statement
_USED_UP: Final = (LINES.c.available <= 0, LINES.c.bought > LINES.c.retired)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitlementHeader:
    """An entitlement without its lines."""

    reference: str
    entitlement_id: EntitlementId  # its key here, for ever
    current_id: EntitlementId  # what opens it now
    account: str
    created_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How many there are of what needs attention. ``lines`` and ``products``: at all."""

    returns: int
    incidents: int
    lines: int
    used_up: int
    expiring: int
    products: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HistoryCursor:
    """Where something stands in the history of a field server. ``source``: of one second, messages are the newest."""

    at: int
    source: int
    number: int = 0
    digest: str = ""


HistoryItem = TakenMessage | IssuedGrant | NumberedIncident | LostDeclaration


class ScopedTables:
    """One transaction's view of what is within a scope."""

    def __init__(self, connection: Connection, scope: Scope) -> None:
        self._connection = connection
        self._scope = scope

    # Accounts and entitlements

    def accounts(self, *, after: str = "", limit: int = 100) -> list[tuple[str, int]]:
        """Accounts by name, and since when."""
        statement = self._within(select(ACCOUNTS), ACCOUNTS.c.account).where(ACCOUNTS.c.account > after)
        found = self._connection.execute(statement.order_by(ACCOUNTS.c.account).limit(limit))
        return [(row.account, row.created_at) for row in found]

    def account(self, account: str) -> tuple[str, int] | None:
        """One account, and since when."""
        statement = self._within(select(ACCOUNTS), ACCOUNTS.c.account).where(ACCOUNTS.c.account == account)
        row = self._connection.execute(statement).first()
        return None if row is None else (row.account, row.created_at)

    def account_called(self, name: str) -> str:
        """The account that a person means by ``name``: the one of that name, else one that a reader takes for it."""
        statement = self._within(select(ACCOUNTS.c.account), ACCOUNTS.c.account)
        found = list(self._connection.execute(statement.where(ACCOUNTS.c.folded == folded(name))).scalars())
        return found[0] if found and name not in found else name

    def entitlements(
        self, *, account: str | None = None, before: tuple[int, str] | None = None, limit: int = 100
    ) -> list[EntitlementHeader]:
        """Entitlements, newest first."""
        column = ENTITLEMENTS.c
        statement = self._within(select(ENTITLEMENTS), column.account)
        if account is not None:
            statement = statement.where(column.account == self.account_called(account))
        if before is not None:
            statement = statement.where(tuple_(column.created_at, column.reference) < tuple_(*before))
        ordered = statement.order_by(column.created_at.desc(), column.reference.desc()).limit(limit)
        return [_header_of(row) for row in self._connection.execute(ordered)]

    def entitlement(self, called: str) -> EntitlementHeader | None:
        """One entitlement, by its reference, or by the ID that opens it now."""
        column = ENTITLEMENTS.c
        is_first = column.current_id.is_(None) & (column.entitlement_id == called)
        statement = self._within(select(ENTITLEMENTS), column.account)
        statement = statement.where((column.reference == called) | (column.current_id == called) | is_first)
        row = self._connection.execute(statement).first()
        return None if row is None else _header_of(row)

    # Lines

    def lines(
        self,
        *,
        account: str | None = None,
        product: str | None = None,
        entitlements: Collection[str] | None = None,
        expires_before: int | None = None,
        is_used_up: bool = False,
        after: str = "",
        limit: int = 100,
    ) -> list[Line]:
        """Lines by id. ``is_used_up``: nothing is available and something was bought."""
        column = LINES.c
        statement = self._within(statements.LINES_WITH_PRODUCTS, column.account).where(column.line_id > after)
        if account is not None:
            statement = statement.where(column.account == self.account_called(account))
        if product is not None:
            statement = statement.where(column.sku == product)
        if entitlements is not None:
            statement = statement.where(column.entitlement_id.in_(entitlements))
        if expires_before is not None:
            statement = statement.where(column.expires_at < expires_before)
        if is_used_up:
            statement = statement.where(*_USED_UP)
        return self._lines(statement.order_by(column.line_id).limit(limit))

    def lines_of_entitlements(self, entitlement_ids: Collection[str]) -> dict[str, list[Line]]:
        """The lines of each entitlement, in its order."""
        statement = self._within(statements.LINES_WITH_PRODUCTS, LINES.c.account).order_by(LINES.c.position)
        found: dict[str, list[Line]] = {entitlement_id: [] for entitlement_id in entitlement_ids}
        for keys in _pieces(entitlement_ids):
            for line in self._lines(statement.where(LINES.c.entitlement_id.in_(keys))):
                found[line.entitlement_id].append(line)
        return found

    def line(self, line_id: str) -> Line | None:
        """One line."""
        statement = self._within(statements.LINES_WITH_PRODUCTS, LINES.c.account)
        return next(iter(self._lines(statement.where(LINES.c.line_id == line_id))), None)

    def lines_by_id(self, line_ids: Collection[LineId]) -> dict[LineId, Line]:
        """Lines among ``line_ids``."""
        statement = self._within(statements.LINES_WITH_PRODUCTS, LINES.c.account)
        found: dict[LineId, Line] = {}
        for keys in _pieces(line_ids):
            found |= {line.line_id: line for line in self._lines(statement.where(LINES.c.line_id.in_(keys)))}
        return found

    def count(self, *, expires_before: int) -> Counts:
        """How many there are of what needs attention, whatever a page has room for. By one statement."""
        lines = LINES.c
        chosen: dict[str, tuple[FromClause, Column[Any], Sequence[ColumnElement[bool]]]] = {
            "returns": (HOLDINGS, HOLDINGS.c.account, [HOLDINGS.c.returning > 0]),
            "incidents": (INCIDENTS.outerjoin(INCIDENT_STATES), INCIDENTS.c.account, [UNRESOLVED]),
            "lines": (LINES, lines.account, []),
            "used_up": (LINES, lines.account, _USED_UP),
            "expiring": (LINES, lines.account, [lines.expires_at < expires_before]),
        }
        counted = [
            self._within(select(func.count()).select_from(table).where(*which), account).scalar_subquery().label(name)
            for name, (table, account, which) in chosen.items()
        ]
        products = select(func.count()).select_from(PRODUCTS).scalar_subquery().label("products")
        return Counts(**self._connection.execute(select(*counted, products)).mappings().one())

    # Field servers

    def field_servers(
        self,
        *,
        text: str = "",
        status: Status | None = None,
        kind: str | None = None,
        account: str | None = None,
        after: str = "",
        limit: int = 100,
    ) -> list[FieldServer]:
        """Field servers by device id. ``text``: a part of the name or host id, or the beginning of the device id."""
        column = FIELD_SERVERS.c
        statement = self._within(select(FIELD_SERVERS), column.account).where(column.device_id > after)
        if text:
            part = _contains(folded(text))
            statement = statement.where(
                or_(
                    column.folded.like(part, escape="\\"),
                    func.substr(column.device_id, 1, len(text)) == text,
                )
            )
        if status is not None:
            statement = statement.where(column.status == status.value)
        if kind is not None:
            statement = statement.where(column.kind == kind)
        if account is not None:
            statement = statement.where(column.account == self.account_called(account))
        return self._all(statement.order_by(column.device_id).limit(limit), rows.field_server_of)

    def field_server(self, device_id: str) -> FieldServer | None:
        """One field server."""
        statement = self._within(select(FIELD_SERVERS), FIELD_SERVERS.c.account)
        return self._first(statement.where(FIELD_SERVERS.c.device_id == device_id), rows.field_server_of)

    def field_servers_by_id(self, device_ids: Collection[str]) -> dict[DeviceId, FieldServer]:
        """Field servers among ``device_ids``."""
        statement = self._within(select(FIELD_SERVERS), FIELD_SERVERS.c.account)
        found: dict[DeviceId, FieldServer] = {}
        for keys in _pieces(device_ids):
            for server in self._all(statement.where(FIELD_SERVERS.c.device_id.in_(keys)), rows.field_server_of):
                found[server.device_id] = server
        return found

    def holders(self, line_id: str, *, after: str = "", limit: int = 200) -> list[Holding]:
        """Who holds a line, behind a device id."""
        column = HOLDINGS.c
        statement = self._within(select(HOLDINGS), column.account)
        statement = statement.where(column.line_id == line_id, column.device_id > after)
        return self._all(statement.order_by(column.device_id).limit(limit), rows.holding_of)

    def holdings(self, device_ids: Collection[str]) -> list[Holding]:
        """All that field servers hold, by line."""
        column = HOLDINGS.c
        statement = self._within(select(HOLDINGS), column.account).order_by(column.line_id, column.device_id)
        found: list[Holding] = []
        for keys in _pieces(device_ids):
            found += self._all(statement.where(column.device_id.in_(keys)), rows.holding_of)
        return found

    def started_here(self, device_ids: Collection[str]) -> set[str]:
        """Field servers among ``device_ids`` whose newest grant was started by a person here."""
        column = FIELD_SERVERS.c
        newest = (GRANTS.c.device_id == column.device_id) & (GRANTS.c.number == column.number)
        statement = self._within(select(column.device_id).join(GRANTS, newest), column.account)
        statement = statement.where(GRANTS.c.envelope.is_not(None))
        found: set[str] = set()
        for keys in _pieces(device_ids):
            found.update(self._connection.execute(statement.where(column.device_id.in_(keys))).scalars())
        return found

    def open_returns(self, *, after: tuple[int, str, str] | None = None, limit: int = 100) -> list[Holding]:
        """Holdings of which some is returning, oldest first."""
        column = HOLDINGS.c
        key = (column.since_at, column.device_id, column.line_id)
        statement = self._within(select(HOLDINGS).where(column.returning > 0), column.account)
        if after is not None:
            statement = statement.where(tuple_(*key) > tuple_(*after))
        return self._all(statement.order_by(*key).limit(limit), rows.holding_of)

    def count_open_returns(self) -> int:
        """How many there are."""
        statement = select(func.count()).select_from(HOLDINGS).where(HOLDINGS.c.returning > 0)
        return int(self._connection.execute(self._within(statement, HOLDINGS.c.account)).scalar_one())

    # History

    def history(
        self, device_id: str, *, before: HistoryCursor | None, limit: int
    ) -> list[tuple[HistoryCursor, HistoryItem]]:
        """Messages, grants that were started here, incidents and declarations of a field server, newest first."""
        started = select(GRANTS).where(GRANTS.c.envelope.is_not(None))
        sources = [(0, DECLARATIONS, select(DECLARATIONS)), (1, INCIDENTS, WITH_STATES)]
        sources += [(2, GRANTS, started), (3, MESSAGES, select(MESSAGES))]
        found: list[tuple[HistoryCursor, HistoryItem]] = []
        for source, table, statement in sources:
            key = [table.c[name] for name in _HISTORY_KEYS[source]]
            within = self._within(statement, table.c.account).where(table.c.device_id == device_id)
            if before is not None and source == before.source:
                cursor = (before.at, before.number, before.digest)[: len(key)]
                within = within.where(tuple_(*key) < tuple_(*cursor))
            elif before is not None:
                within = within.where(key[0] <= before.at if source < before.source else key[0] < before.at)
            found += self._all(within.order_by(*(part.desc() for part in key)).limit(limit), _TOLD_OF[source])
        return sorted(found, key=lambda pair: pair[0], reverse=True)[:limit]

    def message(self, digest: str) -> TakenMessage | None:
        """One message."""
        statement = self._within(select(MESSAGES), MESSAGES.c.account).where(MESSAGES.c.digest == digest)
        return self._first(statement, rows.message_of)

    def incidents(
        self,
        *,
        kind: IncidentKind | None = None,
        device_id: str | None = None,
        states: Collection[IncidentState] = (),
        before: int | None = None,
        limit: int = 100,
    ) -> list[NumberedIncident]:
        """Incidents, newest first. ``states``: only of these; none: of all."""
        column = INCIDENTS.c
        statement = self._within(WITH_STATES, column.account)
        if states:
            statement = statement.where(is_in(states))
        if kind is not None:
            statement = statement.where(column.kind == kind.value)
        if device_id is not None:
            statement = statement.where(column.device_id == device_id)
        if before is not None:
            statement = statement.where(column.id < before)
        return self._all(statement.order_by(column.id.desc()).limit(limit), numbered_incident)

    def incident(self, number: int) -> NumberedIncident | None:
        """One incident."""
        statement = self._within(WITH_STATES, INCIDENTS.c.account).where(INCIDENTS.c.id == number)
        return self._first(statement, numbered_incident)

    def entries(
        self,
        *,
        line_id: str | None = None,
        device_id: str | None = None,
        account: str | None = None,
        since_at: int | None = None,
        until_at: int | None = None,
        before: tuple[int, str, int] | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """The ledger, newest first."""
        column = ENTRIES.c
        key = (column.booked_at, column.line_id, column.number)
        statement = self._within(select(ENTRIES), column.account)
        if line_id is not None:
            statement = statement.where(column.line_id == line_id)
        if device_id is not None:
            statement = statement.where(column.device_id == device_id)
        if account is not None:
            statement = statement.where(column.account == self.account_called(account))
        if since_at is not None:
            statement = statement.where(column.booked_at >= since_at)
        if until_at is not None:
            statement = statement.where(column.booked_at < until_at)
        if before is not None:
            statement = statement.where(column.booked_at <= before[0], tuple_(*key) < tuple_(*before))
        return self._all(statement.order_by(*(part.desc() for part in key)).limit(limit), rows.entry_of)

    # Inside

    def _within(self, statement: Select[Any], account: Column[Any]) -> Select[Any]:
        return statement if self._scope.account is None else statement.where(account == self._scope.account)

    def _lines(self, statement: Select[Any]) -> list[Line]:
        return [
            rows.line_of(row, rows.product_of(row, engineering=row.product_engineering))
            for row in self._connection.execute(statement)
        ]

    def _all(self, statement: Select[Any], read: Callable[[rows.Row], ValueT]) -> list[ValueT]:
        return [read(row) for row in self._connection.execute(statement)]

    def _first(self, statement: Select[Any], read: Callable[[rows.Row], ValueT]) -> ValueT | None:
        row = self._connection.execute(statement.limit(1)).first()
        return None if row is None else read(row)


def _pieces(keys: Collection[str]) -> Iterator[list[str]]:
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), _KEYS_MAX):
        yield ordered[start : start + _KEYS_MAX]


def _contains(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{plain}%"


def _told_declaration(row: rows.Row) -> tuple[HistoryCursor, HistoryItem]:
    return HistoryCursor(at=row.at, source=0), rows.declaration_of(row)


def _told_incident(row: rows.Row) -> tuple[HistoryCursor, HistoryItem]:
    return HistoryCursor(at=row.at, source=1, number=row.id), numbered_incident(row)


def _told_grant(row: rows.Row) -> tuple[HistoryCursor, HistoryItem]:
    return HistoryCursor(at=row.issued_at, source=2, number=row.number), rows.grant_of(row)


def _told_message(row: rows.Row) -> tuple[HistoryCursor, HistoryItem]:
    return HistoryCursor(at=row.taken_at, source=3, number=row.sequence, digest=row.digest), rows.message_of(row)


_TOLD_OF: Final = (_told_declaration, _told_incident, _told_grant, _told_message)  # by source


def _header_of(row: rows.Row) -> EntitlementHeader:
    return EntitlementHeader(
        reference=row.reference,
        entitlement_id=row.entitlement_id,
        current_id=row.current_id or row.entitlement_id,
        account=row.account,
        created_at=row.created_at,
    )
