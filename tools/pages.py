"""What the page generators share: write the page, or with ``--check`` say whether it is current."""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write_or_check(page: str, text: str, *, arguments: list[str] | None = None) -> int:
    """Write ``text`` to ``page`` (a path from the root of the checkout); 1 if ``--check`` finds another text there."""
    parser = argparse.ArgumentParser(description=f"Writes {page} from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not current")
    asked = parser.parse_args(arguments)
    path = ROOT / page
    if path.exists() and path.read_text("utf-8") == text:
        print(f"{page}: current")
        return 0
    if asked.check:
        print(f"{page}: not current; run `make docs` and commit the page")
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8", newline="\n")
    print(f"{page}: written")
    return 0


def cell(text: str) -> str:
    """Text for one cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
