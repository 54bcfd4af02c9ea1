"""What a technician wants of a field server, as an end state, and how it ended. Values, and nothing that acts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from tallystick.administrator.memory.inventory import Assignment
from tallystick.domain.ids import DeviceId, LineId
from tallystick.errors import InvariantError
from tallystick.protocol.device_api import (
    ActivateWant,
    ActivateWish,
    RefreshWish,
    RelinquishWish,
    ReturnWant,
    ReturnWish,
    Wish,
)
from tallystick.protocol.messages import LineReason
from tallystick.structs import copied, know


@dataclass(frozen=True, slots=True, kw_only=True)
class Activate:
    """These lines are held in these quantities."""

    wants: tuple[Assignment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """These lines are held in no more than these quantities; ``wants`` None: nothing is held."""

    wants: tuple[tuple[LineId, int], ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnOneCarry:
    """Nothing is held, because the field server has given everything up first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOutOfService:
    """Nothing is held and no license is ever taken again: the device is scrapped (protocol, "Out of service for good")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """The field server has been told what it should hold now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """Nothing waits."""


Goal = Activate | Return | ReturnOneCarry | TakeOutOfService | Refresh | Sync


class GoalResult(StrEnum):
    """How an operation on one field server ended."""

    DONE = "done"
    ALREADY = "already"  # it was so before; nothing was asked
    CARRY = "carry"  # what can be done here is done; messages wait to be carried
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    LEFT = "left"  # given up, by a person or for something that was wanted later


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What came of an operation on one field server. ``next_step`` is empty where nothing is left to do.

    The counts are of this visit, and of what waits after it: a delivery that worked is one, whatever is left to carry.
    """

    device_id: DeviceId
    name: str
    result: GoalResult
    detail: str = ""
    code: str | None = None
    next_step: str = ""
    reasons: tuple[LineReason, ...] = ()
    carried: int = 0  # messages that the activation server took
    delivered: int = 0  # replies that the field server took
    undelivered: int = 0  # replies that still wait for it
    waiting: int = 0  # messages that are to be carried to the activation server
    proofs: int = 0  # those of them on which rights hang

    @property
    def is_finished(self) -> bool:
        """Whether the goal is reached and proven, so that nothing hangs."""
        return self.result in {GoalResult.DONE, GoalResult.ALREADY}


def wish_of(goal: Goal) -> Wish:
    """What a field server is asked to write for a goal."""
    match goal:
        case Activate(wants=wants):
            return ActivateWish(wants=tuple(copied(ActivateWant, want) for want in wants))
        case Return(wants=wants):
            if wants is None:
                return ReturnWish(all=True)
            return ReturnWish(wants=tuple(ReturnWant(line=line, quantity=quantity) for line, quantity in wants))
        case ReturnOneCarry():
            return RelinquishWish()
        case TakeOutOfService():
            return RelinquishWish(final=True)
        case Refresh():
            return RefreshWish()
        case Sync():
            raise InvariantError("a goal with something to ask for", "sync")
        case _:
            assert_never(goal)


know(Report)
