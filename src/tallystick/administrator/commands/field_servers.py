"""Which field servers are in the list: add, remove, sites; and what is handed to the customer about them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import typer.core

from tallystick.administrator.app import open_administrator
from tallystick.administrator.commands import console
from tallystick.administrator.commands.console import (
    AsJson,
    Everyone,
    Forced,
    Server,
    Servers,
)
from tallystick.administrator.commands.operations import IN_PART, REFUSED
from tallystick.administrator.core import pinning, planning, schemas
from tallystick.administrator.core.file_courier import write_durably
from tallystick.administrator.core.next_steps import Phase, step_sentence
from tallystick.administrator.report import site as site_service
from tallystick.errors import Error
from tallystick.sentences import _, _n, spoken
from tallystick.terminal import plain

_SITE_SYMBOLS_MAX = 80


def add(
    url: Annotated[str | None, typer.Argument(help="Where the field server answers, over HTTPS.")] = None,
    password_file: Annotated[
        Path | None, typer.Option(help="The file that `fieldserver init` wrote; without it you are asked.")
    ] = None,
    fingerprint: Annotated[
        str | None, typer.Option(help="Pin only a certificate with this fingerprint (SHA256:...).")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Add many: a file with the columns name, address, password, site, fingerprint."),
    ] = None,
    site: Annotated[str, typer.Option(help="The site that it belongs to.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a field server: show the fingerprint of its certificate, and pin it.

    The password is sent only to the certificate that is pinned. Adding it again renews address and password; a changed
    certificate is refused. With --csv, all field servers of a file, at once.
    """
    if (url is None) == (csv is None):
        raise Error(
            "usage", expected=_("the address of a field server, or --csv FILE"), seen=_("both") if url else _("neither")
        )
    if csv is not None:
        _add_many(csv, as_json=as_json)
        return
    address = planning.normal_address(url or "")
    password = password_from(password_file)
    with open_administrator() as administrator:
        enrolled = pinning.add_field_server(
            administrator.network,
            administrator.inventory,
            address=address,
            password=password,
            fingerprint=fingerprint,
            now=administrator.clock.now(),
        )
        if site:
            administrator.inventory.set_site([enrolled.identity.device_id], site[:_SITE_SYMBOLS_MAX])
    identity = enrolled.identity
    value = {
        "name": identity.name,
        "device_id": identity.device_id,
        "kind": identity.kind,
        "address": address,
        "fingerprint": enrolled.fingerprint,
        "added": enrolled.is_new,
        "warning": enrolled.warning,
    }
    if as_json:
        console.show_json(value)
        return
    is_new = "Added" if enrolled.is_new else "Renewed"
    console.show_text(f"{is_new} {identity.name} ({identity.kind}), {identity.device_id}")
    console.show_text(
        _(
            "Certificate {fingerprint}, pinned. Compare it with what the field server shows.",
            fingerprint=enrolled.fingerprint,
        )
    )
    if enrolled.warning:
        console.show_text(enrolled.warning)


def _add_many(path: Path, *, as_json: bool) -> None:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Error("usage", expected=_("to read {path}", path=path), seen=error.strerror or str(error)) from None
    candidates = pinning.parse_candidates(data)
    with open_administrator() as administrator:
        met = pinning.meet(administrator.network, administrator.inventory, candidates)
        results = pinning.pin(administrator.network, administrator.inventory, met, now=administrator.clock.now())
    good = [result for result in results if result.enrolled is not None]
    values = [
        {
            "address": one.candidate.address,
            "site": one.candidate.site,
            "added": one.enrolled is not None and one.enrolled.is_new,
            "name": one.enrolled.identity.name if one.enrolled else one.candidate.name,
            "fingerprint": one.enrolled.fingerprint if one.enrolled else None,
            "warning": one.warning,
            "code": one.error.code if one.error else None,
            "next_step": one.next_step,
        }
        for one in results
    ]
    if as_json:
        console.show_json({"field_servers": values, "added": len(good)})
    else:
        console.show_table(
            [_("name"), _("address"), _("pinned fingerprint")],
            [[str(v["name"]), str(v["address"]), str(v["fingerprint"] or "none")] for v in values],
        )
    for one in results:
        if one.error is not None:
            console.show_error(one.error)
        elif one.warning:
            console.show_text(one.warning)
    if len(good) < len(results):
        raise typer.Exit(IN_PART if good else REFUSED)


def password_from(path: Path | None, *, what: str = _("the field server")) -> str:
    """From a file, or asked at a terminal. Raises ``Error`` (``usage``)."""
    if path is not None:
        try:
            return path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Error("usage", expected=_("a password in {path}", path=path), seen=str(error)) from None
    if sys.stdin.isatty():
        return str(typer.prompt(plain(spoken(_("Password of {what}", what=what))), hide_input=True)).strip()
    raise Error("usage", expected=_("--password-file, or a terminal to ask at"), seen=_("neither"))


def find(
    seconds: Annotated[float, typer.Option(min=0.1, max=60, help="How long to listen.")] = 3.0,
    interface: Annotated[
        list[str] | None, typer.Option("--interface", help="Only at this address of this computer.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find field servers that announce themselves on the network (`fieldserver run --announce`). Adds none of them."""
    from tallystick.administrator.network.discovery import find_field_servers

    try:
        found = find_field_servers(seconds=seconds, interfaces=interface)
    except OSError as error:
        raise Error("unreachable", expected=_("a network to listen on"), seen=str(error)) from None
    with open_administrator() as administrator:
        known = set(administrator.inventory.names())
    if as_json:
        console.show_json([msgspec.to_builtins(one) | {"known": one.device_id in known} for one in found])
        return
    if not found:
        console.show_text(
            _("None announces itself here. Add them by address, or from a CSV file: tallystick admin add.")
        )
        return
    rows = [[o.name, o.kind, o.address, o.fingerprint, "yes" if o.device_id in known else "no"] for o in found]
    console.show_table([_("name"), _("kind"), _("address"), _("says that its fingerprint is"), _("in the list")], rows)


def remove(
    server: Server,
    force: Annotated[bool, typer.Option("--force", help="Also when something is open on it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a field server from the list. Its licenses are not touched."""
    with open_administrator() as administrator:
        record = planning.find_field_server(administrator.inventory.field_servers(), server)
        step = administrator.workflows.next_step(record.device_id)
        if step.phase in {Phase.DELIVER, Phase.PROVE, Phase.ASK} and not force:
            raise Error("usage", expected=_("nothing open on it, or --force"), seen=step_sentence(step))
        administrator.inventory.remove_field_server(record.device_id)
    value = {"name": record.name, "device_id": record.device_id, "removed": True}
    console.show_result(value, _("Removed {record}", record=record.name), as_json=as_json)


def site(
    name: Annotated[str, typer.Argument(help="The site; an empty text takes them out of theirs.")],
    server: Servers = None,
    everyone: Everyone = False,
    as_json: AsJson = False,
) -> None:
    """Put field servers into a site, by which lists and reports are grouped."""
    with open_administrator() as administrator:
        chosen = planning.choose_field_servers(administrator.inventory, server, is_everyone=everyone)
        administrator.inventory.set_site([record.device_id for record in chosen], name.strip()[:_SITE_SYMBOLS_MAX])
    names = [record.name for record in chosen]
    console.show_result(
        {"site": name.strip(), "field_servers": names}, f"{', '.join(names)}: {name.strip() or 'none'}", as_json=as_json
    )


def report(
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Where to write: .pdf, .csv, or .zip with everything and the receipts."),
    ],
    site: Annotated[str, typer.Option(help="Only this site.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write a site's report: what is licensed where, features, violations, open returns, credit receipts."""
    from tallystick.administrator.report.pdf import report_pdf

    if output.suffix not in {".pdf", ".csv", ".zip"}:
        raise Error("usage", expected=_("a file that ends in .pdf, .csv or .zip"), seen=output.name)
    with open_administrator() as administrator:
        made = site_service.make_report(
            administrator.inventory,
            administrator.mailbag,
            administrator.workflows.standings(),
            site=site,
            now=administrator.clock.now(),
        )
    if site and not made.records:
        raise Error("not-found", expected=_("a site with field servers"), seen=repr(site))
    if output.suffix == ".csv":
        data = site_service.report_csv(made)
    else:
        pdf = report_pdf(made)
        data = pdf if output.suffix == ".pdf" else site_service.report_folder(made, pdf=pdf)
    write_durably(output, data)
    value = {
        "file": str(output),
        "site": site,
        "field_servers": len(made.records),
        "violations": len(made.violations),
        "open": len(made.open_returns),
        "receipts": len(made.receipts),
    }
    console.show_result(
        value,
        _(
            "{output}: {servers}, {violations} violations, {open} open, {receipts}",
            output=output,
            servers=_n("{count} field server", "{count} field servers", count=len(made.records)),
            violations=len(made.violations),
            open=len(made.open_returns),
            receipts=_n("{count} receipt", "{count} receipts", count=len(made.receipts)),
        ),
        as_json=as_json,
    )


def servers(as_json: AsJson = False, forced: Forced = None) -> None:
    """List field servers: site, kind, address, whether reachable, licenses, violations, and what is open."""
    with open_administrator(forced=forced) as administrator:
        reached, has_route = administrator.look()
        records = administrator.inventory.field_servers()
        steps = administrator.workflows.standings(has_route=has_route)
    if as_json:
        console.show_json(
            [
                schemas.show_field_server(
                    one, is_reached=reached[one.device_id], next_step=step_sentence(steps[one.device_id])
                )
                for one in records
            ]
        )
        return
    console.show_list([(record, steps[record.device_id], reached[record.device_id]) for record in records])


def show(server: Server, as_json: AsJson = False, forced: Forced = None) -> None:
    """Show everything about one field server: licenses, features, what waits, what became of its last messages."""
    with open_administrator(forced=forced) as administrator:
        record = planning.find_field_server(administrator.inventory.field_servers(), server)
        is_reached = administrator.workflows.look([record.device_id])[record.device_id]
        record = administrator.inventory.field_server(record.device_id) or record
        step = administrator.workflows.next_step(record.device_id)
        plan = administrator.inventory.assignments(record.device_id)
        value = schemas.show_field_server(
            record, is_reached=is_reached, next_step=step_sentence(step)
        ) | schemas.show_details(record, plan, administrator.mailbag)
    if as_json:
        console.show_json(value)
        return
    console.show_text(
        _(
            "{record} ({kind}) at {address}, device {device_id}",
            record=record.name,
            kind=record.kind,
            address=record.address,
            device_id=record.device_id,
        )
    )
    console.show_text(
        _(
            "Certificate {fingerprint}; {value}",
            fingerprint=record.contact.fingerprint,
            value="reached now" if is_reached else "not reached",
        )
    )
    console.show_table(
        [_("line"), _("product"), _("quantity")], console.cells(value["licenses"], "line", "product", "quantity")
    )
    columns = ("feature", "required", "used", "available", "activated", "standing", "why")
    console.show_table(columns, console.cells(value["features"], *columns))
    for feature in value["features"]:
        if feature["violation"]:
            console.show_text(_("VIOLATION: {feature}: {why}", feature=feature["feature"], why=feature["why"]))
    if text := step_sentence(step):
        console.show_text(_("Next: {step}", step=text))
