"""Tokens, sessions and invitations do not outlive the person, or the right, that they come from."""

import pytest

from support.browser import Reader
from support.site import PASSWORD
from tallystick.activation.core.permissions import Role
from tallystick.activation.services import people, sign_in, trail
from tallystick.activation.services.people import PersonChange
from tallystick.errors import Error


def made_by(site, email, role=Role.VENDOR_ADMINISTRATOR, account=None):
    """A person, a token of theirs, a token of that token, and an invitation of theirs that nobody used."""
    person = site.person(email, role, account)
    first = people.create_token(site.office, person.caller, name="first", **asked(role, account))
    caller = sign_in.caller_of_token(site.office, first.token)
    second = people.create_token(site.office, caller, name="second", **asked(role, account))
    invited = people.invite_person(
        site.office, caller, email=f"friend.of.{email}", name="Friend", role=role, account=account, once=None
    )
    return person, [first.token, second.token], invited.invitation


def asked(role, account):
    return {"role": role, "account": account, "days": 30, "is_read_only": False, "devices": (), "once": None}


@pytest.mark.parametrize("change", [PersonChange(is_active=False), PersonChange(role=Role.VENDOR_SUPPORT)])
def test_what_somebody_made_ends_when_they_may_make_it_no_more(site, change):
    site.person("root@example.com")
    person, tokens, invitation = made_by(site, "mallory@example.com")
    for token in tokens:
        assert site.client_with(token).get("/v1/people").status_code == 200
    people.change_person(site.office, site.root, person.person_id, change, version=None)
    for token in tokens:
        assert site.client_with(token).get("/v1/people").status_code == 401
        assert site.client_with(token).get("/v1/events").status_code == 401
    assert Reader(site.browser()).see(f"/invitation/{invitation}").status_code == 403
    actions = [entry.action for entry in trail.find_records(site.office, site.root, before=None, limit=50)]
    assert actions.count("token-revoke") == 2
    assert "invitation-end" in actions


def test_who_comes_back_does_not_get_the_old_ones_back(site):
    site.person("root@example.com")
    person, tokens, invitation = made_by(site, "mallory@example.com")
    for is_active in (False, True):
        change = PersonChange(is_active=is_active)
        people.change_person(site.office, site.root, person.person_id, change, version=None)
    assert [site.client_with(token).get("/v1/people").status_code for token in tokens] == [401, 401]
    assert Reader(site.browser()).see(f"/invitation/{invitation}").status_code == 403


def test_a_new_invitation_after_a_lost_laptop_ends_tokens_and_sessions(site):
    reader = site.signed_in("root@example.com")
    person, tokens, _ = made_by(site, "ana@example.com")
    stolen = Reader(site.browser())
    stolen.send("/sign-in", email="ana@example.com", password=PASSWORD)
    people.invite_again(site.office, site.root, person.person_id, once=None)
    assert [site.client_with(token).get("/v1/people").status_code for token in tokens] == [401, 401]
    assert stolen.see("/").url.path == "/sign-in"
    assert reader.see("/").url.path == "/"


def test_an_invitation_that_was_not_used_ends_with_the_invited(site):
    site.person("root@example.com")
    made = people.invite_person(
        site.office, site.root, email="b@example.com", name="B", role=Role.VENDOR_SUPPORT, account=None, once=None
    )
    for is_active in (False, True):
        change = PersonChange(is_active=is_active)
        people.change_person(site.office, site.root, made.person_id, change, version=None)
    with pytest.raises(Error) as refused:
        sign_in.invited_person(site.office, made.invitation)
    assert refused.value.code == "invitation-wrong"
