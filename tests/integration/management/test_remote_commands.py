"""``tallystick activation remote``: the main verbs against a running activation server, with a token."""

import json

import pytest
from typer.testing import CliRunner

from support.chromium import served
from tallystick.activation.commands import remote
from tallystick.activation.permissions import Role


@pytest.fixture
def call(site, tmp_path):
    token = tmp_path / "token"
    token.write_text(site.token(Role.VENDOR_ADMINISTRATOR) + "\n")
    with served(site.web) as url:

        def run(*words, expect=0, **options):
            words = [*map(str, words), "--url", options.get("url", url), "--token-file", options.get("token", token)]
            done = CliRunner().invoke(remote.app, [*map(str, words), "--json"])
            assert done.exit_code == expect, (words, done.output, done.exception)
            return json.loads(done.stdout) if done.stdout.strip() else None

        yield run


def test_what_is_sold_changed_held_and_returned(site, call, tmp_path):
    words = ("sell", "--account", "Harbour", "--product", "smartdriver=5", "--key", "order-4711")
    made = call(*words)
    assert call(*words) == made
    line = made["lines"][0]["line"]
    file = tmp_path / "bought.tally"
    call("certificate", made["entitlement_id"], "-o", file)
    assert len(file.read_text().strip().split("\n")) == 5
    assert call("change-line", line, "--quantity", 8, "--expires", "2099-12-31", "--suspend")["available"] == 8
    assert call("change-line", line, "--resume")["suspended"] is False

    device = site.device("roof")
    up, down = tmp_path / "up.tally", tmp_path / "down.tally"
    up.write_text(device.activate((site.line(line), 3)) + "\n")
    call("message", up, "-o", down)
    device.take(down.read_text().strip().split("\n")[-1])
    assert [row["held"] for row in call("lines")] == [3]
    assert [row["name"] for row in call("field-servers", "--search", "roo")] == ["roof"]
    call("return", "roof", "-o", down)
    assert [row["quantity"] for row in call("returns")] == [3]
    device.take(down.read_text().strip().split("\n")[-1])
    up.write_text(device.say("confirm") + "\n")
    call("message", up, "-o", down)
    assert call("returns") == []
    assert call("hold", "roof", "--reason", "two were seen")["status"] == "hold"
    assert call("release", "roof")["status"] == "active"
    assert call("retire", "roof")["status"] == "retired"
    assert call("incidents") == []
    assert len(call("ledger", line)) == 5
    actions = {row["action"] for row in call("trail")}
    assert {"entitlement-create", "line-change", "return-start", "hold", "release", "retire"} <= actions


def test_a_lost_one_is_declared_and_what_is_refused_has_its_code(site, call, tmp_path):
    made = call("sell", "--account", "Harbour", "--product", "smartdriver=5")
    site.activated(site.device("roof"), (site.line(made["lines"][0]["line"]), 1))
    assert call("declare-lost", "roof", "--reason", "burnt")["status"] == "lost"
    assert call("declare-lost", "roof", "--reason", "burnt", expect=1)["code"] == "lost-already"
    assert call("return", "nobody", "-o", tmp_path / "x", expect=1)["code"] == "not-found"
    assert call("change-line", made["lines"][0]["line"], expect=2)["code"] == "usage"
    wrong = tmp_path / "wrong"
    wrong.write_text("tally_guess")
    assert call("lines", token=wrong, expect=1)["code"] == "token-wrong"
    assert call("lines", token=tmp_path / "none", expect=1)["code"] == "not-found"
    assert call("lines", url="http://127.0.0.1:9", expect=3)["code"] == "unreachable"


@pytest.mark.parametrize("url", ["http://licences.example.com", "ftp://127.0.0.1", "licences.example.com", ""])
def test_a_token_goes_over_no_open_line(call, url):
    assert call("lines", url=url, expect=2)["code"] == "usage"
