"""Commands for those who run an activation server: backup, restore, verify, migrate, prune."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from tallystick.activation.commands import (
    console,
)
from tallystick.activation.commands.console import AsJson, By, Data, Database
from tallystick.errors import Error
from tallystick.sentences import _, spoken
from tallystick.terminal import print_text

_PASSPHRASE_BYTES_MAX: Final = 4096

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="The passphrase of the keys in the backup; else it is asked."
    ),
]


def backup(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The backup to write, like a.tar.gz.")],
    data: Data,
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="The signing key, too, sealed with a passphrase.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Write a consistent backup while the server serves. The root key is never part of it."""
    from tallystick.activation.server import backups
    from tallystick.activation.server.instance import Activation, sqlite_file

    with console.report_errors(as_json):
        made = backups.make_backup(
            data,
            output,
            database=sqlite_file(data, database),
            passphrase=_passphrase(passphrase_file, again=True) if with_keys else None,
            random_bytes=Activation.random_bytes,
            now=Activation.now(),
        )
        if as_json:
            view = {"file": str(output), "issuer": made.issuer, "made_at": made.made_at}
            console.print_json(view | {"database": made.has_database, "keys": made.has_keys})
            return
        console.say(
            _(
                "{output}: a backup of {issuer}{value}.",
                output=output,
                issuer=made.issuer,
                value=", with its signing key, sealed" if made.has_keys else "",
            )
        )
        if not made.has_keys:
            console.say(
                _(
                    "Keep apart from it: {data}/keys/signing.pem (or use --with-keys); without it nothing is signed.",
                    data=data,
                )
            )
        console.say(
            _("Keep apart from both: the root key, which is never in a backup, and passphrases of the environment.")
        )
        if not made.has_database:
            console.say(_("The database is on PostgreSQL: back it up with PostgreSQL's tools (pg_dump, pgBackRest)."))


def clock(
    data: Data,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="You have looked: the clock is right now. Waiting periods may end again.")
    ] = False,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """How long the activation server was in service with a steady clock, which is what waiting periods count."""
    from tallystick.activation.core.clock import NOBODY, confirm_clock
    from tallystick.activation.core.permissions import operator
    from tallystick.activation.core.ports import IncidentKind, Resolution, ServiceClock
    from tallystick.activation.services import incidents, record
    from tallystick.activation.storage import SqlTransaction

    with console.opened(data, database, as_json=as_json) as activation:
        now = activation.now()

        def look(transaction: SqlTransaction) -> ServiceClock:
            found = transaction.load_clock_for_update()
            if not confirm or found.doubted_at is None:
                return found
            caller = operator(console.person(by))
            detail = f"a jump noticed at {console.moment(found.doubted_at)} UTC"
            record(transaction, caller, "clock-confirm", "clock", account=None, now=now, detail=detail)
            incidents.resolve_all(
                transaction, [IncidentKind.CLOCK_JUMPED], NOBODY, by=caller.name, how=Resolution.CLOCK, now=now
            )
            return confirm_clock(transaction)

        found = activation.transact(look)
        if as_json:
            view = {"now": now, "counted_at": found.at or None, "service_seconds": found.seconds}
            console.print_json(view | {"doubted_at": found.doubted_at})
            return
        console.say(
            _(
                "It is {now} UTC here; {age} in service with a steady clock.",
                now=console.moment(now),
                age=console.age(found.seconds),
            )
        )
        if found.doubted_at is not None:
            console.say(
                _(
                    "The clock jumped, noticed at {moment} UTC: no waiting period ends.",
                    moment=console.moment(found.doubted_at),
                )
            )
            console.say(_("Next: set the clock right, then: tallystick activation clock --confirm"))


def restore(
    data: Data,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="A backup to put into a new directory; else the data is in place."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Announce that the data is an old backup: no line grows until field servers have reported what they hold."""
    from tallystick.activation.core.interventions import announce_restore
    from tallystick.activation.core.permissions import operator
    from tallystick.activation.server import backups
    from tallystick.activation.server.instance import DATABASE_FILE, Activation
    from tallystick.activation.services import record
    from tallystick.activation.storage import SqlTransaction

    if source is not None:
        with console.report_errors(as_json):
            done = backups.restore_backup(
                source,
                data,
                database=data / DATABASE_FILE,
                passphrase=lambda: _passphrase(passphrase_file, again=False),
                now=Activation.now(),
            )
            _say_restored(done.frozen_lines, done.field_servers, as_json=as_json)
            has_key = (data / "keys" / "signing.pem").exists()
            if not as_json and not has_key:
                console.say(
                    _("The signing key is not in this backup: put it back to {data}/keys/signing.pem first.", data=data)
                )
            if not as_json and done.backup.left_out:
                console.say(
                    _("No backup holds these settings; set them again: {names}.", names=", ".join(done.backup.left_out))
                )
            if not as_json and not done.backup.has_database:
                console.say(
                    _("The database is on PostgreSQL: restore it there, then announce it: restore without --from.")
                )
        return
    with console.opened(data, database, as_json=as_json, is_moved_good=True) as activation:
        now = activation.now()
        caller = operator(console.person(by))

        def announce(transaction: SqlTransaction) -> tuple[int, int]:
            lines, field_servers = announce_restore(transaction, activation.signer, now=now)
            transaction.deployment.set_moved(None)  # whoever goes on with what was copied away goes on with the past
            detail = f"{lines} lines, {field_servers} field servers"
            record(transaction, caller, "restore-announce", "database", account=None, now=now, detail=detail)
            return lines, field_servers

        lines, field_servers = activation.transact(announce)
        _say_restored(lines, field_servers, as_json=as_json)


def _passphrase(path: Path | None, *, again: bool) -> str:
    """From a file, or asked for where a person sits. Raises ``Error`` (``usage``, ``not-found``)."""
    from tallystick.activation.files import load_file

    if path is not None:
        return load_file(path, bytes_max=_PASSPHRASE_BYTES_MAX).decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not sys.stdin.isatty():
        raise Error("usage", expected=_("--passphrase-file FILE, or a terminal to ask at"), seen=_("neither"))
    return str(
        typer.prompt(spoken(_("Passphrase of the backup")), hide_input=True, confirmation_prompt=again, err=True)
    )


def _say_restored(lines: int, field_servers: int, *, as_json: bool) -> None:
    if as_json:
        console.print_json({"frozen_lines": lines, "field_servers": field_servers})
        return
    console.say(
        _(
            "{lines} lines are frozen; {field_servers} field servers are expected to tell what they hold.",
            lines=lines,
            field_servers=field_servers,
        )
    )
    console.say(
        _("Next: let field servers speak (tallystick admin sync); then: tallystick activation lift-freeze --all")
    )


PRUNE_DAYS_MIN: Final = 30


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
                print_text(fault, error=True)
            seen = _("{count} contradictions; the first: {first}", count=len(report.faults), first=report.faults[0])
            raise Error("ledger-wrong", expected=_("balances that follow from the ledger"), seen=seen)


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
