"""Seeded errors in the parties' code, each of which simulation or exploration must find.

A mutant is a small replacement of text in one module. It is applied to a copy of the package, and a subprocess
simulates that copy, seed by seed, and then explores small worlds, until something breaks or the bounds are reached.
The bounds are counts, so that a slow machine gives the same verdict as a fast one: a mutant names the seed that found it
when it was written, where its hunt begins; the other seeds come afterwards. The text that is replaced must occur exactly once: when the code changes, the list has to follow.

    tools/mutants.py [--workers 2] [--only NAME]...
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from mutants_list import MUTANTS, Mutant

SOURCE = Path(__file__).parent.parent / "src" / "tallystick"
SEEDS = 400
STEPS = 150
STATES = 50_000  # of each world, after the seeds
STATES_FIRST = 1_000_000  # of the world that a mutant names
GUARD_SECONDS = 1800.0  # of processor time, for the whole hunt: it says so, and is no verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a mutant."""

    mutant: Mutant
    found_by: str | None
    what: str
    seconds: float


def apply(mutant: Mutant, package: Path) -> None:
    """Seed the error. Raises ``ValueError`` where the text is not there exactly once."""
    file = package / mutant.file
    text = file.read_text("utf-8")
    if text.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {text.count(mutant.old)} places in {mutant.file} read {mutant.old!r}")
    file.write_text(text.replace(mutant.old, mutant.new), "utf-8")


def hunt(mutant: Mutant) -> Verdict:
    """Simulate and explore a copy of the package with the error in it."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tallystick-mutant-") as directory:
        package = Path(directory) / "tallystick"
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        apply(mutant, package)
        done = subprocess.run(
            [sys.executable, str(Path(__file__)), "--hunt", mutant.name],
            env={**os.environ, "PYTHONPATH": directory, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    lines = done.stdout.splitlines()
    if not lines:
        return Verdict(mutant=mutant, found_by=None, what=done.stderr[-300:], seconds=time.monotonic() - started)
    said = json.loads(lines[-1])
    return Verdict(mutant=mutant, found_by=said["found_by"], what=said["what"], seconds=time.monotonic() - started)


def hunt_here(mutant: Mutant) -> None:
    """In the subprocess: the package on the path has the error in it. Prints what was found."""
    from tallystick.simulator import running  # noqa: PLC0415 - the mutated copy
    from tallystick.simulator.exhaustive import WORLDS, explore  # noqa: PLC0415 - as above
    from tallystick.simulator.report import Progress  # noqa: PLC0415 - as above
    from tallystick.simulator.workload import Act  # noqa: PLC0415 - as above

    if Path(running.__file__).is_relative_to(SOURCE):
        raise SystemExit("the mutated copy is not on the path")
    often = None if mutant.often is None else Act(mutant.often)

    def left() -> float:
        return max(1.0, GUARD_SECONDS - time.process_time())

    def look_at_world(name: str, states_max: int) -> tuple[str, str] | None:
        found = explore(WORLDS[name], depth=None, states_max=states_max, seconds_max=left(), progress=Progress())
        return None if found.violation is None else (f"world {name}", found.violation)

    def look_at_seed(seed: int) -> tuple[str, str] | None:
        failure = running.run_seed(seed, steps=STEPS, often=often).failure
        return None if failure is None else (f"seed {seed}", f"{failure.promise}: {failure.what}")

    looks = [partial(look_at_world, mutant.world, STATES_FIRST)] if mutant.world else []
    looks += [
        partial(look_at_seed, seed) for seed in (mutant.seed, *(one for one in range(SEEDS) if one != mutant.seed))
    ]
    looks += [partial(look_at_world, name, STATES) for name in ("small", "rollback", "lost", "restored")]
    found, what = None, "survived"
    for look in looks:
        found = look()
        if found is not None:
            break
        if time.process_time() > GUARD_SECONDS:
            what = f"no verdict: {GUARD_SECONDS:.0f} s of processor time were over before the looks were"
            break
    found_by, what = found or (None, what)
    print(json.dumps({"found_by": found_by, "what": what}))


def main() -> int:
    """Hunt every mutant; 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--hunt", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hunt is not None:
        hunt_here(next(mutant for mutant in MUTANTS if mutant.name == arguments.hunt))
        return 0
    chosen = [mutant for mutant in MUTANTS if not arguments.only or mutant.name in arguments.only]
    started = time.monotonic()
    with ThreadPoolExecutor(max_workers=arguments.workers) as pool:
        verdicts = []
        for verdict in pool.map(hunt, chosen):
            verdicts.append(verdict)
            where = verdict.found_by or "SURVIVED"
            print(f"{verdict.mutant.name:36} {where:14} {verdict.seconds:6.1f} s  {verdict.what[:110]}", flush=True)
    survived = [verdict.mutant for verdict in verdicts if verdict.found_by is None]
    print(f"{len(verdicts) - len(survived)} of {len(verdicts)} mutants found in {time.monotonic() - started:.0f} s")
    for mutant in survived:
        print(f"survived: {mutant.name}, which breaks: {mutant.breaks}")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
