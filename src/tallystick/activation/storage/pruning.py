"""Old stored replies and grant digests that no field server can need any more.

Guarantees: what decides is never pruned. Of every field server there stay its newest message and every grant at which
it may be; of one on hold, declared lost or rolled back, or not heard from since a restore, everything. The ledger, incidents,
declarations and the trail stay for ever. Each page is a transaction of its own, beside a running activation server.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Executable, and_, bindparam, delete, func, or_, select, tuple_

from tallystick.activation.core.ports import Status
from tallystick.activation.storage.store import SqlStore
from tallystick.activation.storage.tables import FIELD_SERVERS, GRANTS, MESSAGES

ROWS: Final = 2000  # looked at in one transaction

_SETTLED: Final = and_(
    FIELD_SERVERS.c.status == Status.ACTIVE.value,
    FIELD_SERVERS.c.recovering.is_(None),
    FIELD_SERVERS.c.rolled_back_at.is_(None),
)
_OLD_MESSAGE: Final = and_(
    MESSAGES.c.taken_at < bindparam("before"),
    or_(FIELD_SERVERS.c.device_id.is_(None), and_(_SETTLED, MESSAGES.c.sequence < FIELD_SERVERS.c.sequence)),
)
_OLD_GRANT: Final = and_(
    GRANTS.c.issued_at < bindparam("before"),
    _SETTLED,
    GRANTS.c.number < FIELD_SERVERS.c.number,
    or_(GRANTS.c.epoch < FIELD_SERVERS.c.spoken_epoch, GRANTS.c.number < FIELD_SERVERS.c.proven),
)
# Pages in the order of an index, so that all pages together read each row once.
_MESSAGES: Final = (
    select(MESSAGES.c.device_id, MESSAGES.c.sequence, MESSAGES.c.digest, _OLD_MESSAGE.label("is_old"))
    .join_from(MESSAGES, FIELD_SERVERS, FIELD_SERVERS.c.device_id == MESSAGES.c.device_id, isouter=True)
    .where(tuple_(MESSAGES.c.device_id, MESSAGES.c.sequence) >= tuple_(bindparam("device_id"), bindparam("number")))
    .order_by(MESSAGES.c.device_id, MESSAGES.c.sequence)
    .limit(ROWS)
)
_GRANTS: Final = (
    select(GRANTS.c.device_id, GRANTS.c.number, _OLD_GRANT.label("is_old"))
    .join_from(GRANTS, FIELD_SERVERS, FIELD_SERVERS.c.device_id == GRANTS.c.device_id)
    .where(tuple_(GRANTS.c.device_id, GRANTS.c.number) > tuple_(bindparam("device_id"), bindparam("number")))
    .order_by(GRANTS.c.device_id, GRANTS.c.number)
    .limit(ROWS)
)
_DELETE_MESSAGE: Final = delete(MESSAGES).where(MESSAGES.c.digest == bindparam("key_digest"))
_DELETE_GRANT: Final = delete(GRANTS).where(
    GRANTS.c.device_id == bindparam("key_device_id"), GRANTS.c.number == bindparam("key_number")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows went, and how many stay."""

    messages: int
    messages_kept: int
    grants: int
    grants_kept: int


def prune(store: SqlStore, *, before: int, advance: Callable[[int], None]) -> Pruned:
    """Delete what is older than ``before`` and not needed. ``advance`` is called with how many rows were looked at.

    Interrupted, it is run again. Raises ``DatabaseError``.
    """
    messages = _walk(
        store,
        _MESSAGES,
        _DELETE_MESSAGE,
        lambda row: ({"key_digest": row.digest}, (row.device_id, row.sequence)),
        before=before,
        advance=advance,
    )
    grants = _walk(
        store,
        _GRANTS,
        _DELETE_GRANT,
        lambda row: ({"key_device_id": row.device_id, "key_number": row.number}, (row.device_id, row.number)),
        before=before,
        advance=advance,
    )

    def count(transaction: Any) -> tuple[int, int]:
        connection = transaction.connection
        return (
            connection.execute(select(func.count()).select_from(MESSAGES)).scalar(),
            connection.execute(select(func.count()).select_from(GRANTS)).scalar(),
        )

    messages_kept, grants_kept = store.read(count)
    return Pruned(messages=messages, messages_kept=messages_kept, grants=grants, grants_kept=grants_kept)


def _walk(
    store: SqlStore,
    page: Executable,
    deletion: Executable,
    keys_of: Callable[[Any], tuple[dict[str, Any], tuple[str, int]]],
    *,
    before: int,
    advance: Callable[[int], None],
) -> int:
    place, gone = ("", 0), 0
    while True:
        parameters = {"before": before, "device_id": place[0], "number": place[1]}

        def work(transaction: Any, parameters: dict[str, Any] = parameters) -> tuple[int, int, tuple[str, int] | None]:
            rows = transaction.connection.execute(page, parameters).all()
            keys = [keys_of(row)[0] for row in rows if row.is_old]
            if keys:
                transaction.connection.execute(deletion, keys)
            return len(rows), len(keys), keys_of(rows[-1])[1] if rows else None

        looked_at, deleted, last = store.transact(work)
        advance(looked_at)
        gone += deleted
        # Several messages may have one place (a fork); the next page begins there once more.
        if last is None or (looked_at < ROWS and not deleted) or (last == place and not deleted):
            return gone
        place = last
