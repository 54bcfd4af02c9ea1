"""The slowest tests of the runs that this checkout remembers: ``tools/slowest.py [COUNT]``; tests/conftest.py keeps them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

DURATIONS = Path(__file__).parents[1] / "build" / "durations.json"


def main() -> None:
    """Print them, the slowest first."""
    if not DURATIONS.exists():
        raise SystemExit("no test was run in this checkout yet: make test, or make ci for all of them")
    seconds: dict[str, float] = json.loads(DURATIONS.read_text("utf-8"))
    for name in sorted(seconds, key=lambda name: -seconds[name])[: int(sys.argv[1])]:
        print(f"{seconds[name]:8.2f} s  {name[:160]}")


if __name__ == "__main__":
    main()
