"""The command that opens the pages."""

from __future__ import annotations

import sys
import webbrowser
from typing import Annotated

import typer

from tallystick.administrator.app import home_directory, open_sealer
from tallystick.administrator.commands import console
from tallystick.administrator.commands.console import AsJson, Forced
from tallystick.administrator.memory.database import open_database
from tallystick.sentences import _


def web(
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print the link; open no browser.")] = False,
    look_every: Annotated[
        int,
        typer.Option(
            min=0, max=86_400, help="Seconds after which field servers are asked again while a page is open; 0: never."
        ),
    ] = 60,
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Open Device Administrator's pages in the browser, on this computer only. Ctrl-C ends it; nothing is lost."""
    from tallystick.administrator.web.app import serve

    def on_link(link: str, is_first: bool) -> None:
        if as_json:
            console.show_json_line({"url": link})
        elif is_first:
            console.show_text(_("Device Administrator: {link}", link=link))
        else:
            console.show_text(_("The link was used. For another browser: {link}", link=link))
        sys.stdout.flush()
        if is_first and not no_open:
            webbrowser.open(link)

    database = open_database(home_directory())
    try:
        serve(database, open_sealer(home_directory()), port=port, forced=forced, look_every=look_every, on_link=on_link)
    finally:
        database.close()
