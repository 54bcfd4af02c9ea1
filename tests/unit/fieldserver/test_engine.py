"""Protocol sections 5 and 6 on the field server's side: every (state, event) pair, named after what must hold."""

from dataclasses import replace

import pytest

from support.fieldserver.helpers import (
    LINE,
    NOW,
    OTHER_LINE,
    Desk,
    Issuer,
    activate,
    activation_id,
    holding,
    license_claim,
    pinned,
    with_sequence,
)
from tallystick.fieldserver import engine
from tallystick.fieldserver.codec import encode_state, parse_state
from tallystick.fieldserver.state import (
    OUTBOX_MAX,
    OUTCOMES_MAX,
    Activate,
    LineEffect,
    Refresh,
    Refused,
    Relinquish,
    Return,
    ReturnWant,
    Written,
)
from tallystick.protocol import envelope, keys, messages
from tallystick.protocol.envelope import LINE_BYTES_MAX, PrivateKey, open_envelope

ALL = Return(wants=None)
WISHES = [activate(), ALL, Return(wants=(ReturnWant(line_id=LINE, quantity=0),)), Refresh(), Relinquish()]


def claims_of(waiting):
    message = open_envelope(waiting.compact.encode())
    return messages.parse_request(envelope.verify(message, message.jwk))


# Writing


@pytest.mark.parametrize("wish", WISHES)
def test_nothing_is_asked_before_a_root_is_pinned(wish):
    desk = Desk()
    before = desk.state
    assert desk.wish(wish).code == "no-root"
    assert desk.state is before


@pytest.mark.parametrize("wish", WISHES)
def test_a_message_is_signed_by_the_device_and_numbered_one_up(wish):
    desk = with_sequence(holding(), 41)
    claims = claims_of(desk.ask(wish))
    assert (claims.iss, claims.aud, claims.sequence) == (desk.id, "vendor.example", 42)
    assert desk.state.sequence == 42
    assert claims.applied == (None if wish == Relinquish() else engine._applied_claim(desk.state))
    assert claims.iat == NOW


def test_a_message_without_an_applied_grant_says_so():
    assert claims_of(pinned().ask(Refresh())).applied is None


def test_an_activation_carries_the_proof_and_never_the_secret():
    desk = pinned()
    message = desk.ask(activate(secret=b"0123456789abcdef"))
    claims = claims_of(message)
    (want,) = claims.wants
    right = activation_id(secret=b"0123456789abcdef")
    assert messages.is_proof_valid(right, want.proof, desk.id, claims.jti)
    assert "0123456789abcdef" not in repr(desk.state)
    assert str(right).split("-")[2] not in repr(desk.state)


@pytest.mark.parametrize("wish", WISHES)
def test_the_same_wish_again_is_the_same_message(wish):
    desk = holding()
    first = desk.ask(wish)
    state = desk.state
    again = desk.wish(wish)
    assert again == Written(message=first, is_repeated=True)
    assert desk.state is state


def test_the_order_of_the_lines_makes_no_other_message():
    desk = holding()
    wants = (ReturnWant(line_id=LINE, quantity=0), ReturnWant(line_id=OTHER_LINE, quantity=0))
    desk.ask(Return(wants=wants))
    assert desk.wish(Return(wants=wants[::-1])).is_repeated


@pytest.mark.parametrize(
    "other", [activate(quantity=2), activate(line=OTHER_LINE), activate(secret=b"t" * 16), Refresh()]
)
def test_another_wish_is_another_message(other):
    desk = pinned()
    desk.ask(activate())
    assert desk.ask(other).sequence == 2


def test_the_same_wish_after_a_grant_was_applied_is_another_message():
    desk = holding(1)
    desk.ask(Refresh())
    desk.grant(2)
    assert claims_of(desk.ask(Refresh())).applied.number == 2


def test_the_same_wish_after_the_epoch_rose_is_another_message():
    desk = pinned()
    desk.ask(Refresh())
    desk.grant(1, epoch=2)
    assert claims_of(desk.ask(Refresh())).epoch == 2


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (Activate(wants=()), "usage"),
        (Return(wants=()), "usage"),
        (activate(quantity=-1), "quantity-wrong"),
        (activate(quantity=10**9 + 1), "quantity-wrong"),
        (Activate(wants=activate().wants * 2), "line-twice"),
        (Return(wants=(ReturnWant(line_id=LINE, quantity=0),) * 2), "line-twice"),
        (Activate(wants=tuple(activate(line=f"7K3M9Q{n:02}").wants[0] for n in range(51))), "usage"),
    ],
)
def test_a_wish_that_is_none_is_refused_before_anything_is_carried(wish, code):
    desk = holding()
    before = desk.state
    assert desk.wish(wish).code == code
    assert desk.state is before


def test_a_return_of_nothing_is_refused_unless_something_is_under_way():
    desk = pinned()
    assert desk.wish(ALL).code == "nothing-held"
    desk.ask(activate())
    assert desk.ask(ALL).purpose == "return"


def test_a_full_outbox_takes_no_more_wishes_but_repeats_and_confirms():
    desk = pinned()
    for number in range(OUTBOX_MAX):
        desk.ask(activate(quantity=number))
    assert desk.wish(Refresh()).code == "outbox-full"
    assert desk.wish(Relinquish()).code == "outbox-full"
    assert desk.wish(activate(quantity=OUTBOX_MAX - 1)).is_repeated
    desk.grant(1, confirm=True)
    assert desk.purposes()[-1] == "confirm"
    assert len(desk.state.outbox) == OUTBOX_MAX + 1


# Relinquish


def test_relinquishing_gives_up_everything_in_one_step():
    desk = holding()
    claims = claims_of(desk.ask(Relinquish()))
    assert desk.state.licenses == ()
    assert (desk.state.epoch, desk.state.applied, desk.purposes()) == (2, None, ["relinquish"])
    assert (claims.epoch, claims.applied, claims.wants) == (2, None, None)


def test_relinquishing_needs_every_license_to_allow_it():
    desk = holding(licenses=(license_claim(), license_claim(OTHER_LINE, one_carry=False)))
    before = desk.state
    refused = desk.wish(Relinquish())
    assert isinstance(refused, Refused)
    assert refused.code == "one-carry-not-allowed"
    assert OTHER_LINE in refused.seen
    assert LINE not in refused.seen
    assert desk.state is before


def test_relinquishing_nothing_is_allowed():
    assert claims_of(pinned().ask(Relinquish())).epoch == 2


def test_a_relinquish_is_repeated_and_its_epoch_rises_once():
    desk = holding()
    first = desk.ask(Relinquish())
    assert desk.ask(Relinquish()) == first
    assert desk.state.epoch == 2


def test_a_relinquish_after_something_was_applied_is_a_new_one():
    desk = holding()
    desk.ask(Relinquish())
    desk.grant(1, epoch=2)
    assert claims_of(desk.ask(Relinquish())).epoch == 3


def test_a_sequence_never_falls_with_a_new_epoch():
    desk = with_sequence(holding(), 7)
    assert desk.ask(Relinquish()).sequence == 8
    assert desk.ask(Refresh()).sequence == 9


def test_a_grant_of_an_older_epoch_is_stale_after_relinquishing():
    desk = holding()
    desk.ask(Relinquish())
    assert desk.grant(99).code == "grant-stale"
    assert desk.state.licenses == ()


def test_a_relinquish_waits_until_a_reply_to_it_or_to_a_later_message():
    desk = pinned()
    earlier = desk.ask(activate())
    relinquish = desk.ask(Relinquish())
    desk.grant(1, request=earlier.digest)
    assert desk.state.outbox == (relinquish,)
    desk.credit(relinquish)
    assert desk.state.outbox == ()


# Grants


def test_a_newer_grant_is_taken():
    desk = holding(1)
    received = desk.grant(5, licenses=(license_claim(quantity=3),))
    assert received.effect is LineEffect.APPLIED
    assert desk.state.applied.number == 5
    assert [license_.quantity for license_ in desk.state.licenses] == [3]


def test_the_same_grant_again_changes_nothing():
    desk = pinned()
    grant = desk.issuer.grant(desk.id, 1, confirm=True)
    desk.take(grant)
    before = desk.state
    assert desk.take(grant).effect is LineEffect.ALREADY
    assert desk.state is before


@pytest.mark.parametrize(("epoch", "number"), [(2, 4), (2, 5), (1, 99)])
def test_a_lower_grant_or_another_of_the_same_number_is_stale(epoch, number):
    desk = holding(5, epoch=2)
    before = desk.state
    received = desk.grant(number, epoch=epoch, licenses=())
    assert (received.effect, received.code) == (LineEffect.STALE, "grant-stale")
    assert desk.state is before


@pytest.mark.parametrize(("epoch", "number"), [(2, 6), (3, 1)])
def test_a_higher_number_or_a_higher_epoch_is_taken(epoch, number):
    desk = holding(5, epoch=2)
    assert desk.grant(number, epoch=epoch, licenses=()).effect is LineEffect.APPLIED
    assert (desk.state.epoch, desk.state.licenses) == (epoch, ())


def test_a_grant_beyond_the_last_epoch_is_refused():
    desk = pinned()
    before = desk.state
    assert desk.grant(1, epoch=messages.EPOCH_MAX + 1).code == "claims-malformed"
    assert desk.state is before


def test_a_grant_that_asks_for_proof_is_confirmed_in_the_same_step():
    desk = pinned()
    asked = desk.ask(activate())
    received = desk.grant(1, request=asked.digest, confirm=True, seen=1)
    (confirm,) = desk.state.outbox
    claims = claims_of(confirm)
    assert received.effect is LineEffect.APPLIED
    assert (claims.purpose, claims.sequence, claims.applied.number) == ("confirm", 2, 1)
    assert claims.applied.digest == received.digest


def test_a_grant_that_asks_for_no_proof_is_not_confirmed():
    assert holding().state.outbox == ()


def test_a_grant_started_by_the_activation_server_clears_nothing():
    desk = pinned()
    asked = desk.ask(activate())
    desk.grant(1)
    assert desk.state.outbox == (asked,)


def test_a_reply_clears_all_messages_up_to_the_one_it_answers():
    desk = pinned()
    asked = [desk.ask(activate(quantity=n)) for n in (1, 2, 3)]
    desk.grant(1, request=asked[1].digest)
    assert desk.state.outbox == (asked[2],)
    assert desk.fates() == {1: "overtaken", 2: "granted"}


def test_a_stale_grant_clears_what_it_answers_and_changes_nothing_held():
    desk = holding(5)
    asked = desk.ask(activate())
    applied = desk.state.applied
    received = desk.grant(4, request=asked.digest, licenses=())
    assert received.code == "grant-stale"
    assert desk.state.outbox == ()
    assert desk.state.applied == applied
    assert desk.state.outcomes[-1].code == "grant-stale"


def test_a_wish_overtaken_by_a_refusal_is_asked_about_because_its_grant_may_be_lost():
    desk = pinned()
    desk.ask(activate())
    later = desk.ask(activate(quantity=9))
    desk.refuse(later)
    (refresh,) = desk.state.outbox
    assert (refresh.purpose, refresh.sequence) == ("refresh", 3)
    desk.grant(1, request=refresh.digest)
    assert desk.state.outbox == ()


def test_a_wish_overtaken_by_a_grant_that_is_taken_needs_no_further_message():
    desk = pinned()
    desk.ask(activate())
    later = desk.ask(activate(quantity=2))
    desk.grant(2, request=later.digest)
    assert desk.state.outbox == ()


def test_a_wish_of_an_older_epoch_is_void_and_not_asked_about():
    desk = pinned()
    desk.ask(activate())
    proof = desk.ask(Relinquish())
    desk.refuse(proof)
    assert desk.state.outbox == ()


# Refusals, credits, outcomes


def test_a_refusal_clears_its_message_and_keeps_every_reason():
    desk = holding()
    asked = desk.ask(activate(quantity=9))
    received = desk.refuse(asked)
    assert (received.effect, received.code) == (LineEffect.REFUSED, "not-enough")
    (outcome,) = desk.state.outcomes
    assert (outcome.digest, outcome.purpose, outcome.fate, outcome.noted_at) == (
        asked.digest,
        "activate",
        "refused",
        NOW,
    )
    assert outcome.reasons[0].line == LINE
    assert desk.state.outbox == ()
    assert desk.state.applied.number == 1


def test_a_refusal_again_changes_nothing():
    desk = pinned()
    refusal = desk.issuer.refusal(desk.id, desk.ask(Refresh()).digest)
    desk.take(refusal)
    before = desk.state
    assert desk.take(refusal).effect is LineEffect.ALREADY
    assert desk.state is before


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_refusal_beside_a_credit_is_remembered_in_any_order(order):
    desk = pinned()
    asked = desk.ask(Refresh())
    replies = [desk.issuer.refusal(desk.id, asked.digest), desk.issuer.credit(desk.id, asked.digest)]
    for place in order:
        assert desk.take(replies[place]).effect is not LineEffect.ERROR
    assert desk.fates() == {1: "refused"}


def test_an_own_late_reply_replaces_overtaken():
    desk = pinned()
    first, second = desk.ask(activate()), desk.ask(Refresh())
    desk.grant(2, request=second.digest)
    assert desk.fates() == {1: "overtaken", 2: "granted"}
    desk.refuse(first)
    assert desk.fates() == {1: "refused", 2: "granted"}


def test_a_credit_is_noted():
    desk = pinned()
    asked = desk.ask(Relinquish())
    received = desk.credit(asked)
    assert received.effect is LineEffect.NOTED
    assert LINE in received.detail
    assert desk.fates() == {1: "credited"}


def test_a_reply_to_a_message_that_nobody_remembers_changes_nothing():
    desk = pinned()
    before = desk.state
    assert desk.take(desk.issuer.credit(desk.id, "A" * 43)).effect is LineEffect.ALREADY
    assert desk.state is before


def test_only_the_last_outcomes_are_kept():
    desk = pinned()
    for number in range(OUTCOMES_MAX + 5):
        desk.refuse(desk.ask(activate(quantity=number)))
    assert list(desk.fates()) == list(range(6, OUTCOMES_MAX + 6))


# A grant that the activation server forgot


def test_grant_unknown_makes_the_field_server_repeat_its_grant():
    desk = holding()
    desk.refuse(desk.ask(Refresh()), "grant-unknown")
    (message,) = desk.state.outbox
    claims = claims_of(message)
    assert (claims.purpose, claims.sequence, claims.grant) == ("refresh", 2, desk.state.applied.compact)


def test_grant_unknown_makes_one_repetition_however_many_messages_were_refused():
    desk = holding()
    first, second = desk.ask(activate()), desk.ask(Refresh())
    refusals = [desk.issuer.refusal(desk.id, asked.digest, "grant-unknown") for asked in (first, second)]
    for refusal in refusals * 2:
        desk.take(refusal)
    assert [claims_of(waiting).grant is not None for waiting in desk.state.outbox] == [True]


def test_a_repetition_that_is_refused_again_is_not_repeated_for_ever():
    desk = holding()
    desk.refuse(desk.ask(Refresh()), "grant-unknown")
    desk.refuse(desk.state.outbox[0], "grant-unknown")
    assert desk.state.outbox == ()


def test_grant_unknown_without_a_grant_is_only_noted():
    desk = pinned()
    desk.refuse(desk.ask(Refresh()), "grant-unknown")
    assert desk.state.outbox == ()


def test_the_largest_grant_fits_into_the_message_that_repeats_it():
    features = {"x" * 29 + f"{n:03}": 10**9 for n in range(8)}
    licenses = tuple(
        license_claim(
            f"7K3M9Q{n:02}",
            license="L" * 64,
            product="p" * 40,
            quantity=10**9,
            features=features,
            expires=2**53 - 1,
            engineering=True,
        )
        for n in range(messages.LICENSES_MAX)
    )
    desk = pinned()
    grant = desk.issuer.grant(desk.id, 1, licenses=licenses)
    assert len(grant) <= LINE_BYTES_MAX
    desk.take(grant)
    desk.refuse(desk.ask(Refresh()), "grant-unknown")
    assert len(desk.state.outbox[0].compact) <= LINE_BYTES_MAX


# Rolled back, or cloned


def test_a_reply_that_saw_more_raises_the_sequence_and_makes_the_next_contact_name_it():
    desk = pinned()
    asked = desk.ask(Refresh())
    desk.refuse(asked, "fork", seen=9)
    (message,) = desk.state.outbox
    assert (message.purpose, message.sequence) == ("refresh", 10)
    assert desk.state.rolled_back_at == NOW


def test_a_grant_that_is_taken_after_a_rollback_needs_no_further_message():
    desk = pinned()
    desk.grant(1, seen=9)
    assert (desk.state.sequence, desk.state.outbox, desk.state.rolled_back_at) == (9, (), NOW)


def test_a_grant_that_asks_for_proof_after_a_rollback_is_confirmed_above_what_was_seen():
    desk = pinned()
    desk.grant(1, seen=9, confirm=True)
    assert [(waiting.purpose, waiting.sequence) for waiting in desk.state.outbox] == [("confirm", 10)]


def test_a_stale_grant_that_saw_more_still_names_the_rollback():
    desk = holding(5)
    assert desk.grant(4, seen=9).code == "grant-stale"
    assert (desk.purposes(), desk.state.sequence) == (["refresh"], 10)


def test_a_rollback_is_answered_once():
    desk = pinned()
    grant = desk.issuer.credit(desk.id, "A" * 43, seen=9)
    desk.take(grant)
    before = desk.state
    desk.take(grant)
    assert desk.state is before


def test_a_rollback_and_a_forgotten_grant_are_one_message():
    desk = holding()
    desk.refuse(desk.ask(Refresh()), "grant-unknown", seen=9)
    (message,) = desk.state.outbox
    assert (message.sequence, claims_of(message).grant) == (10, desk.state.applied.compact)


def test_seen_up_to_the_own_sequence_is_no_rollback():
    desk = pinned()
    asked = desk.ask(Refresh())
    desk.credit(asked, seen=1)
    assert (desk.state.sequence, desk.state.rolled_back_at, desk.state.outbox) == (1, None, ())


def test_a_state_put_back_is_told_by_the_next_reply():
    desk = holding()
    old = desk.state
    desk.refuse(desk.ask(activate()))
    desk.refuse(desk.ask(Refresh()))
    desk.roll_back_to(old)
    asked = desk.ask(activate(quantity=5))
    desk.refuse(asked, "fork", seen=2)
    assert (desk.state.rolled_back_at, desk.state.sequence, desk.purposes()) == (NOW, 3, ["refresh"])


# Whose messages


REPLIES = ["grant", "refusal", "credit"]


def reply(issuer, device_id, kind, **changes):
    match kind:
        case "grant":
            return issuer.grant(device_id, 2, **changes)
        case "refusal":
            return issuer.refusal(device_id, "A" * 43, **changes)
        case _:
            return issuer.credit(device_id, "A" * 43, **changes)


def assert_error(desk, compact, code):
    before = desk.state
    received = desk.take(compact)
    assert (received.effect, received.code) == (LineEffect.ERROR, code)
    assert desk.state is before


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_for_another_field_server_is_refused(kind):
    desk = holding()
    other = Desk(seed=b"e" * 32)
    assert_error(desk, reply(desk.issuer, other.id, kind, seen=99), "device-wrong")


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_before_any_root_is_refused(kind):
    desk = Desk()
    assert_error(desk, reply(desk.issuer, desk.id, kind), "no-root")


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_of_a_stranger_is_refused(kind):
    desk = holding()
    assert_error(desk, reply(Issuer(seed=7), desk.id, kind), "key-unknown")


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_in_the_name_of_another_issuer_is_refused(kind):
    desk = holding()
    assert_error(desk, reply(desk.issuer, desk.id, kind, iss="else.example"), "issuer-wrong")


@pytest.mark.parametrize("kind", REPLIES)
@pytest.mark.parametrize("window", [{"until": NOW}, {"since": NOW + 1}])
def test_a_reply_outside_its_keys_validity_is_refused(kind, window):
    desk = Desk()
    desk.take(desk.issuer.keyset(**window))
    assert_error(desk, reply(desk.issuer, desk.id, kind), "key-unknown")


@pytest.mark.parametrize("kind", REPLIES)
def test_a_reply_whose_signature_does_not_fit_is_refused(kind):
    desk = holding()
    head, payload, signature = reply(desk.issuer, desk.id, kind).split(".")
    other = reply(desk.issuer, desk.id, kind, seen=5).split(".")[2]
    assert signature != other
    assert_error(desk, f"{head}.{payload}.{other}", "signature-wrong")


def test_a_reply_signed_by_the_root_itself_is_refused():
    desk = holding()
    desk.issuer.key = desk.issuer.root
    assert_error(desk, desk.issuer.grant(desk.id, 2), "key-unknown")


def test_a_reply_that_carries_its_own_key_is_refused():
    desk = holding()
    payload = open_envelope(desk.issuer.grant(desk.id, 2).encode()).payload
    assert_error(desk, PrivateKey(b"x" * 32).sign(messages.GRANT, payload, with_jwk=True), "key-unknown")


def test_a_grants_claims_under_another_kind_are_refused():
    desk = holding()
    payload = open_envelope(desk.issuer.grant(desk.id, 2).encode()).payload
    assert_error(desk, desk.issuer.key.sign(messages.REFUSAL, payload), "claims-malformed")


def test_an_own_message_that_comes_back_is_told_where_it_belongs():
    desk = holding()
    assert_error(desk, desk.ask(Refresh()).compact, "kind-unexpected")


def test_an_unknown_kind_is_refused():
    desk = holding()
    assert_error(desk, desk.issuer.key.sign("other+jwt", b"{}"), "kind-unexpected")


def test_a_certificate_does_no_harm_and_nothing():
    desk = holding()
    before = desk.state
    assert desk.take(desk.issuer.certificate()).effect is LineEffect.NOTED
    assert desk.state is before
    assert_error(desk, Issuer(seed=7).certificate(), "key-unknown")


# Keysets


def test_the_first_keyset_pins_its_root():
    desk = Desk()
    received = desk.take(desk.issuer.keyset())
    assert received.effect is LineEffect.APPLIED
    assert desk.state.keyset.root == desk.issuer.root.public


def test_a_higher_keyset_of_the_same_root_is_taken():
    desk = pinned()
    assert desk.take(desk.issuer.keyset(3)).effect is LineEffect.APPLIED
    assert desk.state.keyset.version == 3


def test_the_same_keyset_again_is_fine():
    desk = pinned()
    before = desk.state
    assert desk.take(desk.issuer.keyset()).effect is LineEffect.ALREADY
    assert desk.state is before


@pytest.mark.parametrize("version", [1, 2])
def test_a_lower_keyset_or_another_of_the_same_version_is_stale(version):
    desk = Desk()
    desk.take(desk.issuer.keyset(2))
    before = desk.state
    received = desk.take(desk.issuer.keyset(version, at=NOW + 1))
    assert (received.effect, received.code) == (LineEffect.STALE, "keyset-stale")
    assert desk.state is before


def test_a_keyset_of_another_root_is_refused():
    assert_error(pinned(), Issuer(seed=7).keyset(9), "root-differs")


def handed_over(desk, version, *, seed=7):
    successor = PrivateKey(bytes([seed]) * 32)
    statement = keys.make_handover(
        desk.issuer.root, issuer=desk.issuer.name, version=version, issued_at=NOW, successor=successor.public
    )
    key = keys.SigningKey(jwk=keys.Jwk(**desk.issuer.key.public.jwk), valid_from=0)
    return keys.make_keyset(
        successor, issuer=desk.issuer.name, version=version, issued_at=NOW, keys=(key,), handovers=[statement]
    )


def test_a_root_that_was_handed_over_is_pinned_and_the_old_one_counts_no_more():
    desk = holding()
    assert desk.take(handed_over(desk, 2)).effect is LineEffect.APPLIED
    assert desk.state.keyset.root == PrivateKey(bytes([7]) * 32).public
    assert len(desk.state.licenses) == 1
    assert parse_state(encode_state(desk.state)) == desk.state  # the grant in force has the old root's keyset
    assert desk.take(desk.issuer.keyset(1)).effect is LineEffect.STALE
    assert_error(desk, desk.issuer.keyset(3), "root-differs")
    assert_error(desk, handed_over(desk, 3, seed=8), "root-differs")
    assert desk.grant(2).effect is LineEffect.APPLIED


def test_a_hand_over_from_before_the_keyset_in_force_is_refused():
    desk = Desk()
    desk.take(desk.issuer.keyset(3))
    assert_error(desk, handed_over(desk, 3), "root-differs")


def test_a_keyset_of_another_issuer_is_refused():
    desk = pinned()
    assert_error(desk, desk.issuer.keyset(9, issuer="else.example"), "issuer-wrong")


def test_a_keyset_that_its_root_did_not_sign_is_refused():
    desk = pinned()
    payload = open_envelope(desk.issuer.keyset(9).encode()).payload
    assert_error(desk, desk.issuer.key.sign(messages.KEYS, payload), "signature-wrong")


def test_a_grant_stays_in_force_when_its_key_leaves_the_keyset():
    desk = holding()
    desk.issuer.key = PrivateKey(b"n" * 32)
    desk.take(desk.issuer.keyset(2))
    assert len(desk.state.licenses) == 1
    assert desk.grant(2).effect is LineEffect.APPLIED


def test_keys_may_stand_behind_what_they_verify_in_a_file():
    desk = Desk()
    file = [desk.issuer.grant(desk.id, 1), desk.issuer.keyset(1), desk.issuer.keyset(2)]
    envelopes = [open_envelope(compact.encode()) for compact in file]
    state, received = engine.receive_all(desk.state, envelopes, device=desk.device, now=NOW, random=b"r" * 16)
    assert [result.effect for result in received] == ["applied"] * 3
    assert [result.kind for result in received] == ["grant", "keys", "keys"]
    assert state.applied.number == 1


def test_grants_go_before_refusals_in_a_file_so_that_nothing_needless_is_asked():
    desk = pinned()
    first, later = desk.ask(activate()), desk.ask(activate(quantity=9))
    file = [desk.issuer.refusal(desk.id, later.digest), desk.issuer.grant(desk.id, 1, request=first.digest)]
    envelopes = [open_envelope(compact.encode()) for compact in file]
    state, received = engine.receive_all(desk.state, envelopes, device=desk.device, now=NOW, random=b"r" * 16)
    assert [result.kind for result in received] == ["refusal", "grant"]
    assert state.outbox == ()


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1)])
def test_grants_in_any_order_end_at_the_newest(order):
    desk = pinned()
    for number in order:
        desk.grant(number, licenses=(license_claim(quantity=number),))
    assert (desk.state.applied.number, desk.state.licenses[0].quantity) == (3, 3)


# Time


def test_the_highest_time_seen_never_falls_with_the_clock():
    desk = pinned()
    desk.now = NOW - 1000
    desk.ask(Refresh())
    assert desk.state.time_seen == NOW
    assert engine.note_time(desk.state, NOW - 1) is desk.state
    assert engine.note_time(desk.state, NOW + 1).time_seen == NOW + 1


def test_a_grant_that_is_taken_heals_a_clock_that_had_jumped_ahead():
    desk = pinned()
    desk.state = replace(desk.state, time_seen=NOW + 10**8)
    desk.grant(1, iat=NOW - 5)
    assert desk.state.time_seen == NOW
    desk.now = NOW - 100
    desk.grant(2, iat=NOW + 7)
    assert desk.state.time_seen == NOW + 7


def test_a_stale_grant_heals_no_clock():
    desk = holding(5)
    desk.state = replace(desk.state, time_seen=NOW + 10**8)
    desk.grant(4)
    assert desk.state.time_seen == NOW + 10**8


def test_what_changes_nothing_does_not_even_note_the_time():
    desk = holding()
    desk.now = NOW + 10**6
    before = desk.state
    desk.grant(1)
    assert desk.state is before


def test_a_state_can_be_hashed_and_compared():
    first, second = holding(confirm=True), holding(confirm=True)
    assert first.state == second.state
    assert hash(first.state) == hash(second.state)
    assert first.state != replace(second.state, sequence=5)


# A restored activation server


def test_restored_makes_it_speak_afresh_with_the_grant_in_force_and_accuses_nobody():
    desk = holding(3)
    message = desk.ask(Refresh())
    desk.refuse(message, "restored", seen=1_000_000)
    (waiting,) = desk.state.outbox
    claims = waiting.claims()
    assert (claims.sequence, claims.purpose, claims.grant) == (1_000_001, "refresh", desk.state.applied.compact)
    assert desk.state.rolled_back_at is None


def test_restored_a_second_time_says_nothing_new():
    desk = holding(3)
    first, second = desk.ask(Refresh()), desk.ask(Relinquish())
    desk.refuse(first, "restored", seen=1_000_000)
    fresh = desk.state.outbox[-1]
    desk.refuse(second, "restored", seen=1_000_000)
    assert desk.state.outbox == (fresh,)
    assert fresh.claims().grant is None


def test_one_that_was_rolled_back_says_so_in_everything_that_it_writes_from_then_on():
    desk = holding(3)
    assert desk.ask(Refresh()).claims().rolled_back_at is None
    desk.grant(4, seen=9)
    assert desk.ask(Refresh()).claims().rolled_back_at == desk.state.rolled_back_at == NOW
