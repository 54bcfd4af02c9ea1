"""What this computer reaches, as far as anything here has learned: who learns something says so, and everybody reads it here.

A whole look, a visit, an entitlement that was looked up and an exchange that timed out all end here, so that pill, sentence
and page are one value. It forgets with the process: reach is of now. Its ``version`` rises only when something is
another than before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.administrator.memory.inventory import FieldServerRecord
from tallystick.administrator.ports import Probe, RouteKind, RouteReport
from tallystick.domain.ids import DeviceId
from tallystick.protocol.device_api import Identity
from tallystick.sentences import _

NAMES_SHOWN_MAX: Final = 5
# Nobody who is meant has answered; with every other code somebody did, whatever was said.
NOT_REACHED: Final = frozenset(
    {"unreachable", "proxy-refused", "certificate-untrusted", "certificate-changed", "device-wrong"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is known of the route at one moment. ``asked_at``: when everybody was asked the last time."""

    asked_at: int | None
    learned_at: int
    reached: Mapping[DeviceId, bool]
    route: RouteReport

    @property
    def has_route(self) -> bool:
        """Whether an activation server is reached from here."""
        return self.route.route is not RouteKind.OFFLINE and any(probe.reachable for probe in self.route.activation)


@dataclass(frozen=True, slots=True)
class _Learned:
    """Of a field server: its own route where it was reached, or why it was not."""

    identity: Identity | None
    is_reached: bool
    why: str = ""

    @property
    def seen(self) -> tuple[object, ...]:
        """What of it anybody would see."""
        own = None if self.identity is None else self.identity.activation
        return (self.is_reached, self.why, own)


class Reach:
    """Safe for many threads."""

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._activation: dict[str, Probe] = {}
        self._field_servers: dict[DeviceId, _Learned] = {}
        self._asked_at: int | None = None
        self._learned_at: int | None = None
        self.version = 0

    @property
    def asked_at(self) -> int | None:
        """When everybody was asked the last time."""
        return self._asked_at

    def note_all_asked(self) -> None:
        """A whole look has ended."""
        with self._lock:
            self._asked_at = self._now()
            self.version += 1

    def note_activation(self, url: str, *, issuer: str = "", why: str | None = None) -> None:
        """An activation server answered, or (``why``) did not."""
        with self._lock:
            known = self._activation.get(url)
            name = issuer or (known.name if known else "")
            self._learn(known, fresh := Probe(name=name, address=url, reachable=why is None, why=why or ""))
            self._activation[url] = fresh

    def note_field_server(
        self, device_id: DeviceId, identity: Identity | None = None, *, code: str = "", why: str = ""
    ) -> None:
        """A field server said who it is, or there was trouble with it."""
        is_reached = code not in NOT_REACHED
        with self._lock:
            known = self._field_servers.get(device_id)
            if identity is None and is_reached and known is not None:
                identity = known.identity
            self._field_servers[device_id] = fresh = _Learned(identity, is_reached, "" if is_reached else why)
            self._learn(None if known is None else known.seen, fresh.seen)

    def _learn(self, before: object, after: object) -> None:
        self._learned_at = self._now()
        self.version += before != after

    def snapshot(
        self, records: Sequence[FieldServerRecord], urls: Sequence[str], *, forced: RouteKind | None
    ) -> Snapshot | None:
        """Of those that are in the list now; None where nobody has learned anything yet."""
        with self._lock:
            if self._learned_at is None:
                return None
            activation = [self._activation[url] for url in urls if url in self._activation]
            known = {one.device_id: self._field_servers.get(one.device_id) for one in records}
            asked_at, learned_at = self._asked_at, self._learned_at
        if forced is RouteKind.OFFLINE:
            why = _("the route was set to offline")
            activation = [Probe(name=one.name, address=one.address, reachable=False, why=why) for one in activation]
        asked = [
            (Probe(name=record.name, address=record.address, reachable=one.is_reached, why=one.why), one.identity)
            for record in records
            if (one := known[record.device_id]) is not None
        ]
        return Snapshot(
            asked_at=asked_at,
            learned_at=learned_at,
            reached={device_id: one.is_reached for device_id, one in known.items() if one is not None},
            route=report_of(activation, asked, listed=len(records), forced=forced),
        )


def report_of(
    activation: Sequence[Probe],
    asked: Sequence[tuple[Probe, Identity | None]],
    *,
    listed: int,
    forced: RouteKind | None,
) -> RouteReport:
    """The route that these answers make, and why. ``listed``: how many field servers are in the list, asked or not."""
    route, why = _decide_route(activation, asked, listed=listed, forced=forced)
    return RouteReport(
        route=route, why=why, activation=tuple(activation), field_servers=tuple(probe for probe, _other in asked)
    )


def _decide_route(
    activation: Sequence[Probe],
    asked: Sequence[tuple[Probe, Identity | None]],
    *,
    listed: int,
    forced: RouteKind | None,
) -> tuple[RouteKind, str]:
    if forced is not None:
        return forced, _(
            "The route was set to {forced}; what would be found without that is not looked at.", forced=forced
        )
    if not activation:
        return RouteKind.OFFLINE, _("No address of an activation server is known here, so files are carried.")
    if not any(probe.reachable for probe in activation):
        failed = "; ".join(f"{probe.address}: {probe.why}" for probe in activation)
        return (
            RouteKind.OFFLINE,
            _("This computer does not reach the activation server ({failed}), so files are carried.", failed=failed),
        )
    addresses = ", ".join(probe.address for probe in activation if probe.reachable)
    there = _("This computer reaches the activation server at {addresses}", addresses=addresses)
    reached = [(probe, identity) for probe, identity in asked if probe.reachable and identity is not None]
    silent = _names(f"{probe.name} at {probe.address}" for probe, _other in asked if not probe.reachable)
    alone = [(probe, identity) for probe, identity in reached if not _has_own_route(identity)]
    also = _(" Not reached from here: {silent}.", silent=silent) if silent else ""
    if not listed:
        return RouteKind.ONLINE, _("{there}; no field server is in the list yet.", there=there)
    if not asked:
        return RouteKind.ONLINE, _("{there}; field servers were not asked yet.", there=there)
    if not reached:
        return RouteKind.SEMI_ONLINE, _("{there}, but no field server.{also}", there=there, also=also)
    if alone:
        failed = _by_reason(alone)
        return (
            RouteKind.SEMI_ONLINE,
            _(
                "{there}; field servers do not by themselves ({failed}), so it carries for them.{also}",
                there=there,
                failed=failed,
                also=also,
            ),
        )
    return RouteKind.ONLINE, _("{there}, and so do the field servers themselves.{also}", there=there, also=also)


def _has_own_route(identity: Identity) -> bool:
    return identity.activation is not None and identity.activation.reachable


def _own_route(identity: Identity) -> str:
    own = identity.activation
    return "told of no activation server" if own is None else f"{own.url}: {own.why or 'not reached'}"


def _by_reason(alone: Sequence[tuple[Probe, Identity]]) -> str:
    """Who has no route of its own, each reason once."""
    reasons: dict[str, list[str]] = {}
    for probe, identity in alone:
        reasons.setdefault(_own_route(identity), []).append(f"{probe.name} at {probe.address}")
    return "; ".join(f"{_names(names)}: {why}" for why, names in list(reasons.items())[:NAMES_SHOWN_MAX])


def _names(texts: Iterable[str]) -> str:
    every = list(texts)
    more = f" and {len(every) - NAMES_SHOWN_MAX} more" if len(every) > NAMES_SHOWN_MAX else ""
    return ", ".join(every[:NAMES_SHOWN_MAX]) + more
