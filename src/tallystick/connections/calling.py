"""Whoever is called has a total deadline and a size limit.

A client's time limits are for each read; somebody who says one byte a second would be listened to for hours, and
somebody who never ends would be kept until the memory is full. ``deadline`` ends a whole exchange of an HTTP client
that was given to ``set_deadlines``; ``cut_off`` ends whatever reads from a socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

_LEAST_SECONDS: Final = 0.001  # 0 would mean: do not wait at all


class _Here(threading.local):
    until: float | None = None


_here = _Here()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """What this thread reads and writes in the body is over then; the client raises its own time-out."""
    _here.until = time.monotonic() + seconds
    try:
        yield
    finally:
        _here.until = None


def set_deadlines(client: Any) -> None:
    """Let the exchanges of an ``httpx2.Client`` keep to ``deadline``.

    httpx2 takes no network backend from outside, so that its pools are reached into; a test with a slow peer watches.
    """
    transports: list[Any] = [client._transport, *client._mounts.values()]  # noqa: SLF001 - see above
    for transport in transports:
        pool = getattr(transport, "_pool", None)  # a test's transport has none
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001 - see above


class CutOff:
    """Ends what goes on on a socket when the time is over, however slowly the other side drips."""

    def __init__(self) -> None:
        self.is_over = False
        self._watched: socket.socket | None = None

    def watch(self, plain: socket.socket) -> None:
        """The socket, as soon as there is one, and before TLS. Raises ``TimeoutError`` when the time is over already.

        A copy of it is kept: what TLS makes of a socket takes the original away while the handshake goes on.
        """
        self.close()
        self._watched = socket.socket(fileno=os.dup(plain.fileno()))
        if self.is_over:
            raise TimeoutError("no whole answer in time")

    def end(self) -> None:
        """End it, from any thread: what reads or writes there fails at once."""
        self.is_over = True
        if self._watched is not None:
            with contextlib.suppress(OSError):
                self._watched.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Watch nothing any more."""
        if self._watched is not None:
            self._watched.close()


@contextmanager
def cut_off(seconds: float) -> Iterator[CutOff]:
    """For the body: what it has watched ends when the time is over."""
    cut = CutOff()
    watchdog = threading.Timer(seconds, cut.end)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield cut
    finally:
        watchdog.cancel()
        cut.close()


class WatchedContext:
    """A TLS context for clients that connect and shake hands in one go: what they wrap is watched."""

    def __init__(self, context: ssl.SSLContext, cut: CutOff) -> None:
        self._context = context
        self._cut = cut

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def wrap_socket(self, plain: socket.socket, **more: Any) -> ssl.SSLSocket:
        """See ``ssl.SSLContext``."""
        self._cut.watch(plain)
        return self._context.wrap_socket(plain, **more)


class BoundedFile:
    """Lines of a file, up to so many bytes in all; then it is at its end."""

    def __init__(self, file: IO[bytes], bytes_max: int) -> None:
        self._file = file
        self._left = bytes_max

    def readline(self, size: int = -1) -> bytes:
        """See ``io.IOBase``."""
        line = self._file.readline(self._left if size < 0 else min(size, self._left))
        self._left -= len(line)
        return line

    def close(self) -> None:
        """See ``io.IOBase``."""
        self._file.close()


class _Backend:
    """A network backend of httpcore2."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Any = None,
    ) -> _Stream:
        return _Stream(self._inner.connect_tcp(host, port, _left(timeout), local_address, socket_options))


class _Stream:
    """A network stream of httpcore2."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        return self._inner.read(max_bytes, timeout=_left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout=_left(timeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> _Stream:
        left = _left(timeout)
        if left is None:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, None))
        with cut_off(left) as cut:  # a handshake is many reads
            cut.watch(self._inner.get_extra_info("socket"))
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, left))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(seconds: float | None) -> float | None:
    if _here.until is None:
        return seconds
    left = max(_LEAST_SECONDS, _here.until - time.monotonic())
    return left if seconds is None else min(seconds, left)
