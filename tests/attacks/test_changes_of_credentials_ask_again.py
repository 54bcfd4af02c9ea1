"""A stolen session changes nothing that opens the door: password and present second factor are asked for again."""

import pyotp
import pytest

from support.site import PASSWORD
from tallystick.activation.services import people, trail

NEW = "another quiet set of words"


@pytest.fixture
def person(site):
    """Somebody with a second factor, signed in; and the factor."""
    reader = site.signed_in("ana@example.com")
    form = reader.form("/me", "/me", do="authenticator")
    totp = pyotp.TOTP(form.fields["secret"])
    sent = {**form.fields, "code": totp.at(site.now)}
    assert reader.client.post("/me", data=sent).status_code == 401  # the session alone turns nothing on
    assert reader.client.post("/me", data={**sent, "old": PASSWORD}).status_code == 200
    site.now += 60
    return reader, totp


CHANGES = [{"do": "no-authenticator"}, {"do": "password", "password": NEW}]


def replacing(site, reader, known):
    """A second factor in place of the first one, as somebody would who has the session."""
    secret = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    csrf = reader.form("/me", "/me", do="password").fields["csrf"]
    code = pyotp.TOTP(secret).at(site.now)
    return reader.client.post(
        "/me", data={"csrf": csrf, "do": "authenticator", "secret": secret, "code": code, **known}
    )


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("missing", ["old", "old_code"])
def test_neither_the_password_nor_the_code_alone_is_enough(site, person, change, missing):
    reader, totp = person
    csrf = reader.form("/me", "/me", do="password").fields["csrf"]
    known = {"old": PASSWORD, "old_code": totp.at(site.now)}
    sent = {"csrf": csrf, **change, **known, missing: "000000"}
    assert reader.client.post("/me", data=sent).status_code == 401
    assert replacing(site, reader, {**known, missing: "000000"}).status_code == 401
    site.now += 60
    sent = {"csrf": csrf, **change, "old": PASSWORD, "old_code": totp.at(site.now)}
    assert reader.client.post("/me", data=sent).status_code == 200


def test_each_change_stands_in_the_trail_with_the_address(site, person):
    reader, totp = person
    assert replacing(site, reader, {"old": PASSWORD, "old_code": totp.at(site.now)}).status_code == 200
    (first, *_) = trail.find_records(site.office, site.root, before=None, limit=1)
    assert (first.action, first.actor) == ("second-factor-on", "ana@example.com")
    assert "from testclient" in first.detail


def test_guesses_in_a_stolen_session_are_slowed_down_and_do_not_shut_the_owner_out(site, person):
    reader, totp = person
    csrf = reader.form("/me", "/me", do="password").fields["csrf"]
    sent = {"csrf": csrf, "do": "no-authenticator", "old": "guess"}
    codes = [reader.client.post("/me", data=sent).status_code for _ in range(7)]
    assert codes[:5] == [401] * 5
    assert codes[6] == 429
    assert reader.send("/me", chosen={"do": "password"}, old=PASSWORD, old_code="1", password=NEW).status_code == 429
    own = type(reader)(site.browser())
    assert own.send("/sign-in", email="ana@example.com", password=PASSWORD).url.path == "/sign-in/code"
    assert own.send("/sign-in/code", code=totp.at(site.now)).url.path == "/"


@pytest.mark.parametrize(
    "form", [{"do": "person", "name": "M", "email": "m@example.com"}, {"do": "token", "name": "t", "days": "3"}]
)
def test_nobody_gets_a_way_in_by_a_stolen_session(site, person, form):
    reader, totp = person
    csrf = reader.form("/me", "/me", do="password").fields["csrf"]
    sent = {"csrf": csrf, "role": "vendor-administrator", **form}
    right = {"own_password": PASSWORD, "own_code": totp.at(site.now)}
    for missing in ({}, {**right, "own_password": "x"}, {**right, "own_code": "000000"}):
        assert reader.client.post("/people", data={**sent, **missing}).status_code == 401
    ours = site.activation.read(lambda tx: tx.people.find_person(email="ana@example.com"))
    again = {"csrf": csrf, "do": "invite"}
    assert reader.client.post(f"/people/{ours.person_id}", data=again).status_code == 401
    assert [found.email for found in people.find_people(site.office, site.root, after="", limit=9)] == [
        "ana@example.com"
    ]
    assert people.find_tokens(site.office, site.root, after="", limit=9) == []
    site.now += 60
    assert reader.client.post("/people", data={**sent, **right, "own_code": totp.at(site.now)}).status_code == 200
