"""Commands about field servers: who there is, what is open, what a person starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.console import AsJson, By, Data, Database, DeviceText, Output

if TYPE_CHECKING:
    from tallystick.activation.ports import FieldServer, Holding, Incident
    from tallystick.activation.storage import SqlTransaction

INCIDENT_STEPS: Final = {
    "rollback": "Nothing is lost: its next contact sets it right. Find out who put an old disk or backup back.",
    "fork": "Find the second copy (a clone or a restored backup) and stop it; then: tallystick activation release DEVICE.",
    "epoch-behind": "Nothing is lost: its next contact sets it right. Find out whether a copy of it runs somewhere.",
    "reappeared": "It lives. If others got its licenses meanwhile, return them from one of the two.",
    "host-id-taken": "If it replaces the other one, declare that one lost; if not, one of the two is a copy.",
    "grant-adopted": "Expected after a restore. When all were heard from: tallystick activation lift-freeze --all.",
}


def returns(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Open returns, oldest first: since when, and what to carry where."""
    with console.opened(data, database, as_json=as_json) as activation:
        now = activation.now()
        rows = activation.read(lambda transaction: _open_returns(transaction, now))
        if as_json:
            console.print_json(rows)
            return
        shown = [
            (
                row["name"],
                row["device_id"][:12],
                row["line"],
                row["quantity"],
                console.age(row["age_seconds"]),
                row["next_step"],
            )
            for row in rows
        ]
        headers = ("Name", "Field server", "Line", "Quantity#", "Open for", "Next")
        console.print_table(headers, shown, empty="No open returns.")


def field_servers(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """Every field server, and what it should hold."""
    with console.opened(data, database, as_json=as_json) as activation:
        rows = activation.read(_all_field_servers)
        if as_json:
            console.print_json(rows)
            return
        shown = [
            (
                row["name"],
                row["kind"],
                row["device_id"][:12],
                row["host_id"],
                row["status"],
                ", ".join(f"{license_['quantity']} {license_['product']}" for license_ in row["licenses"]),
                console.moment(row["last_seen_at"]) if row["last_seen_at"] else "not yet",
            )
            for row in rows
        ]
        headers = ("Name", "Kind", "Field server", "Host id", "Status", "Holds", "Heard from")
        empty = "No field servers yet. A first contact that proves an activation ID enrols one; or list it: enrol."
        console.print_table(headers, shown, empty=empty)


def incidents(data: Data, database: Database = None, as_json: AsJson = False) -> None:
    """What was noticed, newest first, and what a person can do."""
    with console.opened(data, database, as_json=as_json) as activation:
        rows = activation.read(_incidents)
        if as_json:
            console.print_json(rows)
            return
        shown = [
            (console.moment(row["at"]), row["kind"], row["device_id"][:12], row["detail"], row["next_step"])
            for row in rows
        ]
        console.print_table(("At (UTC)", "Kind", "Field server", "Detail", "Next"), shown, empty="No incidents.")


def start_return(
    device: DeviceText, data: Data, output: Output, by: By = None, database: Database = None, as_json: AsJson = False
) -> None:
    """Start a return of everything that a field server holds. The file is carried there, and its proof back."""
    _start(device, data, output, None, by=by, database=database, as_json=as_json)


def start_change(
    device: DeviceText,
    data: Data,
    output: Output,
    line: Annotated[
        list[str] | None, typer.Option("--line", metavar="LINE=QTY", help="An end state; repeatable. None: as it is.")
    ] = None,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Set what a field server holds from here. The file is carried there, and its proof back."""
    _start(device, data, output, line or [], by=by, database=database, as_json=as_json)


def declare_lost(
    device: DeviceText,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")],
    data: Data,
    by: By = None,
    override_by: Annotated[
        str | None, typer.Option("--override-by", metavar="NAME", help="Who allows it beyond the yearly limit.")
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Declare a dead field server lost: its rights wait in quarantine, then become available."""
    from tallystick.activation import accounts
    from tallystick.activation import returns as people

    with console.opened(data, database, as_json=as_json) as activation:
        accounts.check_text(reason, "a reason")
        if override_by is not None:
            accounts.check_text(override_by, "a name")
        who, now = console.person(by), activation.now()

        def declare(transaction: SqlTransaction) -> FieldServer:
            return people.declare_lost(
                transaction,
                activation.signer,
                console.find_device(transaction, device).device_id,
                reason=reason,
                by=who,
                policy=activation.settings.policy,
                now=now,
                override_by=override_by,
            )

        after = activation.transact(declare)
        activation.settle()  # a waiting period of no days is over at once
        if as_json:
            quantities = [
                {"line": line_id, "quantity": kept.held + kept.returning}
                for line_id, kept in sorted(after.reserved().items())
            ]
            document = {"device_id": after.device_id, "name": after.name, "status": after.status.value}
            console.print_json(document | {"lost_until": after.lost_until, "quarantined": quantities})
        else:
            console.say(
                f"{after.name} is declared lost. Its rights become available at {console.moment(after.lost_until)}."
            )
            console.say("If it speaks before that, the declaration is undone by itself, and it keeps what it held.")


def release(device: DeviceText, data: Data, by: By = None, database: Database = None, as_json: AsJson = False) -> None:
    """End the hold after a fork, once the second copy was found and stopped."""
    from tallystick.activation import returns as people

    with console.opened(data, database, as_json=as_json) as activation:
        who, now = console.person(by), activation.now()
        after = activation.transact(
            lambda transaction: people.release_hold(
                transaction, activation.signer, console.find_device(transaction, device).device_id, by=who, now=now
            )
        )
        if as_json:
            console.print_json({"device_id": after.device_id, "name": after.name, "status": after.status.value})
        else:
            console.say(f"{after.name} is released. Its next contact sets it to what it should hold.")


def enrol(
    device_id: Annotated[
        str, typer.Argument(metavar="DEVICE_ID", help="All 43 symbols, as the field server shows it.")
    ],
    data: Data,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Whose field server it is.")] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """List a field server beforehand, so that its first contact makes it known."""
    from tallystick.activation import accounts

    with console.opened(data, database, as_json=as_json) as activation:
        now = activation.now()
        after = activation.transact(
            lambda transaction: accounts.list_field_server(
                transaction, activation.signer, device_id.strip(), account=account, now=now
            )
        )
        if as_json:
            console.print_json({"device_id": after.device_id, "status": after.status.value, "account": after.account})
        else:
            console.say(f"{after.device_id} is {after.status.value}.")


def _start(
    device: str,
    data: Path,
    output: Path,
    ends: Sequence[str] | None,
    *,
    by: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """``ends`` None: everything to nothing."""
    from tallystick.activation import returns as people
    from tallystick.activation.files import save_file
    from tallystick.domain.ids import parse_line_id
    from tallystick.domain.rules import Want
    from tallystick.protocol.tallyfile import format_file

    with console.opened(data, database, as_json=as_json) as activation:
        pairs = [console.parse_pair(end, "7K3M9Q2A=2") for end in ends or ()]
        wants = [Want(line_id=parse_line_id(line), quantity=quantity) for line, quantity in pairs]
        who, now = console.person(by), activation.now()

        def start(transaction: SqlTransaction) -> tuple[FieldServer, str]:
            server = console.find_device(transaction, device)
            if ends is None:
                return server, people.start_return(transaction, activation.signer, server.device_id, by=who, now=now)
            return server, people.start_change(transaction, activation.signer, server.device_id, wants, by=who, now=now)

        server, grant = activation.transact(start)
        what = "return" if ends is None else "change"
        comment = (
            f"Tallystick: a {what} for field server {server.name} ({server.device_id}), started at the activation "
            f"server\nDeliver this file to {server.name}, then carry its outbox back: its proof closes the {what}."
        )
        save_file(output, format_file([activation.signer.keyset.compact, grant], comment=comment))
        if as_json:
            console.print_json({"device_id": server.device_id, "name": server.name, "file": str(output)})
        else:
            console.say(f"{output}: deliver it to {server.name}, then carry its outbox back here.")
            console.say("It stays listed as open until then: tallystick activation returns.")


def _open_returns(transaction: SqlTransaction, now: int) -> list[dict[str, Any]]:
    holdings = transaction.find_open_returns()
    servers = transaction.load_field_servers_for_update({holding.device_id for holding in holdings})
    steps = {device_id: _next_step(transaction, server) for device_id, server in servers.items()}
    return [_return_view(holding, servers[holding.device_id], steps[holding.device_id], now) for holding in holdings]


def _return_view(holding: Holding, server: FieldServer, next_step: str, now: int) -> dict[str, Any]:
    return {
        "device_id": holding.device_id,
        "name": server.name,
        "line": holding.line_id,
        "quantity": holding.returning,
        "age_seconds": max(0, now - holding.since_at),
        "since": holding.since_at,
        "account": server.account,
        "next_step": next_step,
    }


def _next_step(transaction: SqlTransaction, server: FieldServer) -> str:
    if server.status.value == "hold":
        return f"It is on hold: see its incidents, then: tallystick activation release {server.device_id[:12]}"
    newest = transaction.load_issued_grant(server.device_id, server.number)
    if newest is not None and newest.envelope is not None:
        command = "change" if server.intended else "return"
        return (
            f"Carry the file to {server.name}, then its outbox here; "
            f"`tallystick activation {command} {server.device_id[:12]} -o FILE.tally` gives it again."
        )
    return f"Carry {server.name}'s confirm here: deliver the response there, then import its outbox here."


def _all_field_servers(transaction: SqlTransaction) -> list[dict[str, Any]]:
    found: list[FieldServer] = []
    while page := transaction.find_field_servers(after=found[-1].device_id if found else None):
        found += page
    lines = transaction.load_lines_for_update({line_id for server in found for line_id in server.reserved()})
    found.sort(key=lambda server: (server.account or "", server.name, server.device_id))
    return [
        {
            "device_id": server.device_id,
            "name": server.name,
            "kind": server.kind,
            "host_id": server.host_id,
            "software": server.software,
            "account": server.account,
            "status": server.status.value,
            "epoch": server.epoch,
            "number": server.number,
            "proven": server.proven,
            "recovering": server.recovering is not None,
            "licenses": [
                {
                    "line": line_id,
                    "product": lines[line_id].product.sku,
                    "quantity": kept.held,
                    "returning": kept.returning,
                }
                for line_id, kept in sorted(server.reserved().items())
            ],
            "lost_at": server.lost_at,
            "lost_until": server.lost_until,
            "first_seen_at": server.first_seen_at,
            "last_seen_at": server.last_seen_at or None,
        }
        for server in found
    ]


def _incidents(transaction: SqlTransaction) -> list[dict[str, Any]]:
    found: list[Incident] = transaction.find_incidents()
    servers = transaction.load_field_servers_for_update({incident.device_id for incident in found})
    return [
        {
            "kind": incident.kind.value,
            "device_id": incident.device_id,
            "name": servers[incident.device_id].name if incident.device_id in servers else None,
            "at": incident.at,
            "detail": incident.detail,
            "digest": incident.digest,
            "next_step": INCIDENT_STEPS[incident.kind.value],
        }
        for incident in found
    ]
