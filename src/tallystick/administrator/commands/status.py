"""Commands that say how messages travel now, and what is open."""

from __future__ import annotations

from typing import Any

from tallystick.administrator.app import open_administrator
from tallystick.administrator.commands import console, operations
from tallystick.administrator.commands.console import (
    AsJson,
    Forced,
)
from tallystick.administrator.core import schemas
from tallystick.administrator.core.next_steps import Phase, step_sentence
from tallystick.sentences import _, _n

_OPEN = (Phase.TROUBLE, Phase.DELIVER, Phase.PROVE, Phase.ASK)


def route(as_json: AsJson = False, forced: Forced = None) -> None:
    """Find the route to the activation server: online, semi-online or offline, and why."""
    with open_administrator(forced=forced) as administrator:
        found = administrator.courier.find_route(administrator.inventory.field_servers())
    console.show_result(
        schemas.show_route(found), _("{route}: {why}", route=found.route, why=found.why), as_json=as_json
    )


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
