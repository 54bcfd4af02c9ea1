"""What changes a part of something: absent means unchanged, whatever a client was generated with."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI

from support.schemas import management_document
from tallystick.activation.services.schemas import ChangedDocument

DOCUMENT = management_document()
SCHEMAS = DOCUMENT["components"]["schemas"]


def parts(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and every one inside, wherever references lead."""
    if isinstance(schema, list):
        for number, one in enumerate(schema):
            yield from parts(one, f"{path}/{number}")
    elif isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield from parts(SCHEMAS[reference.rpartition("/")[2]], path)
            return
        yield path, schema
        for name, one in schema.items():
            yield from parts(one, f"{path}/{name}")


def patches(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        if "patch" in operations:
            yield path, operations["patch"]["requestBody"]["content"]["application/json"]["schema"]


def test_no_part_of_a_patch_has_a_default_and_nothing_in_it_is_required():
    found = dict(patches(DOCUMENT))
    assert len(found) >= 3
    for path, schema in found.items():
        for place, part in parts(schema):
            assert "default" not in part, f"{path}: {place}"
        top = SCHEMAS[schema["$ref"].rpartition("/")[2]]
        assert not top.get("required"), path


def test_the_walk_finds_a_default_that_is_deep_inside():
    api = FastAPI()

    class Inner(ChangedDocument):
        numbers: tuple[dict[str, Any], ...] = ()

    class Outer(ChangedDocument):
        inner: Inner = Inner()

    @api.patch("/things")
    def change(body: Outer) -> None: ...

    schemas = api.openapi()["components"]["schemas"]
    assert "default" not in schemas["Outer"]["properties"]["inner"]
    assert "default" not in schemas["Inner"]["properties"]["numbers"]
    assert [place for place, part in parts({"a": [{"properties": {"b": {"default": 0}}}]}) if "default" in part] == [
        "/a/0/properties/b"
    ]


@pytest.mark.parametrize(("path", "schema"), list(patches(DOCUMENT)))
def test_null_is_taken_only_where_there_is_something_to_clear(path, schema):
    top = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    nullable = {name for name, field in top["properties"].items() if {"type": "null"} in field.get("anyOf", [field])}
    assert nullable == {"/v1/lines/{line_id}": {"expires_at"}}.get(path, set())
