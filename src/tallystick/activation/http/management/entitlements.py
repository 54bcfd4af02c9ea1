"""The catalog, entitlements and their lines."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    AccountFilter,
    CallerDependency,
    DeviceAfter,
    EntitlementBefore,
    IdempotencyKey,
    IfMatch,
    Limit,
    LineAfter,
    OfficeDependency,
    once_for,
    page,
    tag,
    version_from,
)
from tallystick.activation.services import entitlements
from tallystick.activation.services.schemas import (
    ENTITLEMENT_PATTERN,
    LINE_PATTERN,
    MOMENT_MAX,
    REFERENCE_PATTERN,
    SKU_PATTERN,
    WHOLE,
    AccountName,
    ChangedDocument,
    Document,
    EntitlementDocument,
    HoldingDocument,
    LineDocument,
    Moment,
    Page,
    Quantity,
    RevealedEntitlement,
    RevealedLine,
    Sku,
)
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.protocol.tallyfile import MEDIA_TYPE

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES)
LinePath = Annotated[str, Path(pattern=LINE_PATTERN)]
EntitlementPath = Annotated[
    str, Path(pattern=f"{REFERENCE_PATTERN}|{ENTITLEMENT_PATTERN}", description="The reference, or the entitlement ID.")
]


class BoughtProduct(Document):
    """A product and how many of it."""

    product: Sku
    quantity: Annotated[int, Field(ge=1, le=QUANTITY_MAX), WHOLE]


class NewEntitlement(Document):
    """What an account bought. ``expires_at`` null: never. ``is_new_account``: the account is made if there is none."""

    account: AccountName
    products: Annotated[list[BoughtProduct], Field(min_length=1, max_length=100)]
    expires_at: Moment | None = None
    is_new_account: bool = Field(default=False, strict=True)


class ChangedLine(ChangedDocument):
    """What is changed; what is left out stays. ``expires_at`` null: never. ``is_bought``: engineering no more."""

    quantity: Quantity = 0
    expires_at: Moment | None = None
    suspended: bool = Field(default=False, strict=True)
    is_bought: bool = Field(default=False, strict=True)

    @property
    def change(self) -> LineChange:
        """As the accounts take it."""
        return LineChange(**self.named(), has_expiry="expires_at" in self.model_fields_set)


@router.get("/entitlements", tags=["entitlements"], summary="Entitlements with their lines, newest first")
def find_entitlements(
    office: OfficeDependency,
    caller: CallerDependency,
    account: AccountFilter | None = None,
    before: EntitlementBefore | None = None,
    limit: Limit = 100,
) -> Page[EntitlementDocument]:
    place = None
    if before is not None:
        created_at, reference = before.split(".", 1)
        place = (int(created_at), reference)
    found = entitlements.find_entitlements(office, caller, account=account, before=place, limit=limit + 1)
    made = page(found, limit, lambda item: f"{item.created_at}.{item.entitlement}")
    return Page[EntitlementDocument].model_validate(made)


@router.post("/entitlements", tags=["entitlements"], summary="Create an entitlement", status_code=201)
def create_entitlement(
    office: OfficeDependency, caller: CallerDependency, body: NewEntitlement, key: IdempotencyKey = None
) -> RevealedEntitlement:
    return entitlements.create_entitlement(
        office,
        caller,
        account=body.account,
        products=[(item.product, item.quantity) for item in body.products],
        expires_at=body.expires_at,
        is_new_account=body.is_new_account,
        once=once_for(key, "entitlement", body),
    )


@router.get(
    "/entitlements/{entitlement_id:entitlement}", tags=["entitlements"], summary="One entitlement with its lines"
)
def load_entitlement(
    office: OfficeDependency, caller: CallerDependency, entitlement_id: EntitlementPath
) -> EntitlementDocument:
    return entitlements.load_entitlement(office, caller, entitlement_id)


@router.post(
    "/entitlements/{entitlement_id:entitlement}/certificate",
    tags=["entitlements"],
    summary="The certificate, as a tally file; it has the activation IDs",
    response_class=Response,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}},
)
def certificate(office: OfficeDependency, caller: CallerDependency, entitlement_id: EntitlementPath) -> Response:
    return Response(entitlements.certificate(office, caller, entitlement_id)[0], media_type=MEDIA_TYPE)


@router.post(
    "/entitlements/{entitlement_id:entitlement}/reveal",
    tags=["entitlements"],
    summary="Show the entitlement ID and the activation IDs; it is written down who saw them",
)
def reveal_entitlement(
    office: OfficeDependency, caller: CallerDependency, entitlement_id: EntitlementPath
) -> RevealedEntitlement:
    return entitlements.reveal_entitlement(office, caller, entitlement_id)


@router.post(
    "/entitlements/{entitlement_id:entitlement}/rotate-secret",
    tags=["entitlements"],
    summary="Replace the entitlement ID and the activation IDs; the earlier ones open nothing any more",
)
def rotate_entitlement(
    office: OfficeDependency, caller: CallerDependency, entitlement_id: EntitlementPath, key: IdempotencyKey = None
) -> RevealedEntitlement:
    once = once_for(key, "entitlement-secret", entitlement_id)
    return entitlements.rotate_entitlement(office, caller, entitlement_id, once=once)


@router.post("/lines/{line_id}/reveal", tags=["lines"], summary="Show the activation ID; it is written down who saw it")
def reveal_line(office: OfficeDependency, caller: CallerDependency, line_id: LinePath) -> RevealedLine:
    return entitlements.reveal_line(office, caller, line_id)


@router.post("/lines/{line_id}/rotate-secret", tags=["lines"], summary="Replace the activation ID")
def rotate_line(
    office: OfficeDependency, caller: CallerDependency, line_id: LinePath, key: IdempotencyKey = None
) -> RevealedLine:
    return entitlements.rotate_line(office, caller, line_id, once=once_for(key, "line-secret", line_id))


@router.get("/lines", tags=["lines"], summary="Lines by id")
def find_lines(
    office: OfficeDependency,
    caller: CallerDependency,
    account: AccountFilter | None = None,
    product: Annotated[str | None, Query(pattern=SKU_PATTERN)] = None,
    expires_before: Annotated[int | None, Query(ge=0, le=MOMENT_MAX)] = None,
    used_up: Annotated[bool, Query(description="Only those of which nothing is available.")] = False,  # noqa: FBT002 - a query parameter
    after: LineAfter | None = None,
    limit: Limit = 100,
) -> Page[LineDocument]:
    found = entitlements.find_lines(
        office,
        caller,
        account=account,
        product=product,
        expires_before=expires_before,
        is_used_up=used_up,
        after=after or "",
        limit=limit + 1,
    )
    return Page[LineDocument].model_validate(page(found, limit, lambda item: item.line))


@router.get("/lines/{line_id}", tags=["lines"], summary="One line")
def load_line(
    office: OfficeDependency, caller: CallerDependency, response: Response, line_id: LinePath
) -> LineDocument:
    found = entitlements.load_line(office, caller, line_id)
    tag(response, found.version)
    return found


@router.patch("/lines/{line_id}", tags=["lines"], summary="Extend, raise, lower, suspend, turn engineering to bought")
def change_line(
    office: OfficeDependency,
    caller: CallerDependency,
    response: Response,
    line_id: LinePath,
    body: ChangedLine,
    if_match: IfMatch = None,
) -> LineDocument:
    changed = entitlements.change_line(office, caller, line_id, body.change, version=version_from(if_match))
    tag(response, changed.version)
    return changed


@router.get("/lines/{line_id}/holders", tags=["lines"], summary="Who holds rights of a line")
def find_holders(
    office: OfficeDependency,
    caller: CallerDependency,
    line_id: LinePath,
    after: DeviceAfter | None = None,
    limit: Limit = 100,
) -> Page[HoldingDocument]:
    found = entitlements.find_holders(office, caller, line_id, after=after or "", limit=limit + 1)
    return Page[HoldingDocument].model_validate(page(found, limit, lambda item: item.device_id))
