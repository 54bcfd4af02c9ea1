"""``python -m proof``: prove everything, and show what the old rules allowed. ``--cases``: only the latter, with each step."""

from __future__ import annotations

import sys
import time

from proof import cases
from proof.model import Rules
from proof.obligations import Obligations, conjuncts, prove


def prove_all() -> int:
    """How many claims could not be proved. Each is named."""
    started, count, failed = time.monotonic(), 0, 0
    for name, assumed, claim in Obligations().all():
        for goal in conjuncts(claim):
            count += 1
            if not prove(assumed, goal):
                failed += 1
                print(f"NOT PROVED  {name}: {str(goal)[:300]}", flush=True)
    print(f"{count} claims, {count - failed} proved, {time.monotonic() - started:.0f} s", flush=True)
    return failed


def show_cases(*, is_long: bool) -> int:
    """How many courses are not as they should be."""
    wrong = 0
    for name, course in cases.OLD.items():
        found = cases.find(course.steps, cases.REVISION_1, breaks=course.breaks)
        still = cases.find(course.steps, Rules(), breaks=course.breaks)
        wrong += found is None or still is not None
        old = "breaks the promise" if found else "NO COUNTEREXAMPLE"
        new = "STILL BREAKS IT" if still else "does not under those of revision 2"
        print(
            f"{name}: under the rules of revision 1 this {old} ({course.breaks}), and {new}: {course.says}", flush=True
        )
        if found is not None and is_long:
            print(cases.story(found))
    for name, steps in cases.POSSIBLE.items():
        found = cases.find(steps, Rules(), breaks=None)
        wrong += found is None
        print(f"{name}: {'can be' if found else 'CANNOT BE'}", flush=True)
    return wrong


def main() -> int:
    """0 if everything is proved, and every course is as it should be."""
    if sys.argv[1:] == ["--cases"]:
        return 1 if show_cases(is_long=True) else 0
    failed = prove_all()
    return 1 if failed + show_cases(is_long=False) else 0


if __name__ == "__main__":
    sys.exit(main())
