"""Webhooks in the portal, without JavaScript: made, looked at, retried, replayed, paused, rotated, removed."""

import re

import pytest

from support.browser import words
from support.receiver import Receiver, is_signed
from tallystick.activation.core.permissions import Role

pytestmark = pytest.mark.slow

PUBLIC = "https://hooks.example.com/tally"


@pytest.fixture
def admin(site):
    return site.signed_in("ana@example.com")


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.close()


def make(reader, url=PUBLIC, **fields):
    """The page that shows the secret, the address of the new webhook, and its secret."""
    answer = reader.send("/webhooks", "/webhooks", url=url, **fields)
    assert answer.status_code == 200, words(answer.text)
    return re.search(r"/webhooks/WH-\w{16}", answer.text)[0], re.search(r"whsec_[\w+/=]+", answer.text)[0]


def test_a_webhook_from_its_first_event_to_its_end(site, admin, receiver):
    assert "No webhooks yet" in admin.see("/webhooks").text
    path, secret = make(admin, receiver.url, kinds="entitlement.created")
    assert secret not in admin.see("/webhooks").text + admin.see(path).text
    assert "Nothing was sent yet" in admin.see(path).text

    receiver.failures = 1
    site.sell("Harbour", ("mqtt", 1))
    site.dispatcher().run_once()
    said = words(admin.see(path).text)
    assert "waiting" in said
    assert "503" in said
    assert re.search(r"in \d s", said)  # the next try
    answer = admin.send(path, f"{path}/retry", {"position": "2"})
    assert "It is sent within seconds" in answer.text
    site.dispatcher().run_once()
    assert is_signed(*receiver.got[0], secret=secret)
    assert "delivered" in words(admin.see(path).text)
    assert "Nothing fits" in admin.see(f"{path}?state=given-up").text

    admin.send(path, f"{path}/replay", after="0")
    site.dispatcher().run_once()
    assert len(receiver.got) == 2

    rotated = admin.send(path, f"{path}/secret")
    new = re.search(r"whsec_[\w+/=]+", rotated.text)[0]
    assert new != secret
    assert "Another secret" in words(rotated.text)

    assert "paused by ana@example.com" in words(admin.send(path, f"{path}/pause").text).lower()
    site.sell("Harbour", ("mqtt", 1))
    site.dispatcher().run_once()
    assert "when it goes on" in words(admin.see(path).text)
    admin.send(path, f"{path}/go-on")
    site.dispatcher().run_once()
    assert len(receiver.got) == 3
    assert is_signed(*receiver.got[-1], secret=new)

    refused = admin.send(path, f"{path}/remove")
    assert "not-sure" in refused.text
    gone = admin.send(path, f"{path}/remove", sure="yes")
    assert "Removed." in gone.text
    assert "No webhooks yet" in gone.text
    assert admin.see(path).status_code == 404
    trail = words(admin.see("/trail").text)
    for action in ("create", "retry", "replay", "secret", "change", "remove"):
        assert f"webhook-{action}" in trail


def test_what_was_typed_stays_when_it_is_refused(admin):
    answer = admin.send("/webhooks", "/webhooks", url="https://10.0.0.1/x", account="Harbour", kinds="return.opened")
    assert answer.status_code == 404  # no such account
    assert 'value="https://10.0.0.1/x"' in answer.text
    assert re.search(r'value="return.opened"\s+checked', answer.text)
    answer = admin.send("/webhooks", "/webhooks", url="https://10.0.0.1/x")
    assert answer.status_code == 409
    assert "webhook-target" in answer.text
    assert "No webhooks yet" in admin.see("/webhooks").text


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "javascript:alert(1)"},
        {"url": 'https://example.com/"><script>alert(1)</script>'},
        {"url": "https://example.com/\u202egnp.exe"},
        {"url": "https://example.com/" + "x" * 10_000},
        {"url": ""},
        {"url": PUBLIC, "kinds": "<script>alert(1)</script>"},
        {"url": PUBLIC, "account": "<script>alert(1)</script>"},
        {"url": PUBLIC, "account": "\u202eabc"},
        {"url": PUBLIC, "account": "x" * 10_000},
    ],
)
def test_what_is_no_webhook_is_refused_with_a_page_and_nothing_is_made(admin, fields):
    answer = admin.send("/webhooks", "/webhooks", **fields)
    assert answer.status_code in {404, 409, 422}
    assert 'role="alert"' in answer.text
    assert "<script>alert" not in answer.text
    assert len(answer.text) < 40_000
    assert "No webhooks yet" in admin.see("/webhooks").text


def test_two_people_who_change_the_same_webhook_do_not_overwrite_each_other(site, admin):
    path, _ = make(admin)
    other = site.signed_in("bo@example.com")
    first, second = admin.form(path, path), other.form(path, path)
    assert admin.client.post(path, data={**first.fields, "url": f"{PUBLIC}/1"}).status_code == 200
    answer = other.client.post(path, data={**second.fields, "url": f"{PUBLIC}/2"})
    assert answer.status_code == 412
    assert "Somebody else changed it meanwhile" in answer.text
    assert f'value="{PUBLIC}/1"' in answer.text
    stale = other.client.post(f"{path}/pause", data={"csrf": second.fields["csrf"], "version": "x"})
    assert stale.status_code == 412


@pytest.mark.parametrize("place", ["-1", "999999999999", "9" * 30, "abc", "", "\u0663", "\u202e"])
def test_a_place_or_page_that_is_none_is_told(admin, place):
    path, _ = make(admin)
    assert admin.send(path, f"{path}/replay", after=place).status_code in {409, 422}
    csrf = admin.form(path, path).fields["csrf"]
    answer = admin.client.post(f"{path}/retry", data={"csrf": csrf, "position": place or "0"})
    assert answer.status_code in {404, 422}
    assert admin.see(f"{path}?before={place}&state={place}").status_code == 200


def test_long_lists_have_a_next_page_without_javascript(site, admin, receiver):
    path, _ = make(admin, receiver.url)
    for _ in range(60):
        site.sell("Harbour", ("mqtt", 1))
    site.dispatcher().run_once()
    first = admin.see(path).text
    following = re.search(r'href="([^"]+)">Next page', first)[1].replace("&amp;", "&")
    second = admin.see(following).text
    places = [re.findall(r"place (\d+)<", text) for text in (first, second)]
    assert [len(set(found)) for found in places] == [50, 11]  # what was sold, and that the admin chose a password
    assert not set(places[0]) & set(places[1])
    assert "Next page" not in second


def test_a_customer_administrator_has_the_own_accounts_and_others_have_none(site, admin):
    site.account("Harbour")
    vendors, _ = make(admin)
    customer = site.signed_in("h@example.com", Role.CUSTOMER_ADMINISTRATOR, "Harbour")
    own, _ = make(customer, "https://harbour.example/")
    page = customer.see("/webhooks").text
    assert "harbour.example" in page
    assert "hooks.example.com" not in page
    assert customer.see(vendors).status_code == 404
    assert "Harbour" in words(admin.see("/webhooks").text)
    assert admin.see(own).status_code == 200
    for role in (Role.VENDOR_SUPPORT, Role.CUSTOMER_TECHNICIAN):
        reader = site.signed_in(f"{role.value}@example.com", role, None if "vendor" in role.value else "Harbour")
        assert reader.see("/webhooks").status_code == 403
        assert 'href="/webhooks"' not in reader.see("/").text
