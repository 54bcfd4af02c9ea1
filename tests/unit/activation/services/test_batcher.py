"""Batches: shared commits, no waiting for company, no half-done batch, and a stop after a contradiction."""

import asyncio
import threading
import time

import pytest

from support.activation import START, Bench, Device
from tallystick.activation.core import issuing, reading
from tallystick.activation.core.ports import MessageOutcome, Policy
from tallystick.activation.services import batcher as batcher_service
from tallystick.activation.services.batcher import Batcher
from tallystick.errors import Error, InvariantError
from tallystick.protocol import envelope

SECONDS = 10


class SlowStore:
    """The store of a bench that can be held up, and counts its transactions."""

    def __init__(self, store):
        self.store = store
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.commits = 0
        self.error = None

    def transact(self, work):
        self.entered.set()
        assert self.open.wait(SECONDS)
        if self.error is not None:
            raise self.error
        result = self.store.transact(work)
        self.commits += 1
        return result


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def store(bench):
    return SlowStore(bench.store)


@pytest.fixture
def broken():
    return []


@pytest.fixture
def batcher(bench, store, broken):
    batcher = Batcher(store, bench.signer, Policy(), clock=lambda: START, on_broken=broken.append)
    batcher.start()
    yield batcher
    store.open.set()
    batcher.close()


def read(bench, compact):
    return reading.read_message(envelope.open_envelope(compact.encode()), bench.signer.keyset)


def code_of(future):
    with pytest.raises(Error) as refused:
        future.result(SECONDS)
    return refused.value.code


def test_a_lone_message_does_not_wait_for_company(bench, batcher, store):
    line = bench.buy(5)
    (answer,) = batcher.submit([read(bench, Device("a").activate((line, 1)))]).result(SECONDS)
    assert (answer.outcome, store.commits) == (MessageOutcome.GRANTED, 1)


def test_what_came_meanwhile_shares_a_commit_and_each_gets_its_own_answers(bench, batcher, store):
    line = bench.buy(50)
    messages = [read(bench, Device(f"d{number}").activate((line, 1))) for number in range(20)]
    store.open.clear()
    first = batcher.submit(messages[:1])
    assert store.entered.wait(SECONDS)
    others = [batcher.submit(messages[number : number + 2]) for number in range(1, 19, 2)]
    store.open.set()
    for future, start in zip([first, *others], [0, *range(1, 19, 2)], strict=True):
        answers = future.result(SECONDS)
        assert [answer.digest for answer in answers] == [
            message.digest for message in messages[start : start + len(answers)]
        ]
    assert store.commits == 2


def test_a_batch_is_bounded_but_a_large_submission_goes_through(bench, batcher, store, monkeypatch):
    monkeypatch.setattr(batcher_service, "BATCH_MAX", 4)
    line = bench.buy(50)
    messages = [read(bench, Device(f"d{number}").activate((line, 1))) for number in range(15)]
    store.open.clear()
    futures = [batcher.submit(messages[:1])]
    assert store.entered.wait(SECONDS)
    futures += [batcher.submit([message]) for message in messages[1:9]] + [batcher.submit(messages[9:])]
    store.open.set()
    assert sum(len(future.result(SECONDS)) for future in futures) == 15
    assert store.commits == 4


def test_a_failed_batch_leaves_nothing_and_can_be_sent_again(bench, batcher, store, broken):
    line = bench.buy(5)
    message = read(bench, Device("a").activate((line, 1)))
    store.error = Error("database-unavailable", expected="x", seen="y")
    assert code_of(batcher.submit([message])) == "database-unavailable"
    assert not bench.store.tables.messages
    store.error = None
    assert batcher.submit([message]).result(SECONDS)[0].outcome is MessageOutcome.GRANTED
    assert broken == []


def test_a_message_that_brings_out_a_fault_fails_alone(bench, batcher, store, monkeypatch):
    line = bench.buy(5)
    poison, good = (read(bench, Device(name).activate((line, 1))) for name in ("poison", "good"))
    real = issuing.process

    def process(batch, *arguments, **options):
        if poison in batch:
            raise ZeroDivisionError
        return real(batch, *arguments, **options)

    monkeypatch.setattr(issuing, "process", process)
    store.open.clear()
    first = batcher.submit([good])
    assert store.entered.wait(SECONDS)
    futures = [batcher.submit([poison]), batcher.submit([good])]
    store.open.set()
    assert first.result(SECONDS)[0].outcome is MessageOutcome.GRANTED
    assert code_of(futures[0]) == "invariant"
    assert futures[1].result(SECONDS)[0].outcome is MessageOutcome.GRANTED
    assert batcher.broken is None


def test_after_a_contradiction_nothing_is_written_and_everybody_is_told(bench, batcher, store, broken):
    line = bench.buy(5)
    messages = [read(bench, Device(name).activate((line, 1))) for name in "abc"]
    store.open.clear()
    store.error = InvariantError("this", "that")
    first = batcher.submit(messages[:1])
    assert store.entered.wait(SECONDS)
    second = batcher.submit(messages[1:2])
    store.open.set()
    assert code_of(first) == code_of(second) == "invariant"
    store.error = None
    assert code_of(batcher.submit(messages[2:])) == "invariant"
    assert broken == [batcher.broken]
    assert (store.commits, not bench.store.tables.messages) == (0, True)


def test_too_many_at_once_are_told_to_come_back(bench, batcher, store, monkeypatch):
    monkeypatch.setattr(batcher_service, "WAITING_MAX", 2)
    line = bench.buy(5)
    messages = [read(bench, Device(f"d{number}").activate((line, 1))) for number in range(5)]
    store.open.clear()
    futures = [batcher.submit(messages[:1])]
    assert store.entered.wait(SECONDS)
    futures.append(batcher.submit(messages[1:3]))
    assert code_of(batcher.submit(messages[3:])) == "too-busy"
    store.open.set()
    assert [len(future.result(SECONDS)) for future in futures] == [1, 2]
    assert len(batcher.submit(messages[3:]).result(SECONDS)) == 2


def test_closing_answers_what_waits_and_refuses_what_comes_later(bench, store):
    line = bench.buy(5)
    batcher = Batcher(store, bench.signer, Policy(), clock=lambda: START, on_broken=lambda _: None)
    batcher.start()
    store.open.clear()
    futures = [batcher.submit([read(bench, Device(name).activate((line, 1)))]) for name in "ab"]
    threading.Timer(0.05, store.open.set).start()
    batcher.close()
    assert all(future.result(SECONDS)[0].outcome is MessageOutcome.GRANTED for future in futures)
    assert code_of(batcher.submit([read(bench, Device("c").activate((line, 1)))])) == "database-unavailable"


def test_who_gave_up_waiting_disturbs_nobody(bench, batcher, store):
    line = bench.buy(5)
    messages = [read(bench, Device(name).activate((line, 1))) for name in "abc"]
    store.open.clear()
    futures = [batcher.submit(messages[:1])]
    assert store.entered.wait(SECONDS)
    futures += [batcher.submit([message]) for message in messages[1:]]
    assert futures[1].cancel()
    store.open.set()
    assert futures[2].result(SECONDS)[0].outcome is MessageOutcome.GRANTED
    assert batcher.submit(messages[1:2]).result(SECONDS)[0].outcome is MessageOutcome.GRANTED


@pytest.fixture
def hurried(bench, store):
    """One that has little patience with its database."""
    batcher = Batcher(
        store, bench.signer, Policy(), clock=lambda: START, on_broken=lambda _: None, patience_seconds=0.05
    )
    batcher.start()
    yield batcher
    store.open.set()
    batcher.close()


def test_a_commit_that_never_ends_keeps_nobody_waiting_and_the_next_ones_go_on_when_it_does(bench, store, hurried):
    line = bench.buy(5)
    messages = [read(bench, Device(name).activate((line, 1))) for name in "abc"]
    store.open.clear()
    first = hurried.submit(messages[:1])
    assert store.entered.wait(SECONDS)
    second = hurried.submit(messages[1:2])
    assert [code_of(first), code_of(second)] == ["database-unavailable"] * 2
    assert code_of(hurried.submit(messages[2:])) == "database-unavailable"
    store.open.set()
    deadline = time.monotonic() + SECONDS
    while True:
        again = hurried.submit(messages[:1])
        if again.exception(SECONDS) is None:
            break
        assert time.monotonic() < deadline
    assert again.result()[0].outcome is MessageOutcome.GRANTED
    assert bench.where(line) == (4, 1, 0, 0)  # it was done, once
    assert hurried.submit(messages[1:]).result(SECONDS)[1].outcome is MessageOutcome.GRANTED


def test_a_commit_that_never_ends_does_not_keep_the_process(bench, store, hurried):
    line = bench.buy(5)
    store.open.clear()
    stuck = hurried.submit([read(bench, Device("a").activate((line, 1)))])
    assert store.entered.wait(SECONDS)
    hurried.close()
    assert code_of(stuck) == "database-unavailable"


def test_an_event_loop_that_does_not_come_to_rest_is_not_waited_for_without_end(bench, batcher, store):
    line = bench.buy(1)
    message = read(bench, Device("a").activate((line, 1)))

    async def busy():
        answers = batcher.submit_soon([message])
        assert store.entered.wait(SECONDS)  # the loop does nothing else meanwhile
        return await answers

    (answer,) = asyncio.run(busy())
    assert answer.outcome is MessageOutcome.GRANTED


def test_what_an_event_loop_reads_in_one_turn_is_one_batch(bench, batcher, store):
    line = bench.buy(50)
    messages = [read(bench, Device(f"d{number}").activate((line, 1))) for number in range(20)]

    async def turn():
        return await asyncio.gather(*[batcher.submit_soon([message]) for message in messages])

    answers = asyncio.run(turn())
    assert [answer.digest for (answer,) in answers] == [message.digest for message in messages]
    assert store.commits == 1


def test_a_loop_that_was_closed_keeps_nobody_waiting(bench, batcher, store):
    line = bench.buy(2)
    first, second = [read(bench, Device(name).activate((line, 1))) for name in "ab"]
    store.open.clear()

    async def leave():
        batcher.submit_soon([first])
        assert await asyncio.to_thread(store.entered.wait, SECONDS)

    asyncio.run(leave())
    store.open.set()
    (answer,) = batcher.submit([second]).result(SECONDS)
    assert answer.outcome is MessageOutcome.GRANTED
    assert bench.where(line) == (0, 2, 0, 0)
