"""``python -m history``: run for a while, then check what everybody saw; then the controls, each with an error seeded.

Exit code 1 when a promise was broken, or when a seeded error was not found.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import Final

from history.checks import check
from history.world import REQUESTS_MAX, Run, Template, remove, temporary_home
from support.postgres import Cluster

# Which error must be found, and by which words at the beginning of a finding.
CONTROLS: Final = {
    "reply-before-commit": ("lost", "P1", "P4", "look"),
    "unlocked-lines": ("terms", "P5", "stopped"),
    "unchecked-settle": ("P1",),
    "pruned-recovering": ("lost", "P4"),
    "sequence-twice": ("fork",),
}
KILLED: Final = ("", "reply-before-commit")  # the other errors need nobody who is killed to be seen, only much work
CONTROL_POSTS: Final = 800  # a try: so much work, however long it takes
GUARD_SECONDS: Final = 200.0  # which it never takes
TRIES: Final = 8
SHOWN: Final = 5


def run(
    fault: str,
    *,
    seed: int,
    seconds: float,
    posts: int = REQUESTS_MAX,
    template: Template,
    home: Path,
    cluster: Cluster,
) -> list[str]:
    """One run, and what was found. Says what it did."""
    begun = time.monotonic()
    place = home / f"{fault or 'whole'}-{seed}"
    place.mkdir()
    one = Run(place, cluster, template=template, seed=seed, fault=fault)
    try:
        one.build()
        one.work(seconds, posts, kills=fault in KILLED)
        books = one.read_books()
    finally:
        one.stop()
    found = check(one.history, books)
    if one.last_words:
        found.insert(0, f"stopped: the activation server ended by itself: {one.last_words}")
    if not fault:
        one.verify()
    history = one.history
    answered = sum(len(post.replies) for post in history.posts)
    faults = ", ".join(f"{count} {name}" for name, count in sorted(history.faults.items()))
    done = sum(verb.outcome == "done" for verb in history.verbs)
    print(
        f"{fault or 'as it is'}, seed {seed}: {len(history.posts)} posts, {answered} replies, {done} of {len(history.verbs)} verbs, "
        f"{len(history.looks)} looks, {len(books['entries'])} ledger entries; killed: {faults}; "
        f"{len(found)} findings; {time.monotonic() - begun:.1f} s",
        flush=True,
    )
    for line in found[:SHOWN]:
        print(f"    {line}", flush=True)
    return found


def run_control(fault: str, *, seed: int, template: Template, home: Path, cluster: Cluster) -> bool:
    """Whether the error is found. How things fall is chance, so there is more than one try."""
    for attempt in range(TRIES):
        found = run(
            fault,
            seed=seed + attempt,
            seconds=GUARD_SECONDS,
            posts=CONTROL_POSTS,
            template=template,
            home=home,
            cluster=cluster,
        )
        if any(line.startswith(CONTROLS[fault]) for line in found):
            return True
    print(f"    {fault}: NOT FOUND in {TRIES} tries")
    return False


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="history", description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", choices=[*CONTROLS, "none", "all"], default="all", help="which controls")
    parser.add_argument("--piece", type=float, default=1.0, help="minutes of one run; longer ones are several")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and leave nothing behind
    home = temporary_home()
    cluster = Cluster()
    broken = 0
    try:
        template = Template(home, cluster)
        left, seed = asked.minutes, asked.seed
        while left > 0 and not broken:
            piece = min(left, asked.piece)
            broken += bool(run("", seed=seed, seconds=piece * 60, template=template, home=home, cluster=cluster))
            left, seed = left - piece, seed + 1
        for fault in CONTROLS:
            if asked.fault in {"all", fault}:
                broken += not run_control(fault, seed=asked.seed, template=template, home=home, cluster=cluster)
    finally:
        cluster.remove()
        remove(home)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
