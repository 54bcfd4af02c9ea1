"""The process that decodes one photograph: its bytes come in, the texts of its codes go out as JSON.

Guarantees: it takes no more memory and processor time than its limits, whatever the picture says of itself; only JPEG
and PNG are looked at; the size is looked at before any pixel is decoded.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from typing import Final

PIXELS_MAX: Final = 64_000_000
PNG_PIXELS_MAX: Final = 16_000_000  # a JPEG is decoded smaller than it is, a PNG cannot be
MEMORY_BYTES_MAX: Final = 768 * 1024 * 1024  # of addresses; what is really used is less
PROCESSOR_SECONDS_MAX: Final = 20
READER_SECONDS: Final = 30.0
EXIT_UNREADABLE: Final = 3
_SIDE_PIXELS: Final = 4_000  # a larger one is made smaller before it is looked at
_FORMATS: Final = ("JPEG", "PNG")


class UnreadableError(Exception):
    """What was seen instead of a picture."""


def limit() -> None:
    """Take no more than a photograph needs. Where the system knows no such limits, the sizes alone bound it."""
    try:
        import resource  # noqa: PLC0415 - not on every system
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES_MAX),
        (resource.RLIMIT_CPU, PROCESSOR_SECONDS_MAX),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def read(data: bytes) -> list[str]:
    """The texts of all codes. Raises ``UnreadableError``."""
    import zxingcpp  # noqa: PLC0415 - an optional part
    from PIL import Image  # noqa: PLC0415 - an extra

    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as picture:
            pixels = picture.width * picture.height
            if pixels > (PIXELS_MAX if picture.format == "JPEG" else PNG_PIXELS_MAX):
                raise UnreadableError(f"a {picture.format} of {picture.width} x {picture.height} pixels")
            picture.draft("L", (_SIDE_PIXELS, _SIDE_PIXELS))
            grey = picture.convert("L")
        grey.thumbnail((_SIDE_PIXELS, _SIDE_PIXELS))
    except MemoryError:
        raise UnreadableError("a picture that takes more memory than a photograph does") from None
    except (OSError, ValueError, SyntaxError, EOFError, Warning, Image.DecompressionBombError):
        raise UnreadableError("something that is no such picture") from None
    found = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.QRCode]))
    return [code.text for code in found if code.valid]


def main() -> int:
    """From standard input to standard output."""
    limit()
    try:
        texts = read(sys.stdin.buffer.read())
    except UnreadableError as error:
        sys.stdout.write(str(error))
        return EXIT_UNREADABLE
    sys.stdout.write(json.dumps(texts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
