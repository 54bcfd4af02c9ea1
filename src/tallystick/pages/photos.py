"""The texts of the QR codes in a photograph, where the optional libraries for it are installed.

Guarantees: only JPEG and PNG are looked at; a picture that says it is larger than the limit is not decoded; whatever is
wrong with the bytes ends in one error.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

from tallystick.errors import Error

PHOTO_BYTES_MAX: Final = 16 * 1024 * 1024
PIXELS_MAX: Final = 64_000_000
CODES_MAX: Final = 40
_SIDE_PIXELS: Final = 4_000  # a larger one is made smaller before it is looked at
_FORMATS: Final = ("JPEG", "PNG")


def read_photo(data: bytes) -> list[str]:
    """The texts of all QR codes in it, one or more. Raises ``Error`` (``photo-unreadable``, ``photos-not-installed``)."""
    try:
        import zxingcpp  # noqa: PLC0415 - an optional part
        from PIL import Image  # noqa: PLC0415 - an extra
    except ImportError:
        raise Error("photos-not-installed", expected="tallystick[photos]", seen="an installation without it") from None
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as picture:
            if picture.width * picture.height > PIXELS_MAX:
                raise _unreadable(f"{picture.width} x {picture.height} pixels")
            picture.draft("L", (_SIDE_PIXELS, _SIDE_PIXELS))
            grey = picture.convert("L")
        grey.thumbnail((_SIDE_PIXELS, _SIDE_PIXELS))
    except (OSError, ValueError, SyntaxError, EOFError, Warning, Image.DecompressionBombError):
        raise _unreadable("something that is no such picture") from None
    found = zxingcpp.read_barcodes(grey, formats=zxingcpp.BarcodeFormats([zxingcpp.BarcodeFormat.QRCode]))
    texts = [code.text for code in found[:CODES_MAX] if code.valid]
    if not texts:
        raise _unreadable("a picture without a readable code")
    return texts


def _unreadable(seen: str) -> Error:
    return Error("photo-unreadable", expected=f"a JPEG or PNG of at most {PIXELS_MAX:,} pixels with a code", seen=seen)
