"""Row 16: what is asked for and nobody looks at is refused, by every route of both APIs; so is an end in the past."""

import re

import pytest

from support.fieldserver.processes import FieldServer
from tallystick.activation.core.permissions import Role
from tallystick.protocol import device_api

PLACES = {
    "line_id": "7K3M9Q2A",
    "device_id": "d" * 43,
    "entitlement_id": "ER-" + "0" * 16,
    "webhook_id": "WH-" + "A" * 16,
}
ALWAYS_TOLD = {"/healthz", "/readyz"}


def routes(site):
    for path, operations in site.web.openapi()["paths"].items():
        if path not in ALWAYS_TOLD:
            filled = re.sub(r"\{(\w+)[^}]*\}", lambda place: PLACES.get(place[1], "Harbour"), path)
            yield from ((method.upper(), filled) for method in operations)


def assert_refused(answer, name):
    document = answer.json()
    assert (answer.status_code, document["code"]) == (422, "query-wrong"), document
    assert name in document["seen"]
    assert document["expected"]
    assert document["next_step"]


def test_every_route_of_the_activation_server_refuses_what_it_does_not_know(site):
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    found = list(routes(site))
    assert len(found) > 40
    assert ("GET", "/metrics") in found
    for method, path in found:
        assert_refused(client.request(method, path, params={"requird": "2"}), "requird")


@pytest.mark.parametrize("path", sorted(ALWAYS_TOLD))
def test_whether_it_lives_is_told_whatever_stands_behind_the_address(site, path):
    assert site.client(Role.VENDOR_ADMINISTRATOR).get(path, params={"at": "1"}).status_code == 200


def test_a_wrong_value_is_told_in_plain_words_without_a_path_of_ours(site):
    answer = site.client(Role.VENDOR_ADMINISTRATOR).get("/v1/accounts", params={"limit": 1000})
    assert_refused(answer, "1000")
    assert "limit" in answer.json()["expected"]
    for trace in ("{", "File", "/src/", "dependencies.py", "loc"):
        assert trace not in answer.text.partition('"seen"')[2]


def test_every_route_of_a_field_server_refuses_what_it_does_not_know(tmp_path):
    agent = FieldServer(tmp_path / "data").start()
    try:
        for operation in device_api.OPERATIONS:
            path = operation.path.replace("{feature}", "mqtt")
            status, _, document = agent.call(operation.method, f"{path}?required=2")
            assert (status, document["code"], document["seen"]) == (422, "query-wrong", "'required'"), path
        status, _, verdict = agent.call("GET", "/v1/checks/mqtt?used=2")
        assert (status, verdict["required"]) == (200, 2)
    finally:
        agent.stop()


def test_an_end_in_the_past_is_refused_where_it_is_sold_and_where_it_is_changed(site):
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    body = {"account": "Harbour", "is_new_account": True, "products": [{"product": "smartdriver", "quantity": 1}]}
    refused = client.post("/v1/entitlements", json=body | {"expires_at": site.now})
    assert (refused.status_code, refused.json()["code"]) == (409, "date-past")
    made = client.post("/v1/entitlements", json=body | {"expires_at": site.now + 1}).json()
    path = f"/v1/lines/{made['lines'][0]['line']}"
    version = {"If-Match": client.get(path).headers["etag"]}
    assert client.patch(path, json={"expires_at": site.now - 1}, headers=version).json()["code"] == "date-past"
    site.now += 5  # it is over by now, and another change does not mind
    assert client.patch(path, json={"quantity": 2, "expires_at": site.now - 4}, headers=version).status_code == 200
