"""The usual ``POST /v1/messages`` without a framework: a message or a few, for a tally file, by a client that reads.

What a framework does for every request costs as much as to verify a message. The connection is uvicorn's in any case:
it reads HTTP, keeps connections open, queues pipelined requests and ends them all at a stop. Here, a request whose
whole short body is there is answered at once; every other one goes on to the application, which answers the same.

A client says the same head again and again. One that was read before, in the very same bytes, on a connection where
nothing else is under way, is not read again (see ``_Heads``).

What is used of uvicorn has public names, and still uvicorn promises nothing about it; the pins hold it. One that lacks
some of the methods that are overridden here answers everything by the application: correctly, and more slowly. Then the
log says so once, at the start of the process. What is pipelined behind another request is the application's, too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tallystick.activation.core import exchanges
from tallystick.activation.core.exchanges import ReadLine
from tallystick.activation.core.ports import Answer
from tallystick.activation.http.monitoring import NOSNIFF, MonitoringContext, count_request, request_id_of
from tallystick.activation.http.protocol_api import MESSAGES_PATH, ProtocolContext, problem
from tallystick.activation.http.strangers import SLOW_SECONDS, Visit
from tallystick.connections.listening import Bounded, Places
from tallystick.errors import Error
from tallystick.protocol import tallyfile
from tallystick.protocol.tallyfile import BadLine, GoodLine
from tallystick.sentences import _

BYTES_MAX: Final = 32 * 1024  # below what uvicorn keeps of a body before it stops reading
LINES_MAX: Final = 4  # so few are verified faster than handed to a thread
WHOLE_SECONDS: Final = 1.0  # a body that takes longer is the application's to wait for
HEADS_MAX: Final = 1024
HEAD_BYTES_MAX: Final = 1024

# What uvicorn calls at the turns of a request.
HOOKS: Final = (
    "data_received",
    "on_body",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "timeout_keep_alive_handler",
    "connection_lost",
)

_LOG: Final = logging.getLogger(__name__)
_HEAD_END: Final = b"\r\n\r\n"
_OF_ONE_REQUEST: Final = (b"x-request-id", b"x-forwarded-for")
_TYPE: Final = (b"content-type", tallyfile.MEDIA_TYPE.encode())

Headers = Iterable[tuple[bytes, bytes]]


class _Heads:
    """Heads of short exchanges, each with the length of the body behind it, as the reader of HTTP took them.

    It would take the same bytes the same way again. One with an id of its own is not kept: it comes only once. Nor is
    one of a proxy, which says who speaks.
    """

    def __init__(self) -> None:
        self._lengths: dict[bytes, int] = {}

    def has(self, head: bytes, body: bytes) -> bool:
        """Whether they are a whole request, and nothing more."""
        return self._lengths.get(head) == len(body)

    def keep(self, head: bytes, body: bytes) -> None:
        """They were a whole request."""
        if len(head) > HEAD_BYTES_MAX or any(name in head.lower() for name in _OF_ONE_REQUEST):
            return
        if len(self._lengths) >= HEADS_MAX:
            self._lengths.clear()
        self._lengths[head] = len(body)


@dataclass(slots=True)
class _Exchange:
    """One request on the short way."""

    cycle: RequestResponseCycle
    go_on: asyncio.TimerHandle | None
    started: float
    request_id: bytes = b""


class Shortcut(Bounded, HttpToolsProtocol):
    """A connection that answers short exchanges itself."""

    counts_unread = True

    def __init__(
        self, context: ProtocolContext, operations: MonitoringContext, heads: _Heads, places: Places, **given: Any
    ) -> None:
        super().__init__(**given)
        self._context = context
        self._operations = operations
        self._heads = heads
        self.places = places
        self._exchange: _Exchange | None = None
        self._is_between = False  # the reader of HTTP waits for a next request, and the last one was short
        self._answered_at = 0.0
        self._default_headers: Headers = ()
        self._default_lines = b""

    @classmethod
    def on(cls, context: ProtocolContext, operations: MonitoringContext, places: Places) -> Callable[..., Shortcut]:
        """For uvicorn, which makes a protocol for every connection. Warns where uvicorn would never call it."""
        missing = [name for name in HOOKS if not hasattr(HttpToolsProtocol, name)]
        if missing:
            _LOG.warning(
                "the fast path is off, and messages are answered more slowly: uvicorn %s has no %s; install a uvicorn that pyproject.toml allows",
                uvicorn.__version__,
                ", ".join(missing),
            )
        heads = _Heads()

        def protocol(**given: Any) -> Shortcut:
            return cls(context, operations, heads, places, **given)

        return protocol

    def data_received(self, data: bytes) -> None:
        """See uvicorn. A short body that is not whole yet is waited for, for a moment."""
        if self._is_between and self.cycle.response_complete:
            head, _other, body = data.partition(_HEAD_END)
            if self._heads.has(head, body) and self._take_known(body):
                return
            super().data_received(data)
            self._learn(head, body)
        else:
            super().data_received(data)
        exchange = self._exchange
        if exchange is not None and exchange.go_on is None and exchange.cycle.more_body:
            exchange.go_on = self.loop.call_later(WHOLE_SECONDS, self._hand_over, exchange)

    def on_message_begin(self) -> None:
        """See uvicorn."""
        super().on_message_begin()
        self._is_between = False

    def on_headers_complete(self) -> None:
        """See uvicorn. A short request is ours from here on, unless another one is still being answered."""
        self.note_read()
        if not self._is_short():
            super().on_headers_complete()
            return
        path = MESSAGES_PATH
        self.scope |= {"method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        self._exchange = _Exchange(self.cycle, None, time.perf_counter())

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        super().on_body(body)
        self.note_read()

    def on_message_complete(self) -> None:
        """See uvicorn."""
        super().on_message_complete()
        self.note_read()
        if self._exchange is not None and self._exchange.cycle is self.cycle:
            self._is_between = self.cycle.keep_alive
            self._take(self._exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn. What was taken is durable, whether anybody reads it or not."""
        if self._exchange is not None and self._exchange.cycle.more_body:
            self._end()
        super().connection_lost(exc)

    def _is_short(self) -> bool:
        """Whether what was read is a POST of messages with a short body, as it is, for a tally file, and nothing is before it."""
        if self.url != MESSAGES_PATH.encode() or self.parser.get_method() != b"POST" or self.root_path:
            return False
        if self.parser.get_http_version() != "1.1" or self.parser.should_upgrade() or self.expect_100_continue:
            return False
        if self.flow.write_paused or not self.is_idle():
            return False
        length = None
        for name, value in self.headers:
            if name == b"content-length":
                length = int(value) if value.isdigit() else None
            elif name in {b"content-encoding", b"upgrade"} or (name == b"accept" and b"json" in value.lower()):
                return False
        return length is not None and length <= BYTES_MAX

    def _hand_over(self, exchange: _Exchange) -> None:
        """Let the application answer it; nothing of it was used up."""
        self._end()
        self._is_between = False
        task = self.loop.create_task(exchange.cycle.run_asgi(self.app))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _end(self) -> None:
        if self._exchange is not None and self._exchange.go_on is not None:
            self._exchange.go_on.cancel()
        self._exchange = None

    def _take(self, exchange: _Exchange) -> None:
        if exchange.go_on is not None:
            exchange.go_on.cancel()
        address = self.places.client_of(self._address, exchange.cycle.scope["headers"])
        visit = self._context.strangers.visit(address)
        chunk = _lines_of(bytes(exchange.cycle.body), visit)
        if not 0 < len(chunk) <= LINES_MAX:
            self._hand_over(exchange)  # it says what is wrong, or takes its time
            return
        exchange.request_id = request_id_of(self._operations, exchange.cycle.scope["headers"])
        self._submit(exchange, chunk, visit)

    def _take_known(self, body: bytes) -> bool:
        """Take a body behind a known head; the reader of HTTP learns nothing of it. False: it is not for the short way."""
        visit = self._context.strangers.visit(self._address)
        chunk = _lines_of(body, visit)
        if self.flow.write_paused or not 0 < len(chunk) <= LINES_MAX:
            return False
        cycle = self.cycle  # of the request before, which differs in nothing that is looked at
        cycle.response_started = cycle.response_complete = False
        self._exchange = _Exchange(cycle, None, time.perf_counter(), next(self._operations.request_ids))
        self._submit(self._exchange, chunk, visit)
        return True

    def _learn(self, head: bytes, body: bytes) -> None:
        """Know a head again, if what the reader of HTTP has just taken is it with this body, and no more."""
        if self._exchange is not None and self._is_between and self._exchange.cycle.body == body:
            self._heads.keep(head, body)

    def _submit(self, exchange: _Exchange, chunk: Sequence[GoodLine | BadLine], visit: Visit) -> None:
        chunk, is_beyond = visit.screen(chunk)
        lines = exchanges.read_lines(chunk, self._context.signer.keyset)
        batch = exchanges.messages_of(lines)
        visit.submit(lines)
        if not batch:
            # Not at once: a next request may wait behind this one.
            self.loop.call_later(SLOW_SECONDS if is_beyond else 0, self._reply, exchange, lines, (), visit)
            return
        self._context.batcher.submit_soon(batch).add_done_callback(
            lambda answers: self._answer(exchange, lines, answers, visit)
        )

    def _answer(
        self, exchange: _Exchange, lines: Sequence[ReadLine], answers: asyncio.Future[list[Answer]], visit: Visit
    ) -> None:
        error = answers.exception()
        if error is None:
            self._reply(exchange, lines, answers.result(), visit)
        else:
            visit.fail(lines)
            refused = problem(
                error if isinstance(error, Error) else Error("invariant", expected=_("an answer"), seen="")
            )
            self._write(exchange, refused.status_code, refused.raw_headers, bytes(refused.body))

    def _reply(self, exchange: _Exchange, lines: Sequence[ReadLine], answers: Sequence[Answer], visit: Visit) -> None:
        results = exchanges.results_of(lines, answers)
        visit.learn(results)
        self._context.count(results)
        body = b"".join(exchanges.tally_lines(results))
        self._write(exchange, 200, [(b"content-length", b"%d" % len(body)), _TYPE], body)

    def _write(self, exchange: _Exchange, status: int, headers: Headers, body: bytes) -> None:
        cycle, self._exchange = exchange.cycle, None
        if not cycle.disconnected:
            more = [*headers, (b"x-request-id", exchange.request_id), NOSNIFF]
            if not cycle.keep_alive:
                more.append((b"connection", b"close"))
            self.transport.write(b"%b%b%b\r\n%b" % (STATUS_LINE[status], self._defaults(), _lines(more), body))
        self._answered_at = time.perf_counter()
        self.note_active()
        count_request(
            self._operations,
            request_id=exchange.request_id,
            scope=cycle.scope,
            client=self.places.client_of(self._address, cycle.scope["headers"])
            if self._operations.logs_requests
            else "",
            route=MESSAGES_PATH,
            status=status,
            seconds=self._answered_at - exchange.started,
        )
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected:
            return
        if not cycle.keep_alive:
            self.transport.close()
        if self.timeout_keep_alive_task is None or self.pipeline:  # otherwise its own timer looks when this was
            self.on_response_complete()

    def _defaults(self) -> bytes:
        """The lines that are in every answer; uvicorn makes a new list of them once a second."""
        if self._default_headers is not self.server_state.default_headers:
            self._default_headers = self.server_state.default_headers
            self._default_lines = _lines(self._default_headers)
        return self._default_lines

    def timeout_keep_alive_handler(self) -> None:
        """See uvicorn. A timer that an earlier answer began is not begun anew by each one after it."""
        idle = 0.0 if self._exchange is not None else time.perf_counter() - self._answered_at
        if idle < self.timeout_keep_alive:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive - idle, self.timeout_keep_alive_handler
            )
            return
        super().timeout_keep_alive_handler()


def _lines_of(body: bytes, visit: Visit) -> list[GoodLine | BadLine]:
    return list(tallyfile.parse_chunks([body], visit.opener()))


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % header for header in headers])
