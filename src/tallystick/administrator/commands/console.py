"""How the command line looks: tables, progress, summaries, and the same as JSON. Decides nothing.

On a terminal there are tables and live bars; elsewhere plain lines, never cropped.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tallystick.administrator.app import ROUTE_VARIABLE
from tallystick.administrator.core.dry_run import PredictedEffect, Prediction, effect_text
from tallystick.administrator.core.goals import GoalResult, Report
from tallystick.administrator.core.next_steps import NextStep, step_sentence
from tallystick.administrator.core.results import results_sentence
from tallystick.administrator.core.workflows import Silent
from tallystick.administrator.memory.inventory import FieldServerRecord
from tallystick.administrator.ports import Progress as Told
from tallystick.administrator.ports import RouteKind, Stage, next_step_of
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.protocol.problems import problem_document
from tallystick.protocol.reasons import reason_text
from tallystick.sentences import _, spoken
from tallystick.terminal import plain_lines, print_as_json

if TYPE_CHECKING:  # loaded where something is shown to people: --json needs none of it
    from rich.console import Console
    from rich.progress import Progress, TaskID

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Forced = Annotated[
    RouteKind | None,
    typer.Option("--route", envvar=ROUTE_VARIABLE, help="Do not look for the route: take this one."),
]
Server = Annotated[str, typer.Argument(help="Name, device id (or its beginning) or address.", metavar="SERVER")]
Servers = Annotated[
    list[str] | None, typer.Argument(help="Names, device ids (or their beginning) or addresses.", metavar="[SERVER]...")
]
Everyone = Annotated[bool, typer.Option("--all", help="All field servers in the list.")]
Lines = Annotated[
    list[str] | None,
    typer.Option(
        "--line", help="The end state of a line: its id, activation ID or product, and a quantity.", metavar="LINE=QTY"
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only show what would be granted, returned or refused, and why.")
]

PLAIN_WIDTH: Final = 1000
NARROW_WIDTH: Final = 120
BARS_MAX: Final = 20
ROWS_MAX: Final = 50
_STAGES: Final = list(Stage)
_STYLES: Final = {
    GoalResult.DONE: "green",
    GoalResult.ALREADY: "green",
    GoalResult.CARRY: "yellow",
    GoalResult.REFUSED: "red",
    GoalResult.UNREACHABLE: "red",
    GoalResult.FAILED: "red",
    GoalResult.INTERRUPTED: "yellow",
    GoalResult.LEFT: "yellow",
}


def console(*, to_error: bool = False) -> Console:
    """A console that crops nothing where nobody looks."""
    from rich.console import Console

    stream = sys.stderr if to_error else sys.stdout
    width = None if stream.isatty() else PLAIN_WIDTH
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def show_json(value: object) -> None:
    """One JSON document on standard output."""
    print_as_json(value)


def show_json_line(value: object) -> None:
    """One JSON document on one line, for programs that read while this one runs."""
    print_as_json(value, indent=None)


def show_result(value: Mapping[str, Any], text: str, *, as_json: bool) -> None:
    """The value as JSON, or the text."""
    if as_json:
        show_json(value)
    else:
        show_text(text)


def show_foreseen(rows: Sequence[Prediction], *, why: str = "") -> None:
    """A dry run; what will be refused is on standard error, with its reason and what to do. ``why``: it is only likely."""
    cells_ = [
        [
            row.name,
            row.product,
            row.line_id or "",
            f"{row.before} -> {row.after}" if row.line_id else "",
            spoken(effect_text(row)),
        ]
        for row in rows
    ]
    show_table([_("name"), _("product"), _("line"), _("quantity"), _("effect")], cells_)
    out = console(to_error=True)
    if why:
        show_note(_("Likely, no more: the activation server was not asked ({why}).", why=why))
    for row in rows:
        if row.why:
            code = f" ({row.code})" if row.code else ""
            out.print(
                escape(
                    plain_lines(
                        f"{row.name}{' ' + row.line_id if row.line_id else ''}: {row.effect}{code}: {spoken(row.why)}"
                    )
                )
            )
        if row.effect is PredictedEffect.REFUSED and row.next_step:
            out.print(escape(_shown(_("  Next: {step}", step=row.next_step))))


def show_text(text: str) -> None:
    """A paragraph on standard output."""
    console().print(escape(_shown(text)))


def show_note(text: str) -> None:
    """A paragraph on standard error."""
    console(to_error=True).print(escape(_shown(text)))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, kept_whole: int = 0) -> None:
    """A table on a terminal, aligned plain lines elsewhere. The first ``kept_whole`` columns are not folded."""
    from rich import box
    from rich.table import Table

    is_terminal = sys.stdout.isatty()
    if is_terminal and not rows:
        show_text(_("{columns}: none", columns=columns[0]))
        return
    table = Table(box=box.ROUNDED if is_terminal else None, pad_edge=False, show_edge=is_terminal)
    for place, column in enumerate(columns):
        table.add_column(spoken(column), overflow="fold", no_wrap=place < kept_whole)
    for row in rows:
        table.add_row(*(escape(_shown(cell)) for cell in row))
    console().print(table)


def escape(text: str) -> str:
    """Text as it is, in what rich prints."""
    from rich.markup import escape as escaped

    return escaped(text)


def _shown(text: str) -> str:
    """In the reader's words, and plain."""
    return plain_lines(spoken(text))


def show_entitlement(value: Mapping[str, Any]) -> None:
    """An entitlement with its lines, from its value for ``--json``."""
    show_text(
        _(
            "{entitlement_id} of {account}, from {issuer}",
            entitlement_id=value["entitlement_id"],
            account=value["account"],
            issuer=value["issuer"],
        )
    )
    columns = ("line", "product", "quantity", "planned", "held", "kinds", "activation_id")
    show_table(columns, cells(value["lines"], *columns))


def cells(values: Sequence[Mapping[str, Any]], *columns: str) -> list[list[str]]:
    """Rows of a table from values for ``--json``."""
    return [
        [
            ", ".join(one) if isinstance(one := value[column], list) else one if isinstance(one, str) else str(one)
            for column in columns
        ]
        for value in values
    ]


def show_error(error: Error) -> None:
    """Why something was refused: the code, what was expected, what was seen, and what to do next."""
    out = console(to_error=True)
    out.print(f"[red]{escape(plain_lines(error.code))}[/red]: {escape(_shown(error.sentence))}")
    next_step = getattr(error, "next_step", "") or next_step_of(error.code)
    if next_step:
        out.print(escape(_shown(_("Next: {step}", step=next_step))))


def show_refusal(error: Error, *, as_json: bool) -> None:
    """A whole command was refused: for a program also as a problem on standard output."""
    if as_json:
        next_step = getattr(error, "next_step", "")
        show_json(problem_document(error) | ({"next_step": str(next_step)} if next_step else {}))
    show_error(error)


def show_reports(reports: Sequence[Report]) -> None:
    """Each field server with its result; on standard error those that did not work, why, and what to do next."""
    if not reports:
        show_text(_("Nothing to do: there is no field server in the list."))
    good = [report for report in reports if report.is_finished]
    if len(good) > BARS_MAX:
        show_text(_("{count} field servers: done", count=len(good)))
    else:
        out = console()
        for report in good:
            out.print(
                f"{escape(plain_lines(report.name))}: [green]{plain_lines(report.result)}[/green], {escape(_shown(report.detail))}"
            )
    bad: dict[tuple[object, ...], list[Report]] = {}
    for report in reports:
        if not report.is_finished:
            key = (report.result, report.code, report.detail, report.next_step, report.reasons)
            bad.setdefault(key, []).append(report)
    for alike in list(bad.values())[:ROWS_MAX]:
        _show_alike(alike)
    if len(bad) > ROWS_MAX:
        show_note(_("... and {count} more; tallystick admin servers lists all", count=len(bad) - ROWS_MAX))
    if len(reports) > 1:
        show_note(results_sentence(reports, total=len(reports)))


def _show_alike(reports: Sequence[Report]) -> None:
    """Field servers that ended in the same way, with what to do."""
    out, report = console(to_error=True), reports[0]
    names = ", ".join(one.name for one in reports)
    style = _STYLES[report.result]
    code = f" ({report.code})" if report.code else ""
    said = f"[{style}]{plain_lines(report.result)}[/{style}]"
    out.print(escape(plain_lines(names)) + ": " + said + escape(plain_lines(f"{code}: {spoken(report.detail)}")))
    for reason in report.reasons:
        where = f"line {reason.line}: " if reason.line else ""
        out.print(f"  {escape(plain_lines(where + reason.code))}: {escape(_shown(reason_text(reason)))}")
    if report.next_step:
        out.print(escape(_shown(_("  Next: {step}", step=report.next_step))))


def licenses_text(record: FieldServerRecord) -> str:
    """The same for people."""
    if record.report is None:
        return _("not seen yet")
    return ", ".join(f"{license_.product} {license_.line}={license_.quantity}" for license_ in record.report.licenses)


def show_list(rows: Sequence[tuple[FieldServerRecord, NextStep, bool]]) -> None:
    """The list of field servers. On a narrow terminal the address stands below the name."""
    cells_ = [_list_row(record, step, is_reached=is_reached) for record, step, is_reached in rows]
    if not sys.stdout.isatty() or console().width >= NARROW_WIDTH:
        show_table([_("name"), _("kind"), _("address"), _("reachable"), _("licenses"), _("next step")], cells_)
        return
    narrow = [[f"{name}\n{address}", kind, *others] for name, kind, address, *others in cells_]
    show_table([_("name, address"), _("kind"), _("reach"), _("licenses"), _("next step")], narrow, kept_whole=2)


def _list_row(record: FieldServerRecord, step: NextStep, *, is_reached: bool) -> list[str]:
    """A field server in the list: its site is beside its name, and violations come before the next step."""
    features = () if record.report is None else record.report.features
    violations = [f"VIOLATION of {one.feature}" for one in features if one.violation]
    if record.report is not None and record.report.trust == "first-delivery":
        violations.append("FOR TRIALS ONLY: it trusts whoever delivered first")
    return [
        f"{record.name} ({record.site})" if record.site else record.name,
        record.kind,
        record.address.removeprefix("https://"),
        "yes" if is_reached else "no",
        licenses_text(record) or "none",
        ". ".join([*violations, *filter(None, [spoken(step_sentence(step))])]),
    ]


@contextmanager
def show_progress(names: Mapping[DeviceId, str], *, is_quiet: bool) -> Iterator[Told]:
    """Live progress on a terminal: a bar per field server, or one for all where there are many."""
    if is_quiet or not sys.stderr.isatty():
        yield Silent()
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[stage]}"))
    with Progress(*columns, console=console(to_error=True), transient=True) as bars:
        yield _Bars(bars, names)


class _Bars:
    """Implements ``ports.Progress``; called from many threads."""

    def __init__(self, bars: Progress, names: Mapping[DeviceId, str]) -> None:
        self._bars = bars
        self._lock = threading.Lock()
        self._tasks: dict[DeviceId, TaskID] = {}
        self._all: TaskID | None = None
        if len(names) > BARS_MAX:
            self._all = bars.add_task("field servers", total=len(names), stage="")
            return
        for device_id, name in names.items():
            self._tasks[device_id] = bars.add_task(escape(_shown(name)), total=len(_STAGES) - 1, stage="")

    def step(self, device_id: DeviceId, stage: Stage) -> None:
        """Move a bar."""
        with self._lock:
            if self._all is not None:
                if stage is Stage.FINISHED:
                    self._bars.advance(self._all)
            elif device_id in self._tasks:
                self._bars.update(self._tasks[device_id], completed=_STAGES.index(stage), stage=str(stage))
