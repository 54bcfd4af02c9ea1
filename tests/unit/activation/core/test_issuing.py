"""Every row of protocol.md section 7, and of docs/protocol/ where it goes further."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from support.activation import DAY, Bench, Device, TestSigner
from tallystick.activation.core.jumps import EPOCH_STEP
from tallystick.activation.core.ports import Enrolment, IncidentKind, MessageOutcome, Policy, Status
from tallystick.domain.ids import ActivationId
from tallystick.protocol import envelope, messages
from tallystick.protocol.messages import Credit, Grant, Refusal
from tallystick.protocol.problems import WireError


@pytest.fixture
def bench() -> Bench:
    return Bench()


def activated(bench: Bench, device: Device, line, quantity: int) -> None:
    """The device holds ``quantity`` and the activation server knows that it does."""
    grant, compact = bench.grant(device.activate((line, quantity)))
    device.take(compact)
    bench.post(device.say("refresh"))


# 1, P4


def test_the_same_message_has_one_effect_and_the_same_reply(bench):
    line = bench.buy(3)
    message = Device("a").activate((line, 2))
    first = bench.post(message)
    bench.now += 1000
    assert bench.post(message, message) == first * 2
    assert bench.where(line) == (1, 2, 0, 0)


def test_a_refusal_repeats_its_bytes_even_when_it_would_now_be_granted(bench):
    line = bench.buy(1)
    device = Device("a")
    message = device.activate((line, 2))
    first = bench.post(message)
    assert first[0].code == "not-enough"
    bench.change_line(line, balances=replace(bench.line(line)))
    assert bench.post(message) == first


# 2


def test_a_message_for_another_activation_server_is_an_unsigned_error(bench):
    with pytest.raises(WireError) as error:
        bench.post(Device("a", aud="Somebody Else").say("refresh"))
    assert error.value.code == "issuer-wrong"
    assert not bench.store.tables.messages


def test_a_message_whose_iss_is_not_its_key_is_an_unsigned_error(bench):
    compact = Device("a").say("refresh")
    request = messages.convert_claims(envelope.open_envelope(compact.encode()).payload, messages.Request)
    forged = Device("b").key.sign(messages.REQUEST, messages.encode_claims(request), with_jwk=True)
    with pytest.raises(WireError) as error:
        bench.post(forged)
    assert error.value.code == "signature-wrong"


def test_a_grant_handed_to_the_activation_server_is_of_the_wrong_kind(bench):
    line = bench.buy(1)
    _, compact = bench.grant(Device("a").activate((line, 1)))
    with pytest.raises(WireError) as error:
        bench.post(compact)
    assert error.value.code == "kind-unexpected"


# 3


def test_first_contact_with_a_proof_enrols(bench):
    line = bench.buy(1)
    device = Device("a", kind="AS-B")
    bench.grant(device.activate((line, 1)))
    known = bench.store.tables.field_servers[device.id]
    assert (known.kind, known.name, known.account, known.status) == ("AS-B", "a", "acme", Status.ACTIVE)


@pytest.mark.parametrize("purpose", ["refresh", "confirm", "relinquish"])
def test_first_contact_without_a_proof_is_refused_and_enrols_nobody(bench, purpose):
    refusal = bench.refused(Device("a").say(purpose))
    assert refusal.code == "not-enrolled"
    assert not bench.store.tables.field_servers


def test_first_contact_with_a_wrong_activation_id_is_refused(bench):
    line = bench.buy(1)
    stranger = replace(line, secret=b"x" * 16)
    assert bench.refused(Device("a").activate((stranger, 1))).code == "not-enrolled"


def test_under_the_listed_policy_only_listed_field_servers_are_enrolled():
    bench = Bench(policy=Policy(enrolment=Enrolment.LISTED))
    line = bench.buy(1)
    assert bench.refused(Device("a").activate((line, 1))).code == "not-enrolled"


def test_a_host_id_in_service_elsewhere_is_refused_and_noted(bench):
    line = bench.buy(2)
    activated(bench, Device("a", host_id="same"), line, 1)
    refusal = bench.refused(Device("b", host_id="same").activate((line, 1)))
    assert refusal.code == "host-id-taken"
    assert bench.incidents() == [IncidentKind.HOST_ID_TAKEN]
    assert Device("a").id in refusal.detail
    assert bench.where(line) == (1, 1, 0, 0)


def test_a_host_id_of_another_account_is_free_so_that_nobody_can_ask_for_it_or_take_it(bench):
    activated(bench, Device("a", host_id="same"), bench.buy(1), 1)
    activated(bench, Device("b", host_id="same"), bench.buy(1, account="harbour"), 1)
    assert bench.incidents() == []


def test_two_first_contacts_with_one_host_id_in_one_batch_enrol_only_one(bench):
    line = bench.buy(2)
    answers = bench.post(
        Device("a", host_id="same").activate((line, 1)), Device("b", host_id="same").activate((line, 1))
    )
    assert [answer.outcome for answer in answers] == [MessageOutcome.GRANTED, MessageOutcome.REFUSED]


def test_the_host_id_of_a_field_server_declared_lost_is_free_for_its_replacement(bench):
    line = bench.buy(2)
    old = Device("a", host_id="same")
    activated(bench, old, line, 1)
    bench.declare_lost(old)
    bench.grant(Device("b", host_id="same").activate((line, 1)))


# 4


def test_an_older_epoch_of_a_field_server_that_moved_on_gets_a_fence_and_an_incident(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    copy = device.copy()
    bench.credit(device.relinquish())
    assert bench.where(line) == (2, 0, 0, 0)
    copy.sequence = 7
    grant, _ = bench.grant(copy.say("refresh"))
    assert (grant.epoch, grant.licenses, grant.confirm) == (2, (), True)
    assert bench.incidents() == [IncidentKind.EPOCH_BEHIND]


def test_a_delayed_message_of_an_older_epoch_accuses_nobody(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    delayed = device.say("refresh")
    bench.credit(device.relinquish())
    assert bench.refused(delayed).code == "superseded"
    assert bench.incidents() == []


# 5


def test_a_higher_epoch_voids_everything_older_and_credits_it(bench):
    line = bench.buy(3)
    device = Device("a")
    activated(bench, device, line, 3)
    credit = bench.credit(device.relinquish())
    assert [(item.line, item.quantity) for item in credit.credits] == [(line.line_id, 3)]
    assert bench.where(line) == (3, 0, 0, 0)


def test_a_lost_relinquish_heals_with_whatever_comes_next(bench):
    line = bench.buy(3)
    device = Device("a")
    activated(bench, device, line, 3)
    device.relinquish()
    (answer,) = bench.post(device.activate((line, 1)))
    grant, credit = (bench.read(compact) for compact in answer.reply)
    assert isinstance(grant, Grant)
    assert isinstance(credit, Credit)
    assert credit.credits[0].quantity == 3
    assert bench.where(line) == (2, 1, 0, 0)


def test_a_grant_of_an_older_epoch_still_on_its_way_is_void_with_it(bench):
    line = bench.buy(3)
    device = Device("a")
    bench.post(device.activate((line, 3)), device.relinquish())
    assert bench.where(line) == (3, 0, 0, 0)


# 6


def test_a_sequence_used_by_another_message_is_a_fork_and_holds_the_field_server(bench):
    line = bench.buy(3)
    device = Device("a")
    activated(bench, device, line, 1)
    copy = device.copy()
    bench.grant(device.activate((line, 2)))
    assert bench.refused(copy.activate((line, 3))).code == "fork"
    assert bench.incidents() == [IncidentKind.FORK]
    assert bench.refused(device.say("refresh")).code == "on-hold"
    assert bench.where(line) == (1, 2, 0, 0)


def test_a_lower_sequence_never_seen_is_superseded_without_accusation(bench):
    line = bench.buy(3)
    device = Device("a")
    first, second = device.activate((line, 1)), device.activate((line, 2))
    bench.grant(second)
    refusal = bench.refused(first)
    assert (refusal.code, refusal.seen) == ("superseded", 2)
    assert bench.incidents() == []
    assert bench.where(line) == (1, 2, 0, 0)


def test_messages_of_one_field_server_are_decided_in_order_wherever_they_stand_in_a_batch(bench):
    line = bench.buy(3)
    device = Device("a")
    first, second = device.activate((line, 1)), device.activate((line, 2))
    answers = bench.post(second, first)
    assert [answer.outcome for answer in answers] == [MessageOutcome.GRANTED, MessageOutcome.GRANTED]
    assert [bench.read(answer.reply[0]).number for answer in answers] == [2, 1]


def test_a_second_relinquish_into_the_same_epoch_is_a_second_copy(bench):
    line = bench.buy(1)
    device = Device("a")
    activated(bench, device, line, 1)
    copy = device.copy()
    copy.sequence += 5
    bench.credit(device.relinquish())
    assert bench.refused(copy.relinquish()).code == "fork"


def test_a_higher_epoch_after_a_later_message_is_a_second_copy_and_credits_nothing(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 1)
    copy = device.copy()
    device.sequence += 5
    activated(bench, device, line, 2)
    assert bench.refused(copy.relinquish()).code == "fork"
    assert bench.where(line) == (0, 2, 0, 0)


def test_a_released_hold_fences_every_copy_and_accuses_nobody_again(bench):
    line = bench.buy(3)
    device = Device("a")
    activated(bench, device, line, 1)
    copy = device.copy()
    bench.grant(device.activate((line, 2)))
    bench.refused(copy.activate((line, 3)))
    bench.release(device)
    device.sequence = 10
    grant, compact = bench.grant(device.say("refresh"))
    assert (grant.epoch, [item.quantity for item in grant.licenses]) == (EPOCH_STEP, [2])
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.incidents() == [IncidentKind.FORK]
    assert bench.where(line) == (1, 2, 0, 0)


# 7


def test_applied_proves_every_grant_up_to_it(bench):
    line = bench.buy(5)
    device = Device("a")
    activated(bench, device, line, 5)
    _, compact = bench.grant(device.give_back((line, 3)))
    bench.grant(device.give_back((line, 1)))
    assert bench.where(line) == (0, 1, 4, 0)
    device.take(compact)
    credit = bench.credit(device.say("confirm"))
    assert credit.credits[0].quantity == 2
    assert bench.where(line) == (2, 1, 2, 0)


def test_a_lower_applied_is_a_rollback_named_and_healed(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    old = device.copy()
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (2, 0, 0, 0)
    old.sequence = device.sequence
    grant, _ = bench.grant(old.activate((line, 2)))
    assert bench.incidents() == [IncidentKind.ROLLBACK]
    assert (grant.licenses, grant.confirm) == ((), True)
    assert bench.where(line) == (2, 0, 0, 0)


def test_one_that_found_out_by_itself_that_it_was_rolled_back_says_so_and_is_noted_once(bench):
    """Found by exploration: what it held in between was in use twice, and no incident told anybody."""
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    bench.grant(device.say("refresh", rolled_back_at=7))
    bench.grant(device.say("refresh", rolled_back_at=7))
    assert bench.incidents() == [IncidentKind.ROLLBACK]
    bench.grant(device.say("refresh", rolled_back_at=8))
    assert bench.incidents() == [IncidentKind.ROLLBACK] * 2


def told_again(bench, device):
    """The grant in force is attached, and again in a message that is younger than the jump which that brings."""
    refusal = bench.refused(device.say("refresh", grant=device.applied_grant))
    assert refusal.code == "restored"
    device.sequence = refusal.seen
    return bench.grant(device.say("refresh", grant=device.applied_grant))


def test_a_forgotten_grant_is_not_believed_by_a_message_that_may_be_old(bench):
    """Nobody announced the restore, or it was lifted: the licenses may have been given up since, and be elsewhere."""
    line = bench.buy(2)
    device, other = Device("a"), Device("b")
    backup = bench.store.tables.copy()
    activated(bench, device, line, 2)
    old = device.say("refresh", grant=device.applied_grant)
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))
    bench.store.tables = backup
    activated(bench, other, line, 2)
    device.sequence = bench.refused(old).seen
    assert bench.where(line) == (0, 2, 0, 0)
    grant, _ = bench.grant(device.say("refresh", grant=device.applied_grant))
    assert grant.licenses == ()
    assert bench.where(line) == (0, 2, 0, 0)


def test_an_unknown_applied_grant_is_asked_for_and_then_adopted(bench):
    line = bench.buy(3)
    device = Device("a")
    activated(bench, device, line, 1)
    backup = bench.store.tables.copy()
    activated(bench, device, line, 3)
    bench.store.tables = backup
    assert bench.refused(device.say("refresh")).code == "grant-unknown"
    grant, compact = told_again(bench, device)
    assert [item.quantity for item in grant.licenses] == [3]
    assert grant.number > 1_000_000
    assert bench.where(line) == (0, 3, 0, 0)
    assert bench.incidents() == [IncidentKind.GRANT_ADOPTED]
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.store.tables.field_servers[device.id].recovering is None


def test_a_field_server_enrolled_after_the_backup_is_enrolled_again_by_the_grant_it_repeats(bench):
    line = bench.buy(3)
    backup = bench.store.tables.copy()
    device = Device("a")
    activated(bench, device, line, 2)
    bench.store.tables = backup
    assert bench.refused(device.say("refresh")).code == "grant-unknown"
    grant, _ = told_again(bench, device)
    assert [item.quantity for item in grant.licenses] == [2]
    assert bench.where(line) == (1, 2, 0, 0)


def test_adoption_may_take_available_below_zero_and_it_shows(bench):
    line = bench.buy(2)
    first, second = Device("a"), Device("b")
    backup = bench.store.tables.copy()
    activated(bench, first, line, 2)
    bench.store.tables = backup
    activated(bench, second, line, 1)
    bench.refused(first.say("refresh"))
    told_again(bench, first)
    assert bench.where(line) == (-1, 3, 0, 0)


def test_a_repeated_grant_that_we_did_not_sign_is_refused(bench):
    line = bench.buy(1)
    stranger = Bench(signer=TestSigner("stranger"))
    device = Device("a")
    stranger_line = stranger.buy(1)
    _, compact = stranger.grant(device.activate((stranger_line, 1)))
    device.take(compact)
    assert bench.refused(device.say("refresh", grant=compact)).code == "grant-unknown"
    assert bench.where(line) == (1, 0, 0, 0)


# 8


def test_activation_takes_end_states_so_a_repeat_under_another_number_adds_nothing(bench):
    line = bench.buy(5)
    device = Device("a")
    bench.grant(device.activate((line, 2)))
    bench.grant(device.activate((line, 2)))
    assert bench.where(line) == (3, 2, 0, 0)


def test_lines_not_named_stay_as_they_are(bench):
    one, two = bench.buy(5), bench.buy(5)
    device = Device("a")
    activated(bench, device, one, 2)
    grant, _ = bench.grant(device.activate((two, 1)))
    assert {item.line: item.quantity for item in grant.licenses} == {one.line_id: 2, two.line_id: 1}


def test_activation_is_whole_or_not_at_all_with_a_reason_per_line(bench):
    good, short, other = bench.buy(5), bench.buy(1), bench.buy(5, "logs")
    device = Device("a")
    refusal = bench.refused(device.activate((good, 1), (short, 2), (other, 1)))
    assert refusal.code == "denied"
    assert {reason.line: reason.code for reason in refusal.reasons} == {
        short.line_id: "not-enough",
        other.line_id: "kind-mismatch",
    }
    assert "Edge Server" in next(reason.expected for reason in refusal.reasons if reason.code == "kind-mismatch")
    assert bench.where(good) == (5, 0, 0, 0)


def test_the_same_line_twice_in_one_message_is_refused(bench):
    line = bench.buy(5)
    assert bench.refused(Device("a").activate((line, 1), (line, 2))).code == "line-twice"


@pytest.mark.parametrize(
    ("terms", "code"),
    [({"expires_at": 1}, "line-expired"), ({"suspended": True}, "line-suspended"), ({"frozen": True}, "line-frozen")],
)
def test_terms_stop_growth_and_nothing_else(bench, terms, code):
    line = bench.buy(5)
    device = Device("a")
    activated(bench, device, line, 2)
    bench.change_line(line, **terms)
    assert bench.refused(device.activate((line, 3))).code == code
    bench.grant(device.say("refresh"))
    grant, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (5, 0, 0, 0)


def test_a_wrong_activation_id_is_refused_and_does_not_say_whether_the_line_exists(bench):
    line, other = bench.buy(5), bench.buy(5)
    device = Device("a")
    activated(bench, device, line, 1)
    wrong_secret = bench.refused(device.activate((replace(other, secret=b"x" * 16), 1)))
    no_line = bench.refused(device.activate((replace(other, line_id="00000000"), 1)))
    assert wrong_secret.code == no_line.code == "activation-id-wrong"
    assert wrong_secret.detail == no_line.detail


def test_a_proof_of_another_field_server_is_worth_nothing(bench):
    line = bench.buy(5)
    device, thief = Device("a"), Device("thief")
    wants = messages.convert_claims(
        envelope.open_envelope(device.activate((line, 1)).encode()).payload, messages.Request
    ).wants
    assert bench.refused(thief.say("activate", wants=wants)).code == "not-enrolled"


def test_licenses_of_two_accounts_do_not_meet_on_one_field_server(bench):
    ours, theirs = bench.buy(5), bench.buy(5, account="other")
    device = Device("a")
    activated(bench, device, ours, 1)
    assert bench.refused(device.activate((theirs, 1))).code == "account-differs"


def test_a_return_is_returning_until_proven_and_only_then_available(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    grant, compact = bench.grant(device.give_back())
    assert (grant.licenses, grant.confirm) == ((), True)
    assert bench.where(line) == (0, 0, 2, 0)
    other = Device("b")
    assert bench.refused(other.activate((line, 1))).code == "not-enough"
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (2, 0, 0, 0)
    bench.grant(other.activate((line, 2)))


def test_what_is_returning_can_be_activated_again_on_the_same_field_server_only(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    bench.grant(device.give_back())
    bench.grant(device.activate((line, 2)))
    assert bench.where(line) == (0, 2, 0, 0)


def test_the_maximum_over_unproven_grants_is_reserved_not_the_newest(bench):
    line = bench.buy(4)
    device = Device("a")
    activated(bench, device, line, 1)
    bench.grant(device.activate((line, 4)))
    bench.grant(device.activate((line, 2)))
    assert bench.where(line) == (0, 2, 2, 0)


def test_chosen_lines_and_quantities_return(bench):
    one, two = bench.buy(3), bench.buy(3)
    device = Device("a")
    grant, compact = bench.grant(device.activate((one, 3), (two, 3)))
    device.take(compact)
    _, compact = bench.grant(device.give_back((one, 1)))
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert (bench.where(one), bench.where(two)) == ((2, 1, 0, 0), (0, 3, 0, 0))


def test_a_return_may_not_raise(bench):
    line = bench.buy(3)
    device = Device("a")
    activated(bench, device, line, 1)
    assert bench.refused(device.give_back((line, 2))).code == "return-raises"


def test_a_product_sold_without_return_stays_and_its_grant_forbids_one_carry(bench):
    line = bench.buy(3, "fixed")
    device = Device("a")
    grant, compact = bench.grant(device.activate((line, 1)))
    assert not grant.licenses[0].one_carry
    device.take(compact)
    assert bench.refused(device.give_back()).code == "not-returnable"
    assert [reason.code for reason in bench.refused(device.activate((line, 0))).reasons] == ["not-returnable"]
    assert bench.where(line) == (2, 1, 0, 0)


def test_a_refresh_brings_new_terms(bench):
    line = bench.buy(1, expires_at=2_000_000_000, engineering=True)
    device = Device("a")
    activated(bench, device, line, 1)
    bench.change_line(line, expires_at=2_100_000_000, engineering=False)
    grant, _ = bench.grant(device.say("refresh"))
    assert (grant.licenses[0].expires, grant.licenses[0].engineering) == (2_100_000_000, False)


def test_refreshes_without_proof_do_not_grow_what_is_kept(bench):
    line = bench.buy(2)
    device = Device("a")
    bench.grant(device.activate((line, 2)))
    for _ in range(20):
        bench.grant(device.say("refresh"))
    assert len(bench.store.tables.field_servers[device.id].outstanding) == 1


# Credits


def test_a_credit_names_ledger_entries_whose_chain_the_ledger_confirms(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    credit = bench.credit(device.relinquish())
    ledger = {entry.number: entry for entry in bench.store.transact(lambda tx: tx.find_entries(line.line_id))}
    for claim in credit.entries:
        entry = ledger[claim.number]
        assert (claim.chain, claim.quantity, claim.target) == (entry.chain, entry.quantity, entry.target)


def test_a_refusal_that_proved_something_comes_with_its_credit(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    (answer,) = bench.post(device.activate((line, 9)))
    refusal, credit = (bench.read(item) for item in answer.reply)
    assert isinstance(refusal, Refusal)
    assert isinstance(credit, Credit)
    assert bench.where(line) == (2, 0, 0, 0)


# Declared lost


def test_declared_lost_goes_into_quarantine_and_becomes_available_after_the_waiting_period(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    bench.declare_lost(device)
    assert bench.where(line) == (0, 0, 0, 2)
    bench.now += 14 * DAY - 1
    bench.settle()
    assert bench.where(line) == (0, 0, 0, 2)
    bench.now += 1
    bench.settle()
    assert bench.where(line) == (2, 0, 0, 0)


def test_one_that_comes_back_within_the_waiting_period_gets_what_it_held(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    bench.declare_lost(device)
    grant, compact = bench.grant(device.say("refresh"))
    assert (grant.epoch, [item.quantity for item in grant.licenses]) == (EPOCH_STEP, [2])
    assert bench.where(line) == (0, 2, 0, 0)
    assert bench.incidents() == [IncidentKind.REAPPEARED]
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (0, 2, 0, 0)


def test_one_that_gave_up_by_itself_settles_the_quarantine_at_once(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    message = device.relinquish()
    bench.declare_lost(device)
    (answer,) = bench.post(message)
    fence, credit = map(bench.read, answer.reply)
    assert (fence.licenses, fence.confirm, credit.credits[0].quantity) == ((), True, 2)
    assert bench.where(line) == (2, 0, 0, 0)


def test_one_that_comes_back_after_the_waiting_period_is_fenced_and_both_holders_are_named(bench):
    line = bench.buy(2)
    device, other = Device("a"), Device("b")
    activated(bench, device, line, 2)
    bench.declare_lost(device)
    bench.now += 14 * DAY
    bench.settle()
    activated(bench, other, line, 2)
    grant, _ = bench.grant(device.say("refresh"))
    assert grant.licenses == ()
    (incident,) = bench.store.tables.incidents
    assert (incident.kind, incident.device_id) == (IncidentKind.REAPPEARED, device.id)
    assert other.id in incident.detail


def test_a_late_message_from_before_the_declaration_does_not_undo_it(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 1)
    late = device.say("refresh")
    bench.grant(device.activate((line, 2)))
    bench.declare_lost(device)
    assert bench.refused(late).code == "superseded"
    assert bench.where(line) == (0, 0, 0, 2)


# Started here


def test_a_return_started_here_is_carried_and_confirmed_like_any_other(bench):
    line = bench.buy(2)
    device = Device("a")
    activated(bench, device, line, 2)
    compact = bench.start_return(device)
    assert bench.start_return(device) == compact
    grant = bench.read(compact)
    assert (grant.request, grant.licenses, grant.confirm) == (None, (), True)
    assert bench.where(line) == (0, 0, 2, 0)
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (2, 0, 0, 0)


def test_the_secret_never_shows_in_repr_or_messages(bench):
    line = bench.buy(1)
    secret = str(ActivationId(line_id=line.line_id, secret=line.secret)).rsplit("-", 1)[1]
    assert secret not in repr(line)
    assert secret not in repr(line.activation_id)
    payload = envelope.open_envelope(Device("a").activate((line, 1)).encode()).payload.decode()
    assert secret not in payload
