"""What the command ``simulate`` prints: progress, a table of what was done, and a failure that can be read and repeated."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tallystick.simulator import running
from tallystick.simulator.cells import TABLE, UNREACHED, Cell, name_of
from tallystick.simulator.running import Failure, SeedResult
from tallystick.simulator.workload import make_plan

_LINE_SECONDS = 0.5


class Progress:
    """One line that is written over, on a terminal only; it goes to standard error."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr.isatty()
        self._next_at = 0.0

    def tell(self, text: str, *, now: bool = False) -> None:
        """Show ``text``, not more often than twice a second."""
        if self._is_shown and (now or time.monotonic() >= self._next_at):
            self._next_at = time.monotonic() + _LINE_SECONDS
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def end(self) -> None:
        """Take the line away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


@dataclass(slots=True)
class Sum:
    """What many runs did, together."""

    seeds: int = 0
    steps: int = 0
    checks: int = 0
    judged_again: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    cells: Counter[Cell] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def add(self, result: SeedResult) -> None:
        """One more run."""
        self.seeds += 1
        self.steps += result.steps
        self.checks += result.checks
        self.judged_again += result.judged_again
        self.struck += result.struck
        self.done += result.done
        self.cells += result.cells
        if result.failure is not None:
            self.failures.append(result.failure)

    @property
    def seconds(self) -> float:
        """Since the first run began."""
        return time.monotonic() - self.started

    def as_json(self) -> str:
        """For programs."""
        value: dict[str, Any] = {
            "seeds": self.seeds,
            "steps": self.steps,
            "checks": self.checks,
            "judged_again": self.judged_again,
            "seconds": round(self.seconds, 1),
            "faults": {str(kind): count for kind, count in self.struck.most_common()},
            "cells": {name_of(cell): self.cells[cell] for cell in TABLE},
            "cells_missed": [name_of(cell) for cell in self.missed()],
            "acts": {str(kind): count for kind, count in self.done.most_common()},
            "failures": [
                {"seed": failure.seed, "promise": failure.promise, "what": failure.what} for failure in self.failures
            ],
        }
        return json.dumps(value)

    def missed(self) -> list[Cell]:
        """Cells of the decision table that can be reached, and were not."""
        return [cell for cell in TABLE if cell not in UNREACHED and not self.cells[cell]]

    def cell_lines(self) -> Iterator[str]:
        """The decision table: in which cells how many messages were decided."""
        reached = sum(self.cells[cell] > 0 for cell in TABLE)
        yield f"cells of the decision table: {reached} of {len(TABLE)} reached, {len(UNREACHED)} are not asked for"
        for cell in TABLE:
            why = f"  {UNREACHED[cell]}" if cell in UNREACHED else "" if self.cells[cell] else "  MISSED"
            yield f"{self.cells[cell]:9} {name_of(cell):48}{why}".rstrip()

    def lines(self) -> Iterator[str]:
        """For people."""
        yield (
            f"seeds: {self.seeds}, {self.steps} steps, {self.checks} audits in {self.seconds:.1f} s; "
            f"{len(self.failures)} failed"
        )
        yield "  acts: " + _counts(self.done)
        yield "  faults inside them: " + (_counts(self.struck) or "none")
        yield f"  judged again after a rollback or a clone: {self.judged_again}"


def gather(results: Iterable[SeedResult], progress: Progress, *, total: int | None) -> Sum:
    """Add up results as they come, until they end or somebody interrupts."""
    summed = Sum()
    try:
        for result in results:
            summed.add(result)
            of = f" of {total}" if total else ""
            progress.tell(f"{summed.seeds}{of} seeds, {len(summed.failures)} failed, {summed.seconds:.0f} s")
    except KeyboardInterrupt:
        progress.tell("interrupted")
    progress.end()
    return summed


def failure_lines(failure: Failure, *, steps: int, field_servers: int | None, progress: Progress) -> Iterator[str]:
    """A failing seed: the command that repeats it, and the shortest story that was found."""
    again = f"tallystick simulate --seed {failure.seed} --steps {steps}"
    if field_servers is not None:
        again += f" --field-servers {field_servers}"
    yield f"seed {failure.seed} breaks {failure.promise}: {failure.what}"
    yield f"  repeat it with: {again}"
    plan = make_plan(failure.seed, steps=steps, field_servers=field_servers)
    shrunk, found = running.shrink(plan, failure, tell=lambda left: progress.tell(f"shrinking: {left} steps left"))
    progress.end()
    yield f"  the story, {len(shrunk.steps)} of {failure.step} steps:"
    yield from (f"    {line}" for line in found.log)
    yield f"    => {found.promise}: {found.what}"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counter.most_common())
