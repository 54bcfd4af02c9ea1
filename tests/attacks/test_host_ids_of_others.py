"""A host id is unique in one account: nobody asks with it who else is here, takes it from another, or enrols for nothing."""

import pytest

from support.activation import Bench, Device
from tallystick.activation.core.ports import IncidentKind, Status


@pytest.fixture
def bench():
    return Bench()


def test_another_account_has_the_same_host_id_and_neither_learns_it(bench):
    bench.grant(Device("a", host_id="same").activate((bench.buy(1), 1)))
    bench.grant(Device("b", host_id="same").activate((bench.buy(1, account="harbour"), 1)))
    assert bench.incidents() == []


def test_in_one_account_it_is_refused_at_first_contact_and_noted(bench):
    line = bench.buy(2)
    bench.grant(Device("a", host_id="same").activate((line, 1)))
    assert bench.refused(Device("b", host_id="same").activate((line, 1))).code == "host-id-taken"
    assert bench.incidents() == [IncidentKind.HOST_ID_TAKEN]


def test_a_wish_for_nothing_enrols_nobody(bench):
    line = bench.buy(2)
    for number in range(10):
        device = Device(f"fake {number}", host_id=f"host {number}")
        assert bench.refused(device.activate((line, 0))).code == "not-enrolled"
        assert device.id not in bench.store.tables.field_servers


def test_a_line_enrols_as_many_as_it_can_hold(bench):
    """Whoever knows the activation ID is told why nothing is left, as often as they ask, and no row is left behind."""
    line, first = bench.buy(2), Device("first")
    first.take(bench.post(first.activate((line, 2)))[0].reply[0])
    for number in range(20):
        device = Device(f"fake {number}", host_id=f"host {number}")
        (answer,) = bench.post(device.activate((line, 1)))
        assert bench.read(answer.reply[0]).code == "not-enough"
        assert answer.is_kept is (number < 2)
        bench.post(device.say("refresh"))  # an empty grant does not make place for another one
    assert len(bench.store.tables.field_servers) == 3
    assert bench.incidents() == []
    again = Device("honest", host_id="host honest")
    first.take(bench.post(first.give_back((line, 1)))[0].reply[0])
    bench.post(first.say("confirm"))
    bench.grant(again.activate((line, 1)))  # who gets something is enrolled, whoever came before


def test_one_batch_of_first_contacts_enrols_no_more(bench):
    line = bench.buy(1)
    bench.grant(Device("first").activate((line, 1)))
    bench.post(*(Device(f"fake {number}", host_id=f"host {number}").activate((line, 1)) for number in range(9)))
    assert len(bench.store.tables.field_servers) == 2


def test_a_change_is_checked_like_a_first_contact(bench):
    line = bench.buy(2)
    first, second = Device("a", host_id="one"), Device("b", host_id="two")
    for device in (first, second):
        device.take(bench.post(device.activate((line, 1)))[0].reply[0])
    second.host_id = "one"
    bench.post(second.say("refresh"))
    assert bench.store.tables.field_servers[second.id].host_id == "two"
    assert bench.store.tables.field_servers[second.id].status is Status.ACTIVE
    assert bench.refused(second.activate((line, 2))).code == "host-id-taken"
    assert bench.incidents() == [IncidentKind.HOST_ID_TAKEN]
