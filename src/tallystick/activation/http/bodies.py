"""Bodies of the API, before anybody is let in: how large they may be, how slow, and how many large ones wait at once.

FastAPI reads a body before it asks who sent it, and takes all that comes. So here it is read first: what is too large or
too slow is refused, and what is whole is handed on. What waits for its rest is bounded: of the large ones, the oldest
gives way. Tally files are read as a stream by whoever takes them; pages bound their forms, behind the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallystick.errors import Error
from tallystick.protocol import dry_run
from tallystick.sentences import _

BODY_BYTES_MAX: Final = 64 * 1024
LARGE_BYTES_MAX: Final = {"/v1/catalog": 4 * 1024 * 1024, dry_run.PATH: dry_run.BODY_BYTES_MAX}
LARGE_AT_ONCE: Final = 16
WHOLE_SECONDS: Final = 120.0
STREAMS_AT_ONCE: Final = 128  # that wait with more than a body's worth in memory
STREAMED: Final = "/v1/messages"
_DIGITS_MAX: Final = 12


class Waiting:
    """Requests that wait for more of their bodies and take memory meanwhile. Of too many, who waits longest gives way."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._deadlines: list[asyncio.Timeout] = []

    def __contains__(self, deadline: asyncio.Timeout) -> bool:
        return deadline in self._deadlines

    def add(self, deadline: asyncio.Timeout) -> None:
        """One more, which ends when ``deadline`` does; that may be sooner than it says."""
        if len(self._deadlines) >= self._at_once:
            self._deadlines.pop(0).reschedule(asyncio.get_running_loop().time())
        self._deadlines.append(deadline)

    def remove(self, deadline: asyncio.Timeout) -> None:
        """It waits no longer."""
        if deadline in self._deadlines:
            self._deadlines.remove(deadline)


class Bodies:
    """In front of the routes of the API. ``refuse`` words an error."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Error], Response]) -> None:
        self._app, self._refuse = app, refuse
        self._large = Waiting(LARGE_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith("/v1/") or scope["path"] == STREAMED:
            await self._app(scope, receive, send)
            return
        bytes_max = LARGE_BYTES_MAX.get(scope["path"], BODY_BYTES_MAX)
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0" if b"transfer-encoding" not in headers else b"")
        if length == b"0":
            await self._app(scope, receive, send)
            return
        try:
            if length[_DIGITS_MAX:] or (length.isdigit() and int(length) > bytes_max):
                raise _too_large(bytes_max)
            body = await self._read(receive, bytes_max)
        except Error as error:
            await self._refuse(error)(scope, receive, send)
            return
        whole = Response(status_code=400) if body is None else self._app  # nobody reads it: whoever asked hung up
        await whole(scope, _replaying(body or b"", receive), send)

    async def _read(self, receive: Receive, bytes_max: int) -> bytes | None:
        """All of it; None where the client hung up."""
        body, deadline = bytearray(), asyncio.timeout(WHOLE_SECONDS)
        try:
            async with deadline:
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        return None
                    body += message.get("body", b"")
                    if len(body) > bytes_max:
                        raise _too_large(bytes_max)
                    if not message.get("more_body"):
                        return bytes(body)
                    if len(body) > BODY_BYTES_MAX and deadline not in self._large:
                        self._large.add(deadline)
        except TimeoutError:
            raise Error(
                "request-too-slow",
                expected=_(
                    "a whole request within {seconds:.0f} seconds, sooner when many wait", seconds=WHOLE_SECONDS
                ),
                seen=_("{count} bytes of it", count=len(body)),
            ) from None
        finally:
            self._large.remove(deadline)


def _replaying(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


def _too_large(bytes_max: int) -> Error:
    return Error("body-too-large", expected=_("at most {bytes_max} bytes", bytes_max=bytes_max), seen=_("more"))
