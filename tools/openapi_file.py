"""Writes the field server's ``openapi.json`` from ``tallystick.protocol.device_api``."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec

from pages import write_or_check
from tallystick.protocol import device_api
from tallystick.protocol.device_api import JSON, OPERATIONS, Operation, ProblemDocument, ReturnWish

REF = "#/components/schemas/{name}"
DESCRIPTION = (
    "The local API of a field server, over HTTPS with its own certificate. Whoever has no password learns who it is "
    "and nothing else. Errors are RFC 9457 problems; docs/errors.md lists the codes."
)


def document() -> dict[str, Any]:
    """The whole document. A field server writes every name of an answer but those that may be unset, and no other."""
    kinds = [operation.answers for operation in OPERATIONS] + [operation.takes for operation in OPERATIONS]
    kinds = [ProblemDocument, *(kind for kind in kinds if not isinstance(kind, str | None))]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    found = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    answers = {kind.__name__: kind for kind in _children(device_api.Answer)}
    for name, component in components.items():
        component.pop("title", None)
        if "description" in component:  # some versions of Python take the indent of a docstring away, some do not
            component["description"] = " ".join(component["description"].split())
        if name in answers:
            left_out = {
                field.encode_name for field in msgspec.structs.fields(answers[name]) if field.default is msgspec.UNSET
            }
            told = [field for field in component["properties"] if field not in left_out]
            component |= {"required": told, "additionalProperties": False}
            for field in component["properties"].values():
                field.pop("default", None)
    components[ReturnWish.__name__]["oneOf"] = [{"required": ["wants"]}, {"required": ["all"]}]
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, found)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tallystick field server",
            "version": str(device_api.VERSION),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"password": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "Any user name, and the password that init wrote.",
                }
            },
            "schemas": components,
        },
    }


def _children(kind: type) -> set[type]:
    below: list[type] = kind.__subclasses__()
    return {*below, *(child for one in below for child in _children(one))}


def _operation(operation: Operation, found: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.parameters:
        shown["parameters"] = list(operation.parameters)
    if operation.takes is not None:
        is_file = isinstance(operation.takes, str)
        schema = {"contentMediaType": operation.takes} if is_file else found[repr(operation.takes)]
        shown["requestBody"] = {
            "required": not is_file,  # an empty tally file is one
            "description": operation.takes_description,
            "content": {operation.body_type: {"schema": schema}},
        }
    answers = operation.answers
    content = {answers: {"schema": {"type": "string"}}} if isinstance(answers, str) else _json(found[repr(answers)])
    problem = {"application/problem+json": {"schema": found[repr(ProblemDocument)]}}
    shown["responses"] = {"200": {"description": operation.description, "content": content}}
    if operation.needs_password:
        shown["responses"] |= {
            "401": {
                "description": "No password, or a wrong one.",
                "headers": {"WWW-Authenticate": {"required": True, "schema": {"type": "string"}}},
                "content": problem,
            },
            "429": {
                "description": "Too soon after a wrong password.",
                "headers": {"Retry-After": {"required": True, "schema": {"type": "string", "pattern": "^[0-9]{1,5}$"}}},
                "content": problem,
            },
        }
    else:
        shown["security"] = []
    shown["responses"]["default"] = {
        "description": "A problem, with its stable code and what to do next.",
        "content": problem,
    }
    return shown


def _json(schema: Any) -> dict[str, Any]:
    return {JSON: {"schema": schema}}


if __name__ == "__main__":
    text = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    sys.exit(write_or_check("src/tallystick/fieldserver/openapi.json", text))
