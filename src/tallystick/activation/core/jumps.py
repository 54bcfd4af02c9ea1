"""Numbers that nobody else can have used: raised epochs, and the jump after a restore (protocol, "Epochs").

A field server raises its epoch by one when it relinquishes. What the activation server raises lies on multiples of
``EPOCH_STEP``, further ahead than a field server comes before it is heard of again: at most as many relinquishes as its
outbox holds. So the two never use one number for two things, and whoever sees an epoch knows who raised it.
"""

from __future__ import annotations

from typing import Final

from tallystick.activation.core.ports import FieldServer

NUMBER_JUMP: Final = 1_000_000  # how far a restore moves numbers and sequences past anything that can have been used
EPOCH_STEP: Final = 1024
EPOCH_MARGIN: Final = 128  # above what an outbox has room for
STEPS_PER_SECOND: Final = 16  # 2^48 has room for it until the year 2514


def raise_epoch(field_server: FieldServer) -> int:
    """An epoch that this field server cannot have reached, nor reach before it hears of it."""
    highest = max(field_server.epoch, field_server.spoken_epoch) + EPOCH_MARGIN
    return (highest // EPOCH_STEP + 1) * EPOCH_STEP


def jump(field_server: FieldServer, *, now: int) -> FieldServer:
    """Move epoch, number and sequence past anything that a restore can have made us forget.

    A grant of the new epoch makes every older one stale. Until the field server has spoken in it, it is
    ``recovering``. The clock takes part, so that a second restore of the same backup jumps further than the first.
    """
    epoch = max(raise_epoch(field_server), now * STEPS_PER_SECOND * EPOCH_STEP)
    return field_server.changed(
        epoch=epoch,
        number=max(field_server.number + NUMBER_JUMP, now * 1000),
        sequence=max(field_server.sequence + NUMBER_JUMP, now * 1000),
        recovering=epoch,
    )
