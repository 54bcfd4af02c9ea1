"""Row 15: what a new catalog changes for what was sold already is shown before it is changed."""

import pytest

from support.activation import Device
from support.browser import words
from support.served import Data
from support.site import Site
from tallystick.activation.core import catalog_file
from tallystick.activation.core.permissions import Role
from tallystick.activation.http.portal.catalog import ACCOUNTS_SHOWN

OLD = """
kinds: [AS-P, AS-B]
products:
  driver: {name: Driver, kinds: [AS-P, AS-B], features: {driver: 1}}
  logs: {name: Logs, kinds: [AS-P], features: {logs: 1}}
"""
NEW = """
kinds: [AS-P, AS-B]
products:
  driver: {name: Driver, kinds: [AS-P], features: {driver: 2}}
  logs: {name: Logs 2, kinds: [AS-P], features: {logs: 1}}
  more: {name: More, kinds: [AS-P], features: {more: 1}}
"""


@pytest.fixture
def sold(tmp_path):
    """A driver, of which two are held; logs were never sold."""
    data = Data(tmp_path / "activation").init()
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "new.yaml").write_text(NEW)
    data.ok("catalog", "load", str(tmp_path / "old.yaml"))
    (line,) = data.buy("driver=5").lines
    up, down = tmp_path / "up.tally", tmp_path / "down.tally"
    up.write_text(Device("roof").activate((line, 2)))
    data.ok("message", str(up), "-o", str(down))
    return data, line, tmp_path / "new.yaml"


def test_what_changes_is_shown_with_its_lines_and_a_dry_run_changes_nothing(sold):
    data, line, new = sold
    before = data.ok("catalog", "show")
    shown = data.ok("catalog", "load", str(new), "--dry-run")["changes"]
    assert data.ok("catalog", "show") == before
    where = {"product": "driver", "lines": [line.line_id], "accounts": [line.account], "held": 2}
    assert shown == [
        {**where, "what": "kinds", "now": ["AS-B", "AS-P"], "then": ["AS-P"]},
        {**where, "what": "features", "now": {"driver": 1}, "then": {"driver": 2}},
    ]
    assert data.ok("catalog", "load", str(new))["changes"] == shown
    assert data.ok("catalog", "load", str(new))["changes"] == []


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    made.activation.transact(lambda tx: tx.save_catalog(catalog_file.parse_catalog(OLD.encode())))
    (line,) = made.sell("Harbour", ("driver", 5)).lines
    made.activated(made.device("roof"), (line, 2))
    yield made
    made.close()


def features(site):
    return {one.sku: dict(one.features) for one in site.activation.read(lambda tx: tx.load_catalog()).products.values()}


def test_the_page_shows_it_too_and_loads_what_was_shown_and_nothing_else(site):
    reader = site.signed_in("ann@vendor.example")
    before = features(site)
    shown = reader.send("/catalog", "/catalog#load", catalog=NEW)
    said = words(shown.text)
    assert features(site) == before
    for part in (
        "New: more",
        "driver kinds AS-B, AS-P AS-P 1 2 Harbour",
        "what one unit carries 1 driver 2 driver 1 2",
    ):
        assert part in said, said
    fields = reader.last(shown.text, "/catalog#load")
    other = NEW.replace("driver: 2", "driver: 3")
    again = reader.client.post("/catalog", data={**fields, "catalog": other})
    assert "3 driver" in words(again.text)
    assert features(site) == before
    fields = reader.last(again.text, "/catalog#load")
    site.activation.transact(lambda tx: tx.save_catalog(catalog_file.parse_catalog(NEW.encode())))
    meanwhile = reader.client.post("/catalog", data=fields)  # somebody else was there: it is shown anew
    assert "2 driver 3 driver" in words(meanwhile.text)
    assert features(site)["driver"] == {"driver": 2}
    assert "Saved" in words(reader.client.post("/catalog", data=reader.last(meanwhile.text, "/catalog#load")).text)
    assert features(site)["driver"] == {"driver": 3}


def test_the_page_says_when_nothing_changes_and_what_is_wrong_and_counts_many_accounts(site):
    reader = site.signed_in("ann@vendor.example")
    assert "Nothing changes for what was sold already" in words(
        reader.send("/catalog", "/catalog#load", catalog=OLD).text
    )
    wrong = reader.send("/catalog", "/catalog#load", catalog="kinds: [")
    assert wrong.status_code == 422
    assert "Load it" not in words(wrong.text)
    for number in range(ACCOUNTS_SHOWN + 2):
        site.sell(f"Account {number}", ("driver", 1))
    assert "and 3 more" in words(reader.send("/catalog", "/catalog#load", catalog=NEW).text)


def test_nobody_else_is_shown_it(site):
    support = site.signed_in("sue@vendor.example", Role.VENDOR_SUPPORT)
    csrf = support.form("/me", "/me", do="password").fields["csrf"]
    refused = support.client.post("/catalog", data={"csrf": csrf, "catalog": NEW})
    assert refused.status_code == 403
    assert "2 driver" not in words(refused.text)
