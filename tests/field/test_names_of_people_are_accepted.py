"""Row 17: names as people write them; what is refused is what cannot be seen, or is made to be mistaken."""

from urllib.parse import quote

import pytest

from tallystick.activation.core.permissions import Role

GOOD = [
    "Danfoss A/S",
    "Άλφα \u0391\u0395",
    "O'Neill & Söhne",
    "D\u2019Angelo",
    "東京電力",
    "佐々木",
    "한국전력",
    "Ελ.Πετ",
    "Вода",
    "شرکت می\u200cسازیم",  # noqa: RUF001 - its letters
    "क्\u200dष ऊर्जा",
]
BAD = ["a\u202eb", "a\x00b", "a\nb", "a\x1b[2Jb", "\u200b", " "]


@pytest.mark.parametrize("name", GOOD)
def test_a_name_as_people_write_it_is_accepted_and_found(site, name):
    client = site.client(Role.VENDOR_ADMINISTRATOR)
    made = client.post("/v1/accounts", json={"account": name})
    assert (made.status_code, made.json()["account"]) == (201, name), made.text
    assert client.get(f"/v1/accounts/{quote(name, safe='')}").json()["account"] == name
    body = {"account": name, "products": [{"product": "smartdriver", "quantity": 1}]}
    assert client.post("/v1/entitlements", json=body).status_code == 201
    assert len(client.get("/v1/entitlements", params={"account": name}).json()["items"]) == 1


@pytest.mark.parametrize("typed", ["Har\u200dbour", "Harbour\u200c", "\u200dHarbour"])
def test_a_joiner_that_joins_nothing_is_not_kept(site, typed):
    made = site.client(Role.VENDOR_ADMINISTRATOR).post("/v1/accounts", json={"account": typed})
    assert (made.status_code, made.json()["account"]) == (201, "Harbour"), made.text


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_seen_is_refused_without_a_regular_expression(site, name):
    refused = site.client(Role.VENDOR_ADMINISTRATOR).post("/v1/accounts", json={"account": name})
    assert refused.status_code == 422
    assert "account: a text" in refused.json()["expected"]
    assert "^[" not in refused.text


def test_a_word_that_mixes_alphabets_to_look_like_another_is_refused(site):
    refused = site.client(Role.VENDOR_ADMINISTRATOR).post("/v1/accounts", json={"account": "H\u0430rbour"})
    assert (refused.status_code, refused.json()["code"]) == (409, "name-misleading")
    assert "\\u0430" in refused.json()["seen"]
