"""What is sold without return stays where it was activated, whatever entrance a customer tries; its vendor takes it back."""

import pytest

from support.site import Site
from tallystick.activation.core import catalog_file
from tallystick.activation.core.permissions import PERSON_ROLES, VENDOR_ROLES, Role

CATALOG = b"""
kinds: [AS-P]
products:
  fixed: {name: Fixed, kinds: [AS-P], features: {fixed: 1}, returnable: false}
  free: {name: Free, kinds: [AS-P], features: {free: 1}}
"""
PATHS = "/v1/field-servers/{device_id}/"
# Everything that can be done to one field server, and what is sent. One that is added is looked at here.
BODIES = {
    "return": None,
    "change": lambda fixed: {"lines": [{"line": fixed.line_id, "quantity": 0}]},
    "lost": lambda fixed: {"reason": "fire"},  # counted by the year, and it waits
    "hold": lambda fixed: {"reason": "two copies"},
    "release": None,
    "retire": None,
    "replace": lambda fixed: {"by": "x" * 43, "reason": "fire"},
}
CUSTOMERS = sorted(set(PERSON_ROLES) - VENDOR_ROLES)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    made.activation.transact(lambda transaction: transaction.save_catalog(catalog_file.parse_catalog(CATALOG)))
    yield made
    made.close()


@pytest.fixture
def held(site):
    fixed, free = site.sell("Harbour", ("fixed", 3), ("free", 3)).lines
    return fixed, site.activated(site.device("roof"), (fixed, 2), (free, 2))


def actions(site):
    paths = site.client().get("/openapi.json").json()["paths"]
    return {path.removeprefix(PATHS) for path, verbs in paths.items() if path.startswith(PATHS) and "post" in verbs}


def test_every_action_on_a_field_server_is_looked_at(site):
    assert actions(site) == set(BODIES)


@pytest.mark.parametrize("role", CUSTOMERS)
def test_no_entrance_of_a_customer_gives_it_back(site, held, role):
    fixed, device = held
    client = site.client(role, "Harbour")
    for action in sorted(set(BODIES) - {"lost"}):
        body = BODIES[action]
        answer = client.post(PATHS.format(device_id=device.id) + action, json=body and body(fixed))
        assert answer.status_code in {403, 404, 409, 422}, (action, answer.text)
        assert site.line(fixed.line_id).balances.held == 2, action
    for said in (
        device.activate((fixed, 1)),
        device.activate((fixed, 0)),
        device.give_back((fixed, 1)),
        device.give_back(),
    ):
        (row,) = site.post(said)
        assert row["outcome"] == "refused"
        assert "not-returnable" in row["reply"] + str(row)
        assert site.line(fixed.line_id).balances.held == 2


def test_nor_does_a_button_of_the_portal(site, held):
    fixed, device = held
    reader = site.signed_in("ann@harbour.example", Role.CUSTOMER_ADMINISTRATOR, "Harbour")
    reader.send(f"/field-servers/{device.id}", f"/field-servers/{device.id}/return")
    assert site.line(fixed.line_id).balances.held == 2


def test_its_vendor_takes_it_back(site, held):
    fixed, device = held
    answer = site.client(Role.VENDOR_SUPPORT).post(PATHS.format(device_id=device.id) + "return")
    assert answer.status_code == 201, answer.text
    assert site.line(fixed.line_id).balances.held == 0
