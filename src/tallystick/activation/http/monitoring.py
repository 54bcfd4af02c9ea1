"""Routes for those who run an activation server: whether it is ready, how it does, and what happened.

``/readyz`` is for load balancers and says no secret. ``/metrics`` needs the operations token; where none is set, it is
open to this machine only. ``/v1/events`` needs that token, or one of the page People and tokens, which shows what its
caller may see.
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import FastAPI, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.activation.core.permissions import EVERYTHING, Permission
from tallystick.activation.core.permissions import Scope as Sight
from tallystick.activation.core.ports import Signer
from tallystick.activation.http.metrics import CONTENT_TYPE, Metrics
from tallystick.activation.logs import REQUEST_ID
from tallystick.activation.outbound import webhooks
from tallystick.activation.outbound.webhooks import Dispatcher
from tallystick.activation.services import Office
from tallystick.activation.services.sign_in import caller_of_token
from tallystick.activation.storage import SqlStore, SqlTransaction
from tallystick.activation.storage.schema import HEAD
from tallystick.errors import Error
from tallystick.sentences import _

PAGE_MAX: Final = 1000
NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_POSITION_MAX: Final = 2**53 - 1
_ID_BYTES: Final = 8
_IDS_DRAWN: Final = 256

_PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "description": "A problem, with its code and next step (docs/errors.md lists all)",
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
_METRICS: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/plain": {}}}, **_PROBLEMS}
_READY: Final[dict[int | str, dict[str, Any]]] = {503: {"description": "Not ready; `checks` says why"}}

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringContext:
    """What the routes need. ``check`` raises when this process must not serve."""

    office: Office
    dispatcher: Dispatcher
    metrics: Metrics
    token: str | None
    logs_requests: bool
    request_ids: Iterator[bytes]
    check: Callable[[], None]


def add_monitoring(api: FastAPI, operations: MonitoringContext) -> None:
    """Add the routes, request ids, and the counting of requests to the application."""
    api.add_middleware(Watch, operations=operations)

    @api.get("/readyz", summary="Whether this process can serve now", response_model=None, responses=_READY)
    async def readyz() -> Response:
        checks = await run_in_threadpool(check_ready, operations)
        is_ready = all(value == "ok" for value in checks.values())
        document = {"status": "ready" if is_ready else "not ready", "checks": checks}
        return JSONResponse(document, status_code=200 if is_ready else 503)

    @api.get("/metrics", summary="What monitoring sees, for Prometheus", response_class=Response, responses=_METRICS)
    async def metrics(request: Request) -> Response:
        if not _has_token(operations, request) and not _is_local(operations, request):
            raise Error("operations-token-wrong", expected=_("the operations token"), seen=_("none, or another one"))
        return Response(await run_in_threadpool(operations.metrics.text), media_type=CONTENT_TYPE)

    @api.get(
        "/v1/events", summary="What happened, behind a position of the stream", response_model=None, responses=_PROBLEMS
    )
    async def events(
        request: Request,
        after: Annotated[int, Query(ge=0, le=_POSITION_MAX, description="`next` of the answer before.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX, description="How many at most.")] = 100,
        kind: Annotated[list[str] | None, Query(description="Only of these kinds.")] = None,
        account: Annotated[str | None, Query(max_length=128, description="Only of this account.")] = None,
    ) -> dict[str, Any]:
        scope = await run_in_threadpool(_scope_of, operations, request)

        def work(transaction: SqlTransaction) -> tuple[list[dict[str, object]], int, bool]:
            only = scope.account if account is None else transaction.within(scope).account_called(account)
            if account is not None and not scope.covers(only):
                return [], after, False
            last = transaction.events.last_position()
            if after > last:
                raise webhooks.WebhookError(
                    "cursor-wrong", expected=_("a position from 0 to {last}", last=last), seen=str(after)
                )
            found = transaction.events.find(after=after, limit=limit + 1, account=only, kinds=kind or ())
            found = [event for event in found if event.position <= last]
            has_more = len(found) > limit
            shown = found[:limit]
            return [webhooks.event_view(event) for event in shown], shown[-1].position if has_more else last, has_more

        await run_in_threadpool(operations.dispatcher.place_all)
        found, next_, has_more = await run_in_threadpool(operations.office.store.read, work)
        return {"events": found, "next": next_, "has_more": has_more}


def check_ready(operations: MonitoringContext) -> dict[str, str]:
    """The parts that serving needs; each ``ok``, or what is wrong."""
    checks = {
        "process": _tried(operations.check),
        "keys": _tried(lambda: operations.office.signer.sign("ready+jwt", b"{}")),
    }

    def schema(transaction: SqlTransaction) -> None:
        found = transaction.schema_version()
        if found != HEAD:
            raise Error("database-older", expected=_("schema {head}", head=HEAD), seen=_("schema {found}", found=found))

    checks["database"] = _tried(lambda: operations.office.store.read(schema))
    return checks


class Watch:
    """Every request has an id, is counted, and is logged where the settings say so. No answer is what it does not say."""

    def __init__(self, app: ASGIApp, operations: MonitoringContext) -> None:
        self._app = app
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(self._operations, scope["headers"])
        mark = REQUEST_ID.set(request_id.decode())
        started = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id)]
                message["headers"] = (
                    headers if any(NOSNIFF[0] == name for name, _other in headers) else [*headers, NOSNIFF]
                )
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = route_of(scope)
            count_request(
                self._operations,
                request_id=request_id,
                scope=scope,
                client=(scope.get("client") or ("",))[0],  # a proxy's word is in it where the proxy is trusted
                route=route,
                status=status,
                seconds=seconds,
            )
            REQUEST_ID.reset(mark)


def route_of(scope: Scope) -> str:
    """The path of a request as its route has it, without what stands for its parameters; ``none`` where there is no route."""
    route: str | None = getattr(scope.get("route"), "path", None)
    if "rest" in scope.get("path_params", {}):  # the page for whatever no route takes
        return "none"
    if route is not None or "endpoint" not in scope:
        return route or "none"
    names = {str(value): name for name, value in scope.get("path_params", {}).items()}
    segments = scope["path"].split("/")
    if not names.keys() <= set(segments):
        return "none"
    return "/".join(f"{{{names[segment]}}}" if segment in names else segment for segment in segments)


def request_id_of(operations: MonitoringContext, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id that a client gave its request, where it can be one, or a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value
    return next(operations.request_ids)


def new_request_ids(random_bytes: Callable[[int], bytes]) -> Iterator[bytes]:
    """New ids without end. They are drawn many at a time: each draw asks the system, and others get the GIL."""
    while True:
        drawn = random_bytes(_ID_BYTES * _IDS_DRAWN).hex().encode()
        yield from (drawn[start : start + 2 * _ID_BYTES] for start in range(0, len(drawn), 2 * _ID_BYTES))


def count_request(
    operations: MonitoringContext,
    *,
    request_id: bytes,
    scope: Any,
    client: str,
    route: str,
    status: int,
    seconds: float,
) -> None:
    """A request was answered: for monitoring, and for the log where the settings say so."""
    method = scope["method"] if scope["method"] in _METHODS else "other"
    operations.metrics.count_request(method=method, route=route, status=status, seconds=seconds)
    if operations.logs_requests:
        mark = REQUEST_ID.set(request_id.decode())
        more = {"client": client, "method": method, "route": route, "status": status, "seconds": round(seconds, 6)}
        _LOG.info("%s %s: %d, for %s", method, route, status, client, extra=more)
        REQUEST_ID.reset(mark)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def look(store: SqlStore, signer: Signer) -> dict[str, tuple[str, float]]:
    """Gauges that are looked up when monitoring asks. What cannot be looked up is left out, and ``up`` says so."""
    found: dict[str, tuple[str, float]] = {
        "tallystick_keyset_version": ("The version of the keyset in service.", signer.keyset.version)
    }

    def work(transaction: SqlTransaction) -> None:
        count, oldest = transaction.count_open_returns()
        found["tallystick_open_returns"] = ("Holdings of which some is returning.", count)
        found["tallystick_open_return_oldest_timestamp_seconds"] = ("Since when the oldest is open; 0: none.", oldest)
        opened, acknowledged = transaction.incidents.count_by_state()
        found["tallystick_incidents_open"] = ("Incidents that nobody has acknowledged.", opened)
        found["tallystick_incidents_acknowledged"] = ("Incidents that are acknowledged and not resolved.", acknowledged)
        deliveries = transaction.events.count_deliveries()
        found["tallystick_webhook_deliveries_waiting"] = ("Deliveries that wait.", deliveries.get("waiting", 0))
        found["tallystick_webhook_deliveries_given_up"] = ("Deliveries given up.", deliveries.get("given-up", 0))
        found["tallystick_event_position"] = ("The newest position of the stream.", transaction.events.last_position())

    is_up = 1.0
    try:
        store.read(work)
    except Error:
        is_up = 0.0
    found["tallystick_database_up"] = ("Whether the database answered.", is_up)
    return found


def _scope_of(operations: MonitoringContext, request: Request) -> Sight:
    if _has_token(operations, request):
        return EVERYTHING
    caller = caller_of_token(operations.office, _bearer(request))
    caller.check(Permission.READ)
    return caller.scope


def _has_token(operations: MonitoringContext, request: Request) -> bool:
    return operations.token is not None and hmac.compare_digest(
        _bearer(request).encode("utf-8", "replace"), operations.token.encode("utf-8", "surrogateescape")
    )


def _is_local(operations: MonitoringContext, request: Request) -> bool:
    host = request.client.host if request.client else ""
    return operations.token is None and host in {"127.0.0.1", "::1"} and "x-forwarded-for" not in request.headers


def _bearer(request: Request) -> str:
    scheme, _other, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _tried(work: Callable[[], object]) -> str:
    try:
        work()
    except Error as error:
        return f"{error.code}: {error}"[:300]
    return "ok"
