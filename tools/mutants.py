"""Seeded errors in the parties' code, each of which simulation or exploration must find.

A mutant is a small replacement of text in one module. It is applied to a copy of the package, and a subprocess
simulates that copy, seed by seed, and then explores small worlds, until something breaks or the bounds are reached.
The text that is replaced must occur exactly once: when the code changes, the list has to follow.

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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from mutants_list import MUTANTS, Mutant

SOURCE = Path(__file__).parent.parent / "src" / "tallystick"
SEEDS = 1500
STEPS = 150
SECONDS = 60.0  # of processor time, for seeds and for each world


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
            [sys.executable, str(Path(__file__)), "--hunt", mutant.world or "", mutant.often or ""],
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


def hunt_here(world: str, often: str) -> None:
    """In the subprocess: the package on the path has the error in it. Prints what was found."""
    from tallystick.simulator import running  # noqa: PLC0415 - the mutated copy
    from tallystick.simulator.exhaustive import WORLDS, explore  # noqa: PLC0415
    from tallystick.simulator.report import Progress  # noqa: PLC0415
    from tallystick.simulator.workload import Act  # noqa: PLC0415

    if Path(running.__file__).is_relative_to(SOURCE):
        raise SystemExit("the mutated copy is not on the path")
    found_by, what = None, "survived"

    def explore_world(name: str, states_max: int) -> None:
        nonlocal found_by, what
        found = explore(WORLDS[name], depth=None, states_max=states_max, seconds_max=SECONDS, progress=Progress())
        if found.violation is not None:
            found_by, what = f"world {name}", found.violation

    if world:
        explore_world(world, 1_000_000)
    started = time.process_time()
    for seed in range(SEEDS if found_by is None else 0):
        failure = running.run_seed(seed, steps=STEPS, often=Act(often) if often else None).failure
        if failure is not None:
            found_by, what = f"seed {seed}", f"{failure.promise}: {failure.what}"
            break
        if time.process_time() - started > SECONDS:
            break
    for name in ("small", "rollback", "lost", "restored"):
        if found_by is None:
            explore_world(name, 100_000)
    print(json.dumps({"found_by": found_by, "what": what}))


def main() -> int:
    """Hunt every mutant; 1 if one survives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", action="append", metavar="NAME")
    parser.add_argument("--hunt", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hunt is not None:
        hunt_here(*arguments.hunt)
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
