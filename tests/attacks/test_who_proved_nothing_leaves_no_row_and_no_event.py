"""Rule 5: who proved nothing leaves no row and no event. A signed refusal without memory, and a counter."""

import pytest

from support.activation import Bench, Device
from tallystick.activation.core.ports import Enrolment, MessageOutcome, Policy
from tallystick.protocol.messages import AppliedGrant, LineWant


@pytest.fixture
def bench():
    return Bench()


def rows(bench):
    tables = bench.store.tables
    return {
        name: len(getattr(tables, name)) for name in ("messages", "field_servers", "incidents", "entries", "grants")
    }


def unproven(bench, device):
    """Everything that somebody can say who knows no activation ID and holds no grant of ours."""
    line = bench.buy(1)
    wrong = LineWant(line=line.line_id, quantity=1, proof="A" * 43)
    unknown = LineWant(line="7K3M9Q2B", quantity=1, proof="A" * 43)
    applied = AppliedGrant(number=7, digest="A" * 43)
    return [
        device.say("refresh"),
        device.say("refresh", applied=applied),
        device.say("activate", wants=[wrong]),
        device.say("activate", wants=[unknown]),
        device.say("activate", wants=[wrong], applied=applied),
        device.give_back(),
        device.say("confirm", applied=applied),
        device.relinquish(),
    ]


@pytest.mark.parametrize("enrolment", Enrolment)
def test_no_purpose_of_a_stranger_leaves_anything(enrolment):
    bench = Bench(policy=Policy(enrolment=enrolment))
    said = unproven(bench, Device("stranger"))
    before = rows(bench)
    for compact in said:
        for answer in bench.post(compact) + bench.post(compact, compact):
            assert (answer.outcome, answer.is_kept) == (MessageOutcome.REFUSED, False)
            assert bench.read(answer.reply[0]).code in {"not-enrolled", "grant-unknown"}
    bench.post(*said)
    assert rows(bench) == before


def test_who_proved_something_is_kept(bench):
    line, device = bench.buy(1), Device("a")
    (answer,) = bench.post(device.activate((line, 1)))
    assert answer.is_kept
    (answer,) = bench.post(Device("b", host_id="host-a").activate((line, 1)))  # proved, and refused all the same
    assert (answer.outcome, answer.is_kept) == (MessageOutcome.REFUSED, True)


def test_what_was_forgotten_hurts_nobody_once_its_sender_is_known(bench):
    """The same message may be answered by other bytes until then, accuses nobody, and is answered alike from then on."""
    line, device = bench.buy(2), Device("a")
    early = device.say("refresh")
    (first,) = bench.post(early)
    asked = device.activate((line, 1))
    grant, compact = bench.grant(asked)
    device.take(compact)
    (later,) = bench.post(early)
    assert bench.read(later.reply[0]).code == "superseded"
    assert bench.post(early) == [later]
    assert first.reply != later.reply
    assert bench.incidents() == []
    assert bench.where(line)[:2] == (1, 1)


def test_two_messages_of_one_sequence_accuse_nobody_when_the_first_was_forgotten(bench):
    line, device = bench.buy(1), Device("a")
    forgotten = device.say("refresh")
    device.sequence -= 1
    proven = device.activate((line, 1))
    answers = bench.post(forgotten) + bench.post(proven)
    assert [answer.outcome for answer in answers] == [MessageOutcome.REFUSED, MessageOutcome.GRANTED]
    assert bench.incidents() == []
