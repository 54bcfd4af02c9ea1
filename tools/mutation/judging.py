"""What looks for an error: simulated seeds, small worlds, and walks beside the model. Quickest and most likely first.

Each look is one of them for a bounded time; what breaks a promise, leaves a port as an undocumented error, or goes on
without end, is the find. Nothing here knows what the error is, but where it is: seeds that run that line come first.
"""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, Final

from mutation.applying import SOURCE

STEPS: Final = 150
HANG_SECONDS: Final = 20.0  # of processor time, for one look; as it is, the longest takes two
WORLDS: Final = {  # states of each
    "small": 1500,
    "restored": 400,
    "lost": 1500,
    "rollback": 1500,
    "final-restored": 300,
    "hold-restored": 300,
    "listed-restored": 300,
    "retired-restored": 300,
}
WALK_STEPS: Final = 60
WALKS: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look. ``name``: ``seed 7``, ``world small``, ``walk 3``; on SQL with ``has_sql``."""

    name: str
    number: int = 0
    has_sql: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Who found it, what, and how many looks came before."""

    by: str
    what: str


class HangError(BaseException):
    """It goes on without end."""


def looks(judges: str, *, seeds: int) -> list[Look]:
    """All looks of a kind of module, in the order in which they come when nothing is known of a line."""
    if judges == "sql":
        return [Look(name=f"seed {number}, SQL", number=number, has_sql=True) for number in range(seeds)]
    by_seed = [Look(name=f"seed {number}", number=number) for number in range(seeds)]
    worlds = [Look(name=f"world {name}") for name in WORLDS]
    walks = [Look(name=f"walk {number}", number=number) for number in range(WALKS)]
    return [*by_seed, *worlds, *walks]


def look(one: Look) -> str | None:
    """What was found, None for nothing."""
    with _Limit():
        try:
            match one.name.split()[0]:
                case "seed":
                    return _run_seed(one)
                case "world":
                    return _explore(one.name.split()[1])
                case _:
                    return _walk(one.number)
        except HangError:
            return "it goes on without end"
        except AssertionError as error:  # of a walk: no step of the model
            return f"{error}"[:200] or "an assertion"
        except Exception as error:  # noqa: BLE001 - an error that leaves a judge is a find
            return f"{type(error).__name__}: {error}"[:200]


def judge(wanted: Sequence[Look], stories: Mapping[str, str]) -> tuple[Found | None, int, int]:
    """Look until something is found. How many looks that were, and in how many of them the story is another one.

    Another story is no find: what a person reads may differ, and no promise be broken. It tells who looks at survivors.
    """
    differs = 0
    for count, one in enumerate(wanted, 1):
        what = look(one)
        if what is not None:
            return Found(by=one.name, what=what), count, differs
        differs += stories.get(one.name, told) != told
    return None, len(wanted), differs


def ordered(wanted: Sequence[Look], reached: dict[str, set[int]], line: int) -> list[Look]:
    """Those that run the line first, in their order. Those that are known not to run it are left out.

    A line that nobody runs gets two looks all the same: what it made may have been remembered from before.
    """
    runs = [one for one in wanted if line in reached.get(one.name, ())] or list(wanted[:2])
    return runs + [one for one in wanted if one.name not in reached]


def trace(wanted: Sequence[Look], files: Sequence[str]) -> tuple[dict[str, dict[str, list[int]]], dict[str, str]]:
    """The lines of each file that each look runs, and its story. They must find nothing: this is the code as it is."""
    paths = {str(SOURCE / file): file for file in files}
    reached: dict[str, dict[str, list[int]]] = {}
    stories: dict[str, str] = {}
    for one in wanted:
        lines: dict[str, set[int]] = {file: set() for file in files}

        def local(frame: FrameType, event: str, _: Any, lines: dict[str, set[int]] = lines) -> Any:
            if event == "line":
                lines[paths[frame.f_code.co_filename]].add(frame.f_lineno)
            return local

        def begin(frame: FrameType, _event: str, _: Any, local: Callable[..., Any] = local) -> Any:
            return local if frame.f_code.co_filename in paths else None

        sys.settrace(begin)
        try:
            found = look(one)
        finally:
            sys.settrace(None)
        if found is not None:
            raise RuntimeError(f"{one.name} finds something in the code as it is: {found}")
        reached[one.name] = {file: sorted(numbers) for file, numbers in lines.items()}
        stories[one.name] = told
    return reached, stories


told = ""  # the digest of the story of the seed that was run last


def _run_seed(one: Look) -> str | None:
    global told
    from tallystick.simulator.running import run_plan  # noqa: PLC0415 - with the error in what it imports
    from tallystick.simulator.workload import make_plan  # noqa: PLC0415 - with the error in what it imports

    plan = replace(make_plan(one.number, steps=STEPS), has_table=True)
    result = run_plan(replace(plan, has_sql=True) if one.has_sql else plan)
    failure, told = result.failure, hashlib.sha256("\n".join(result.log).encode()).hexdigest()
    return None if failure is None else f"{failure.promise}: {failure.what}"


def _explore(name: str) -> str | None:
    global told  # noqa: PLW0603 - one look after the other, in one process
    told = ""
    from tallystick.simulator import exhaustive  # noqa: PLC0415 - with the error in what it imports
    from tallystick.simulator.report import Progress  # noqa: PLC0415 - with the error in what it imports

    world = exhaustive.WORLDS[name]
    found = exhaustive.explore(world, depth=None, states_max=WORLDS[name], seconds_max=None, progress=Progress())
    return found.violation


def _walk(seed: int) -> str | None:
    global told  # noqa: PLW0603 - see above
    told = ""
    for place in ("tests", "tests/simulation", "."):
        path = str(SOURCE.parents[1] / Path(place))
        if path not in sys.path:
            sys.path.append(path)
    walk = import_module("test_model").Walk(1000 + seed)
    for _ in range(WALK_STEPS):
        walk.step()
    walk.check()
    return None


class _Limit:
    """An end to the processor time of what goes on below. Nobody below can take it for an error of its own."""

    def __enter__(self) -> None:
        signal.signal(signal.SIGVTALRM, _hang)
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _hang(_: int, __: object) -> None:
    raise HangError
