"""The headers of every page: nothing but our own files runs, nothing frames us, no address is passed on to others."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

_COMMON: Final = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}

PAGE_HEADERS: Final[Mapping[str, str]] = MappingProxyType({**_COMMON, "Cache-Control": "no-store"})
# The address of a static file contains the hash of its bytes, so it never changes.
STATIC_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {**_COMMON, "Cache-Control": "public, max-age=31536000, immutable"}
)
# For the pages that read QR codes: they may ask for the camera, which the browser then asks the person for.
CAMERA_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **PAGE_HEADERS,
        "Permissions-Policy": _COMMON["Permissions-Policy"].replace("camera=()", "camera=(self)"),
    }
)
