"""``python -m powercuts``: record every scenario, cut its power everywhere, and judge; then the controls.

Exit code 1 when a promise was broken, or when a seeded error was not found. Everything is in one temporary directory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from powercuts.disk import Found, cut_power
from powercuts.judges import JUDGES, BrokenPromiseError
from powercuts.recording import Event, Said, record

TOOLS: Final = Path(__file__).parents[1]
FAULTS: Final = TOOLS.parent / "tests" / "support" / "faults"
COMMANDS: Final = {
    "fieldserver-init": [
        *("-m", "tallystick", "fieldserver", "init", "--kind", "AS-P", "--name", "roof", "--trust-first", "--json"),
    ],
    "activation-init": ["-m", "tallystick", "activation", "init", "--issuer", "Example Controls", "--json"],
}
# Which error each scenario must find.
CONTROLS: Final = (
    ("fieldserver-vault", "no-file-sync"),
    ("fieldserver-vault", "no-directory-sync"),
    ("fieldserver-vault", "no-sync-at-load"),
    ("fieldserver-init", "no-file-sync"),
    ("fieldserver-init", "no-directory-sync"),
    ("activation-init", "no-file-sync"),
    ("activation-init", "no-directory-sync"),
    ("activation-database", "sqlite-normal"),
    ("activation-database", "sqlite-off"),
    ("laptop", "sqlite-normal"),
    ("laptop", "sqlite-off"),
    ("laptop", "no-directory-sync"),
)
STATES: Final = 250  # looked at in each scenario; of more, a sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one scenario gave."""

    scenario: str
    fault: str
    calls: int
    looked_at: int
    seconds: float
    broken: str | None


def run(scenario: str, fault: str, *, seed: int, states: int, home: Path) -> Result:
    """Record one scenario and judge what its power cuts leave, up to the first broken promise."""
    begun = time.monotonic()
    place = home / f"{scenario}-{fault or 'whole'}"
    place.mkdir()
    root = place / "disk"
    root.mkdir()
    events = record(_command(scenario, root), root, _environment(fault))
    all_said = [event.text for event in events if isinstance(event, Said)]
    broken = None
    looked_at = 0
    for state in cut_power(events, seed=seed, states_max=states):
        looked_at += 1
        broken = _judge(scenario, state, all_said, events, place / "found")
        if broken is not None:
            break
    shutil.rmtree(place)
    return Result(
        scenario=scenario,
        fault=fault,
        calls=len(events),
        looked_at=looked_at,
        seconds=time.monotonic() - begun,
        broken=broken,
    )


def _judge(scenario: str, found: Found, all_said: Sequence[str], events: Sequence[Event], place: Path) -> str | None:
    found.write_to(place)
    try:
        JUDGES[scenario](place / "data", all_said[: found.said], all_said)
    except BrokenPromiseError as error:
        return f"power cut at call {found.event} of {len(events)}, lost was {found.lost}: {error}"
    finally:
        shutil.rmtree(place)
    return None


def _command(scenario: str, root: Path) -> list[str]:
    if scenario in COMMANDS:
        return [sys.executable, *COMMANDS[scenario], "--data", str(root / "data")]
    return [sys.executable, "-m", "powercuts.scenarios", scenario, str(root)]


def _environment(fault: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")}
    path = [str(TOOLS), *([str(FAULTS)] if fault else [])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "TALLYSTICK_TEST_FAULT": fault, "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="powercuts", description=__doc__)
    parser.add_argument("--scenario", choices=sorted(JUDGES), action="append")
    parser.add_argument("--fault", choices=sorted({fault for _, fault in CONTROLS}), help="only with this error seeded")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--states", type=int, default=STATES, help="looked at in each scenario")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    wanted = [
        (name, fault) for name, fault in [*((name, "") for name in JUDGES), *CONTROLS] if _is_asked(asked, name, fault)
    ]
    # In memory, where there is: the disk that loses its power is a model, so its files need none.
    beside = Path("/dev/shm")  # noqa: S108 - a directory of its own is made in it
    home = Path(tempfile.mkdtemp(prefix="tallystick-powercuts-", dir=beside if beside.is_dir() else None))
    try:
        with ProcessPoolExecutor(asked.workers) as pool:
            running = [
                pool.submit(run, name, fault, seed=asked.seed, states=asked.states, home=home) for name, fault in wanted
            ]
            results = [one.result() for one in running]
    finally:
        shutil.rmtree(home)
    wrong = [result for result in results if not _tell(result)]
    print(f"{len(results)} scenarios, {len(wrong)} of them wrong")
    return 1 if wrong else 0


def _is_asked(asked: argparse.Namespace, name: str, fault: str) -> bool:
    return (not asked.scenario or name in asked.scenario) and asked.fault in {None, fault}


def _tell(result: Result) -> bool:
    what = f"{result.scenario}{f', {result.fault}' if result.fault else ''}"
    size = f"{result.calls} steps, {result.looked_at} states, {result.seconds:.1f} s"
    is_right = (result.broken is not None) == bool(result.fault)
    verdict = "found" if result.broken else "NOT FOUND" if result.fault else "nothing lost"
    print(f"{what:40} {size:48} {verdict if is_right or not result.broken else 'BROKEN'}")
    if result.broken:
        print(f"    {result.broken}")
    return is_right


if __name__ == "__main__":
    sys.exit(main())
