"""Row 15: what a new catalog changes for what was sold already is shown before it is changed."""

import pytest

from support.activation import Device
from support.served import Data

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
