"""Whoever listens has bounds: on heads, on the time for one, on connections in all and of one address.

``Bounded`` goes in front of one of uvicorn's HTTP protocols and uses what those have as public. Guarantees: a head that
is not whole in time ends its connection; when all places are taken, or all of one address, whoever has been slow for the
longest goes, be it idle, in its head or in its body; who waits for our answer never does. Slow bodies are otherwise the
business of what is served, and so is what h11 bounds by itself (``h11_max_incomplete_event_size``).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

HEAD_BYTES_MAX: Final = 64 * 1024
HEAD_SECONDS: Final = 20.0
_IPV6_PREFIX: Final = 64
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Places:
    """The places of one listener. ``unbounded``: networks of proxies, whose connections are many people's."""

    connections_max: int
    address_max: int
    unbounded: Sequence[str] = ()
    _taken: Counter[str] = field(default_factory=Counter)
    _networks: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._networks = [ipaddress.ip_network(network, strict=False) for network in self.unbounded]

    def take(self, address: str) -> bool:
        """One more of an address; whether that is too many."""
        self._taken[address] += 1
        return self._taken[address] > self.address_max and not self._is_unbounded(address)

    def give(self, address: str) -> None:
        """One less."""
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]

    def client_of(self, address: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Who speaks by this connection, where it is a proxy's: the last address that it was told and that is no proxy's."""
        if not self.unbounded or not self._is_unbounded(address):
            return address
        told = b",".join(value for name, value in headers if name == b"x-forwarded-for").decode("latin-1").split(",")
        ours = (address_of(one.strip()) for one in reversed(told))
        return next((one for one in ours if one and not self._is_unbounded(one)), address)

    def _is_unbounded(self, address: str) -> bool:
        try:
            found = ipaddress.ip_network(address)
        except ValueError:
            return False
        return any(found.version == one.version and found.subnet_of(one) for one in self._networks)


class Bounded:
    """In front of ``HttpToolsProtocol`` or ``H11Protocol``, by inheritance. ``places`` is set for each listener."""

    places: Places
    _head_timer: asyncio.TimerHandle | None = None
    _since: float = 0.0
    _unread = 0
    counts_unread = False  # where the reader of HTTP has no bound of its own, and calls `note_read`
    _address = ""

    def connection_made(self: Any, transport: Any) -> None:
        """Take the connection, and make place for it."""
        super().connection_made(transport)  # type: ignore[misc]  # uvicorn's
        self._since = self.loop.time()
        self._address = address_of(self.client[0] if self.client else "")
        is_too_many = self.places.take(self._address)
        if is_too_many:
            self._drop_slowest(self._address)
        elif len(self.connections) > self.places.connections_max:
            self._drop_slowest(None)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end_of_patience)

    def data_received(self: Any, data: bytes) -> None:
        """Take bytes, and watch how long a head takes, and how large it is."""
        self._unread += len(data)
        super().data_received(data)  # type: ignore[misc]  # uvicorn's
        if not self.is_idle():
            if self._head_timer is not None:
                self._since = self.loop.time()
                self._head_timer.cancel()
                self._head_timer = None
        elif self._head_timer is None:
            self._since = self.loop.time()
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._end_of_patience)
        if (
            self.counts_unread
            and self._unread > HEAD_BYTES_MAX
            and self.transport is not None
            and not self.transport.is_closing()
        ):
            if self.is_idle():
                self.transport.write(_TOO_LARGE)
            self.transport.close()

    def connection_lost(self: Any, exc: Exception | None) -> None:
        """Forget the connection."""
        self.places.give(self._address)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().connection_lost(exc)  # type: ignore[misc]  # uvicorn's

    def note_active(self: Any) -> None:
        """It was answered: from now on it may be slow again."""
        self._since = self.loop.time()

    def note_read(self) -> None:
        """What was received led to something: it is no endless head, trailer or chunk."""
        self._unread = 0

    def is_idle(self: Any) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def is_slow(self: Any) -> bool:
        """Whether we wait for the other side, and not it for us."""
        return self.is_idle() or bool(self.cycle.more_body)

    def _drop_slowest(self: Any, address: str | None) -> None:
        slow: list[Any] = [
            other
            for other in self.connections
            if isinstance(other, Bounded) and other.is_slow() and address in {None, other._address}  # noqa: SLF001 - of its own class
        ]
        min(slow, key=lambda other: other._since, default=self).transport.abort()  # noqa: SLF001 - of its own class

    def _end_of_patience(self: Any) -> None:
        self._head_timer = None
        if self.is_idle() and not self.transport.is_closing():
            self.transport.abort()


def address_of(address: str) -> str:
    """One for each IPv4 address and each IPv6 network: whoever has one IPv6 address has 2^64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))
    return str(ip)
