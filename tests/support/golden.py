"""Golden answers to licensed programs, as vectors."""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path

from tallystick.conformance.vectors import Json, Vector

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "v2"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("answer-*.json")))


def record(name: str) -> Json:
    """What is kept of one."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


@cache
def golden_answers() -> tuple[Vector, ...]:
    """All of them."""
    return tuple(_vector(name) for name in NAMES)


def _vector(name: str) -> Vector:
    told = record(name)
    body = (FOLDER / f"{name}.tally").read_bytes()
    fields = {"name": name, "kind": "answer", "step": 0, "says": "", "result": told["code"], "roots": told["roots"]}
    answer = {"answer": {"base64": base64.b64encode(body).decode()}, "activated": told["activated"]}
    return Vector({**fields, **told["question"], **answer})
