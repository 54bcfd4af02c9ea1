"""Every route of the OpenAPI document, with every role, against objects of another account.

The walk reads the document, so a route that is added tomorrow is walked tomorrow: one that it cannot fill in fails.
"""

import json
import re

import pytest

from support.site import Site
from tallystick.activation.core.permissions import VENDOR_ROLES, Role
from tallystick.activation.http.management.routes import MODULES, router_of
from tallystick.activation.services import people
from tallystick.domain.ids import entitlement_reference

pytestmark = pytest.mark.slow

OPEN = {
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/keys",
    "/v1/messages",
    "/v1/messages/dry-run",
    "/v1/entitlements/lookup",
}  # of the protocol itself
OTHER, OWN = "Other works", "Harbour"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two accounts with everything that there is; ``secrets`` are texts of the other one that must never be seen."""
    site = Site(tmp_path_factory.mktemp("isolation"))
    objects = {}
    for account in (OTHER, OWN):
        bought = site.sell(account, ("smartdriver", 10))
        line = bought.lines[0]
        device = site.activated(site.device(f"{account[:5]}-plant"), (line, 3))
        spare = site.activated(site.device(f"{account[:5]}-spare"), (line, 1))
        copy = device.copy()
        (message,) = site.post(device.say("refresh"))
        site.post(copy.say("refresh"))  # a fork: an incident, and a hold
        site.client().post(f"/v1/field-servers/{device.id}/release")
        site.client().post(f"/v1/field-servers/{device.id}/return")
        person = site.person(f"admin@{account[:5].lower()}.example", Role.CUSTOMER_ADMINISTRATOR, account)
        token = people.create_token(
            site.office,
            site.root,
            name=f"token of {account}",
            role=Role.CUSTOMER_TECHNICIAN,
            account=account,
            days=3,
            is_read_only=False,
            devices=(),
            once=None,
        )
        customer = site.client(Role.CUSTOMER_ADMINISTRATOR, account)
        hook = customer.post("/v1/webhooks", json={"url": f"https://hooks.invalid/{account[:5]}", "after": 0}).json()
        objects[account] = {
            "webhook_id": hook["webhook_id"],
            "hook_url": hook["url"],
            "hook_secret": hook["secret"],
            "account": account,
            "person_id": person.person_id,
            "email": person.email,
            "token_id": token.token_id,
            "entitlement_id": entitlement_reference(bought.entitlement_id),
            "entitlement_secret": bought.entitlement_id,
            "activation_id": str(line.activation_id),
            "line_id": line.line_id,
            "device_id": str(device.id),
            "spare": str(spare.id),
            "digest": message["digest"],
            "number": str(customer.get("/v1/incidents").json()["items"][0]["number"]),
        }
    site.dispatcher().run_once()  # every event has its delivery now; no name ends in .invalid, so none is taken
    clients = {
        role: site.client(
            role,
            None if role in VENDOR_ROLES else OWN,
            devices=(objects[OWN]["device_id"],) if role is Role.COURIER else (),
        )
        for role in Role
    }
    yield site, objects, clients
    site.close()


@pytest.fixture(scope="module")
def untouched(world):
    """Everything of the other account before anybody asked. No test changes it, so each test compares with the same."""
    return state(world[0])


def operations():
    for router in map(router_of, MODULES):
        for route in router.routes:
            for method in sorted(route.methods):  # type: ignore[attr-defined]  # each is a route of FastAPI
                yield method, route.path_format  # type: ignore[attr-defined]  # see above
    yield "GET", "/v1/events"


BODIES = {
    ("POST", "/v1/accounts"): lambda them: {"account": them["account"]},
    ("POST", "/v1/people"): lambda them: {
        "email": "spy@example.com",
        "name": "Spy",
        "role": "customer-technician",
        "account": them["account"],
    },
    ("PATCH", "/v1/people/{person_id}"): lambda _: {"name": "Taken over"},
    ("POST", "/v1/tokens"): lambda them: {
        "name": "spy",
        "role": "courier",
        "account": them["account"],
        "days": 1,
        "devices": [them["device_id"]],
    },
    ("PUT", "/v1/catalog"): lambda _: {"products": {"x": {"name": "X", "kinds": ["AS-P"], "features": {"x": 1}}}},
    ("POST", "/v1/entitlements"): lambda them: {
        "account": them["account"],
        "products": [{"product": "smartdriver", "quantity": 1}],
    },
    ("PATCH", "/v1/lines/{line_id}"): lambda _: {"quantity": 1},
    ("POST", "/v1/field-servers/{device_id}/change"): lambda them: {
        "lines": [{"line": them["line_id"], "quantity": 0}]
    },
    ("POST", "/v1/field-servers/{device_id}/lost"): lambda _: {"reason": "envy"},
    ("POST", "/v1/field-servers/{device_id}/hold"): lambda _: {"reason": "envy"},
    ("POST", "/v1/field-servers/{device_id}/replace"): lambda them: {"by": them["spare"], "reason": "envy"},
}
BODIES |= {
    ("POST", "/v1/incidents/{number}/acknowledge"): lambda _: {"note": "envy"},
    ("POST", "/v1/incidents/{number}/resolve"): lambda _: {"note": "envy"},
    ("POST", "/v1/webhooks"): lambda them: {"url": "https://spy.example.com/", "account": them["account"]},
    ("PATCH", "/v1/webhooks/{webhook_id}"): lambda _: {"url": "https://spy.example.com/", "is_enabled": False},
    ("POST", "/v1/webhooks/{webhook_id}/replay"): lambda _: {"after": 0},
}
FILTERS = ("account", "device_id", "line", "text")


def filled(path, them):
    return re.sub(r"\{(\w+)\}", lambda part: {"position": "1", **them}[part[1]], path)


def every(client, path):
    """All pages of a list that goes on behind ``after``, or its first page."""
    page = client.get(f"/v1/{path}", params={"limit": 200}).json()
    items = page["items"]
    while path == "tokens" and page["next"]:
        page = client.get(f"/v1/{path}", params={"limit": 200, "after": page["next"]}).json()
        items += page["items"]
    return items


def state(site):
    """Everything of the other account, as the vendor sees it."""
    vendor = site.client()
    paths = (
        "lines",
        "field-servers",
        "returns",
        "incidents",
        "ledger",
        "entitlements",
        "people",
        "tokens",
        "accounts",
        "webhooks",
    )
    found = {path: every(vendor, path) for path in paths}
    # That a token was made is told to the webhooks of its account: those of who asks go on.
    own = {path: [item for item in found[path] if item["account"] == OTHER] for path in ("tokens", "webhooks")}
    for hook in own["webhooks"]:
        path = f"/v1/webhooks/{hook['webhook_id']}/deliveries"
        found[path] = vendor.get(path).json()["items"]
    assert own["webhooks"]
    return json.dumps({**found, **own}, sort_keys=True)


def test_the_walk_knows_every_route_of_the_document(world):
    site, _, _ = world
    document = site.browser().get("/openapi.json").json()
    described = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if path not in OPEN and path.startswith("/v1/")
    }
    assert described <= set(operations())


@pytest.mark.parametrize("role", [role for role in Role if role not in VENDOR_ROLES])
@pytest.mark.parametrize(("method", "path"), sorted(operations()))
def test_nothing_of_another_account_is_seen_or_touched(world, untouched, method, path, role):
    site, objects, clients = world
    them = objects[OTHER]
    address = filled(path, them)
    secrets = {name: text for name, text in them.items() if name != "number"}  # counted, so of other things, too
    body = BODIES.get((method, path))
    described = site.browser().get("/openapi.json").json()["paths"][path][method.lower()]
    known = {parameter["name"] for parameter in described.get("parameters", ()) if parameter["in"] == "query"}
    parameters = {"account": OTHER, "device_id": them["device_id"], "line": them["line_id"], "text": "Other"}
    for query in ({}, *({name: parameters[name]} for name in FILTERS if method == "GET")):
        answer = clients[role].request(
            method,
            address,
            params=query,
            json=body(them) if body else None,
            headers={"If-Match": '"guess"'} if method in {"PATCH", "PUT"} else {},
        )
        has_object = "{" in path
        expected = {403, 404} if has_object or method != "GET" else {200, 403}
        if not set(query) <= known:  # a parameter that the document does not have is refused, whoever asks
            expected = {422}
            assert answer.json()["code"] == "query-wrong"
        assert answer.status_code in expected, (answer.status_code, answer.text)
        if answer.status_code == 200:
            text = answer.text
            assert not [name for name, secret in secrets.items() if secret in text], text
        else:  # what one asked for may be repeated, nothing else
            asked = address + json.dumps(body(them) if body else {}) + json.dumps(query)
            assert not [name for name, secret in secrets.items() if secret in answer.text and secret not in asked]
    assert state(site) == untouched


@pytest.mark.parametrize("role", [role for role in Role if role not in VENDOR_ROLES])
@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p in sorted(operations()) if "{" in p])
def test_what_exists_elsewhere_and_what_exists_nowhere_is_answered_alike(world, method, path, role):
    _, objects, clients = world
    nowhere = {
        "webhook_id": "WH-AAAAAAAAAAAAAAAA",
        "account": "Nobody",
        "person_id": "PE-AAAAAAAAAAAAAAAA",
        "token_id": "TK-AAAAAAAAAAAAAAAA",
        "entitlement_id": "ER-0000000000000000",
        "line_id": "00000000",
        "device_id": "A" * 43,
        "spare": "A" * 43,
        "digest": "A" * 43,
        "number": "999999",
    }
    answers = []
    for them in (objects[OTHER], nowhere):
        body = BODIES.get((method, path))
        answer = clients[role].request(
            method,
            filled(path, them),
            json=body(them) if body else None,
            headers={"If-Match": '"guess"'} if method in {"PATCH", "PUT"} else {},
        )
        text = answer.text
        for secret in them.values():
            text = text.replace(secret, "...")
        answers.append((answer.status_code, text))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("role", [role for role in Role if role not in VENDOR_ROLES])
def test_the_own_account_is_seen_by_who_may(world, role):
    _, objects, clients = world
    us = objects[OWN]
    may = {
        Role.CUSTOMER_ADMINISTRATOR: {"lines", "returns", "people", "messages", "webhooks"},
        Role.CUSTOMER_TECHNICIAN: {"returns", "messages"},
        Role.COURIER: {"messages"},
    }[role]
    paths = {
        "lines": f"/v1/lines/{us['line_id']}",
        "returns": "/v1/returns",
        "people": f"/v1/people/{us['person_id']}",
        "messages": f"/v1/messages/{us['digest']}",
        "webhooks": f"/v1/webhooks/{us['webhook_id']}/deliveries",
    }
    for name, path in paths.items():
        assert clients[role].get(path).status_code == (200 if name in may else 403), name


def test_a_message_of_another_accounts_field_server_is_not_carried(world):
    from tallystick.activation.services import messages, sign_in

    site, objects, clients = world
    device = site.device("Other-courier")
    line = site.line(objects[OTHER]["line_id"])
    site.activated(device, (line, 1))
    before = state(site)
    secret = clients[Role.CUSTOMER_TECHNICIAN].headers["authorization"].removeprefix("Bearer ")
    caller = sign_in.caller_of_token(site.office, secret)
    made = messages.deliver(site.office, caller, [("a.tally", [device.give_back().encode()])])
    assert [row.code for row in made.rows] == ["outside-scope"]
    assert (
        messages.replies(site.office, caller, [objects[OTHER]["digest"]]).count(b"\n") == 3
    )  # comments and the keyset
    assert state(site) == before
