"""What the auditor keeps about each line, each field server, each copy of one, and each rollback that must get a name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

Position = tuple[int, int]  # an epoch, and the number of a grant in it; 0 is "none yet"

ACCOUNTS: Final = ("available", "held", "returning", "quarantined", "retired")


@dataclass(slots=True)
class Line:
    """A line by the auditor's own double entry."""

    bought: int = 0
    bought_ever: int = 0  # the most; a restore may forget a sale, but not the buyer
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ACCOUNTS, 0))
    entries: int = 0
    chain: str = ""


@dataclass(slots=True)
class Device:
    """What the activation server committed about one field server, and what follows from it."""

    status: str = "unknown"
    kind: str | None = None
    epoch: int = 1
    sequence: int = 0
    decided: int = 0  # the highest sequence of a message that was decided
    recovering: bool = False
    proven: Position = (0, 0)
    newest: Position = (0, 0)
    grants: dict[Position, dict[str, int]] = field(default_factory=dict)
    void_below: int = 0  # a waiting period ended: what older epochs granted is no longer kept for it
    reserved: dict[str, int] = field(default_factory=dict)
    intended: dict[str, int] = field(default_factory=dict)
    holdings: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    taken: dict[int, str] = field(default_factory=dict)  # which message used a sequence first, by its digest

    def newest_of(self, epoch: int) -> dict[str, int]:
        """What it should hold once it has spoken in ``epoch``: older epochs are void."""
        if self.newest < (max(epoch, self.void_below), 0):
            return {}
        return self.grants.get(self.newest, {})

    def recompute(self) -> None:
        """The reservation rule, over every grant from the last proven one on."""
        floor = max(self.proven, (self.void_below, 0))
        possible = {place: grant for place, grant in self.grants.items() if place >= floor}
        self.intended = possible.get(self.newest, {})
        self.reserved = {}
        for quantities in possible.values():
            for line, quantity in quantities.items():
                self.reserved[line] = max(self.reserved.get(line, 0), quantity)


@dataclass(slots=True)
class Copy:
    """One physical field server. Two of them may have one device id: clones."""

    device: str
    alive: bool = True
    epoch: int = 1
    number: int = 0
    sequence: int = 0
    rolled_back_at: int | None = None
    floor: tuple[int, int, int] = (0, 0, 0)  # epoch, grant and sequence when all of it was durable, the last time
    held: dict[str, int] = field(default_factory=dict)
    outbox: dict[str, int] = field(default_factory=dict)  # digest and sequence, when it was durable, the last time
    offered: int = 0  # the highest sequence to which a reply was delivered


@dataclass(slots=True)
class Owed:
    """A rollback that must be named: after one exchange, at the next message that is taken."""

    incidents: int
    told_before: int | None
    first: str | None = None
    answered: bool = False
    second: str | None = None
    has_caught_up: bool = False  # its sequence is one that nobody had heard: without reuse, nothing shows
    is_reuse: bool = False  # it held more than was kept for it: then the activation server must know
