"""A disk whose power goes: which files and names may be found afterwards, within what POSIX allows.

What was synced is there. Of everything else, each write and each change of a name may be there or not, whatever the
order; a write may be there in part, by sectors; a file may have its length and not its bytes. ``fsync`` of a file says
nothing about its name: that is the directory's. A name that was changed is what it was before or after, never nothing
between (``rename`` is one step).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from powercuts.recording import Change, Event, Named, Resized, Said, Synced, Wrote

SECTOR_BYTES: Final = 512
ALONE_MAX: Final = 48  # so many changes are lost, and kept, one by one; of more, a sample
DRAWN: Final = 12  # further mixtures, drawn from the seed


@dataclass(frozen=True, slots=True)
class Found:
    """What is there after the power came back. ``lost`` says what is not, for people."""

    files: dict[str, bytes]
    directories: tuple[str, ...]
    said: int  # how many lines had been said
    event: int  # how many events had happened
    lost: str

    @property
    def digest(self) -> bytes:
        """The same for the same files and the same lines."""
        sums = hashlib.sha256(repr((self.said, self.directories)).encode())
        for name in sorted(self.files):
            sums.update(name.encode() + b"\0" + hashlib.sha256(self.files[name]).digest())
        return sums.digest()

    def write_to(self, place: Path) -> None:
        """Make it real."""
        place.mkdir()
        for name in self.directories:
            (place / name).mkdir(mode=0o700)
        for name, data in self.files.items():
            (place / name).write_bytes(data)


@dataclass(slots=True)
class _Disk:
    directories: frozenset[int]
    names: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    contents: dict[int, bytearray] = field(default_factory=dict)
    pending: list[Change] = field(default_factory=list)

    def sync(self, file: int) -> None:
        kept = []
        for change in self.pending:
            if _is_of(change, file):
                _apply(change, self.names, self.contents)
            else:
                kept.append(change)
        self.pending = kept

    def after(self, changes: Sequence[Change]) -> tuple[dict[str, bytes], tuple[str, ...]]:
        """What is found when of all pending changes these have arrived."""
        names = {directory: dict(entries) for directory, entries in self.names.items()}
        touched = {change.file for change in changes if not isinstance(change, Named)}
        contents = {file: bytearray(data) if file in touched else data for file, data in self.contents.items()}
        for change in changes:
            _apply(change, names, contents)
        files: dict[str, bytes] = {}
        directories: list[str] = []
        stack = [("", 0)]
        while stack:
            place, directory = stack.pop()
            for name, target in sorted(names.get(directory, {}).items()):
                path = f"{place}{name}"
                if target in self.directories:
                    directories.append(path)
                    stack.append((f"{path}/", target))
                else:
                    files[path] = bytes(contents.get(target, b""))
        return files, tuple(sorted(directories))


def cut_power(events: Sequence[Event], *, seed: int, states_max: int) -> Iterator[Found]:
    """What may be found, wherever the power goes: at most ``states_max`` different states, drawn from all of them.

    A cut between two syncs leaves less than one right before the next sync, when nothing new was said; so those are
    the points that are looked at, and the end. That everything unsynced is lost, and that nothing is, is looked at
    wherever it may be.
    """
    drawn = _draw(
        [len(list(_mixtures(disk.pending, random.Random(seed)))) for _, _, disk in _cuts(events)], seed, states_max
    )
    seen: set[bytes] = set()
    for place, (number, said, disk) in enumerate(_cuts(events)):
        for turn, (changes, lost) in enumerate(_mixtures(disk.pending, random.Random(seed))):
            if (place, turn) not in drawn:
                continue
            files, directories = disk.after(changes)
            found = Found(files=files, directories=directories, said=said, event=number, lost=lost)
            if found.digest not in seen:
                seen.add(found.digest)
                yield found


def _draw(counts: Sequence[int], seed: int, states_max: int) -> set[tuple[int, int]]:
    """Which mixture of which cut: the first two of each, and of the others as many as may be."""
    first = [(place, turn) for place, count in enumerate(counts) for turn in range(min(2, count))]
    others = [(place, turn) for place, count in enumerate(counts) for turn in range(2, count)]
    room = max(0, states_max - len(first))
    return {*first, *(others if len(others) <= room else random.Random(seed).sample(others, room))}


def _cuts(events: Sequence[Event]) -> Iterator[tuple[int, int, _Disk]]:
    """Each point at which the power may go: how many events and lines there were, and the disk."""
    disk = _Disk(directories=_directories_of(events))
    said = 0
    for number, event in enumerate([*events, None]):
        match event:
            case Said():
                said += 1
            case Named() | Wrote() | Resized():
                disk.pending.append(event)
            case Synced() | None:
                yield number, said, disk
                if event is not None:
                    disk.sync(event.file)


def _directories_of(events: Sequence[Event]) -> frozenset[int]:
    made = {event.target for event in events if isinstance(event, Named) and event.is_directory}
    return frozenset({0, *(target for target in made if target is not None)})


def _mixtures(pending: Sequence[Change], dice: random.Random) -> Iterator[tuple[list[Change], str]]:
    """Which of the pending changes arrive, and what to call that."""
    count = len(pending)
    yield [], f"everything of {count} changes"
    yield list(pending), "nothing"
    places = range(count) if count <= ALONE_MAX else sorted(dice.sample(range(count), ALONE_MAX))
    for place in places:
        change = pending[place]
        text = _text(change)
        yield [*pending[:place], *pending[place + 1 :]], f"only {text}"
        yield [change], f"everything but {text}"
        yield list(pending[: place + 1]), f"everything behind {text}"
        for torn in _torn(change, dice):
            yield [*pending[:place], torn, *pending[place + 1 :]], f"a part of {text}"
            yield [torn], f"everything but a part of {text}"
    yield [change for change in pending if isinstance(change, Named)], "all bytes, no name"
    yield [change for change in pending if not isinstance(change, Named)], "all names, no bytes"
    for _ in range(DRAWN if count > 1 else 0):
        yield [change for change in pending if dice.random() < 0.5], "some, as drawn"


def _torn(change: Change, dice: random.Random) -> Iterator[Change]:
    """A part of a write: by sectors, or its length alone."""
    if not isinstance(change, Wrote):
        return
    yield Resized(change.file, -(change.offset + len(change.data)))  # at least so long
    count = -(-len(change.data) // SECTOR_BYTES)
    if count > 1:
        cut = dice.randrange(1, count) * SECTOR_BYTES
        yield Wrote(change.file, change.offset, change.data[:cut])
        yield Wrote(change.file, change.offset + cut, change.data[cut:])


def _apply(change: Change, names: dict[int, dict[str, int]], contents: dict[int, bytearray]) -> None:
    match change:
        case Named(directory=directory, name=name, target=target, taken_from=taken_from):
            entries = names.setdefault(directory, {})
            if taken_from is not None:
                names.setdefault(taken_from[0], {}).pop(taken_from[1], None)
            if target is None:
                entries.pop(name, None)
            else:
                entries[name] = target
        case Wrote(file=file, offset=offset, data=data):
            content = contents.setdefault(file, bytearray())
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        case Resized(file=file, size=size):
            content = contents.setdefault(file, bytearray())
            content.extend(bytes(max(0, abs(size) - len(content))))
            if size >= 0:
                del content[size:]


def _is_of(change: Change, file: int) -> bool:
    return (change.directory if isinstance(change, Named) else change.file) == file


def _text(change: Change) -> str:
    match change:
        case Named(name=name, target=None):
            return f"the removal of {name}"
        case Named(name=name):
            return f"the name {name}"
        case Wrote(file=file, offset=offset, data=data):
            return f"{len(data)} bytes at {offset} of file {file}"
        case Resized(file=file, size=size):
            return f"the length {size} of file {file}"
