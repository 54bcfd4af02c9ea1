"""The page Plan: entitlements beside field servers. Changes nothing on a field server."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from starlette.responses import Response

from tallystick.administrator.core import pinning, planning
from tallystick.administrator.memory.inventory import FieldServerRecord, KnownLine
from tallystick.administrator.web.base import PageRequest
from tallystick.administrator.web.field_servers import chosen_of, sites_of
from tallystick.errors import Error


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """A line with where its quantity is, as far as it is known here."""

    line: KnownLine
    planned: int
    held: int

    @property
    def left(self) -> int:
        """What could still be planned."""
        return self.line.terms.quantity - self.planned


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCell:
    """A field server beside the chosen line. ``why_not`` is empty where the product applies."""

    record: FieldServerRecord
    planned: int | None
    held: int
    why_not: str = ""


def plan_page(ask: PageRequest) -> Response:
    """The lines; beside the chosen one, the field servers."""
    inventory = ask.administrator.inventory
    records, plan = inventory.field_servers(), inventory.assignments()
    rows = [
        LineRow(
            line=line,
            planned=sum(one.quantity for one in plan if one.line_id == line.line_id),
            held=sum(record.held.get(line.line_id, 0) for record in records),
        )
        for line in inventory.lines().values()
    ]
    chosen = next((row for row in rows if row.line.line_id == ask.text("line")), rows[0] if rows else None)
    site, places = ask.text("site"), []
    if chosen is not None:
        line_id = chosen.line.line_id
        planned = {one.device_id: one.quantity for one in plan if one.line_id == line_id}
        places = [
            PlanCell(
                record=record,
                planned=planned.get(record.device_id),
                held=record.held.get(line_id, 0),
                why_not=_why_not(chosen.line, record, now=ask.now),
            )
            for record in records
            if not site or record.site == site
        ]
    differing = {
        one.device_id
        for record in records
        for one in plan
        if one.device_id == record.device_id and record.held.get(one.line_id, 0) != one.quantity
    }
    return ask.page(
        "plan.html", rows=rows, chosen=chosen, places=places, site=site, sites=sites_of(records),
        entitlements=inventory.entitlements(), differing=len(differing), urls=inventory.activation_urls(),
    )  # fmt: skip


def assign(ask: PageRequest) -> Response:
    """Plan a quantity of the line on each ticked field server, or take the line off the plan there."""
    inventory = ask.administrator.inventory
    chosen, line = chosen_of(ask), ask.text("line", 100)
    if ask.text("do") == "unassign":
        found = planning.choose_line(line, inventory.lines(), chosen)
        for record in chosen:
            inventory.unplan(record.device_id, [found.line_id])
    else:
        planning.assign(inventory, [f"{line}={ask.text('quantity', 20)}"], chosen, now=ask.now)
    return ask.go(f"/plan?line={line}")


def add_entitlement(ask: PageRequest) -> Response:
    """By its ID, where there is a route, or by its certificate file."""
    administrator = ask.administrator
    url = ask.text("url", 300) or None
    files = ask.files("certificate")
    if files:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "certificate.tally"
            path.write_bytes(files[0].file.read())
            known = pinning.learn_certificate(
                administrator.courier, administrator.inventory, administrator.mailbag, path=path, url=url, now=ask.now
            )
    elif ask.text("entitlement"):
        known = [
            pinning.learn_entitlement(
                administrator.courier, administrator.inventory, text=ask.text("entitlement", 100), url=url, now=ask.now
            )
        ]
    else:
        raise Error("usage", expected="an entitlement ID, or a certificate file", seen="neither")
    return ask.go(f"/plan?line={known[0].lines[0].line_id}" if known[0].lines else "/plan")


def _why_not(line: KnownLine, record: FieldServerRecord, *, now: int) -> str:
    terms = line.terms
    if record.kind not in terms.kinds:
        return f"For {', '.join(sorted(terms.kinds))}, not for {record.kind}"
    if terms.expires is not None and terms.expires <= now:
        return "The line has expired; have it extended"
    return ""
