"""Running operations from the command line: shown, kept, gone on with, stopped, left; what the exit code says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
import typer.core

from tallystick.administrator.app import Administrator, open_administrator
from tallystick.administrator.commands import console
from tallystick.administrator.commands.console import (
    AsJson,
    DryRun,
    Everyone,
    Forced,
    Lines,
    Servers,
)
from tallystick.administrator.core import dry_run as dry_run_service
from tallystick.administrator.core import planning, schemas
from tallystick.administrator.core.forecast import forecast
from tallystick.administrator.core.goals import (
    Goal,
    GoalResult,
    Refresh,
    Report,
    Return,
    ReturnOneCarry,
    Sync,
    TakeOutOfService,
)
from tallystick.administrator.core.next_steps import age_sentence
from tallystick.administrator.core.operations import Operation
from tallystick.administrator.ports import PortError
from tallystick.administrator.report.site import moment_text
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.sentences import _, _n

DONE, REFUSED, USAGE, UNREACHABLE, IN_PART = 0, 1, 2, 3, 4
Number = Annotated[
    int | None, typer.Argument(help="The number of an operation; without it all that were not finished.")
]


def operate(
    administrator: Administrator, goals: Mapping[DeviceId, Goal], *, as_json: bool, dry_run: bool = False
) -> None:
    """Run goals, show what came of them, and exit with the code that says so."""
    if dry_run:
        _foresee(administrator, goals, as_json=as_json)
        return
    show(administrator, run(administrator, goals, as_json=as_json), as_json=as_json)


def run(administrator: Administrator, goals: Mapping[DeviceId, Goal], *, as_json: bool) -> list[Report]:
    """The same, and nothing is shown but its progress."""
    if not goals:
        return []
    number = administrator.begin(goals)
    return _run(administrator, number, goals, as_json=as_json)


def go_on_with(administrator: Administrator, operations: Sequence[Operation], *, as_json: bool) -> list[Report]:
    """Take up what they have left open; reported on standard error."""
    reports: list[Report] = []
    for operation in operations:
        console.show_note(
            _(
                "Not finished: {operation_text}. It goes on.",
                operation_text=operation_text(operation, now=administrator.clock.now()),
            )
        )
        reports += _run(administrator, operation.number, operation.open_goals, as_json=as_json)
    return reports


def operation_text(operation: Operation, *, now: int) -> str:
    """What it is, how old, and what is open."""
    return _n(
        "operation {number} ({kind}), begun {age} ago, {open} of {count} field server open",
        "operation {number} ({kind}), begun {age} ago, {open} of {count} field servers open",
        count=len(operation.visits),
        number=operation.number,
        kind=operation.kind,
        age=age_sentence(now - operation.begun_at),
        open=len(operation.open_goals),
    )


def _run(administrator: Administrator, number: int, goals: Mapping[DeviceId, Goal], *, as_json: bool) -> list[Report]:
    known = administrator.inventory.names()
    names = {device_id: known[device_id] for device_id in goals if device_id in known}
    with console.show_progress(names, is_quiet=as_json) as progress:
        return administrator.run(number, goals, progress)


def show(administrator: Administrator, reports: Sequence[Report], *, as_json: bool, **more: Any) -> None:
    """What came of it; then exit."""
    if as_json:
        records = {record.device_id: record for record in administrator.inventory.field_servers()}
        console.show_json(
            {
                "finished": all(report.is_finished for report in reports),
                "field_servers": [schemas.show_report(one, records.get(one.device_id)) for one in reports],
                **more,
            }
        )
        name_failures(reports)
    else:
        console.show_reports(reports)
    raise typer.Exit(_exit_code(reports))


def go_on(number: Number = None, as_json: AsJson = False, forced: Forced = None) -> None:
    """Go on with operations that were not finished: the laptop was closed, the power failed, somebody pressed stop."""
    with open_administrator(forced=forced) as administrator:
        found = _chosen(administrator, number)
        if not found:
            console.show_result(
                {"finished": True, "field_servers": []}, _("Every operation is finished."), as_json=as_json
            )
            return
        show(administrator, go_on_with(administrator, found, as_json=as_json), as_json=as_json)


def leave(number: Number = None, as_json: AsJson = False) -> None:
    """Give up what operations have left open. What waits to be carried is not touched; sync carries it all the same."""
    with open_administrator() as administrator:
        found = _chosen(administrator, number)
        for operation in found:
            administrator.operations.leave(operation.number, now=administrator.clock.now())
    numbers = [operation.number for operation in found]
    text = _("Left: {numbers}", numbers=", ".join(map(str, numbers))) if numbers else _("Every operation is finished.")
    console.show_result({"left": numbers}, text, as_json=as_json)


def stop(
    number: Annotated[int, typer.Argument(help="The number of an operation that runs in another window.")],
    as_json: AsJson = False,
) -> None:
    """Stop an operation that another window runs: every step that was begun is ended first; go-on takes it up again."""
    with open_administrator() as administrator:
        if not administrator.operations.is_running(number):
            raise Error(
                "not-found", expected=_("an operation that runs"), seen=_("that {number} does not", number=number)
            )
        administrator.operations.ask_to_stop(number)
    console.show_result(
        {"asked_to_stop": number},
        _("Operation {number} stops when the steps that were begun end.", number=number),
        as_json=as_json,
    )


def operations(as_json: AsJson = False) -> None:
    """List operations, those of the pages too: what was begun, what runs, and what was not finished."""
    with open_administrator() as administrator:
        rows = administrator.operations.newest()
    values = [
        {
            "operation": one.number,
            "kind": one.kind,
            "begun_at": one.begun_at,
            "ended_at": one.ended_at,
            "field_servers": one.count,
            "open": one.open_count,
            "state": "running" if one.is_running else "not finished" if one.is_unfinished else "ended",
        }
        for one in rows
    ]
    if as_json:
        console.show_json(values)
        return
    cells = [
        [
            str(v["operation"]),
            str(v["kind"]),
            moment_text(one.begun_at),
            str(v["field_servers"]),
            str(v["open"]),
            str(v["state"]),
        ]
        for v, one in zip(values, rows, strict=True)
    ]
    console.show_table([_("number"), _("what"), _("begun"), _("field servers"), _("open"), _("state")], cells)
    if any(one.is_unfinished for one in rows):
        console.show_text(_("Next: tallystick admin go-on NUMBER, or tallystick admin leave NUMBER"))


def _chosen(administrator: Administrator, number: int | None) -> list[Operation]:
    unfinished = administrator.operations.unfinished()
    if number is None:
        return unfinished
    found = [operation for operation in unfinished if operation.number == number]
    if not found:
        raise Error(
            "not-found",
            expected=_("an operation that was not finished"),
            seen=_("none with number {number}", number=number),
        )
    return found


def _foresee(administrator: Administrator, goals: Mapping[DeviceId, Goal], *, as_json: bool) -> None:
    """Look at the field servers, and show what the goals would do. Nothing else is sent."""
    administrator.workflows.look(goals)
    records, lines = administrator.inventory.field_servers(), administrator.inventory.lines()
    found = forecast(administrator.courier, goals, records, lines=lines, now=administrator.clock.now())
    rows = found.rows
    if as_json:
        console.show_json([schemas.show_foreseen(row) for row in rows])
    else:
        console.show_foreseen(rows, why=found.why)
    if any(row.effect is dry_run_service.PredictedEffect.REFUSED for row in rows):
        raise typer.Exit(REFUSED)


def name_failures(reports: Sequence[Report]) -> None:
    """With ``--json``, too, the reason is on standard error."""
    failed = [report for report in reports if not report.is_finished]
    if failed:
        console.show_reports(failed)


def _exit_code(reports: Sequence[Report]) -> int:
    results = {report.result for report in reports}
    if results <= {GoalResult.DONE, GoalResult.ALREADY}:
        return DONE
    if results == {GoalResult.UNREACHABLE}:
        return UNREACHABLE
    if results <= {GoalResult.REFUSED, GoalResult.FAILED}:
        return REFUSED
    return IN_PART


def activate(
    server: Servers = None,
    everyone: Everyone = False,
    line: Lines = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Put licenses into force: what is planned, or with --line these end states (which are planned, too)."""
    with open_administrator(forced=forced) as administrator:
        chosen = planning.choose_field_servers(administrator.inventory, server, is_everyone=everyone)
        plan = administrator.inventory.assignments()
        if line:
            now = None if dry_run else administrator.clock.now()
            plan = planning.assign(administrator.inventory, line, chosen, now=now, ask=administrator.ask_available)
        goals = planning.activation_goals(plan, chosen, is_everyone=everyone)
        operate(administrator, goals, as_json=as_json, dry_run=dry_run)


def refresh(
    server: Servers = None,
    everyone: Everyone = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Fetch the latest terms of licenses already there ("reclaim"): extended dates, raised quantities."""
    with open_administrator(forced=forced) as administrator:
        chosen = planning.choose_field_servers(administrator.inventory, server, is_everyone=everyone)
        operate(administrator, {record.device_id: Refresh() for record in chosen}, as_json=as_json, dry_run=dry_run)


def return_(
    server: Servers = None,
    everyone: Everyone = False,
    line: Lines = None,
    one_carry: Annotated[
        bool, typer.Option("--one-carry", help="Give up first, then carry the proof once; nothing can be refused then.")
    ] = False,
    final: Annotated[
        bool,
        typer.Option(
            "--final", help="This device is scrapped: give up all in one carry, and never take a license again."
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Give licenses back: all, or with --line down to these end states, so that they can be activated elsewhere."""
    if line and one_carry:
        raise Error("usage", expected=_("--line or --one-carry"), seen=_("both; a one-carry return takes everything"))
    if line and final:
        raise Error("usage", expected=_("--line or --final"), seen=_("both; what is scrapped gives up everything"))
    with open_administrator(forced=forced) as administrator:
        chosen = planning.choose_field_servers(administrator.inventory, server, is_everyone=everyone)
        goal: Goal = TakeOutOfService() if final else ReturnOneCarry() if one_carry else Return()
        if line:
            lines = administrator.inventory.lines()
            pairs = [planning.parse_pair(text) for text in line]
            goal = Return(
                wants=tuple((planning.choose_line(text, lines, chosen).line_id, count) for text, count in pairs)
            )
        operate(administrator, {record.device_id: goal for record in chosen}, as_json=as_json, dry_run=dry_run)


def sync(server: Servers = None, as_json: AsJson = False, forced: Forced = None) -> None:
    """Go on with what was not finished, then carry whatever waits, in both directions, by the route there is."""
    with open_administrator(forced=forced) as administrator:
        every = administrator.inventory.field_servers()
        chosen = planning.find_field_servers(every, server) if server else every
        strays = set() if server else {message.device_id for message in administrator.mailbag.outbound()}
        strays -= {record.device_id for record in every}
        if strays:  # of field servers that were removed from the list
            try:
                administrator.workflows.carry_up(strays)
            except PortError as error:
                console.show_error(error)
        unfinished = [] if server else administrator.operations.unfinished()
        reports = go_on_with(administrator, unfinished, as_json=as_json)
        visited = {report.device_id for report in reports}
        goals = {record.device_id: Sync() for record in chosen if record.device_id not in visited}
        reports += run(administrator, goals, as_json=as_json)
        show(administrator, reports, as_json=as_json, went_on=[one.number for one in unfinished])
