"""The command that sets the proxy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tallystick.administrator.app import PROXY_SETTING, open_administrator
from tallystick.administrator.commands import console
from tallystick.administrator.commands.console import AsJson
from tallystick.administrator.commands.field_servers import password_from
from tallystick.administrator.network.proxy import Proxy, parse_proxy, read_stored
from tallystick.errors import Error
from tallystick.sentences import _


def proxy(
    url: Annotated[
        str | None, typer.Argument(help="Like http://proxy.example:3128; without it, show what is set.")
    ] = None,
    user: Annotated[str, typer.Option(help="Where the proxy asks for one.")] = "",
    password_file: Annotated[
        Path | None, typer.Option(help="A file with its password; without it you are asked.")
    ] = None,
    field_servers: Annotated[
        bool, typer.Option("--field-servers", help="Reach field servers through it, too; else directly.")
    ] = False,
    none: Annotated[bool, typer.Option("--none", help="Forget it; what the environment says counts again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Set the proxy on the way to activation servers. Without one, HTTPS_PROXY, HTTP_PROXY and NO_PROXY count.

    Its password is kept encrypted, like those of field servers.
    """
    if none and url is not None:
        raise Error("usage", expected=_("a proxy or --none"), seen=_("both"))
    with open_administrator() as administrator:
        inventory = administrator.inventory
        if none:
            inventory.set_secret(PROXY_SETTING, "")
        elif url is not None:
            password = password_from(password_file, what=_("the proxy")) if user else ""
            made = parse_proxy(url, user=user, password=password, is_for_field_servers=field_servers)
            inventory.set_secret(PROXY_SETTING, made.stored())
        found = read_stored(inventory.secret(PROXY_SETTING))
    value = {
        "proxy": None if found is None else found.address,
        "user": None if found is None else found.user or None,
        "field_servers": found is not None and found.is_for_field_servers,
    }
    console.show_result(value, _sentence(found), as_json=as_json)


def _sentence(found: Proxy | None) -> str:
    if found is None:
        return _("No proxy is set here: HTTPS_PROXY, HTTP_PROXY and NO_PROXY of the environment count.")
    scope = _("activation servers and field servers") if found.is_for_field_servers else _("activation servers")
    if found.user:
        return _("{address} as {user}, towards {scope}.", address=found.address, user=found.user, scope=scope)
    return _("{address}, towards {scope}.", address=found.address, scope=scope)
