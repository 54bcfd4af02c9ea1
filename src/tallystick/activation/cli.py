"""The command ``tallystick activation``. Every command works beside a running ``serve`` on the same data.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nothing could be reached, 4 done in part.
"""

from __future__ import annotations

from typing import Final

import typer

from tallystick.activation.commands import (
    catalog,
    config,
    entitlements,
    field_servers,
    incidents,
    instance,
    keys,
    messages,
    people,
    trail,
    upkeep,
    webhooks,
)

app = typer.Typer(
    name="activation",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The activation server: what was bought, and what is activated where.",
)

_EXAMPLE: Final = "Example: tallystick activation"

app.command(epilog=f"{_EXAMPLE} init --data /var/lib/tallystick --issuer licenses.example.com")(instance.init)
app.command(epilog=f"{_EXAMPLE} serve --data /var/lib/tallystick --host 0.0.0.0 --port 8470")(instance.serve)
app.command(epilog=f"{_EXAMPLE} verify --data DIR")(upkeep.verify)
app.command(epilog=f"{_EXAMPLE} migrate --data DIR --database postgresql+psycopg://localhost/tallystick")(
    upkeep.migrate
)
app.command(
    "copy-database",
    epilog=f"{_EXAMPLE} copy-database --data DIR --to postgresql+psycopg://localhost/tallystick",
)(upkeep.copy_database)
app.command(epilog=f"{_EXAMPLE} prune --older-than 730 --data DIR")(upkeep.prune)
app.command("message", epilog=f"{_EXAMPLE} message request.tally -o reply.tally --data DIR")(messages.message)
app.command("lines", epilog=f"{_EXAMPLE} lines --data DIR")(entitlements.lines)
app.command("ledger", epilog=f"{_EXAMPLE} ledger 7K3M9Q2A --data DIR")(entitlements.ledger)
app.command("lift-freeze", epilog=f"{_EXAMPLE} lift-freeze --all --data DIR")(entitlements.lift_freeze)
app.command("returns", epilog=f"{_EXAMPLE} returns --data DIR")(field_servers.returns)
app.command("field-servers", epilog=f"{_EXAMPLE} field-servers --data DIR")(field_servers.field_servers)
app.command("incidents", epilog=f"{_EXAMPLE} incidents --data DIR")(incidents.incidents)
app.command("reply", epilog=f"{_EXAMPLE} reply DIGEST --data DIR")(field_servers.reply)
app.command("return", epilog=f"{_EXAMPLE} return plant-room -o return.tally --data DIR")(field_servers.start_return)
app.command("change", epilog=f"{_EXAMPLE} change plant-room --line 7K3M9Q2A=2 -o change.tally --data DIR")(
    field_servers.start_change
)
app.command("declare-lost", epilog=f"{_EXAMPLE} declare-lost plant-room --reason burnt --data DIR")(
    field_servers.declare_lost
)
app.command("replace", epilog=f"{_EXAMPLE} replace old --with new --reason burnt -o change.tally --data DIR")(
    field_servers.replace
)
app.command("hold", epilog=f"{_EXAMPLE} hold plant-room --reason 'two were seen' --data DIR")(field_servers.hold)
app.command("retire", epilog=f"{_EXAMPLE} retire plant-room --data DIR")(field_servers.retire)
app.command("release", epilog=f"{_EXAMPLE} release plant-room --data DIR")(field_servers.release)
app.command("audit", epilog=f"{_EXAMPLE} audit --data DIR")(trail.audit)
app.command("events", epilog=f"{_EXAMPLE} events --after 1200 --data DIR")(webhooks.events)
app.command("enrol", epilog=f"{_EXAMPLE} enrol DEVICE_ID --account Harbour --data DIR")(field_servers.enrol)
app.command("clock", epilog=f"{_EXAMPLE} clock --data DIR")(upkeep.clock)
app.command("backup", epilog=f"{_EXAMPLE} backup -o backup.tar.gz --data DIR")(upkeep.backup)
app.command("restore", epilog=f"{_EXAMPLE} restore --from backup.tar.gz --data NEW-DIR")(upkeep.restore)
app.add_typer(config.config_app, name="config")
app.add_typer(people.account_app, name="account")
app.add_typer(people.person_app, name="person")
app.add_typer(people.token_app, name="token")
app.add_typer(catalog.catalog_app, name="catalog")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(webhooks.webhooks_app, name="webhooks")
app.add_typer(entitlements.entitlement_app, name="entitlement")
app.add_typer(entitlements.line_app, name="line")
app.add_typer(field_servers.field_server_app, name="field-server")
app.add_typer(incidents.incident_app, name="incident")
