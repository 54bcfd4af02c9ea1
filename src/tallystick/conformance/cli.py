"""The command line of the conformance kit."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from tallystick.errors import Error
from tallystick.protocol.problems import problem_for
from tallystick.sentences import _
from tallystick.terminal import print_as_json, print_text

app = typer.Typer(no_args_is_help=True)
_NAMED_MAX = 50


@app.command(epilog="Example: tallystick conformance vectors > vectors.json")
def vectors() -> None:
    """Print the vectors: bytes in, and the decision that must follow. docs/protocol/conformance.md describes the format."""
    from tallystick.conformance import vectors as published

    print_text(published.text().removesuffix("\n"))


@app.command(
    epilog="Example: tallystick conformance client -- node harness.mjs",
    context_settings={"ignore_unknown_options": True},
)
def client(
    program: Annotated[
        list[str], typer.Argument(help="A program that reads vectors, one a line, and answers each with a line.")
    ],
    fields: Annotated[bool, typer.Option("--fields", help="Lines of fields instead of JSON.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a licensed program's reader over all vectors, and report step by step. Exit code 1 if one decides otherwise."""
    from tallystick.conformance import client as running
    from tallystick.conformance.vectors import load

    outcomes = list(running.run(program, load(), "fields" if fields else "json"))
    wrong = [outcome for outcome in outcomes if outcome.wrong is not None]
    if as_json:
        print_as_json({"vectors": len(outcomes), "wrong": {one.vector.name: one.wrong for one in wrong}})
    else:
        count, failed = Counter(one.vector.step for one in outcomes), Counter(one.vector.step for one in wrong)
        for step in sorted(count):
            print_text(
                _(
                    "step {step}: {kept} of {count}",
                    step=f"{step:2}",
                    kept=count[step] - failed[step],
                    count=count[step],
                )
            )
        for one in wrong[:_NAMED_MAX]:
            print_text(f"{one.vector.name}: {one.wrong}. {one.vector.says}")
        if len(wrong) > _NAMED_MAX:
            print_text(_("... and {count} more, which --json names", count=len(wrong) - _NAMED_MAX))
        print_text(_("{passed} passed, {failed} failed", passed=len(outcomes) - len(wrong), failed=len(wrong)))
    raise typer.Exit(1 if wrong else 0)


@app.command(epilog="Example: tallystick conformance keys > keys.tally")
def keys() -> None:
    """Print the keyset that the kit's activation server has: pin it on the field server that is to be tested, which is for nothing else."""
    from tallystick.conformance.playing import Play

    print_text(Play(_Nobody(), now=int(time.time())).keyset())  # noqa: TID251 - a command's own clock


@app.command(
    epilog="Example: tallystick conformance fieldserver --url https://localhost:8443 --certificate tls.pem --password-file password",
    context_settings={"ignore_unknown_options": True},
)
def fieldserver(
    program: Annotated[
        list[str] | None,
        typer.Argument(help="A program that carries files: it is called with wish, outbox and deliver."),
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="The address of its HTTPS API.")] = None,
    certificate: Annotated[Path | None, typer.Option("--certificate", help="Its certificate, as PEM.")] = None,
    password_file: Annotated[Path | None, typer.Option("--password-file", help="A file with its password.")] = None,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", metavar="NAME", help="Only this rule; several times for several.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Play an activation server against a field server, and report rule by rule. It ends out of service for good: use a new one."""
    from tallystick.conformance import rules
    from tallystick.conformance.playing import FieldServerPort, Play
    from tallystick.conformance.routes import CommandFieldServer, HttpsFieldServer

    try:
        reached: FieldServerPort
        if program:
            reached = CommandFieldServer(program)
        elif url and certificate and password_file:
            reached = HttpsFieldServer(url, certificate=certificate, password=password_file.read_text("utf-8").strip())
        else:
            raise Error(
                "usage", expected=_("--url, --certificate and --password-file, or a program"), seen=_("neither")
            )
        chosen = [one for one in rules.RULES if not rule or one.name in rule]
        if unknown := set(rule or ()) - {one.name for one in chosen}:
            raise Error(
                "usage",
                expected=_("names of rules, as docs/protocol/conformance.md lists them"),
                seen=", ".join(sorted(unknown)),
            )
        play = Play(reached, now=int(time.time()))  # noqa: TID251 - a command's own clock
        rules.begin(play)
        outcomes = list(rules.run(play, chosen))
    except (Error, OSError) as error:
        code = error.code if isinstance(error, Error) else "unreachable"
        print_text(f"{code}: {error}. {problem_for(code).next_step}", error=True)
        raise typer.Exit(2 if code == "usage" else 3) from None
    broken = [outcome for outcome in outcomes if outcome.broken is not None]
    if as_json:
        print_as_json({"rules": len(outcomes), "broken": {one.rule.name: one.broken for one in broken}})
    else:
        for one in outcomes:
            how = _("broken") if one.broken else _("kept")
            print_text(f"{how:6}  {one.rule.name}: {one.broken or one.rule.says}")
        print_text(_("{passed} passed, {failed} failed", passed=len(outcomes) - len(broken), failed=len(broken)))
    raise typer.Exit(1 if broken else 0)


class _Nobody:
    """For a play without a field server."""

    def wish(self, wish: dict[str, object]) -> bool:
        """Refuses."""
        return not wish

    def outbox(self) -> bytes:
        """Nothing."""
        return b""

    def deliver(self, tally: bytes) -> None:
        """Nowhere."""
