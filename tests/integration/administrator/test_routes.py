"""The whole way over real sockets and files, on each route."""

import time

import pytest

from support.adminpages import pages_of

pytestmark = pytest.mark.slow


@pytest.fixture
def online(world):
    """An activation server that answers, one entitlement known here, and one field server."""
    bought = world.activation.buy("smartdriver=3", "external-log-storage=1")
    world.activation.start()
    world.admin("entitlement", "add", bought["entitlement_id"], "--activation", world.activation.url)
    world.lines = {line["product"]: line["line"] for line in bought["lines"]}
    world.roof = world.field_server("roof")
    return world


def test_semi_online_activate_return_and_activate_elsewhere(online):
    admin, smart = online.admin, online.lines["smartdriver"]
    cellar = online.field_server("cellar")
    assert admin("route", "--json")["route"] == "semi-online"
    admin("assign", f"{smart}=3", "roof")
    admin("activate", "roof")
    assert online.roof.held() == {smart: 3}
    admin("activate", "roof")
    assert "already" in admin.stdout
    admin("assign", f"{smart}=3", "cellar", expect=1)
    assert "not-enough" in admin.stderr
    admin("return", "roof")
    assert online.roof.held() == {}
    assert online.activation.lines()[smart]["available"] == 3
    admin("activate", "cellar", "--line", "smartdriver=3")
    row = admin.servers()["cellar"]
    assert [(one["line"], one["product"], one["quantity"]) for one in row["licenses"]] == [(smart, "smartdriver", 3)]
    assert (row["device_id"], row["kind"], row["reachable"], row["next_step"]) == (cellar.id, "AS-B", True, "")
    assert admin("receipts", "--json")[0]["credits"] == [{"line": smart, "quantity": 3}]
    online.activation.verify()


def test_online_is_said_where_field_servers_reach_the_activation_server_themselves(online):
    online.field_server("cellar", "--activation", online.activation.url)
    online.admin("remove", "roof")
    found = online.admin("route", "--json")
    assert found["route"] == "online"
    assert online.activation.url in found["why"]
    online.admin("activate", "cellar", "--line", "smartdriver=1")
    online.admin("return", "cellar", "--one-carry")
    assert online.activation.lines()[online.lines["smartdriver"]]["available"] == 3


def test_a_scrapped_field_server_is_credited_at_once_and_takes_nothing_any_more(online):
    admin = online.admin
    admin("activate", "roof", "--line", "smartdriver=2")
    admin("return", "roof", "--final", "--line", "smartdriver=1", expect=2)
    admin("return", "roof", "--final")
    assert online.activation.lines()[online.lines["smartdriver"]]["available"] == 3
    assert admin("show", "roof", "--json")["final"]
    assert admin("show", "roof", "--json")["trust"] == "first-delivery"
    assert "FOR TRIALS ONLY" in " ".join(admin("servers").split())
    admin("activate", "roof", "--line", "smartdriver=1", expect=1)
    assert "out-of-service" in admin.stderr
    admin("return", "roof", "--final")
    online.activation.verify()


def test_a_product_for_other_kinds_is_refused_and_the_kinds_are_named(online):
    online.field_server("cellar")
    online.admin("assign", "external-log-storage=1", "cellar", expect=1)
    assert "kind-mismatch" in online.admin.stderr
    assert "Edge Server" in online.admin.stderr


def test_partial_return_refresh_and_json_reports(online):
    admin, smart = online.admin, online.lines["smartdriver"]
    admin("activate", "roof", "--line", f"{smart}=3")
    done = admin("return", "roof", "--line", "smartdriver=1", "--json")
    assert done["finished"]
    assert done["field_servers"][0]["licenses"][0]["quantity"] == 1
    assert admin("refresh", "--all", "--json")["field_servers"][0]["result"] == "done"
    admin("return", "roof", "--line", f"{smart}=2", expect=1)
    assert "return-raises" in admin.stderr


@pytest.fixture
def offline(world):
    """Nothing but a certificate file, and a field server within reach. The activation server is only files away."""
    bought = world.activation.buy("smartdriver=3")
    world.line = bought["lines"][0]["line"]
    certificate = world.path("certificate.tally")
    world.activation.certify(bought["entitlement_id"], certificate)
    world.admin("entitlement", "add", certificate)
    world.roof = world.field_server("roof")
    return world


def carry(world, *, reply="reply.tally"):
    world.admin("export", world.path("request.tally"))
    world.activation.upload(world.path("request.tally"), world.path(reply))
    return world.path(reply)


def test_offline_return_with_the_confirm_forgotten_first(offline):
    admin, line = offline.admin, offline.line
    assert admin("route", "--json")["route"] == "offline"
    admin("activate", "roof", "--line", f"{line}=3", expect=4)
    assert "export" in admin.stderr
    admin("import", carry(offline))
    assert offline.roof.held() == {line: 3}
    # 1: requests up, 2: responses down
    admin("return", "roof", expect=4)
    admin("return", "roof", expect=4)
    assert admin("status", "--json")["outbound"] == 1
    reply = carry(offline)
    # 3: delivered; the field server has written its proof by itself, and it is gathered
    admin("import", reply)
    assert "carry the confirm" in admin.stderr
    assert offline.roof.held() == {}
    # forgotten
    row = offline.activation.lines()[line]
    assert (row["available"], row["returning"]) == (0, 3)
    assert admin.servers()["roof"]["next_step"].startswith("returning since")
    assert admin("status", "--json")["open"][0]["phase"] == "prove"
    admin("import", reply)
    # 4: confirmed
    receipt = carry(offline, reply="receipt.tally")
    first = offline.path("request.tally").read_bytes()
    admin("export", offline.path("again.tally"))
    assert offline.path("again.tally").read_bytes() == first
    assert offline.activation.lines()[line]["available"] == 3
    admin("import", receipt)
    admin("import", receipt, reply)
    assert admin.servers()["roof"]["next_step"] == ""
    assert admin("export", offline.path("none.tally"), "--json")["messages"] == 0
    assert not offline.path("none.tally").exists()
    offline.activation.verify()


def test_offline_one_carry_with_the_file_lost_and_asked_for_again(offline):
    admin, line = offline.admin, offline.line
    admin("activate", "roof", "--line", f"{line}=2", expect=4)
    admin("import", carry(offline))
    admin("return", "roof", "--one-carry", expect=4)
    admin("export", offline.path("lost.tally"))
    lost = offline.path("lost.tally").read_text()
    offline.path("lost.tally").unlink()
    assert offline.roof.held() == {}
    admin("return", "roof", "--one-carry", expect=4)
    reply = carry(offline)
    assert offline.path("request.tally").read_text() == lost
    assert offline.activation.lines()[line]["available"] == 3
    admin("import", reply)
    assert admin("sync", "--json")["finished"]


def test_replies_wait_until_the_field_server_is_within_reach(offline):
    admin, line = offline.admin, offline.line
    admin("activate", "roof", "--line", f"{line}=1", expect=4)
    offline.roof.stop()
    admin("import", carry(offline))
    assert "a reply waits here" in admin.servers()["roof"]["next_step"]
    admin("sync", expect=3)
    offline.roof.start()
    admin("sync")
    assert offline.roof.held() == {line: 1}


def test_a_refusal_travels_by_file_too_and_is_named(offline):
    admin, line = offline.admin, offline.line
    other = offline.admin.__class__(offline.path("other-home"))
    other("entitlement", "add", offline.path("certificate.tally"))
    cellar = offline.field_server("cellar")
    admin("activate", "roof", "--line", f"{line}=3", expect=4)
    admin("import", carry(offline))
    other("add", cellar.url, "--password-file", cellar.password_file)
    other("activate", "cellar", "--line", f"{line}=1", expect=4)
    other("export", offline.path("other.tally"))
    offline.activation.upload(offline.path("other.tally"), offline.path("other-reply.tally"))
    other("import", offline.path("other-reply.tally"), expect=4)
    assert "not-enough" in other.stderr


def test_mixed_and_broken_files_are_taken_line_by_line(offline):
    admin, line = offline.admin, offline.line
    admin("activate", "roof", "--line", f"{line}=1", expect=4)
    reply = carry(offline)
    mixed = offline.path("mixed.tally")
    grant = reply.read_bytes().strip().splitlines()[-1]
    broken = grant[:-10] + b"AAAAAAAAAA"
    mixed.write_bytes(
        b"\xef\xbb\xbf# for people\r\n\r\nrubbish\n" + broken + b"\r\n"
        + offline.path("certificate.tally").read_bytes() + b"\x00\xff\n" + b"x" * 70_000 + b"\n" + grant + b"\r\n" + grant
    )  # fmt: skip
    taken = admin("import", mixed, "--json", expect=4)
    assert {bad["code"] for bad in taken["bad"]} == {"envelope-malformed", "signature-wrong", "line-too-long"}
    assert offline.roof.held() == {line: 1}
    for name, content, code in (
        ("empty.tally", b"", "not-text"),
        ("binary.tally", bytes(range(256)) * 10, "envelope-malformed"),
    ):
        offline.path(name).write_bytes(content)
        admin("import", offline.path(name), expect=1)
        assert code in admin.stderr
    admin("import", offline.path("missing.tally"), expect=1)
    assert "not-found" in admin.stderr
    admin("import", offline.path("missing.tally"), reply, expect=4)


def test_the_own_request_file_imported_by_mistake_changes_nothing(offline):
    admin, line = offline.admin, offline.line
    admin("activate", "roof", "--line", f"{line}=1", expect=4)
    admin("export", offline.path("request.tally"))
    taken = admin("import", offline.path("request.tally"), "--json")
    assert (taken["requests"], taken["new"]) == (1, 0)


def test_a_file_from_another_site_is_handed_back(offline):
    admin, line = offline.admin, offline.line
    admin("activate", "roof", "--line", f"{line}=1", expect=4)
    reply = carry(offline)
    other = admin.__class__(offline.path("other-home"))
    other("entitlement", "add", offline.path("certificate.tally"))
    taken = other("import", reply, "--json", expect=(1, 4))
    assert [bad["code"] for bad in taken["bad"]] == ["device-wrong"]


def test_a_field_server_with_its_own_route_carries_by_itself_and_that_is_seen(world):
    """Device Administrator asks, and cannot carry; the field server does, and nothing is open here afterwards."""
    bought = world.activation.buy("smartdriver=3")
    world.activation.start()
    line = bought["lines"][0]["line"]
    world.admin("entitlement", "add", bought["entitlement_id"], "--activation", world.activation.url)
    roof = world.field_server("roof", "--activation", world.activation.url)
    world.admin.route = "offline"
    world.admin("activate", "roof", "--line", f"{line}=2", expect=(0, 4))
    assert "route of its own" in world.admin.stderr or roof.held()
    row = eventually(world, lambda row: row["licenses"])
    assert [(one["line"], one["quantity"]) for one in row["licenses"]] == [(line, 2)]
    assert row["next_step"] == ""
    assert world.admin("status", "--json")["outbound"] == 0, "what it carried itself is not carried again"
    world.admin("return", "roof", expect=(0, 4))
    row = eventually(world, lambda row: not row["licenses"] and not row["next_step"])
    with pages_of(world.admin.home) as page:
        page.see(f"/servers/{roof.id}")
        assert "<strong>credited</strong>" in page.text, "it is said what became of its messages"
    assert world.activation.lines()[line]["available"] == 3
    world.activation.verify()


def eventually(world, is_so):
    for _ in range(100):
        row = world.admin.servers()["roof"]
        if is_so(row):
            return row
        time.sleep(0.1)
    raise AssertionError(row)


def test_what_is_available_is_kept_with_its_moment_and_asked_for_anew(world):
    bought = world.activation.buy("smartdriver=9")
    world.activation.start()
    roof = world.field_server("roof")
    added = ("entitlement", "add", bought["entitlement_id"], "--activation", world.activation.url, "--json")
    (first,) = world.admin(*added)["lines"]
    assert (first["available"], first["available_at"] > 0) == (9, True)
    world.admin("activate", "roof", "--line", f"{first['line']}=4")
    (second,) = world.admin(*added)["lines"]
    assert (second["available"], roof.held()) == (5, {first["line"]: 4})
