"""The static files, read once, at addresses that contain the hash of their bytes, or the version of what others made."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

_MEDIA_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_NAMES: Final = ("tallystick.css", "tallystick.js", "codes.js", "mark.svg")
# Files of others, unchanged: their addresses contain the version instead, because they name each other.
_VENDORED: Final = ("qr-0.7.0/decode.js", "qr-0.7.0/index.js")
_HASH_SYMBOLS: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticFile:
    """One file. ``hashed_name`` is what its address ends in."""

    name: str
    hashed_name: str
    media_type: str
    content: bytes


class Statics:
    """All static files; a party serves them below a prefix of its choice."""

    @cache  # noqa: B019 - there is one instance, for the life of the process
    def files(self) -> dict[str, StaticFile]:
        """By hashed name."""
        return {file.hashed_name: file for file in map(_load, (*_NAMES, *_VENDORED))}

    def hashed_name(self, name: str) -> str:
        """The hashed name of a file. Raises ``KeyError``."""
        return {file.name: file.hashed_name for file in self.files().values()}[name]


def _load(name: str) -> StaticFile:
    content = (resources.files(__package__) / "static").joinpath(*name.split("/")).read_bytes()
    stem, suffix = name.rsplit(".", 1)
    if name in _VENDORED:
        return StaticFile(name=name, hashed_name=name, media_type=_MEDIA_TYPES[suffix], content=content)
    digest = hashlib.sha256(content).hexdigest()[:_HASH_SYMBOLS]
    return StaticFile(
        name=name, hashed_name=f"{stem}.{digest}.{suffix}", media_type=_MEDIA_TYPES[suffix], content=content
    )


STATICS: Final = Statics()
