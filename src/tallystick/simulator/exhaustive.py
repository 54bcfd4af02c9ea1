"""Every interleaving of a small world: the product of two halves (see ``halves``) that share what is available.

Breadth first, so the depth is the number of events since the beginning. Halves are stepped by the real code, once for
each half and each number of available rights; their pairs are then numbers only, and the two field servers are
interchangeable, so a pair stands for both orders of it. Every half is checked (P1, P5, P7) and healed from (P2).
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import typer

from tallystick.errors import Error
from tallystick.simulator.evidence import Violation
from tallystick.simulator.halves import Bench, Half, SmallWorld
from tallystick.simulator.report import Progress
from tallystick.simulator.speed import remember_signatures

_PAIR_BITS: Final = 26


def _restored(name: str, says: str, **changes: Any) -> SmallWorld:
    """One field server that holds one right, a backup of that, and an activation server that may be put back to it."""
    usual: dict[str, Any] = {
        "bought": 1,
        "wishes": 3,
        "changes": 0,
        "restores": 1,
        "asks": frozenset({"activate 1", "refresh", "return all", "relinquish"}),
        "begins": ("activate 1", "up", "down", "backup"),
        "is_alone": True,
    }
    says = f"{says}; the activation server put back to a backup"
    return SmallWorld(name=name, says=says, **{**usual, **changes})


WORLDS: Final = {
    world.name: world
    for world in (
        SmallWorld(name="standard", says="any number of wishes, a change by a person"),
        SmallWorld(name="small", says="one message waiting, one reply on its way", unanswered=1, replies=1),
        SmallWorld(
            name="rollback", says="three wishes each, one disk put back", bought=1, wishes=3, rollbacks=1, changes=0
        ),
        SmallWorld(name="lost", says="three wishes each, declared lost while alive", wishes=3, lost=1, changes=0),
        SmallWorld(
            name="restored",
            says="three wishes, a change by a person, the activation server put back to a backup",
            wishes=3,
            restores=1,
            is_alone=True,
        ),
        # Two faults meet. Each begins where the first of them can come, so that the depth is left for what follows.
        _restored("lost-restored", "declared lost while alive", lost=1),
        _restored("hold-restored", "put on hold and released", verbs=frozenset({"hold", "release"})),
        _restored(
            "listed-restored",
            "enrolled after the backup, and listed after the restore",
            verbs=frozenset({"list"}),
            asks=frozenset({"activate 1", "refresh"}),
            begins=("backup",),
            wishes=2,
        ),
        _restored(
            "retired-restored",
            "taken out of service by a person",
            verbs=frozenset({"retire"}),
            asks=frozenset({"activate 1", "refresh", "relinquish"}),
            begins=("activate 1", "up", "down", "relinquish"),
        ),
        _restored("final-restored", "taken out of service for good, by itself", verbs=frozenset({"final"})),
        _restored(
            "rollback-restored",
            "one disk put back",
            rollbacks=1,
            begins=("activate 1", "up", "down", "copy", "backup"),
        ),
        SmallWorld(
            name="rollback-lost",
            says="one disk put back, declared lost while alive",
            bought=1,
            wishes=3,
            rollbacks=1,
            lost=1,
            changes=0,
            begins=("activate 1", "up", "down", "copy"),
            is_alone=True,
        ),
        SmallWorld(
            name="replaced",
            says="two wishes each; one declared lost while alive, a person sets the other one to 1",
            wishes=2,
            lost=1,
            changes=0,
            unanswered=1,
            replies=1,
            verbs=frozenset({"set to 1"}),
        ),
    )
}


@dataclass(slots=True)
class Exploration:
    """What an exploration did. ``is_complete``: nothing new was left to visit."""

    world: SmallWorld
    states: int = 0
    transitions: int = 0
    halves: int = 0
    depth: int = 0
    seconds: float = 0.0
    is_complete: bool = False
    violation: str | None = None
    path: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        return {
            "world": self.world.name,
            "states": self.states,
            "transitions": self.transitions,
            "halves": self.halves,
            "depth": self.depth,
            "complete": self.is_complete,
            "seconds": round(self.seconds, 1),
            "violation": self.violation,
            "path": list(self.path),
        }


@dataclass(slots=True)
class _Halves:
    """All halves that were found, by number, and how each was reached."""

    bench: Bench
    found: list[Half | None] = field(default_factory=list)
    numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    reserved: list[int] = field(default_factory=list)
    parents: list[tuple[int, str]] = field(default_factory=list)
    healed: set[tuple[int, int]] = field(default_factory=set)
    after: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def number(self, half: Half, parent: int, event: str) -> int:
        """The number of a half, a new one if it is new; then it is checked."""
        key = self.bench.key(half)
        known = self.numbers.get(key)
        if known is not None:
            return known
        number = self.numbers[key] = len(self.found)
        self.found.append(half)
        self.reserved.append(self.bench.reserved(half))
        self.parents.append((parent, event))
        try:
            self.bench.check(half)
        except Violation as violation:
            violation.add_note(str(number))
            raise
        return number

    def successors(self, number: int, available: int) -> tuple[int, ...]:
        """What may come next, with so many rights available. Stepped by the real code the first time."""
        known = self.after.get((number, available))
        if known is not None:
            return known
        half = self.found[number]
        if half is None:
            raise Violation("errors", "a half that was let go")
        try:
            self.bench.heal(half, available)
            found = {self.number(after, number, event) for event, after in self.bench.steps(half, available)}
        except (Violation, Error) as error:
            if not getattr(error, "__notes__", None):
                error.add_note(str(number))
            raise
        found.discard(number)
        self.after[number, available] = tuple(sorted(found))
        return self.after[number, available]

    def path(self, number: int) -> tuple[str, ...]:
        """How a half was reached."""
        events = []
        while number >= 0:
            number, event = self.parents[number]
            events.append(event)
        return tuple(reversed(events))


def explore(
    world: SmallWorld, *, depth: int | None, states_max: int | None, seconds_max: float | None, progress: Progress
) -> Exploration:
    """Visit every pair of halves up to a depth. Stops early at a violation or a limit."""
    remember_signatures()
    started = time.monotonic()
    busy_from = time.process_time()
    found = Exploration(world=world)
    halves = _Halves(Bench(world))
    # What happens to one of the two only makes them different; the other one lives in a calm world.
    is_one_sided = not world.is_alone and (world.rollbacks or world.lost)
    calm = _Halves(Bench(replace(world, rollbacks=0, lost=0))) if is_one_sided else halves
    first = halves.number(halves.bench.start(), -1, "start")
    other = first if calm is halves else calm.number(calm.bench.start(), -1, "start")
    frontier = [(first << _PAIR_BITS) | other]
    seen = set(frontier)
    try:
        while frontier and (depth is None or found.depth < depth):
            fresh: list[int] = []
            for place, pair in enumerate(frontier):
                if place % 1024 == 0:
                    found.seconds = time.monotonic() - started
                    progress.tell(
                        f"{world.name}: {len(seen)} states, {found.transitions} transitions, depth {found.depth}, "
                        f"{len(halves.found)} halves, {found.seconds:.0f} s"
                    )
                    if (states_max and len(seen) >= states_max) or (
                        seconds_max and time.process_time() - busy_from > seconds_max
                    ):
                        raise _Enough
                found.transitions += _expand(pair, halves, calm, seen, fresh)
            frontier = fresh
            found.depth += 1
        found.is_complete = not frontier
    except _Enough:
        pass
    except (Violation, Error) as error:
        found.violation = str(error)
        numbers = [int(note) for note in getattr(error, "__notes__", [])]
        found.path = halves.path(numbers[0]) if numbers else ()
    found.states = len(seen)
    found.halves = len(halves.found) + (len(calm.found) if calm is not halves else 0)
    found.seconds = time.monotonic() - started
    return found


class _Enough(Exception):
    """A limit was reached."""


def _expand(pair: int, halves: _Halves, calm: _Halves, seen: set[int], fresh: list[int]) -> int:
    """Everything that may come after a pair; how many transitions that were."""
    left, right = pair >> _PAIR_BITS, pair & ((1 << _PAIR_BITS) - 1)
    if halves.bench.world.is_alone:
        after_alone = halves.successors(left, halves.bench.world.bought - halves.reserved[left])
        codes = {number << _PAIR_BITS for number in after_alone} - seen
        seen |= codes
        fresh += sorted(codes)
        return len(after_alone)
    available = halves.bench.world.bought - halves.reserved[left] - calm.reserved[right]
    is_symmetric = calm is halves
    after_left = halves.successors(left, available)
    after_right = calm.successors(right, available)
    for number in after_left:
        after = (number, right) if not is_symmetric or number >= right else (right, number)
        code = (after[0] << _PAIR_BITS) | after[1]
        if code not in seen:
            seen.add(code)
            fresh.append(code)
    for number in after_right:
        after = (left, number) if not is_symmetric or left >= number else (number, left)
        code = (after[0] << _PAIR_BITS) | after[1]
        if code not in seen:
            seen.add(code)
            fresh.append(code)
    return len(after_left) + len(after_right)


def run(
    names: str,
    *,
    depth: int | None,
    workers: int,
    states_max: int | None,
    seconds_max: float | None,
    as_json: bool,
    progress: Progress,
) -> int:
    """The command. ``names``: one world, or several with commas, or ``all``. Returns the exit code."""
    chosen = list(WORLDS) if names == "all" else names.split(",")
    if names == "list" or not set(chosen) <= WORLDS.keys():
        for world in WORLDS.values():
            typer.echo(f"{world.name:18} {world.says}")
        return 0 if names == "list" else 2
    results = _explore_all(chosen, depth, states_max, seconds_max, workers, progress)
    progress.end()
    for found in results:
        typer.echo(json.dumps(found.as_dict()) if as_json else "\n".join(_lines(found)))
    return 1 if any(found.violation for found in results) else 0


def _explore_all(
    chosen: Sequence[str],
    depth: int | None,
    states_max: int | None,
    seconds_max: float | None,
    workers: int,
    progress: Progress,
) -> list[Exploration]:
    limits = {"depth": depth, "states_max": states_max, "seconds_max": seconds_max}
    if len(chosen) == 1 or workers == 1:
        return [
            explore(WORLDS[name], depth=depth, states_max=states_max, seconds_max=seconds_max, progress=progress)
            for name in chosen
        ]
    with ProcessPoolExecutor(max_workers=workers) as pool:
        return list(pool.map(_explore_named, chosen, [limits] * len(chosen)))


def _explore_named(name: str, limits: dict[str, int | None]) -> Exploration:
    return explore(
        WORLDS[name],
        depth=limits["depth"],
        states_max=limits["states_max"],
        seconds_max=limits["seconds_max"],
        progress=Progress(),
    )


def _lines(found: Exploration) -> list[str]:
    world = found.world
    bounds = (
        f"{world.bought} bought, at most {world.unanswered} unanswered messages and {world.replies} replies on the way"
    )
    count = f"{found.states} states, {found.transitions} transitions, depth {found.depth}"
    if found.is_complete:
        count += ", complete"
    lines = [
        f"world {world.name}: {'one field server' if world.is_alone else 'two field servers'}, one line, {bounds}; {world.says}",
        f"  {count}; {found.halves} halves; {found.seconds:.1f} s",
    ]
    if found.violation:
        lines += [f"  => {found.violation}", "  " + " > ".join(found.path)]
    return lines
