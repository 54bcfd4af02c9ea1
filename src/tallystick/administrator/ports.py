"""What Device Administrator needs from outside: a network, a field server on it, an activation server, a clock.

All of it is bytes and values, so that a simulator can stand in for every part. Whatever goes wrong on the way is a
``PortError``, and nothing else leaves a port: it carries ``unreachable``, ``certificate-changed``, ``password-wrong``,
``too-many-tries``, or the code with which the other side refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from tallystick.domain.ids import DeviceId, Digest, EntitlementId
from tallystick.errors import Error
from tallystick.protocol.device_api import Identity, InboxResult, LicenseReport, ReasonNote, Wish, WrittenRequest
from tallystick.protocol.dry_run import Ask, DryRunAnswer
from tallystick.protocol.messages import LineReason
from tallystick.protocol.problems import BY_CODE
from tallystick.sentences import _
from tallystick.structs import copied

FIELD_SERVERS_AT_ONCE_MAX: Final = 64


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
    return problem.next_step if problem else _("Look the code up in the documentation of the party that sent it.")


def made_reasons(notes: Iterable[ReasonNote]) -> tuple[LineReason, ...]:
    """Reasons as they were signed, from what a field server says of them."""
    return tuple(copied(LineReason, note) for note in notes)


# A field server (its documents: protocol.device_api)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEntitlement:
    """What an activation server says of an entitlement: its certificate, and what is available of each line now."""

    certificate: str
    available: Mapping[str, int]


class ActivationPort(Protocol):
    """One activation server. Every method raises ``PortError``."""

    def keys(self) -> bytes:
        """A tally file with its current keyset."""

    def exchange(self, envelopes: Sequence[str]) -> tuple[Answered, ...]:
        """Hand messages over, and take an answer to each, in their order."""

    def foresee(self, asks: Sequence[Ask]) -> DryRunAnswer:
        """What would be decided, together; nothing happens by that."""

    def lookup(self, entitlement_id: EntitlementId) -> FoundEntitlement:
        """An entitlement, by its id."""


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
    """Called at every step, from many threads."""

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
