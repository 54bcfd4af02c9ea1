"""The tally file: one envelope a line, any kinds mixed, any order (protocol, section 2).

Read as a stream, with a limit per line and none on the number of lines. Blank lines and lines that begin with ``#``
are for human readers and are never trusted. A line that is no envelope becomes a ``BadLine`` in its place, so that
the good lines beside it go through. What a mail program or a shell does to a file is undone where that is safe (UTF-16
with its mark, lines quoted with ``>``); an archive, a mail and broken lines are called what they are.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct

from tallystick.protocol.envelope import LINE_BYTES_MAX, Unverified, open_envelope
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import know

MEDIA_TYPE: Final = "application/x-tally"
SUFFIX: Final = ".tally"
_BEGINNING_BYTES: Final = 4
_PACKED: Final = {b"PK\x03\x04": "a zip archive", b"\x1f\x8b": "a gzip file", b"7z\xbc\xaf": "a 7z archive"}
_MAIL: Final = re.compile(
    rb"(?i)(?:from|to|subject|date|mime-version|message-id|received|return-path|content-(?:type|transfer-encoding|disposition)):"
)
_WRAPPED_BYTES_MAX: Final = 80  # mail programs break at 72 to 78
_PIECE: Final = re.compile(rb"[A-Za-z0-9_.=-]{20,}")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class BadLine(Struct, frozen=True, kw_only=True):
    """A line that is no envelope, and why."""

    line_number: int
    error: WireError


class GoodLine(Struct, frozen=True, kw_only=True):
    """A line that has the form of an envelope. Nothing in it is verified yet."""

    line_number: int
    envelope: Unverified


OpenLine = Callable[[bytes], Unverified]  # raises ``WireError``


def parse_chunks(chunks: Iterable[bytes], open_line: OpenLine = open_envelope) -> Iterator[GoodLine | BadLine]:
    """Read a tally file from byte chunks of any size, in memory that does not depend on its length.

    Of a line beyond the limit only the beginning is ever kept. ``open_line`` takes a line apart, or refuses to.
    """
    parser = LineParser(open_line)
    for chunk in chunks:
        yield from parser.feed(chunk)
    yield from parser.close()


class LineParser:
    """The same for callers that receive chunks from elsewhere (an asynchronous body)."""

    def __init__(self, open_line: OpenLine = open_envelope) -> None:
        self._open_line = open_line
        self._line_number = 0
        self._kept = bytearray()
        self._bytes_dropped = 0
        self._beginning: bytes | None = b""  # until it is long enough to tell what this is
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_packed = False

    def feed(self, chunk: bytes) -> Iterator[GoodLine | BadLine]:
        """Whole lines that ``chunk`` completes."""
        if self._beginning is not None:
            chunk = self._beginning + chunk
            if len(chunk) < _BEGINNING_BYTES:
                self._beginning = chunk
                return
            self._begin(chunk)
        yield from self._feed(chunk if self._decoder is None else _as_utf8(self._decoder, chunk))

    def _begin(self, chunk: bytes) -> None:
        """What kind of file this is, by its first bytes."""
        self._beginning = None
        self._is_packed = chunk.startswith(tuple(_PACKED))
        if chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            self._decoder = codecs.getincrementaldecoder("utf-16")("replace")

    def _feed(self, chunk: bytes) -> Iterator[GoodLine | BadLine]:
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            line = self._finish(piece)
            if line is not None:
                yield line
        self._keep(rest)

    def close(self) -> Iterator[GoodLine | BadLine]:
        """The last line, where it has no line end."""
        if self._beginning:
            chunk = self._beginning
            self._begin(chunk)
            yield from self._feed(chunk if self._decoder is None else _as_utf8(self._decoder, chunk))
        if self._kept:
            line = self._finish(b"")
            if line is not None:
                yield line

    def _keep(self, piece: bytes) -> None:
        room = LINE_BYTES_MAX + 1 - len(self._kept)
        self._kept += piece[:room]
        self._bytes_dropped += max(0, len(piece) - room)

    def _finish(self, line: bytes) -> GoodLine | BadLine | None:
        """The line that ends with this piece. None: a blank one, or a comment."""
        self._line_number += 1
        length = len(line)
        if self._kept:
            self._keep(line)
            line = bytes(self._kept)
            length = len(line) + self._bytes_dropped
            self._kept.clear()
            self._bytes_dropped = 0
        line = line.removeprefix(_BYTE_ORDER_MARK)  # of any line: programs that join files leave them in the middle
        if length <= LINE_BYTES_MAX:
            line = line.strip(b" \t\r")
            if line.startswith(b">"):
                line = line.lstrip(b"> \t")
        if not line or line.startswith(b"#"):
            return None
        try:
            if length > LINE_BYTES_MAX:
                raise WireError(
                    "line-too-long",
                    expected=_("at most {line_bytes_max} bytes", line_bytes_max=LINE_BYTES_MAX),
                    seen=_("{length} bytes", length=length),
                )
            return GoodLine(line_number=self._line_number, envelope=self._open_line(line))
        except WireError as error:
            error = _called_by_name(line, error)
            if self._is_packed and self._line_number > 1 and error.code in {"envelope-malformed", "line-too-long"}:
                return None  # said once: an archive has as many lines as it happens to have
            error.__context__ = None  # where it was raised, and while what, would stay in memory with everything there
            return BadLine(line_number=self._line_number, error=error.with_traceback(None))


def _as_utf8(decoder: codecs.IncrementalDecoder, chunk: bytes) -> bytes:
    return decoder.decode(chunk).encode("utf-8", "replace")


def _called_by_name(line: bytes, error: WireError) -> WireError:
    """A line that is no envelope, as what it is, where that can be told."""
    packed = next((name for mark, name in _PACKED.items() if line.startswith(mark)), None)
    if packed is not None:
        return WireError("file-packed", expected=_("a tally file"), seen=packed)
    if error.code != "envelope-malformed":
        return error
    if _MAIL.match(line):
        return WireError("file-mail", expected=_("an envelope"), seen=_("a line of a mail's head"))
    if len(line) <= _WRAPPED_BYTES_MAX and _PIECE.fullmatch(line):
        return WireError(
            "file-wrapped", expected=_("a whole envelope"), seen=_("a piece of {count} bytes", count=len(line))
        )
    return error


def format_file(envelopes: Iterable[str], *, comment: str = "") -> Iterator[bytes]:
    """The lines of a tally file. ``comment`` is for people; every line of it gets its ``#``."""
    for line in comment.splitlines():
        yield f"# {line}\n".encode()
    for envelope in envelopes:
        yield envelope.encode("ascii") + b"\n"


know(BadLine, GoodLine)
