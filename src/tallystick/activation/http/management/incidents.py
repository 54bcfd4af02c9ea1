"""Incidents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from tallystick.activation.core.ports import IncidentKind, IncidentState
from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    CallerDependency,
    DeviceQuery,
    Limit,
    NumberBefore,
    OfficeDependency,
    page,
)
from tallystick.activation.services import incidents
from tallystick.activation.services.schemas import Document, IncidentDocument, Page, Text

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES, tags=["incidents"])
Number = Annotated[int, Path(ge=1, le=10**15)]
States = Annotated[list[IncidentState] | None, Query(description="Only those that stand there; repeatable.")]


class NoteBody(Document):
    """A word about it, for who looks later."""

    note: Text | None = None


@router.get("/incidents", summary="What was noticed, newest first, what a person can do, and what ended it")
def find_incidents(
    *,
    office: OfficeDependency,
    caller: CallerDependency,
    kind: IncidentKind | None = None,
    device_id: DeviceQuery = None,
    state: States = None,
    before: NumberBefore | None = None,
    limit: Limit = 100,
) -> Page[IncidentDocument]:
    found = incidents.find_incidents(
        office, caller, kind=kind, device_id=device_id, states=state or (), before=before, limit=limit + 1
    )
    return Page[IncidentDocument].model_validate(page(found, limit, lambda item: str(item.number)))


@router.get("/incidents/{number}", summary="One incident")
def load_incident(office: OfficeDependency, caller: CallerDependency, number: Number) -> IncidentDocument:
    return incidents.load_incident(office, caller, number)


@router.post("/incidents/{number}/acknowledge", summary="Say that you look at it")
def acknowledge(office: OfficeDependency, caller: CallerDependency, number: Number, body: NoteBody) -> IncidentDocument:
    return incidents.acknowledge(office, caller, number, note=body.note or "")


@router.post("/incidents/{number}/resolve", summary="Say that it is over")
def resolve(office: OfficeDependency, caller: CallerDependency, number: Number, body: NoteBody) -> IncidentDocument:
    return incidents.resolve(office, caller, number, note=body.note or "")
