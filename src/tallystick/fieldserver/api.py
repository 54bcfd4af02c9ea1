"""The field server's local API, over HTTPS only (``service`` adds the TLS).

Guarantees: whoever has no password learns who this is and nothing else, and no byte of their body is read; bodies are
limited while they stream in; a step waits in a thread, so that nobody waits for somebody else's disk or slow line;
everything that is refused is an RFC 9457 problem with a stable code. It leaves what a request means to ``agent``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.errors import Error
from tallystick.fieldserver import views
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.checks import Checks
from tallystick.fieldserver.gate import Gate, PasswordError
from tallystick.fieldserver.ports import Clock
from tallystick.protocol import device_api, tallyfile
from tallystick.protocol.device_api import FEATURE_SYMBOLS_MAX, INBOX_BYTES_MAX, INBOX_LINES_MAX
from tallystick.protocol.envelope import encode_json
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.protocol.problems import check_query, problem_document
from tallystick.sentences import _

JSON_BYTES_MAX: Final = 64 * 1024
DOCUMENT: Final = Path(__file__).with_name("openapi.json")
REQUEST_SECONDS: Final = 120.0
ROUTE_SECONDS: Final = 0.5  # how long a fresh look at the own route is waited for; then what is known is told
_DRAIN_BYTES: Final = 16 * 1024 * 1024
_DRAIN_SECONDS: Final = 2.0
_REMEMBERED_MAX: Final = 256
_PROBLEM_TYPE: Final = "application/problem+json"
_DIGITS_MAX: Final = 20

_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class Api:
    """The handlers, and what they share."""

    def __init__(
        self,
        *,
        agent: Agent,
        checks: Checks,
        gate: Gate,
        clock: Clock,
        monotonic: Callable[[], float],
        fingerprint: str,
        activation: Callable[[], device_api.OwnRoute | None],
        written: Callable[[], None],
        looked: Callable[[], Future[None] | None] = lambda: None,
    ) -> None:
        """``activation`` says what is known of an own route, and ``looked`` has it looked at; neither may wait.

        ``written`` wakes that route.
        """
        self._agent = agent
        self._checks = checks
        self._gate = gate
        self._clock = clock
        self._monotonic = monotonic
        self._fingerprint = fingerprint
        self._activation = activation
        self._looked = looked
        self._written = written
        self._required: dict[str, int] = {}
        self._hashing = asyncio.Lock()

    async def get_document(self, _request: Request) -> Response:
        """The OpenAPI document of this API. It needs no password: it says nothing about this field server."""
        data = await asyncio.to_thread(DOCUMENT.read_bytes)
        return Response(data, media_type=device_api.JSON)

    async def get_identity(self, _request: Request) -> Response:
        """Who this is. It needs no password."""
        state = await asyncio.to_thread(self._agent.peek)
        looking = self._looked()
        if looking is not None:  # for a moment, and no thread is held by it
            await asyncio.wait([asyncio.wrap_future(looking)], timeout=ROUTE_SECONDS)
        view = views.show_identity(
            self._agent.device, state, fingerprint=self._fingerprint, activation=self._activation()
        )
        return _answer(view)

    async def get_licenses(self, _request: Request) -> Response:
        """What is held and what is under way."""
        state = await asyncio.to_thread(self._agent.peek)
        view = views.show_licenses(self._agent.device, state, required=self._required, now=self._clock.now())
        return _answer(view)

    async def post_requests(self, request: Request) -> Response:
        """Write the message that asks for something, or find it waiting."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != device_api.JSON:
            # Also keeps web pages out: a browser does not send this type to somebody else without asking first.
            raise Error("json-malformed", expected=_("Content-Type: application/json"), seen=_("another type"))
        body = b"".join([chunk async for chunk in _read_body(request, JSON_BYTES_MAX)])
        written = await asyncio.to_thread(self._agent.ask, views.parse_wish(body))
        self._checks.look()
        self._written()
        return _answer(views.show_written(written))

    async def get_outbox(self, _request: Request) -> Response:
        """The messages that wait, as a tally file."""
        outbox = await asyncio.to_thread(self._agent.outbox)
        lines = tallyfile.format_file(waiting.compact for waiting in outbox)
        return Response(b"".join(lines), media_type=tallyfile.MEDIA_TYPE)

    async def post_inbox(self, request: Request) -> Response:
        """Take a tally file, with one durable write."""
        parser = tallyfile.LineParser()
        lines: list[tallyfile.GoodLine | tallyfile.BadLine] = []
        async for chunk in _read_body(request, INBOX_BYTES_MAX):
            # Of too many lines none is kept, but the rest is read: then the client gets to see why.
            if len(lines) <= INBOX_LINES_MAX:
                lines.extend(parser.feed(chunk))
        if len(lines) > INBOX_LINES_MAX:
            raise Error(
                "body-too-large",
                expected=_("at most {inbox_lines_max} lines", inbox_lines_max=INBOX_LINES_MAX),
                seen=_("more"),
            )
        lines.extend(parser.close())
        delivery = await asyncio.to_thread(self._agent.deliver, lines)
        self._checks.look()
        self._written()
        return _answer(views.show_delivery(delivery))

    async def get_check(self, request: Request) -> Response:
        """May this feature run? ``used`` is how many units of it the software needs; it is remembered for the table."""
        feature = request.path_params["feature"]
        used = request.query_params.get("used", "1")
        if not used.isascii() or not used.isdigit() or len(used) > _DIGITS_MAX or int(used) > QUANTITY_MAX:
            raise Error(
                "quantity-wrong",
                expected=_("used=N with N from 0 to {quantity_max}", quantity_max=QUANTITY_MAX),
                seen=repr(used[:20]),
            )
        if not 1 <= len(feature) <= FEATURE_SYMBOLS_MAX:
            raise Error("not-found", expected=_("the name of a feature"), seen=_("{count} symbols", count=len(feature)))
        if feature in self._required or len(self._required) < _REMEMBERED_MAX:
            self._required[feature] = int(used)
        return _answer(views.show_verdict(self._checks.check(feature, int(used))))

    def guarded(self, handler: Handler) -> Handler:
        """Let only whoever has the password through to ``handler``."""

        async def handle(request: Request) -> Response:
            await self._check_password(request)
            return await handler(request)

        return handle

    async def _check_password(self, request: Request) -> None:
        address = request.client.host if request.client else ""
        password = _password_of(request)
        self._gate.check_free(address, self._monotonic())
        if self._gate.is_known(password):
            self._gate.note_right(address)
            return
        async with self._hashing:  # one at a time: tries in parallel gain nothing, and memory stays small
            self._gate.check_free(address, self._monotonic())
            if not await asyncio.to_thread(self._gate.is_right, password):
                raise self._gate.note_wrong(address, self._monotonic())
            self._gate.note_right(address)


def make_app(api: Api) -> ASGIApp:
    """The routes."""
    handlers = {
        device_api.DOCUMENT: api.get_document,
        device_api.IDENTITY: api.get_identity,
        device_api.LICENSES: api.get_licenses,
        device_api.REQUESTS: api.post_requests,
        device_api.OUTBOX: api.get_outbox,
        device_api.INBOX: api.post_inbox,
        device_api.CHECK: api.get_check,
    }
    routes = [
        Route(
            operation.path,
            _asked_as_documented(
                operation, api.guarded(handlers[operation]) if operation.needs_password else handlers[operation]
            ),
            methods=[operation.method],
        )
        for operation in device_api.OPERATIONS
    ]
    refusals: Any = {Error: _refused, HTTPException: _http_refused, ClientDisconnect: _gone}
    app = Starlette(routes=routes, exception_handlers=refusals)
    app.router.redirect_slashes = False
    return _Deadline(app)


def _asked_as_documented(operation: device_api.Operation, handler: Handler) -> Handler:
    """Refuse parameters that ``handler`` would not look at."""

    async def handle(request: Request) -> Response:
        check_query(request.query_params, (one["name"] for one in operation.parameters if one["in"] == "query"))
        return await handler(request)

    return handle


def _password_of(request: Request) -> str:
    scheme, _other, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            _other, colon, password = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        except (binascii.Error, ValueError):
            colon = password = ""
        if colon:
            return password
    raise PasswordError(
        "password-wrong", expected=_("HTTP Basic with the password of this field server"), seen=_("none")
    )


async def _read_body(request: Request, bytes_max: int) -> AsyncIterator[bytes]:
    """The body in chunks. Raises ``Error`` (``body-too-large``) as soon as that is clear."""
    announced = request.headers.get("content-length", "0")
    received = 0
    if not announced.isascii() or not announced.isdigit() or int(announced[:_DIGITS_MAX]) > bytes_max:
        await _drain(request)
        raise Error(
            "body-too-large",
            expected=_("at most {bytes_max} bytes", bytes_max=bytes_max),
            seen=_("{announced} bytes", announced=announced[:20]),
        )
    async for chunk in request.stream():
        received += len(chunk)
        if received > bytes_max:
            await _drain(request)
            raise Error("body-too-large", expected=_("at most {bytes_max} bytes", bytes_max=bytes_max), seen=_("more"))
        yield chunk


async def _drain(request: Request) -> None:
    """Throw a little more away, so that a client that writes before it reads gets to see the refusal."""
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    received = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while received < _DRAIN_BYTES:
                message = await request.receive()
                received += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


class _Deadline:
    """Nobody keeps a request open for ever, neither by sending slowly nor by not reading."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_begun = False

        async def send_noting(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                await self._app(scope, receive, send_noting)
        except TimeoutError:
            if not is_begun:
                error = Error(
                    "request-too-slow",
                    expected=_("a whole request within {request_seconds:g} seconds", request_seconds=REQUEST_SECONDS),
                    seen=_("a part"),
                )
                await _problem(error)(scope, receive, send)
        except Exception:  # noqa: BLE001 - what nobody foresaw must still be an answer, and a line in the log
            _log.exception("A request failed.")
            if not is_begun:
                error = Error("invariant", expected=_("an answer"), seen=_("a fault of this program; its log has it"))
                await _problem(error)(scope, receive, send)


async def _refused(_request: Request, error: Error) -> Response:
    return _problem(error)


async def _http_refused(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", _("another method"))
        response = _problem(Error("method-wrong", expected=allowed, seen=request.method[:20]))
        response.headers["Allow"] = allowed
        return response
    return _problem(Error("not-found", expected=_("a path of the documented API"), seen=request.url.path[:100]))


async def _gone(_request: Request, _error: ClientDisconnect) -> Response:
    return Response(status_code=400)  # nobody reads it


def _answer(view: device_api.Answer) -> Response:
    return _json(views.plain(view), 200, device_api.JSON)


def _problem(error: Error) -> Response:
    document = problem_document(error)
    response = _json(document, int(str(document["status"])), _PROBLEM_TYPE)
    if isinstance(error, PasswordError):
        response.headers["WWW-Authenticate"] = 'Basic realm="tallystick field server", charset="UTF-8"'
        if error.retry_seconds is not None:
            response.headers["Retry-After"] = str(error.retry_seconds)
    return response


def _json(value: dict[str, Any], status: int, media_type: str) -> Response:
    return Response(
        encode_json(value), status_code=status, media_type=media_type, headers={"Cache-Control": "no-store"}
    )
