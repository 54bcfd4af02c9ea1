"""Commands about the settings: check, show."""

from __future__ import annotations

import os

import typer

from tallystick.activation.commands import (
    console,
)
from tallystick.activation.commands.console import AsJson, Data
from tallystick.sentences import _

config_app = typer.Typer(no_args_is_help=True, help="The settings, by file and environment: check, show.")


@config_app.command(epilog="Example: tallystick activation config check --data DIR")
def check(data: Data, as_json: AsJson = False) -> None:
    """Look at every setting, and try it: file, environment, secrets in files, keys, database. Changes nothing."""
    from tallystick.activation import settings as settings_
    from tallystick.activation.keys import signing
    from tallystick.activation.server.instance import try_database

    with console.report_errors(as_json):
        settings = settings_.load_settings(data, os.environ)
        for place, expected, seen in settings_.doubts(settings, os.environ):
            settings_.refuse(place, expected, seen)
        signer = signing.load_signer(data, settings.keys)
        if signer.keyset.issuer != settings.issuer:
            settings_.refuse("issuer", _("{issuer}, as in the keyset", issuer=signer.keyset.issuer), settings.issuer)
        try_database(data, settings)
        if as_json:
            console.print_json({"good": True, "issuer": settings.issuer, "unknown_variables": []})
            return
        console.say(
            _(
                "The settings of {issuer} are good; its signing key is at hand, its database answers.",
                issuer=settings.issuer,
            )
        )


@config_app.command(epilog="Example: tallystick activation config show --data DIR")
def show(data: Data, as_json: AsJson = False) -> None:
    """Every setting, its value and where it comes from. Secrets are not shown."""
    from tallystick.activation import settings as settings_

    with console.report_errors(as_json):
        found = settings_.show_settings(settings_.read_document(data), os.environ)
        if as_json:
            rows = [{"name": one.path, "value": one.value, "source": one.source, "help": one.help} for one in found]
            console.print_json(rows)
            return
        shown = [(one.path, "" if one.value is None else one.value, one.source, one.help) for one in found]
        console.print_table((_("Setting"), _("Value"), _("From"), _("What it is")), shown, empty=_("No settings."))
