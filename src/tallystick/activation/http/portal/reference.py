"""The API reference: what ``/openapi.json`` says, as a page of our own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from tallystick.activation.http.portal.base import PageRequest


async def reference_page(page: PageRequest) -> Response:
    """Every route with its parameters and bodies, and every document."""
    document = page.request.app.openapi()
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tag = operation.get("tags", ["protocol"])[0]
            groups.setdefault(tag, []).append(_operation(method.upper(), path, operation))
    schemas = {
        name: _fields(schema)
        for name, schema in sorted(document["components"]["schemas"].items())
        if schema.get("type") == "object" and schema.get("properties")
    }
    return await page.show("reference.html", groups=dict(sorted(groups.items())), schemas=schemas)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> dict[str, Any]:
    answers = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    return {
        "method": method,
        "path": path,
        "summary": operation.get("summary", ""),
        "parameters": [
            {
                "name": one["name"],
                "place": one["in"],
                "type": _type(one["schema"]),
                "required": one.get("required", False),
                "says": one.get("description", ""),
            }
            for one in operation.get("parameters", ())
        ],
        "body": _content(operation.get("requestBody", {})),
        "answer": next((found for found in map(_content, answers) if found), ""),
    }


def _content(told: Mapping[str, Any]) -> str:
    kinds = told.get("content", {})
    schema = kinds.get("application/json", {}).get("schema")
    return _type(schema) if schema else ", ".join(kinds)


def _fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    required = schema.get("required", ())
    rows = [
        {"name": name, "type": _type(one), "required": name in required, "says": one.get("description", "")}
        for name, one in schema["properties"].items()
    ]
    return {"says": schema.get("description", "").replace("``", ""), "fields": rows}


def _type(schema: Mapping[str, Any]) -> str:
    """In a few words: the name of a document, a type with its bounds, or the values that there are."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " | ".join(map(_type, schema[several]))
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = f", {low} to {high}" if low is not None and high is not None else ""
    return str(schema.get("type", "any")) + bounds
