"""The HTTP API, at the edge only: bytes in, bytes out, problems as RFC 9457.

``POST /v1/messages`` is read as a stream, verified and processed in chunks that are each durable, in memory that does
not depend on its length. The replies wait in a temporary file until the whole body was read: a client that sends
everything before it reads anything must not come to a stand-still with us. What blocks runs in threads; the event loop
never waits for the database.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from fastapi import Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from msgspec import Struct, to_builtins
from msgspec.json import encode as encode_json
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick import __version__
from tallystick.activation.core import entitlements, exchanges, foreseeing
from tallystick.activation.core.exchanges import ChunkReader, MessageResult, ReadLine
from tallystick.activation.core.ports import Answer, Policy, Signer
from tallystick.activation.core.two_passes import Held, Rows
from tallystick.activation.files import FileError
from tallystick.activation.http.bodies import BODY_BYTES_MAX, STREAMED, STREAMS_AT_ONCE, Bodies, Waiting
from tallystick.activation.http.misfits import PlacedError, misfit
from tallystick.activation.http.strangers import SLOW_SECONDS, Strangers
from tallystick.activation.services.batcher import Batcher
from tallystick.activation.storage import SqlStore
from tallystick.connections.listening import address_of
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import parse_entitlement_id
from tallystick.errors import Error
from tallystick.protocol import dry_run, messages, tallyfile
from tallystick.protocol.dry_run import DryRun, DryRunAnswer
from tallystick.protocol.problems import WireError, check_query, problem_document
from tallystick.protocol.reasons import reason_document
from tallystick.protocol.tallyfile import BadLine, GoodLine, LineParser
from tallystick.sentences import _
from tallystick.structs import know

if TYPE_CHECKING:  # a command on a data directory counts nothing
    from tallystick.activation.http.metrics import Metrics

MESSAGES_PATH: Final = STREAMED
BODY_IDLE_SECONDS: Final = 60.0
# Between two lines that say something; what has more is no tally file, and to look at it would keep others waiting.
EMPTY_BYTES_MAX: Final = 512 * 1024 * 1024
EMPTY_LINES_MAX: Final = 100_000
SPOOL_MEMORY_BYTES: Final = 1024 * 1024
PROBLEM_TYPE: Final = "application/problem+json"
_INLINE_LINES_MAX: Final = 4  # so few are verified faster than handed to a thread
_PIECE_BYTES: Final = 64 * 1024
_RETRY_SECONDS: Final = {"database-unavailable": "1", "too-busy": "5", "disk-full": "60"}

_CLOSED: Final = "the handler is closed"  # in the words of uvloop

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolContext:
    """What the API serves from."""

    store: SqlStore
    signer: Signer
    batcher: Batcher
    clock: Callable[[], int]
    strangers: Strangers
    policy: Policy
    metrics: Metrics | None = None
    waiting: Waiting = field(default_factory=lambda: Waiting(STREAMS_AT_ONCE))

    def count(self, results: Sequence[MessageResult]) -> None:
        """What became of messages, for monitoring."""
        if self.metrics is not None:
            for result in results:
                self.metrics.count_message(result.answer.outcome.value, result.answer.code)
                if not result.answer.is_kept:
                    self.metrics.count_stranger()


class Lookup(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/entitlements/lookup``."""

    entitlement_id: str


def create_api(context: ProtocolContext) -> FastAPI:
    """The application."""
    api = FastAPI(
        title="Tallystick activation server",
        version=__version__,
        description="Licenses of field servers: activated, returned and activated again. Errors are RFC 9457 problems.",
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(_check_query)],
    )
    _add_problem_handlers(api)
    api.add_middleware(Bodies, refuse=problem)
    api.add_middleware(_Impatient)

    @api.get("/healthz", summary="Whether this process works")
    async def healthz() -> dict[str, str]:
        if context.batcher.broken is not None:
            raise context.batcher.broken
        return {"status": "ok", "issuer": context.signer.keyset.issuer, "version": __version__}

    @api.get("/v1/keys", summary="The keyset", response_class=Response, responses=_TALLY_RESPONSE)
    async def keys() -> Response:
        return Response(context.signer.keyset.compact + "\n", media_type=tallyfile.MEDIA_TYPE)

    @api.post(
        MESSAGES_PATH,
        summary="A tally file of messages in, the replies out",
        response_class=Response,
        openapi_extra=_body("A tally file: one message a line.", tallyfile.MEDIA_TYPE, _TALLY_SCHEMA),
        responses=_TALLY_RESPONSE,
    )
    async def take_messages(request: Request) -> Response:
        return await _Exchange(context, request).run()

    @api.post(
        dry_run.PATH,
        summary="What would be decided, for whoever knows the activation IDs; without any effect",
        response_class=Response,
        openapi_extra=_body(
            "What field servers would ask for, with a proof of each activation ID.", "application/json", _DRY_RUN_SCHEMA
        ),
        responses=_DRY_RUN_RESPONSE,
    )
    async def foresee(request: Request) -> Response:
        body = await request.body()
        asks = (await run_in_threadpool(messages.convert_claims, body, DryRun)).asks
        address = address_of(request.client.host if request.client else "")
        context.strangers.take_asks(len(asks), address)
        now = context.clock()
        answers, strangers = await run_in_threadpool(
            context.store.read,
            lambda transaction: foreseeing.foresee(asks, transaction, policy=context.policy, now=now),
        )
        context.strangers.give_asks(len(asks) - strangers, address)
        answer = DryRunAnswer(issuer=context.signer.keyset.issuer, at=now, answers=tuple(answers))
        return Response(encode_json(answer), media_type="application/json")

    @api.post(
        "/v1/entitlements/lookup",
        summary="What was bought, for whoever knows the entitlement ID",
        response_class=Response,
        openapi_extra=_body(
            "The entitlement ID, as printed.",
            "application/json",
            {
                "type": "object",
                "required": ["entitlement_id"],
                "additionalProperties": False,
                "properties": {"entitlement_id": {"type": "string"}},
            },
        ),
        responses=_TALLY_RESPONSE,
    )
    async def look_up(request: Request) -> Response:
        body = await request.body()
        typed = messages.convert_claims(body, Lookup).entitlement_id
        entitlement_id = parse_entitlement_id(typed[:200])
        entitlement = await run_in_threadpool(
            context.store.read, lambda transaction: transaction.load_entitlement(entitlement_id)
        )
        if entitlement is None:
            raise Error("not-found", expected=_("an entitlement with this ID"), seen=_("none"))
        return _entitlement_response(context, entitlement, as_tally=_accepts(request, tallyfile.MEDIA_TYPE))

    return api


class _Taken(NamedTuple):
    """A chunk that was submitted."""

    lines: Sequence[ReadLine]
    answers: asyncio.Future[list[Answer]]
    decided: asyncio.Future[None]


class _Exchange:
    """One ``POST /v1/messages``."""

    def __init__(self, context: ProtocolContext, request: Request) -> None:
        self._context = context
        self._request = request
        self._as_json = _accepts(request, "application/json") and not _accepts(request, tallyfile.MEDIA_TYPE)
        self._rows = Rows()  # closed with the response
        self._held = Held(context.strangers.is_heard)
        self._visit = context.strangers.visit(address_of(request.client.host if request.client else ""))

    async def run(self) -> Response:
        """While the database writes a chunk down, the next one is read and verified; then that one is submitted.

        To read and to decide at once would be slower than one after the other: the GIL would go back and forth.
        """
        taken: _Taken | None = None
        passes = self._passes()
        try:
            _check_not_compressed(self._request)
            while True:
                if taken is not None:
                    either: list[asyncio.Future[Any]] = [taken.answers, taken.decided]
                    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                lines = await anext(passes, None)
                before, answers = taken, await taken.answers if taken is not None else []
                taken = self._submit(lines) if lines is not None else None
                if before is not None:  # while the database looks for what the next one asks
                    self._tell(before.lines, answers)
                if taken is None:
                    break
            if not self._rows.count:
                raise WireError("no-messages", expected=_("a tally file with at least one message"), seen=_("no line"))
        except BaseException:
            self._rows.close()
            raise
        finally:
            self._held.close()
            self._visit.close()
        return _response_of(self._rows, as_json=self._as_json)

    async def _passes(self) -> AsyncIterator[list[ReadLine]]:
        """What is to be decided, chunk by chunk: what frees while the body comes, what takes when all of it is there."""
        async for chunk in self._chunks():
            yield self._hold(await self._read(chunk))
            if self._visit.wait(self._held.unheard):
                async for lines in self._waiting():
                    yield lines
        async for lines in self._waiting():
            yield lines

    async def _waiting(self) -> AsyncIterator[list[ReadLine]]:
        held = self._held.chunks(self._context.signer.keyset)
        self._visit.wait(0)
        while (lines := await run_in_threadpool(next, held, None)) is not None:
            yield lines

    async def _chunks(self) -> AsyncIterator[list[GoodLine | BadLine]]:
        parser, reader = LineParser(self._visit.opener()), ChunkReader()
        empty_bytes = empty_lines = 0
        async for piece in _pieces(
            self._request, self._context.waiting, lambda: reader.size + self._held.size > BODY_BYTES_MAX
        ):
            empty_bytes += len(piece)
            empty_lines += piece.count(b"\n")
            if empty_bytes > EMPTY_BYTES_MAX or empty_lines > EMPTY_LINES_MAX:
                seen = _("{lines} lines and {count} bytes in a row without one", lines=empty_lines, count=empty_bytes)
                raise WireError("not-text", expected=_("one envelope a line"), seen=seen)
            for line in parser.feed(piece):
                empty_bytes = empty_lines = 0
                full = reader.add(line)
                if full is not None:
                    yield full
        for line in parser.close():
            full = reader.add(line)
            if full is not None:
                yield full
        rest = reader.take()
        if rest:
            yield rest

    async def _read(self, chunk: Sequence[GoodLine | BadLine]) -> list[ReadLine]:
        await self._visit.turn(chunk)
        chunk, is_beyond = self._visit.screen(chunk)
        if is_beyond:
            await asyncio.sleep(SLOW_SECONDS)
        keyset = self._context.signer.keyset
        if sum(isinstance(line, GoodLine) for line in chunk) <= _INLINE_LINES_MAX:
            return exchanges.read_lines(chunk, keyset)
        return await run_in_threadpool(exchanges.read_lines, chunk, keyset)

    def _submit(self, lines: Sequence[ReadLine]) -> _Taken:
        loop, batch = asyncio.get_running_loop(), exchanges.messages_of(lines)
        decided: asyncio.Future[None] = loop.create_future()
        self._visit.submit(lines)
        if batch:
            submitted = self._context.batcher.submit_soon(batch, decided=decided)
            submitted.add_done_callback(lambda answers: self._learn(lines, answers))
            return _Taken(lines, submitted, decided)
        self._visit.learn(exchanges.results_of(lines, ()))
        answers: asyncio.Future[list[Answer]] = loop.create_future()
        answers.set_result([])
        return _Taken(lines, answers, decided)

    def _learn(self, lines: Sequence[ReadLine], answers: asyncio.Future[list[Answer]]) -> None:
        """At once, whether anybody still waits or not: others of the address may wait for it."""
        if answers.cancelled() or answers.exception() is not None:
            self._visit.fail(lines)
        else:
            self._visit.learn(exchanges.results_of(lines, answers.result()))

    def _tell(self, lines: Sequence[ReadLine], answers: Sequence[Answer]) -> None:
        results = exchanges.results_of(lines, answers)
        self._context.count(results)
        for result in results:
            row = exchanges.json_row(result) if self._as_json else b"".join(exchanges.tally_lines([result]))
            self._write(result.line_number, row)

    def _hold(self, lines: Sequence[ReadLine]) -> list[ReadLine]:
        with _room(_("room for the messages that wait")):
            return self._held.hold(lines)

    def _write(self, line_number: int, data: bytes) -> None:
        with _room(_("room for the replies")):
            self._rows.add(line_number, data)


@contextmanager
def _room(expected: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError("disk-full", expected=expected, seen=error.strerror or str(error)) from error


class _Impatient:
    """Give up a client that reads nothing for as long as one that sends nothing is waited for."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_in_time(event: Message) -> None:
            try:
                async with asyncio.timeout(BODY_IDLE_SECONDS):
                    await send(event)
            except TimeoutError:
                raise ClientDisconnect from None
            except RuntimeError as error:
                if _CLOSED not in str(error):
                    raise
                await asyncio.sleep(
                    0
                )  # whoever asked hung up while we wrote; uvicorn is told of it, and drops the rest

        await self._app(scope, receive, send_in_time)


def _too_slow() -> Error:
    return Error(
        "request-too-slow",
        expected=_(
            "some bytes every {body_idle_seconds:.0f} seconds, sooner when many wait",
            body_idle_seconds=BODY_IDLE_SECONDS,
        ),
        seen=_("none"),
    )


async def _check_query(request: Request) -> None:
    """Every route of the APIs, whoever added it, takes the parameters that its document names and no other.

    Whether it lives is told to whoever asks, however: what a load balancer puts behind the address stops no service.
    """
    if request.url.path.startswith(("/v1/", "/metrics")):
        known = set(_queries_of(request.scope["route"].dependant))
        try:
            check_query(request.query_params, known)
        except Error as error:
            field = next((name for name in request.query_params if name not in known), None)
            raise PlacedError(error.code, expected=error.said[0], seen=error.said[1], field=field) from None


def _queries_of(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for part in dependant.dependencies:
        yield from _queries_of(part)


def _add_problem_handlers(api: FastAPI) -> None:
    @api.exception_handler(Error)
    async def refuse(_other: Request, error: Error) -> Response:
        return problem(error)

    @api.exception_handler(HTTPException)
    async def refuse_http(request: Request, error: HTTPException) -> Response:
        code = {404: "not-found", 405: "method-wrong"}.get(error.status_code, "usage")
        response = problem(
            Error(code, expected=_("a path of the API"), seen=f"{request.method} {request.url.path[:200]}")
        )
        response.headers.update(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = _allowed(api, request.url.path) or response.headers.get("Allow", "")
        return response

    @api.exception_handler(RequestValidationError)
    async def refuse_request(_other: Request, error: RequestValidationError) -> Response:
        return problem(misfit(error.errors()))

    @api.exception_handler(ClientDisconnect)
    async def gone(_other: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it; what was taken so far is durable

    @api.exception_handler(Exception)
    async def fail(_other: Request, error: Exception) -> Response:
        _LOG.error("a fault of Tallystick", exc_info=error)
        return problem(Error("invariant", expected=_("an answer"), seen=type(error).__name__))


def _allowed(api: FastAPI, path: str) -> str:
    """All methods that the document has for a path; the router names those of the first route only."""
    described: dict[str, dict[str, Any]] = api.openapi()["paths"]
    methods = described.get(path) or next(
        (
            found
            for template, found in described.items()
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path)
        ),
        {},
    )
    return ", ".join(sorted(method.upper() for method in methods))


def problem(error: Error) -> Response:
    """An error as RFC 9457 has it."""
    document = problem_document(error)
    document |= getattr(error, "place", {})
    reasons = getattr(error, "reasons", ())
    if reasons:
        document["reasons"] = [reason_document(reason) for reason in reasons]
    status = document["status"]
    headers = {}
    wait_seconds = getattr(error, "wait_seconds", None) or _RETRY_SECONDS.get(error.code)
    if wait_seconds is not None:
        headers["Retry-After"] = str(wait_seconds)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(
        document, status_code=status if isinstance(status, int) else 500, headers=headers, media_type=PROBLEM_TYPE
    )


async def _pieces(request: Request, waiting: Waiting, is_heavy: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises ``Error`` (``request-too-slow``) when nothing arrives for a minute.

    Sooner where it ``is_heavy``, keeps much in memory, and many such ones wait.
    """
    stream = aiter(request.stream())
    while True:
        deadline = asyncio.timeout(BODY_IDLE_SECONDS)
        try:
            async with deadline:
                if is_heavy():
                    waiting.add(deadline)
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _too_slow() from None
        finally:
            waiting.remove(deadline)
        yield piece


def _check_not_compressed(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise WireError(
            "not-text",
            expected=_("a tally file as it is"),
            seen=_("content-encoding {encoding}", encoding=encoding[:20]),
        )


def _accepts(request: Request, media_type: str) -> bool:
    """Whether ``Accept`` names ``media_type``; wildcards do not count."""
    named = request.headers.get("accept", "").lower().split(",")
    return media_type in {part.split(";")[0].strip() for part in named}


def _response_of(rows: Rows, *, as_json: bool) -> Response:
    media_type = "application/json" if as_json else tallyfile.MEDIA_TYPE
    length = rows.size + (rows.count + 2 if as_json else 0)
    pieces = _list_of(rows.pieces()) if as_json else rows.pieces()
    if length <= SPOOL_MEMORY_BYTES:
        with rows:
            return Response(b"".join(pieces), media_type=media_type)

    def gathered() -> Iterator[bytes]:
        with rows:
            piece = bytearray()
            for one in pieces:
                piece += one
                if len(piece) >= _PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
            yield bytes(piece)

    return StreamingResponse(gathered(), media_type=media_type, headers={"Content-Length": str(length)})


def _list_of(rows: Iterator[bytes]) -> Iterator[bytes]:
    """A JSON list, and a line end."""
    mark = b"["
    for row in rows:
        yield mark + row
        mark = b","
    yield b"]\n"


def _entitlement_response(context: ProtocolContext, entitlement: Entitlement, *, as_tally: bool) -> Response:
    now = context.clock()
    if as_tally:
        lines = entitlements.certificate_file(entitlement, context.signer, now=now)
        return Response(b"".join(lines), media_type=tallyfile.MEDIA_TYPE)
    document = {
        "entitlement_id": entitlement.entitlement_id,
        "account": entitlement.account,
        "certificate": entitlements.make_certificate(entitlement, context.signer, now=now),
        "lines": [_line_document(line) for line in entitlement.lines],
    }
    return JSONResponse(document)


def _line_document(line: Line) -> dict[str, Any]:
    certified: dict[str, Any] = to_builtins(entitlements.certified_line(line))
    return certified | {
        "available": line.balances.available,
        "engineering": line.engineering,
        "suspended": line.suspended,
        "frozen": line.frozen,
    }


def _body(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"description": description, "required": True, "content": {media_type: {"schema": schema}}}}


def _schema_of(kind: type[Struct]) -> dict[str, Any]:
    """The JSON schema of a struct, with what it is made of inside it."""
    whole = msgspec.json.schema(kind)

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            if "$ref" in value:
                return inside(whole["$defs"][value["$ref"].rpartition("/")[2]])
            return {
                name: one.replace("\\Z", "$") if name == "pattern" else inside(one)
                for name, one in value.items() if name not in {"title", "$defs"}
            }  # fmt: skip
        return [inside(one) for one in value] if isinstance(value, list) else value

    schema: dict[str, Any] = inside({"$ref": whole["$ref"]})
    return schema


# No "type": whatever the bytes are, each line of them gets its own answer.
_TALLY_SCHEMA: Final = {"contentMediaType": tallyfile.MEDIA_TYPE}
_TALLY_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {tallyfile.MEDIA_TYPE: {"schema": {"type": "string"}}, "application/json": {}}},
    "default": {"description": "A problem, with its code and next step", "content": {PROBLEM_TYPE: {}}},
}
_DRY_RUN_SCHEMA, _DRY_RUN_ANSWER = (_schema_of(kind) for kind in (DryRun, DryRunAnswer))
_DRY_RUN_RESPONSE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/json": {"schema": _DRY_RUN_ANSWER}}},
    "default": _TALLY_RESPONSE["default"],
}


know(Lookup)
