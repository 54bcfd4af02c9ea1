"""A tally file as a sequence of frames, each small enough for one QR code (docs/protocol/qr.md).

Guarantees: the frames of a transfer, in any order and any number of times, mixed with those of others, give exactly the
file that they were made from, or an error; nothing read from a frame is believed before the whole fits its digest. Every
size is bounded, before and after inflation. Leaves to others: who made the messages, which their signatures say; where
frames are kept; pictures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tallystick.protocol.problems import WireError
from tallystick.sentences import _

PIECE_BYTES: Final = 200  # of what we make: 61 modules a side at level M, which any camera reads from a screen
PIECE_BYTES_MAX: Final = 1_000  # of what we read
FRAMES_MADE_MAX: Final = 100
FRAMES_MAX: Final = 400
CONTENT_BYTES_MAX: Final = 1024 * 1024
TEXT_SYMBOLS_MAX: Final = 2_000
TRANSFER_SYMBOLS: Final = 16
_TRANSFER_BYTES: Final = 10
_CHECK_BYTES: Final = 4
_FRAME: Final = re.compile(r"T1\.([A-Z2-7]{16})\.([1-9][0-9]{0,2})\.([1-9][0-9]{0,2})\.([A-Z2-7]+)")
_VERSION: Final = re.compile(r"T[0-9]{1,3}\.")
_RANGE: Final = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame: piece ``number`` of ``count`` (from 1) of the transfer."""

    transfer: str
    number: int
    count: int
    piece: bytes

    @property
    def text(self) -> str:
        """What stands in its QR code: symbols of the alphanumeric mode only."""
        head = _head(self.transfer, self.number, self.count)
        return head + _encode(self.piece + _check_sum(head, self.piece))


@dataclass(frozen=True, slots=True)
class Gathering:
    """The frames of one transfer that were read so far."""

    transfer: str
    count: int
    pieces: dict[int, bytes]

    @property
    def missing(self) -> list[int]:
        """The numbers that were not read yet."""
        return [number for number in range(1, self.count + 1) if number not in self.pieces]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return len(self.pieces) == self.count

    def add(self, frame: Frame) -> bool:
        """Take a frame of this transfer; whether it is new. Raises ``WireError`` (``frame-contradicts``)."""
        known = self.pieces.get(frame.number)
        if frame.transfer != self.transfer or frame.count != self.count or known not in {None, frame.piece}:
            raise WireError(
                "frame-contradicts",
                expected=_(
                    "a code of the {count} of transfer {transfer}, as it was read before",
                    count=self.count,
                    transfer=self.transfer,
                ),
                seen=_("another {number} of {count}", number=frame.number, count=frame.count),
            )
        self.pieces[frame.number] = frame.piece
        return known is None

    def content(self) -> bytes:
        """The tally file. Raises ``WireError`` (``frames-missing``, ``frames-differ``)."""
        if not self.is_whole:
            raise WireError(
                "frames-missing",
                expected=_("{count} codes", count=self.count),
                seen=_("all but {format_numbers}", format_numbers=format_numbers(self.missing)),
            )
        stream = b"".join(self.pieces[number] for number in range(1, self.count + 1))
        if _transfer_of(stream, self.count) != self.transfer:
            raise WireError(
                "frames-differ",
                expected=_("what transfer {transfer} names", transfer=self.transfer),
                seen=_("something else"),
            )
        return _inflate(stream)


def make_frames(content: bytes) -> tuple[Frame, ...]:
    """The frames of a tally file. Raises ``WireError`` (``frames-too-many``)."""
    stream = zlib.compress(content, 9) if len(content) <= CONTENT_BYTES_MAX else b""
    count = -(-len(stream) // PIECE_BYTES)
    if not 1 <= count <= FRAMES_MADE_MAX:
        raise WireError(
            "frames-too-many",
            expected=_(
                "messages that fit into {codes} codes, about {count} bytes",
                codes=FRAMES_MADE_MAX,
                count=FRAMES_MADE_MAX * PIECE_BYTES,
            ),
            seen=_("{count} codes", count=count) if stream else _("{count} bytes", count=len(content)),
        )
    return _split(stream, count)


def _split(stream: bytes, count: int) -> tuple[Frame, ...]:
    """A deflated file in ``count`` frames: all pieces as long as the first, but for the last."""
    size, transfer = -(-len(stream) // count), _transfer_of(stream, count)
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    return tuple(
        Frame(transfer=transfer, number=number, count=count, piece=piece)
        for number, piece in enumerate(pieces, start=1)
    )


def parse_frame(text: str) -> Frame:
    """One frame, as a reader or a person typed it. Raises ``WireError`` (``frame-torn``, ``frame-version``)."""
    if len(text) > TEXT_SYMBOLS_MAX:
        raise _torn(_("{text} symbols", text=len(text)))
    plain = text.strip().upper()
    found = _FRAME.fullmatch(plain) if plain.isascii() else None
    if found is None:
        if plain.isascii() and _VERSION.match(plain) and not plain.startswith("T1."):
            raise WireError("frame-version", expected=_("a code that begins with T1"), seen=plain.partition(".")[0])
        raise _torn(repr(text[:40]))
    transfer, number, count, payload = found[1], int(found[2]), int(found[3]), found[4]
    data = _decode(payload)
    piece, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if not 1 <= len(piece) <= PIECE_BYTES_MAX or not number <= count <= FRAMES_MAX:
        raise _torn(_("{number} of {count} with {piece} bytes", number=number, count=count, piece=len(piece)))
    if check != _check_sum(_head(transfer, number, count), piece):
        raise _torn(_("{number} of {count}, altered", number=number, count=count))
    return Frame(transfer=transfer, number=number, count=count, piece=piece)


def format_numbers(numbers: Iterable[int]) -> str:
    """Numbers for people: ``3, 7-9``."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def parse_numbers(text: str, count: int) -> list[int]:
    """What a person typed: ``3, 7-9``. Parts that are no numbers up to ``count`` are passed over."""
    wanted: set[int] = set()
    for part in text[:TEXT_SYMBOLS_MAX].replace(";", ",").replace(" ", ",").split(","):
        found = _RANGE.fullmatch(part)
        if found is not None:
            wanted.update(range(max(int(found[1]), 1), min(int(found[2] or found[1]), count) + 1))
    return sorted(wanted)


def _head(transfer: str, number: int, count: int) -> str:
    return f"T1.{transfer}.{number}.{count}."


def _check_sum(head: str, piece: bytes) -> bytes:
    return zlib.crc32(head.encode() + piece).to_bytes(_CHECK_BYTES, "big")


def _transfer_of(stream: bytes, count: int) -> str:
    return _encode(hashlib.sha256(f"T1.{count}.".encode() + stream).digest()[:_TRANSFER_BYTES])


def _inflate(stream: bytes) -> bytes:
    inflating = zlib.decompressobj()
    try:
        content = inflating.decompress(stream, CONTENT_BYTES_MAX)
        is_whole = inflating.eof and not inflating.unused_data
    except zlib.error:
        content, is_whole = b"", False
    if not is_whole:
        raise WireError(
            "frames-differ",
            expected=_(
                "one deflated tally file of at most {content_bytes_max} bytes", content_bytes_max=CONTENT_BYTES_MAX
            ),
            seen=_("a longer one, or none"),
        )
    return content


def _encode(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=")


def _decode(payload: str) -> bytes:
    try:
        data = base64.b32decode(payload + "=" * (-len(payload) % 8))
    except binascii.Error:
        raise _torn(_("a payload that was cut")) from None
    if _encode(data) != payload:  # unused bits that are not zero
        raise _torn(_("a payload that was altered"))
    return data


def _torn(seen: str) -> WireError:
    return WireError("frame-torn", expected=_("a whole code of Tallystick, which begins with T1"), seen=seen)
