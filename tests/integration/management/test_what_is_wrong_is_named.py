"""What a request got wrong is named: the field, where it is in the body, what was expected and seen; by every route."""

import re

import pytest

from support.schemas import management_document
from support.site import Site

PLACES = {
    "line_id": "7K3M9Q2A",
    "device_id": "d" * 43,
    "entitlement_id": "ER-" + "0" * 16,
    "webhook_id": "WH-" + "A" * 16,
    "person_id": "PE-" + "A" * 16,
    "number": "1",
}
WITH_A_BODY = [
    (method.upper(), re.sub(r"\{(\w+)[^}]*\}", lambda place: PLACES[place[1]], path))
    for path, operations in management_document()["paths"].items()
    for method, operation in operations.items()
    if "$ref" in operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
]
TRACES = ("File ", "/src/", ".py", "site-packages", "Traceback")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("named"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(site):
    return site.client()


def refused(answer, code):
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, code), document
    assert document["expected"]
    assert document["next_step"]
    assert not [trace for trace in TRACES if trace in answer.text], answer.text
    return document


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
def test_a_field_that_there_is_not_is_named_by_every_route(client, method, path):
    found = refused(client.request(method, path, json={"requ/ird": 1}), "field-wrong")
    assert (found["field"], found["pointer"], found["seen"]) == ("requ/ird", "/requ~1ird", "'requ/ird'")


@pytest.mark.parametrize(("method", "path"), WITH_A_BODY)
def test_malformed_json_is_said_only_where_there_is_json(client, method, path):
    typed = {"Content-Type": "application/json"}
    broken = refused(client.request(method, path, content=b'{"a": ', headers=typed), "json-malformed")
    assert "symbol" in broken["seen"]
    nothing = refused(client.request(method, path), "field-wrong")
    assert (nothing["seen"], "JSON object" in nothing["expected"]) == ("nothing", True)
    form = refused(client.request(method, path, content=b"a=1", headers={"Content-Type": "text/plain"}), "field-wrong")
    assert "application/json" in form["expected"]
    assert refused(client.request(method, path, json=[1]), "field-wrong")["pointer"] == ""


def test_all_routes_with_a_body_were_walked():
    assert len(WITH_A_BODY) >= 15


@pytest.mark.parametrize(
    ("products", "pointer", "field"),
    [
        ([{"product": "mqtt", "quantity": 0}], "/products/0/quantity", "quantity"),
        ([{"product": "mqtt", "quantity": 1}, {"product": "mqtt"}], "/products/1/quantity", "quantity"),
        ([{"product": "a b", "quantity": 1}], "/products/0/product", "product"),
        ([], "/products", "products"),
    ],
)
def test_what_is_deep_inside_has_its_pointer(client, products, pointer, field):
    found = refused(client.post("/v1/entitlements", json={"account": "Harbour", "products": products}), "field-wrong")
    assert (found["pointer"], found["field"]) == (pointer, field)
    assert "^[" not in found["expected"]


def test_a_parameter_is_named_without_a_pointer(client):
    for query, field in (
        ({"limit": "1000"}, "limit"),
        ({"limti": "5"}, "limti"),
        ({"expires_before": "x"}, "expires_before"),
    ):
        found = refused(client.get("/v1/lines", params=query), "query-wrong")
        assert (found["field"], "pointer" in found) == (field, False)
