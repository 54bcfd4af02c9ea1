"""The command line of Device Administrator, ``tallystick admin``.

Exit codes: 0 done; 1 refused (the reason on standard error: code, expected, seen, next step); 2 wrong usage; 3 nothing
could be reached; 4 done in part: standard error says which, and what next. Messages that wait to be carried are "in
part": the wish is written, and nothing of it is lost, but it is not in force, or not proven, yet.
"""

from __future__ import annotations

from typing import Any

import typer
import typer.core

from tallystick.administrator.commands import (
    console,
    entitlements,
    field_servers,
    messages,
    operations,
    plan,
    proxy,
    status,
    web,
)
from tallystick.administrator.commands.operations import REFUSED, UNREACHABLE, USAGE
from tallystick.errors import Error
from tallystick.terminal import AS_JSON, FOR_PROGRAM

_EXIT_CODES = {"usage": USAGE, "unreachable": UNREACHABLE, "certificate-untrusted": UNREACHABLE}


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
app.command(epilog="Example: tallystick admin servers --json")(field_servers.servers)
app.command(epilog="Example: tallystick admin show roof")(field_servers.show)
app.command(epilog="Example: tallystick admin route")(status.route)
app.command(epilog="Example: tallystick admin status")(status.status)

# Entitlements and the plan

entitlement_app.command(
    "add", epilog="Example: tallystick admin entitlement add EN-... --activation https://a.example"
)(entitlements.entitlement_add)
entitlement_app.command("list", epilog="Example: tallystick admin entitlement list")(entitlements.entitlement_list)
app.command(epilog="Example: tallystick admin assign 7K3M9Q2A=2 roof cellar")(plan.assign)
app.command(epilog="Example: tallystick admin unassign 7K3M9Q2A roof")(plan.unassign)

# Operations

app.command(epilog="Example: tallystick admin activate roof --line 7K3M9Q2A=2")(operations.activate)
app.command(epilog="Example: tallystick admin refresh --all")(operations.refresh)
app.command("return", epilog="Example: tallystick admin return roof cellar")(operations.return_)
app.command(epilog="Example: tallystick admin sync")(operations.sync)
app.command("go-on", epilog="Example: tallystick admin go-on")(operations.go_on)
app.command(epilog="Example: tallystick admin leave 7")(operations.leave)
app.command(epilog="Example: tallystick admin stop 7")(operations.stop)
app.command(epilog="Example: tallystick admin operations")(operations.operations)

# Files

app.command(epilog="Example: tallystick admin export /media/stick/requests.tally")(messages.export)
app.command("import", epilog="Example: tallystick admin import /media/stick/replies.tally")(messages.import_)
app.command(epilog="Example: tallystick admin receipts --save receipts.tally")(messages.receipts)

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
