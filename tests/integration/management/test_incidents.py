"""Incidents are open, acknowledged and resolved: by a release, a fence, the clock or a person; in API, portal, stream, trail, metrics."""

import re

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from support.activation import DAY
from tallystick import cli
from tallystick.activation.core.books import Books
from tallystick.activation.core.clock import NOBODY
from tallystick.activation.core.permissions import Role
from tallystick.activation.core.ports import IncidentKind
from tallystick.activation.http.monitoring import look
from tallystick.activation.storage import verify_database
from tallystick.protocol.problems import BY_CODE

CLEAR = ("acknowledged_at", "acknowledged_by", "resolved_at", "resolved_by", "resolution")


@pytest.fixture
def admin(site):
    return site.client()


@pytest.fixture
def forked(site):
    """A field server of which two copies spoke. Returns it, with the copy."""
    line = site.sell("Harbour", ("smartdriver", 10)).lines[0]
    device = site.activated(site.device("plant"), (line, 3))
    copy = device.copy()
    site.post(device.say("refresh"))
    site.post(copy.say("refresh"))
    return device, copy


def listed(client, **query):
    return client.get("/v1/incidents", params=query).json()["items"]


def told(site, kind):
    site.activation.transact(lambda tx: tx.events.assign_positions(site.activation.random_bytes))
    found = site.activation.read(lambda tx: tx.events.find(after=0, limit=1000, kinds=(kind,)))
    return [event.data for event in found]


def gauges(site):
    found = look(site.activation.store, site.activation.signer)
    return found["tallystick_incidents_open"][1], found["tallystick_incidents_acknowledged"][1]


def test_it_is_acknowledged_and_resolved_by_people_who_say_why(site, admin, forked):
    (noted,) = listed(admin)
    assert noted["state"] == "open"
    assert [noted[name] for name in CLEAR] == [None] * 5
    path = f"/v1/incidents/{noted['number']}"
    assert admin.get(path).json() == noted
    site.now += 60
    seen = admin.post(f"{path}/acknowledge", json={"note": "I ask them"}).json()
    assert (seen["state"], seen["acknowledged_at"], seen["acknowledged_note"]) == (
        "acknowledged",
        site.now,
        "I ask them",
    )
    assert seen["acknowledged_by"]
    assert [row["number"] for row in listed(admin, state="acknowledged")] == [noted["number"]]
    assert listed(admin, state=["open", "resolved"]) == []
    site.now += 60
    over = admin.post(f"{path}/resolve", json={}).json()
    assert (over["state"], over["resolution"], over["resolved_at"]) == ("resolved", "person", site.now)
    assert over["acknowledged_note"] == "I ask them"
    for verb in ("acknowledge", "resolve"):
        answer = admin.post(f"{path}/{verb}", json={"note": "again"})
        assert (answer.status_code, answer.json()["code"]) == (BY_CODE["incident-over"].status, "incident-over")
    assert listed(admin, state="resolved") == [over]
    actions = [(row["action"], row["target"], row["detail"]) for row in admin.get("/v1/trail").json()["items"]]
    number = str(noted["number"])
    assert ("incident-acknowledge", number, "I ask them") in actions
    assert ("incident-resolve", number, "") in actions
    (event,) = told(site, "incident.acknowledged")
    assert (event["number"], event["note"], event["by"]) == (noted["number"], "I ask them", seen["acknowledged_by"])
    assert [one["resolution"] for one in told(site, "incident.resolved")] == ["person"]
    assert site.activation.read(verify_database).is_green


def test_a_release_resolves_the_fork_and_a_new_one_is_open_again(site, admin, forked):
    device, copy = forked
    admin.post(f"/v1/field-servers/{device.id}/release")
    (over,) = listed(admin)
    assert (over["kind"], over["state"], over["resolution"]) == ("fork", "resolved", "release")
    assert over["resolved_by"]
    assert [one["resolution"] for one in told(site, "incident.resolved")] == ["release"]


def test_a_fence_that_was_proven_resolves_the_rollback_and_nothing_before_that_does(site, admin):
    line = site.sell("Harbour", ("smartdriver", 10)).lines[0]
    device = site.activated(site.device("plant"), (line, 3))
    site.post(device.say("confirm"))
    old = device.copy()
    site.now += 60
    (row,) = site.post(device.activate((line, 5)))
    device.take(row["reply"].split("\n")[0])
    site.post(device.say("confirm"))
    site.now += 60
    site.activation.settle()
    old.sequence = device.sequence + 1
    (row,) = site.post(old.say("refresh"))
    (noted,) = listed(admin)
    assert noted["kind"] == "rollback"
    site.activation.settle()
    assert listed(admin)[0]["state"] == "open"
    old.take(row["reply"].split("\n")[0])
    site.post(old.say("confirm"))
    site.activation.settle()
    (over,) = listed(admin)
    assert (over["state"], over["resolution"], over["resolved_by"]) == ("resolved", "fence", None)
    assert [one["resolution"] for one in told(site, "incident.resolved")] == ["fence"]


@pytest.mark.parametrize("role", [Role.CUSTOMER_ADMINISTRATOR, Role.CUSTOMER_TECHNICIAN, Role.COURIER])
def test_who_may_not_release_a_hold_may_not_say_that_an_incident_is_over(site, admin, forked, role):
    (noted,) = listed(admin)
    devices = (str(forked[0].id),) if role is Role.COURIER else ()
    customer = site.client(role, "Harbour", devices=devices)
    for verb in ("acknowledge", "resolve"):
        assert customer.post(f"/v1/incidents/{noted['number']}/{verb}", json={}).status_code == 403
    assert listed(admin) == [noted]


def test_home_and_the_page_show_what_is_not_resolved(site, admin, forked):
    reader = site.signed_in("ana@example.com")
    (noted,) = listed(admin)
    home = reader.see("/").text
    assert re.search(r'figure">1</span>\s*incident not resolved', home)
    reader.send("/incidents", f"/incidents/{noted['number']}", do="acknowledge", note="I ask them")
    assert "I ask them" in reader.see("/incidents").text
    assert re.search(r'figure">1</span>\s*incident not resolved', reader.see("/").text)
    site.now += 9 * DAY  # however old it is
    reader = site.signed_in("bo@example.com")
    assert re.search(r'figure">1</span>\s*incident not resolved', reader.see("/").text)
    assert gauges(site) == (0, 1)
    reader.send("/incidents", f"/incidents/{noted['number']}", do="resolve", note="a clone")
    assert re.search(r'figure">0</span>\s*incidents not resolved', reader.see("/").text)
    assert "fork" not in reader.see("/incidents").text.partition("<ol")[2]
    assert "a clone" in reader.see("/incidents?state=resolved").text
    assert gauges(site) == (0, 0)


def test_the_clock_that_was_confirmed_resolves_its_jump(site, admin):
    def jumped(transaction):
        books = Books(transaction, site.activation.signer, now=site.now)
        books.note(IncidentKind.CLOCK_JUMPED, NOBODY, "the clock jumped")
        books.save()
        transaction.save_clock(replace(transaction.load_clock_for_update(), doubted_at=site.now))

    site.activation.transact(jumped)
    assert listed(admin)[0]["state"] == "open"
    words = ["activation", "clock", "--confirm", "--by", "ada", "--data", str(site.data / "data")]
    words += ["--database", site.database] if site.database else []
    assert CliRunner().invoke(cli.app, words).exit_code == 0
    (over,) = listed(admin)
    assert (over["state"], over["resolution"], over["resolved_by"]) == ("resolved", "clock", "ada")
