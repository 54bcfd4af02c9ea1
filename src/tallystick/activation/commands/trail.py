"""The audit trail."""

from __future__ import annotations

from typing import Annotated

import typer

from tallystick.activation.commands.client import ApiClient, verb
from tallystick.sentences import _


@verb
def audit(
    client: ApiClient,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=200, help="How many, newest first.")] = 100,
    before: Annotated[
        int | None, typer.Option("--before", metavar="NUMBER", min=1, help="Only what is older than this entry.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All there is.")] = False,
) -> None:
    """The audit trail, newest first: who did what, by the API, a page or a local command."""
    rest = None
    if everything:
        found = client.all("/v1/trail", cursor="before")
    else:
        page = client.request("GET", "/v1/trail", query={"limit": limit, "before": before})
        found = page["items"]
        rest = page["next"] and f"--before {page['next']}, --all"
    columns = [
        (_("Number#"), "number"),
        (_("At (UTC)"), "at"),
        (_("Who"), "actor"),
        (_("As"), "role"),
        (_("Did"), "action"),
    ]
    client.show(found, [*columns, (_("To"), "target"), (_("Detail"), "detail")], empty=_("Nothing yet."), rest=rest)
