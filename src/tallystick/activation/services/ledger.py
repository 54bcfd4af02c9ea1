"""The ledger, as who may sees it."""

from __future__ import annotations

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.services import documents
from tallystick.activation.services.base import Office
from tallystick.activation.services.schemas import EntryDocument
from tallystick.activation.storage import SqlTransaction


def find_entries(
    office: Office,
    caller: Caller,
    *,
    line_id: str | None = None,
    device_id: str | None = None,
    account: str | None = None,
    since_at: int | None = None,
    until_at: int | None = None,
    before: tuple[int, str, int] | None = None,
    limit: int = 100,
) -> list[EntryDocument]:
    """The ledger, newest first."""

    def work(transaction: SqlTransaction) -> list[EntryDocument]:
        found = transaction.within(caller.scope).entries(
            line_id=line_id,
            device_id=device_id,
            account=account,
            since_at=since_at,
            until_at=until_at,
            before=before,
            limit=limit,
        )
        return [documents.entry_document(entry) for entry in found]

    return office.read(caller, Permission.READ, work)
