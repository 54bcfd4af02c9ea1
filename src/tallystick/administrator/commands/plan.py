"""Commands that plan which licenses go where."""

from __future__ import annotations

from typing import Annotated

import typer
import typer.core

from tallystick.administrator.app import open_administrator
from tallystick.administrator.commands import console
from tallystick.administrator.commands.console import (
    AsJson,
    Everyone,
    Servers,
)
from tallystick.administrator.core import planning
from tallystick.sentences import _
from tallystick.terminal import arguments


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
        assignments = planning.assign(
            administrator.inventory, [line], chosen, now=administrator.clock.now(), ask=administrator.ask_available
        )
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
