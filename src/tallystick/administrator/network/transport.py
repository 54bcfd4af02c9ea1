"""What an HTTP client does not do by itself: a deadline for a whole exchange, and a tunnel through a proxy to look through.

A client's time limits are for each read; somebody who says one byte a second would be listened to for hours.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx2

from tallystick.administrator.network.proxy import Proxy
from tallystick.administrator.ports import PortError

CONNECT_SECONDS: Final = 5.0
_HEAD_BYTES_MAX: Final = 16 * 1024
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


def set_deadlines(client: httpx2.Client) -> None:
    """Let the exchanges of a client keep to ``deadline``.

    httpx2 takes no network backend from outside, so that its pools are reached into; a test with a slow peer watches.
    """
    transports: list[Any] = [client._transport, *client._mounts.values()]  # noqa: SLF001 - see above
    for transport in transports:
        if transport is not None:
            pool = transport._pool  # noqa: SLF001 - see above
            pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001 - see above


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
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(timeout)))

    def close(self) -> None:
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left(seconds: float | None) -> float | None:
    if _here.until is None:
        return seconds
    left = max(_LEAST_SECONDS, _here.until - time.monotonic())
    return left if seconds is None else min(seconds, left)


def open_tunnel(proxy: Proxy, address: str, host: str, port: int) -> socket.socket:
    """A connection to a host through a proxy (CONNECT, RFC 9110). Raises ``PortError`` and ``OSError``."""
    plain = socket.create_connection(proxy.host_and_port, timeout=CONNECT_SECONDS)
    try:
        if proxy.address.startswith("https:"):
            plain = ssl.create_default_context().wrap_socket(plain, server_hostname=proxy.host_and_port[0])
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if proxy.authorization is not None:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        plain.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("ascii", "replace"))
        status = _read_head(plain).split(b"\r\n", 1)[0].decode("latin-1")
        version, _, reason = status.partition(" ")
        if not version.startswith("HTTP/1.") or not reason.startswith("2"):
            seen = f"{reason[:200] or 'no answer of a proxy'}, from {proxy.address}"
            raise PortError("proxy-refused", expected=f"a proxy that lets through to {address}", seen=seen)
    except BaseException:
        plain.close()
        raise
    return plain


def _read_head(plain: socket.socket) -> bytes:
    """Up to the empty line, and not a byte further: what follows is the other side's handshake."""
    until = time.monotonic() + 2 * CONNECT_SECONDS
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = plain.recv(1)
        if not byte or len(head) > _HEAD_BYTES_MAX or time.monotonic() > until:
            break
        head += byte
    return bytes(head)
