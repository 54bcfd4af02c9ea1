"""QR codes that people read, on both databases: each person has an own heap, and what is old goes."""

import dataclasses

import pytest

from support.activation import START
from tallystick.activation.core.people import Person
from tallystick.activation.core.permissions import Role
from tallystick.activation.storage.frames import KEPT_SECONDS
from tallystick.protocol.frames import make_frames

PERSON = Person(person_id="PE-A", email="a@example.com", name="A", role=Role.CUSTOMER_TECHNICIAN, account="acme")


@pytest.fixture
def store(office):
    other = dataclasses.replace(PERSON, person_id="PE-B", email="b@example.com")
    office.store.transact(lambda tx: [tx.people.save_person(person) for person in (PERSON, other)])
    return office.store


def test_frames_are_kept_for_each_person_apart_and_give_the_file(store):
    made = make_frames(bytes(range(256)) * 3)

    def keep(tx):
        tx.frames.lock("PE-A")
        for frame in reversed(made):
            tx.frames.save("PE-A", frame, now=START + frame.number)
        tx.frames.save("PE-B", made[0], now=START)

    store.transact(keep)
    ((gathering, read_at),) = store.read(lambda tx: tx.frames.load("PE-A"))
    assert gathering.content() == bytes(range(256)) * 3
    assert read_at == START + len(made)
    ((others, _),) = store.read(lambda tx: tx.frames.load("PE-B"))
    assert others.missing == list(range(2, len(made) + 1))
    store.transact(lambda tx: tx.frames.forget("PE-A", gathering.transfer))
    assert store.read(lambda tx: tx.frames.load("PE-A")) == []
    assert len(store.read(lambda tx: tx.frames.load("PE-B"))) == 1


def test_a_transfer_is_forgotten_a_month_after_its_last_frame_and_no_earlier(store):
    made = make_frames(bytes(range(256)) * 3)
    store.transact(lambda tx: tx.frames.save("PE-A", made[0], now=START))
    store.transact(lambda tx: tx.frames.save("PE-A", made[1], now=START + 100))
    store.transact(lambda tx: tx.frames.forget_old(now=START + 100 + KEPT_SECONDS))
    ((gathering, _),) = store.read(lambda tx: tx.frames.load("PE-A"))
    assert sorted(gathering.pieces) == [1, 2]
    store.transact(lambda tx: tx.frames.forget_old(now=START + 101 + KEPT_SECONDS))
    assert store.read(lambda tx: tx.frames.load("PE-A")) == []
