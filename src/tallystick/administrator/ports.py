"""What Device Administrator needs from outside: a network, a field server on it, an activation server, a clock.

All of it is bytes and values, so that a simulator can stand in for every part. Whatever goes wrong on the way is a
``PortError``, and nothing else leaves a port: it carries ``unreachable``, ``certificate-changed``, ``password-wrong``,
``too-many-tries``, or the code with which the other side refused. What the other side says is read into frozen values
here; what they do not know is passed over, so that an older Device Administrator can talk to a newer field server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from tallystick.domain.ids import DeviceId, Digest, EntitlementId, LineId
from tallystick.errors import Error
from tallystick.protocol.messages import LineReason
from tallystick.protocol.problems import BY_CODE
from tallystick.structs import know

FIELD_SERVERS_AT_ONCE_MAX: Final = 64
PROTOCOL: Final = 1  # the version of the field server API, and of its messages, that is spoken here


class PortError(Error):
    """The other side was not reached, is not who it was, or refused. ``next_step``: its own, where it sent one."""

    def __init__(
        self, code: str, *, expected: str, seen: str, next_step: str = "", reasons: Sequence[LineReason] = ()
    ) -> None:
        super().__init__(code, expected=expected, seen=seen)
        self.next_step = next_step or next_step_of(code)
        self.reasons = tuple(reasons)


def next_step_of(code: str | None) -> str:
    """What to do about a code; for one that this version does not know, the best that can be said."""
    if code is None:
        return ""
    problem = BY_CODE.get(code)
    return problem.next_step if problem else "Look the code up in the documentation of the party that sent it."


# A field server, as it speaks over HTTPS


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRoute:
    """Whether the field server itself reaches the activation server, and when it looked."""

    url: str
    reachable: bool
    why: str = ""
    checked_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a field server is. ``activation``: None where it was not told of any route of its own.

    ``protocol``: which version it speaks; an answer that says nothing of it is of version 1.
    """

    device_id: DeviceId
    kind: str
    host_id: str
    name: str
    software: str
    certificate_fingerprint: str
    root_fingerprint: str | None = None
    issuer: str | None = None
    keyset_version: int | None = None
    protocol: int = PROTOCOL
    activation: OwnRoute | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedNote:
    """The grant in force."""

    number: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLicense:
    """A license on a field server. ``features`` are counts per unit, ``expires`` Unix seconds."""

    license: str
    line: LineId
    product: str
    quantity: int
    features: Mapping[str, int] = field(default_factory=dict)
    expires: int | None = None
    engineering: bool = False
    one_carry: bool = False
    expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureNote:
    """Required, used, available and activated of one feature."""

    feature: str
    required: int
    used: int
    available: int
    activated: int
    violation: bool
    standing: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingNote:
    """A message in the field server's outbox."""

    sequence: int
    purpose: str
    digest: Digest
    written_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeNote:
    """What became of one of the field server's last messages: granted, refused, credited or overtaken."""

    sequence: int
    digest: Digest
    purpose: str
    outcome: str
    code: str | None = None
    detail: str = ""
    reasons: tuple[LineReason, ...] = ()
    at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseReport:
    """All that a field server says about its licenses."""

    device_id: DeviceId
    name: str
    kind: str
    epoch: int
    applied: AppliedNote | None = None
    licenses: tuple[HeldLicense, ...] = ()
    features: tuple[FeatureNote, ...] = ()
    outbox: tuple[WaitingNote, ...] = ()
    outcomes: tuple[OutcomeNote, ...] = ()
    time_seen: int = 0
    rolled_back_at: int | None = None

    @property
    def held(self) -> dict[LineId, int]:
        """Quantity per line."""
        return {license_.line: license_.quantity for license_ in self.licenses}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateWish:
    """Hold these end states: pairs of an activation ID, as printed, and a quantity."""

    wants: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnWish:
    """Give back down to these end states; ``wants`` None: everything."""

    wants: tuple[tuple[LineId, int], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshWish:
    """Ask what should be held now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelinquishWish:
    """Give everything up first, and say so."""


Wish = ActivateWish | ReturnWish | RefreshWish | RelinquishWish


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenRequest:
    """The message that a field server wrote for a wish. ``repeated``: it was waiting already."""

    sequence: int
    digest: Digest
    purpose: str
    message: str
    repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What one delivered line did: applied, already, noted, stale, refused or error."""

    line_number: int
    outcome: str
    kind: str = ""
    digest: Digest | None = None
    code: str | None = None
    detail: str = ""
    next_step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxResult:
    """The answer of an inbox. ``waiting``: how many messages are in the outbox afterwards."""

    results: tuple[Delivered, ...]
    waiting: int = 0


class FieldServerPort(Protocol):
    """One field server. Every method raises ``PortError``."""

    def identity(self) -> Identity:
        """Who it is; needs no password."""

    def licenses(self) -> LicenseReport:
        """What it holds, and what waits."""

    def request(self, wish: Wish) -> WrittenRequest:
        """Have it write the message that says ``wish``; the newest waiting one, if that says it already."""

    def outbox(self) -> bytes:
        """Its waiting messages, a tally file."""

    def inbox(self, tally: bytes) -> InboxResult:
        """Deliver a tally file of keysets, grants, refusals and credits."""


# An activation server


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What an activation server said to one message: the signed replies, or an unsigned error with its code."""

    digest: Digest | None
    outcome: str
    code: str | None = None
    detail: str = ""
    next_step: str = ""
    replies: tuple[str, ...] = ()


class ActivationPort(Protocol):
    """One activation server. Every method raises ``PortError``."""

    def keys(self) -> bytes:
        """A tally file with its current keyset."""

    def exchange(self, envelopes: Sequence[str]) -> tuple[Answered, ...]:
        """Hand messages over, and take an answer to each, in their order."""

    def lookup(self, entitlement_id: EntitlementId) -> str:
        """The certificate of an entitlement, one envelope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """How to reach a field server: its pinned certificate is trusted, and nothing else is."""

    address: str
    certificate: str
    fingerprint: str
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCertificate:
    """The certificate that an address shows, PEM and fingerprint. Nobody has vouched for it yet."""

    certificate: str
    fingerprint: str


class Network(Protocol):
    """Everything that is beyond this computer."""

    def certificate(self, address: str) -> ShownCertificate:
        """What the address shows, before anything is sent. Raises ``PortError``."""

    def field_server(self, contact: Contact) -> AbstractContextManager[FieldServerPort]:
        """A field server, to be closed after use. Opening it sends nothing and never fails."""

    def activation(self, url: str) -> ActivationPort:
        """An activation server. May be used by many threads at once."""


class Clock(Protocol):
    """The wall clock of this computer."""

    def now(self) -> int:
        """Unix seconds."""


# What an operation tells while it runs, and the routes


class Stage(StrEnum):
    """How far an operation on one field server has come."""

    CONNECTING = "connecting"
    ASKING = "asking"
    CARRYING = "carrying"
    DELIVERING = "delivering"
    FINISHED = "finished"


class Progress(Protocol):
    """Told of every step, from many threads."""

    def step(self, device_id: DeviceId, stage: Stage) -> None:
        """The operation on ``device_id`` has come to ``stage``."""


class RouteKind(StrEnum):
    """Who carries. Only the courier acts on it."""

    ONLINE = "online"
    SEMI_ONLINE = "semi-online"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whether one address answered, and if not, why."""

    name: str
    address: str
    reachable: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteReport:
    """The route that exists, and why, in one sentence."""

    route: RouteKind
    why: str
    activation: tuple[Probe, ...] = ()
    field_servers: tuple[Probe, ...] = ()


know(Identity, LicenseReport, WrittenRequest, InboxResult)
