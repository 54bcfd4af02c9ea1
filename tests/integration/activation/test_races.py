"""Two at once: threads with a store each, as two processes would have."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.activation import START, Device, TestSigner, seeded
from tallystick.activation.core import entitlements, issuing, reading, verification
from tallystick.activation.core.ports import MessageOutcome, Policy
from tallystick.activation.storage import open_store
from tallystick.domain.catalog import Catalog, Product
from tallystick.protocol import envelope

SIGNER = TestSigner()
CATALOG = Catalog(
    kinds=("AS-P",),
    products={"one": Product(sku="one", name="One", kinds=frozenset({"AS-P"}), features={"one": 1})},
)


@pytest.fixture
def line(store):
    store.transact(lambda tx: tx.save_catalog(CATALOG))
    numbers = iter(range(100))
    made = store.transact(
        lambda tx: entitlements.create_entitlement(
            tx,
            SIGNER,
            account="acme",
            products=[("one", 10)],
            expires_at=None,
            random_bytes=lambda count: seeded(f"race {next(numbers)}", count),
            by="test",
            now=START,
        )
    )
    return made.lines[0]


def post_at_once(database, *batches):
    """Each batch in a thread and with a store of its own, all at the same moment."""
    barrier = threading.Barrier(len(batches))

    def post(compacts):
        store = open_store(database)
        try:
            batch = [reading.read_message(envelope.open_envelope(one.encode()), SIGNER.keyset) for one in compacts]
            barrier.wait()
            return store.transact(lambda tx: issuing.process(batch, tx, signer=SIGNER, policy=Policy(), now=START))
        finally:
            store.close()

    with ThreadPoolExecutor(len(batches)) as pool:
        return list(pool.map(post, batches))


def check(store, line, *, held):
    assert store.read(verification.verify_books).is_green
    (now,) = store.read(lambda tx: tx.find_lines())
    assert (now.balances.held, now.balances.available) == (held, 10 - held)


def test_the_same_message_at_once_gets_the_same_bytes(store, database, line):
    message = Device("a").activate((line, 3))
    answers = post_at_once(database, *[[message]] * 6)
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0].outcome is MessageOutcome.GRANTED
    check(store, line, held=3)


def test_first_contact_at_once_enrols_once(store, database, line):
    device = Device("a")
    messages = [device.activate((line, quantity)) for quantity in (1, 2, 3, 4)]
    answers = post_at_once(database, *[[message] for message in messages])
    assert {answer.outcome for (answer,) in answers} <= {MessageOutcome.GRANTED, MessageOutcome.REFUSED}
    assert len(store.read(lambda tx: tx.find_field_servers())) == 1
    assert store.read(lambda tx: tx.find_incidents()) == []
    assert store.read(verification.verify_books).is_green


def test_two_first_contacts_with_one_host_id_do_not_both_enrol(store, database, line):
    messages = [Device(name, host_id="one-host").activate((line, 1)) for name in "abcd"]
    answers = post_at_once(database, *[[message] for message in messages])
    assert [answer.code for (answer,) in answers].count("host-id-taken") == 3
    check(store, line, held=1)


def test_the_last_units_go_to_as_many_as_there_are(store, database, line):
    messages = [Device(f"d{number}").activate((line, 2)) for number in range(8)]
    answers = post_at_once(database, *[[message] for message in messages])
    outcomes = [answer.outcome for (answer,) in answers]
    assert (outcomes.count(MessageOutcome.GRANTED), outcomes.count(MessageOutcome.REFUSED)) == (5, 3)
    check(store, line, held=10)


def test_large_batches_that_overlap_do_not_block_each_other_for_ever(store, database, line):
    messages = [Device(f"d{number}").activate((line, 1)) for number in range(10)]
    answers = post_at_once(database, messages, messages[::-1], messages[5:] + messages[:5])
    by_digest = {}
    for batch in answers:
        for answer in batch:
            assert by_digest.setdefault(answer.digest, answer) == answer
    check(store, line, held=10)
