"""What an HTTP client does not do by itself: a tunnel through a proxy to look through."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Final

from tallystick.administrator.network.proxy import Proxy
from tallystick.administrator.ports import PortError
from tallystick.sentences import _

CONNECT_SECONDS: Final = 5.0
_HEAD_BYTES_MAX: Final = 16 * 1024


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
        head = _read_head(plain)
        if not head.endswith(b"\r\n\r\n"):
            raise PortError(
                "proxy-refused",
                expected=_("a whole answer of the proxy {address}", address=proxy.address),
                seen=_("a part of one"),
            )
        status = head.split(b"\r\n", 1)[0].decode("latin-1")
        version, _other, reason = status.partition(" ")
        if not version.startswith("HTTP/1.") or not reason.startswith("2"):
            seen = _(
                "{reason}, from {address}", reason=reason[:200] or _("no answer of a proxy"), address=proxy.address
            )
            raise PortError(
                "proxy-refused", expected=_("a proxy that lets through to {address}", address=address), seen=seen
            )
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
