"""What is shown, as plain values: the same for ``--json`` and for pages. Moments are Unix seconds. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tallystick.administrator.core.dry_run import Prediction
from tallystick.administrator.core.file_courier import BadImport, ImportSummary
from tallystick.administrator.core.goals import Report
from tallystick.administrator.memory.inventory import Assignment, FieldServerRecord, Inventory, KnownEntitlement
from tallystick.administrator.memory.messages import Mailbag, Receipt
from tallystick.administrator.ports import Probe, RouteReport

View = dict[str, Any]


def show_report(report: Report, record: FieldServerRecord | None) -> View:
    """A report for ``--json``."""
    return {
        "name": report.name,
        "device_id": report.device_id,
        "result": str(report.result),
        "finished": report.is_finished,
        "code": report.code,
        "detail": report.detail,
        "next_step": report.next_step,
        "reasons": [
            {"line": reason.line, "code": reason.code, "expected": reason.expected, "seen": reason.seen}
            for reason in report.reasons
        ],
        "licenses": show_licenses(record),
    }


def show_foreseen(row: Prediction) -> View:
    """A row of a dry run."""
    return {
        "name": row.name,
        "device_id": row.device_id,
        "line": row.line_id,
        "product": row.product,
        "before": row.before,
        "after": row.after,
        "effect": str(row.effect),
        "certain": row.is_certain,
        "code": row.code,
        "why": row.why,
        "next_step": row.next_step,
    }


def show_licenses(record: FieldServerRecord | None) -> list[View]:
    """The licenses that a field server was last seen to hold, for ``--json``."""
    if record is None or record.report is None:
        return []
    return [
        {
            "line": license_.line,
            "product": license_.product,
            "quantity": license_.quantity,
            "expires": license_.expires,
            "engineering": license_.engineering,
            "expired": license_.expired,
        }
        for license_ in record.report.licenses
    ]


def show_field_server(record: FieldServerRecord, *, is_reached: bool, next_step: str) -> View:
    """A row of the list of field servers."""
    report = record.report
    return {
        "name": record.name,
        "device_id": record.device_id,
        "kind": record.kind,
        "site": record.site,
        "address": record.address,
        "reachable": is_reached,
        "licenses": show_licenses(record),
        "next_step": next_step,
        "seen_at": record.seen_at,
        "trouble": None if record.trouble is None else record.trouble.code,
        "trust": None if report is None or report.trust is msgspec.UNSET else report.trust,
        "violations": [] if report is None else [one.feature for one in report.features if one.violation],
    }


def show_details(record: FieldServerRecord, plan: Sequence[Assignment], mailbag: Mailbag) -> View:
    """What else is known about one field server."""
    seen: View = {} if record.report is None else msgspec.to_builtins(record.report)
    return {
        "fingerprint": record.contact.fingerprint,
        "host_id": record.host_id,
        "epoch": seen.get("epoch"),
        "features": seen.get("features", []),
        "outbox": seen.get("outbox", []),
        "outcomes": seen.get("outcomes", []),
        "rolled_back_at": seen.get("rolled_back_at"),
        "final": seen.get("final", False),
        "plan": [{"line": one.line_id, "quantity": one.quantity} for one in plan],
        "outbound": [
            {"digest": one.digest, "purpose": one.purpose, "sequence": one.sequence, "code": one.code}
            for one in mailbag.outbound(record.device_id)
        ],
        "inbound": [
            {"digest": one.digest, "kind": one.kind, "code": one.code} for one in mailbag.inbound(record.device_id)
        ],
    }


def show_entitlement(known: KnownEntitlement, inventory: Inventory) -> View:
    """An entitlement, and where its lines are planned and were last seen."""
    plan = inventory.assignments()
    held = [record.held for record in inventory.field_servers()]
    lines = inventory.lines()
    return {
        "entitlement_id": known.entitlement_id,
        "account": known.account,
        "issuer": known.issuer,
        "lines": [
            {
                "line": line.line_id,
                "activation_id": line.terms.activation_id,
                "product": line.terms.product,
                "name": line.terms.name,
                "quantity": line.terms.quantity,
                "available": line.available,
                "available_at": line.available_at,
                "planned": sum(one.quantity for one in plan if one.line_id == line.line_id),
                "held": sum(one.get(line.line_id, 0) for one in held),
                "kinds": list(line.terms.kinds),
                "expires": line.terms.expires,
                "one_carry": line.terms.one_carry,
                "returnable": line.terms.returnable,
                "engineering": line.terms.engineering,
            }
            for line in (lines[one.line_id] for one in known.lines)
        ],
    }


def show_route(found: RouteReport) -> View:
    """The route, and who was asked."""
    return {
        "route": str(found.route),
        "why": found.why,
        "activation": [
            {"issuer": probe.name, "url": probe.address, **_show_probe(probe)} for probe in found.activation
        ],
        "field_servers": [
            {"name": probe.name, "address": probe.address, **_show_probe(probe)} for probe in found.field_servers
        ],
    }


def show_import(result: ImportSummary, bad_lines: Sequence[BadImport]) -> View:
    """What files brought."""
    return {
        "replies": result.replies,
        "requests": result.requests,
        "keysets": result.keysets,
        "entitlements": result.entitlements,
        "new": result.fresh,
        "bad": [
            {
                "file": bad.file,
                "line_number": bad.line_number,
                "code": bad.code,
                "detail": bad.detail,
                "next_step": bad.next_step,
            }
            for bad in bad_lines
        ],
    }


def show_receipt(receipt: Receipt) -> View:
    """A receipt, with its envelope, verbatim."""
    return {
        "digest": receipt.digest,
        "name": receipt.name,
        "device_id": receipt.device_id,
        "issuer": receipt.issuer,
        "at": receipt.issued_at,
        "credits": [{"line": line, "quantity": quantity} for line, quantity in receipt.credits],
        "receipt": receipt.compact,
    }


def _show_probe(probe: Probe) -> View:
    return {"reachable": probe.reachable, "why": probe.why}
