"""One HTTP POST to an address that somebody else chose: the guard against server-side request forgery is here.

Guarantees: a connection goes only to an address that was checked (the name is resolved once, and what was checked is
what is connected to, so a name that changes its mind gains nothing); addresses that are not of the public Internet are
refused unless the settings allow them; plain HTTP only to allowed ones; redirects are answers, not followed; no proxy of
the environment is used; the whole exchange ends in time, however slowly the other side drips.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from tallystick.connections.calling import CutOff, cut_off
from tallystick.errors import Error
from tallystick.sentences import _

URL_LENGTH_MAX: Final = 2000
_NOT_IN_URLS: Final = frozenset(' "<>\\^`{|}')  # RFC 3986
_ANSWER_BYTES_MAX: Final = 2000
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class TargetError(Error):
    """An address that webhooks may not go to (``webhook-target``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a POST. ``status`` None: nothing did, and ``detail`` says why."""

    status: int | None
    detail: str

    @property
    def is_taken(self) -> bool:
        """Whether the other side took it."""
        return self.status is not None and 200 <= self.status < 300


def check_url(url: str, allowed: Sequence[str]) -> SplitResult:
    """Raises ``TargetError`` for a URL that cannot be a target, whatever its name resolves to."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise TargetError("webhook-target", expected=_("a URL like https://example.com/hook"), seen=url[:60]) from None
    is_clean = len(url) <= URL_LENGTH_MAX and url.isascii() and url.isprintable() and not set(url) & _NOT_IN_URLS
    if not is_clean or parts.scheme not in {"https", "http"} or not parts.hostname or port == 0:
        raise TargetError("webhook-target", expected=_("a URL like https://example.com/hook"), seen=url[:60])
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise TargetError("webhook-target", expected=_("a URL without a user, a password or a fragment"), seen=_("one"))
    if parts.scheme == "http" and not _is_host_listed(parts.hostname, allowed):
        raise TargetError(
            "webhook-target", expected=_("https (http only for hosts of webhooks.allow_private)"), seen=_("http")
        )
    with contextlib.suppress(ValueError):
        _check_address(ipaddress.ip_address(parts.hostname), parts.hostname, allowed)
    return parts


def post(
    url: str, *, body: bytes, headers: Mapping[str, str], allowed: Sequence[str], timeout_seconds: float
) -> Answered:
    """POST ``body``. Never raises for what the other side does."""
    try:
        parts = check_url(url, allowed)
        addresses = _resolve(parts, allowed)
    except TargetError as error:
        return Answered(status=None, detail=str(error)[:500])
    with cut_off(timeout_seconds) as cut:
        connection = _Connection(parts, addresses, timeout_seconds, cut)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", path, body=body, headers=dict(headers))
            response = connection.getresponse()
            text = response.read(_ANSWER_BYTES_MAX).decode("utf-8", "replace")
            shown = "".join(symbol if symbol.isprintable() else " " for symbol in text)[:200]
            return Answered(status=response.status, detail=shown)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if cut.is_over:
                return Answered(status=None, detail=f"no whole answer within {timeout_seconds:g} seconds")
            return Answered(status=None, detail=_why(error))
        finally:
            connection.close()


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"[:300]
    said = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else None
    return (said or str(error) or type(error).__name__)[:300]


class _Connection(http.client.HTTPConnection):
    """Connects to one of the addresses that were checked; TLS is for the name."""

    def __init__(self, parts: SplitResult, addresses: Sequence[Address], timeout_seconds: float, cut: CutOff) -> None:
        default = 443 if parts.scheme == "https" else 80
        super().__init__(parts.hostname or "", parts.port or default, timeout=timeout_seconds)
        self._addresses = addresses
        self._is_tls = parts.scheme == "https"
        self.default_port = default  # so that Host names the port only where it is another
        self._cut = cut

    def connect(self) -> None:
        failure: OSError = OSError("no address")
        for address in self._addresses:
            try:
                self.sock = socket.create_connection((str(address), self.port), self.timeout)
                break
            except OSError as error:
                failure = error
            if self._cut.is_over:
                raise failure
        else:
            raise failure
        self._cut.watch(self.sock)
        if self._is_tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def _resolve(parts: SplitResult, allowed: Sequence[str]) -> list[Address]:
    host = parts.hostname or ""
    try:
        found = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise TargetError("webhook-target", expected=_("an address of {host}", host=host), seen=str(error)) from None
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:  # one bad one is enough: whoever mixes them is up to something
        _check_address(address, host, allowed)
    return list(dict.fromkeys(addresses))


def _check_address(address: Address, host: str, allowed: Sequence[str]) -> None:
    inner = _inner(address)
    if _is_host_listed(host, allowed) or any(_is_in(one, network) for one in {address, inner} for network in allowed):
        return
    if not _is_public(inner):
        raise TargetError(
            "webhook-target",
            expected=_("an address of the public Internet, or one of webhooks.allow_private"),
            seen=_("{host} at {address}", host=host, address=address),
        )


# What IANA's registries of special addresses have and the library of some Pythons has not.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24",
        "192.88.99.0/24",
        "fec0::/10",
        "64:ff9b:1::/48",
        "2001::/23",
        "3fff::/20",
        "5f00::/16",
    )
)


def _is_public(address: Address) -> bool:
    """Whether the library calls it global, and no registry calls it special."""
    if not address.is_global or address.is_multicast or address.is_reserved or address.is_unspecified:
        return False
    return not any(address.version == network.version and address in network for network in _SPECIAL)


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_host_listed(host: str, allowed: Sequence[str]) -> bool:
    if host.lower() in {one.lower() for one in allowed}:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return any(_is_in(address, network) for network in allowed)


def _is_in(address: Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except (ValueError, TypeError):
        return False
