"""What can go wrong, and the disk, the store and the carriage that make it go wrong.

Guarantees: every fault is drawn by the caller; nothing here draws by itself except with the dice that it is given. A
fault fires at most once, at the call that it was set for, and says that it did (``struck``).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from tallystick.activation.core.ports import Changes, Transaction
from tallystick.domain.entitlement import Entitlement
from tallystick.domain.ledger import Entry
from tallystick.simulator.dice import Dice
from tallystick.simulator.store import MemoryStore, MemoryTransaction, Tables

ResultT = TypeVar("ResultT")

SECTOR_BYTES: Final = 512


class Fault(StrEnum):
    """Faults that strike inside a step."""

    KILL = "kill"  # the field server's process dies at a disk call; what the system cached stays
    POWER_CUT = "power-cut"  # the device loses power at a disk call; unsynced sectors are kept or lost one by one
    DISK_FULL = "disk-full"
    DISK_ERROR = "disk-error"
    COMMIT_LOST = "commit-lost"  # the activation server dies before its commit
    REPLY_LOST = "reply-lost"  # it dies after its commit, before anything is let out
    COMMIT_AGAIN = "commit-again"  # the transaction is run again after a serialisation failure
    CUT = "cut"  # a line is truncated
    FLIP = "flip"  # a bit of a line is flipped
    JUNK = "junk"  # foreign bytes stand between the lines
    COURIER_DIES = "courier-dies"  # after the first leg, and what it carried is gone


DISK_FAULTS: Final = (Fault.KILL, Fault.POWER_CUT, Fault.DISK_FULL, Fault.DISK_ERROR)
STORE_FAULTS: Final = (Fault.COMMIT_LOST, Fault.REPLY_LOST, Fault.COMMIT_AGAIN)
CARRIAGE_FAULTS: Final = (Fault.CUT, Fault.FLIP, Fault.JUNK)


class Crash(BaseException):
    """A process ended here."""


class SeededDisk:
    """A disk with a cache. ``durable`` survives a power cut; of what is only in ``cached``, each sector may."""

    __slots__ = ("cached", "dice", "durable", "fault", "left", "struck")

    def __init__(self, durable: dict[str, bytes] | None = None) -> None:
        self.durable: dict[str, bytes] = dict(durable or {})
        self.cached: dict[str, bytes] = dict(self.durable)
        self.fault: Fault | None = None
        self.left = 0
        self.dice = Dice("disk")
        self.struck: Fault | None = None

    def arm(self, fault: Fault | None, *, calls: int, dice: Dice) -> None:
        """Let ``fault`` strike at the call after ``calls`` more."""
        self.fault = fault
        self.left = calls
        self.dice = dice
        self.struck = None

    def disarm(self) -> Fault | None:
        """No fault any more; which one struck, if any did."""
        self.fault = None
        return self.struck

    def read(self, name: str) -> bytes | None:
        """See ``fieldserver.ports.Disk``."""
        self._strike(name, b"")
        return self.cached.get(name)

    def write(self, name: str, data: bytes) -> None:
        """See ``fieldserver.ports.Disk``."""
        self._strike(name, data)
        self.cached[name] = data + self.cached.get(name, b"")[len(data) :]

    def sync(self, name: str) -> None:
        """See ``fieldserver.ports.Disk``."""
        self._strike(name, b"")
        if name in self.cached:
            self.durable[name] = self.cached[name]

    def cut_power(self, dice: Dice) -> None:
        """Of every sector that was not synced, the old or the new one is left."""
        for name, new in self.cached.items():
            old = self.durable.get(name)
            if old != new:
                self.durable[name] = _torn(old or b"", new, dice)
        self.cached = dict(self.durable)

    def _strike(self, name: str, data: bytes) -> None:
        if self.fault is None:
            return
        if self.left > 0:
            self.left -= 1
            return
        fault, self.fault = self.fault, None
        self.struck = fault
        if data and self.dice.chance(700):  # a part of the write arrived
            old = self.cached.get(name, b"")
            self.cached[name] = _torn(old, data + old[len(data) :], self.dice)
        if fault is Fault.DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if fault is Fault.DISK_ERROR:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        raise Crash


def _torn(old: bytes, new: bytes, dice: Dice) -> bytes:
    sectors = []
    for start in range(0, max(len(old), len(new)), SECTOR_BYTES):
        chosen = new if dice.chance(500) else old
        sector = chosen[start : start + SECTOR_BYTES]
        sectors.append(sector or bytes(min(SECTOR_BYTES, max(len(old), len(new)) - start)))
    return b"".join(sectors)


class _Recorder(MemoryTransaction):
    """Keeps what is saved, so that an auditor is told of every committed row."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.saved: list[Changes] = []

    def save(self, changes: Changes) -> None:
        super().save(changes)
        self.saved.append(changes)

    def save_entitlement(self, entitlement: Entitlement, entries: Sequence[Entry]) -> None:
        super().save_entitlement(entitlement, entries)
        self.saved.append(Changes(lines={line.line_id: line for line in entitlement.lines}, entries=list(entries)))


class SeededStore(MemoryStore):
    """A store whose commit fails before, fails after, or is done twice. ``journal``: what was committed, in order."""

    def __init__(self, tables: Tables | None = None) -> None:
        super().__init__(tables)
        self.fault: Fault | None = None
        self.struck: Fault | None = None
        self.journal: list[Changes] = []

    def transact(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """See ``activation.ports.Store``."""
        fault, self.fault, self.struck = self.fault, None, None
        if fault is Fault.COMMIT_AGAIN:
            self.struck = fault
            work(_Recorder(self.tables.copy()))
        draft = self.tables.copy()
        transaction = _Recorder(draft)
        result = work(transaction)
        if fault is Fault.COMMIT_LOST:
            self.struck = fault
            raise Crash
        self.tables = draft
        self.journal += transaction.saved
        if fault is Fault.REPLY_LOST:
            self.struck = fault
            raise Crash
        return result


def damage(line: bytes, fault: Fault, dice: Dice) -> bytes:
    """What a bad carrier makes of a line. For ``JUNK``, the line with foreign lines around it."""
    match fault:
        case Fault.CUT:
            return line[: dice.below(len(line))]
        case Fault.FLIP:
            place = dice.below(len(line))
            return line[:place] + bytes([line[place] ^ (1 << dice.below(8))]) + line[place + 1 :]
        case _:
            junk = dice.bytes(dice.between(1, 40))
            return dice.pick((junk + b"\n" + line, line + b"\n" + junk, b"# " + junk.hex().encode() + b"\n" + line))
