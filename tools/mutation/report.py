"""Figures of a run, by module and by kind; and the list of survivors with a reason each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_survivors(path: Path) -> dict[str, str]:
    """Name and reason. A reason begins with ``same:`` (nothing anybody could see changes) or ``gap:`` (nobody looks there)."""
    known: dict[str, str] = {}
    reason = ""
    for number, line in enumerate(path.read_text("utf-8").splitlines() if path.exists() else (), 1):
        if line.startswith("## "):
            reason = line.removeprefix("## ").strip()
            if not reason.startswith(("same:", "gap:")):
                raise ValueError(f"{path}:{number}: a reason begins with 'same:' or 'gap:'")
        elif line and not line.startswith("#"):
            known[line] = reason
    return known


def table(rows: Sequence[dict[str, Any]], survivors: dict[str, str], *, total: int) -> list[str]:
    """For people."""
    said = [""]
    for what in ("file", "kind"):
        groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            groups[row[what]].append(row)
        said.append(f"{what:40} {'judged':>7} {'found':>7} {'same':>6} {'gaps':>6} {'open':>6} {'share':>7}")
        said += [_line(name, some, survivors) for name, some in sorted(groups.items())]
    said.append(_line("all", rows, survivors))
    by = Counter(_judge_of(row) for row in rows if row["found_by"])
    said.append("found by " + ", ".join(f"{count} {name}" for name, count in by.most_common()))
    seconds = sum(row["seconds"] for row in rows)
    said.append(f"{len(rows)} of {total} judged, {seconds:.0f} s, {seconds / max(1, len(rows)):.2f} s each")
    return said


def _judge_of(row: dict[str, Any]) -> str:
    name = str(row["found_by"])
    return "seed on SQL" if "SQL" in name else name.split(maxsplit=1)[0]


def _line(name: str, rows: Sequence[dict[str, Any]], survivors: dict[str, str]) -> str:
    left = [row for row in rows if row["found_by"] is None]
    same = sum(survivors.get(row["name"], "").startswith("same:") for row in left)
    gaps = sum(survivors.get(row["name"], "").startswith("gap:") for row in left)
    found = len(rows) - len(left)
    counted = len(rows) - same
    share = 100.0 * found / counted if counted else 100.0
    return f"{name:40} {len(rows):7} {found:7} {same:6} {gaps:6} {len(left) - same - gaps:6} {share:6.1f}%"
