"""The ledger: rights that moved, on pages and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import PAGE_ROWS, PageRequest, cursor_parts
from tallystick.activation.http.portal.forms import check_device, check_line, parse_day
from tallystick.activation.services import ledger
from tallystick.activation.services.schemas import EntryDocument
from tallystick.errors import Error
from tallystick.pages import PAGE_HEADERS
from tallystick.protocol.problems import problem_page

_CSV_PAGE: Final = 1000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def _filters(page: PageRequest) -> dict[str, object]:
    asked_line, asked_device = page.asked("line"), page.asked("device")
    until_at = parse_day(page.asked("until"))
    return {
        "line_id": check_line(asked_line) if asked_line else None,
        "device_id": check_device(asked_device) if asked_device else None,
        "since_at": parse_day(page.asked("since"), is_end=False),
        "until_at": None if until_at is None else until_at + 1,
    }


async def ledger_page(page: PageRequest) -> Response:
    """Rights that moved, newest first."""
    page.who.caller.check(Permission.READ)
    document, found = None, []
    place = cursor_parts(page.asked("before"), 3)
    before = (int(place[0]), place[1], int(place[2])) if place and place[2].isdigit() and len(place[2]) < 16 else None
    try:
        found = await page.do(
            ledger.find_entries,
            page.office,
            page.who.caller,
            before=before,
            limit=PAGE_ROWS + 1,
            **_filters(page),
        )
    except Error as error:
        document = problem_page(error)
    last = found[PAGE_ROWS - 1] if len(found) > PAGE_ROWS else None
    asked = {name: page.asked(name, 60) for name in ("line", "device", "since", "until")}
    return await page.show(
        "ledger.html",
        document=document,
        entries=found[:PAGE_ROWS],
        asked=asked,
        next_before=f"{last.booked_at}.{last.line}.{last.number}" if last else "",
    )


async def ledger_csv(page: PageRequest) -> Response:
    """The same as CSV, all of it."""
    caller, office = page.who.caller, page.office
    caller.check(Permission.READ)
    filters = _filters(page)

    def rows() -> Iterator[str]:
        yield _csv_row(list(EntryDocument.model_fields))
        before: tuple[int, str, int] | None = None
        while True:
            found = ledger.find_entries(office, caller, before=before, limit=_CSV_PAGE, **filters)  # type: ignore[arg-type]  # as _filters makes them
            yield "".join(_csv_row(list(entry.model_dump(mode="json").values())) for entry in found)
            if len(found) < _CSV_PAGE:
                return
            before = (found[-1].booked_at, found[-1].line, found[-1].number)

    headers = {**PAGE_HEADERS, "Content-Disposition": 'attachment; filename="ledger.csv"'}
    return StreamingResponse(rows(), media_type="text/csv; charset=utf-8", headers=headers)


def _csv_row(values: list[object]) -> str:
    """One row. A text that a spreadsheet would take for a formula is marked as text."""
    texts = ["" if value is None else str(value) for value in values]
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(
        [
            f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
            for value, text in zip(values, texts, strict=True)
        ]
    )
    return out.getvalue()
