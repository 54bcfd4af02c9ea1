"""Messages that come as QR codes, and the replies to them as QR codes: for who carries without a stick."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import Form, PageRequest, redirect
from tallystick.activation.http.portal.messages import check_length
from tallystick.activation.services import OfficeError, messages, qr_codes
from tallystick.errors import Error
from tallystick.pages import CAMERA_HEADERS
from tallystick.pages.codes import FAULTS_SHOWN_MAX, PHOTOS_MAX, Fault, read_codes, row_of, show_codes
from tallystick.pages.photos import PHOTO_BYTES_MAX
from tallystick.protocol.problems import problem_for


async def read(page: PageRequest) -> Response:
    """Camera, photographs, text; what was read so far. A whole transfer is delivered at once."""
    page.who.caller.check(Permission.DELIVER)
    if page.request.method == "GET":
        return await _show(page, ())
    await check_length(page)
    async with page.request.form(max_files=PHOTOS_MAX + 1, max_fields=10) as data:
        form = Form(data)
        page.check_form(form.text("csrf"))
        if forgotten := form.text("forget"):
            await page.do(qr_codes.forget, page.office, page.who.caller, forgotten)
            return redirect("/deliver/codes")
        if wanted := form.text("take"):
            return await _deliver(page, wanted, [])
        photos = [
            (file.filename or "photograph", await file.read(PHOTO_BYTES_MAX + 1))
            for file in form.files("photos")
            if file.filename
        ]
        typed = form.text("codes")
    found = await page.do(read_codes, typed, photos)
    refused = await page.do(qr_codes.keep, page.office, page.who.caller, found.frames)
    faults = [
        *found.faults,
        *(Fault(where=f"{frame.number} of {frame.count}", error=error) for frame, error in refused),
    ]
    whole = {
        kept.transfer for kept, _ in await page.do(qr_codes.transfers, page.office, page.who.caller) if kept.is_whole
    }
    for transfer in dict.fromkeys(frame.transfer for frame in found.frames):
        if transfer in whole:
            return await _deliver(page, transfer, faults)
    return await _show(page, faults)


async def transfer(page: PageRequest) -> Response:
    """What became of the messages of a transfer, and the replies as codes."""
    caller, office = page.who.caller, page.office
    name = page.request.path_params["transfer"]
    file = await page.do(qr_codes.content, office, caller, name)
    brought = await page.do(qr_codes.brought, office, caller, file)
    digests = [one.answer.digest for one in brought if one.answer is not None]
    shown, problem = None, None
    if digests:
        replies = await page.do(messages.replies, office, caller, digests, comment=False)
        try:
            shown = await page.do(show_codes, replies, only=page.asked("only", 400))
        except Error as error:
            problem = error
    return await page.show(
        "qr_codes_transfer.html",
        transfer=name,
        brought=brought,
        digests=digests,
        shown=shown,
        problem=problem,
        next_step=problem_for(problem.code).next_step if problem else "",
    )


async def _deliver(page: PageRequest, name: str, faults: list[Fault]) -> Response:
    try:
        file = await page.do(qr_codes.content, page.office, page.who.caller, name)
    except Error as error:
        return await _show(page, [*faults, Fault(where=name, error=error)])
    made = await page.do(messages.deliver, page.office, page.who.caller, [("codes", [file])])
    if made.digests:
        return redirect(f"/deliver/codes/{name}")
    faults += [
        Fault(where=f"Message {row.line_number}", error=_error(row.code, row.detail)) for row in made.rows if row.code
    ]
    return await _show(page, faults[:FAULTS_SHOWN_MAX])


def _error(code: str, detail: str) -> OfficeError:
    return OfficeError(code, expected=problem_for(code).expected, seen=detail)


async def _show(page: PageRequest, faults: Sequence[Fault]) -> Response:
    kept = await page.do(qr_codes.transfers, page.office, page.who.caller)
    response = await page.show(
        "qr_codes_read.html",
        rows=[row_of(gathering, read_at=read_at) for gathering, read_at in kept],
        faults=faults,
        next_steps={fault.error.code: problem_for(fault.error.code).next_step for fault in faults},
    )
    response.headers.update(CAMERA_HEADERS)
    return response
