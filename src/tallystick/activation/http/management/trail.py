"""The audit trail."""

from __future__ import annotations

from fastapi import APIRouter

from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    CallerDependency,
    Limit,
    NumberBefore,
    OfficeDependency,
    page,
)
from tallystick.activation.services import trail
from tallystick.activation.services.schemas import Page, RecordDocument

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES)


@router.get("/trail", tags=["trail"], summary="Who did what, newest first")
def find_records(
    office: OfficeDependency, caller: CallerDependency, before: NumberBefore | None = None, limit: Limit = 100
) -> Page[RecordDocument]:
    found = trail.find_records(office, caller, before=before, limit=limit + 1)
    return Page[RecordDocument].model_validate(page(found, limit, lambda item: str(item.number)))
