"""An account learns nothing about the people of another one, and takes nothing from them."""

import pytest

from support.site import PASSWORD
from tallystick.activation.core.people import PeopleError, check_password
from tallystick.activation.core.permissions import Role
from tallystick.activation.services import sign_in
from tallystick.activation.services.sign_in import Origin

ADMIN = Role.CUSTOMER_ADMINISTRATOR


def test_an_address_of_another_account_is_answered_as_one_of_nobody(site):
    for account in ("Harbour", "Other"):
        site.account(account)
    site.person("boss@other.example", ADMIN, "Other")
    site.person("vendor@example.com")
    client = site.client(ADMIN, "Harbour")
    shapes = set()
    for email in ("boss@other.example", "vendor@example.com", "nobody@nowhere.example"):
        body = {"email": email, "name": "X", "role": "customer-technician", "account": "Harbour"}
        answer = client.post("/v1/people", json=body)
        shapes.add((answer.status_code, tuple(sorted(answer.json()))))
        assert client.post("/v1/people", json=body).status_code == 409  # in one account it stays unique
    assert shapes == {(201, tuple(sorted(answer.json())))}


def test_who_takes_an_address_takes_nobodys_place(site):
    site.account("Harbour")
    site.account("Other")
    owner = site.person("boss@other.example", ADMIN, "Other")
    client = site.client(ADMIN, "Harbour")
    body = {"email": "boss@other.example", "name": "X", "role": "customer-administrator", "account": "Harbour"}
    invitation = client.post("/v1/people", json=body).json()["invitation"]
    sign_in.accept_invitation(site.office, invitation=invitation, password="mallory has her own words")

    def who(password):
        found = sign_in.sign_in(
            site.office, email="boss@other.example", password=password, origin=Origin(address="203.0.113.9")
        )
        return sign_in.visitor_of(site.office, found.secret).person

    assert who(PASSWORD).person_id == owner.person_id
    assert who("mallory has her own words").account == "Harbour"


@pytest.mark.parametrize(
    "password", ["password1234", "qwertyuiop12", "iloveyou1234", "ana@example.com", "letmeinletmein", "tallystick12"]
)
def test_a_password_that_is_tried_first_is_refused(password):
    with pytest.raises(PeopleError) as refused:
        check_password(password, email="ana@example.com")
    assert refused.value.code == "password-weak"


def test_words_that_nobody_guesses_are_taken():
    check_password(PASSWORD, email="ana@example.com")
    check_password("w" + "ß" * 3 + "Kq7!vv0zzR" * 20, email="ana@example.com")
