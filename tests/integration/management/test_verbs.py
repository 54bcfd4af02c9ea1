"""Every operation of the management API is a command, on a data directory and against a running server alike."""

import json
import re

import pytest
from typer.testing import CliRunner

from support.chromium import served
from tallystick import cli
from tallystick.activation.commands.client import ApiClient
from tallystick.activation.core.books import Books
from tallystick.activation.core.clock import NOBODY
from tallystick.activation.core.permissions import Role
from tallystick.activation.core.ports import IncidentKind

pytestmark = pytest.mark.slow

# Which operations are no command, and why.
NO_COMMAND = {
    "GET /healthz": "for load balancers and monitoring: curl",
    "GET /readyz": "for load balancers and monitoring: curl",
    "GET /metrics": "for Prometheus",
    "POST /v1/messages/dry-run": "of the protocol, for who knows activation IDs: tallystick admin activate --dry-run",
    "POST /v1/entitlements/lookup": "of the protocol, for who knows an entitlement ID: tallystick admin entitlement add",
}
# A data directory is served by these without the API: keys are a file of it, messages are a stream of any length, and
# events are read where the dispatcher of this process places them.
WITHOUT_THE_API = {"GET /v1/keys", "POST /v1/messages", "GET /v1/events"}


class Verbs:
    """Runs commands, here or against the served site, and notes which operations they asked for."""

    def __init__(self, where, words, heard):
        self.where, self.words, self.heard = where, words, heard

    def run(self, *words):
        """What stands behind ``--`` comes last: a digest may begin with a dash."""
        at = words.index("--") if "--" in words else len(words)
        return CliRunner().invoke(cli.app, ["activation", *map(str, [*words[:at], *self.words, *words[at:]])])

    def __call__(self, *words, expect=0):
        at = words.index("--") if "--" in words else len(words)
        done = self.run(*words[:at], "--json", *words[at:])
        assert done.exit_code == expect, (words, done.output, done.exception)
        assert "Traceback" not in done.output
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(params=["data", "url"])
def call(request, site, tmp_path, monkeypatch):
    heard = set()
    fetch = ApiClient.fetch

    def noting(self, method, path, body=None, **options):
        heard.add((method, path))
        return fetch(self, method, path, body, **options)

    monkeypatch.setattr(ApiClient, "fetch", noting)
    if request.param == "data":
        yield Verbs("data", ("--data", site.data / "data"), heard)
        return
    token = tmp_path / "token"
    token.write_text(site.token(Role.VENDOR_ADMINISTRATOR) + "\n")
    with served(site.web) as url:
        yield Verbs("url", ("--url", url, "--token-file", token), heard)


@pytest.fixture
def carry(site, call, tmp_path):
    """A device's message up, and the reply down, by the command."""

    def carried(device, said):
        up, down = tmp_path / "up.tally", tmp_path / "down.tally"
        up.write_text(said + "\n")
        rows = call("message", up, "-o", down)
        if rows[0]["purpose"] != "confirm":
            device.take(down.read_text().strip().split("\n")[-1])
        return rows[0]

    return carried


def test_every_operation_of_the_api_is_a_command(site, call, carry, tmp_path, monkeypatch):
    monkeypatch.setenv("TALLYSTICK_WEBHOOKS_ALLOW_PRIVATE", "127.0.0.0/8")
    file = tmp_path / "file"
    _catalog_and_accounts(call, file)
    made = call("entitlement", "create", "--account", "Pier", "--product", "smartdriver=5", "--key", "order-4711")
    again = call("entitlement", "create", "--account", "Pier", "--product", "smartdriver=5", "--key", "order-4711")
    shown_once = {"entitlement_id": None, "lines": [{**line, "activation_id": None} for line in made["lines"]]}
    assert again == made | shown_once
    line = made["lines"][0]["line"]
    _what_was_bought(call, made, file)
    roof, cellar = site.device("roof"), site.device("cellar")
    row = carry(roof, roof.activate((site.line(line), 3)))
    carry(cellar, cellar.activate((site.line(line), 1)))
    _field_servers(call, carry, row, roof, line, file)
    _people_and_tokens(call)
    _secrets(call, made)
    _webhooks(call)
    assert call("audit")[0]["action"] == "webhook-remove"
    _incidents(site, call)
    assert call("ledger", line)[0]["cause"].endswith("bought")
    assert len(call("ledger", "--field-server", "roof", "--account", "Pier", "--since", "2020-01-01")) >= 2
    assert {event["type"] for event in call("events", "--limit", 1000)} >= {"entitlement.created"}
    operations = {
        f"{method.upper()} {path}": re.compile(method.upper() + " " + re.sub(r"\{\w+\}", "[^/]+", path))
        for path, methods in site.web.openapi()["paths"].items()
        for method in methods
    }
    assert NO_COMMAND.keys() <= operations.keys()
    heard = {f"{method} {path}" for method, path in call.heard}
    without = {name for name, shape in operations.items() if not any(shape.fullmatch(one) for one in heard)}
    assert without == NO_COMMAND.keys() | (WITHOUT_THE_API if call.where == "data" else set())


def _incidents(site, call):
    def note(transaction):
        books = Books(transaction, site.activation.signer, now=site.now)
        books.note(IncidentKind.HOST_ID_TAKEN, NOBODY, "one more of this name")
        books.save()

    site.activation.transact(note)
    noted = call("incidents", "--state", "open")
    assert noted
    number = noted[0]["number"]
    assert noted[0] == call("incident", "show", number) | {"name": None}
    assert call("incident", "acknowledge", number, "--note", "I ask them")["acknowledged_note"] == "I ask them"
    assert call("incidents", "--state", "acknowledged")[0]["number"] == number
    assert call("incident", "resolve", number)["state"] == "resolved"
    assert call("incident", "resolve", number, expect=1)["code"] == "incident-over"


def _catalog_and_accounts(call, file):
    file.write_text(
        "kinds: [AS-P, AS-B, Edge Server]\nproducts:\n  mqtt: {name: MQTT, kinds: [Edge Server], features: {mqtt: 1}}\n"
    )
    assert [product["sku"] for product in call("catalog", "load", file)["products"]] == ["mqtt"]
    assert {product["sku"] for product in call("catalog", "show")["products"]} == {"smartdriver", "mqtt", "engineering"}
    assert call("account", "create", "Harbour works")["account"] == "Harbour works"
    assert call("account", "create", "Harbour works", expect=1)["code"] == "exists-already"
    assert call("account", "show", "Harbour works")["account"] == "Harbour works"
    assert [row["account"] for row in call("account", "list")] == ["Harbour works"]


def _secrets(call, made):
    line = made["lines"][0]
    assert call("line", "reveal", line["line"])["activation_id"] == line["activation_id"]
    assert call("line", "rotate-secret", line["line"])["activation_id"] != line["activation_id"]
    after = call("entitlement", "rotate-secret", made["entitlement"])
    assert (after["entitlement"], after["entitlement_id"] == made["entitlement_id"]) == (made["entitlement"], False)


def _what_was_bought(call, made, file):
    line = made["lines"][0]["line"]
    assert call("entitlement", "reveal", made["entitlement"]) == made
    assert call("entitlement", "show", made["entitlement"]).keys() == made.keys() - {"entitlement_id"}
    assert call("entitlement", "list", "--account", "Pier") == [call("entitlement", "show", made["entitlement"])]
    call("entitlement", "certificate", made["entitlement_id"], "-o", file)
    assert len(file.read_text().strip().split("\n")) == 5
    changed = call("line", "change", line, "--quantity", 8, "--expires", "2099-12-31", "--suspend")
    assert (changed["available"], changed["suspended"]) == (8, True)
    assert call("line", "change", line, "--resume")["suspended"] is False
    assert call("line", "show", line)["quantity"] == 8
    assert [row["line"] for row in call("lines", "--product", "smartdriver", "--account", "Pier")] == [line]
    assert call("lines", "--used-up") == []
    bought = call("entitlement", "create", "--account", "Pier", "--product", "engineering=1", "--expires", "2099-01-01")
    assert call("line", "change", bought["lines"][0]["line"], "--bought")["engineering"] is False


def _field_servers(call, carry, row, roof, line, file):
    assert [one["device_name"] for one in call("line", "holders", line) if one["held"] == 3] == ["roof"]
    assert [one["name"] for one in call("field-servers", "--search", "roo", "--status", "active")] == ["roof"]
    assert call("field-server", "show", "roof")["licenses"][0]["quantity"] == 3
    assert call("field-server", "history", "roof")[0]["title"] == "Asked to activate: granted"
    assert call("reply", "--", row["digest"])["reply"] == row["reply"]
    call("change", "roof", "--line", f"{line}=2", "-o", file)
    call("return", "roof", "-o", file)
    assert sum(one["quantity"] for one in call("returns")) == 3
    roof.take(file.read_text().strip().split("\n")[-1])
    carry(roof, roof.say("confirm"))
    assert call("returns") == []
    assert call("hold", "roof", "--reason", "two were seen")["status"] == "hold"
    assert call("release", "roof")["status"] == "active"
    replaced = call("replace", "cellar", "--with", "roof", "--reason", "burnt", "-o", file)
    assert replaced["name"] == "roof"
    assert call("declare-lost", "cellar", "--reason", "burnt", expect=1)["code"] == "lost-already"
    assert call("retire", "roof", expect=1)["code"] == "holds-licenses"
    roof.take(file.read_text().strip().split("\n")[-1])
    carry(roof, roof.say("confirm"))
    lost = call("declare-lost", "roof", "--reason", "burnt too", "--override")
    assert (lost["status"], lost["quarantined"]) == ("lost", [{"line": line, "quantity": 1}])
    carry(roof, roof.say("refresh"))
    assert [one["kind"] for one in call("incidents", "--kind", "reappeared")] == ["reappeared"]
    assert call("incidents", "--field-server", "cellar") == []


def _people_and_tokens(call):
    invited = call("person", "invite", "ada@example.com", "--name", "Ada", "--role", "vendor-support")
    assert invited["invitation"]
    assert call("person", "invite-again", "ada@example.com")["invitation"] != invited["invitation"]
    assert call("person", "change", invited["person_id"], "--name", "Ada L", "--deactivate")["is_active"] is False
    assert call("person", "show", "ada@example.com")["name"] == "Ada L"
    assert [one["email"] for one in call("person", "list")] == ["ada@example.com"]
    words = ("token", "create", "carrier", "--role", "courier", "--account", "Pier", "--days", 7)
    made = call(*words, "--field-server", "roof")
    assert made["token"]
    assert len(made["devices"]) == 1
    assert "token" not in call("token", "show", made["token_id"])
    assert made["token_id"] in {one["token_id"] for one in call("token", "list")}
    assert call("token", "revoke", made["token_id"])["revoked_at"] is not None


def _webhooks(call):
    made = call("webhooks", "add", "https://hooks.example.com/tally", "--after", 0, "--kind", "line.changed")
    name = made["webhook_id"]
    assert made["secret"]
    assert call("webhooks", "rotate-secret", name)["secret"] != made["secret"]
    assert call("webhooks", "change", name, "--pause")["is_enabled"] is False
    assert call("webhooks", "show", name[:9])["is_enabled"] is False
    assert [one["url"] for one in call("webhooks", "list")] == ["https://hooks.example.com/tally"]
    assert call("webhooks", "deliveries", name) == []
    assert call("webhooks", "retry", name, "--place", 1, expect=1)["code"] == "not-found"
    assert call("webhooks", "retry", name) == {"retried": 0}
    assert call("webhooks", "replay", name, "--after", 0) == {"after": 0}
    assert call("webhooks", "remove", name)["removed"] is True
    assert call("webhooks", "show", name, expect=1)["code"] == "not-found"


def test_what_a_local_command_changes_is_in_the_audit_trail(site, tmp_path):
    local = Verbs("data", ("--data", site.data / "data"), set())
    made = local("entitlement", "create", "--account", "Pier", "--product", "smartdriver=5", "--by", "ada")
    local("enrol", "A" * 43, "--account", "Pier", "--by", "ada")
    local("restore", "--by", "ada")
    local("lift-freeze", "--all", "--by", "ada")
    local("prune", "--older-than", 30, "--by", "ada")
    local("keys", "rotate", "--by", "ada")
    trail = local("audit", "--all")
    assert {(row["actor"], row["role"]) for row in trail} == {("ada", "command line")}
    assert [row["action"] for row in trail] == [
        *("keys-rotate", "prune", "freeze-lift", "restore-announce", "enrol", "entitlement-create", "account-create")
    ]
    assert trail[5]["target"] == made["entitlement"]
    assert local("audit", "--limit", 1, "--before", trail[0]["number"]) == [trail[1]]
    refused = ("entitlement", "create", "--account", "New", "--product", "none=1")
    assert local(*refused, expect=1)["code"] == "product-unknown"
    assert local("audit", "--all") == trail
    assert [row["account"] for row in local("account", "list")] == ["Pier"]


def test_which_server_is_meant_is_said_once(site, call, tmp_path, monkeypatch):
    def lines(*words):
        return CliRunner().invoke(cli.app, ["activation", "lines", *map(str, words), "--json"])

    monkeypatch.delenv("TALLYSTICK_URL", raising=False)
    assert (lines().exit_code, json.loads(lines().stdout)["code"]) == (2, "usage")
    assert lines("--data", site.data / "data", "--url", "http://127.0.0.1:9").exit_code == 2
    assert json.loads(lines("--url", "http://127.0.0.1:9").stdout)["code"] == "usage"  # and the token?
    token = tmp_path / "some-token"
    token.write_text("tally_guess")
    assert json.loads(lines("--url", "http://127.0.0.1:9", "--token-file", token).stdout)["code"] == "unreachable"
    assert lines("--url", "http://127.0.0.1:9", "--token-file", token).exit_code == 3
    assert (
        json.loads(lines("--url", "http://127.0.0.1:9", "--token-file", tmp_path / "no").stdout)["code"] == "not-found"
    )
    for url in ("http://licenses.example.com", "ftp://127.0.0.1", "licenses.example.com"):
        assert json.loads(lines("--url", url, "--token-file", token).stdout)["code"] == "usage"
    with served(site.web) as url:
        assert json.loads(lines("--url", url, "--token-file", token).stdout)["code"] == "token-wrong"
        monkeypatch.setenv("TALLYSTICK_URL", url)
        token.write_text(site.token(Role.VENDOR_SUPPORT))
        assert lines("--token-file", token).exit_code == 0
    assert call("return", "nobody", "-o", tmp_path / "x", expect=1)["code"] == "not-found"
    assert call("line", "change", "AAAAAAAA", expect=2)["code"] == "usage"
