"""A secret is never in a document that is merely read: every route of the API and every page, against every secret.

Both walks read the lists of routes, so a route that is added tomorrow is walked tomorrow; one that cannot be filled in
fails.
"""

import html
import re

import pyotp
import pytest

from support.site import PASSWORD, Site
from tallystick.activation.core.permissions import Role
from tallystick.activation.http.portal.routes import PAGES
from tallystick.activation.services import people, record
from tallystick.activation.storage import verify_database

ACCOUNT = "Harbour"
ADMIN = Role.CUSTOMER_ADMINISTRATOR


class World:
    """One of everything, and the texts that open something."""

    def __init__(self, directory):
        self.site = site = Site(directory)
        site.account(ACCOUNT)
        vendor = site.client()
        body = {"account": ACCOUNT, "products": [{"product": "smartdriver", "quantity": 10}]}
        self.made = made = vendor.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "once-1234"}).json()
        self.line = site.line(made["lines"][0]["line"])
        device = site.activated(site.device("plant"), (self.line, 3))
        (message,) = site.post(device.say("refresh"))
        site.post(device.copy().say("refresh"))  # an incident
        vendor.post(f"/v1/field-servers/{device.id}/release")
        vendor.post(f"/v1/field-servers/{device.id}/return")
        hook = vendor.post("/v1/webhooks", json={"url": "https://hooks.invalid/x", "after": 0}).json()
        invited = people.invite_person(
            site.office, site.root, email="b@example.com", name="B", role=ADMIN, account=ACCOUNT, once=None
        )
        token = vendor.post(
            "/v1/tokens", json={"name": "t", "role": "customer-technician", "account": ACCOUNT, "days": 3}
        ).json()
        self.vendor, self.customer = site.signed_in("ana@example.com"), site.signed_in("c@example.com", ADMIN, ACCOUNT)
        form = self.vendor.form("/me", "/me", do="authenticator")
        totp = form.fields["secret"]
        code = pyotp.TOTP(totp).at(site.now)
        self.vendor.client.post("/me", data={**form.fields, "old": PASSWORD, "code": code})
        person = site.activation.read(lambda tx: tx.people.find_person(email="ana@example.com"))
        site.dispatcher().run_once()
        self.fill = {
            "account": ACCOUNT,
            "person_id": person.person_id,
            "token_id": token["token_id"],
            "entitlement_id": made["entitlement"],
            "line_id": self.line.line_id,
            "device_id": str(device.id),
            "digest": message["digest"],
            "webhook_id": hook["webhook_id"],
            "position": "1",
            "number": "1",
            "transfer": "AAAA",
        }
        self.secrets = {
            "entitlement ID": made["entitlement_id"],
            "activation ID": made["lines"][0]["activation_id"],
            "webhook secret": hook["secret"],
            "invitation": invited.invitation,
            "token": token["token"],
            "second factor": person.totp_secret,
            "password": person.password,
            **{
                f"cookie {name}": value
                for reader in (self.vendor, self.customer)
                for name, value in reader.client.cookies.items()
                if not name.endswith("-form")
            },
        }
        self.fill |= {"act": "retire"}

    def seen_in(self, text):
        plain = html.unescape(text)
        return [name for name, secret in self.secrets.items() if secret[4:] in plain or secret[4:24] in plain]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    found = World(tmp_path_factory.mktemp("secrets"))
    yield found
    found.site.close()


def filled(path, world):
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda part: world.fill[part[1]], path)


@pytest.mark.parametrize(("role", "account"), [(Role.VENDOR_ADMINISTRATOR, None), (ADMIN, ACCOUNT)])
def test_no_document_that_is_read_has_a_secret(world, role, account):
    client = world.site.client(role, account)
    paths = world.site.browser().get("/openapi.json").json()["paths"]
    walked = 0
    for path, methods in paths.items():
        if "get" not in methods:
            continue
        for headers in ({}, {"Accept": "application/json"}):
            answer = client.get(filled(path, world), headers=headers)
            assert not world.seen_in(answer.text), path
        walked += answer.status_code == 200
    assert walked > 15


@pytest.mark.parametrize("who", ["vendor", "customer"])
def test_no_page_that_is_read_has_a_secret(world, who):
    reader = getattr(world, who)
    walked = 0
    for path, (_, methods) in PAGES.items():
        if "GET" not in methods:
            continue
        answer = reader.see(filled(path, world))
        assert not world.seen_in(answer.text), path
        assert not world.seen_in(str(answer.url)), path
        walked += answer.status_code == 200
    assert walked > 12


def test_what_is_said_again_for_an_idempotency_key_has_no_secret(world):
    body = {"account": ACCOUNT, "products": [{"product": "smartdriver", "quantity": 10}]}
    token = world.site.token(Role.VENDOR_ADMINISTRATOR)
    client = world.site.client_with(token)
    first = client.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "once-again"}).json()
    again = client.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "once-again"}).json()
    assert first["entitlement_id"]
    assert again["entitlement_id"] is None
    assert again["lines"][0]["activation_id"] is None
    assert again["entitlement"] == first["entitlement"]


REVEALING = [
    "/v1/entitlements/{entitlement_id}/reveal",
    "/v1/entitlements/{entitlement_id}/rotate-secret",
    "/v1/entitlements/{entitlement_id}/certificate",
    "/v1/lines/{line_id}/reveal",
    "/v1/lines/{line_id}/rotate-secret",
]


@pytest.mark.parametrize("path", REVEALING)
@pytest.mark.parametrize(
    ("role", "account", "read_only"),
    [
        (Role.VENDOR_ADMINISTRATOR, None, True),
        (ADMIN, ACCOUNT, True),
        (Role.VENDOR_SUPPORT, None, False),
        (Role.CUSTOMER_TECHNICIAN, ACCOUNT, False),
    ],
)
def test_to_see_it_is_a_permission_of_its_own(world, path, role, account, read_only):
    client = world.site.client(role, account, is_read_only=read_only)
    answer = client.post(filled(path, world))
    assert answer.status_code == 403, answer.text
    assert not world.seen_in(answer.text)


def test_every_route_that_shows_or_replaces_a_secret_is_told_to_webhooks_and_monitoring(tmp_path):
    """Also one that is added tomorrow, if its name says what it does."""
    world = World(tmp_path)
    client = world.site.client()

    def told():
        events = client.get("/v1/events", params={"limit": 1000}).json()["events"]
        return sum(event["type"].startswith("secret.") for event in events)

    try:
        walked = [
            path
            for path in client.get("/openapi.json").json()["paths"]
            if path.endswith(("/reveal", "/certificate", "secret"))
        ]
        assert set(REVEALING) < set(walked)
        for path in walked:
            before = told()
            answer = client.post(filled(path, world))
            assert answer.status_code in {200, 201}, (path, answer.text)
            assert told() == before + 1, path
    finally:
        world.site.close()


def test_who_saw_it_is_written_down_and_told(site):
    bought = site.sell(ACCOUNT, ("smartdriver", 10))
    reference = site.client().get("/v1/entitlements").json()["items"][0]["entitlement"]
    client = site.client(ADMIN, ACCOUNT)
    shown = client.post(f"/v1/entitlements/{reference}/reveal").json()
    assert shown["entitlement_id"] == bought.entitlement_id
    assert shown["lines"][0]["activation_id"] == str(bought.lines[0].activation_id)
    assert client.post(f"/v1/entitlements/{reference}/certificate").status_code == 200
    line = bought.lines[0].line_id
    assert client.post(f"/v1/lines/{line}/reveal").json()["activation_id"] == str(bought.lines[0].activation_id)
    trail = client.get("/v1/trail").json()["items"]
    assert [(entry["action"], entry["target"]) for entry in trail[:3]] == [
        ("secret-reveal", line),
        ("secret-reveal", reference),
        ("secret-reveal", reference),
    ]
    kinds = [event["type"] for event in client.get("/v1/events").json()["events"]]
    assert kinds.count("secret.revealed") == 3


def test_what_was_seen_can_be_undone(site):
    bought = site.sell(ACCOUNT, ("smartdriver", 10))
    old = bought.lines[0]
    holder = site.activated(site.device("plant"), (old, 3))
    client, anybody = site.client(), site.browser()
    after = client.post(f"/v1/entitlements/{bought.entitlement_id}/rotate-secret").json()
    new = site.line(old.line_id)

    def look_up(entitlement_id):
        return anybody.post("/v1/entitlements/lookup", json={"entitlement_id": entitlement_id})

    assert look_up(bought.entitlement_id).status_code == 404
    assert client.get(f"/v1/entitlements/{bought.entitlement_id}").status_code == 404
    assert look_up(after["entitlement_id"]).json()["lines"][0]["activation_id"] == str(new.activation_id)
    (row,) = site.post(site.device("thief").activate((old, 1)))
    assert row["outcome"] == "refused"
    site.activated(site.device("friend"), (new, 1))
    (row,) = site.post(holder.say("refresh"))
    assert row["outcome"] == "granted"  # what is held stays
    assert site.activation.read(verify_database).is_green  # the seals fit
    third = client.post(f"/v1/lines/{old.line_id}/rotate-secret").json()["activation_id"]
    (row,) = site.post(site.device("thief-2").activate((new, 1)))
    assert row["outcome"] == "refused"
    assert look_up(after["entitlement_id"]).json()["lines"][0]["activation_id"] == third


def test_the_trail_of_yesterday_named_entitlements_by_their_id_and_is_shown_without(site):
    bought = site.sell(ACCOUNT, ("smartdriver", 10))
    site.activation.transact(
        lambda tx: record(
            tx, site.root, "entitlement-create", bought.entitlement_id, account=ACCOUNT, now=site.now, detail=""
        )
    )
    answer = site.client(ADMIN, ACCOUNT).get("/v1/trail")
    assert bought.entitlement_id not in answer.text
    reference = site.client().get("/v1/entitlements").json()["items"][0]["entitlement"]
    assert reference in answer.text
