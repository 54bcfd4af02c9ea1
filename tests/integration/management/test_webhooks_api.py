"""Webhooks over HTTP: made, changed, paused, rotated, retried, replayed, removed; with a real receiver on loopback."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.receiver import Receiver, is_signed
from tallystick.activation.core.permissions import Role
from tallystick.activation.outbound import webhooks
from tallystick.protocol.problems import BY_CODE

pytestmark = pytest.mark.slow

PUBLIC = "https://hooks.example.com/tally?key=hidden"


def problem(answer, code):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (answer.status_code, answer.json()["code"]) == (BY_CODE[code].status, code), answer.text
    return answer.json()


@pytest.fixture
def admin(site):
    return site.client()


@pytest.fixture
def receiver():
    found = Receiver()
    yield found
    found.close()


def make(client, url=PUBLIC, **options):
    answer = client.post("/v1/webhooks", json={"url": url, **options})
    assert answer.status_code == 201, answer.text
    return answer.json()


def trail(admin):
    return [(row["action"], row["target"], row["detail"]) for row in admin.get("/v1/trail").json()["items"]]


def deliveries(client, hook, **query):
    return client.get(f"/v1/webhooks/{hook['webhook_id']}/deliveries", params=query).json()


def test_a_webhook_is_made_once_and_its_secret_is_shown_once(site, admin):
    body = {"url": PUBLIC, "kinds": ["return.opened"]}
    first, again = (
        admin.post("/v1/webhooks", json=body, headers={"Idempotency-Key": "hook-0001"}).json() for _ in range(2)
    )
    assert first["secret"].startswith("whsec_")
    assert again == {**first, "secret": None}
    listed = admin.get("/v1/webhooks").json()["items"]
    assert [hook["webhook_id"] for hook in listed] == [first["webhook_id"]]
    for text in (json.dumps(listed), admin.get(f"/v1/webhooks/{first['webhook_id']}").text, str(trail(admin))):
        assert "whsec_" not in text
    assert ("webhook-create", first["webhook_id"], "to hooks.example.com") in trail(admin)
    problem(
        admin.post("/v1/webhooks", json={**body, "kinds": []}, headers={"Idempotency-Key": "hook-0001"}), "key-reused"
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://example.com:99999/",
    ],
)
def test_where_webhooks_may_not_go_is_refused_at_once_also_later(admin, url):
    problem(admin.post("/v1/webhooks", json={"url": url}), "webhook-target")
    hook = make(admin)
    headers = {"If-Match": f'"{hook["version"]}"'}
    problem(admin.patch(f"/v1/webhooks/{hook['webhook_id']}", json={"url": url}, headers=headers), "webhook-target")
    assert admin.get(f"/v1/webhooks/{hook['webhook_id']}").json()["url"] == PUBLIC


@pytest.mark.parametrize(
    "body",
    [
        {"url": "javascript:alert(1)"},
        {"url": "https://example.com/" + "x" * 10_000},
        {"url": "https://example.com/\u202egnp.exe"},
        {"url": PUBLIC, "kinds": ["no.such"]},
        {"url": PUBLIC, "account": "<script>" * 40},
        {"url": PUBLIC, "secret": "mine"},
        {"url": PUBLIC, "after": -1},
    ],
)
def test_what_is_no_webhook_is_refused_and_nothing_is_made(admin, body):
    problem(admin.post("/v1/webhooks", json=body), "field-wrong")
    assert admin.get("/v1/webhooks").json()["items"] == []


def test_a_place_that_the_stream_has_not_given_is_refused(admin):
    problem(admin.post("/v1/webhooks", json={"url": PUBLIC, "after": 10**15}), "cursor-wrong")
    hook = make(admin)
    problem(admin.post(f"/v1/webhooks/{hook['webhook_id']}/replay", json={"after": 10**15}), "cursor-wrong")


def test_a_customer_makes_webhooks_for_the_own_account_and_the_public_internet_only(site, admin, receiver):
    site.account("Harbour")
    site.account("Airport")
    customer = site.client(Role.CUSTOMER_ADMINISTRATOR, "Harbour")
    problem(customer.post("/v1/webhooks", json={"url": PUBLIC, "account": "Airport"}), "not-found")
    problem(customer.post("/v1/webhooks", json={"url": receiver.url}), "webhook-target")  # the vendor's may
    vendors = make(admin, receiver.url, account="Harbour")
    own = make(customer)
    assert (own["account"], own["owner"], vendors["owner"]) == ("Harbour", "Harbour", None)
    assert [hook["webhook_id"] for hook in customer.get("/v1/webhooks").json()["items"]] == [own["webhook_id"]]
    problem(customer.get(f"/v1/webhooks/{vendors['webhook_id']}"), "not-found")
    assert len(admin.get("/v1/webhooks").json()["items"]) == 2
    headers = {"If-Match": f'"{own["version"]}"'}
    answer = admin.patch(f"/v1/webhooks/{own['webhook_id']}", json={"url": receiver.url}, headers=headers)
    problem(answer, "webhook-target")  # whoever changes it: it stays the customer's
    for role in (Role.CUSTOMER_TECHNICIAN, Role.VENDOR_SUPPORT):
        client = site.client(role, "Harbour" if role is Role.CUSTOMER_TECHNICIAN else None)
        problem(client.get("/v1/webhooks"), "not-allowed")


def test_a_customers_webhook_never_reaches_what_only_the_vendors_may(site, admin, receiver):
    """Also when its name leads inside only later: what is checked is checked again before each POST."""
    site.account("Harbour")
    own = make(site.client(Role.CUSTOMER_ADMINISTRATOR, "Harbour"))
    site.activation.transact(lambda tx: tx.events.set_webhook(own["webhook_id"], url=receiver.url))
    vendors = make(admin, receiver.url)
    site.sell("Harbour", ("mqtt", 1))
    site.dispatcher().run_once()
    (refused,), (taken,) = deliveries(admin, own)["items"], deliveries(admin, vendors)["items"]
    assert (refused["state"], refused["status"]) == ("waiting", None)
    assert "https" in refused["detail"]
    assert (taken["state"], taken["status"]) == ("delivered", 204)
    assert len(receiver.got) == 1


def test_an_accounts_webhooks_have_a_limit(site, admin):
    site.account("Harbour")
    customer = site.client(Role.CUSTOMER_ADMINISTRATOR, "Harbour")
    for _ in range(webhooks.ACCOUNT_WEBHOOKS_MAX):
        make(customer)
    problem(customer.post("/v1/webhooks", json={"url": PUBLIC}), "webhooks-full")
    make(admin)


def test_what_two_people_change_is_not_overwritten(site, admin):
    hook = make(admin)
    path, token = f"/v1/webhooks/{hook['webhook_id']}", site.token(Role.VENDOR_ADMINISTRATOR)
    problem(admin.patch(path, json={"is_enabled": False}), "version-missing")
    version = admin.get(path).headers["etag"]

    def save(number):
        body = {"url": f"https://hooks.example.com/{number}"}
        return site.client_with(token).patch(path, json=body, headers={"If-Match": version}).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(save, range(4))) == [200, 412, 412, 412]
    problem(admin.patch(path, json={"kinds": []}, headers={"If-Match": version}), "changed-meanwhile")


def test_deliveries_are_read_page_by_page_and_by_state(site, admin, receiver):
    hook = make(admin, receiver.url)
    for _ in range(5):
        site.sell("Harbour", ("mqtt", 1))
    receiver.failures = 2
    site.dispatcher().run_once()
    first = deliveries(admin, hook, limit=3)
    rest = deliveries(admin, hook, limit=3, before=first["next"])
    found = first["items"] + rest["items"]
    assert rest["next"] is None
    positions = [item["position"] for item in found]
    assert positions == sorted(positions, reverse=True)
    assert len(set(positions)) == 5
    waiting = deliveries(admin, hook, state="waiting")["items"]
    assert {(item["status"], item["attempts"]) for item in waiting} == {(503, 1)}
    assert all(item["next_at"] > site.now for item in waiting)
    assert len(deliveries(admin, hook, state="delivered")["items"]) == 3
    assert deliveries(admin, hook, state="given-up")["items"] == []
    for query in (
        {"before": "abc"},
        {"before": 0},
        {"before": 10**30},
        {"limit": 0},
        {"limit": 10_000},
        {"state": "x"},
    ):
        assert deliveries(admin, hook, **query)["code"] == "query-wrong"


def test_what_was_not_taken_is_retried_at_once_one_or_all(site, admin, receiver):
    hook = make(admin, receiver.url)
    path = f"/v1/webhooks/{hook['webhook_id']}"
    site.sell("Harbour", ("mqtt", 1))
    site.sell("Harbour", ("mqtt", 1))
    receiver.failures = 2
    site.dispatcher().run_once()
    assert receiver.got == []
    one = deliveries(admin, hook)["items"][0]["position"]
    assert admin.post(f"{path}/deliveries/{one}/retry").json()["next_at"] == site.now
    site.dispatcher().run_once()
    assert len(receiver.got) == 1
    assert admin.post(f"{path}/retry").json() == {"retried": 1}
    site.dispatcher().run_once()
    assert len(receiver.got) == 2
    admin.post(f"{path}/deliveries/{one}/retry")  # also what was delivered
    site.dispatcher().run_once()
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert (len(ids), len(set(ids))) == (3, 2)
    problem(admin.post(f"{path}/deliveries/999/retry"), "not-found")
    assert [row[0] for row in trail(admin)[:3]] == ["webhook-retry"] * 3


def test_a_paused_webhook_gets_nothing_until_it_goes_on_and_then_everything(site, admin, receiver):
    hook = make(admin, receiver.url)
    path = f"/v1/webhooks/{hook['webhook_id']}"
    paused = admin.patch(path, json={"is_enabled": False}, headers={"If-Match": hook["version"]})
    assert (paused.json()["is_enabled"], paused.json()["stopped_at"]) == (False, site.now)
    site.sell("Harbour", ("mqtt", 1))
    site.dispatcher().run_once()
    admin.post(f"{path}/retry")
    site.dispatcher().run_once()
    assert receiver.got == []
    site.now += 10 * 86_400  # longer than a delivery is tried: a pause gives nothing up
    receiver.failures = 1
    on = admin.patch(path, json={"is_enabled": True}, headers={"If-Match": paused.headers["etag"]}).json()
    assert (on["is_enabled"], on["stopped_why"]) == (True, None)
    site.dispatcher().run_once()
    assert deliveries(admin, hook)["items"][0]["state"] == "waiting"
    site.now += 60
    site.dispatcher().run_once()
    assert len(receiver.got) == 1


def test_everything_behind_a_place_is_sent_again(site, admin, receiver):
    hook = make(admin, receiver.url)
    for _ in range(3):
        site.sell("Harbour", ("mqtt", 1))
    site.dispatcher().run_once()
    second = sorted(item["position"] for item in deliveries(admin, hook)["items"])[1]
    answer = admin.post(f"/v1/webhooks/{hook['webhook_id']}/replay", json={"after": second - 1})
    assert answer.json()["position"] == second - 1
    site.dispatcher().run_once()
    got = [json.loads(body)["position"] for _, body in receiver.got]
    assert sorted(got) == [second - 1, second, second, second + 1, second + 1]


def test_a_new_secret_signs_at_once_and_the_one_before_for_a_day_more(site, admin, receiver):
    hook = make(admin, receiver.url)
    path = f"/v1/webhooks/{hook['webhook_id']}/secret"
    key = {"Idempotency-Key": "rotate-0001"}
    rotated, again = admin.post(path, headers=key).json(), admin.post(path, headers=key).json()
    assert again == {**rotated, "secret": None}
    assert rotated["secret"] != hook["secret"]
    assert rotated["secret_before_until"] == site.now + 86_400
    for is_both in (True, False):
        site.sell("Harbour", ("mqtt", 1))
        site.dispatcher().run_once()
        assert is_signed(*receiver.got[-1], secret=rotated["secret"])
        assert is_signed(*receiver.got[-1], secret=hook["secret"]) is is_both
        site.now += 86_400


def test_what_was_removed_is_gone_with_its_deliveries_and_gets_nothing_more(site, admin, receiver):
    hook = make(admin, receiver.url)
    site.sell("Harbour", ("mqtt", 1))
    receiver.failures = 1
    site.dispatcher().run_once()
    path = f"/v1/webhooks/{hook['webhook_id']}"
    assert admin.delete(path).json()["webhook_id"] == hook["webhook_id"]
    problem(admin.delete(path), "not-found")
    problem(admin.get(f"{path}/deliveries"), "not-found")
    site.now += 60
    site.dispatcher().run_once()
    assert receiver.got == []
    assert trail(admin)[0][:2] == ("webhook-remove", hook["webhook_id"])


def test_webhooks_are_listed_page_by_page(admin):
    made = sorted(make(admin)["webhook_id"] for _ in range(5))
    first = admin.get("/v1/webhooks", params={"limit": 3}).json()
    rest = admin.get("/v1/webhooks", params={"limit": 3, "after": first["next"]}).json()
    assert [hook["webhook_id"] for hook in first["items"] + rest["items"]] == made
    assert rest["next"] is None
