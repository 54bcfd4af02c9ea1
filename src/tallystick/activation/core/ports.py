"""What the activation server's core needs from outside: a store, a signer. And the values that are kept there.

The store is a unit of work: ``Store.transact`` runs a function in one transaction and commits before it returns, so
"reply after commit" is the only thing a caller can do. The function may be run again after a serialisation failure;
it must have no effect but through its transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from msgspec import Struct, structs

from tallystick.domain.catalog import Catalog
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.grant import Outstanding, Reserved, reserve
from tallystick.domain.ids import DeviceId, Digest, EntitlementId, LineId
from tallystick.domain.ledger import Entry
from tallystick.protocol.keys import Keyset
from tallystick.structs import know

ResultT = TypeVar("ResultT")


class Status(StrEnum):
    """Where a field server stands with the activation server."""

    LISTED = "listed"  # enrolled beforehand by a person, never heard from
    ACTIVE = "active"
    HOLD = "hold"  # two copies were seen; a person decides
    LOST = "lost"  # declared lost, its rights in quarantine
    RETIRED = "retired"  # declared lost, and the waiting period is over


class FieldServer(Struct, frozen=True, kw_only=True):
    """What the activation server keeps per field server (protocol, section 4).

    ``epoch`` is the activation server's, ``spoken_epoch`` the highest that the field server itself spoke in;
    ``sequence`` the highest seen; ``number`` the newest grant's; ``proven`` the last proven grant's of this epoch
    (0: none). ``outstanding`` are the grants at which it may be, see ``domain.grant``. ``recovering`` is set by a
    restore: until it speaks in that epoch, every answer is a fence. ``speaks`` is the highest revision that it reads.
    ``rolled_back_at`` is what it said itself, the last time. ``lost_until`` is when a waiting period can end at the
    earliest, by the calendar; ``waits_until`` is when it does, in seconds of service (``ServiceClock``).
    """

    device_id: DeviceId
    public_key: str
    account: str | None = None
    kind: str = ""
    host_id: str = ""
    name: str = ""
    software: str = ""
    status: Status = Status.ACTIVE
    epoch: int = 1
    spoken_epoch: int = 0
    sequence: int = 0
    number: int = 0
    proven: int = 0
    outstanding: tuple[Outstanding, ...] = ()
    recovering: int | None = None
    rolled_back_at: int | None = None
    speaks: int = 1
    lost_at: int | None = None
    lost_until: int | None = None
    waits_until: int | None = None
    first_seen_at: int = 0
    last_seen_at: int = 0

    def changed(self, **fields: object) -> FieldServer:
        """The same field server with some fields changed. (A message changes it several times; this is quick.)"""
        return structs.replace(self, **fields)

    @property
    def is_declared_lost(self) -> bool:
        """Whether a person declared it lost and it was not heard from since; its waiting period may be over."""
        return self.status is Status.LOST or (self.status is Status.RETIRED and self.lost_at is not None)

    @property
    def intended(self) -> Mapping[LineId, int]:
        """What it should hold: the newest grant's quantities."""
        return self.outstanding[-1].quantities if self.outstanding else {}

    def reserved(self) -> dict[LineId, Reserved]:
        """What the lines keep for it (the reservation rule)."""
        return reserve(self.outstanding)


class Holding(Struct, frozen=True, kw_only=True):
    """What one line keeps for one field server, as the books have it. ``since_at``: since when some is returning."""

    device_id: DeviceId
    line_id: LineId
    held: int = 0
    returning: int = 0
    quarantined: int = 0
    since_at: int = 0


class MessageOutcome(StrEnum):
    """What became of a message."""

    GRANTED = "granted"
    CREDITED = "credited"
    REFUSED = "refused"
    ERROR = "error"  # unsigned, nothing stored


class Answer(Struct, frozen=True, kw_only=True):
    """What the activation server says to one message.

    ``reply`` holds the signed envelopes, verbatim: a grant, a refusal or a credit; after a grant or refusal there
    may be a credit for what the same message proved. Empty only for ``MessageOutcome.ERROR``. ``is_kept`` False: it is
    for somebody who proved nothing, and leaves no row and no event.
    """

    digest: Digest | None
    outcome: MessageOutcome
    reply: tuple[str, ...] = ()
    code: str | None = None
    detail: str = ""
    is_kept: bool = True


class TakenMessage(Struct, frozen=True, kw_only=True):
    """A processed message: found again by its digest (P4) and by its sequence (fork detection)."""

    digest: Digest
    device_id: DeviceId
    epoch: int
    sequence: int
    purpose: str
    taken_at: int
    answer: Answer


class IssuedGrant(Struct, frozen=True, kw_only=True):
    """A grant's digest by its number. ``envelope`` is kept only for grants that the activation server started."""

    device_id: DeviceId
    number: int
    epoch: int
    digest: Digest
    issued_at: int
    envelope: str | None = None


class UsedProof(Struct, frozen=True, kw_only=True):
    """A ``jti`` that proofs of activation IDs were made with, and the message that it belongs to."""

    device_id: DeviceId
    jti: str
    digest: Digest


class Restore(Struct, frozen=True, kw_only=True):
    """The last restore. ``is_open``: its freeze was not lifted, or not for every line."""

    at: int
    is_open: bool


class IncidentKind(StrEnum):
    """What was noticed. Each is documented in docs/incidents.md with what a person can do."""

    ROLLBACK = "rollback"
    FORK = "fork"
    EPOCH_BEHIND = "epoch-behind"
    REAPPEARED = "reappeared"
    HOST_ID_TAKEN = "host-id-taken"
    GRANT_ADOPTED = "grant-adopted"
    CLOCK_JUMPED = "clock-jumped"  # of the activation server; it is of no field server


class IncidentState(StrEnum):
    """How far people are with an incident."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"  # somebody looks at it
    RESOLVED = "resolved"


class Resolution(StrEnum):
    """What ended an incident."""

    RELEASE = "release"  # a person ended the hold that it had led to
    FENCE = "fence"  # the field server proved a grant that was made since
    CLOCK = "clock"  # a person confirmed the clock
    PERSON = "person"  # somebody said so


class ServiceClock(Struct, frozen=True, kw_only=True):
    """What waiting periods are measured by (``core.clock``).

    ``seconds``: how long the activation server was in service with a steady clock, ever. ``at``: its clock when that was
    counted last (0: never). ``doubted_at``: since when a jump waits for a person.
    """

    at: int = 0
    seconds: int = 0
    doubted_at: int | None = None


class Incident(Struct, frozen=True, kw_only=True):
    """Something a person should know about one field server."""

    kind: IncidentKind
    device_id: DeviceId
    at: int
    detail: str
    digest: Digest | None = None


class Handling(Struct, frozen=True, kw_only=True):
    """What people did about an incident, and what ended it."""

    acknowledged_at: int | None = None
    acknowledged_by: str | None = None
    acknowledged_note: str = ""
    resolved_at: int | None = None
    resolved_by: str | None = None
    resolved_note: str = ""
    resolution: Resolution | None = None

    def acknowledge(self, *, at: int, by: str, note: str) -> Handling:
        """Somebody looks at it."""
        return structs.replace(self, acknowledged_at=at, acknowledged_by=by, acknowledged_note=note)

    def resolve(self, *, at: int, by: str | None, how: Resolution, note: str = "") -> Handling:
        """It is over."""
        return structs.replace(self, resolved_at=at, resolved_by=by, resolved_note=note, resolution=how)

    @property
    def state(self) -> IncidentState:
        """Where it stands."""
        if self.resolved_at is not None:
            return IncidentState.RESOLVED
        return IncidentState.OPEN if self.acknowledged_at is None else IncidentState.ACKNOWLEDGED


class LostDeclaration(Struct, frozen=True, kw_only=True):
    """A field server that a person declared lost. It counts against the yearly limit unless it was undone.

    ``held``: what it was to hold then, on every line that kept something for it.
    """

    device_id: DeviceId
    account: str | None
    at: int
    reason: str
    by: str
    override_by: str | None = None
    held: Mapping[LineId, int] = {}
    undone_at: int | None = None


class EventKind(StrEnum):
    """What is reported to others. A kind never changes its meaning; docs/operations/webhooks.md describes each."""

    ENTITLEMENT_CREATED = "entitlement.created"
    LINE_CHANGED = "line.changed"
    ENROLLED = "field_server.enrolled"
    ACTIVATION_GRANTED = "activation.granted"
    RETURN_OPENED = "return.opened"
    RETURN_CREDITED = "return.credited"
    REFUSED = "message.refused"
    INCIDENT = "incident.noted"
    INCIDENT_ACKNOWLEDGED = "incident.acknowledged"
    INCIDENT_RESOLVED = "incident.resolved"
    DECLARED_LOST = "field_server.declared_lost"
    LOST_UNDONE = "field_server.lost_undone"
    LOST_SETTLED = "field_server.lost_settled"
    HELD = "field_server.held"
    RELEASED = "field_server.released"
    RESTORED = "activation_server.restored"
    LINES_FROZEN = "lines.frozen"
    FREEZE_LIFTED = "lines.freeze_lifted"
    SIGN_IN_FAILED = "sign_in.failed"
    SIGN_IN_PAUSED = "sign_in.paused"
    SECRET_REVEALED = "secret.revealed"  # noqa: S105 - a kind of event, not a secret
    SECRET_REPLACED = "secret.replaced"  # noqa: S105 - a kind of event, not a secret
    TOKEN_CREATED = "token.created"  # noqa: S105 - a kind of event, not a secret
    TOKEN_ENDED = "token.ended"  # noqa: S105 - a kind of event, not a secret
    CREDENTIAL_CHANGED = "credential.changed"


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened, for people's programs. ``data`` is JSON; ``account`` None: of no account."""

    kind: EventKind
    at: int
    account: str | None
    data: Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Changes:
    """Everything that one unit of work writes, in one go."""

    field_servers: dict[DeviceId, FieldServer] = field(default_factory=dict)
    lines: dict[LineId, Line] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    holdings: dict[tuple[DeviceId, LineId], Holding] = field(default_factory=dict)
    messages: list[TakenMessage] = field(default_factory=list)
    grants: list[IssuedGrant] = field(default_factory=list)
    proofs: list[UsedProof] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    declarations: list[LostDeclaration] = field(default_factory=list)  # by (device_id, at); a later one replaces
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What happened before a batch, as far as the batch asks for it.

    ``answers``: stored ones, verbatim. ``sequences``: which message used a sequence of a field server (where two did,
    the first). ``grants``: the digest of a grant by its number.
    """

    answers: dict[Digest, Answer]
    sequences: dict[tuple[DeviceId, int], Digest]
    grants: dict[tuple[DeviceId, int], Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What there is of what a batch asks for."""

    field_servers: dict[DeviceId, FieldServer]
    past: Past
    lines: dict[LineId, Line]


class Transaction(Protocol):
    """One unit of work. ``load_*_for_update`` lock their rows, in id order, until the commit."""

    def load_field_servers_for_update(self, ids: Collection[DeviceId]) -> dict[DeviceId, FieldServer]:
        """Known field servers among ``ids``."""

    def load_lines_for_update(self, ids: Collection[LineId]) -> dict[LineId, Line]:
        """Known lines among ``ids``, with their products as the catalog has them now."""

    def load_asked(
        self,
        *,
        devices: Collection[DeviceId],
        digests: Collection[Digest],
        sequences: Collection[tuple[DeviceId, int]],
        grants: Collection[tuple[DeviceId, int]],
        lines: Collection[LineId],
    ) -> Loaded:
        """Everything that a batch asks for, at once: first known field servers among ``devices``, locked, then the past,
        then ``lines`` and every line that the books keep for one of these field servers, locked.
        """

    def load_host_id_owners(self, host_ids: Collection[str]) -> dict[str, dict[DeviceId, str | None]]:
        """Field servers in service (active or on hold) by host id, with their accounts. Host ids are folded: ``domain.text``."""

    def count_idle(self, account: str) -> int:
        """Enrolled field servers of an account for which nothing is kept."""

    def load_used_proofs(self, keys: Collection[tuple[DeviceId, str]]) -> dict[tuple[DeviceId, str], Digest]:
        """Which message first used a ``jti`` of a field server for proofs."""

    def load_restore(self) -> Restore | None:
        """The last restore that was announced."""

    def save_restore(self, restore: Restore) -> None:
        """Remember a restore, or that its freeze was lifted."""

    def load_holdings(self, line_ids: Collection[LineId]) -> list[Holding]:
        """Who holds rights of these lines."""

    def save(self, changes: Changes) -> None:
        """Write everything. New balances replace old ones; entries and messages are only ever added.

        A ``Holding`` with nothing left is deleted; its ``since_at`` is kept from the stored row while some is
        returning in both.
        """

    # What people manage. None of it is read on the way to a reply.

    def load_issued_grant(self, device_id: DeviceId, number: int) -> IssuedGrant | None:
        """A grant by its number."""

    def load_declarations(self, *, account: str | None, since_at: int) -> list[LostDeclaration]:
        """Declarations of an account since a moment, undone ones too."""

    def load_last_declaration(self, device_id: DeviceId) -> LostDeclaration | None:
        """The newest declaration of a field server."""

    def load_quarantine_ends(self, line_ids: Collection[LineId]) -> dict[LineId, int]:
        """When the first quarantine of a line can end, by the calendar; lines without one are left out."""

    def load_due_quarantines(self, seconds: int) -> list[DeviceId]:
        """Field servers declared lost whose waiting period has ended, by the seconds of service."""

    def load_clock(self) -> ServiceClock:
        """The time in service."""

    def load_clock_for_update(self) -> ServiceClock:
        """The same, locked until the commit."""

    def save_clock(self, clock: ServiceClock) -> None:
        """It is this from now on."""

    def find_field_servers(self, *, after: DeviceId | None = None, limit: int = 1000) -> list[FieldServer]:
        """Field servers in id order, a page at a time."""

    def find_lines(self, *, after: LineId | None = None, limit: int = 1000) -> list[Line]:
        """Lines in id order, a page at a time."""

    def find_open_returns(self) -> list[Holding]:
        """Holdings of which some is returning, oldest first."""

    def find_incidents(self, *, limit: int = 1000) -> list[Incident]:
        """Newest first."""

    def find_entries(self, line_id: LineId, *, after: int = 0, limit: int = 10_000) -> list[Entry]:
        """Ledger entries of a line in order, a page at a time."""

    def load_entitlement(self, entitlement_id: EntitlementId) -> Entitlement | None:
        """An entitlement with its lines."""

    def save_entitlement(self, entitlement: Entitlement, entries: Sequence[Entry]) -> None:
        """A new entitlement, its lines and the entries that bought them."""

    def load_catalog(self) -> Catalog:
        """Kinds and products."""

    def save_catalog(self, catalog: Catalog) -> None:
        """Replace kinds, add or replace products. Products that lines use stay."""


class Store(Protocol):
    """Durable storage."""

    def transact(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """Run ``work`` in one transaction, again after a serialisation failure, and commit before returning."""


class Signer(Protocol):
    """The activation server's signing key and the keyset that says so."""

    @property
    def keyset(self) -> Keyset:
        """The current keyset."""

    def sign(self, typ: str, payload: bytes) -> str:
        """One envelope, signed with the current signing key."""


class Enrolment(StrEnum):
    """Who may become known."""

    OPEN = "open"  # whoever proves an activation secret
    LISTED = "listed"  # only who was listed beforehand


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the people who run this activation server decided."""

    enrolment: Enrolment = Enrolment.OPEN
    waiting_days: int = 14
    lost_per_year: int = 3


know(
    FieldServer,
    Handling,
    Holding,
    ServiceClock,
    Answer,
    TakenMessage,
    IssuedGrant,
    UsedProof,
    Restore,
    Incident,
    LostDeclaration,
    Event,
)
