"""The vectors as they are published: ``vectors-1.json`` beside this module (docs/protocol/conformance.md)."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

FILE: Final = "vectors-1.json"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Vector:
    """Bytes in, and the decision that must follow. ``fields``: as in the file."""

    fields: Json

    @property
    def name(self) -> str:
        """Its own name, for ever."""
        return str(self.fields["name"])

    @property
    def step(self) -> int:
        """The step of docs/protocol/checks.md that decides it."""
        return int(self.fields["step"])

    @property
    def kind(self) -> str:
        """``answer``, ``files`` or ``socket``."""
        return str(self.fields["kind"])

    @property
    def says(self) -> str:
        """What it is about, in a sentence."""
        return str(self.fields["says"])

    @property
    def result(self) -> str:
        """The code that must come out."""
        return str(self.fields["result"])

    def content(self, name: str) -> bytes | None:
        """Bytes of the vector; None where there are none."""
        found = self.fields[name]
        if found is None:
            return None
        return str(found["text"]).encode() if "text" in found else base64.b64decode(found["base64"])

    def why_wrong(self, code: str, activated: int, remembered: Json | None) -> str | None:
        """What is wrong with a decision; None for nothing."""
        if code != self.result:
            return f"expected {self.result}, saw {code}"
        if activated != self.fields.get("activated", activated):
            return f"expected {self.fields['activated']} activated, saw {activated}"
        if remembered != self.fields.get("afterwards", remembered):
            return f"expected to be remembered: {self.fields['afterwards']}; saw {remembered}"
        return None


def text() -> str:
    """The file."""
    return resources.files("tallystick.conformance").joinpath(FILE).read_text("utf-8")


@cache
def load() -> tuple[Vector, ...]:
    """All vectors."""
    return tuple(Vector(fields) for fields in json.loads(text())["vectors"])
