"""Incidents and how far people are with each, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select

from tallystick.activation.core.ports import Handling, Incident, IncidentKind, IncidentState, Resolution
from tallystick.activation.storage import rows
from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.seals import sealed
from tallystick.activation.storage.tables import FIELD_SERVERS, GRANTS, INCIDENT_STATES, INCIDENTS

_STATE: Final = INCIDENT_STATES.c
_HANDLED: Final = tuple(Handling.__struct_fields__)
FENCED: Final = (IncidentKind.ROLLBACK, IncidentKind.EPOCH_BEHIND)  # a fence ends them
WITH_STATES: Final = select(INCIDENTS, *(_STATE[name] for name in _HANDLED)).join_from(
    INCIDENTS, INCIDENT_STATES, isouter=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberedIncident:
    """An incident with the number that lists go by, and how far people are with it."""

    number: int
    account: str | None
    incident: Incident
    handling: Handling


def numbered_incident(row: rows.Row) -> NumberedIncident:
    """From the columns of ``WITH_STATES``."""
    values = {name: getattr(row, name) for name in _HANDLED if getattr(row, name) is not None}
    if "resolution" in values:
        values["resolution"] = Resolution(values["resolution"])
    return NumberedIncident(
        number=row.id, account=row.account, incident=rows.incident_of(row), handling=Handling(**values)
    )


def is_in(states: Collection[IncidentState]) -> ColumnElement[bool]:
    """Of which states, in SQL."""
    is_open = _STATE.resolved_at.is_(None) & _STATE.acknowledged_at.is_(None)
    is_acknowledged = _STATE.resolved_at.is_(None) & _STATE.acknowledged_at.is_not(None)
    said = {
        IncidentState.OPEN: is_open,
        IncidentState.ACKNOWLEDGED: is_acknowledged,
        IncidentState.RESOLVED: _STATE.resolved_at.is_not(None),
    }
    first, *others = [said[state] for state in states]
    for other in others:
        first = first | other
    return first


UNRESOLVED: Final = _STATE.resolved_at.is_(None)


class IncidentTables:
    """One transaction's view of incidents, of every account."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    def count_by_state(self) -> tuple[int, int]:
        """How many are open, and how many acknowledged and not resolved."""
        statement = select(func.count(), func.count(_STATE.acknowledged_at)).select_from(
            INCIDENTS.outerjoin(INCIDENT_STATES)
        )
        unresolved, acknowledged = self._connection.execute(statement.where(UNRESOLVED)).one()
        return unresolved - acknowledged, acknowledged

    def lock(self, number: int) -> None:
        """Whoever handles the same one waits until the commit."""
        self._connection.execute(select(INCIDENTS.c.id).where(INCIDENTS.c.id == number).with_for_update())

    def unresolved(self, kinds: Sequence[IncidentKind], device_id: str) -> list[NumberedIncident]:
        """Those of some kinds of a field server that are not over."""
        statement = self._of_kinds(kinds).where(INCIDENTS.c.device_id == device_id)
        return [numbered_incident(row) for row in self._connection.execute(statement)]

    def fenced(self, *, limit: int = 500) -> list[NumberedIncident]:
        """Those whose field server proved a grant that was made since: it is at what it should hold."""
        proven = select(GRANTS.c.number).join(
            FIELD_SERVERS,
            (FIELD_SERVERS.c.device_id == GRANTS.c.device_id) & (FIELD_SERVERS.c.proven == GRANTS.c.number),
        )
        proven = proven.where(GRANTS.c.device_id == INCIDENTS.c.device_id, GRANTS.c.issued_at >= INCIDENTS.c.at)
        statement = self._of_kinds(FENCED).where(proven.exists()).order_by(INCIDENTS.c.id).limit(limit)
        return [numbered_incident(row) for row in self._connection.execute(statement)]

    def save(self, number: int, handling: Handling) -> None:
        """It stands there from now on."""
        values = {name: getattr(handling, name) for name in _HANDLED}
        values["resolution"] = handling.resolution and handling.resolution.value
        row = sealed("incident_states", {"number": number, **values})
        insert = self._dialect.insert(INCIDENT_STATES).values(row)
        self._connection.execute(insert.on_conflict_do_update(index_elements=["number"], set_=row))

    def _of_kinds(self, kinds: Sequence[IncidentKind]) -> Select[Any]:
        return WITH_STATES.where(UNRESOLVED, INCIDENTS.c.kind.in_([kind.value for kind in kinds]))
