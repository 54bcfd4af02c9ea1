"""Rule 16: whatever opens something leaves a trace: in the audit trail, the stream for webhooks and the metrics, with who."""

import re

import pytest
from starlette.testclient import TestClient

from support.site import PASSWORD
from tallystick.activation.core.people import TRIES_FREE
from tallystick.activation.core.permissions import Role
from tallystick.activation.core.ports import EventKind
from tallystick.activation.services import people, sign_in, trail
from tallystick.activation.services.people import PersonChange
from tallystick.activation.services.sign_in import Origin
from tallystick.errors import Error

SECURITY = {kind for kind in EventKind if kind.value.split(".")[0] in {"sign_in", "secret", "token", "credential"}}
ORIGIN = Origin(address="203.0.113.9")


def guess(site, times=1):
    site.person("ana@example.com")
    for _ in range(times):
        with pytest.raises(Error):
            sign_in.sign_in(site.office, email="ana@example.com", password="guess", origin=ORIGIN)


def reveal(site, verb):
    bought = site.sell("Harbour", ("smartdriver", 1))
    assert site.client().post(f"/v1/lines/{bought.lines[0].line_id}/{verb}").status_code == 200


def end_token(site):
    site.person("root@example.com")
    person = site.person("mallory@example.com")
    people.create_token(
        site.office, person.caller, name="hers", role=Role.VENDOR_SUPPORT, account=None, days=3,
        is_read_only=False, devices=(), once=None,
    )  # fmt: skip
    people.change_person(site.office, site.root, person.person_id, PersonChange(is_active=False), version=None)


def change_credential(site):
    site.person("root@example.com")
    person = site.person("bo@example.com")
    people.invite_again(site.office, site.root, person.person_id, once=None)


# What makes it, the action in the trail, and who is named there.
ACTS = {
    EventKind.SIGN_IN_FAILED: (guess, "sign-in-fail", "ana@example.com"),
    EventKind.SIGN_IN_PAUSED: (lambda site: guess(site, TRIES_FREE + 1), "sign-in-pause", "ana@example.com"),
    EventKind.SECRET_REVEALED: (lambda site: reveal(site, "reveal"), "secret-reveal", "token vendor"),
    EventKind.SECRET_REPLACED: (lambda site: reveal(site, "rotate-secret"), "secret-rotate", "token vendor"),
    EventKind.TOKEN_CREATED: (lambda site: site.token(Role.VENDOR_SUPPORT), "token-create", "root"),
    EventKind.TOKEN_ENDED: (end_token, "token-revoke", "root"),
    EventKind.CREDENTIAL_CHANGED: (change_credential, "person-invite-again", "root"),
}


def test_every_kind_of_security_event_is_here():
    assert set(ACTS) == SECURITY


@pytest.mark.parametrize("kind", sorted(SECURITY), ids=str)
def test_it_is_in_the_trail_the_stream_and_the_metrics(site, kind):
    act, action, who = ACTS[kind]
    act(site)
    found = trail.find_records(site.office, site.root, before=None, limit=50)
    (record, *_) = [entry for entry in found if entry.action == action]
    assert record.actor
    events = site.client().get("/v1/events", params={"limit": 1000, "kind": kind.value}).json()["events"]
    (event, *_) = [event for event in events if event["data"]["action"] == action]
    assert event["data"]["by"] == record.actor
    assert who.split()[0] in record.actor or "vendor" in record.actor
    if kind in {EventKind.SIGN_IN_FAILED, EventKind.SIGN_IN_PAUSED}:
        assert event["data"]["address"] == ORIGIN.address
        assert ORIGIN.address in record.detail
    if kind in {EventKind.SECRET_REVEALED, EventKind.SECRET_REPLACED}:
        assert event["data"]["address"] == "testclient"
        assert "from testclient" in record.detail
    text = TestClient(site.web, client=("127.0.0.1", 1)).get("/metrics").text
    assert re.search(rf'^tallystick_security_events_total{{kind="{re.escape(kind.value)}"}} [1-9]', text, re.MULTILINE)


def test_a_token_that_is_made_on_a_page_says_from_where(site):
    reader = site.signed_in("ana@example.com")
    answer = reader.send(
        "/people", chosen={"do": "token"}, name="mine", role="vendor-support", days="3", own_password=PASSWORD
    )
    assert answer.status_code == 200
    (record, *_) = trail.find_records(site.office, site.root, before=None, limit=1)
    assert (record.action, record.actor) == ("token-create", "ana@example.com")
    assert "from testclient" in record.detail
