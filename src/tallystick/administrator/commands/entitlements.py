"""Commands about what was bought: entitlements and their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from tallystick.administrator.app import open_administrator
from tallystick.administrator.commands import console
from tallystick.administrator.commands.console import (
    AsJson,
    Forced,
)
from tallystick.administrator.core import pinning, schemas


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
