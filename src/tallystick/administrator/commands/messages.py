"""Commands about files of messages, and about receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from tallystick.administrator.app import open_administrator
from tallystick.administrator.commands import console, operations
from tallystick.administrator.commands.console import (
    AsJson,
    Forced,
)
from tallystick.administrator.commands.operations import IN_PART, REFUSED
from tallystick.administrator.core import schemas
from tallystick.administrator.core.file_courier import Import, write_durably, write_export
from tallystick.administrator.core.goals import (
    Goal,
    GoalResult,
    Sync,
)
from tallystick.administrator.ports import PortError
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.protocol.tallyfile import format_file
from tallystick.sentences import _, _n


def export(
    file: Annotated[Path, typer.Argument(help="Where to write.", metavar="FILE.tally")], as_json: AsJson = False
) -> None:
    """Write all messages that wait for the activation server to one file. Again gives the same messages."""
    with open_administrator() as administrator:
        waiting = administrator.mailbag.outbound()
        names = administrator.inventory.names()
        devices = {message.device_id for message in waiting}
        if waiting:
            write_export(file, waiting, names=names)
            administrator.mailbag.note_exported([one.digest for one in waiting], now=administrator.clock.now())
    next_step = (
        _("Upload {file} at the activation server, then: tallystick admin import REPLY.tally", file=file)
        if waiting
        else _("Nothing waits here. What field servers have written is gathered by: tallystick admin sync")
    )
    value = {
        "file": str(file) if waiting else None,
        "messages": len(waiting),
        "field_servers": sorted(names.get(device_id, device_id) for device_id in devices),
        "issuers": sorted({message.issuer for message in waiting}),
        "next_step": next_step,
    }
    console.show_result(
        value,
        _(
            "{messages} of {servers}. {next_step}",
            messages=_n("{count} message", "{count} messages", count=len(waiting)),
            servers=_n("{count} field server", "{count} field servers", count=len(devices)),
            next_step=next_step,
        ),
        as_json=as_json,
    )


def import_(
    files: Annotated[
        list[Path], typer.Argument(help="Any files that came back, in any order.", metavar="FILE.tally...")
    ],
    as_json: AsJson = False,
    forced: Forced = None,
) -> None:
    """Take in replies, keys and entitlement certificates, and deliver replies to field servers that can be reached."""
    with open_administrator(forced=forced) as administrator:
        reading = Import(
            inventory=administrator.inventory,
            mailbag=administrator.mailbag,
            courier=administrator.courier,
            now=administrator.clock.now(),
        )
        for file in files:
            reading.read(file)
        result = reading.result
        if not result.good and not result.bad:
            raise Error("not-text", expected=_("a tally file with at least one line"), seen=_("nothing in it"))
        waiting = {reply.device_id for reply in administrator.mailbag.inbound()}
        goals: dict[DeviceId, Goal] = {device_id: Sync() for device_id in sorted(reading.device_ids & waiting)}
        reports = operations.run(administrator, goals, as_json=as_json)
        records = {record.device_id: record for record in administrator.inventory.field_servers()}
    if as_json:
        shown = [schemas.show_report(one, records.get(one.device_id)) for one in reports]
        console.show_json({**schemas.show_import(result, reading.bad_lines), "field_servers": shown})
        operations.name_failures(reports)
    else:
        console.show_text(
            _(
                "Taken in: {replies}, {keysets}, {entitlements}, {requests} for the activation server; {fresh} of them new",
                replies=_n("{count} reply", "{count} replies", count=result.replies),
                keysets=_n("{count} keyset", "{count} keysets", count=result.keysets),
                entitlements=_n("{count} entitlement", "{count} entitlements", count=result.entitlements),
                requests=_n("{count} message", "{count} messages", count=result.requests),
                fresh=result.fresh,
            )
        )
        if reports:
            console.show_reports(reports)
    for bad in reading.bad_lines:
        console.show_error(
            PortError(
                bad.code,
                expected=_("line {line_number} of {file} to be good", line_number=bad.line_number, file=bad.file)
                if bad.line_number
                else _("to read {file}", file=bad.file),
                seen=bad.detail,
                next_step=bad.next_step,
            )
        )
    if result.bad:
        raise typer.Exit(IN_PART if result.good else REFUSED)
    if any(report.result in {GoalResult.REFUSED, GoalResult.FAILED, GoalResult.INTERRUPTED} for report in reports):
        raise typer.Exit(IN_PART)


def receipts(
    save: Annotated[Path | None, typer.Option(help="Also write the signed receipts to a tally file.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the receipts: signed proofs, kept for ever, that rights came back to their lines."""
    with open_administrator() as administrator:
        kept = administrator.mailbag.receipts()
        keysets = administrator.inventory.keysets()
    if save is not None:
        envelopes = [*(keyset.compact for keyset in keysets), *(receipt.compact for receipt in kept)]
        write_durably(
            save, b"".join(format_file(envelopes, comment="Tallystick: receipts, and the keys to check them."))
        )
    if as_json:
        console.show_json([schemas.show_receipt(receipt) for receipt in kept])
        return
    rows = [
        [one.name, one.issuer, ", ".join(f"{line} +{quantity}" for line, quantity in one.credits), one.digest]
        for one in kept
    ]
    console.show_table([_("field server"), _("issuer"), _("credited"), _("digest")], rows)
