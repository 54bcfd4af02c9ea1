"""What a request got wrong, named: the field, where it is in the body, what was expected and seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tallystick.errors import Error
from tallystick.sentences import _


class PlacedError(Error):
    """A request of which one place is wrong: a ``field``, by its name, and in a body by its JSON pointer (RFC 6901)."""

    def __init__(
        self, code: str, *, expected: str, seen: str, field: str | None = None, pointer: str | None = None
    ) -> None:
        super().__init__(code, expected=expected, seen=seen)
        self.place = {name: text for name, text in (("field", field), ("pointer", pointer)) if text is not None}


def misfit(found: Sequence[Mapping[str, Any]]) -> PlacedError:
    """What FastAPI found wrong, in our words. A name that there is not comes first: it may be why another is missing."""
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    kind, *place = first["loc"]
    if first["type"] == "json_invalid":
        broken = _("{what} at symbol {number}", what=first["ctx"]["error"], number=place[0])
        return PlacedError("json-malformed", expected=_("JSON"), seen=broken)
    is_body = kind == "body"
    names = [str(part) for part in place if part != "[key]"]
    where, seen = ".".join(names), repr(first.get("input"))[:80]
    match first["type"]:
        case "string_pattern_mismatch":  # nobody reads a regular expression
            expected: str = _("a text of the documented form, of symbols that can be seen")
        case "extra_forbidden":
            expected, seen = _("no field of this name"), repr(names[-1])[:80]
        case "missing":
            expected, seen = (_("a field of this name") if where else _("a JSON object")), _("nothing")
        case "model_attributes_type" | "model_type" if not where:
            expected = _("a JSON object, with Content-Type: application/json")
        case _:
            expected = str(first["msg"])
    pointer = "".join(f"/{name.replace('~', '~0').replace('/', '~1')}" for name in names) if is_body else None
    return PlacedError(
        "field-wrong" if is_body else "query-wrong",
        expected=_("{where}: {message}", where=where, message=expected) if where else expected,
        seen=seen,
        field=names[-1] if names else None,
        pointer=pointer,
    )
