"""May this feature run? A licensed program asks the agent over its local socket, and need not believe it.

::

    from tallystick.fieldserver import asking

    licenses = asking.connect("/run/tallystick/check.sock", root="YNIvjrG4wM03Inx8O65S-vJsiLrwYyFwNK6U42qkeXQ")
    if licenses.check("mqtt-client").is_licensed:
        ...

Guarantees: a check never raises, and ends by its deadline; without an agent, a socket or a vault it is "not licensed, and
why" at once. What is kept of an answer is bounded, whatever sends it. The rules and their codes: docs/protocol/checks.md.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Final

from tallystick.domain.verdict import Standing, Verdict, refuse_check
from tallystick.fieldserver import platform
from tallystick.fieldserver.ports import Random
from tallystick.protocol import answers
from tallystick.protocol.answers import ANSWER_BYTES_MAX, HEAD_BYTES_MAX, Question, Reader, Remembered, refused
from tallystick.protocol.envelope import encode_base64url

_READ_BYTES: Final = 65_536
_QUEUE_SECONDS: Final = 0.001  # between two tries, while more programs ask than the agent has taken so far
_WAIT_SECONDS: Final = 3600.0  # at once; the kernel counts milliseconds, and not for ever
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?", re.DOTALL)
_STANDINGS: Final = frozenset(map(str, Standing))
_CODE: Final = re.compile(rb'"code":"([a-z-]{2,40})"')


class _TroubleError(Exception):
    """No answer, and why."""

    def __init__(self, code: str, seen: str) -> None:
        super().__init__(code)
        self.code = code
        self.seen = seen


class _GoneError(Exception):
    """The agent had closed a connection that was kept: ask again on a new one."""


class Asker:
    """Asks one agent. Safe to share among threads: they ask one after the other."""

    def __init__(
        self,
        path: str | Path,
        *,
        roots: Iterable[str],
        random: Random,
        monotonic: Callable[[], float],
        deadline_seconds: float = answers.DEADLINE_SECONDS,
        remembered: Remembered | None = None,
    ) -> None:
        self._path = str(path)
        self._reader = Reader(roots, remembered=remembered)
        self._random = random
        self._monotonic = monotonic
        self._seconds = deadline_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    @property
    def remembered(self) -> Remembered | None:
        """What a program may keep over a restart, and give to the next ``connect``."""
        return self._reader.remembered

    def check(self, feature: str, required: int = 1) -> Verdict:
        """Judge ``required`` units of ``feature``. Never raises."""
        try:
            wrong = self._reader.check_question(feature, required)
            if wrong is not None:
                return wrong
            with self._lock:
                return self._check(feature, required)
        except Exception as error:  # noqa: BLE001 - a check never raises, whatever is broken below it (P6)
            why = f"the check itself failed: {type(error).__name__}"
            return refuse_check(str(feature), 1, code="invariant", why=why)

    def close(self) -> None:
        """Let the connection go. The next check makes another one."""
        with self._lock:
            self._drop()

    def _check(self, feature: str, required: int) -> Verdict:
        nonce = encode_base64url(self._random.bytes(answers.NONCE_BYTES))
        question = Question(feature=feature, required=required, nonce=nonce)
        late_at = self._monotonic() + self._seconds
        try:
            try:
                body = self._ask(question, late_at)
            except _GoneError:
                body = self._ask(question, late_at)
        except _TroubleError as trouble:
            self._drop()
            return refused(feature, required, code=trouble.code, seen=trouble.seen)
        verdict = self._reader.decide(question, body)
        if verdict.code not in _STANDINGS:
            self._drop()  # whatever was wrong with it, the next one begins anew
        return verdict

    def _ask(self, question: Question, late_at: float) -> bytes:
        is_kept = self._socket is not None
        request = f"GET {question.target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("ascii")
        try:
            connected = self._socket = self._socket or self._connect(late_at)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._send(connected, request, late_at)  # who is turned away may be answered before it has asked
            return self._read(connected, late_at, is_kept=is_kept)
        except TimeoutError:
            raise _TroubleError("agent-silent", f"no whole answer in {self._seconds:g} seconds") from None
        except OSError as error:
            self._drop()
            if is_kept:
                raise _GoneError from None
            raise _TroubleError("answer-malformed", error.strerror or type(error).__name__) from None

    def _connect(self, late_at: float) -> socket.socket:
        if not self._path or "\0" in self._path:  # what Linux calls abstract: no mode protects it
            raise _TroubleError("agent-absent", "a path that is no file's")
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            while True:
                self._left(late_at)
                try:
                    made.connect(self._path)
                except BlockingIOError:
                    time.sleep(_QUEUE_SECONDS)
                else:
                    return made
        except TimeoutError:
            made.close()
            raise
        except OSError as error:
            made.close()
            raise _TroubleError("agent-absent", f"{self._path}: {error.strerror or error}") from None

    def _read(self, connected: socket.socket, late_at: float, *, is_kept: bool) -> bytes:
        data = b""
        while (end := data.find(_END)) < 0 and len(data) < HEAD_BYTES_MAX:
            piece = self._receive(connected, late_at)
            if not piece and not data and is_kept:
                self._drop()
                raise _GoneError
            if not piece:
                raise _TroubleError("answer-malformed", f"{len(data)} bytes, then the end")
            data += piece
        if not 0 <= end <= HEAD_BYTES_MAX - len(_END):
            raise _TroubleError("answer-malformed", "a head without end")
        body = data[end + len(_END) :]
        length = _parse_head(data[:end], body)
        pieces, count = [body], len(body)
        while count < length:
            piece = self._receive(connected, late_at)
            if not piece:
                raise _TroubleError("answer-malformed", f"{count} of {length} bytes, then the end")
            pieces.append(piece)
            count += len(piece)
        if count > length:
            self._drop()  # what came behind the answer is no answer to the next question
        return b"".join(pieces)[:length]

    def _send(self, connected: socket.socket, request: bytes, late_at: float) -> None:
        while request:
            try:
                request = request[connected.send(request) :]
            except BlockingIOError:
                self._wait(connected, select.POLLOUT, late_at)

    def _receive(self, connected: socket.socket, late_at: float) -> bytes:
        self._wait(connected, select.POLLIN, late_at)
        return connected.recv(_READ_BYTES)

    def _wait(self, connected: socket.socket, event: int, late_at: float) -> None:
        """By ``poll`` and not by the socket's own time: that is two calls of the kernel more for each step."""
        waiting = select.poll()
        waiting.register(connected, event)
        while not waiting.poll(min(self._left(late_at), _WAIT_SECONDS) * 1000):
            pass

    def _left(self, late_at: float) -> float:
        """What is left of the time. Raises ``TimeoutError`` where nothing is."""
        left = late_at - self._monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def connect(
    path: str | Path,
    *,
    root: str | Iterable[str],
    deadline_seconds: float = answers.DEADLINE_SECONDS,
    remembered: Remembered | None = None,
) -> Asker:
    """Checks at the socket of an agent, for a program that names its vendor's root (or a few of them). Never raises."""
    return Asker(
        path,
        roots=(root,) if isinstance(root, str) else tuple(root),
        random=platform.SystemRandom(),
        monotonic=platform.MONOTONIC,
        deadline_seconds=deadline_seconds,
        remembered=remembered,
    )


def _parse_head(head: bytes, body: bytes) -> int:
    """How long the answer is. ``body``: as much of it as came."""
    status, lengths, is_chunked = _take_apart(head)
    if status is None:
        raise _TroubleError("answer-malformed", "no head of HTTP")
    if status != b"200":
        code = _CODE.search(body)
        raise _TroubleError("agent-refused", f"status {status.decode()}" + (f", {code[1].decode()}" if code else ""))
    if len(lengths) != 1 or not lengths[0].isdigit() or is_chunked:
        raise _TroubleError("answer-malformed", f"{len(lengths)} content-lengths, or none that counts")
    length = int(lengths[0])
    if length > ANSWER_BYTES_MAX:
        raise _TroubleError("answer-too-large", f"{lengths[0][:20].decode()} bytes")
    return length


@lru_cache(maxsize=4)  # an agent says the same head again and again
def _take_apart(head: bytes) -> tuple[bytes | None, tuple[bytes, ...], bool]:
    """The status of a reply, its content-lengths, and whether it says that it comes in chunks."""
    first, *fields = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    parts = [(name.lower(), value.strip(b" \t")) for name, end, value in (one.partition(b":") for one in fields) if end]
    lengths = tuple(value for name, value in parts if name == b"content-length")
    return None if status is None else status[1], lengths, any(name == b"transfer-encoding" for name, _value in parts)
