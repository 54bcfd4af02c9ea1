"""The command line of Device Administrator, ``tallystick admin``.

Exit codes: 0 done; 1 refused (the reason on standard error: code, expected, seen, next step); 2 wrong usage; 3 nothing
could be reached; 4 done in part: standard error says which, and what next. Messages that wait to be carried are "in
part": the wish is written, and nothing of it is lost, but it is not in force, or not proven, yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from tallystick.administrator.app import open_administrator
from tallystick.administrator.commands import console, field_servers, operations, proxy, web
from tallystick.administrator.commands.console import (
    AsJson,
    DryRun,
    Everyone,
    Forced,
    Lines,
    Server,
    Servers,
)
from tallystick.administrator.commands.operations import IN_PART, REFUSED, UNREACHABLE, USAGE
from tallystick.administrator.core import pinning, planning, schemas
from tallystick.administrator.core.file_courier import Import, write_durably, write_export
from tallystick.administrator.core.goals import (
    Goal,
    GoalResult,
    Refresh,
    Return,
    ReturnOneCarry,
    Sync,
    TakeOutOfService,
)
from tallystick.administrator.core.next_steps import Phase, step_sentence
from tallystick.administrator.ports import PortError
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.protocol.tallyfile import format_file
from tallystick.sentences import _, _n
from tallystick.terminal import AS_JSON, FOR_PROGRAM, arguments

_EXIT_CODES = {"usage": USAGE, "unreachable": UNREACHABLE, "certificate-untrusted": UNREACHABLE}
_OPEN = (Phase.TROUBLE, Phase.DELIVER, Phase.PROVE, Phase.ASK)


class _Commands(typer.core.TyperGroup):
    """Turns what was refused into its exit code, once for all commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether a program asks, before the words are told apart."""
        ctx.meta[FOR_PROGRAM] = AS_JSON in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Error as error:
            console.show_refusal(error, as_json=ctx.meta[FOR_PROGRAM])
            raise typer.Exit(_EXIT_CODES.get(error.code, REFUSED)) from error


app = typer.Typer(
    cls=_Commands,
    name="admin",
    help="Device Administrator: assign, activate, refresh and return licenses on field servers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
entitlement_app = typer.Typer(help="What was bought: entitlements and their lines.", no_args_is_help=True)
app.add_typer(entitlement_app, name="entitlement", epilog="Example: tallystick admin entitlement list")


# The list of field servers

app.command(epilog="Example: tallystick admin add https://10.0.0.7:8443 --password-file roof.txt")(field_servers.add)
app.command(epilog="Example: tallystick admin find")(field_servers.find)
app.command(epilog="Example: tallystick admin remove roof")(field_servers.remove)
app.command(epilog='Example: tallystick admin site "North building" roof cellar')(field_servers.site)
app.command(epilog="Example: tallystick admin report -o north.pdf --site North")(field_servers.report)
app.command(epilog="Example: tallystick admin proxy http://proxy.example:3128 --user ann")(proxy.proxy)
app.command(epilog="Example: tallystick admin web")(web.web)


@app.command(epilog="Example: tallystick admin servers --json")
def servers(as_json: AsJson = False, forced: Forced = None) -> None:
    """List field servers: site, kind, address, whether reachable, licenses, violations, and what is open."""
    with open_administrator(forced=forced) as administrator:
        reached, has_route = administrator.look()
        records = administrator.inventory.field_servers()
        steps = administrator.workflows.standings(has_route=has_route)
    if as_json:
        console.show_json(
            [
                schemas.show_field_server(
                    one, is_reached=reached[one.device_id], next_step=step_sentence(steps[one.device_id])
                )
                for one in records
            ]
        )
        return
    console.show_list([(record, steps[record.device_id], reached[record.device_id]) for record in records])


@app.command(epilog="Example: tallystick admin show roof")
def show(server: Server, as_json: AsJson = False, forced: Forced = None) -> None:
    """Show everything about one field server: licenses, features, what waits, what became of its last messages."""
    with open_administrator(forced=forced) as administrator:
        record = planning.find_field_server(administrator.inventory.field_servers(), server)
        is_reached = administrator.workflows.look([record.device_id])[record.device_id]
        record = administrator.inventory.field_server(record.device_id) or record
        step = administrator.workflows.next_step(record.device_id)
        plan = administrator.inventory.assignments(record.device_id)
        value = schemas.show_field_server(
            record, is_reached=is_reached, next_step=step_sentence(step)
        ) | schemas.show_details(record, plan, administrator.mailbag)
    if as_json:
        console.show_json(value)
        return
    console.show_text(
        _(
            "{record} ({kind}) at {address}, device {device_id}",
            record=record.name,
            kind=record.kind,
            address=record.address,
            device_id=record.device_id,
        )
    )
    console.show_text(
        _(
            "Certificate {fingerprint}; {value}",
            fingerprint=record.contact.fingerprint,
            value="reached now" if is_reached else "not reached",
        )
    )
    console.show_table(
        [_("line"), _("product"), _("quantity")], console.cells(value["licenses"], "line", "product", "quantity")
    )
    columns = ("feature", "required", "used", "available", "activated", "standing", "why")
    console.show_table(columns, console.cells(value["features"], *columns))
    for feature in value["features"]:
        if feature["violation"]:
            console.show_text(_("VIOLATION: {feature}: {why}", feature=feature["feature"], why=feature["why"]))
    if text := step_sentence(step):
        console.show_text(_("Next: {step}", step=text))


@app.command(epilog="Example: tallystick admin route")
def route(as_json: AsJson = False, forced: Forced = None) -> None:
    """Find the route to the activation server: online, semi-online or offline, and why."""
    with open_administrator(forced=forced) as administrator:
        found = administrator.courier.find_route(administrator.inventory.field_servers())
    console.show_result(
        schemas.show_route(found), _("{route}: {why}", route=found.route, why=found.why), as_json=as_json
    )


@app.command(epilog="Example: tallystick admin status")
def status(as_json: AsJson = False) -> None:
    """Say what waits and what is open, from what is known here, without asking anybody."""
    with open_administrator() as administrator:
        now = administrator.clock.now()
        names = administrator.inventory.names()
        steps = administrator.workflows.standings()
        up, down = administrator.mailbag.outbound(), administrator.mailbag.inbound()
        value: dict[str, Any] = {
            "field_servers": len(names),
            "entitlements": len(administrator.inventory.entitlements()),
            "outbound": len(up),
            "inbound": len(down),
            "receipts": len(administrator.mailbag.receipts()),
            "open": [
                {
                    "name": names[device_id],
                    "device_id": device_id,
                    "phase": str(step.phase),
                    "age_seconds": None if step.since_at is None else max(0, now - step.since_at),
                    "next_step": step_sentence(step),
                }
                for device_id, step in steps.items()
                if step.phase in {*_OPEN, Phase.PLANNED}
            ],
        }
        unfinished = administrator.operations.unfinished()
        value["unfinished"] = [
            {"operation": one.number, "kind": one.kind, "open": len(one.open_goals), "field_servers": len(one.visits)}
            for one in unfinished
        ]
        notes = [operations.operation_text(one, now=now) for one in unfinished]
    if as_json:
        console.show_json(value)
        return
    console.show_text(
        _(
            "{servers}, {entitlements}; waiting: {up} up, {down} down; {receipts}",
            servers=_n("{count} field server", "{count} field servers", count=len(names)),
            entitlements=_n("{count} entitlement", "{count} entitlements", count=value["entitlements"]),
            up=_n("{count} message", "{count} messages", count=len(up)),
            down=_n("{count} reply", "{count} replies", count=len(down)),
            receipts=_n("{count} receipt", "{count} receipts", count=value["receipts"]),
        )
    )
    console.show_table(
        [_("name"), _("phase"), _("next step")], console.cells(value["open"], "name", "phase", "next_step")
    )
    for note in notes:
        console.show_text(_("Not finished: {note}. Next: tallystick admin go-on", note=note))


# Entitlements and the plan


@entitlement_app.command(
    "add", epilog="Example: tallystick admin entitlement add EN-... --activation https://a.example"
)
def entitlement_add(
    entitlement: Annotated[
        str, typer.Argument(help="An entitlement ID, or a certificate file.", metavar="ID|FILE.tally")
    ],
    activation: Annotated[str | None, typer.Option(help="URL of the activation server.", metavar="URL")] = None,
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Learn an entitlement: online by its ID, offline by its certificate file."""
    with open_administrator(forced=forced) as administrator:
        path = Path(entitlement)
        before = {known.compact for known in administrator.inventory.entitlements()}
        if path.is_file() or path.suffix == ".tally":
            chosen = pinning.learn_certificate(
                administrator.courier,
                administrator.inventory,
                administrator.mailbag,
                path=path,
                url=activation,
                now=administrator.clock.now(),
            )
        else:
            chosen = [
                pinning.learn_entitlement(
                    administrator.courier,
                    administrator.inventory,
                    text=entitlement,
                    url=activation,
                    now=administrator.clock.now(),
                )
            ]
        values = [schemas.show_entitlement(known, administrator.inventory) for known in chosen]
        is_new = any(known.compact not in before for known in chosen)
    if as_json:
        console.show_json({**(values[0] if len(values) == 1 else {}), "entitlements": values, "added": is_new})
        return
    for value in values:
        console.show_entitlement(value)


@entitlement_app.command("list", epilog="Example: tallystick admin entitlement list")
def entitlement_list(as_json: AsJson = False) -> None:
    """List known entitlements with their lines: bought, planned, and seen on field servers."""
    with open_administrator() as administrator:
        values = [
            schemas.show_entitlement(known, administrator.inventory) for known in administrator.inventory.entitlements()
        ]
    if as_json:
        console.show_json(values)
        return
    for value in values:
        console.show_entitlement(value)


@app.command(epilog="Example: tallystick admin assign 7K3M9Q2A=2 roof cellar")
def assign(
    line: Annotated[
        str, typer.Argument(help="Line id, activation ID or product; quantity on each.", metavar="LINE=QTY")
    ],
    server: Servers = None,
    everyone: Everyone = False,
    as_json: AsJson = False,
) -> None:
    """Plan a license on field servers. Changes nothing on them yet: that is what activate does."""
    with open_administrator() as administrator:
        chosen = planning.choose_field_servers(administrator.inventory, server, is_everyone=everyone)
        assignments = planning.assign(administrator.inventory, [line], chosen, now=administrator.clock.now())
        names = administrator.inventory.names()
    value = {
        "assigned": [
            {"name": names[one.device_id], "device_id": one.device_id, "line": one.line_id, "quantity": one.quantity}
            for one in assignments
        ],
        "next_step": "tallystick admin activate",
    }
    text = ", ".join(f"{names[one.device_id]}: {one.line_id}={one.quantity}" for one in assignments)
    console.show_result(
        value,
        _(
            "Planned {text}. Next: tallystick admin activate {chosen}",
            text=text,
            chosen=arguments(*(names[r.device_id] for r in chosen)),
        ),
        as_json=as_json,
    )


@app.command(epilog="Example: tallystick admin unassign 7K3M9Q2A roof")
def unassign(
    line: Annotated[str, typer.Argument(help="Line id, activation ID or product.", metavar="LINE")],
    server: Servers = None,
    everyone: Everyone = False,
    as_json: AsJson = False,
) -> None:
    """Remove a license from the plan. What is in force stays in force."""
    with open_administrator() as administrator:
        chosen = planning.choose_field_servers(administrator.inventory, server, is_everyone=everyone)
        found = planning.choose_line(line, administrator.inventory.lines(), chosen)
        for record in chosen:
            administrator.inventory.unplan(record.device_id, [found.line_id])
    console.show_result(
        {"line": found.line_id, "field_servers": [record.name for record in chosen]},
        _(
            "{line_id} is no longer planned on {chosen}",
            line_id=found.line_id,
            chosen=", ".join(record.name for record in chosen),
        ),
        as_json=as_json,
    )


# Operations


@app.command(epilog="Example: tallystick admin activate roof --line 7K3M9Q2A=2")
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
            plan = planning.assign(administrator.inventory, line, chosen, now=now)
        goals = planning.activation_goals(plan, chosen, is_everyone=everyone)
        operations.operate(administrator, goals, as_json=as_json, dry_run=dry_run)


@app.command(epilog="Example: tallystick admin refresh --all")
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
        operations.operate(
            administrator, {record.device_id: Refresh() for record in chosen}, as_json=as_json, dry_run=dry_run
        )


@app.command("return", epilog="Example: tallystick admin return roof cellar")
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
        operations.operate(
            administrator, {record.device_id: goal for record in chosen}, as_json=as_json, dry_run=dry_run
        )


@app.command(epilog="Example: tallystick admin sync")
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
        reports = operations.go_on_with(administrator, unfinished, as_json=as_json)
        visited = {report.device_id for report in reports}
        goals = {record.device_id: Sync() for record in chosen if record.device_id not in visited}
        reports += operations.run(administrator, goals, as_json=as_json)
        operations.show(administrator, reports, as_json=as_json, went_on=[one.number for one in unfinished])


app.command("go-on", epilog="Example: tallystick admin go-on")(operations.go_on)
app.command(epilog="Example: tallystick admin leave 7")(operations.leave)
app.command(epilog="Example: tallystick admin stop 7")(operations.stop)
app.command(epilog="Example: tallystick admin operations")(operations.operations)


# Files


@app.command(epilog="Example: tallystick admin export /media/stick/requests.tally")
def export(
    file: Annotated[Path, typer.Argument(help="Where to write.", metavar="FILE.tally")], as_json: AsJson = False
) -> None:
    """Write all messages that wait for the activation server to one file. Again gives the same messages."""
    with open_administrator() as administrator:
        waiting = administrator.mailbag.outbound()
        names = administrator.inventory.names()
        devices = {message.device_id for message in waiting}
        if waiting:
            write_export(file, waiting, names=names)
            administrator.mailbag.note_exported([one.digest for one in waiting], now=administrator.clock.now())
    next_step = (
        _("Upload {file} at the activation server, then: tallystick admin import REPLY.tally", file=file)
        if waiting
        else _("Nothing waits here. What field servers have written is gathered by: tallystick admin sync")
    )
    value = {
        "file": str(file) if waiting else None,
        "messages": len(waiting),
        "field_servers": sorted(names.get(device_id, device_id) for device_id in devices),
        "issuers": sorted({message.issuer for message in waiting}),
        "next_step": next_step,
    }
    console.show_result(
        value,
        _(
            "{messages} of {servers}. {next_step}",
            messages=_n("{count} message", "{count} messages", count=len(waiting)),
            servers=_n("{count} field server", "{count} field servers", count=len(devices)),
            next_step=next_step,
        ),
        as_json=as_json,
    )


@app.command("import", epilog="Example: tallystick admin import /media/stick/replies.tally")
def import_(
    files: Annotated[
        list[Path], typer.Argument(help="Any files that came back, in any order.", metavar="FILE.tally...")
    ],
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Take in replies, keys and entitlement certificates, and deliver replies to field servers that can be reached."""
    with open_administrator(forced=forced) as administrator:
        reading = Import(
            inventory=administrator.inventory,
            mailbag=administrator.mailbag,
            courier=administrator.courier,
            now=administrator.clock.now(),
        )
        for file in files:
            reading.read(file)
        result = reading.result
        if not result.good and not result.bad:
            raise Error("not-text", expected=_("a tally file with at least one line"), seen=_("nothing in it"))
        waiting = {reply.device_id for reply in administrator.mailbag.inbound()}
        goals: dict[DeviceId, Goal] = {device_id: Sync() for device_id in sorted(reading.device_ids & waiting)}
        reports = operations.run(administrator, goals, as_json=as_json)
        records = {record.device_id: record for record in administrator.inventory.field_servers()}
    if as_json:
        shown = [schemas.show_report(one, records.get(one.device_id)) for one in reports]
        console.show_json({**schemas.show_import(result, reading.bad_lines), "field_servers": shown})
        operations.name_failures(reports)
    else:
        console.show_text(
            _(
                "Taken in: {replies}, {keysets}, {entitlements}, {requests} for the activation server; {fresh} of them new",
                replies=_n("{count} reply", "{count} replies", count=result.replies),
                keysets=_n("{count} keyset", "{count} keysets", count=result.keysets),
                entitlements=_n("{count} entitlement", "{count} entitlements", count=result.entitlements),
                requests=_n("{count} message", "{count} messages", count=result.requests),
                fresh=result.fresh,
            )
        )
        if reports:
            console.show_reports(reports)
    for bad in reading.bad_lines:
        console.show_error(
            PortError(
                bad.code,
                expected=_("line {line_number} of {file} to be good", line_number=bad.line_number, file=bad.file)
                if bad.line_number
                else _("to read {file}", file=bad.file),
                seen=bad.detail,
                next_step=bad.next_step,
            )
        )
    if result.bad:
        raise typer.Exit(IN_PART if result.good else REFUSED)
    if any(report.result in {GoalResult.REFUSED, GoalResult.FAILED, GoalResult.INTERRUPTED} for report in reports):
        raise typer.Exit(IN_PART)


@app.command(epilog="Example: tallystick admin receipts --save receipts.tally")
def receipts(
    save: Annotated[Path | None, typer.Option(help="Also write the signed receipts to a tally file.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the receipts: signed proofs, kept for ever, that rights came back to their lines."""
    with open_administrator() as administrator:
        kept = administrator.mailbag.receipts()
        keysets = administrator.inventory.keysets()
    if save is not None:
        envelopes = [*(keyset.compact for keyset in keysets), *(receipt.compact for receipt in kept)]
        write_durably(
            save, b"".join(format_file(envelopes, comment="Tallystick: receipts, and the keys to check them."))
        )
    if as_json:
        console.show_json([schemas.show_receipt(receipt) for receipt in kept])
        return
    rows = [
        [one.name, one.issuer, ", ".join(f"{line} +{quantity}" for line, quantity in one.credits), one.digest]
        for one in kept
    ]
    console.show_table([_("field server"), _("issuer"), _("credited"), _("digest")], rows)


# How --help groups them

_PANELS = {
    "Field servers": ("servers", "show", "add", "find", "site", "remove"),
    "Licenses": ("assign", "unassign", "activate", "return", "refresh"),
    "Carrying": ("sync", "export", "import", "status", "route", "proxy"),
    "Operations": ("operations", "go-on", "leave", "stop"),
    "For the customer": ("report", "receipts"),
}
for _command in app.registered_commands:
    _name = _command.name or getattr(_command.callback, "__name__", "")
    _command.rich_help_panel = next((panel for panel, names in _PANELS.items() if _name in names), None)
