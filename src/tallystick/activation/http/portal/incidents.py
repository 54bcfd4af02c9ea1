"""Incidents: what was noticed, who looks at it, what ended it."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.activation.core.ports import IncidentKind, IncidentState
from tallystick.activation.http.portal.base import PAGE_ROWS, PageRequest, redirect
from tallystick.activation.http.portal.forms import check_named
from tallystick.activation.services import OfficeError, incidents
from tallystick.sentences import _

STATES: Final = {
    "": (_("not resolved"), incidents.NOT_OVER),
    "open": (_("open"), (IncidentState.OPEN,)),
    "acknowledged": (_("acknowledged"), (IncidentState.ACKNOWLEDGED,)),
    "resolved": (_("resolved"), (IncidentState.RESOLVED,)),
    "any": (_("any"), ()),
}


async def list_page(page: PageRequest) -> Response:
    """Newest first; those that are not over, where nothing else is asked for."""
    kind, state, before = page.asked("kind"), page.asked("state"), page.asked("before")
    found = await page.do(
        incidents.find_incidents,
        page.office,
        page.who.caller,
        kind=IncidentKind(kind) if kind in set(IncidentKind) else None,
        states=STATES.get(state, STATES[""])[1],
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None,
        limit=PAGE_ROWS + 1,
    )
    return await page.show(
        "incidents.html",
        incidents=found[:PAGE_ROWS],
        kind=kind,
        state=state,
        states=[(name, text) for name, (text, _chosen) in STATES.items()],
        kinds=[("", _("any"))] + [(known.value, known.value) for known in IncidentKind],
        next_before=found[PAGE_ROWS - 1].number if len(found) > PAGE_ROWS else "",
    )


async def handle(page: PageRequest) -> Response:
    """Acknowledge or resolve one, as the button says."""
    text = page.request.path_params["number"]
    form = await page.form()
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise OfficeError("not-found", expected=_("an incident that is known here"), seen=text[:80])
    note = form.text("note") and check_named(form.text("note"), _("a note"))
    work = incidents.resolve if form.text("do") == "resolve" else incidents.acknowledge
    await page.do(work, page.office, page.who.caller, int(text), note=note)
    return redirect("/incidents?said=saved")
