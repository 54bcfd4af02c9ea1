"""What the first release (commit 3e45348) left on disk goes on working: databases, vaults, files and settings.

The files were made by that release's own programs, see ``make.py``, and are never made again by this one.
"""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import tarfile
import time
from pathlib import Path

import pyotp
import pytest
from starlette.testclient import TestClient

from support.browser import Reader, words
from support.parties import run, surroundings
from support.postgres import Cluster, program
from support.site import Site
from tallystick.activation.settings import read_document, show_settings
from tallystick.activation.storage import schema
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.messages import parse_reply

pytestmark = pytest.mark.slow

LEFT = Path(__file__).parent / "release_3e45348"
ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]
TOLD = json.loads((LEFT / "told.json").read_text("utf-8"))
LATER = 3600  # after the evening of that release


@pytest.fixture(scope="module")
def cluster():
    found = Cluster()
    yield found
    found.remove()


class Left:
    """What is there, with the commands of today on it, an hour later."""

    def __init__(self, home, database=None):
        self.home, self.database = home, database
        with tarfile.open(LEFT / "home.tar.xz") as tar:
            tar.extractall(home, filter="data")
        (home / "activation").rename(home / "data")  # as `Site` has it
        clock = home / "clock"
        clock.write_text(str(TOLD["at"] + LATER - int(time.time())), "ascii")
        self.env = surroundings(clock, home / "laptop", TALLYSTICK_STICKS=str(home))

    def activation(self, *said, **options):
        where = ["--database", self.database] if self.database else []
        return run("activation", *said, "--data", self.home / "data", *where, "--json", env=self.env, **options)

    def field_server(self, name, *said, **options):
        vault = self.home / "field-servers" / name
        return run("fieldserver", *said, "--data", vault, "--json", env=self.env, **options)

    def file(self, name):
        return self.home / name

    def lines(self, name):
        return self.file(name).read_text("utf-8").splitlines()

    def site(self):
        return Site(self.home, database=self.database, now=TOLD["at"] + LATER, is_there=True)


@pytest.fixture(params=ENGINES)
def left(request, tmp_path):
    if request.param == "sqlite":
        found = Left(tmp_path)
    else:
        cluster = request.getfixturevalue("cluster")
        found = Left(tmp_path, cluster.new_database())
        (tmp_path / "data" / "tallystick.sqlite").unlink()
        name = found.database.rpartition("?")[0].rpartition("/")[2]
        subprocess.run(
            [program("psql"), "-q", "-v", "ON_ERROR_STOP=1", "-h", str(cluster.home), "-U", "tally", name],
            input=gzip.decompress((LEFT / "postgresql.sql.gz").read_bytes()),
            stdout=subprocess.DEVNULL,
            check=True,
        )
    found.activation("migrate")
    return found


@pytest.fixture
def site(left):
    made = left.site()
    yield made
    made.close()


def has(document, told):
    """Every name that both have says the same."""
    return {name: document[name] for name in told.keys() & document.keys()}


def pages(client, path):
    found, cursor = [], ""
    while cursor is not None:
        page = client.get(path, params={"limit": 100} | ({"cursor": cursor} if cursor else {})).json()
        found += page["items"]
        cursor = page["next"]
    return found


def test_its_books_add_up_as_they_did_and_the_schema_is_of_today(left):
    assert schema.HEAD in left.activation("migrate").values()
    assert left.activation("verify") == TOLD["verify"]


def test_its_tokens_read_over_the_api_what_it_told(site):
    root = site.client_with(TOLD["tokens"]["root"]["token"])
    for path, told, key, calculated in (
        ("lines", TOLD["lines"], "line", {"version"}),
        ("field-servers", TOLD["field-servers"], "device_id", {"licenses"}),
        ("incidents", TOLD["incidents"], "number", {"next_step"}),
        ("ledger", TOLD["ledger"], "chain", set()),
        ("trail", TOLD["audit"], "number", {"target"}),
        ("people", TOLD["person list"], "person_id", {"version"}),
        ("tokens", TOLD["token list"], "token_id", {"last_used_at"}),
        ("accounts", TOLD["account list"], "account", set()),
        ("webhooks", TOLD["webhooks list"], "webhook_id", {"version", "position"}),
    ):
        found = {row[key]: row for row in pages(root, f"/v1/{path}")}
        assert len(found) >= len(told), path
        for row in told:
            wanted = {name: value for name, value in row.items() if name not in calculated and name != "entitlement"}
            assert has(found[row[key]], wanted) == has(wanted, found[row[key]]), (path, row[key])
    targets = {row["number"]: row["target"] for row in pages(root, "/v1/trail")}
    for row in TOLD["audit"]:  # no ID of an entitlement is read any more
        assert targets[row["number"]] == row["target"] or targets[row["number"]].startswith("ER-")
    sold = pages(root, "/v1/entitlements")
    assert sorted(one["account"] for one in sold) == ["Harbour", "Quay"]
    shown = root.post(f"/v1/entitlements/{sold[0]['entitlement']}/reveal").json()
    assert shown["entitlement_id"] in {TOLD["sold"]["entitlement_id"], TOLD["sold_to_quay"]["entitlement_id"]}
    waiting = {row["device_id"]: row["stands"] for row in pages(root, "/v1/returns")}
    assert waiting.keys() == {TOLD["devices"]["cellar"], TOLD["devices"]["mill"]}


def test_its_tokens_are_what_they_were_and_no_more(site):
    reader = site.client_with(TOLD["tokens"]["reader"]["token"])
    assert {row["account"] for row in pages(reader, "/v1/lines")} == {"Harbour"}
    assert reader.post("/v1/tokens", json={}).status_code in {403, 422}
    assert site.client_with(TOLD["tokens"]["gone"]["token"]).get("/v1/lines").status_code == 401


def test_its_events_are_read_in_their_places(site):
    client = TestClient(site.web, headers={"Authorization": "Bearer the-operations-token-of-this-story"})
    answer = site.client_with(TOLD["tokens"]["root"]["token"]).get("/v1/events", params={"limit": 100})
    if answer.status_code != 200:
        answer = client.get("/v1/events", params={"limit": 100})
    found = {event["position"]: event["id"] for event in answer.json()["events"]}
    assert {event["position"]: event["id"] for event in TOLD["events"]}.items() <= found.items()


def test_its_people_sign_in_as_they_did_and_read_every_page(site):
    ada = Reader(site.browser())
    asked = ada.send("/sign-in", email="ada@example.com", password=TOLD["password"])
    assert asked.url.path == "/sign-in/code"
    assert ada.send("/sign-in/code", code=pyotp.TOTP(TOLD["totp_secret"]).at(site.now)).url.path == "/"
    for path in (
        "/",
        "/entitlements",
        "/field-servers",
        "/returns",
        "/incidents",
        "/ledger",
        "/people",
        "/webhooks",
        "/trail",
    ):
        assert ada.see(path).status_code == 200, path
    for name, device_id in TOLD["devices"].items():
        page = ada.see(f"/field-servers/{device_id}")
        assert page.status_code == 200
        assert name in page.text or name == "loft"  # which is only listed, and has said nothing yet
    for line in TOLD["lines"]:
        assert line["product"] in ada.see(f"/lines/{line['line']}").text or line["name"] in words(
            ada.see(f"/lines/{line['line']}").text
        )
    ben = Reader(site.browser())
    assert ben.send("/sign-in", email="ben@example.com", password=TOLD["password"]).url.path == "/"
    assert (
        Reader(site.browser()).send("/sign-in", email="dee@example.com", password=TOLD["password"]).status_code == 401
    )
    cy = Reader(site.browser())
    welcome = cy.send(f"/invitation/{TOLD['invitation_of_cy']}", password="another four quiet words")
    assert welcome.url.path == "/me"


def test_its_open_returns_go_through_with_its_vaults_and_its_files(left, site):
    for name in ("cellar", "mill"):
        left.field_server(name, "deliver", left.file(f"{name}-hears.tally"))
        left.field_server(name, "outbox", "-o", left.file("says.tally"))
        (row,) = site.post(*left.lines("says.tally"))
        assert row["outcome"] == "credited", row
    assert site.client_with(TOLD["tokens"]["root"]["token"]).get("/v1/returns").json()["items"] == []


def test_its_messages_under_way_are_answered_and_their_replies_are_taken(left, site):
    (row,) = site.post(*left.lines("roof-says.tally"))
    assert row["outcome"] == "granted", row
    left.file("reply.tally").write_text(row["reply"] + "\n", "ascii")
    (taken,) = left.field_server("roof", "deliver", left.file("reply.tally"))["results"]
    assert taken["outcome"] == "applied", taken
    rows = site.post(*left.lines("dock-says.tally"))
    assert [row["outcome"] for row in rows] == ["granted"]


def test_what_it_answered_is_answered_again_in_the_same_bytes(site):
    said = [line for line in TOLD["answered"]["file"] if not line.startswith("#")]
    (row,) = site.post(*said)
    assert row["outcome"] == "granted"
    assert row["reply"] in TOLD["answered"]["replies"]  # beside the keys


def test_its_vaults_open_and_hold_what_they_held(tmp_path):
    left = Left(tmp_path)
    for name, told in TOLD["vaults"].items():
        now = left.field_server(name, "status")
        for claim in ("device_id", "name", "host_id", "issuer", "epoch", "applied"):
            assert now[claim] == told[claim], (name, claim)
        for claim in ("line", "quantity", "expires"):
            assert [one[claim] for one in now["licenses"]] == [one[claim] for one in told["licenses"]], (name, claim)


def test_programs_on_its_vaults_are_licensed_by_the_root_that_they_name_and_by_no_other(tmp_path):
    """It recorded nothing of how a field server comes to its root, and its field servers go on without being set up anew."""
    left = Left(tmp_path)
    held = {
        name: [one["feature"] for one in told["features"] if one["activated"]] for name, told in TOLD["vaults"].items()
    }
    assert any(held.values())
    for name, features in held.items():
        for root, code, expect in ((TOLD["init"]["root_fingerprint"], "licensed", 0), ("A" * 43, "other-issuer", 1)):
            for feature in features[:1]:
                said = left.field_server(name, "check", feature, "--root", root, expect=expect)
                assert (said["code"], said["licensed"]) == (code, expect == 0), name
    assert "trust" not in left.field_server("roof", "status")


def test_field_servers_in_every_state_are_answered_by_what_they_are(left, site):
    """The attic was not heard since a restore, the loft is only listed, the barn is lost, the shed is on hold."""
    wish = f"{TOLD['sold']['lines'][0]['activation_id']}=1"
    asked = {
        "attic": ("refresh",),
        "loft": ("activate", wish),
        "barn": ("refresh",),
        "shed": ("refresh",),
        "pier": ("activate", wish),
    }
    said = {name: [] for name in asked}
    for name, wanted in asked.items():
        for _ in range(2):
            left.field_server(name, "request", *wanted)
            left.field_server(name, "outbox", "-o", left.file("says.tally"))
            rows = site.post(*left.lines("says.tally"))
            said[name].append(rows[-1]["code"] or rows[-1]["outcome"])
            left.file("reply.tally").write_text("".join(f"{row['reply']}\n" for row in rows if row["reply"]), "ascii")
            left.field_server(name, "deliver", left.file("reply.tally"), expect=(0, 1))
    assert said == {
        "attic": ["restored", "granted"],
        "loft": ["restored", "granted"],  # it was listed when the data was restored
        "barn": ["granted", "granted"],
        "shed": ["on-hold", "on-hold"],
        "pier": ["restored", "granted"],  # it was retired then
    }
    reappeared = [row["kind"] for row in pages(site.client_with(TOLD["tokens"]["root"]["token"]), "/v1/incidents")]
    assert sorted(reappeared) == ["fork", "reappeared"]


def test_its_receipts_verify(left, site):
    told = TOLD["laptop"]["receipts"][0]
    assert told["receipt"] in left.lines("receipts.tally")
    credit = parse_reply(site.activation.signer.keyset.verify(open_envelope(told["receipt"].encode())))
    assert [(one.line, one.quantity) for one in credit.credits] == [
        (one["line"], one["quantity"]) for one in told["credits"]
    ]


def test_the_home_of_its_device_administrator_is_read(tmp_path):
    left = Left(tmp_path)
    (receipt,) = run("admin", "receipts", "--json", env=left.env)
    assert receipt["receipt"] == TOLD["laptop"]["receipts"][0]["receipt"]
    (server,) = run("admin", "servers", "--json", env=left.env, expect=(0, 1, 3, 4))
    assert (server["name"], server["site"]) == ("dock", "North")
    assert server["licenses"][0].items() >= TOLD["laptop"]["servers"][0]["licenses"][0].items()
    run("admin", "export", left.file("again.tally"), "--json", env=left.env)
    assert [line for line in left.lines("again.tally") if not line.startswith("#")] == [
        line for line in left.lines("dock-says.tally") if not line.startswith("#")
    ]


def test_its_settings_say_what_they_said(tmp_path):
    left = Left(tmp_path)
    now = {one.path: one.value for one in show_settings(read_document(left.home / "data"), {})}
    for told in TOLD["settings"]:
        value = now[told["name"]]
        assert (list(value) if isinstance(value, tuple) else value) == told["value"], told["name"]
    env = {name: value for name, value in left.env.items() if name != "TALLYSTICK_TEST_CLOCK"}  # which means nothing
    assert run("activation", "config", "check", "--data", left.home / "data", "--json", env=env)


def test_its_backup_is_restored(tmp_path):
    left = Left(tmp_path)
    keys = left.home / "data" / "keys"
    again = tmp_path / "again"
    run(
        "activation",
        "restore",
        "--data",
        again,
        "--from",
        left.file("backup.tar.gz"),
        "--json",
        env=left.env,
        expect=(0, 1),
    )
    if not (again / "keys").exists():  # which the backup does not have
        shutil.copytree(keys, again / "keys")
    run("activation", "migrate", "--data", again, "--json", env=left.env)
    report = run("activation", "verify", "--data", again, "--json", env=left.env)
    assert report["green"], report
    assert (again / "tallystick.sqlite").stat().st_mode & 0o077 == 0
