"""Commands that make an activation server, and serve it."""

from __future__ import annotations

import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from tallystick.activation.commands import (
    console,
)
from tallystick.activation.commands.console import AsJson, Data, Database
from tallystick.errors import Error
from tallystick.sentences import _
from tallystick.terminal import json_text, print_text, quoted

DEFAULT_PORT: Final = 8470


class EnrolmentChoice(StrEnum):
    """Who may become known (see ``activation.ports.Enrolment``, which is not imported for ``--help``)."""

    OPEN = "open"
    LISTED = "listed"


def init(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A new or empty directory.")],
    issuer: Annotated[
        str | None, typer.Option("--issuer", metavar="NAME", help="Its name in every message; it cannot be changed.")
    ] = None,
    enrolment: Annotated[
        EnrolmentChoice,
        typer.Option("--enrolment", help="Who may become known: who proves an activation ID, or who is listed."),
    ] = EnrolmentChoice.OPEN,
    waiting_days: Annotated[int, typer.Option("--waiting-days", help="How long what is declared lost waits.")] = 14,
    lost_per_year: Annotated[int, typer.Option("--lost-per-year", help="How many an account may declare lost.")] = 3,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Make an activation server: its keys, its keyset, its database, its settings."""
    from tallystick.activation.core.ports import Enrolment, Policy
    from tallystick.activation.keys.signing import KEYS_DIRECTORY, ROOT_FILE
    from tallystick.activation.server.instance import initialise

    with console.report_errors(as_json):
        policy = Policy(enrolment=Enrolment(enrolment), waiting_days=waiting_days, lost_per_year=lost_per_year)
        activation = initialise(data, issuer=issuer, policy=policy, database=database)
        activation.close()
        keyset = activation.signer.keyset
        root_file = data / KEYS_DIRECTORY / ROOT_FILE
        if as_json:
            view = {"issuer": keyset.issuer, "root_fingerprint": keyset.root_fingerprint, "data": str(data)}
            console.print_json(view | {"keyset_version": keyset.version, "root_key_file": str(root_file)})
            return
        console.say(
            _(
                "Activation server {issuer}, root {root_fingerprint}",
                issuer=keyset.issuer,
                root_fingerprint=keyset.root_fingerprint,
            )
        )
        console.say(
            _(
                "{root_file} is needed for the next keyset only: move it to a safe place. Signing goes on without it.",
                root_file=root_file,
            )
        )
        console.say(
            _(
                "Next: tallystick activation catalog example > catalog.yaml, then: tallystick activation catalog load catalog.yaml --data {data}",
                data=quoted(data),
            )
        )


def serve(
    data: Data,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 takes a free one.")] = DEFAULT_PORT,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="How many processes: up to one for each core.")
    ] = 1,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", help="Serve by TLS with this certificate chain (PEM), taken anew when it changes."
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="With --certificate: its key (PEM, no password).")] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C. Prints its address when it listens."""
    if workers == 1:
        _serve(data, host, port, workers, certificate, key, database, as_json)
        return
    with tempfile.TemporaryDirectory(prefix="tallystick-metrics-") as shared:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = shared  # before anything that counts is imported
        _serve(data, host, port, workers, certificate, key, database, as_json)


def _serve(
    data: Path,
    host: str,
    port: int,
    workers: int,
    certificate: Path | None,
    key: Path | None,
    database: str | None,
    as_json: bool,
) -> None:
    from tallystick.activation import logs
    from tallystick.activation.server import service
    from tallystick.activation.server.tls import CertificateFiles

    with console.report_errors(as_json):
        if (certificate is None) != (key is None):
            given = "--certificate" if key is None else "--key"
            raise Error(
                "usage", expected=_("--certificate and --key, both or neither"), seen=_("only {given}", given=given)
            )
    files = CertificateFiles(certificate=certificate, key=key) if certificate and key else None
    with console.opened(data, database, as_json=as_json, service=True) as activation:
        logs.set_up(activation.settings.log)
        keyset = activation.signer.keyset

        def announce(url: str, setup_code: str | None) -> None:
            view = {"url": url, "issuer": keyset.issuer, "root_fingerprint": keyset.root_fingerprint}
            lines = [_("{issuer} listens at {url}", issuer=keyset.issuer, url=url)]
            if setup_code is not None:
                view |= {"setup_url": f"{url}/set-up", "setup_code": setup_code}
                lines.append(_("First run: open {url}/set-up and use the set-up code {code}", url=url, code=setup_code))
            for line in [json_text(view, indent=None)] if as_json else lines:
                print_text(line)

        if workers == 1:
            service.serve(activation, host=host, port=port, files=files, announce=announce)
            return
        setup_code = service.make_setup_code(activation)
    # Opened above to refuse early; nothing that is open survives into the workers.
    with console.report_errors(as_json):
        if not service.serve_with_workers(
            lambda: console.opened(data, database, as_json=False, service=True),
            workers,
            host=host,
            port=port,
            files=files,
            announce=lambda url: announce(url, setup_code),
        ):
            raise typer.Exit(console.REFUSED)
