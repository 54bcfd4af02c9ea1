"""``python -m packages PART...``: see the package."""

import os
import sys
from pathlib import Path

from packages import pyz, wheels

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Build the named parts, in the order in which they need each other."""
    asked = sys.argv[1:] or ["wheel", "pyz"]
    os.chdir(ROOT)
    made: list[Path] = []
    if {"wheel", "pyz"} & set(asked):
        made += wheels.build(Path("dist"))
    if "pyz" in asked:
        made.append(pyz.build(Path("dist"), os.environ.get("PYZ_FOR")))
    for file in made:
        print(f"{file.stat().st_size / 1e6:7.1f} MB  {file}")


if __name__ == "__main__":
    main()
