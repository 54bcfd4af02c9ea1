"""Nothing stops at a thousand: restore, freeze, what is still out, prune, retire, verify, copy, on both engines.

``MANY`` is more than a page of anything; the last one is what a loop that stops too early forgets.
"""

import pytest
from msgspec.structs import replace
from sqlalchemy import text

from support.activation import DAY, PRODUCTS, START, Device, seeded, serve_until
from tallystick.activation.core import interventions
from tallystick.activation.core.freezes import survey_restore
from tallystick.activation.core.ports import Changes, Status
from tallystick.activation.storage import copy_database, open_store, prune
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import EntitlementId, new_line_id
from tallystick.domain.ledger import Account, Balances, apply_booking

pytestmark = pytest.mark.slow

MANY = 1_050


@pytest.fixture
def crowd(office):
    """So many lines, and a field server on each, which has applied its grant."""
    lines, entries = [], []
    for number in range(MANY):
        line_id = new_line_id(seeded(f"line {number}"))
        balances, entry = apply_booking(
            Balances(),
            line_id=line_id,
            source=Account.BOUGHT,
            target=Account.AVAILABLE,
            quantity=3,
            device_id=None,
            cause="bought",
            booked_at=START,
        )
        secret = seeded(f"secret {number}", 16)
        lines.append(
            Line(
                line_id=line_id,
                entitlement_id=EntitlementId("EN-many"),
                account="acme",
                product=PRODUCTS["smartdriver"],
                secret=secret,
                balances=balances,
            )
        )
        entries.append(entry)
    entitlement = Entitlement(
        entitlement_id=EntitlementId("EN-many"), account="acme", created_at=START, lines=tuple(lines)
    )
    office.store.transact(lambda tx: tx.save_entitlement(entitlement, entries))
    devices = [Device(f"d{number}") for number in range(MANY)]
    answers = office.post(*(device.activate((line, 2)) for device, line in zip(devices, lines, strict=True)))
    for device, answer in zip(devices, answers, strict=True):
        device.take(answer.reply[0])
    return lines, devices


def everybody(office, devices):
    return office.store.read(lambda tx: tx.load_field_servers_for_update([device.id for device in devices]))


def all_lines(office, lines):
    return office.store.read(lambda tx: tx.load_lines_for_update([line.line_id for line in lines]))


def test_a_restore_freezes_and_jumps_every_one_and_a_lift_lifts_every_one(office, crowd):
    lines, devices = crowd
    found = office.store.transact(lambda tx: interventions.announce_restore(tx, office.signer, now=office.now))
    assert found == (MANY, MANY)
    assert all(line.frozen for line in all_lines(office, lines).values())
    assert all(server.recovering is not None for server in everybody(office, devices).values())
    still_out = office.store.read(lambda tx: survey_restore(tx, None))
    assert (still_out.unheard, still_out.unheard_rights) == (MANY, 2 * MANY)
    assert (still_out.below_zero, still_out.restored_at) == (0, office.now)
    last = max(line.line_id for line in lines)
    of_one = office.store.read(lambda tx: survey_restore(tx, [last]))
    assert (of_one.unheard, of_one.unheard_rights) == (MANY, 2)
    assert office.store.transact(lambda tx: interventions.lift_freeze(tx, office.signer, None, now=office.now)) == MANY
    assert not any(line.frozen for line in all_lines(office, lines).values())
    assert office.audit().lines == MANY


def test_every_waiting_period_that_is_over_ends_and_every_right_is_back(office, crowd):
    lines, devices = crowd
    for start in range(0, MANY, 350):
        part = devices[start : start + 350]
        office.store.transact(lambda tx, part=part: [declare(tx, office, device) for device in part])
    office.now += 15 * DAY
    office.store.transact(lambda tx: serve_until(tx, office.signer, office.now))
    settled = office.store.transact(lambda tx: interventions.settle_quarantines(tx, office.signer, now=office.now))
    assert len(settled) == MANY
    assert {server.status for server in everybody(office, devices).values()} == {Status.RETIRED}
    assert {line.balances.available for line in all_lines(office, lines).values()} == {3}
    office.audit()


def declare(tx, office, device):
    interventions.declare_lost(
        tx, office.signer, device.id, reason="burnt", by="al", policy=office.policy, now=office.now, override_by="al"
    )


def test_verify_sees_the_last_of_many_and_a_copy_has_it(office, crowd, tmp_path):
    lines, devices = crowd
    report = office.audit()
    assert (report.lines, report.entries, report.field_servers) == (MANY, 2 * MANY, MANY)
    target = open_store(f"sqlite:///{tmp_path / 'target.sqlite'}", create=True)
    copied = {}
    copy_database(office.store, target, now=office.now, advance=copied.__setitem__)
    assert (copied["lines"], copied["field_servers"], copied["messages"]) == (MANY, MANY, MANY)
    target.close()


def test_the_ledger_of_one_line_may_be_longer_than_any_page(office):
    """Past the ten thousand that are read at once."""
    line = office.buy(10)
    balances, entries = (
        office.store.read(lambda tx: tx.load_lines_for_update([line.line_id]))[line.line_id].balances,
        [],
    )
    for number in range(10_101):
        way = (Account.BOUGHT, Account.AVAILABLE) if number % 2 else (Account.AVAILABLE, Account.RETIRED)
        balances, entry = apply_booking(
            balances,
            line_id=line.line_id,
            source=way[0],
            target=way[1],
            quantity=1,
            device_id=None,
            cause="x",
            booked_at=START,
        )
        entries.append(entry)
    save_booked(office, replace(line, balances=balances), entries)
    assert office.audit().entries == 10_102
    wrong = text("UPDATE entries SET quantity = 2 WHERE number = 10102")
    office.store.transact(lambda tx: tx.connection.execute(wrong))
    with pytest.raises(AssertionError):
        office.audit()


def save_booked(office, line, entries):
    def work(tx):
        tx.load_lines_for_update([line.line_id])
        tx.save(Changes(lines={line.line_id: line}, entries=entries))

    office.store.transact(work)


def test_a_prune_goes_through_every_page_and_keeps_the_newest_of_each(office, crowd):
    _, devices = crowd
    for _ in range(2):
        answers = office.post(*(device.say("refresh") for device in devices))
        for device, answer in zip(devices, answers, strict=True):
            device.take(answer.reply[0])
    office.now += 100 * DAY
    pruned = prune(office.store, before=office.now, advance=lambda _: None)
    assert (pruned.messages, pruned.messages_kept) == (2 * MANY, MANY)
    office.audit()
