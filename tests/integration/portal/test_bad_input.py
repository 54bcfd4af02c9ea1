"""What should not be sent, and is. A clear page each time, nothing half-done."""

import io
import re
import zipfile
from urllib.parse import quote

import pytest

from support.browser import words
from support.site import PASSWORD, Site
from tallystick.activation.core.permissions import Role
from tallystick.activation.http.portal import messages
from tallystick.activation.http.portal.routes import PAGES

pytestmark = pytest.mark.slow

RIGHT_TO_LEFT = "\u202egnp.exe"


@pytest.fixture
def bought(site):
    return site.sell("Harbour", ("smartdriver", 10), ("mqtt", 2))


@pytest.fixture
def admin(site):
    return site.signed_in("ana@example.com")


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory):
    """A reader, a line and a field server, for all tests that change nothing."""
    site = Site(tmp_path_factory.mktemp("looked-at"))
    line = site.sell("Harbour", ("smartdriver", 10)).lines[0]
    device = site.activated(site.device("plant"), (line, 1))
    yield site.signed_in("ana@example.com"), line.line_id, device.id
    site.close()


def posts(site, bought, admin):
    """Every form of every page, as it would be sent."""
    device = site.activated(site.device("plant"), (bought.lines[0], 1))
    line = bought.lines[0].line_id
    person = site.activation.read(lambda tx: tx.people.find_person(email="ana@example.com")).person_id
    token = site.client().get("/v1/tokens").json()["items"][0]["token_id"]
    hook = site.client().post("/v1/webhooks", json={"url": "https://hooks.example.com/"}).json()["webhook_id"]
    return {
        path.replace("{line_id}", line)
        .replace("{device_id}", device.id)
        .replace("{person_id}", person)
        .replace("{token_id}", token)
        .replace("{webhook_id}", hook)
        for path, (_, methods) in PAGES.items()
        if "POST" in methods
    }


def everything(site):
    with site.activation.store.engine.connect() as connection:
        return [
            tuple(connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1, 2"))
            for table in ("lines", "field_servers", "entries", "trail", "people", "entitlements", "webhooks")
        ]


def test_a_form_without_its_token_with_anothers_or_from_another_site_does_nothing(site, bought, admin):
    other = site.signed_in("bo@example.com")
    stranger = other.form("/me", "/me", do="password").fields["csrf"]
    own = admin.form("/me", "/me", do="password").fields["csrf"]
    paths = posts(site, bought, admin)
    assert len(paths) >= 15
    before = everything(site)
    for path in sorted(paths):
        for csrf, headers in (
            ("", {}),
            (stranger, {}),
            ("x" * 100, {}),
            ("\u202e", {}),
            (own, {"Sec-Fetch-Site": "cross-site"}),
            (own, {"Sec-Fetch-Site": "same-site"}),
        ):
            field = {"/deliver": "files", "/deliver/codes": "photos"}.get(path)
            kind = {"files": [(field, ("a.tally", b"x"))]} if field else {}
            answer = admin.client.post(path, data={"csrf": csrf, "reason": "x", "sure": "yes"}, headers=headers, **kind)
            assert answer.status_code == 403, (path, csrf, answer.status_code, words(answer.text)[:300])
            assert "form-stale" in answer.text
    assert everything(site) == before


def test_an_expired_session_is_told_to_sign_in_and_nothing_is_done(site, bought, admin):
    form = admin.form(f"/lines/{bought.lines[0].line_id}")
    before = everything(site)
    site.now += 100_000
    answer = admin.client.post(form.action, data={**form.fields, "quantity": "3"})
    assert answer.url.path == "/sign-in"
    assert everything(site) == before


def test_a_form_that_is_sent_twice_is_done_once_or_said_to_be_old(site, bought, admin):
    form = admin.form(f"/lines/{bought.lines[0].line_id}")
    assert admin.client.post(form.action, data={**form.fields, "quantity": "12"}).status_code == 200
    again = admin.client.post(form.action, data={**form.fields, "quantity": "12"})
    assert again.status_code == 412
    assert site.line(bought.lines[0].line_id).balances.bought == 12


def test_two_people_who_save_the_same_line_do_not_overwrite_each_other(site, bought, admin):
    other = site.signed_in("bo@example.com")
    path = f"/lines/{bought.lines[0].line_id}"
    first, second = admin.form(path), other.form(path)
    assert admin.client.post(path, data={**first.fields, "quantity": "12"}).status_code == 200
    answer = other.client.post(path, data={**second.fields, "quantity": "8"})
    assert answer.status_code == 412
    assert "Somebody else changed it meanwhile" in answer.text
    assert 'value="12"' in answer.text  # the page shows what it is now
    assert site.line(bought.lines[0].line_id).balances.retired == 0


def test_a_declaration_without_the_tick_is_not_made(site, bought, admin):
    device = site.activated(site.device("plant"), (bought.lines[0], 1))
    path = f"/field-servers/{device.id}"
    answer = admin.send(path, f"{path}/lost", reason="burnt")
    assert answer.status_code == 422
    assert "not-sure" in answer.text
    assert "active" in words(admin.see(path).text)


@pytest.mark.parametrize("page", ["0", "-1", "999999999999999999999", "abc", "1e9", "\u0663", "", "9" * 5000, "%00"])
@pytest.mark.parametrize(
    "path",
    [
        "/entitlements?before={}",
        "/field-servers?after={}",
        "/returns?after={}",
        "/returns?after={0}.{0}.{0}",
        "/incidents?before={}",
        "/ledger?before={}",
        "/ledger?before={0}.{0}.{0}",
        "/trail?before={}",
        "/people?people={0}&tokens={0}",
        "/webhooks?after={}",
        "/lines/LINE?holders={}",
        "/field-servers/DEVICE?history={}",
        "/field-servers/DEVICE?history={0}.{0}.{0}.{0}",
        "/incidents?kind={}",
        "/field-servers?status={}",
    ],
)
def test_a_page_number_out_of_range_is_no_fault(looked_at, path, page):
    reader, line_id, device_id = looked_at
    path = path.replace("DEVICE", device_id).replace("LINE", line_id)
    assert reader.see(path.format(page)).status_code == 200


def test_filters_that_are_none_are_told(admin):
    for query in ("line=nonsense", "device=x", "since=yesterday", "until=2027-13-45", "since=0001-01-01"):
        answer = admin.see(f"/ledger?{query}")
        assert answer.status_code in {200, 422}
        assert answer.status_code == 200 or "Expected" in answer.text


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", RIGHT_TO_LEFT, "x" * 10_000, "\x00", "' OR 1=1 --", "{{ 7 * 7 }}", "\ud800"]
)
def test_a_name_that_deceives_is_refused_or_shown_as_it_is(site, admin, bought, name):
    data = {"account": name, "new_account": "yes", "sku0": "mqtt", "quantity0": "1"}
    answer = admin.send("/entitlements/new", **{key: value.encode("utf-8", "replace") for key, value in data.items()})
    assert answer.status_code in {200, 422}
    assert "<script>alert" not in answer.text
    assert "\u202e" not in answer.text
    assert "49" not in re.findall(r"<bdi>(.*?)</bdi>", answer.text)
    answer = admin.see(f"/field-servers?text={quote(name[:3000], errors='replace')}")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text


def test_names_of_field_servers_cannot_break_out_of_a_page(site, admin, bought):
    from dataclasses import replace

    device = site.device("plant")
    hostile = replace(device, host_id="<script>alert(1)</script>")
    site.activated(hostile, (bought.lines[0], 1))
    other = replace(site.device("b"), host_id=RIGHT_TO_LEFT)
    site.activated(other, (bought.lines[0], 1))
    for path in ("/field-servers", f"/field-servers/{hostile.id}", f"/field-servers/{other.id}"):
        text = admin.see(path).text
        assert "<script>alert" not in text
        assert "\u202e" not in text


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tally", "x\n" * 5000)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("page.html", b"<!doctype html><html><body><script>alert(1)</script></body></html>", "not-text"),
        ("files.zip", zipped(), "file-packed"),
        ("noise.bin", bytes(range(256)) * 500, "not-text"),
        ("many.txt", b"no\n" * 20_000, "not-text"),
        ("empty.tally", b"", "no-messages"),
        ("comments.tally", b"# nothing\n\n", "no-messages"),
        ("<script>.tally", b"x", "not-text"),
    ],
)
def test_what_is_no_tally_file_is_said_to_be_none(site, admin, name, data, code):
    answer = admin.upload((name, data))
    assert answer.status_code == 200
    assert code in answer.text
    assert "<script>alert" not in answer.text
    assert "<script>." not in answer.text
    assert len(answer.text) < 20_000


def test_good_messages_beside_bad_ones_go_through(site, admin, bought):
    device = site.device("plant")
    good = device.activate((bought.lines[0], 2))
    answer = admin.upload(("mixed.tally", f"rubbish\n{good}\n".encode()), ("page.html", b"<html>"))
    said = words(answer.text)
    assert "granted" in said
    assert "envelope-malformed" in said
    form = admin.form  # the page offers the one reply
    assert "Download 1 reply" in said
    csrf = form("/deliver").fields["csrf"]
    digest = re.search(r'name="digests" value="([\w-]{43})"', answer.text)[1]
    file = admin.client.post("/deliver/replies", data={"csrf": csrf, "digests": digest})
    assert file.headers["content-disposition"] == 'attachment; filename="replies.tally"'
    device.take(file.text.strip().split("\n")[-1])
    assert device.applied is not None


def test_an_upload_of_a_gigabyte_is_answered_with_a_page(site, admin, monkeypatch):
    monkeypatch.setattr(messages, "UPLOAD_BYTES_MAX", 1000)
    answer = admin.upload(("large.tally", b"x\n" * 100_000))
    assert answer.status_code == 413
    assert "body-too-large" in answer.text
    assert "text/html" in answer.headers["content-type"]


def test_more_than_the_limit_of_files_is_answered_with_a_page(admin):
    answer = admin.upload(*[(f"{number}.tally", b"x") for number in range(messages.FILES_MAX + 1)])
    assert answer.status_code < 500
    assert "text/html" in answer.headers["content-type"]


def test_a_large_form_is_refused(admin):
    csrf = admin.form("/people", do="person").fields["csrf"]
    answer = admin.client.post("/people", data={"csrf": csrf, "do": "person", "name": "x" * 100_000})
    assert answer.status_code == 413
    answer = admin.client.post("/people", content=b'{"csrf": 1}', headers={"Content-Type": "application/json"})
    assert answer.status_code == 403


def test_every_page_has_its_headers(site, admin, bought):
    for path in ("/", "/sign-in", "/nowhere", "/ledger", "/ledger.csv"):
        headers = admin.see(path).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
    assert admin.see("/").headers["strict-transport-security"] == "max-age=31536000"


def test_a_page_that_there_is_not_is_a_page_and_an_api_path_a_problem(admin):
    assert "text/html" in admin.see("/nowhere").headers["content-type"]
    assert admin.see("/v1/nowhere").headers["content-type"] == "application/problem+json"


def test_a_cell_of_the_csv_is_no_formula(site, admin, bought):
    text = admin.see("/ledger.csv").text
    assert text.splitlines()[0].startswith("line,number,source,target,quantity")
    assert len(text.splitlines()) == 3
    from tallystick.activation.http.portal.ledger import _csv_row

    assert _csv_row(["=1+1", "@x", "plain", 5]) == "'=1+1,'@x,plain,5\r\n"


# Who may see which page, and only the own account's


def test_no_page_shows_a_customer_anything_of_another_account(site, bought):
    other = site.sell("Other works", ("smartdriver", 5))
    device = site.activated(site.device("other-plant"), (other.lines[0], 1))
    site.client().post(f"/v1/field-servers/{device.id}/return")
    person = site.person("spy@example.com", Role.CUSTOMER_ADMINISTRATOR, "Other works")
    hook = site.client(Role.CUSTOMER_ADMINISTRATOR, "Other works").post(
        "/v1/webhooks", json={"url": "https://hooks.other.example/"}
    )
    secrets = {
        "hooks.other.example",
        other.entitlement_id,
        other.lines[0].line_id,
        device.id,
        "other-plant",
        "Other works",
        "spy@example.com",
    }
    for role in (Role.CUSTOMER_ADMINISTRATOR, Role.CUSTOMER_TECHNICIAN):
        reader = site.signed_in(f"{role.value}@example.com", role, "Harbour")
        for path, (_, methods) in PAGES.items():
            address = (
                path.replace("{entitlement_id}", other.entitlement_id)
                .replace("{line_id}", other.lines[0].line_id)
                .replace("{device_id}", device.id)
                .replace("{person_id}", person.person_id)
                .replace("{webhook_id}", hook.json()["webhook_id"])
                .replace("{token_id}", "TK-AAAAAAAAAAAAAAAA")
            )
            if "GET" in methods:
                answer = reader.see(address)
                assert answer.status_code in ({403, 404} if "{" in path else {200, 403}), (role, path)
                text = answer.text.replace(address, "")
                assert not [secret for secret in secrets if secret in text and secret not in address], (role, path)
            if "POST" in methods and "{" in path:
                csrf = reader.form("/me", "/me", do="password").fields["csrf"]
                data = {"csrf": csrf, "reason": "x", "sure": "yes", "quantity": "1", "version": "x", "name": "x"}
                more = {"role": "customer-technician", "by": device.id, "position": "1", "after": "1"}
                answer = reader.client.post(address, data=data | more)
                assert answer.status_code in {403, 404}, (role, path, answer.status_code)


def test_support_sees_all_but_sells_nothing(site, bought):
    support = site.signed_in("s@example.com", Role.VENDOR_SUPPORT)
    assert "Harbour" in support.see("/entitlements").text
    assert support.see("/entitlements/new").status_code == 403
    assert "Load a catalog" not in support.see("/catalog").text
    assert "Change" not in words(support.see(f"/lines/{bought.lines[0].line_id}").text).split("History")[0]
    assert PASSWORD not in support.see("/me").text
