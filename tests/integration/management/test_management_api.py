"""The management API, noun by noun, over HTTP on real storage."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec import structs

from support.activation import DAY, serve_until
from tallystick.activation.core import entitlements, interventions
from tallystick.activation.core.permissions import Role
from tallystick.activation.services.schemas import RevealedEntitlement
from tallystick.domain.dates import moment_text
from tallystick.protocol.problems import BY_CODE

ADMIN = Role.VENDOR_ADMINISTRATOR


def problem(answer, code):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert answer.json()["code"] == code, answer.text
    assert answer.status_code == BY_CODE[code].status
    assert answer.json()["next_step"]
    return answer.json()


@pytest.fixture
def admin(site):
    return site.client()


@pytest.fixture
def bought(site):
    return site.sell("Harbour", ("smartdriver", 10), ("mqtt", 2))


def test_without_a_token_nothing_is_said(site):
    for path in ("/v1/accounts", "/v1/lines", "/v1/returns", "/v1/trail"):
        problem(site.browser().get(path), "token-wrong")


def test_a_token_that_has_expired_or_was_revoked_counts_no_more(site, admin):
    made = admin.post("/v1/tokens", json={"name": "ci", "role": ADMIN, "days": 1}).json()
    other = site.client_with(made["token"])
    assert other.get("/v1/accounts").status_code == 200
    site.now += DAY
    problem(other.get("/v1/accounts"), "token-wrong")
    site.now -= DAY
    assert admin.delete(f"/v1/tokens/{made['token_id']}").json()["revoked_at"] == site.now
    problem(other.get("/v1/accounts"), "token-wrong")


def test_a_token_is_shown_once_and_stored_as_a_digest(site, admin):
    made = admin.post(
        "/v1/tokens", json={"name": "ci", "role": ADMIN, "days": 1}, headers={"Idempotency-Key": "12345678"}
    )
    again = admin.post(
        "/v1/tokens", json={"name": "ci", "role": ADMIN, "days": 1}, headers={"Idempotency-Key": "12345678"}
    )
    assert made.status_code == again.status_code == 201
    assert again.json() == {**made.json(), "token": None}
    with site.activation.store.engine.connect() as connection:
        kept = [
            str(row) for table in ("tokens", "repeats") for row in connection.exec_driver_sql(f"SELECT * FROM {table}")
        ]
    assert not [row for row in kept if made.json()["token"] in row]


def test_the_same_creation_with_the_same_key_is_done_once(admin, bought):
    body = {"account": "Harbour", "products": [{"product": "mqtt", "quantity": 3}]}
    first = admin.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "order-4711"})
    again = admin.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "order-4711"})
    assert first.status_code == 201
    assert again.json() == RevealedEntitlement(**first.json()).without_secrets().model_dump()  # they are shown once
    assert len(admin.get("/v1/entitlements").json()["items"]) == 2
    other = {**body, "account": "Harbour", "products": [{"product": "mqtt", "quantity": 4}]}
    problem(admin.post("/v1/entitlements", json=other, headers={"Idempotency-Key": "order-4711"}), "key-reused")


def test_an_idempotency_key_belongs_to_its_caller(site, admin, bought):
    body = {"account": "Harbour", "products": [{"product": "mqtt", "quantity": 3}]}
    first = admin.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "order-4711"}).json()
    second = site.client().post("/v1/entitlements", json=body, headers={"Idempotency-Key": "order-4711"}).json()
    assert first["entitlement"] != second["entitlement"]


def test_two_people_who_save_the_same_line_do_not_overwrite_each_other(admin, bought):
    path = f"/v1/lines/{bought.lines[0].line_id}"
    seen = admin.get(path)
    first = admin.patch(path, json={"quantity": 12}, headers={"If-Match": seen.headers["etag"]})
    assert first.json()["quantity"] == 12
    problem(admin.patch(path, json={"quantity": 8}, headers={"If-Match": seen.headers["etag"]}), "changed-meanwhile")
    problem(admin.patch(path, json={"quantity": 8}), "version-missing")
    assert admin.get(path).json()["quantity"] == 12
    assert admin.patch(path, json={"quantity": 8}, headers={"If-Match": first.headers["etag"]}).json()["retired"] == 4


def test_a_line_is_extended_raised_lowered_suspended_and_converted(site, admin):
    line = site.sell("Harbour", ("engineering", 3), expires_at=site.now + DAY).lines[0]
    path = f"/v1/lines/{line.line_id}"

    def change(**body):
        answer = admin.patch(path, json=body, headers={"If-Match": admin.get(path).headers["etag"]})
        assert answer.status_code == 200, answer.text
        return answer.json()

    assert change(expires_at=site.now + 9 * DAY)["expires_at"] == site.now + 9 * DAY
    assert change(quantity=5)["available"] == 5
    assert change(quantity=2)["quantity"] == 2
    assert change(suspended=True)["suspended"]
    assert change(is_bought=True)["engineering"] is False
    assert change(expires_at=None)["expires_at"] is None
    site.activated(site.device("a"), (site.line(line.line_id), 1)) if not change(suspended=False)["suspended"] else None
    answer = admin.patch(path, json={"quantity": 0}, headers={"If-Match": admin.get(path).headers["etag"]})
    problem(answer, "not-enough")
    actions = [entry["action"] for entry in admin.get("/v1/trail").json()["items"]]
    assert actions.count("line-change") == 7


def test_what_a_change_leaves_out_stays_and_null_clears_only_what_can_be_cleared(site, admin, bought):
    person = admin.post("/v1/people", json={"email": "b@example.com", "name": "Bo", "role": Role.VENDOR_SUPPORT}).json()
    hook = admin.post("/v1/webhooks", json={"url": "https://hooks.example.com/a", "kinds": ["line.changed"]}).json()
    line = f"/v1/lines/{bought.lines[0].line_id}"
    for path, names in (
        (line, ["quantity", "suspended", "is_bought"]),
        (f"/v1/people/{person['person_id']}", ["name", "role", "is_active"]),
        (f"/v1/webhooks/{hook['webhook_id']}", ["url", "kinds", "is_enabled"]),
    ):
        before = admin.get(path)
        after = admin.patch(path, json={}, headers={"If-Match": before.headers["etag"]})
        assert after.json() == {**before.json(), "version": after.json()["version"]}
        for name in names:
            answer = admin.patch(path, json={name: None}, headers={"If-Match": after.headers["etag"]})
            problem(answer, "field-wrong")
        assert admin.get(path).json() == after.json()
    until = site.now + 9 * DAY
    changed = admin.patch(
        line, json={"expires_at": until}, headers={"If-Match": admin.get(line).headers["etag"]}
    ).json()
    assert changed["expires_at"] == until
    cleared = admin.patch(line, json={"expires_at": None}, headers={"If-Match": f'"{changed["version"]}"'}).json()
    assert cleared["expires_at"] is None


def test_lists_are_read_page_by_page(site, admin):
    for number in range(5):
        site.sell(f"Account {number}", ("mqtt", 1))
    for path, key in (("/v1/accounts", "account"), ("/v1/lines", "line"), ("/v1/entitlements", "entitlement")):
        seen, cursor = [], {}
        while True:
            answer = admin.get(path, params={"limit": 2, **cursor}).json()
            seen += [item[key] for item in answer["items"]]
            if answer["next"] is None:
                break
            cursor = {"before" if path.endswith("entitlements") else "after": answer["next"]}
        assert len(seen) == len(set(seen)) == 5
    problem(admin.get("/v1/accounts", params={"limit": 0}), "query-wrong")
    problem(admin.get("/v1/ledger", params={"before": "nonsense"}), "query-wrong")
    seen, cursor = [], {}
    while (answer := admin.get("/v1/ledger", params={"limit": 2, **cursor}).json())["items"]:
        seen += [(item["line"], item["number"]) for item in answer["items"]]
        if answer["next"] is None:
            break
        cursor = {"before": answer["next"]}
    assert len(seen) == len(set(seen)) == 5


def read_all(client, path, cursor, limit):
    """Every item of a list, page by page."""
    found, following = [], None
    while True:
        answer = client.get(path, params={"limit": limit, **({cursor: following} if following else {})}).json()
        assert len(answer["items"]) <= limit
        found += answer["items"]
        following = answer["next"]
        if following is None:
            return found


def test_a_long_history_is_read_page_by_page_and_nothing_is_left_out(site, admin, bought):
    device = site.activated(site.device("plant"), (bought.lines[0], 1))
    for second in range(130):
        site.now += second % 3 == 0  # several in one second
        site.post(device.say("refresh"))
    admin.post(f"/v1/field-servers/{device.id}/return")
    copy = device.copy()
    site.post(device.say("refresh"))
    site.post(copy.say("refresh"))
    admin.post(f"/v1/field-servers/{device.id}/lost", json={"reason": "burnt"})
    path = f"/v1/field-servers/{device.id}/history"
    found = read_all(admin, path, "before", 7)
    assert found == admin.get(path, params={"limit": 200}).json()["items"]
    assert [event["at"] for event in found] == sorted((event["at"] for event in found), reverse=True)
    assert {event["kind"] for event in found} == {"message", "started-here", "incident", "declared-lost"}
    digests = [event["digest"] for event in found if event["kind"] == "message"]
    assert len(digests) == len(set(digests)) == 133
    for wrong in ("x", "1.2", "1.4.1.", "9" * 40, "1.1.1.<script>"):
        problem(admin.get(path, params={"before": wrong}), "query-wrong")


def test_who_holds_a_line_is_read_page_by_page(site, admin):
    line = site.sell("Harbour", ("smartdriver", 20)).lines[0]
    made = sorted(str(site.activated(site.device(f"d{number}"), (line, 1)).id) for number in range(7))
    path = f"/v1/lines/{line.line_id}/holders"
    assert [row["device_id"] for row in read_all(admin, path, "after", 3)] == made


def test_a_return_that_is_started_here_is_listed_until_it_is_proven(site, admin, bought):
    device = site.activated(site.device("plant"), (bought.lines[0], 4))
    started = admin.post(f"/v1/field-servers/{device.id}/return", headers={"Idempotency-Key": "return-1"}).json()
    site.now += 3 * DAY
    (row,) = admin.get("/v1/returns").json()["items"]
    assert (row["quantity"], row["age_seconds"]) == (4, 3 * DAY)
    assert "plant" in row["next_step"]
    again = admin.post(f"/v1/field-servers/{device.id}/return").json()
    assert again["file"] == started["file"]
    grant = started["file"].strip().split("\n")[-1]
    device.take(grant)
    (confirmed,) = site.post(device.say("confirm"))
    assert confirmed["outcome"] == "credited"
    assert admin.get("/v1/returns").json()["items"] == []
    titles = [event["title"] for event in admin.get(f"/v1/field-servers/{device.id}/history").json()["items"]]
    assert set(titles) == {
        "Confirmed what it applied: credited",
        "A return or change was started here",
        "Asked to activate: granted",
    }
    reply = admin.get(f"/v1/messages/{confirmed['digest']}").json()
    assert reply["reply"] == confirmed["reply"]


def test_a_lost_one_is_declared_within_the_limit_and_beyond_it_by_permission_only(site, admin, bought):
    support = site.client(Role.VENDOR_SUPPORT)
    devices = [site.activated(site.device(f"d{number}"), (bought.lines[0], 1)) for number in range(4)]
    for device in devices[:3]:
        answer = support.post(f"/v1/field-servers/{device.id}/lost", json={"reason": "burnt"})
        assert answer.json()["status"] == "lost"
        assert answer.json()["licenses"][0]["quarantined"] == 1
    path = f"/v1/field-servers/{devices[3].id}/lost"
    problem(support.post(path, json={"reason": "burnt"}), "lost-too-often")
    problem(support.post(path, json={"reason": "burnt", "override": True}), "not-allowed")
    assert admin.post(path, json={"reason": "burnt", "override": True}).json()["status"] == "lost"


def test_hold_release_and_retire(site, admin, bought):
    device = site.activated(site.device("plant"), (bought.lines[0], 4))
    path = f"/v1/field-servers/{device.id}"
    problem(admin.post(f"{path}/release"), "not-on-hold")
    assert admin.post(f"{path}/hold", json={"reason": "two were seen"}).json()["status"] == "hold"
    assert site.post(device.say("refresh"))[0]["code"] == "on-hold"
    assert admin.post(f"{path}/release").json()["status"] == "active"
    problem(admin.post(f"{path}/retire"), "holds-licenses")
    (row,) = site.post(device.relinquish())
    (row,) = site.post(device.say("refresh"))
    device.take(row["reply"].split("\n")[0])
    site.post(device.relinquish())
    assert admin.post(f"{path}/retire").json()["status"] == "retired"
    problem(admin.post(f"{path}/retire"), "not-in-service")


def test_a_replacement_is_set_to_what_the_dead_one_held_whole_or_not_at_all(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 4))
    new = site.activated(site.device("new"), (bought.lines[0], 1))
    greedy = site.activated(site.device("greedy"), (bought.lines[0], 3))
    path = f"/v1/field-servers/{old.id}"
    problem(admin.post(f"{path}/replace", json={"by": new.id, "reason": "burnt"}), "not-enough")
    assert admin.get(path).json()["status"] == "active"
    site.post(greedy.relinquish())
    answer = admin.post(f"{path}/replace", json={"by": new.id, "reason": "burnt"})
    assert answer.status_code == 201, answer.text
    assert admin.get(path).json()["status"] == "lost"
    assert admin.get(f"/v1/field-servers/{new.id}").json()["licenses"][0]["held"] == 4


def test_a_replacement_is_named_after_the_dead_one_was_declared_lost_too(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 3))
    new = site.activated(site.device("new"), (bought.lines[0], 1))
    path = f"/v1/field-servers/{old.id}"
    assert admin.post(f"{path}/lost", json={"reason": "burnt"}).json()["status"] == "lost"
    answer = admin.post(f"{path}/replace", json={"by": new.id, "reason": "burnt"})
    assert answer.status_code == 201, answer.text
    assert admin.get(path).json()["status"] == "lost"
    assert admin.get(f"/v1/field-servers/{new.id}").json()["licenses"][0]["held"] == 3


def settle(site):
    """The waiting period is over, and all of it was time in service."""
    site.activation.transact(lambda tx: serve_until(tx, site.activation.signer, site.now))
    site.now += 14 * DAY
    site.activation.transact(lambda tx: serve_until(tx, site.activation.signer, site.now))
    site.activation.transact(lambda tx: interventions.settle_quarantines(tx, site.activation.signer, now=site.now))


def test_after_the_waiting_period_a_replacement_still_takes_over_what_the_dead_one_held(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 4))
    new = site.activated(site.device("new"), (bought.lines[0], 1))
    path = f"/v1/field-servers/{old.id}"
    admin.post(f"{path}/lost", json={"reason": "burnt"})
    settle(site)
    assert admin.get(path).json()["status"] == "retired"
    answer = admin.post(f"{path}/replace", json={"by": new.id, "reason": "burnt"})
    assert answer.status_code == 201, answer.text
    held = {row["line"]: row["held"] for row in admin.get(f"/v1/field-servers/{new.id}").json()["licenses"]}
    assert held[bought.lines[0].line_id] == 4


def test_one_that_held_nothing_when_it_was_declared_lost_cannot_be_replaced(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 1))
    new = site.activated(site.device("new"), (bought.lines[0], 1))
    path = f"/v1/field-servers/{old.id}"
    site.post(old.relinquish())
    assert admin.post(f"{path}/lost", json={"reason": "burnt"}).json()["status"] == "lost"
    problem(admin.post(f"{path}/replace", json={"by": new.id, "reason": "burnt"}), "replace-nothing")


def test_too_few_say_what_is_in_quarantine_and_until_when(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 8))
    new = site.activated(site.device("new"), (bought.lines[0], 1))
    lost = admin.post(f"/v1/field-servers/{old.id}/lost", json={"reason": "burnt"}).json()
    until = moment_text(lost["lost_until"])
    told = f"and 8 in quarantine until {until} at the earliest"
    started = admin.post(f"/v1/field-servers/{old.id}/replace", json={"by": new.id, "reason": "burnt"}).json()
    assert told in started["reasons"][0]["seen"]
    (row,) = site.post(new.activate((bought.lines[0], 5)))
    assert told in row["detail"]


def test_a_stranger_without_the_activation_id_is_told_nothing_of_a_quarantine(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 4))
    admin.post(f"/v1/field-servers/{old.id}/lost", json={"reason": "burnt"})
    line = structs.replace(bought.lines[0], secret=bytes(16))
    (row,) = site.post(site.device("stranger").activate((line, 5)))
    assert row["outcome"] == "refused"
    assert "quarantine" not in row["detail"]


def test_a_listed_field_server_must_speak_before_it_replaces_one(site, admin, bought):
    old = site.activated(site.device("old"), (bought.lines[0], 3))
    listed = site.device("new")
    site.activation.transact(
        lambda tx: entitlements.list_field_server(
            tx, site.activation.signer, listed.id, account=bought.account, now=site.activation.now()
        )
    )
    answer = admin.post(f"/v1/field-servers/{old.id}/replace", json={"by": listed.id, "reason": "burnt"})
    problem(answer, "listed-only")
    assert admin.get(f"/v1/field-servers/{old.id}").json()["status"] == "active"


def test_field_servers_are_found_by_name_host_id_and_device_id(site, admin, bought):
    device = site.activated(site.device("Harbour-plant_room"), (bought.lines[0], 1))
    site.activated(site.device("Quay-plantXroom"), (bought.lines[0], 1))

    def found(text):
        return [item["device_id"] for item in admin.get("/v1/field-servers", params={"text": text}).json()["items"]]

    for text in ("plant_room", "HARBOUR", device.id[:9], device.id, "host-Harbour"):
        assert found(text) == [device.id], text
    assert found("%") == []
    assert found("x" * 128) == []
    assert len(found("plant")) == 2


def test_an_incident_says_what_a_person_can_do(site, admin, bought):
    device = site.activated(site.device("plant"), (bought.lines[0], 1))
    copy = device.copy()
    site.post(device.say("refresh"))
    assert site.post(copy.say("refresh"))[0]["code"] == "fork"
    (incident,) = admin.get("/v1/incidents", params={"kind": "fork"}).json()["items"]
    assert incident["device_name"] == "plant"
    assert "release" in incident["next_step"]


def test_people_are_invited_changed_and_the_last_administrator_stays(site, admin):
    site.account("Harbour")
    me = site.person("ana@example.com")
    path = f"/v1/people/{me.person_id}"

    def change(**body):
        return admin.patch(path, json=body, headers={"If-Match": admin.get(path).headers["etag"]})

    problem(change(is_active=False), "last-administrator")
    problem(change(role="vendor-support"), "last-administrator")
    site.person("bo@example.com")
    assert change(role="vendor-support", name="Ana Berg").json()["role"] == "vendor-support"
    assert change(is_active=False).json()["is_active"] is False
    body = {"email": "cy@example.com", "name": "Cy", "role": "customer-technician", "account": "Harbour"}
    assert admin.post("/v1/people", json=body).json()["invitation"].startswith("invitation_")
    problem(admin.post("/v1/people", json=body), "exists-already")
    problem(admin.post("/v1/people", json={**body, "email": "d@example.com", "account": None}), "role-wrong")
    problem(admin.post("/v1/people", json={**body, "email": "d@example.com", "account": "Nobody"}), "not-found")


def test_a_customer_administrator_gives_no_more_than_the_own_roles(site):
    site.account("Harbour")
    client = site.client(Role.CUSTOMER_ADMINISTRATOR, "Harbour")
    body = {"email": "cy@example.com", "name": "Cy", "role": "customer-technician", "account": "Harbour"}
    assert client.post("/v1/people", json=body).status_code == 201
    for role, account in (("vendor-administrator", None), ("vendor-support", None), ("customer-technician", "Other")):
        answer = client.post("/v1/people", json={**body, "email": "e@example.com", "role": role, "account": account})
        problem(answer, "not-allowed")


def test_the_catalog_is_loaded_whole_and_not_over_somebody_elses(admin):
    seen = admin.get("/v1/catalog")
    body = {"products": {"bacnet": {"name": "BACnet", "kinds": ["AS-P", "AS-X"], "features": {"bacnet": 2}}}}
    saved = admin.put("/v1/catalog", json=body, headers={"If-Match": seen.headers["etag"]})
    assert "bacnet" in [product["sku"] for product in saved.json()["products"]]
    assert "AS-X" in saved.json()["kinds"]
    problem(admin.put("/v1/catalog", json=body, headers={"If-Match": seen.headers["etag"]}), "changed-meanwhile")


def test_a_reading_token_changes_nothing(site, bought):
    client = site.client(is_read_only=True)
    assert client.get("/v1/lines").status_code == 200
    problem(client.post("/v1/accounts", json={"account": "New"}), "not-allowed")


def test_the_trail_is_written_with_what_it_tells_or_not_at_all(admin, bought):
    before = len(admin.get("/v1/trail").json()["items"])
    path = f"/v1/lines/{bought.lines[0].line_id}"
    problem(admin.patch(path, json={"quantity": 5}, headers={"If-Match": '"nonsense"'}), "changed-meanwhile")
    assert len(admin.get("/v1/trail").json()["items"]) == before
    admin.patch(path, json={"quantity": 5}, headers={"If-Match": admin.get(path).headers["etag"]})
    newest = admin.get("/v1/trail").json()["items"][0]
    assert (newest["action"], newest["target"], newest["detail"]) == (
        "line-change",
        bought.lines[0].line_id,
        "quantity 10 to 5",
    )
    (lowered,) = [entry for entry in admin.get("/v1/ledger").json()["items"] if entry["target"] == "retired"]
    assert newest["actor"] in lowered["cause"]


def test_names_that_deceive_are_refused(admin):
    for name in ("a\u202eb", "a\x00b", " ", "x" * 200, "<script>" * 30):
        problem(admin.post("/v1/accounts", json={"account": name}), "field-wrong")


def test_two_who_send_the_same_creation_at_once_make_one(site, bought):
    token = site.token(ADMIN)
    body = {"account": "Harbour", "products": [{"product": "mqtt", "quantity": 3}]}

    def create(_):
        client = site.client_with(token)
        return client.post("/v1/entitlements", json=body, headers={"Idempotency-Key": "order-4711"}).json()

    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(create, range(4)))
    assert len({item["entitlement"] for item in made}) == 1


def test_two_who_save_the_same_line_at_once_do_not_overwrite_each_other(site, admin, bought):
    token = site.token(ADMIN)
    path = f"/v1/lines/{bought.lines[0].line_id}"
    version = admin.get(path).headers["etag"]

    def save(quantity):
        return (
            site.client_with(token).patch(path, json={"quantity": quantity}, headers={"If-Match": version}).status_code
        )

    with ThreadPoolExecutor(4) as pool:
        answers = sorted(pool.map(save, (11, 12, 13, 14)))
    assert answers == [200, 412, 412, 412]


def test_of_two_last_administrators_who_remove_each_other_one_stays(site, admin):
    people = [site.person("ana@example.com"), site.person("bo@example.com")]
    token = site.token(ADMIN)
    versions = {who.person_id: admin.get(f"/v1/people/{who.person_id}").headers["etag"] for who in people}

    def remove(who):
        headers = {"If-Match": versions[who.person_id]}
        client = site.client_with(token)
        return client.patch(f"/v1/people/{who.person_id}", json={"is_active": False}, headers=headers).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(remove, people)) == [200, 409]
