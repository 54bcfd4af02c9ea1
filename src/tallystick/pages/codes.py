"""QR codes on a page, and what was read of those of another page: by a camera, from photographs, or typed.

Guarantees: good codes go through beside bad ones, each bad one with its code; how much is read is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import segno
from markupsafe import Markup

from tallystick.errors import Error
from tallystick.pages.photos import PHOTO_BYTES_MAX, read_photo
from tallystick.protocol.frames import (
    FRAMES_MAX,
    Frame,
    Gathering,
    format_numbers,
    make_frames,
    parse_frame,
    parse_numbers,
)
from tallystick.sentences import _

TYPED_SYMBOLS_MAX: Final = 400_000
PHOTOS_MAX: Final = 20
READ_BYTES_MAX: Final = 48 * 1024 * 1024
FAULTS_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCode:
    """One code: its number, its picture and the text in it."""

    number: int
    picture: Markup
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCodes:
    """A transfer to show. ``only``: the numbers that were asked for, as text; empty for all."""

    transfer: str
    count: int
    codes: tuple[ShownCode, ...]
    only: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that was no good, where it stood, and why."""

    where: str
    error: Error


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCodes:
    """What was read."""

    frames: tuple[Frame, ...]
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRow:
    """A transfer as the reading page shows it. ``missing``: numbers as text; ``read_at``: Unix seconds, the last code."""

    transfer: str
    count: int
    read: int
    missing: str
    read_at: int


def show_codes(content: bytes, *, only: str = "") -> ShownCodes:
    """A tally file as codes. Raises ``WireError`` (``frames-too-many``)."""
    frames = make_frames(content)
    wanted = parse_numbers(only, len(frames))
    return ShownCodes(
        transfer=frames[0].transfer,
        count=len(frames),
        codes=tuple(
            ShownCode(number=frame.number, picture=draw(frame.text), text=frame.text)
            for frame in frames
            if not wanted or frame.number in wanted
        ),
        only=format_numbers(wanted),
    )


def draw(text: str) -> Markup:
    """The text of a frame as an inline SVG without styles."""
    out = BytesIO()
    code = segno.make_qr(text, mode="alphanumeric", error="m", boost_error=False)
    code.save(
        out,
        kind="svg",
        xmldecl=False,
        svgns=False,
        omitsize=True,
        border=4,
        svgclass=None,
        lineclass=None,
        light="#fff",
    )
    return Markup(out.getvalue().decode())  # noqa: S704 - drawn by segno from its own numbers


def read_codes(typed: str, photos: Sequence[tuple[str, bytes]]) -> ReadCodes:
    """What a person typed, pasted or photographed: frames apart by white space, pictures by name.

    Raises ``Error`` (``frames-too-many``).
    """
    words = typed.split() if len(typed) <= TYPED_SYMBOLS_MAX else None
    if words is None or len(words) > FRAMES_MAX or len(photos) > PHOTOS_MAX:
        raise Error(
            "frames-too-many",
            expected=_(
                "at most {frames_max} codes and {photos_max} photographs at once",
                frames_max=FRAMES_MAX,
                photos_max=PHOTOS_MAX,
            ),
            seen=_("{symbols} symbols and {photographs} photographs", symbols=len(typed), photographs=len(photos)),
        )
    frames: list[Frame] = []
    faults: list[Fault] = []
    _take(frames, faults, ((f"Text {place}", word) for place, word in enumerate(words, start=1)))
    for name, data in photos:
        try:
            if len(data) > PHOTO_BYTES_MAX:
                raise Error(
                    "photo-unreadable",
                    expected=_("at most {photo_bytes_max} MiB", photo_bytes_max=PHOTO_BYTES_MAX // 1024 // 1024),
                    seen=_("a larger file"),
                )
            _take(frames, faults, ((name[:80], text) for text in read_photo(data)))
        except Error as error:
            faults.append(Fault(where=name[:80], error=error))
    return ReadCodes(frames=tuple(frames), faults=tuple(faults[:FAULTS_SHOWN_MAX]))


def row_of(gathering: Gathering, *, read_at: int) -> TransferRow:
    """A transfer for the reading page."""
    return TransferRow(
        transfer=gathering.transfer,
        count=gathering.count,
        read=len(gathering.pieces),
        missing=format_numbers(gathering.missing),
        read_at=read_at,
    )


def _take(frames: list[Frame], faults: list[Fault], texts: Iterable[tuple[str, str]]) -> None:
    for where, text in texts:
        try:
            frames.append(parse_frame(text))
        except Error as error:
            faults.append(Fault(where=where, error=error))
