"""``docs/performance/README.md`` and its plots, from the results and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _BAR, _LEFT = 860, 26, 430


def write_page(directory: Path, document: dict[str, Any]) -> None:
    """The page and its plots."""
    rows = document["rows"]
    (directory / "ratios.svg").write_text(_ratios(rows), "utf-8")
    (directory / "rates.svg").write_text(_rates(rows), "utf-8")
    latest = max((row["taken_on"] for row in rows), key=lambda taken: taken["at"])
    lines = [
        "# How fast it is",
        "",
        "Written by `make bench`; [results.json](results.json) has every single measurement. Where a limit is missed,",
        "[profile.md](profile.md) says why.",
        "",
        f"Taken on {latest['cores']} cores of {latest['processor']}, Python {latest['python']}, PostgreSQL {latest['postgresql']} with",
        "fsync on beside the load. Every limit was measured in the same run as its figure, in turns; medians count. Each row",
        "says when, at which load average (of one minute, before and after it), and with which part of the full counts.",
        "On a machine that does other work at the same time figures are worse than they must be, and ratios to pgbench too:",
        "its 32 processes get a larger share of the cores than our two. The processor time a message depends least on that.",
        "",
        "| | bench | figure | limit | | taken | load | counts |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_line(row) for row in rows),
        "",
        "![Figures beside their limits](ratios.svg)",
        "",
        "![Messages per second](rates.svg)",
        "",
        "## What is measured",
        "",
        "* One message is verified, decided, booked in a chained ledger, signed for, stored with its reply, and answered",
        "  after a durable commit. Half of the messages activate a unit, half return it with one carry.",
        "* The load is a process of its own, over real sockets, with signatures made before; it runs on the same cores.",
        "* pgbench writes the rows of one message to the same tables, in seven round trips and one transaction each, with",
        "  the same number of clients, prepared statements, on the same server. It verifies and signs nothing.",
        "* E1 to E3 are load that harms nobody else: webhooks that never answer, a flood of strangers, silent clients. They",
        "  run real processes on loopback, and their memory is the most that any process of the activation server had.",
        "  To take them again: `make bench ROWS='E1 E2 E3'`.",
        "* B8 is a device's: memory at rest, the least private memory (`ulimit -d`) in which the agent starts and answers, the processor time of its start",
        "  and of a check by socket for both sides together, with a program in Python, which keeps its connection, and one in C, which makes a new one for each check, and",
        "  how soon a program hears `not licensed, and why` where there is no agent, no socket or no vault. To take it again: `make bench ROWS=B8`.",
        "* What is not in the table: a network, and a disk other than this one.",
        "",
        "`make bench` takes about twenty minutes; `make bench ROWS='B1 B3'` takes some rows, `BENCH_SCALE=0.05` makes all",
        "of them small. What the figures mean for a whole installation is in [scale.md](../scale.md).",
    ]
    (directory / "README.md").write_text("\n".join(lines) + "\n", "utf-8")


def _line(row: dict[str, Any]) -> str:
    taken = row["taken_on"]
    load = (
        f"{taken['load_before']} to {taken['load_average']}" if "load_before" in taken else str(taken["load_average"])
    )
    cells = (row["name"], row["what"], _text(row["figure"], row["unit"]), _limit(row), _verdict(row))
    return f"| {' | '.join(cells)} | {taken['at']} | {load} | {taken['scale']:g} |"


def _text(value: float, unit: str) -> str:
    return f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}"


def _limit(row: dict[str, Any]) -> str:
    if row["limit"] is None:
        return "shown"
    return f"{'at least' if row['at_least'] else 'at most'} {_text(row['limit'], row['unit'])}"


def _verdict(row: dict[str, Any]) -> str:
    if row["limit"] is None:
        return ""
    return "reached" if _goodness(row) >= 1 else "missed"


def _goodness(row: dict[str, Any]) -> float:
    """How far a limit is reached: 1 is just so, more is better."""
    figure, limit = row["figure"], row["limit"]
    if not figure and not row["at_least"]:
        return 1.0 if not limit else 3.0  # nothing, where little is asked for
    return float(figure / limit if row["at_least"] else limit / figure)


def _ratios(rows: list[dict[str, Any]]) -> str:
    shown = [row for row in rows if row["limit"] is not None]
    bars = [(f"{row['name']} {row['what']}", min(_goodness(row), 3), f"{_goodness(row):.2f}") for row in shown]
    return _chart("Limit reached so far: 1 is just so, more is better (cut at 3)", bars, most=3, mark=1)


def _rates(rows: list[dict[str, Any]]) -> str:
    bars = []
    for row in rows:
        extra = row.get("extra", {})
        if row["name"] in {"B1", "B2", "B3", "B3b"} and "pgbench_rate" in extra:
            bars.append(
                (f"{row['name']} ours: {row['what'].split(', ', 1)[1]}", extra["rate"], f"{extra['rate']:,.0f}")
            )
            bars.append(
                (f"{row['name']} pgbench in the same run", extra["pgbench_rate"], f"{extra['pgbench_rate']:,.0f}")
            )
        if row["name"] == "B4":
            bars.append((f"B4 {row['what'].split(',')[-2]}", extra["rate"], f"{extra['rate']:,.0f}"))
    return _chart("Messages per second", bars, most=max([bar[1] for bar in bars] or [1]), mark=None)


def _chart(title: str, bars: list[tuple[str, float, str]], *, most: float, mark: float | None) -> str:
    height = 50 + _BAR * len(bars)
    room = _WIDTH - _LEFT - 80
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/><text x="10" y="22" font-size="15">{escape(title)}</text>',
    ]
    for number, (label, value, text) in enumerate(bars):
        y = 38 + number * _BAR
        width = max(1, value / most * room)
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(label[:68])}</text>')
        color = "#2f7d4f" if mark is None or value >= mark else "#b8552e"
        parts.append(f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="{_BAR - 8}" fill="{color}"/>')
        parts.append(f'<text x="{_LEFT + width + 6:.1f}" y="{y + 15}">{escape(text)}</text>')
    if mark is not None:
        x = _LEFT + mark / most * room
        parts.append(f'<line x1="{x}" y1="34" x2="{x}" y2="{height - 8}" stroke="#333" stroke-dasharray="4 3"/>')
    return "\n".join([*parts, "</svg>"]) + "\n"
