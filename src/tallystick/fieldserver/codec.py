"""The state of a field server as bytes and back, strictly.

Signed messages are stored verbatim, and everything that can be read out of them is read out of them again, after
their signatures were checked: a license that is in force has a signature of the pinned root's keyset behind it, also
after the vault was loaded. Whatever does not fit raises ``WireError``; integrity and age are the vault's business.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from tallystick.domain.ids import DeviceId, Digest
from tallystick.fieldserver.state import (
    OUTCOMES_MAX,
    Applied,
    Fate,
    MessageFate,
    State,
    Waiting,
    make_applied,
    make_waiting,
)
from tallystick.protocol import keys, messages
from tallystick.protocol.envelope import INTEGER_MAX, open_envelope
from tallystick.protocol.keys import Keyset
from tallystick.protocol.messages import REASONS_MAX, Claims, Code, Hash, LineReason, Moment, Number, Prose, Purpose
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import know

VERSION: Final = 1

Place = Annotated[int, Meta(ge=0, le=1)]


class AppliedRecord(Claims, frozen=True):
    """The grant in force, and which of the keysets verified it."""

    grant: str
    keyset: Place


class OutcomeRecord(Claims, frozen=True):
    """What became of an own message."""

    sequence: Number
    digest: Hash
    purpose: Purpose
    fate: Fate
    at: Moment
    detail: Prose
    code: Code | None = None
    reasons: Annotated[tuple[LineReason, ...], Meta(max_length=REASONS_MAX)] = ()


class StateRecord(Claims, frozen=True):
    """All of the state. ``keysets`` holds the current one, and the one of the grant in force where it is another."""

    version: Literal[1]
    device: Hash
    epoch: Number
    sequence: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    time_seen: Moment
    rolled_back_at: Moment | None
    keysets: Annotated[tuple[str, ...], Meta(max_length=2)]
    applied: AppliedRecord | None
    outbox: tuple[str, ...]
    outcomes: Annotated[tuple[OutcomeRecord, ...], Meta(max_length=OUTCOMES_MAX)]
    final: bool = False


def encode_state(state: State) -> bytes:
    """The state, whole."""
    keysets = [] if state.keyset is None else [state.keyset.compact]
    applied = None
    if state.applied is not None:
        if state.applied.keyset.compact not in keysets:
            keysets.append(state.applied.keyset.compact)
        place = keysets.index(state.applied.keyset.compact)
        applied = AppliedRecord(grant=state.applied.compact, keyset=place)
    record = StateRecord(
        version=VERSION,
        device=state.device_id,
        epoch=state.epoch,
        sequence=state.sequence,
        time_seen=state.time_seen,
        rolled_back_at=state.rolled_back_at,
        keysets=tuple(keysets),
        applied=applied,
        outbox=tuple(waiting.compact for waiting in state.outbox),
        outcomes=tuple(_encode_outcome(outcome) for outcome in state.outcomes),
        final=state.final,
    )
    return messages.encode_claims(record)


def parse_state(data: bytes) -> State:
    """The state from its bytes, every foreign signature checked. Raises ``WireError``."""
    record = messages.convert_claims(data, StateRecord)
    keysets = _parse_keysets(record.keysets)
    device_id = DeviceId(record.device)
    return State(
        device_id=device_id,
        epoch=record.epoch,
        sequence=record.sequence,
        applied=None if record.applied is None else _parse_applied(record.applied, keysets, device_id),
        keyset=keysets[0] if keysets else None,
        outbox=tuple(_parse_waiting(compact, device_id) for compact in record.outbox),
        outcomes=tuple(_parse_outcome(outcome) for outcome in record.outcomes),
        time_seen=record.time_seen,
        rolled_back_at=record.rolled_back_at,
        final=record.final,
    )


def _parse_keysets(compacts: tuple[str, ...]) -> tuple[Keyset, ...]:
    """The current one, and one of the same root or of a root that led to it."""
    if not compacts:
        return ()
    current = keys.parse_keyset(open_envelope(compacts[0].encode()))
    return (current, *(keys.parse_successor(open_envelope(other.encode()), current) for other in compacts[1:]))


def _parse_applied(record: AppliedRecord, keysets: tuple[Keyset, ...], device_id: DeviceId) -> Applied:
    if record.keyset >= len(keysets):
        raise WireError("claims-malformed", expected=_("a keyset beside the grant"), seen=_("none"))
    keyset = keysets[record.keyset]
    verified = keyset.verify(open_envelope(record.grant.encode()))
    grant = messages.parse_grant(verified)
    if grant.sub != device_id:
        raise WireError(
            "device-wrong",
            expected=_("a grant for {device_id}", device_id=device_id),
            seen=_("one for {sub}", sub=grant.sub),
        )
    return make_applied(record.grant, grant, keyset)


def _parse_waiting(compact: str, device_id: DeviceId) -> Waiting:
    claims = messages.convert_claims(open_envelope(compact.encode()).payload, messages.Request)
    if claims.iss != device_id:
        raise WireError(
            "device-wrong",
            expected=_("a message of {device_id}", device_id=device_id),
            seen=_("one of {iss}", iss=claims.iss),
        )
    return make_waiting(compact, claims)


def _encode_outcome(outcome: MessageFate) -> OutcomeRecord:
    return OutcomeRecord(
        sequence=outcome.sequence,
        digest=outcome.digest,
        purpose=outcome.purpose,
        fate=outcome.fate,
        at=outcome.noted_at,
        detail=outcome.detail,
        code=outcome.code,
        reasons=outcome.reasons,
    )


def _parse_outcome(record: OutcomeRecord) -> MessageFate:
    return MessageFate(
        sequence=record.sequence,
        digest=Digest(record.digest),
        purpose=record.purpose,
        fate=record.fate,
        code=record.code,
        detail=record.detail,
        reasons=record.reasons,
        noted_at=record.at,
    )


know(AppliedRecord, OutcomeRecord, StateRecord)
