"""The audit trail: who did what."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.activation.http.portal.base import PAGE_ROWS, PageRequest
from tallystick.activation.services import trail


async def list_page(page: PageRequest) -> Response:
    """Who did what."""
    before = page.asked("before")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None
    found = await page.do(trail.find_records, page.office, page.who.caller, before=number, limit=PAGE_ROWS + 1)
    return await page.show(
        "trail.html",
        records=found[:PAGE_ROWS],
        next_before=found[PAGE_ROWS - 1].number if len(found) > PAGE_ROWS else "",
    )
