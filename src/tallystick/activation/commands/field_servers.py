"""Verbs about field servers: who there is, what is open, what a person starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.client import ApiClient, Key, verb
from tallystick.activation.commands.console import AsJson, By, Data, Database, DeviceText, Output
from tallystick.errors import Error
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.sentences import _

field_server_app = typer.Typer(no_args_is_help=True, help="One field server: show it, its history.")

Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail.")]


@verb
def returns(client: ApiClient) -> None:
    """Open returns, oldest first: since when, where each stands, what to carry where."""
    found = client.all("/v1/returns")
    rows = [
        {"device_id": row["device_id"], "name": row["device_name"], **row, "since": row["since_at"]} for row in found
    ]
    columns = [(_("Name"), "name"), (_("Field server"), "device_id"), (_("Line"), "line"), (_("Quantity#"), "quantity")]
    columns += [(_("Open for"), "age_seconds"), (_("Stands"), "stands"), (_("Next"), "next_step")]
    client.show(_shortened(client, rows), columns, empty=_("No open returns."))


@verb
def field_servers(
    client: ApiClient,
    search: Annotated[
        str, typer.Option("--search", metavar="TEXT", help="Part of a name or host id, or how the device id begins.")
    ] = "",
    status: Annotated[
        str | None, typer.Option("--status", metavar="STATUS", help="Only active, listed, hold, lost or retired ones.")
    ] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only of this kind.")] = None,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Only of this account.")] = None,
) -> None:
    """Every field server, and what it should hold."""
    found = client.all("/v1/field-servers", text=search, status=status, kind=kind, account=account)
    found.sort(key=lambda server: (server["account"] or "", server["name"], server["device_id"]))
    if client.as_json:
        console.print_json([_view(server) for server in found])
        return
    rows = [
        (
            server["name"],
            server["kind"],
            server["device_id"][:12],
            server["host_id"],
            server["status"],
            ", ".join(f"{license_['held']} {license_['product']}" for license_ in server["licenses"]),
            console.moment(server["last_seen_at"]) if server["last_seen_at"] else _("not yet"),
        )
        for server in found
    ]
    headers = (_("Name"), _("Kind"), _("Field server"), _("Host id"), _("Status"), _("Holds"), _("Heard from"))
    empty = _("No field servers yet. A first contact that proves an activation ID enrols one; or list it: enrol.")
    console.print_table(headers, rows, empty=empty)


@field_server_app.command(epilog="Example: tallystick activation field-server show plant-room --data DIR")
@verb
def show(client: ApiClient, device: DeviceText) -> None:
    """One field server, and what it holds."""
    server = _view(client.request("GET", f"/v1/field-servers/{client.device(device)}"))
    if client.as_json:
        console.print_json(server)
        return
    client.show_one({name: value for name, value in server.items() if name != "licenses"})
    columns = [(_("Line"), "line"), (_("Product"), "product"), (_("Held#"), "held"), (_("Returning#"), "returning")]
    client.show(server["licenses"], [*columns, (_("Quarantined#"), "quarantined")], empty=_("It holds nothing."))


@field_server_app.command(epilog="Example: tallystick activation field-server history plant-room --data DIR")
@verb
def history(client: ApiClient, device: DeviceText) -> None:
    """What it said and what was done to it, newest first."""
    found = client.all(f"/v1/field-servers/{client.device(device)}/history", cursor="before")
    columns = [(_("At (UTC)"), "at"), (_("What"), "title"), (_("Detail"), "detail"), (_("Next"), "next_step")]
    client.show(found, columns, empty=_("Nothing yet."))


@verb
def start_return(client: ApiClient, device: DeviceText, output: Output, key: Key = None) -> None:
    """Start a return of everything that a field server holds. The file is carried there, and its proof back."""
    path = f"/v1/field-servers/{client.device(device)}/return"
    _save_started(client, output, client.request("POST", path, key=key))


@verb
def start_change(
    client: ApiClient,
    device: DeviceText,
    output: Output,
    line: Annotated[
        list[str] | None, typer.Option("--line", metavar="LINE=QTY", help="An end state; repeatable. None: as it is.")
    ] = None,
    key: Key = None,
) -> None:
    """Set what a field server holds from here. The file is carried there, and its proof back."""
    from tallystick.domain.ids import parse_line_id

    ends = [console.parse_pair(end, "7K3M9Q2A=2") for end in line or ()]
    for _other, quantity in ends:
        if quantity > QUANTITY_MAX:
            raise Error(
                "quantity-wrong",
                expected=_("a quantity from 0 to {quantity_max}", quantity_max=QUANTITY_MAX),
                seen=str(quantity),
            )
    body = {"lines": [{"line": parse_line_id(line_id), "quantity": quantity} for line_id, quantity in ends]}
    path = f"/v1/field-servers/{client.device(device)}/change"
    _save_started(client, output, client.request("POST", path, body, key=key))


@verb
def replace(
    client: ApiClient,
    device: DeviceText,
    with_: Annotated[str, typer.Option("--with", metavar="DEVICE", help="Which one takes over what it held.")],
    reason: Why,
    output: Output,
    key: Key = None,
) -> None:
    """Declare a dead field server lost and set another one to what it held, whole or not at all."""
    body = {"by": client.device(with_), "reason": _reason(reason)}
    path = f"/v1/field-servers/{client.device(device)}/replace"
    _save_started(client, output, client.request("POST", path, body, key=key))


@verb
def declare_lost(
    client: ApiClient,
    device: DeviceText,
    reason: Why,
    *,
    override: Annotated[bool, typer.Option("--override", help="Beyond the yearly limit, in your name.")] = False,
) -> None:
    """Declare a dead field server lost: its rights wait in quarantine, then become available."""
    path = f"/v1/field-servers/{client.device(device)}/lost"
    after = client.request("POST", path, {"reason": _reason(reason), "override": override})
    quantities = [
        {"line": license_["line"], "quantity": license_["quarantined"]}
        for license_ in after["licenses"]
        if license_["quarantined"]
    ]
    client.show_result(
        _view(after) | {"quarantined": quantities},
        _(
            "{name} is declared lost. Its rights become available at {moment}.",
            name=after["name"],
            moment=console.moment(after["lost_until"]),
        ),
        _("If it speaks before that, the declaration is undone by itself, and it keeps what it held."),
    )


@verb
def hold(client: ApiClient, device: DeviceText, reason: Why) -> None:
    """Put a field server on hold: nothing that it asks for is granted until it is released."""
    after = client.request("POST", f"/v1/field-servers/{client.device(device)}/hold", {"reason": _reason(reason)})
    client.show_result(_view(after), _("{name} is on hold.", name=after["name"]))


@verb
def release(client: ApiClient, device: DeviceText) -> None:
    """End a hold: after a fork, once the second copy was found and stopped."""
    after = client.request("POST", f"/v1/field-servers/{client.device(device)}/release")
    client.show_result(
        _view(after), _("{name} is released. Its next contact sets it to what it should hold.", name=after["name"])
    )


@verb
def retire(client: ApiClient, device: DeviceText) -> None:
    """Take a field server that holds nothing out of service; its host id is free again."""
    after = client.request("POST", f"/v1/field-servers/{client.device(device)}/retire")
    client.show_result(_view(after), _("{name} is retired.", name=after["name"]))


@verb
def reply(
    client: ApiClient,
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="The 43 symbols that name a message.")],
) -> None:
    """The stored answer to a message, as often as one likes."""
    if len(digest) != len("Aw") + 41 or not digest.replace("-", "").replace("_", "").isalnum() or not digest.isascii():
        raise Error("not-found", expected=_("the digest of a message: 43 symbols"), seen=repr(digest[:60]))
    client.show_one(client.request("GET", f"/v1/messages/{digest}"))


def enrol(
    device_id: Annotated[
        str, typer.Argument(metavar="DEVICE_ID", help="All 43 symbols, as the field server shows it.")
    ],
    data: Data,
    account: Annotated[str | None, typer.Option("--account", metavar="NAME", help="Whose field server it is.")] = None,
    by: By = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """List a field server beforehand, so that its first contact makes it known."""
    from tallystick.activation.core import entitlements
    from tallystick.activation.core.permissions import operator
    from tallystick.activation.core.ports import FieldServer
    from tallystick.activation.services import record
    from tallystick.activation.storage import SqlTransaction

    with console.opened(data, database, as_json=as_json) as activation:
        caller, now = operator(console.person(by)), activation.now()

        def work(transaction: SqlTransaction) -> FieldServer:
            after = entitlements.list_field_server(
                transaction, activation.signer, device_id.strip(), account=account, now=now
            )
            record(transaction, caller, "enrol", after.device_id, account=after.account, now=now)
            return after

        after = activation.transact(work)
        if as_json:
            console.print_json({"device_id": after.device_id, "status": after.status.value, "account": after.account})
        else:
            console.say(_("{device_id} is {status}.", device_id=after.device_id, status=after.status.value))


def _view(server: dict[str, Any]) -> dict[str, Any]:
    licenses = [license_ | {"quantity": license_["held"]} for license_ in server["licenses"]]
    return server | {"licenses": licenses}


def _reason(text: str) -> str:
    from tallystick.activation.core.entitlements import check_text

    return check_text(text, _("a reason"))


def _shortened(client: ApiClient, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For people, the beginning of a device id is enough."""
    return rows if client.as_json else [row | {"device_id": row["device_id"][:12]} for row in rows]


def _save_started(client: ApiClient, output: Path, started: dict[str, Any]) -> None:
    told = {name: value for name, value in started.items() if name != "file"}
    client.save(
        output,
        started["file"].encode(),
        told,
        _("{output}: deliver it to {name}, then carry its outbox back here.", output=output, name=started["name"]),
        _("It stays listed as open until then: tallystick activation returns."),
    )
