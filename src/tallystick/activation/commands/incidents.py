"""Verbs about incidents: what was noticed, who looks at it, what ended it."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.activation.commands.client import ApiClient, verb
from tallystick.sentences import _

incident_app = typer.Typer(no_args_is_help=True, help="One incident: show, acknowledge, resolve.")

NumberText = Annotated[int, typer.Argument(metavar="NUMBER", min=1, max=10**15, help="Its number in the list.")]
Note = Annotated[str | None, typer.Option("--note", metavar="TEXT", help="A word about it, for who looks later.")]


@verb
def incidents(
    client: ApiClient,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only of this kind, like fork.")] = None,
    device: Annotated[
        str | None, typer.Option("--field-server", metavar="DEVICE", help="Only of this field server.")
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only open, acknowledged or resolved ones; repeatable."),
    ] = None,
) -> None:
    """What was noticed, newest first, what a person can do, and what ended it."""
    device_id = client.device(device) if device else None
    found = client.all("/v1/incidents", cursor="before", kind=kind, device_id=device_id, state=state or ())
    rows = [{"kind": row["kind"], "device_id": row["device_id"], "name": row["device_name"], **row} for row in found]
    if not client.as_json:  # for people, the beginning of a device id is enough
        rows = [row | {"device_id": row["device_id"][:12]} for row in rows]
    columns = [(_("Number#"), "number"), (_("At (UTC)"), "at"), (_("Kind"), "kind"), (_("State"), "state")]
    columns += [(_("Field server"), "device_id"), (_("Detail"), "detail"), (_("Next"), "next_step")]
    client.show(rows, columns, empty=_("No incidents."))


@incident_app.command(epilog="Example: tallystick activation incident show 12 --data DIR")
@verb
def show(client: ApiClient, number: NumberText) -> None:
    """One incident."""
    client.show_one(client.request("GET", f"/v1/incidents/{number}"))


@incident_app.command(epilog="Example: tallystick activation incident acknowledge 12 --note 'I ask them' --data DIR")
@verb
def acknowledge(client: ApiClient, number: NumberText, note: Note = None) -> None:
    """Say that you look at it."""
    after = client.request("POST", f"/v1/incidents/{number}/acknowledge", {"note": note})
    client.show_result(
        after, _("Incident {number} is acknowledged by {name}.", number=number, name=after["acknowledged_by"])
    )


@incident_app.command(epilog="Example: tallystick activation incident resolve 12 --note 'a clone; stopped' --data DIR")
@verb
def resolve(client: ApiClient, number: NumberText, note: Note = None) -> None:
    """Say that it is over."""
    after = client.request("POST", f"/v1/incidents/{number}/resolve", {"note": note})
    client.show_result(after, _("Incident {number} is resolved.", number=after["number"]))
