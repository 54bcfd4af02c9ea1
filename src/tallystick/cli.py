"""The command ``tallystick``: it finds the party that was asked for, and loads no other.

A field server never imports FastAPI or SQLAlchemy, ``tallystick --help`` is quick, and an installation that lacks a
party's packages says which extra to install. What the commands do is left to the parties.
"""

from __future__ import annotations

import gc
import importlib
import os
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from tallystick import __version__
from tallystick.errors import Error, InvariantError
from tallystick.sentences import READER, Reader, _, language_of_shell
from tallystick.terminal import AS_JSON, FOR_PROGRAM, print_as_json, print_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Party:
    """Where the commands of a party are, and which extra brings what they import."""

    module: str  # has a typer.Typer named `app`
    extra: str
    summary: str
    command: str | None = None  # one command of that app; None: the whole app, under the party's name


PARTIES = {
    "demo": Party(
        module="tallystick.simulator.cli",
        command="demo",
        extra="all",
        summary="Play the whole story on this machine, with real processes.",
    ),
    "simulate": Party(
        module="tallystick.simulator.cli",
        command="simulate",
        extra="all",
        summary="Search for a loss: seeded worlds with every fault, and an independent auditor.",
    ),
    "activation": Party(
        module="tallystick.activation.cli",
        extra="activation",
        summary="The activation server: what was bought, and what is activated where.",
    ),
    "fieldserver": Party(
        module="tallystick.fieldserver.cli",
        extra="fieldserver",
        summary="The field server: what runs on the device.",
    ),
    "admin": Party(
        module="tallystick.administrator.cli",
        extra="administrator",
        summary="Device Administrator: assign, activate, refresh and return licenses.",
    ),
    "conformance": Party(
        module="tallystick.conformance.cli",
        extra="fieldserver",
        summary="Prove that a licensed program, or a field server, keeps the rules of the protocol.",
    ),
}

_ASKED_FOR = "tallystick.cli.asked_for"
_USAGE_ERROR: Any = typer.BadParameter.__base__  # every wrong usage; typer shows no other name of it
# New objects before cycles are looked for. What imports make stays, and to look it through again and again as it grows
# was a tenth of a command's time.
GARBAGE_OBJECTS = 20_000


class LazyGroup(typer.core.TyperGroup):
    """Knows every party by name and summary; the party's module is imported when its command is about to run.

    Help and suggestions are answered from placeholders, which ``resolve_command`` replaces. typer's own types for
    contexts and commands are not public, hence ``Any``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note whether a program asks, before the words are told apart."""
        ctx.meta[FOR_PROGRAM] = AS_JSON in args
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command by its name and, if it is a party's, load it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in PARTIES:
            ctx.meta[_ASKED_FOR] = name
            try:
                command = load(PARTIES[name])
            except ModuleNotFoundError:
                if not ctx.resilient_parsing:  # completion has no place for an error: it offers nothing
                    raise
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run it; a package that is missing, now or when a command imports it late, names the extra.

        Wrong usage is told by typer, and for a program as a problem, too.
        """
        try:
            return super().invoke(ctx)
        except _USAGE_ERROR as error:
            if ctx.meta[FOR_PROGRAM]:
                from tallystick.protocol.problems import problem_document

                said = Error("usage", expected=_("a command as its --help shows"), seen=error.format_message())
                print_as_json(problem_document(said))
            raise
        except ModuleNotFoundError as missing:
            name = ctx.meta.get(_ASKED_FOR)
            if name is None or missing.name is None or missing.name.split(".")[0] == "tallystick":
                raise
            print_text(
                _(
                    'tallystick {name} needs the Python package {missing!r}, which is not installed. Next: pip install "tallystick[{extra}]"',
                    name=name,
                    missing=missing.name,
                    extra=PARTIES[name].extra,
                ),
                error=True,
            )
            raise typer.Exit(2) from missing


@cache
def load(party: Party) -> Any:
    """Import the party and return its typer command, made once a process; ModuleNotFoundError where a package is missing."""
    group = typer.main.get_group(importlib.import_module(party.module).app)
    return group if party.command is None else group.commands[party.command]


def _placeholder() -> None:
    raise InvariantError("a party's own command", "its placeholder")


def _print_version(asked: bool) -> None:
    if asked:
        print_text(_("tallystick {version}", version=__version__))
        raise typer.Exit


app = typer.Typer(
    cls=LazyGroup,
    name="tallystick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could print secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog="Example: tallystick demo")
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Licenses of field servers: activated, returned and activated again; online, semi-online and offline."""


for _name, _party in PARTIES.items():
    app.command(_name, help=_party.summary)(_placeholder)


def main() -> None:
    """Run the command line and exit with its code: 0 done, 1 refused, 2 wrong usage, 3 unreachable, 4 in part."""
    gc.set_threshold(GARBAGE_OBJECTS)
    READER.set(Reader(language=language_of_shell(os.environ)))
    app(prog_name="tallystick")
