"""What a dry run says is what the messages then get; nothing is kept, and nobody learns what is not theirs."""

import copy

import pytest

from support.activation import Bench, Device
from tallystick.activation.core import foreseeing
from tallystick.activation.core.ports import Enrolment, Policy
from tallystick.domain.ids import ActivationId
from tallystick.protocol import messages
from tallystick.protocol.dry_run import Ask, EndState, dry_run_proof


def ask(device, *wants, purpose="activate", kind="AS-P"):
    states = [
        EndState(line=line.line_id, quantity=quantity, proof=dry_run_proof(line.activation_id, device.id))
        for line, quantity in wants
    ]
    return Ask(device_id=device.id, kind=kind, purpose=purpose, wants=tuple(states))


def foresee(bench, *asks):
    return foresee_and_count(bench, *asks)[0]


def foresee_and_count(bench, *asks):
    """The answers, and how many of the asks proved nothing."""
    before = copy.deepcopy(bench.store.tables)
    answers, strangers = bench.store.transact(
        lambda tx: foreseeing.foresee(asks, tx, policy=bench.policy, now=bench.now)
    )
    assert bench.store.tables == before, "a dry run keeps nothing"
    return answers, strangers


@pytest.fixture
def bench():
    return Bench()


def test_of_three_that_want_two_the_same_two_get_it_and_for_the_same_reason(bench):
    line = bench.buy(4)
    devices = [Device(f"plant {number}") for number in range(3)]
    foreseen = foresee(bench, *(ask(device, (line, 2)) for device in devices))
    happened = bench.post(*(device.activate((line, 2)) for device in devices))
    assert [one.outcome for one in foreseen] == [one.outcome.value for one in happened]
    assert [one.code or None for one in foreseen] == [one.code for one in happened] == [None, None, "not-enough"]
    assert [(one.before, one.after) for one in foreseen[0].lines] == [(0, 2)]


def test_every_rule_about_end_states_says_in_a_dry_run_what_it_says_of_a_message(bench):
    fine, ended, suspended, other = (
        bench.buy(5),
        bench.buy(5, expires_at=bench.now - 1),
        bench.buy(5),
        bench.buy(1, "logs"),
    )
    bench.change_line(suspended, suspended=True)
    cases = [
        ((fine, 9),),
        ((ended, 1),),
        ((suspended, 1),),
        ((other, 1),),
        ((fine, 1), (fine, 2)),
        ((fine, 1), (ended, 1)),
    ]
    for number, wants in enumerate(cases):
        device = Device(f"case {number}")
        (foreseen,) = foresee(bench, ask(device, *wants))
        (happened,) = bench.post(device.activate(*wants))
        assert (foreseen.outcome, foreseen.code or None) == (happened.outcome.value, happened.code), wants


def test_a_return_and_what_is_kept_for_a_return_that_is_not_proven(bench):
    line, fixed = bench.buy(3), bench.buy(1, "fixed")
    device = Device("plant")
    device.take(bench.post(device.activate((line, 3), (fixed, 1)))[0].reply[0])
    (foreseen,) = foresee(bench, ask(device, (line, 1), purpose="return"))
    assert [(one.before, one.after) for one in foreseen.lines] == [(3, 1)]
    (foreseen,) = foresee(bench, ask(device, (fixed, 0), purpose="return"))
    assert (foreseen.outcome, foreseen.code) == ("refused", "not-returnable")
    bench.post(device.say("return", wants=(messages.LineWant(line=line.line_id, quantity=0),)))
    (foreseen,) = foresee(bench, ask(Device("next"), (line, 1)))
    assert foreseen.code == "not-enough", "what is returning is not available"


def test_who_does_not_know_the_activation_id_is_told_nothing_and_counts_as_a_stranger(bench):
    line = bench.buy(3)
    device = Device("plant")
    guessed = ActivationId(line_id=line.line_id, secret=bytes(16))
    unknown = ActivationId(line_id="00000000", secret=bytes(16))
    answers = []
    for id_ in (guessed, unknown):
        state = EndState(line=id_.line_id, quantity=1, proof=dry_run_proof(id_, device.id))
        asked = Ask(device_id=device.id, kind="AS-P", purpose="activate", wants=(state,))
        (answer,), strangers = foresee_and_count(bench, asked)
        assert strangers == 1
        answers.append((answer.outcome, answer.code, answer.reasons[0].expected, answer.lines))
    assert answers[0] == answers[1], "whether the line is there is not told"
    assert foresee_and_count(bench, ask(device, (line, 1)))[1] == 0


def test_a_field_server_of_another_account_is_answered_like_one_that_nobody_knows(bench):
    own, theirs = bench.buy(3), bench.buy(9, account="others")
    device = Device("their plant")
    device.take(bench.post(device.activate((theirs, 9)))[0].reply[0])
    wants = [(own, 2)], [(own, 4)]
    for one in wants:
        (known,), (unknown,) = foresee(bench, ask(device, *one)), foresee(bench, ask(Device("nobody"), *one))
        assert known == unknown
    clone = device.copy()
    bench.post(device.say("refresh"), clone.activate((theirs, 8)))  # a fork: it is on hold
    (known,), (unknown,) = foresee(bench, ask(device, (own, 1))), foresee(bench, ask(Device("nobody"), (own, 1)))
    assert known == unknown, "nor whether it is on hold"


def test_a_hold_and_a_list_of_who_may_come_are_said_to_who_proves_a_line_of_the_account(bench):
    line = bench.buy(3)
    device = Device("plant")
    device.take(bench.post(device.activate((line, 1)))[0].reply[0])
    clone = device.copy()
    bench.post(device.say("refresh"), clone.activate((line, 2)))  # a fork
    (answer,) = foresee(bench, ask(device, (line, 2)))
    (happened,) = bench.post(device.activate((line, 2)))
    assert (answer.outcome, answer.code) == (happened.outcome.value, happened.code) == ("refused", "on-hold")
    bench.policy = Policy(enrolment=Enrolment.LISTED)
    (answer,) = foresee(bench, ask(Device("new"), (line, 1)))
    assert answer.code == "not-enrolled"


def test_the_proof_of_a_dry_run_activates_nothing(bench):
    line = bench.buy(3)
    device = Device("plant")
    proof = dry_run_proof(line.activation_id, device.id)
    message = device.say("activate", wants=(messages.LineWant(line=line.line_id, quantity=1, proof=proof),))
    (answer,) = bench.post(message)
    assert answer.outcome.value == "refused"
    assert bench.where(line) == (3, 0, 0, 0)
