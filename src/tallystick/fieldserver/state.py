"""What a field server remembers (protocol, section 4): frozen values, and nothing that decides.

Everything here is hashable and comparable, so that an explorer can tell two states apart. Signed messages are kept
verbatim; what stands beside them is read out of them, never the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tallystick.domain.ids import ActivationId, DeviceId, Digest, LineId
from tallystick.domain.verdict import License
from tallystick.errors import Error
from tallystick.protocol.envelope import PrivateKey, digest_of, open_envelope
from tallystick.protocol.keys import Keyset
from tallystick.protocol.messages import Facts, Grant, LineReason, Purpose, Request, convert_claims

OUTCOMES_MAX: Final = 20
OUTBOX_MAX: Final = 100


class Fate(StrEnum):
    """What became of an own message. ``OVERTAKEN``: a reply to a later message came, and none to this one yet."""

    GRANTED = "granted"
    REFUSED = "refused"
    CREDITED = "credited"
    OVERTAKEN = "overtaken"


class LineEffect(StrEnum):
    """What a delivered line did."""

    APPLIED = "applied"  # a grant or a keyset is in force now
    ALREADY = "already"  # it was, or was noted, before
    NOTED = "noted"  # genuine, and nothing to apply
    STALE = "stale"  # genuine, but a newer one is in force
    REFUSED = "refused"  # the activation server refused an own message
    ERROR = "error"  # not usable here; nothing changed


class Trust(StrEnum):
    """How a field server comes to the root that it pins. It proves nothing to a program, which names its own."""

    NAMED = "named"  # at init, by its fingerprint or with the vendor's keys
    FIRST = "first-delivery"  # asked for at init, for trials: whoever delivers first
    UNRECORDED = "unrecorded"  # made by a release that did not record it; whoever delivered first


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Who this field server is, and what it says about itself."""

    key: PrivateKey
    facts: Facts
    root: str | None = None  # the fingerprint that was named at init; None: the first keyset that is delivered pins one
    trust: Trust = Trust.UNRECORDED

    @property
    def device_id(self) -> DeviceId:
        """The thumbprint of its public key."""
        return self.key.public.device_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The grant in force, verbatim, and the keyset that it was verified with."""

    compact: str
    digest: Digest
    number: int
    keyset: Keyset
    licenses: tuple[License, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An own message, verbatim, that no reply has cleared yet."""

    compact: str
    digest: Digest
    sequence: int
    purpose: Purpose
    written_at: int

    def claims(self) -> Request:
        """What it says. It is an own message, so its signature is not checked again."""
        return convert_claims(open_envelope(self.compact.encode()).payload, Request)


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFate:
    """What became of an own message, the last ``OUTCOMES_MAX`` of them."""

    sequence: int
    digest: Digest
    purpose: Purpose
    fate: Fate
    code: str | None
    detail: str
    reasons: tuple[LineReason, ...]
    noted_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is durable, but for the device's seed. ``time_seen`` is the moment at which expiry is judged at least.

    ``sequence`` is that of the newest own message and never falls, also not with a new epoch. ``outbox`` and
    ``outcomes`` are in the order of their sequence.
    """

    device_id: DeviceId
    epoch: int = 1
    sequence: int = 0
    applied: Applied | None = None
    keyset: Keyset | None = None
    outbox: tuple[Waiting, ...] = ()
    outcomes: tuple[MessageFate, ...] = ()
    time_seen: int = 0
    rolled_back_at: int | None = None
    final: bool = False  # out of service for good: it takes no grant any more

    @property
    def licenses(self) -> tuple[License, ...]:
        """What is held."""
        return () if self.applied is None else self.applied.licenses


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationWant:
    """Hold ``quantity`` of the line that ``activation_id`` names and proves."""

    activation_id: ActivationId
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnWant:
    """Hold only ``quantity`` of ``line_id`` any more."""

    line_id: LineId
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """Ask for end states."""

    wants: tuple[ActivationWant, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """Give back down to end states; ``wants`` None: everything."""

    wants: tuple[ReturnWant, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """Ask what should be held now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relinquish:
    """Give everything up first, and say so. ``is_final``: and take no grant any more, for good."""

    is_final: bool = False


Wish = Activate | Return | Refresh | Relinquish


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The message that says it. ``is_repeated``: it was waiting already, the same bytes."""

    message: Waiting
    is_repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Nothing changed, and why."""

    code: str
    expected: str
    seen: str

    def as_error(self) -> Error:
        """For an edge that raises."""
        return Error(self.code, expected=self.expected, seen=self.seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What one delivered line did. ``detail`` is for people; ``code`` is None where all is well."""

    kind: str
    digest: Digest | None
    effect: LineEffect
    code: str | None
    detail: str


def keyset_beside(state: State) -> Keyset | None:
    """The keyset that goes with the grant in force: the current one if it lists the grant's key in its time.

    Else that key was taken out since, and it is the one that the grant was taken with (docs/protocol/checks.md).
    """
    current, applied = state.keyset, state.applied
    if current is None or applied is None or applied.keyset is current or applied.keyset.compact == current.compact:
        return current
    message = open_envelope(applied.compact.encode())
    issued_at = convert_claims(message.payload, Grant).iat
    is_listed = current.issuer == applied.keyset.issuer and current.may_have_signed(message.kid, issued_at=issued_at)
    return current if is_listed else applied.keyset


def make_waiting(compact: str, claims: Request) -> Waiting:
    """A waiting message from its envelope and what it says."""
    return Waiting(
        compact=compact,
        digest=digest_of(compact),
        sequence=claims.sequence,
        purpose=claims.purpose,
        written_at=claims.iat,
    )


def make_applied(compact: str, grant: Grant, keyset: Keyset) -> Applied:
    """A grant in force from its envelope, what it says, and the keyset that verified it."""
    return Applied(
        compact=compact, digest=digest_of(compact), number=grant.number, keyset=keyset, licenses=grant.held()
    )
