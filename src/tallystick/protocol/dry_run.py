"""A dry run: what would be decided about end states, asked by a courier before anything is signed (protocol, "Dry run").

It has no effect, so it needs no field server's signature, only the proof of an activation ID for each line. The proof is
made with a ``jti`` that no message can have: who sees one can activate nothing with it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from tallystick.domain.ids import ActivationId, DeviceId
from tallystick.protocol.device_api import Answer, ReasonNote
from tallystick.protocol.messages import LICENSES_MAX, Count, Hash, LineText, Text, activation_proof, is_proof_valid
from tallystick.structs import know

PATH: Final = "/v1/messages/dry-run"
ASKS_MAX: Final = 1000
BODY_BYTES_MAX: Final = 1024 * 1024
_JTI: Final = "dry run"


class EndState(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of one line a field server would hold. ``proof``: that the courier knows the line's activation ID."""

    line: LineText
    quantity: Count
    proof: Hash


class Ask(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one field server would ask for."""

    device_id: Hash
    kind: Text
    purpose: Literal["activate", "return"]
    wants: Annotated[tuple[EndState, ...], Meta(min_length=1, max_length=LICENSES_MAX)]


class DryRun(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /v1/messages/dry-run``: decided together, in this order, what takes behind what does not."""

    asks: Annotated[tuple[Ask, ...], Meta(min_length=1, max_length=ASKS_MAX)]


class LineChange(Answer, frozen=True, kw_only=True):
    """What a field server should hold of a line, before and after."""

    line: str
    before: int
    after: int


class Foreseen(Answer, frozen=True, kw_only=True):
    """What would be decided. ``code`` and ``reasons`` where it would be refused; ``unknown``: only the message itself decides."""

    outcome: Literal["granted", "refused", "unknown"]
    code: str | UnsetType = UNSET
    reasons: tuple[ReasonNote, ...] = ()
    lines: tuple[LineChange, ...] = ()


class DryRunAnswer(Answer, frozen=True, kw_only=True):
    """``answers`` has one for each ask, in their order; ``at`` is when it was so, by the activation server's clock."""

    issuer: str
    at: int
    answers: tuple[Foreseen, ...]


def dry_run_proof(activation_id: ActivationId, device_id: DeviceId) -> str:
    """What a courier shows in place of the secret."""
    return activation_proof(activation_id, device_id, _JTI)


def is_dry_run_proof(activation_id: ActivationId, proof: str, device_id: DeviceId) -> bool:
    """Whether it was made with the secret of ``activation_id``."""
    return is_proof_valid(activation_id, proof, device_id, _JTI)


know(LineChange, Ask, DryRun, EndState, Foreseen, DryRunAnswer)
