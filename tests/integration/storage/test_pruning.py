"""Pruning takes what nobody needs, and changes no decision that counts."""

import pytest

from support.activation import DAY, START, Device
from tallystick.activation.core import interventions
from tallystick.activation.core.ports import IncidentKind, MessageOutcome
from tallystick.activation.storage import prune, pruning


def pruned(office, before=None):
    return prune(office.store, before=office.now if before is None else before, advance=lambda _: None)


@pytest.fixture
def line(office):
    return office.buy(100)


def live(office, line, name, rounds=4):
    """A field server that activates, returns and confirms, and says so; what it said and heard."""
    device, said = Device(name), []
    for _ in range(rounds):
        for message in (lambda: device.activate((line, 2)), device.give_back, lambda: device.say("confirm")):
            compact = message()
            (answer,) = office.post(compact)
            said.append((compact, answer))
            if answer.outcome is MessageOutcome.GRANTED:
                device.take(answer.reply[0])
            office.now += DAY
    return device, said


def test_what_is_old_and_overtaken_goes_and_the_books_still_add_up(office, line):
    _, said = live(office, line, "a")
    found = pruned(office)
    assert (found.messages, found.messages_kept) == (11, 1)
    assert (found.grants, found.grants_kept) == (7, 1)
    newest, answer = said[-1]
    assert office.post(newest) == [answer]
    assert office.audit().entries == 13
    assert pruned(office).messages == 0


def test_the_younger_ones_stay_the_same_bytes(office, line):
    _, said = live(office, line, "a")
    kept = pruned(office, before=START + 6 * DAY)
    assert kept.messages == 6
    for compact, answer in said[6:]:
        assert office.post(compact) == [answer]


def test_an_old_message_again_has_no_effect_and_accuses_nobody(office, line):
    _, said = live(office, line, "a")
    where = office.where(line)
    pruned(office)
    for compact, _ in said[:-1]:
        (answer,) = office.post(compact)
        assert answer.code == "superseded"
    assert office.where(line) == where
    assert office.store.read(lambda tx: tx.find_incidents()) == []


def test_it_goes_on_as_if_nothing_had_been_pruned(office, line):
    device, _ = live(office, line, "a")
    pruned(office)
    (answer,) = office.post(device.activate((line, 5)))
    assert answer.outcome is MessageOutcome.GRANTED
    assert office.where(line) == (95, 5, 0, 0)
    office.audit()


def test_a_grant_that_may_be_applied_stays_however_old(office, line):
    device = Device("a")
    (first,) = office.post(device.activate((line, 5)))
    for quantity in (3, 2):
        office.post(device.activate((line, quantity)))
    office.now += 1000 * DAY
    assert pruned(office).grants == 0
    device.take(first.reply[0])
    (answer,) = office.post(device.say("confirm"))
    assert answer.outcome is MessageOutcome.CREDITED
    assert office.where(line) == (95, 2, 3, 0)


def test_a_rolled_back_disk_is_still_noticed(office, line):
    device, _ = live(office, line, "a", rounds=2)
    old = device.copy()
    live_again = device
    for _ in range(2):
        (answer,) = office.post(live_again.activate((line, 1)))
        live_again.take(answer.reply[0])
        office.post(live_again.say("refresh"))
        office.now += DAY
    pruned(office)
    old.sequence = live_again.sequence
    office.post(old.say("refresh"))
    assert [one.kind for one in office.store.read(lambda tx: tx.find_incidents())] == [IncidentKind.ROLLBACK]


def test_of_one_that_is_lost_or_on_hold_everything_stays(office, line):
    held, _ = live(office, line, "held")
    lost, _ = live(office, line, "lost")
    office.post(held.copy().say("refresh", sequence=1))
    office.store.transact(
        lambda tx: interventions.declare_lost(
            tx, office.signer, lost.id, reason="burnt", by="me", policy=office.policy, now=office.now
        )
    )
    found = pruned(office, before=office.now + DAY)
    assert (found.messages, found.grants) == (0, 0)


def test_strangers_that_were_refused_leave_nothing_to_forget(office, line):
    office.post(Device("stranger").say("refresh"))
    found = pruned(office, before=office.now + 1)
    assert (found.messages, found.messages_kept) == (0, 0)


def test_many_pages_are_walked(office, line, monkeypatch):
    monkeypatch.setattr(pruning, "ROWS", 10)
    monkeypatch.setattr(pruning, "_MESSAGES", pruning._MESSAGES.limit(10))
    monkeypatch.setattr(pruning, "_GRANTS", pruning._GRANTS.limit(10))
    for number in range(6):
        live(office, line, f"{number}", rounds=3)
    found = pruned(office)
    assert (found.messages_kept, found.grants_kept) == (6, 6)
    office.audit()
