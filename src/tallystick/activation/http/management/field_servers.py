"""Field servers, returns, what is declared lost, replies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import Field

from tallystick.activation.core.ports import Status
from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    AccountFilter,
    CallerDependency,
    DeviceAfter,
    HistoryBefore,
    IdempotencyKey,
    Limit,
    OfficeDependency,
    ReturnAfter,
    once_for,
    page,
)
from tallystick.activation.services import field_servers, messages
from tallystick.activation.services import history as history_service
from tallystick.activation.services.schemas import (
    DEVICE_PATTERN,
    DeviceText,
    Document,
    EventDocument,
    FieldServerDocument,
    LineText,
    Page,
    Quantity,
    ReplyDocument,
    ReturnDocument,
    StartedDocument,
    Text,
)

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES)
DevicePath = Annotated[str, Path(pattern=DEVICE_PATTERN)]


class ReasonBody(Document):
    """Why, for the audit trail."""

    reason: Text


class LostReasonBody(Document):
    """Why. ``override``: beyond the yearly limit, with the permission for it."""

    reason: Text
    override: bool = Field(default=False, strict=True)


class EndState(Document):
    """How many of a line a field server is to hold."""

    line: LineText
    quantity: Quantity


class ChangeBody(Document):
    """End states; lines that are not named stay as they are. None: what was started is answered again."""

    lines: Annotated[list[EndState], Field(max_length=50)]


class ReplacementBody(Document):
    """Which field server takes over, and why."""

    by: DeviceText
    reason: Text


@router.get("/field-servers", tags=["field servers"], summary="Search field servers, and what they hold")
def find_field_servers(
    office: OfficeDependency,
    caller: CallerDependency,
    text: Annotated[
        str,
        Query(pattern="^[^\\x00]*$", max_length=128, description="Part of a name or host id, or how the id begins."),
    ] = "",
    status: Status | None = None,
    kind: Annotated[str | None, Query(pattern="^[^\\x00]*$", max_length=128)] = None,
    account: AccountFilter | None = None,
    after: DeviceAfter | None = None,
    limit: Limit = 100,
) -> Page[FieldServerDocument]:
    found = field_servers.find_field_servers(
        office,
        caller,
        text=text,
        status=status,
        kind=kind,
        account=account,
        after=after or "",
        limit=limit + 1,
    )
    return Page[FieldServerDocument].model_validate(page(found, limit, lambda item: item.device_id))


@router.get("/field-servers/{device_id}", tags=["field servers"], summary="One field server, and what it holds")
def load_field_server(office: OfficeDependency, caller: CallerDependency, device_id: DevicePath) -> FieldServerDocument:
    return field_servers.load_field_server(office, caller, device_id)


@router.get("/field-servers/{device_id}/history", tags=["field servers"], summary="Its history, newest first")
def history(
    office: OfficeDependency,
    caller: CallerDependency,
    device_id: DevicePath,
    before: HistoryBefore | None = None,
    limit: Limit = 100,
) -> Page[EventDocument]:
    found, following = history_service.find_history(office, caller, device_id, before=before, limit=limit)
    return Page[EventDocument](items=found, next=following)


@router.post(
    "/field-servers/{device_id}/return", tags=["returns"], summary="Start a return of everything", status_code=201
)
def start_return(
    office: OfficeDependency, caller: CallerDependency, device_id: DevicePath, key: IdempotencyKey = None
) -> StartedDocument:
    return field_servers.start_return(office, caller, device_id, once=once_for(key, "return", device_id))


@router.post("/field-servers/{device_id}/change", tags=["returns"], summary="Set end states from here", status_code=201)
def start_change(
    office: OfficeDependency,
    caller: CallerDependency,
    device_id: DevicePath,
    body: ChangeBody,
    key: IdempotencyKey = None,
) -> StartedDocument:
    wants = [(want.line, want.quantity) for want in body.lines]
    return field_servers.start_change(office, caller, device_id, wants, once=once_for(key, "change", device_id, body))


@router.post("/field-servers/{device_id}/lost", tags=["field servers"], summary="Declare a dead one lost")
def declare_lost(
    office: OfficeDependency, caller: CallerDependency, device_id: DevicePath, body: LostReasonBody
) -> FieldServerDocument:
    return field_servers.declare_lost(office, caller, device_id, reason=body.reason, override=body.override)


@router.post("/field-servers/{device_id}/hold", tags=["field servers"], summary="Put it on hold")
def hold(
    office: OfficeDependency, caller: CallerDependency, device_id: DevicePath, body: ReasonBody
) -> FieldServerDocument:
    return field_servers.hold(office, caller, device_id, reason=body.reason)


@router.post("/field-servers/{device_id}/release", tags=["field servers"], summary="End a hold")
def release(office: OfficeDependency, caller: CallerDependency, device_id: DevicePath) -> FieldServerDocument:
    return field_servers.release(office, caller, device_id)


@router.post("/field-servers/{device_id}/retire", tags=["field servers"], summary="Take one that holds nothing out")
def retire(office: OfficeDependency, caller: CallerDependency, device_id: DevicePath) -> FieldServerDocument:
    return field_servers.retire(office, caller, device_id)


@router.post(
    "/field-servers/{device_id}/replace",
    tags=["field servers"],
    summary="Declare it lost and set another one to what it held",
    status_code=201,
)
def replace(
    office: OfficeDependency,
    caller: CallerDependency,
    device_id: DevicePath,
    body: ReplacementBody,
    key: IdempotencyKey = None,
) -> StartedDocument:
    return field_servers.replace_field_server(
        office,
        caller,
        device_id,
        by_device=body.by,
        reason=body.reason,
        once=once_for(key, "replace", device_id, body),
    )


@router.get("/returns", tags=["returns"], summary="Open returns, oldest first: where each stands, the next step")
def find_returns(
    office: OfficeDependency, caller: CallerDependency, after: ReturnAfter | None = None, limit: Limit = 100
) -> Page[ReturnDocument]:
    place = None
    if after is not None:
        since_at, device_id, line_id = after.split(".")
        place = (int(since_at), device_id, line_id)
    found = field_servers.find_open_returns(office, caller, after=place, limit=limit + 1)
    made = page(found, limit, lambda item: f"{item.since_at}.{item.device_id}.{item.line}")
    return Page[ReturnDocument].model_validate(made)


@router.get(
    "/messages/{digest:message}", tags=["messages"], summary="The stored answer to a message, as often as one likes"
)
def load_reply(
    office: OfficeDependency, caller: CallerDependency, digest: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{43}$")]
) -> ReplyDocument:
    return messages.load_reply(office, caller, digest)
