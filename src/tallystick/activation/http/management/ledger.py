"""The ledger."""

from __future__ import annotations

from fastapi import APIRouter

from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    AccountFilter,
    CallerDependency,
    DeviceQuery,
    EntryBefore,
    Limit,
    LineQuery,
    MomentQuery,
    OfficeDependency,
    page,
)
from tallystick.activation.services import ledger
from tallystick.activation.services.schemas import EntryDocument, Page

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES)


@router.get("/ledger", tags=["ledger"], summary="Rights that moved, newest first")
def find_entries(
    *,
    office: OfficeDependency,
    caller: CallerDependency,
    line: LineQuery = None,
    device_id: DeviceQuery = None,
    account: AccountFilter | None = None,
    since: MomentQuery = None,
    until: MomentQuery = None,
    before: EntryBefore | None = None,
    limit: Limit = 100,
) -> Page[EntryDocument]:
    place = None
    if before is not None:
        booked_at, line_id, number = before.split(".")
        place = (int(booked_at), line_id, int(number))
    found = ledger.find_entries(
        office,
        caller,
        line_id=line,
        device_id=device_id,
        account=account,
        since_at=since,
        until_at=until,
        before=place,
        limit=limit + 1,
    )
    made = page(found, limit, lambda item: f"{item.booked_at}.{item.line}.{item.number}")
    return Page[EntryDocument].model_validate(made)
