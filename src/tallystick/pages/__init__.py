"""The looks that the parties' web pages share: one stylesheet, templates, security headers. No page, no route."""

from tallystick.pages.environment import make_environment, page_reader
from tallystick.pages.headers import CAMERA_HEADERS, PAGE_HEADERS, STATIC_HEADERS
from tallystick.pages.statics import STATICS, StaticFile

__all__ = [
    "CAMERA_HEADERS",
    "PAGE_HEADERS",
    "STATICS",
    "STATIC_HEADERS",
    "StaticFile",
    "make_environment",
    "page_reader",
]
