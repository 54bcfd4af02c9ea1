"""Tries are counted before they are looked at, and whoever guesses slows down nobody but themselves."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from support.site import PASSWORD
from tallystick.activation.core.people import ADDRESS_TRIES_FREE, NAME_TRIES_FREE, TRIES_FREE
from tallystick.activation.services import sign_in, trail
from tallystick.activation.services.sign_in import Origin
from tallystick.errors import Error


def outcome(site, email, password, origin):
    try:
        return sign_in.sign_in(site.office, email=email, password=password, origin=origin)
    except Error as error:
        return error.code


def test_tries_at_the_same_time_do_not_slip_through(site):
    site.person("ana@example.com")
    origin = Origin(address="203.0.113.9")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: outcome(site, "ana@example.com", f"guess {number}", origin), range(24)))
    assert found.count("sign-in-wrong") == TRIES_FREE
    assert found.count("sign-in-paused") == 24 - TRIES_FREE


@pytest.mark.slow
def test_who_was_signed_in_with_this_browser_is_never_shut_out_by_guesses_from_anywhere(site):
    site.person("ana@example.com")
    first = outcome(site, "ana@example.com", PASSWORD, Origin(address="198.51.100.1"))
    for number in range(NAME_TRIES_FREE + 10):
        outcome(site, "ana@example.com", "guess", Origin(address=f"203.0.113.{number}"))
    assert outcome(site, "ana@example.com", "guess", Origin(address="203.0.113.200")) == "sign-in-paused"
    for number in range(ADDRESS_TRIES_FREE + 5):  # from her own address, too
        outcome(site, f"name{number}@example.com", "guess", Origin(address="198.51.100.1"))
    again = outcome(site, "ana@example.com", PASSWORD, Origin(address="198.51.100.1", known=first.known))
    assert again.secret
    assert outcome(site, "bo@example.com", PASSWORD, Origin(address="198.51.100.1")) == "sign-in-paused"


def test_an_invented_browser_is_not_a_known_one(site):
    site.person("ana@example.com")
    for number in range(TRIES_FREE):
        outcome(site, "ana@example.com", "guess", Origin(address="203.0.113.9", known=f"known_{number}"))
    assert outcome(site, "ana@example.com", "guess", Origin(address="203.0.113.9", known="known_x")) == "sign-in-paused"


def test_a_known_browser_that_guesses_is_slowed_down_too_and_knows_one_name_only(site):
    site.person("ana@example.com")
    site.person("bo@example.com")
    known = outcome(site, "ana@example.com", PASSWORD, Origin(address="198.51.100.1")).known
    origin = Origin(address="198.51.100.1", known=known)
    found = [outcome(site, "ana@example.com", "guess", origin) for _ in range(TRIES_FREE + 1)]
    assert found == ["sign-in-wrong"] * TRIES_FREE + ["sign-in-paused"]
    found = [outcome(site, "bo@example.com", "guess", origin) for _ in range(TRIES_FREE + 1)]
    assert found[-1] == "sign-in-paused"


def test_one_address_does_not_pay_for_another(site):
    site.person("ana@example.com")
    for number in range(ADDRESS_TRIES_FREE + 1):
        outcome(site, f"name{number}@example.com", "guess", Origin(address="203.0.113.9"))
    assert outcome(site, "ana@example.com", PASSWORD, Origin(address="203.0.113.9")) == "sign-in-paused"
    assert outcome(site, "ana@example.com", PASSWORD, Origin(address="203.0.113.10")).secret


def test_failed_and_paused_sign_ins_are_in_the_trail_the_stream_and_the_metrics(site):
    site.person("ana@example.com", account=None)
    for _ in range(TRIES_FREE + 3):
        outcome(site, "ana@example.com", "guess", Origin(address="203.0.113.9"))
    outcome(site, "\x1b[2Jnobody", "guess", Origin(address="203.0.113.10"))
    found = trail.find_records(site.office, site.root, before=None, limit=50)
    failed = [entry for entry in found if entry.action == "sign-in-fail"]
    paused = [entry for entry in found if entry.action == "sign-in-pause"]
    assert len(failed) == TRIES_FREE + 1
    assert len(paused) == 1  # once, not at every try: a stranger's guesses do not fill the disk
    assert "from 203.0.113.9" in failed[-1].detail
    assert failed[-1].role == "not signed in"
    assert all(entry.actor.isprintable() for entry in found)
    kinds = [event["type"] for event in site.client().get("/v1/events", params={"limit": 1000}).json()["events"]]
    assert kinds.count("sign_in.failed") == TRIES_FREE + 1
    assert kinds.count("sign_in.paused") == 1
    metrics = site.web.state.office.watchers
    assert metrics, "monitoring is told"


@pytest.mark.parametrize("trusted", [["203.0.113.0/24"], []])
def test_a_proxy_says_the_address_only_where_the_settings_trust_it(site, trusted):
    from starlette.testclient import TestClient
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    from support.browser import Reader

    behind = ProxyHeadersMiddleware(site.web, trusted_hosts=trusted)
    client = TestClient(behind, base_url="https://test", client=("203.0.113.5", 1), follow_redirects=True)
    reader = Reader(client)
    client.headers["X-Forwarded-For"] = "192.0.2.1, 198.51.100.77"
    site.person("ana@example.com")
    reader.send("/sign-in", email="ana@example.com", password="guess")
    (first, *_) = trail.find_records(site.office, site.root, before=None, limit=1)
    assert ("from 198.51.100.77" if trusted else "from 203.0.113.5") in first.detail
