"""Runs of seeds: one, many at once, and a failing one made small enough to read."""

from __future__ import annotations

import gc
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Final

from tallystick.simulator import acts, healing
from tallystick.simulator.cells import Cell
from tallystick.simulator.evidence import Violation
from tallystick.simulator.speed import remember_signatures
from tallystick.simulator.use_again import use_again
from tallystick.simulator.workload import Act, Plan, Step, make_plan
from tallystick.simulator.world import World, make_world

SHRINKS_MAX: Final = 600
CHUNK: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, after which step, and the story up to there."""

    seed: int
    promise: str
    what: str
    step: int
    log: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedResult:
    """One run. ``struck``: faults that struck, by kind; ``done``: steps by kind; ``judged_again``: how often a field server
    that was rolled back or cloned was judged again; ``cells``: of the decision table, in which messages were decided.
    """

    seed: int
    steps: int
    checks: int
    struck: Counter[str]
    done: Counter[str]
    failure: Failure | None
    judged_again: int = 0
    cells: Counter[Cell] = field(default_factory=Counter)
    log: tuple[str, ...] = ()


def run_plan(plan: Plan) -> SeedResult:
    """Let a plan happen, heal, and say what came of it."""
    remember_signatures()
    world = make_world(plan)
    number = 0
    failure = None
    try:
        for number, step in enumerate(plan.steps, 1):
            world.log.append(f"{number}. {acts.perform(world, step)}")
            world.auditor.check()
        healing.heal(world)
        use_again(world)
    except Violation as violation:
        failure = _failure(plan, number, world, violation.promise, violation.what)
    except Exception as error:  # noqa: BLE001 - whatever leaves a port undocumented is a finding
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error} at {where.filename.rsplit('/', 2)[-1]}:{where.lineno}"
        failure = _failure(plan, number, world, "errors", what)
    finally:
        world.activation.store.close()
    return SeedResult(
        seed=plan.seed,
        steps=number,
        checks=world.auditor.checks,
        struck=world.struck,
        done=world.done,
        failure=failure,
        judged_again=world.auditor.suspicion.judged_again,
        cells=world.activation.cells,
        log=tuple(world.log),
    )


def run_seed(seed: int, *, steps: int, field_servers: int | None = None, often: Act | None = None) -> SeedResult:
    """The run of a seed."""
    return run_plan(make_plan(seed, steps=steps, field_servers=field_servers, often=often))


def run_seeds(
    seeds: Sequence[int], *, steps: int, field_servers: int | None, workers: int, stop_at_failure: bool = False
) -> Iterator[SeedResult]:
    """Many seeds, as they come. With one worker, in this process and in order."""
    if workers <= 1:
        for seed in seeds:
            yield run_seed(seed, steps=steps, field_servers=field_servers)
        return
    chunks = (seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK))
    with ProcessPoolExecutor(max_workers=workers, initializer=gc.freeze) as pool:
        running: set[Future[list[SeedResult]]] = set()
        for chunk in chunks:
            running.add(pool.submit(_run_chunk, chunk, steps, field_servers))
            if len(running) >= 2 * workers:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for result in _results(finished):
                    yield result
                    if result.failure and stop_at_failure:
                        pool.shutdown(wait=False, cancel_futures=True)
                        return
        yield from _results(wait(running).done)


def _results(finished: Iterable[Future[list[SeedResult]]]) -> Iterator[SeedResult]:
    for future in finished:
        yield from future.result()


def _run_chunk(seeds: Sequence[int], steps: int, field_servers: int | None) -> list[SeedResult]:
    return [replace(run_seed(seed, steps=steps, field_servers=field_servers), log=()) for seed in seeds]


def shrink(plan: Plan, failure: Failure, *, tell: Callable[[int], None] = lambda _: None) -> tuple[Plan, Failure]:
    """Take steps away as long as the same promise breaks (delta debugging)."""
    steps: list[Step] = list(plan.steps[: failure.step])
    best = failure
    tries = 0

    def fails(candidate: list[Step]) -> Failure | None:
        nonlocal tries
        tries += 1
        found = run_plan(replace(plan, steps=tuple(candidate))).failure
        return found if found is not None and found.promise == failure.promise else None

    size = max(1, len(steps) // 2)
    while tries < SHRINKS_MAX:
        start = 0
        is_smaller = False
        while start < len(steps) and tries < SHRINKS_MAX:
            candidate = steps[:start] + steps[start + size :]
            found = fails(candidate)
            if found is not None:
                steps, best, is_smaller = candidate[: max(found.step, 0)], found, True
                tell(len(steps))
            else:
                start += size
        if size == 1 and not is_smaller:
            break
        size = max(1, size // 2)
    calm = [replace(step, fault=None) for step in steps]
    found = fails(calm)
    if found is not None:
        steps, best = calm, found
    return replace(plan, steps=tuple(steps)), best


def _failure(plan: Plan, step: int, world: World, promise: str, what: str) -> Failure:
    return Failure(seed=plan.seed, promise=promise, what=what, step=step, log=tuple(world.log))
