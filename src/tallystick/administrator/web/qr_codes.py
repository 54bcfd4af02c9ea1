"""Carrying without a stick: messages as QR codes on this screen, and the replies read from another one."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.administrator.memory.messages import Outbound
from tallystick.administrator.memory.qr_frames import FrameBox
from tallystick.administrator.ports import next_step_of
from tallystick.administrator.web.base import PageRequest
from tallystick.administrator.web.carry import CODES_DEVICES_MAX, take_content
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.pages import CAMERA_HEADERS
from tallystick.pages.codes import (
    PHOTOS_MAX,
    TYPED_SYMBOLS_MAX,
    Fault,
    read_codes,
    row_of,
    show_codes,
)
from tallystick.pages.photos import PHOTO_BYTES_MAX
from tallystick.sentences import _

FILE_NAME: Final = "codes.tally"
_TRANSFER_SYMBOLS: Final = 16


def show_page(page: PageRequest) -> Response:
    """The messages of one field server, or of the few that were ticked, as codes; without a choice, all that wait."""
    bag, names = page.administrator.mailbag, page.administrator.inventory.names()
    chosen = [DeviceId(one[:60]) for one in page.request.query_params.getlist("device")]
    if len(chosen) > CODES_DEVICES_MAX:
        raise Error(
            "frames-too-many",
            expected=_("at most {codes_devices_max} field servers", codes_devices_max=CODES_DEVICES_MAX),
            seen=f"{len(chosen)}",
        )
    up = [one for device_id in dict.fromkeys(chosen) for one in bag.outbound(device_id)] if chosen else bag.outbound()
    if not up:
        raise Error(
            "no-messages", expected=_("a message that waits"), seen=_("none; it may have been answered meanwhile")
        )
    shown = show_codes(_content(up), only=page.text("only"))
    bag.note_exported([one.digest for one in up], now=page.now)
    return page.show(
        "codes.html", shown=shown, messages=len(up), issuers=sorted({one.issuer for one in up}),
        fields=[("device", device_id) for device_id in chosen], of=[names.get(one, one[:12]) for one in dict.fromkeys(row.device_id for row in up)],
    )  # fmt: skip


def read_page(page: PageRequest) -> Response:
    """Camera, photographs, text; what was read so far."""
    return _show(page, ())


def read(page: PageRequest) -> Response:
    """Codes came in: keep them. The first transfer that is whole now is taken in, and what came back is shown."""
    box = page.administrator.frames
    if forgotten := page.text("forget", _TRANSFER_SYMBOLS):
        box.forget(forgotten)
        return page.go("/carry/read")
    if wanted := page.text("take", _TRANSFER_SYMBOLS):
        return take_content(page, FILE_NAME, box.transfer(wanted).content())
    photos = [
        (file.filename or "photograph", file.file.read(PHOTO_BYTES_MAX + 1))
        for file in page.files("photos")[: PHOTOS_MAX + 1]
    ]
    found = read_codes(page.text("codes", TYPED_SYMBOLS_MAX + 1), photos)
    faults = list(found.faults)
    faults += [
        Fault(where=f"{frame.number} of {frame.count}", error=error)
        for frame, error in box.keep(found.frames, now=page.now)
    ]
    for transfer in dict.fromkeys(frame.transfer for frame in found.frames):
        if _is_whole(box, transfer):
            try:
                return take_content(page, FILE_NAME, box.transfer(transfer).content())
            except Error as error:
                faults.append(Fault(where=transfer, error=error))
    return _show(page, faults)


def _show(page: PageRequest, faults: list[Fault] | tuple[()]) -> Response:
    rows = [row_of(one.gathering, read_at=one.read_at) for one in page.administrator.frames.transfers()]
    next_steps = {fault.error.code: next_step_of(fault.error.code) for fault in faults}
    response = page.show("read_codes.html", rows=rows, faults=faults, next_steps=next_steps)
    response.headers.update(CAMERA_HEADERS)
    return response


def _is_whole(box: FrameBox, transfer: str) -> bool:
    return any(one.gathering.transfer == transfer and one.gathering.is_whole for one in box.transfers())


def _content(up: list[Outbound]) -> bytes:
    """Without names and moments, so that the same messages are the same transfer."""
    return b"".join(message.compact.encode() + b"\n" for message in up)
