"""``python -m benchmarks [ROW...]``: measure, print the table, write ``docs/performance/``.

Every limit is measured in the same run as the figure beside it, in turns, three times; the median of the ratios counts.
``BENCH_SCALE`` (default 1) makes everything smaller for a quick look, and says so in the results.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks import device, office, others, rows
from benchmarks.plots import write_page

OUTPUT: Final = Path("docs/performance")
ROWS: Final[dict[str, Callable[[rows.Bench], list[rows.Row]]]] = {
    "B1": rows.b1_single_messages,
    "B2": rows.b2_sqlite,
    "B3": rows.b3_one_at_a_time,
    "B3b": rows.b3b_eight,
    "B4": rows.b4_bundle,
    "B5": rows.b5_one_line,
    "B6": rows.b6_history,
    "B7": device.b7_checks,
    "B8": device.b8_agent,
    "B9": rows.b9_memory,
    "B10": rows.b10_processor_time,
    "B11": rows.b11_tls,
    "E1": others.e1_dead_webhooks,
    "E2": others.e2_strangers,
    "E3": others.e3_silence,
    "O1": office.o1_walk,
}


def main() -> None:
    """Run the rows that were named, or all."""
    chosen = sys.argv[1:] or list(ROWS)
    results = Results()
    with rows.Bench.opened(float(os.environ.get("BENCH_SCALE", "1"))) as bench:
        for name in chosen:
            Console(stderr=True).print(f"{name} ...")
            load = os.getloadavg()[0]
            results.rows += [
                replace(row, taken_on=results.taken_on | {"load_before": round(load, 1)}) for row in ROWS[name](bench)
            ]
            _save(results)  # each when it is there: the last ones take long
    show(results)


def _save(results: Results) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    path = OUTPUT / "results.json"
    old = (
        json.loads(path.read_text("utf-8"))["rows"] if path.exists() else []
    )  # each with its own machine, hour and load
    new = [{**asdict(row), "taken_on": row.taken_on or results.taken_on} for row in results.rows]
    measured = {row["name"] for row in new}
    kept = [row for row in old if row["name"] not in measured]
    document = {"rows": sorted(kept + new, key=lambda row: (row["name"], row["what"]))}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    write_page(OUTPUT, document)


@dataclass
class Results:
    """What was measured, and on what."""

    rows: list[rows.Row] = field(default_factory=list)

    @property
    def taken_on(self) -> dict[str, Any]:
        """The machine."""
        model = next(
            (
                line.split(":")[1].strip()
                for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
                if "model name" in line
            ),
            platform.machine(),
        )
        postgres = subprocess.run(["psql", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[
            2
        ]
        return {
            "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "scale": float(os.environ.get("BENCH_SCALE", "1")),
            "cores": os.cpu_count(),
            "processor": model,
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "postgresql": postgres,
            "system": platform.release(),
        }


def show(results: Results) -> None:
    """The table."""
    table = Table(title=f"Tallystick, {results.taken_on}")
    for header in ("", "bench", "figure", "limit", "ratio", ""):
        table.add_column(header)
    for row in results.rows:
        table.add_row(row.name, row.what, row.figure_text, row.limit_text, row.ratio_text, row.verdict)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
