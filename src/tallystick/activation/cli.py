"""The command ``tallystick activation``. Every command works beside a running ``serve`` on the same data.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nothing could be reached, 4 done in part.
"""

from __future__ import annotations

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from tallystick.activation.commands import (
    catalog,
    console,
    entitlements,
    field_servers,
    keys,
    messages,
    people,
    trail,
    upkeep,
    webhooks,
)
from tallystick.activation.commands.console import AsJson, By, Data, Database
from tallystick.errors import Error
from tallystick.sentences import _
from tallystick.terminal import json_text, quoted, tell

DEFAULT_PORT: Final = 8470
PRUNE_DAYS_MIN: Final = 30

app = typer.Typer(
    name="activation",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The activation server: what was bought, and what is activated where.",
)


class EnrolmentChoice(StrEnum):
    """Who may become known (see ``activation.ports.Enrolment``, which is not imported for ``--help``)."""

    OPEN = "open"
    LISTED = "listed"


@app.command(epilog="Example: tallystick activation init --data /var/lib/tallystick --issuer licenses.example.com")
def init(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A new or empty directory.")],
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="NAME", help="Its name in every message; it cannot be changed.")
    ] = None,
    enrolment: Annotated[
        EnrolmentChoice,
        typer.Option("--enrolment", help="Who may become known: who proves an activation ID, or who is listed."),
    ] = EnrolmentChoice.OPEN,
    waiting_days: Annotated[int, typer.Option("--waiting-days", help="How long what is declared lost waits.")] = 14,
    lost_per_year: Annotated[int, typer.Option("--lost-per-year", help="How many an account may declare lost.")] = 3,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make an activation server: its keys, its keyset, its database, its settings."""
    from tallystick.activation.core.ports import Enrolment, Policy
    from tallystick.activation.keys.signing import KEYS_DIRECTORY, ROOT_FILE
    from tallystick.activation.server.instance import initialise

    with console.report_errors(as_json):
        policy = Policy(enrolment=Enrolment(enrolment), waiting_days=waiting_days, lost_per_year=lost_per_year)
        activation = initialise(data, issuer=issuer, policy=policy, database=database)
        activation.close()
        keyset = activation.signer.keyset
        root_file = data / KEYS_DIRECTORY / ROOT_FILE
        if as_json:
            view = {"issuer": keyset.issuer, "root_fingerprint": keyset.root_fingerprint, "data": str(data)}
            console.print_json(view | {"keyset_version": keyset.version, "root_key_file": str(root_file)})
            return
        console.say(
            _(
                "Activation server {issuer}, root {root_fingerprint}",
                issuer=keyset.issuer,
                root_fingerprint=keyset.root_fingerprint,
            )
        )
        console.say(
            _(
                "{root_file} is needed for the next keyset only: move it to a safe place. Signing goes on without it.",
                root_file=root_file,
            )
        )
        console.say(
            _("Next: tallystick activation catalog load examples/catalog.yaml --data {data}", data=quoted(data))
        )


@app.command(epilog="Example: tallystick activation serve --data /var/lib/tallystick --host 0.0.0.0 --port 8470")
def serve(
    data: Data,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = DEFAULT_PORT,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="How many processes: up to one for each core.")
    ] = 1,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C. Prints its address when it listens."""
    if workers == 1:
        _serve(data, host, port, workers, database, as_json)
        return
    with tempfile.TemporaryDirectory(prefix="tallystick-metrics-") as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # before anything that counts is imported
        _serve(data, host, port, workers, database, as_json)


def _serve(data: Path, host: str, port: int, workers: int, database: str | None, as_json: bool) -> None:
    from tallystick.activation import logs
    from tallystick.activation.server import service

    with console.opened(data, database, as_json=as_json, service=True) as activation:
        logs.set_up(activation.settings.log)
        keyset = activation.signer.keyset

        def announce(url: str, setup_code: str | None) -> None:
            view = {"url": url, "issuer": keyset.issuer, "root_fingerprint": keyset.root_fingerprint}
            lines = [_("{issuer} listens at {url}", issuer=keyset.issuer, url=url)]
            if setup_code is not None:
                view |= {"setup_url": f"{url}/set-up", "setup_code": setup_code}
                lines.append(_("First run: open {url}/set-up and use the set-up code {code}", url=url, code=setup_code))
            for line in [json_text(view, indent=None)] if as_json else lines:
                tell(line)

        if workers == 1:
            service.serve(activation, host=host, port=port, announce=announce)
            return
        setup_code = service.make_setup_code(activation)
    # Opened above to refuse early; nothing that is open survives into the workers.
    with console.report_errors(as_json):
        if not service.serve_with_workers(
            lambda: console.opened(data, database, as_json=False, service=True),
            workers,
            host=host,
            port=port,
            announce=lambda url: announce(url, setup_code),
        ):
            raise typer.Exit(console.REFUSED)


@app.command(epilog="Example: tallystick activation verify --data DIR")
def verify(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Recompute every balance from the ledger alone, and look for rows that were changed or are missing. Changes nothing."""
    from tallystick.activation.storage import verify_database

    with console.opened(data, database, as_json=as_json, is_moved_good=True) as activation:
        report = activation.read(verify_database)
        view = {"lines": report.lines, "entries": report.entries, "field_servers": report.field_servers}
        if as_json and report.is_green:
            console.print_json({"green": True, **view, "faults": []})
        elif report.is_green:
            counts = _(
                "{entries} entries, {lines} lines, {servers} field servers",
                entries=report.entries,
                lines=report.lines,
                servers=report.field_servers,
            )
            console.say(_("Green: every balance follows from the ledger ({counts}).", counts=counts))
        else:
            for fault in report.faults:
                tell(fault, error=True)
            seen = _("{count} contradictions; the first: {first}", count=len(report.faults), first=report.faults[0])
            raise Error("ledger-wrong", expected=_("balances that follow from the ledger"), seen=seen)


@app.command(
    epilog="Example: tallystick activation migrate --data DIR --database postgresql+psycopg://localhost/tallystick"
)
def migrate(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Bring the schema of the database up to date. (For SQLite, serve does it by itself.)"""
    from tallystick.activation.server.instance import database_url
    from tallystick.activation.storage import migrate_database

    with console.report_errors(as_json):
        before, after = migrate_database(database_url(data, database))
        if as_json:
            console.print_json({"before": before, "after": after})
        else:
            console.say(
                _("The schema is {after}.", after=after)
                if before == after
                else _("The schema was {before}, it is {after}.", before=before or "none", after=after)
            )


@app.command(
    "copy-database",
    epilog="Example: tallystick activation copy-database --data DIR --to postgresql+psycopg://localhost/tallystick",
)
def copy_database(
    data: Data,
    to: Annotated[str, typer.Option("--to", metavar="URL", help="An empty database, which gets the schema too.")],
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Copy everything into another database, SQLite to PostgreSQL say, and verify the copy.

    Refused while anything else uses the source. From then on the copy is the activation server's, and the source is not.
    """
    from tallystick.activation.keys.signing import load_keyset
    from tallystick.activation.server.instance import Activation, check_database, database_url
    from tallystick.activation.storage import copy_database, open_store

    with console.report_errors(as_json):
        copied: dict[str, int] = {}
        source, target = open_store(database_url(data, database)), None
        try:
            check_database(source, load_keyset(data))
            target = open_store(to, create=True)
            report = copy_database(source, target, now=Activation.now(), advance=copied.__setitem__)
        finally:
            source.close()
            if target is not None:
                target.close()
        if as_json:
            view = {"rows": copied, "lines": report.lines, "entries": report.entries}
            console.print_json(view | {"field_servers": report.field_servers, "green": report.is_green})
            return
        console.say(
            _(
                "{values} rows in {count} tables are copied, and the books of the copy add up.",
                values=sum(copied.values()),
                count=len(copied),
            )
        )
        console.say(
            _(
                "Next: in {data}/settings.toml set database to the new one, and start serve. Keep the old one away.",
                data=data,
            )
        )


@app.command(epilog="Example: tallystick activation prune --older-than 730 --data DIR")
def prune(
    data: Data,
    older_than: Annotated[
        int, typer.Option("--older-than", metavar="DAYS", min=PRUNE_DAYS_MIN, help="How long a reply can be repeated.")
    ],
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Delete stored replies that nobody needs any more. The ledger stays whole; see docs/operations/retention.md."""
    from tallystick.activation.storage import prune as prune_store

    with console.opened(data, database, as_json=as_json) as activation:
        before = activation.now() - older_than * 86_400
        # Deleting takes many transactions, any of which may be the last: it is told before the first.
        with console.noted(data, database, by=by) as note:
            note("prune", "stored replies", f"older than {older_than} days")
        pruned = prune_store(activation.store, before=before, advance=lambda _other: None)
        if as_json:
            view = {"messages": pruned.messages, "messages_kept": pruned.messages_kept}
            console.print_json(view | {"grants": pruned.grants, "grants_kept": pruned.grants_kept})
            return
        console.say(
            _(
                "{messages} stored replies and {grants} grant digests are deleted.",
                messages=pruned.messages,
                grants=pruned.grants,
            )
        )
        console.say(
            _(
                "{messages_kept} replies and {grants_kept} grant digests stay, and the whole ledger.",
                messages_kept=pruned.messages_kept,
                grants_kept=pruned.grants_kept,
            )
        )


_EXAMPLE: Final = "Example: tallystick activation"
app.command("message", epilog=f"{_EXAMPLE} message request.tally -o reply.tally --data DIR")(messages.message)
app.command("lines", epilog=f"{_EXAMPLE} lines --data DIR")(entitlements.lines)
app.command("ledger", epilog=f"{_EXAMPLE} ledger 7K3M9Q2A --data DIR")(entitlements.ledger)
app.command("lift-freeze", epilog=f"{_EXAMPLE} lift-freeze --all --data DIR")(entitlements.lift_freeze)
app.command("returns", epilog=f"{_EXAMPLE} returns --data DIR")(field_servers.returns)
app.command("field-servers", epilog=f"{_EXAMPLE} field-servers --data DIR")(field_servers.field_servers)
app.command("incidents", epilog=f"{_EXAMPLE} incidents --data DIR")(field_servers.incidents)
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
app.add_typer(upkeep.config_app, name="config")
app.add_typer(people.account_app, name="account")
app.add_typer(people.person_app, name="person")
app.add_typer(people.token_app, name="token")
app.add_typer(catalog.catalog_app, name="catalog")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(webhooks.webhooks_app, name="webhooks")
app.add_typer(entitlements.entitlement_app, name="entitlement")
app.add_typer(entitlements.line_app, name="line")
app.add_typer(field_servers.field_server_app, name="field-server")
