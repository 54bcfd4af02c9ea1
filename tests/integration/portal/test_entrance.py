"""The way in: first run, passwords, the second factor, invitations, sessions. Without JavaScript."""

import pyotp
import pytest

from support.browser import Reader, words
from support.site import PASSWORD, Site
from tallystick.activation.core.people import ADDRESS_TRIES_FREE, SESSION_IDLE_SECONDS, SESSION_SECONDS, TRIES_FREE
from tallystick.activation.core.permissions import Role
from tallystick.activation.services import sign_in


@pytest.fixture
def reader(site):
    return Reader(site.browser())


def test_the_first_run_page_stands_in_place_of_a_default_password(site, reader):
    assert reader.see("/").url.path == "/set-up"
    fields = {"name": "Ana", "email": "ana@example.com", "password": PASSWORD}
    wrong = reader.send("/set-up", code="setup_guess", **fields)
    assert wrong.status_code == 403
    assert "ana@example.com" in wrong.text  # what was typed stays
    assert PASSWORD not in wrong.text
    first, code = sign_in.new_setup_code(site.office), sign_in.new_setup_code(site.office)
    assert reader.send("/set-up", code=first, **fields).status_code == 403  # only the last one counts
    assert reader.send("/set-up", code=code, **fields).url.path == "/"
    assert "Vendor administrator" in reader.see("/").text
    assert sign_in.new_setup_code(site.office) is None
    other = Reader(site.browser())
    assert other.see("/set-up").url.path == "/sign-in"


def test_a_weak_password_is_refused_with_what_would_be_a_good_one(site, reader):
    code = sign_in.new_setup_code(site.office)
    for password in ("short", "aaaaaaaaaaaaaaaa", "ana@example.com", "x" * 10_000):
        answer = reader.send("/set-up", code=code, name="Ana", email="ana@example.com", password=password)
        assert answer.status_code == 422
        assert "password-weak" in answer.text


def test_the_session_cookie_is_for_our_own_pages_over_https_and_for_no_script(site, reader):
    site.person("ana@example.com")
    form = reader.form("/sign-in")
    answer = reader.client.post(
        "/sign-in", data={**form.fields, "email": "ana@example.com", "password": PASSWORD}, follow_redirects=False
    )
    (cookie,) = [value for value in answer.headers.get_list("set-cookie") if value.startswith("__Host-tallystick=")]
    assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    kept = (site.activation.data / "tallystick.sqlite-wal").read_bytes()
    assert cookie.split("=")[1].split(";")[0].encode() not in kept


def test_wrong_passwords_are_answered_alike_and_slowed_down(site, reader):
    site.person("ana@example.com")
    said = set()
    for _ in range(TRIES_FREE):
        for email in ("ana@example.com", "nobody@example.com"):
            answer = reader.send("/sign-in", email=email, password="not the password")
            assert answer.status_code == 401
            said.add(words(answer.text))
    assert len(said) == 1
    for email in ("ana@example.com", "nobody@example.com"):
        paused = reader.send("/sign-in", email=email, password=PASSWORD)
        assert paused.status_code == 429
        assert int(paused.headers["retry-after"]) >= 1
    site.now += 1000
    assert reader.send("/sign-in", email="ana@example.com", password=PASSWORD).url.path == "/"


def test_an_address_that_tries_many_names_is_slowed_down(site, reader):
    site.person("ana@example.com")
    for number in range(ADDRESS_TRIES_FREE):
        assert reader.send("/sign-in", email=f"name{number}@example.com", password="guess").status_code == 401
    assert reader.send("/sign-in", email="ana@example.com", password=PASSWORD).status_code == 429


def test_the_second_factor_is_asked_for_and_each_code_works_once(site):
    reader = site.signed_in("ana@example.com")
    form = reader.form("/me", "/me", do="authenticator")
    totp = pyotp.TOTP(form.fields["secret"])
    wrong = reader.client.post("/me", data={**form.fields, "old": PASSWORD, "code": "000000"})
    assert wrong.status_code == 401
    assert form.fields["secret"] in wrong.text  # the same one, so that the authenticator need not be set up again
    reader.client.post("/me", data={**form.fields, "old": PASSWORD, "code": totp.at(site.now)})
    assert "Signing in asks for the six digits" in reader.see("/me").text

    site.now += 60
    other = Reader(site.browser())
    half = other.send("/sign-in", email="ana@example.com", password=PASSWORD)
    assert half.url.path == "/sign-in/code"
    assert other.see("/entitlements").url.path == "/sign-in"  # the password alone opens nothing
    half = other.send("/sign-in", email="ana@example.com", password=PASSWORD)
    assert other.send("/sign-in/code", code="12345").status_code == 401
    assert other.send("/sign-in/code", code=totp.at(site.now)).url.path == "/"

    third = Reader(site.browser())
    third.send("/sign-in", email="ana@example.com", password=PASSWORD)
    assert third.send("/sign-in/code", code=totp.at(site.now)).status_code == 401  # used
    site.now += 30
    assert third.send("/sign-in/code", code=totp.at(site.now)).url.path == "/"


def test_an_invitation_names_the_public_url_whatever_was_called(tmp_path):
    Site(tmp_path).close()
    settings = tmp_path / "data" / "settings.toml"
    settings.write_text(settings.read_text("utf-8") + 'public_url = "https://licenses.example.com/"\n', "utf-8")
    site = Site(tmp_path, is_there=True)
    fields = {"name": "Cy", "email": "cy@example.com", "role": "vendor-support", "own_password": PASSWORD}
    admin = site.signed_in("ana@example.com")
    said = words(admin.send("/people", chosen={"do": "person"}, **fields).text)
    cy = site.activation.read(lambda transaction: transaction.people.find_person(email="cy@example.com"))
    again = words(admin.send(f"/people/{cy.person_id}", chosen={"do": "invite"}, own_password=PASSWORD).text)
    site.close()
    for text in (said, again):
        assert "https://licenses.example.com/invitation/" in text
        assert "https://test/" not in text


def test_an_invitation_works_once_and_for_a_week(site):
    admin = site.signed_in("ana@example.com")
    site.account("Harbour")
    fields = {"name": "Cy", "email": "cy@example.com", "role": "customer-technician", "account": "Harbour"}
    fields |= {"own_password": PASSWORD}
    said = admin.send("/people", chosen={"do": "person"}, **fields)
    address = words(said.text).split("https://test")[1].split()[0]
    assert address not in admin.see("/people").text  # shown once
    cy = Reader(site.browser())
    assert "Cy" in cy.see(address).text
    assert cy.send(address, password="short").status_code == 422
    assert cy.send(address, password=PASSWORD).url.path == "/me"
    assert Reader(site.browser()).see(address).status_code == 403
    again = admin.send("/people", chosen={"do": "person"}, **{**fields, "email": "d@example.com"})
    address = words(again.text).split("https://test")[1].split()[0]
    site.now += 8 * 86_400
    assert Reader(site.browser()).see(address).status_code == 403


def test_a_session_ends_by_itself_by_idleness_and_by_signing_out_everywhere(site):
    reader = site.signed_in("ana@example.com")
    site.now += SESSION_IDLE_SECONDS
    assert reader.see("/entitlements").url.path == "/sign-in"
    reader.send("/sign-in", email="ana@example.com", password=PASSWORD)
    for _ in range(SESSION_SECONDS // 1800):
        site.now += 1800
        answer = reader.see("/entitlements")
    assert answer.url.path == "/sign-in"
    reader.send("/sign-in", email="ana@example.com", password=PASSWORD)
    other = Reader(site.browser())
    other.send("/sign-in", email="ana@example.com", password=PASSWORD)
    form = reader.form("/me", "/me", do="password")
    reader.client.post("/sign-out", data={"csrf": form.fields["csrf"], "everywhere": "yes"})
    assert other.see("/").url.path == "/sign-in"


def test_a_new_password_ends_the_other_sessions(site):
    reader = site.signed_in("ana@example.com")
    other = Reader(site.browser())
    other.send("/sign-in", email="ana@example.com", password=PASSWORD)
    chosen = {"do": "password"}
    assert reader.send("/me", chosen=chosen, old="wrong", password="another set of words").status_code == 401
    assert reader.send("/me", chosen=chosen, old=PASSWORD, password="another set of words").status_code == 200
    assert reader.see("/").url.path == "/"
    assert other.see("/").url.path == "/sign-in"


def test_who_may_sign_in_no_more_is_out_at_once(site):
    admin = site.signed_in("ana@example.com")
    support = site.signed_in("bo@example.com", Role.VENDOR_SUPPORT)
    person = site.activation.read(lambda tx: tx.people.find_person(email="bo@example.com"))
    form = admin.form(f"/people/{person.person_id}", do="change")
    fields = {name: value for name, value in form.fields.items() if name != "is_active"}
    assert admin.client.post(form.action, data=fields).status_code == 200
    assert support.see("/").url.path == "/sign-in"


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_our_own_pages_only(site, reader, to):
    site.person("ana@example.com")
    answer = reader.send("/sign-in", email="ana@example.com", password=PASSWORD, to=to)
    assert str(answer.url) == "https://test/"


def test_a_page_is_found_again_after_signing_in(site, reader):
    site.person("ana@example.com")
    answer = reader.see("/ledger")
    assert answer.url.path == "/sign-in"
    form = reader.form(f"/sign-in?{answer.url.query.decode()}")
    answer = reader.client.post("/sign-in", data={**form.fields, "email": "ana@example.com", "password": PASSWORD})
    assert answer.url.path == "/ledger"
