"""The local socket at which licensed programs ask: HTTP/1.1 on a Unix stream socket (docs/protocol/checks.md).

Guarantees: there is no password, because the kernel lets in whom the mode of the socket lets in; heads, connections and
the time of each are bounded, and one user never has more than half of the places; it has a thread of its own, so the
field server's other API never waits for it. It leaves to others: what is answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import selectors
import shutil
import socket
import stat
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tallystick.errors import Error
from tallystick.protocol import tallyfile
from tallystick.protocol.answers import HEAD_BYTES_MAX, SOCKET_PATH_BYTES_MAX, Question, parse_target
from tallystick.protocol.envelope import encode_json, printable
from tallystick.protocol.problems import problem_document
from tallystick.sentences import _

SOCKET_FILE: Final = "check.sock"
CONNECTIONS_MAX: Final = 64
USER_MAX: Final = 32
SILENT_SECONDS: Final = 10.0
_BACKLOG: Final = 64
_READ_BYTES: Final = 8192
_PROBLEM_TYPE: Final = "application/problem+json"
_END: Final = b"\r\n\r\n"
_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) ([\x21-\x7e]+) HTTP/1\.([01])")
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n", re.IGNORECASE)
_BODY: Final = re.compile(rb"\r\n(?:transfer-encoding:|content-length:[ \t]*0*[1-9])", re.IGNORECASE)
_PEER: Final = struct.Struct("3i")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketWish:
    """Where programs ask, and who may. ``path`` None: in the data directory, if there is a way to listen there."""

    path: Path | None = None
    mode: int = 0o600
    group: str | None = None


USUAL_SOCKET: Final = SocketWish()
Answering = Callable[[Question], bytes]


class _Connection:
    """One program. ``late_at``: when it is closed unless an answer was taken by then."""

    __slots__ = (
        "incoming",
        "is_closed",
        "is_last",
        "is_waiting",
        "is_watched",
        "late_at",
        "outgoing",
        "socket",
        "user",
    )

    def __init__(self, connected: socket.socket, user: int, late_at: float) -> None:
        self.socket = connected
        self.user = user
        self.late_at = late_at
        self.incoming = b""
        self.outgoing = memoryview(b"")
        self.is_last = False
        self.is_waiting = False  # for the program to take more
        self.is_watched = False
        self.is_closed = False


class LocalSocket:
    """Listens from ``start`` to ``stop``."""

    def __init__(self, path: Path, *, answer: Answering, monotonic: Callable[[], float]) -> None:
        self.path = path
        self._answer = answer
        self._monotonic = monotonic
        self._users: Counter[int] = Counter()
        self._connections: dict[int, _Connection] = {}
        self._look_at = 0.0
        self._thread: threading.Thread | None = None
        self._listener: socket.socket | None = None
        self._inode = 0

    def listen(self, *, mode: int, group: str | None) -> None:
        """Take the path. Raises ``Error`` (``address-taken``, ``usage``)."""
        self._listener = _bind(self.path, mode, group)
        self._inode = self.path.stat().st_ino

    def start(self) -> None:
        """Answer, in a thread of its own."""
        if self._listener is None:
            return
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="checks", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, and take the path away where it is still ours."""
        if self._listener is None:
            return
        if self._thread is not None:
            self._waker.send(b"x")
            self._thread.join()
            for one in (*(connection.socket for connection in self._connections.values()), self._waker, self._woken):
                one.close()
            self._selector.close()
        self._listener.close()
        with contextlib.suppress(OSError):
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()

    def _serve(self) -> None:
        while True:
            pause = max(0.0, self._look_at - self._monotonic()) if self._connections else None
            for key, _events in self._selector.select(pause):
                if key.fileobj is self._woken:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Connection):
                    self._step(key.data)
            self._drop_late()

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            connected, _address = self._listener.accept()
        except OSError:  # it went away again, or this process has no file left
            return
        user = _user_of(connected)
        connected.setblocking(False)
        if len(self._connections) >= CONNECTIONS_MAX or self._users[user] >= USER_MAX:
            _turn_away(connected)
            return
        connection = _Connection(connected, user, self._monotonic() + SILENT_SECONDS)
        self._users[user] += 1
        if not self._connections:
            self._look_at = connection.late_at
        self._connections[connected.fileno()] = connection
        self._step(connection)  # a program asks as soon as it is connected, and many ask only once
        if not connection.is_closed and not connection.is_waiting:
            self._watch(connection, selectors.EVENT_READ)

    def _step(self, connection: _Connection) -> None:
        """Send what is left, else read; close what is done or broken."""
        if connection.outgoing:
            if self._send(connection):
                self._reply(connection)
            return
        try:
            data = connection.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._close(connection)
            return
        if not data:
            self._close(connection)
            return
        connection.incoming += data
        self._reply(connection)

    def _reply(self, connection: _Connection) -> None:
        """Answer what was asked, one question after the other, as long as the program takes the answers."""
        while not connection.outgoing:
            head, end, rest = connection.incoming.partition(_END)
            if not end and len(head) <= HEAD_BYTES_MAX:
                return
            connection.incoming = rest
            if len(head) + len(end) > HEAD_BYTES_MAX:
                error = Error("body-too-large", expected=_("a head of at most 4,096 bytes"), seen=_("more"))
                reply, connection.is_last = _refusal(error), True
            else:
                reply, connection.is_last = self._handle(head)
            connection.outgoing = memoryview(reply)
            if not self._send(connection):
                return

    def _send(self, connection: _Connection) -> bool:
        """Whether the connection goes on with nothing left to send."""
        try:
            sent = connection.socket.send(connection.outgoing)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(connection)
            return False
        connection.outgoing = connection.outgoing[sent:]
        if connection.outgoing:
            if not connection.is_waiting:
                connection.is_waiting = True
                self._watch(connection, selectors.EVENT_WRITE)
            return False
        if connection.is_last:
            self._close(connection)
            return False
        connection.late_at = self._monotonic() + SILENT_SECONDS
        if connection.is_waiting:
            connection.is_waiting = False
            self._watch(connection, selectors.EVENT_READ)
        return True

    def _watch(self, connection: _Connection, events: int) -> None:
        if connection.is_watched:
            self._selector.modify(connection.socket, events, connection)
        else:
            self._selector.register(connection.socket, events, connection)
            connection.is_watched = True

    def _handle(self, head: bytes) -> tuple[bytes, bool]:
        """The reply to one request, and whether it is the last of its connection."""
        first, _end, _fields = head.partition(b"\r\n")
        line = _REQUEST.fullmatch(first)
        if line is None:
            return _refusal(
                Error("json-malformed", expected=_("GET /v1/check?... HTTP/1.1"), seen=_glimpse(first))
            ), True
        method, target, minor = line.groups()
        is_last = minor == b"0" or _CLOSE.search(head + b"\r\n") is not None
        try:
            if method != b"GET" or _BODY.search(head) is not None:
                raise Error("method-wrong", expected=_("GET without a body"), seen=_glimpse(method))
            body = self._answer(parse_target(target.decode("ascii")))
        except Error as error:
            return _refusal(error), True
        except Exception:  # noqa: BLE001 - what nobody foresaw must still be an answer, and a line in the log
            _log.exception("A check failed.")
            seen = _("a fault of this program; its log has it")
            return _refusal(Error("invariant", expected=_("an answer"), seen=seen)), True
        return _http(200, tallyfile.MEDIA_TYPE, body, is_last=is_last), is_last

    def _close(self, connection: _Connection) -> None:
        if connection.is_closed:
            return
        connection.is_closed = True
        del self._connections[connection.socket.fileno()]
        self._users[connection.user] -= 1
        if not self._users[connection.user]:
            del self._users[connection.user]
        if connection.is_watched:
            self._selector.unregister(connection.socket)
        connection.socket.close()

    def _drop_late(self) -> None:
        now = self._monotonic()
        if self._connections and now >= self._look_at:
            for connection in [one for one in self._connections.values() if now >= one.late_at]:
                self._close(connection)
            self._look_at = min((one.late_at for one in self._connections.values()), default=now)


def _http(status: int, media_type: str, body: bytes, *, is_last: bool) -> bytes:
    reason = "OK" if status == 200 else "Refused"
    close = "connection: close\r\n" if is_last else ""
    head = f"HTTP/1.1 {status} {reason}\r\ncontent-type: {media_type}\r\ncontent-length: {len(body)}\r\n"
    return f"{head}cache-control: no-store\r\n{close}\r\n".encode() + body


def _refusal(error: Error) -> bytes:
    document = problem_document(error)
    return _http(int(str(document["status"])), _PROBLEM_TYPE, encode_json(document), is_last=True)


def _turn_away(connected: socket.socket) -> None:
    error = Error(
        "too-busy",
        expected=_("at most {count} connections, {half} of one user", count=CONNECTIONS_MAX, half=USER_MAX),
        seen=_("one more"),
    )
    with connected, contextlib.suppress(OSError):
        connected.send(_refusal(error))


def _glimpse(data: bytes) -> str:
    return printable(data[:40].decode("utf-8", "replace"), 40)


def _user_of(connected: socket.socket) -> int:
    """Who asks, as the kernel says; all the same where it does not say."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return -1
    return int(_PEER.unpack(connected.getsockopt(socket.SOL_SOCKET, option, _PEER.size))[1])


def _bind(path: Path, mode: int, group: str | None) -> socket.socket:
    name = os.fsencode(path)
    if len(name) > SOCKET_PATH_BYTES_MAX:
        raise Error(
            "address-taken",
            expected=_(
                "a path of at most {bytes_max} bytes: name a shorter one with --socket", bytes_max=SOCKET_PATH_BYTES_MAX
            ),
            seen=_("{count} bytes", count=len(name)),
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        # Nobody can connect before it listens, and by then it has its mode and its group.
        listener.bind(str(path))
        if group is not None:
            shutil.chown(path, group=group)
        path.chmod(mode)
        listener.listen(_BACKLOG)
    except (OSError, LookupError) as error:
        listener.close()
        seen = getattr(error, "strerror", None) or str(error)
        raise Error("address-taken", expected=_("a socket at {path}", path=path), seen=seen) from None
    return listener


def _clear(path: Path) -> None:
    """Take away the socket of an agent that is gone. Raises ``OSError`` where it is another thing, or in use."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise FileExistsError(0, "something else is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass
    raise FileExistsError(0, "another program listens there")
