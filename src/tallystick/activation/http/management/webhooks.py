"""Webhooks, their deliveries, and what can be done when one was not taken."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from tallystick.activation.core.ports import EventKind
from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    CallerDependency,
    IdempotencyKey,
    IfMatch,
    Limit,
    NumberBefore,
    OfficeDependency,
    once_for,
    page,
    tag,
    version_from,
)
from tallystick.activation.services import webhooks
from tallystick.activation.services.schemas import (
    WHOLE,
    AccountName,
    ChangedDocument,
    DeliveryDocument,
    Document,
    NewWebhook,
    Page,
    WebhookDocument,
)
from tallystick.activation.services.webhooks import WebhookChange
from tallystick.activation.storage.events import DeliveryState

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES, tags=["webhooks"])
WEBHOOK_PATTERN = "^WH-[A-Z2-7]{16}$"
WebhookId = Annotated[str, Path(pattern=WEBHOOK_PATTERN)]
WebhookAfter = Annotated[str, Query(pattern=WEBHOOK_PATTERN, description="`next` of the page before.")]
Position = Annotated[int, Field(ge=0, le=10**15), WHOLE]
Url = Annotated[
    str, Field(pattern="^https?://[!-~]{1,1900}$", max_length=1908, examples=["https://hooks.example.com/tally"])
]
Kinds = Annotated[list[EventKind], Field(max_length=50)]


class AskedWebhook(Document):
    """A new webhook. ``kinds`` empty: every kind; ``after``: also what is behind this position of the stream."""

    url: Url
    account: AccountName | None = None
    kinds: Kinds = Field(default=[])
    after: Position | None = None


class ChangedWebhook(ChangedDocument):
    """What is changed; what is left out stays. ``is_enabled`` false pauses: events wait until it is true again."""

    url: Url = ""
    kinds: Kinds = Field(default=[])
    is_enabled: bool = Field(default=True, strict=True)


class BehindPosition(Document):
    """A position in the stream of events."""

    after: Position


class Retried(Document):
    """How many deliveries are tried again."""

    retried: int


@router.get("/webhooks", summary="Webhooks, without their secrets")
def find_webhooks(
    office: OfficeDependency, caller: CallerDependency, after: WebhookAfter | None = None, limit: Limit = 100
) -> Page[WebhookDocument]:
    found = webhooks.find_webhooks(office, caller, after=after or "", limit=limit + 1)
    return Page[WebhookDocument].model_validate(page(found, limit, lambda item: item.webhook_id))


@router.post("/webhooks", summary="Create a webhook; its secret is shown once", status_code=201)
def create_webhook(
    office: OfficeDependency,
    caller: CallerDependency,
    response: Response,
    body: AskedWebhook,
    key: IdempotencyKey = None,
) -> NewWebhook:
    made = webhooks.create_webhook(
        office,
        caller,
        url=body.url,
        account=body.account,
        kinds=body.kinds,
        after=body.after,
        once=once_for(key, "webhook", body),
    )
    tag(response, made.version)
    return made


@router.get("/webhooks/{webhook_id}", summary="One webhook, without its secret")
def load_webhook(
    office: OfficeDependency, caller: CallerDependency, response: Response, webhook_id: WebhookId
) -> WebhookDocument:
    found = webhooks.load_webhook(office, caller, webhook_id)
    tag(response, found.version)
    return found


@router.patch("/webhooks/{webhook_id}", summary="Change the URL or the kinds of events, pause it, let it go on")
def change_webhook(
    office: OfficeDependency,
    caller: CallerDependency,
    response: Response,
    webhook_id: WebhookId,
    body: ChangedWebhook,
    if_match: IfMatch = None,
) -> WebhookDocument:
    change = WebhookChange(**body.named())
    changed = webhooks.change_webhook(office, caller, webhook_id, change, version=version_from(if_match))
    tag(response, changed.version)
    return changed


@router.delete("/webhooks/{webhook_id}", summary="Remove a webhook and forget its deliveries")
def remove_webhook(office: OfficeDependency, caller: CallerDependency, webhook_id: WebhookId) -> WebhookDocument:
    return webhooks.remove_webhook(office, caller, webhook_id)


@router.post(
    "/webhooks/{webhook_id}/secret",
    summary="Another secret, shown once; for a day the one before signs as well",
    status_code=201,
)
def rotate_secret(
    office: OfficeDependency, caller: CallerDependency, webhook_id: WebhookId, key: IdempotencyKey = None
) -> NewWebhook:
    return webhooks.rotate_secret(office, caller, webhook_id, once=once_for(key, "webhook-secret", webhook_id))


@router.get("/webhooks/{webhook_id}/deliveries", summary="What was sent and what came of it, newest event first")
def find_deliveries(
    *,
    office: OfficeDependency,
    caller: CallerDependency,
    webhook_id: WebhookId,
    state: DeliveryState | None = None,
    before: NumberBefore | None = None,
    limit: Limit = 100,
) -> Page[DeliveryDocument]:
    found = webhooks.find_deliveries(office, caller, webhook_id, state=state, before=before, limit=limit + 1)
    return Page[DeliveryDocument].model_validate(page(found, limit, lambda item: str(item.position)))


@router.post("/webhooks/{webhook_id}/deliveries/{position}/retry", summary="Send one delivery again, at once")
def retry_delivery(
    office: OfficeDependency,
    caller: CallerDependency,
    webhook_id: WebhookId,
    position: Annotated[int, Path(ge=1, le=10**15)],
) -> DeliveryDocument:
    return webhooks.retry_delivery(office, caller, webhook_id, position)


@router.post("/webhooks/{webhook_id}/retry", summary="Try what waits or was given up at once")
def retry_all(office: OfficeDependency, caller: CallerDependency, webhook_id: WebhookId) -> Retried:
    return Retried(retried=webhooks.retry_all(office, caller, webhook_id))


@router.post("/webhooks/{webhook_id}/replay", summary="Send everything behind a position of the stream again")
def replay(
    office: OfficeDependency, caller: CallerDependency, webhook_id: WebhookId, body: BehindPosition
) -> WebhookDocument:
    return webhooks.replay(office, caller, webhook_id, after=body.after)
