"""What every route shares: who asks, pages, versions, idempotency keys, how problems are described."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import Depends, Header, Query, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor

from tallystick.activation.core.permissions import Caller
from tallystick.activation.services import IdempotentRequest, Office, OfficeError
from tallystick.activation.services.history import CURSOR_PATTERN
from tallystick.activation.services.schemas import (
    ACCOUNT_PATTERN,
    DEVICE_PATTERN,
    LINE_PATTERN,
    MOMENT_MAX,
    NORMAL,
    REFERENCE_PATTERN,
)
from tallystick.activation.services.sign_in import caller_of_token
from tallystick.sentences import _

PAGE_MAX: Final = 200
PROBLEM_TYPE: Final = "application/problem+json"
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="token", description="A token of the page People and tokens.")

ItemT = TypeVar("ItemT")


class ReasonDocument(BaseModel):
    """Why one line was refused."""

    code: str
    expected: str
    seen: str
    line: str | None


class Problem(BaseModel):
    """RFC 9457, with a stable code, what was expected and seen, and what to do next.

    ``field``: which parameter or field was not as documented; ``pointer``: where it is in the body (RFC 6901).
    """

    type: str
    title: str
    status: int
    code: str
    expected: str
    seen: str
    next_step: str
    detail: str
    field: str | None = None
    pointer: str | None = None
    reasons: list[ReasonDocument] = []


PROBLEM_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem, with its code and next step (docs/errors.md lists all)",
        "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}

Limit = Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most.")]
LineAfter = Annotated[str, Query(pattern=LINE_PATTERN, description="`next` of the page before.")]
DeviceAfter = Annotated[str, Query(pattern=DEVICE_PATTERN, description="`next` of the page before.")]
AccountFilter = Annotated[str, Query(pattern=ACCOUNT_PATTERN, max_length=128), NORMAL]
AccountAfter = Annotated[str, Query(pattern=ACCOUNT_PATTERN, max_length=128, description="`next` of the page before.")]
PersonAfter = Annotated[str, Query(pattern="^PE-[A-Z2-7]{16}$", description="`next` of the page before.")]
TokenAfter = Annotated[str, Query(pattern="^TK-[A-Z2-7]{16}$", description="`next` of the page before.")]
DeviceQuery = Annotated[str | None, Query(pattern=DEVICE_PATTERN)]
LineQuery = Annotated[str | None, Query(pattern=LINE_PATTERN)]
MomentQuery = Annotated[int | None, Query(ge=0, le=MOMENT_MAX, description="Unix seconds, UTC.")]
NumberBefore = Annotated[int, Query(ge=1, le=10**15, description="`next` of the page before.")]
EntitlementBefore = Annotated[
    str, Query(pattern=rf"^[0-9]{{1,12}}\.{REFERENCE_PATTERN[1:]}", description="`next` of the page before.")
]
EntryBefore = Annotated[
    str,
    Query(pattern=rf"^[0-9]{{1,12}}\.{LINE_PATTERN[1:-1]}\.[0-9]{{1,15}}$", description="`next` of the page before."),
]
ReturnAfter = Annotated[
    str,
    Query(
        pattern=rf"^[0-9]{{1,12}}\.{DEVICE_PATTERN[1:-1]}\.{LINE_PATTERN[1:]}",
        description="`next` of the page before.",
    ),
]
HistoryBefore = Annotated[str, Query(pattern=CURSOR_PATTERN, description="`next` of the page before.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern="^[A-Za-z0-9._-]{8,64}$",
        description="The same request with the same key is done once within a day, and answered the same.",
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        max_length=100,
        description="The ETag of what you saw. Needed: 428 without it, 412 when somebody changed it meanwhile.",
    ),
]


class _EntitlementConvertor(StringConvertor):
    """References and IDs of entitlements in paths, so that ``/v1/entitlements/lookup`` is none."""

    regex = "E[NR]-[^/]+"


class _MessageConvertor(StringConvertor):
    """Digests in paths, so that ``/v1/messages/dry-run`` is none."""

    regex = "(?!dry-run$)[^/]+"


register_url_convertor("entitlement", _EntitlementConvertor())
register_url_convertor("message", _MessageConvertor())


async def caller_of(
    request: Request, bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Caller:
    """Who asks, by the token."""
    secret = bearer.credentials if bearer else ""
    caller = await run_in_threadpool(caller_of_token, office_of(request), secret)
    return replace(caller, address=request.client.host) if request.client else caller


def office_of(request: Request) -> Office:
    """The office."""
    office: Office = request.app.state.office
    return office


CallerDependency = Annotated[Caller, Depends(caller_of)]
OfficeDependency = Annotated[Office, Depends(office_of)]


def once_for(key: str | None, what: str, *parts: BaseModel | str) -> IdempotentRequest | None:
    """The idempotency key with the fingerprint of the request."""
    if key is None:
        return None
    texts = [part if isinstance(part, str) else part.model_dump_json() for part in parts]
    fingerprint = hashlib.sha256("\x1f".join((what, *texts)).encode("utf-8", "surrogatepass")).hexdigest()
    return IdempotentRequest(key=key, fingerprint=fingerprint)


def version_from(if_match: str | None) -> str:
    """The version that ``If-Match`` names; ``*`` is no version. Raises ``OfficeError`` (``version-missing``)."""
    if if_match is None or if_match.strip() == "*":
        raise OfficeError("version-missing", expected=_("the header If-Match with an ETag"), seen=if_match or _("none"))
    return if_match.strip().removeprefix("W/").strip('"')


def tag(response: Response, version: str) -> None:
    """Set the ETag: it covers what can be changed."""
    response.headers["ETag"] = f'"{version}"'


def page(
    found: Sequence[ItemT], limit: int, cursor: Callable[[ItemT], str]
) -> dict[Literal["items", "next"], list[ItemT] | str | None]:
    """A page from one more item than asked for."""
    shown = list(found[:limit])
    return {"items": shown, "next": cursor(shown[-1]) if len(found) > limit and shown else None}
