"""``verify`` finds every contradiction between ledger, balances, holdings and outstanding grants."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from support.activation import DAY, Bench, Device
from tallystick.activation.core import verification
from tallystick.activation.core.ports import Holding
from tallystick.domain.ledger import Account, apply_booking


@pytest.fixture
def bench() -> Bench:
    """One line, partly held, partly returning, partly in quarantine."""
    bench = Bench()
    line = bench.buy(9)
    one, two = Device("a"), Device("b")
    for device, quantity in ((one, 3), (two, 2)):
        _, compact = bench.grant(device.activate((line, quantity)))
        device.take(compact)
        bench.post(device.say("refresh"))
    bench.grant(one.give_back((line, 1)))
    bench.declare_lost(two)
    assert bench.where(line) == (4, 1, 2, 2)
    return bench


def verify(bench) -> verification.Report:
    return bench.store.transact(verification.verify_books)


def alter(bench, table: str, **changed) -> None:
    """Change the last row of a table behind everybody's back."""
    rows = getattr(bench.store.tables, table)
    key = list(rows)[-1]
    rows[key] = replace(rows[key], **changed)


def test_sound_books_are_green_and_counted(bench):
    report = verify(bench)
    assert (report.is_green, report.faults) == (True, ())
    assert (report.lines, report.entries, report.field_servers) == (1, 5, 2)


def test_nothing_at_all_is_green():
    assert verify(Bench()).is_green


def test_a_settled_quarantine_is_green(bench):
    bench.now += 14 * DAY
    bench.settle()
    assert verify(bench).is_green


@pytest.mark.parametrize("place", range(5))
@pytest.mark.parametrize("changed", [{"quantity": 8}, {"cause": "x"}, {"chain": "0" * 64}, {"target": Account.RETIRED}])
def test_an_altered_entry_is_a_fault(bench, place, changed):
    entries = bench.store.tables.entries
    key = sorted(entries)[place]
    entries[key] = replace(entries[key], **changed)
    assert any(f"entry {place + 1} " in fault for fault in verify(bench).faults)


@pytest.mark.parametrize("place", range(5))
def test_a_missing_entry_is_a_fault(bench, place):
    entries = bench.store.tables.entries
    del entries[sorted(entries)[place]]
    assert not verify(bench).is_green


@pytest.mark.parametrize(
    "changed", [{"available": 5}, {"held": 2}, {"bought": 10, "available": 5}, {"retired": 1}, {"chain": ""}], ids=str
)
def test_altered_balances_are_a_fault(bench, changed):
    line = next(iter(bench.store.tables.lines.values()))
    alter(bench, "lines", balances=replace(line.balances, **changed))
    assert not verify(bench).is_green


def test_a_sound_ledger_that_does_not_fit_the_grants_is_a_fault(bench):
    """Somebody with the database made rights available by a well-formed, well-chained entry."""
    (line,) = bench.store.tables.lines.values()
    balances, entry = apply_booking(
        line.balances,
        line_id=line.line_id,
        source=Account.RETURNING,
        target=Account.AVAILABLE,
        quantity=2,
        device_id=None,
        cause="time: hm",
        booked_at=1,
    )
    bench.store.tables.entries[line.line_id, entry.number] = entry
    alter(bench, "lines", balances=balances)
    (fault,) = verify(bench).faults
    assert "0 returning in the books, 2 by the reservation rule" in fault


def test_a_field_server_whose_grants_vanished_is_a_fault(bench):
    for key, server in bench.store.tables.field_servers.items():
        if server.outstanding:
            bench.store.tables.field_servers[key] = server.changed(outstanding=())
            break
    assert any("does not fit its grants" in fault for fault in verify(bench).faults)


def test_a_holding_that_says_something_else_is_a_fault(bench):
    alter(bench, "holdings", held=7)
    assert any("the holding of" in fault for fault in verify(bench).faults)


def test_a_missing_holding_is_a_fault(bench):
    holdings = bench.store.tables.holdings
    (device_id, _) = key = next(iter(holdings))
    del holdings[key]
    (fault,) = verify(bench).faults
    assert "no holding" in fault
    assert device_id in fault


def test_a_holding_of_a_field_server_that_is_not_there_is_a_fault(bench):
    (line,) = bench.store.tables.lines.values()
    ghost = Holding(device_id="g" * 43, line_id=line.line_id, held=1)
    bench.store.tables.holdings[ghost.device_id, line.line_id] = ghost
    (fault,) = verify(bench).faults
    assert ghost.device_id in fault


def test_all_faults_are_named_not_only_the_first(bench):
    other = bench.buy(1)
    alter(bench, "lines", balances=replace(other.balances, available=0, retired=1))
    alter(bench, "holdings", held=7)
    faults = verify(bench).faults
    assert len(faults) == 2
    assert any(other.line_id in fault for fault in faults)
