"""``python -m packages PART...``: see the package."""

import os
import sys
from pathlib import Path

from packages import pyz, release, wheels

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Build the named parts, in the order in which they need each other."""
    asked = sys.argv[1:] or ["wheel", "pyz"]
    os.chdir(ROOT)
    made: list[Path] = []
    into = Path(os.environ.get("DIST", "dist"))
    if {"wheel", "pyz", "release"} & set(asked):
        made += wheels.build(into)
    if "pyz" in asked:
        made.append(pyz.build(into, os.environ.get("PYZ_FOR")))
    if "release" in asked:
        made = release.build(into, made)
    for file in made:
        print(f"{file.stat().st_size / 1e6:7.1f} MB  {file}")


if __name__ == "__main__":
    main()
