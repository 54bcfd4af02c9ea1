"""What should not be sent to the management API, and is: a problem with a code each time, nothing half-done.

Every route of the OpenAPI document is walked, so a route that is added tomorrow is walked tomorrow.
"""

import io
import re
import zipfile

import pytest

from support.site import PASSWORD, Site
from tallystick.activation.core.permissions import Role
from tallystick.protocol.problems import BY_CODE

WRONG_PLACES = [
    "0",
    "-1",
    "9" * 30,
    "abc",
    "1e9",
    "\u0663",
    "\u202e",
    "<script>alert(1)</script>",
    "x" * 10_000,
    "\x00",
]
DECEIVING = ["<script>alert(1)</script>" * 20, "\u202egnp.exe", "x" * 10_000, "\x00", " "]


def zipped():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", b"{}" * 5000)
    return out.getvalue()


BODIES = {
    "html": (b"<!doctype html><script>alert(1)</script>", "text/html"),
    "html that says JSON": (b"<!doctype html><script>alert(1)</script>", "application/json"),
    "zip": (zipped(), "application/zip"),
    "zip that says JSON": (zipped(), "application/json"),
    "form": (b"name=x&account=y", "application/x-www-form-urlencoded"),
    "deep": (b"[" * 100_000, "application/json"),
    "half": (b'{"name": "x', "application/json"),
    "list": (b"[]", "application/json"),
    "null": (b"null", "application/json"),
    "nothing": (b"", "application/json"),
    "no text": (b"\xff\xfe{}", "application/json"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("requests"))
    bought = site.sell("Harbour", ("smartdriver", 10))
    device = site.activated(site.device("plant"), (bought.lines[0], 1))
    site.person("ana@example.com")
    client = site.client()
    hook = client.post("/v1/webhooks", json={"url": "https://hooks.example.com/"}).json()
    values = {
        "account": "Harbour",
        "person_id": client.get("/v1/people").json()["items"][0]["person_id"],
        "token_id": client.get("/v1/tokens").json()["items"][0]["token_id"],
        "entitlement_id": bought.entitlement_id,
        "line_id": bought.lines[0].line_id,
        "device_id": str(device.id),
        "webhook_id": hook["webhook_id"],
        "digest": "A" * 43,
        "position": "1",
        "number": "1",
    }
    yield site, values, client.get("/openapi.json").json()
    site.close()


def operations(document, *methods):
    for path, listed in document["paths"].items():
        for method in methods:
            if path.startswith("/v1/") and method in listed:
                yield method.upper(), path, listed[method]


def filled(path, values):
    return re.sub(r"\{(\w+)\}", lambda part: values[part[1]], path)


def everything(site):
    tables = ("lines", "field_servers", "entries", "trail", "people", "accounts", "webhooks", "products")
    with site.activation.store.engine.connect() as connection:
        return [tuple(connection.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1, 2")) for table in tables]


def is_problem(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text[:300]
    assert answer.headers["x-content-type-options"] == "nosniff"
    document = answer.json()
    assert BY_CODE[document["code"]].status == answer.status_code == document["status"]
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_body_that_is_none_is_refused_by_every_route(world, kind):
    site, values, document = world
    client = site.client()
    content, media_type = BODIES[kind]
    walked = 0
    before = everything(site)
    for method, path, operation in operations(document, "post", "put", "patch"):
        if "requestBody" not in operation or path == "/v1/messages":  # any text is a tally file: test_bad_input.py
            continue
        headers = {"Content-Type": media_type, "If-Match": '"x"'}
        answer = client.request(method, filled(path, values), content=content, headers=headers)
        is_problem(answer)
        walked += 1
    assert walked >= 12
    assert everything(site) == before


def test_a_cursor_or_page_size_out_of_range_is_refused_by_every_list(world):
    site, values, document = world
    client = site.client()
    walked = set()
    for _, path, operation in operations(document, "get"):
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "query" or parameter["name"] not in {"after", "before", "limit"}:
                continue
            walked.add((path, parameter["name"]))
            for place in WRONG_PLACES:
                answer = client.get(filled(path, values), params={parameter["name"]: place})
                if answer.status_code != 200:  # an account's name is a cursor, too: most texts are one
                    is_problem(answer)
                else:
                    schema = parameter["schema"]
                    is_in_range = place == "0" and schema.get("minimum") == 0
                    assert schema["type"] == "string" or is_in_range, (path, place)
    assert len(walked) >= 25


def test_names_that_deceive_are_refused_wherever_a_name_is_given(world):
    site, values, _ = world
    client = site.client()
    before = everything(site)
    for name in DECEIVING:
        for path, body in (
            ("/v1/accounts", {"account": name}),
            ("/v1/people", {"email": "a@example.com", "name": name, "role": "vendor-support"}),
            ("/v1/people", {"email": name, "name": "A", "role": "vendor-support"}),
            ("/v1/tokens", {"name": name, "role": "vendor-support", "days": 3}),
            ("/v1/entitlements", {"account": name, "products": [{"product": "mqtt", "quantity": 1}]}),
            ("/v1/webhooks", {"url": name}),
            ("/v1/webhooks", {"url": "https://example.com/", "account": name}),
            (f"/v1/field-servers/{values['device_id']}/hold", {"reason": name}),
            (f"/v1/field-servers/{values['device_id']}/lost", {"reason": name}),
        ):
            is_problem(client.post(path, json=body))
    assert everything(site) == before


def test_a_body_that_is_too_large_is_refused_without_being_kept(world):
    site, _, _ = world
    client = site.client()
    before = everything(site)
    for path in ("/v1/accounts", "/v1/webhooks"):
        is_problem(client.post(path, content=b'{"account": "' + b"x" * 20_000_000 + b'"}'))
    assert everything(site) == before


def test_a_session_of_the_portal_is_no_token_so_another_site_cannot_use_it(world):
    site, _, _ = world
    browser = site.browser()
    from support.browser import Reader

    site.person("cross@example.com", Role.VENDOR_ADMINISTRATOR)
    Reader(browser).send("/sign-in", email="cross@example.com", password=PASSWORD)
    assert browser.get("/").url.path == "/"
    for method, path in (("GET", "/v1/webhooks"), ("POST", "/v1/webhooks"), ("POST", "/v1/accounts")):
        answer = browser.request(
            method, path, json={"account": "x", "url": "https://example.com/"} if method == "POST" else None
        )
        is_problem(answer)
        assert answer.status_code == 401
