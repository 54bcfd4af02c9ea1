"""The proxy between this computer and activation servers, and, where told so, between it and field servers.

It is kept as one text, sealed like a password, because it may hold one; what is shown never does.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote, urlsplit

import msgspec

from tallystick.errors import Error
from tallystick.sentences import _

_EXAMPLE: Final = _("a proxy like http://proxy.example:3128")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """``address`` has neither user nor password. ``is_for_field_servers``: they are reached through it, too."""

    address: str
    user: str = ""
    password: str = field(default="", repr=False)
    is_for_field_servers: bool = False

    @property
    def host_and_port(self) -> tuple[str, int]:
        """Where it listens."""
        parts = urlsplit(self.address)
        return parts.hostname or "", parts.port or _PORTS[parts.scheme]

    @property
    def url(self) -> str:
        """With user and password, for an HTTP client."""
        if not self.user:
            return self.address
        scheme, _other, rest = self.address.partition("://")
        return f"{scheme}://{quote(self.user, safe='')}:{quote(self.password, safe='')}@{rest}"

    @property
    def authorization(self) -> str | None:
        """The value of ``Proxy-Authorization`` (RFC 7617)."""
        if not self.user:
            return None
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")

    def stored(self) -> str:
        """All of it as text."""
        return msgspec.json.encode(self).decode()


def parse_proxy(text: str, *, user: str = "", password: str = "", is_for_field_servers: bool = False) -> Proxy:
    """A proxy as people write it; user and password may be in it. Raises ``Error`` (``usage``)."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise Error("usage", expected=_EXAMPLE, seen=without_secrets(text)) from None
    if parts.scheme not in _PORTS or not host or port == 0 or parts.path.strip("/") or parts.query or parts.fragment:
        raise Error("usage", expected=_EXAMPLE, seen=without_secrets(text))
    shown = f"[{host}]" if ":" in host else host
    return Proxy(
        address=f"{parts.scheme}://{shown}:{port or _PORTS[parts.scheme]}",
        user=user or unquote(parts.username or ""),
        password=password or unquote(parts.password or ""),
        is_for_field_servers=is_for_field_servers,
    )


def read_stored(text: str) -> Proxy | None:
    """What was kept; None for nothing."""
    if not text:
        return None
    if not text.startswith("{"):  # as earlier versions kept it
        return parse_proxy(text)
    return msgspec.json.decode(text, type=Proxy)


def without_secrets(text: str) -> str:
    """The same address without user and password."""
    scheme, separator, rest = text.strip().partition("://")
    return (scheme + separator + rest.rpartition("@")[2])[:200]
