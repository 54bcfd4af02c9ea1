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
