"""Deliver: the upload box for messages, and the replies to download."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import Form, PageRequest, download
from tallystick.activation.services import OfficeError, messages
from tallystick.sentences import _

UPLOAD_BYTES_MAX: Final = 64 * 1024 * 1024
DRAIN_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
FILES_MAX: Final = 100
_PIECE_BYTES: Final = 256 * 1024


async def deliver(page: PageRequest) -> Response:
    """Any tally files, any mixture: what each message wanted and what became of it."""
    page.who.caller.check(Permission.DELIVER)
    if page.request.method == "GET":
        return await page.show("messages.html", made=None)
    await check_length(page)
    async with page.request.form(max_files=FILES_MAX, max_fields=10) as data:
        form = Form(data)
        page.check_form(form.text("csrf"))
        files = [file for file in form.files("files") if file.filename or file.size]
        if not files:
            raise OfficeError("no-messages", expected=_("at least one tally file"), seen=_("no file chosen"))
        named = [((file.filename or "")[:128], _pieces(file)) for file in files]
        made = await page.do(messages.deliver, page.office, page.who.caller, named)
    return await page.show("messages.html", made=made)


async def check_length(page: PageRequest) -> None:
    """Raises ``OfficeError`` for too long an upload, after reading it away: a browser shows no answer that comes before."""
    length = page.request.headers.get("content-length", "")
    if length.isdigit() and int(length) <= UPLOAD_BYTES_MAX:
        return
    seen_bytes = 0
    try:
        async for piece in page.request.stream():
            seen_bytes += len(piece)
            if seen_bytes > DRAIN_BYTES_MAX:
                break
    except ClientDisconnect:
        pass
    raise OfficeError(
        "body-too-large",
        expected=_(
            "at most {upload_bytes_max} MiB at once; tally files are small, and larger ones go to POST /v1/messages",
            upload_bytes_max=UPLOAD_BYTES_MAX // 1024 // 1024,
        ),
        seen=_("{length} bytes", length=length or "an unknown number of"),
    )


def _pieces(file: UploadFile) -> Iterator[bytes]:
    while piece := file.file.read(_PIECE_BYTES):
        yield piece


async def replies(page: PageRequest) -> Response:
    """The replies to some messages, as one file to download."""
    length = page.request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > UPLOAD_BYTES_MAX:
        raise OfficeError("body-too-large", expected=_("the form of the page before"), seen=length or _("no length"))
    form = Form(await page.request.form(max_fields=500_000))
    page.check_form(form.text("csrf"))
    digests = form.text("digests").split()
    file = await page.do(messages.replies, page.office, page.who.caller, digests)
    return download(file, "replies.tally")
