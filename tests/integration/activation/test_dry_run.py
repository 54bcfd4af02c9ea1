"""POST /v1/messages/dry-run: what would be decided, over HTTP; not a row is written, and limits hold."""

import json

import pytest

from support.site import Site
from tallystick.activation.http import strangers
from tallystick.protocol import dry_run
from tallystick.protocol.dry_run import ASKS_MAX, BODY_BYTES_MAX, dry_run_proof


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.close()


def ask(device, line, quantity, **other):
    state = {"line": line.line_id, "quantity": quantity, "proof": dry_run_proof(line.activation_id, device.id)}
    return {"device_id": device.id, "kind": "AS-P", "purpose": "activate", "wants": [state], **other}


def rows(site):
    """Every table with all that is in it."""
    with site.activation.store.engine.connect() as connection:
        names = [row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='table'")]
        return {name: connection.exec_driver_sql(f'SELECT * FROM "{name}"').fetchall() for name in sorted(names)}


def test_it_says_what_will_be_decided_and_writes_no_row(site):
    line = site.sell("Harbour", ("smartdriver", 3)).lines[0]
    plant, spare = site.device("plant"), site.device("spare")
    site.activated(plant, (line, 1))
    anybody, before = site.browser(), rows(site)
    answer = anybody.post(dry_run.PATH, json={"asks": [ask(plant, line, 2), ask(spare, line, 2)]})
    assert answer.status_code == 200
    found = answer.json()
    assert found["issuer"] == site.activation.signer.keyset.issuer
    assert isinstance(found["at"], int)
    assert found["answers"][0] == {
        "outcome": "granted",
        "reasons": [],
        "lines": [{"line": line.line_id, "before": 1, "after": 2}],
    }
    assert (found["answers"][1]["outcome"], found["answers"][1]["code"]) == ("refused", "not-enough")
    assert rows(site) == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 422, "json-malformed"),
        (b'{"asks": []}', 422, "claims-malformed"),
        (json.dumps({"asks": [{}] * (ASKS_MAX + 1)}).encode(), 422, "claims-malformed"),
        (b'{"asks": [{"device_id": "x"}]}', 422, "claims-malformed"),
        (b" " * (BODY_BYTES_MAX + 1), 413, "body-too-large"),
    ],
)
def test_what_is_no_dry_run_gets_its_code(site, body, status, code):
    answer = site.browser().post(dry_run.PATH, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_whoever_proves_nothing_has_the_rate_of_strangers_and_who_proves_has_none(site, monkeypatch):
    line = site.sell("Harbour", ("smartdriver", 3)).lines[0]
    device, anybody = site.device("plant"), site.browser()
    good, bad = ask(device, line, 1), ask(device, line, 1)
    bad["wants"][0]["proof"] = "A" * 43
    for _ in range(strangers.ADDRESS_AT_ONCE // ASKS_MAX + 2):
        assert anybody.post(dry_run.PATH, json={"asks": [good] * ASKS_MAX}).status_code == 200
    for _ in range(strangers.ADDRESS_AT_ONCE // ASKS_MAX):
        assert anybody.post(dry_run.PATH, json={"asks": [bad] * ASKS_MAX}).status_code == 200
    answer = anybody.post(dry_run.PATH, json={"asks": [bad] * ASKS_MAX})
    assert (answer.status_code, answer.json()["code"]) == (429, "strangers-paused")
