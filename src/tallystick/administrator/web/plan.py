"""The page Plan: entitlements beside field servers. Changes nothing on a field server."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.responses import Response

from tallystick.administrator.core import pinning, planning
from tallystick.administrator.core.dry_run import LineStanding, standings_of
from tallystick.administrator.core.senders import senders_of
from tallystick.administrator.memory.inventory import FieldServerRecord, KnownLine
from tallystick.administrator.web.base import PageRequest, at_field
from tallystick.administrator.web.carry import take_content
from tallystick.administrator.web.field_servers import chosen_of, sites_of
from tallystick.domain.ids import DeviceId
from tallystick.domain.text import is_among
from tallystick.errors import Error
from tallystick.sentences import _


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """A line with where its quantity is, as far as it is known here."""

    standing: LineStanding
    planned: int

    @property
    def line(self) -> KnownLine:
        """The line itself."""
        return self.standing.line

    @property
    def left(self) -> int:
        """What could still be planned."""
        return self.line.terms.quantity - self.planned - self.standing.departed


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCell:
    """A field server beside the chosen line. ``why_not`` is empty where the product applies."""

    record: FieldServerRecord
    planned: int | None
    held: int
    why_not: str = ""


def plan_page(page: PageRequest) -> Response:
    """The lines; beside the chosen one, the field servers."""
    inventory = page.administrator.inventory
    records, plan, lines = page.reading.records, inventory.assignments(), inventory.lines()
    departed = inventory.departed()
    rows = [
        LineRow(
            standing=replace(
                standing,
                departed=sum(one.quantity for one in departed if one.line_id == standing.line.line_id),
            ),
            planned=sum(one.quantity for one in plan if one.line_id == standing.line.line_id),
        )
        for standing in standings_of(lines.keys(), records, lines=lines, proving=page.reading.proving)
    ]
    chosen = next((row for row in rows if row.line.line_id == page.text("line")), rows[0] if rows else None)
    site, places = page.text("site"), []
    if chosen is not None:
        line_id = chosen.line.line_id
        planned = {one.device_id: one.quantity for one in plan if one.line_id == line_id}
        places = [
            PlanCell(
                record=record,
                planned=planned.get(record.device_id),
                held=record.held.get(line_id, 0),
                why_not=_why_not(chosen.line, record, now=page.now),
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
    return page.show(
        "plan.html", rows=rows, chosen=chosen, places=places, ticked=set(page.texts("device")), departed=departed, lines=lines, site=site, sites=sites_of(records),
        entitlements=inventory.entitlements(), differing=len(differing), urls=inventory.activation_urls(),
    )  # fmt: skip


def assign(page: PageRequest) -> Response:
    """Plan a quantity of the line on each ticked field server, or remove the line from the plan there."""
    inventory = page.administrator.inventory
    chosen, line = chosen_of(page), page.text("line", 100)
    if page.text("do") == "unassign":
        found = planning.choose_line(line, inventory.lines(), chosen)
        for record in chosen:
            inventory.unplan(record.device_id, [found.line_id])
    else:
        pair = f"{line}={page.text('quantity', 20)}"
        with at_field("quantity"):
            quantity = page.text("quantity", 20)
            if not quantity.isascii() or not quantity.isdigit():
                raise Error("quantity-wrong", expected=_("a whole number"), seen=quantity or _("nothing"))
            planning.assign(inventory, [pair], chosen, now=page.now, ask=page.administrator.ask_available)
    return page.go(f"/plan?line={line}")


def forget(page: PageRequest) -> Response:
    """A field server that was removed from the list holds nothing any more, a person says."""
    page.administrator.inventory.forget_departed(DeviceId(page.text("device", 100)))
    return page.go("/plan")


def add_entitlement(page: PageRequest) -> Response:
    """By its ID, where there is a route, or by its certificate file."""
    administrator = page.administrator
    url = page.text("url", 300) or None
    files = page.files("certificate")
    if files:
        content = files[0].file.read()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "certificate.tally"
            with path.open("xb") as out:
                out.write(content)
            if any(one.is_strange for one in senders_of([path], administrator.inventory)):
                return take_content(page, Path(files[0].filename or "certificate.tally").name[:200], content)
            with at_field("certificate"):
                known = pinning.learn_certificate(
                    administrator.courier,
                    administrator.inventory,
                    administrator.mailbag,
                    path=path,
                    url=url,
                    now=page.now,
                )
    elif page.text("entitlement"):
        with at_field("entitlement"):
            known = [
                pinning.learn_entitlement(
                    administrator.courier,
                    administrator.inventory,
                    text=page.text("entitlement", 100),
                    url=url,
                    now=page.now,
                )
            ]
    else:
        raise Error("usage", expected=_("an entitlement ID, or a certificate file"), seen=_("neither"))
    return page.go(f"/plan?line={known[0].lines[0].line_id}" if known[0].lines else "/plan")


def _why_not(line: KnownLine, record: FieldServerRecord, *, now: int) -> str:
    terms = line.terms
    if not is_among(record.kind, terms.kinds):
        return _("For {kinds}, not for {kind}", kinds=", ".join(sorted(terms.kinds)), kind=record.kind)
    if terms.expires is not None and terms.expires <= now:
        return _("The line has expired; have it extended")
    return ""
