"""What the activation server must do since revision 2 of the wire. Each test was a case in which the promise was false."""

from __future__ import annotations

import pytest

from support.activation import DAY, Bench, Device
from tallystick.activation.core import entitlements, interventions
from tallystick.activation.core.jumps import EPOCH_MARGIN, EPOCH_STEP
from tallystick.activation.core.ports import IncidentKind, Status
from tallystick.fieldserver.state import OUTBOX_MAX
from tallystick.protocol import envelope, messages


@pytest.fixture
def bench() -> Bench:
    return Bench()


def claims(compact: str) -> messages.Grant:
    return messages.convert_claims(envelope.open_envelope(compact.encode()).payload, messages.Grant)


def is_stale(compact: str, device: Device) -> bool:
    """Whether a field server, of any revision, would pass a grant over: rule 6 b of its engine."""
    grant = claims(compact)
    return (grant.epoch, grant.number) <= (device.epoch, device.applied[0] if device.applied else 0)


def back_up(bench: Bench):
    return bench.store.tables.copy()


def put_back(bench: Bench, backup) -> None:
    bench.now += 60
    bench.store.tables = backup
    bench.store.transact(lambda tx: interventions.announce_restore(tx, bench.signer, now=bench.now))


def lift(bench: Bench, *lines) -> None:
    chosen = [line.line_id for line in lines] or None
    bench.store.transact(lambda tx: interventions.lift_freeze(tx, bench.signer, chosen, now=bench.now))


def server(bench: Bench, device: Device):
    return bench.store.tables.field_servers[device.id]


def follow(bench: Bench, device: Device, refusal: messages.Refusal) -> None:
    assert refusal.code == "restored"
    device.sequence = refusal.seen


def recover(bench: Bench, device: Device) -> None:
    """Be heard from after a restore, and prove the fence."""
    follow(bench, device, bench.refused(device.say("refresh")))
    reply = bench.ask(device.say("refresh"))
    if isinstance(reply, messages.Refusal):
        assert reply.code == "grant-unknown"
        message = device.say("refresh", grant=device.applied_grant)
    else:
        message = device.say("refresh")
    _, compact = bench.grant(message)
    device.take(compact)
    bench.post(device.say("confirm"))
    assert server(bench, device).recovering is None


def give_all_back(bench: Bench, device: Device) -> None:
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))


def activate(bench: Bench, device: Device, line, quantity: int) -> str:
    _, compact = bench.grant(device.activate((line, quantity)))
    device.take(compact)
    bench.grant(device.say("refresh"))
    return compact


def raise_by_loss(bench: Bench, device: Device) -> None:
    bench.declare_lost(device)


def raise_by_hold(bench: Bench, device: Device) -> None:
    def hold(tx):
        tx.tables.field_servers[device.id] = server(bench, device).changed(status=Status.HOLD)

    bench.store.transact(hold)
    bench.release(device)


@pytest.mark.parametrize("raised", [raise_by_loss, raise_by_hold])
def test_a_fence_from_before_a_restore_is_stale_once_the_field_server_was_heard_from(bench, raised):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    backup = back_up(bench)
    raised(bench, device)
    _, fence = bench.grant(device.say("refresh"))  # it stays on a stick
    put_back(bench, backup)
    recover(bench, device)
    give_all_back(bench, device)
    lift(bench)
    activate(bench, Device("b"), line, 2)
    assert is_stale(fence, device)


@pytest.mark.parametrize("raises", [1, 2, 40])
def test_however_often_the_epoch_was_raised_since_the_backup_what_was_signed_is_stale(bench, raises):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    backup = back_up(bench)
    forgotten = []
    for _ in range(raises):
        raise_by_hold(bench, device)
        forgotten.append(bench.grant(device.say("refresh"))[1])
    put_back(bench, backup)
    recover(bench, device)
    assert all(is_stale(grant, device) for grant in forgotten)


def test_two_restores_of_one_backup_jump_to_different_epochs(bench):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    backup = back_up(bench)
    put_back(bench, backup.copy())
    follow(bench, device, bench.refused(device.say("refresh")))
    _, fence = bench.grant(device.say("refresh"))
    first = claims(fence).epoch
    put_back(bench, backup.copy())
    assert server(bench, device).epoch > first
    recover(bench, device)
    assert is_stale(fence, device)


@pytest.mark.parametrize("how", ["listed", "listed before", "by its activation ID", "by its grant"])
def test_whoever_becomes_known_while_anything_is_frozen_begins_jumped_and_recovering(bench, how):
    """Listed or not, and whatever line it names: its grants from before the restore may be on their way."""
    line, device = bench.buy(2), Device("a")

    def enlist() -> None:
        bench.store.transact(
            lambda tx: entitlements.list_field_server(tx, bench.signer, device.id, account="acme", now=bench.now)
        )

    if how == "listed before":
        enlist()
    backup = back_up(bench)
    _, delayed = bench.grant(device.activate((line, 2)))
    if how == "by its grant":
        device.take(delayed)
    put_back(bench, backup)
    sold_later = bench.buy(1)
    if how == "listed":
        enlist()
    if how == "by its activation ID":
        follow(bench, device, bench.refused(device.activate((sold_later, 1))))
    elif how == "by its grant":
        assert bench.refused(device.say("refresh")).code == "grant-unknown"
        follow(bench, device, bench.refused(device.say("refresh", grant=device.applied_grant)))
    else:
        follow(bench, device, bench.refused(device.say("refresh")))
    assert server(bench, device).recovering == server(bench, device).epoch
    _, fence = bench.grant(
        device.say("refresh", grant=device.applied_grant) if how == "by its grant" else device.say("refresh")
    )
    device.take(fence)
    bench.post(device.say("confirm"))
    assert is_stale(delayed, device)


def test_who_was_listed_and_has_a_taken_host_id_is_first_told_of_the_restore(bench):
    """``seen`` is jumped: in another refusal, it would read as a disk that was rolled back."""
    line, first, second = bench.buy(2), Device("a"), Device("b", host_id="host-a")
    activate(bench, first, line, 1)
    put_back(bench, back_up(bench))
    bench.store.transact(
        lambda tx: entitlements.list_field_server(tx, bench.signer, second.id, account="acme", now=bench.now)
    )
    refusal = bench.refused(second.say("refresh"))
    assert refusal.code == "restored"
    follow(bench, second, refusal)
    assert bench.refused(second.say("refresh")).code == "host-id-taken"


@pytest.mark.parametrize("settled", ["before the backup", "after the restore"])
def test_who_was_declared_lost_and_released_is_told_of_the_restore(bench, settled):
    """Its message from before the restore is not "overtaken": it would read as a disk that was rolled back."""
    line, device = bench.buy(1), Device("a")
    activate(bench, device, line, 1)

    def lose() -> None:
        bench.declare_lost(device)
        bench.now += 14 * DAY
        bench.settle()

    if settled == "before the backup":
        lose()
    put_back(bench, back_up(bench))
    if settled == "after the restore":
        lose()
    refusal = bench.refused(device.say("refresh"))
    assert refusal.code == "restored"
    follow(bench, device, refusal)
    _, fence = bench.grant(device.say("refresh", grant=device.applied_grant))
    assert not claims(fence).licenses


def test_a_restore_is_open_until_the_last_line_is_lifted(bench):
    first, second = bench.buy(1), bench.buy(1)
    put_back(bench, back_up(bench))
    lift(bench, first)
    assert bench.store.tables.restore.is_open
    lift(bench, second)
    assert not bench.store.tables.restore.is_open


def test_the_first_grant_after_a_lifted_restore_makes_forgotten_ones_stale(bench):
    line, later = bench.buy(2), bench.buy(1)
    device = Device("a")
    backup = back_up(bench)
    _, delayed = bench.grant(device.activate((line, 2)))
    put_back(bench, backup)
    lift(bench)
    _, compact = bench.grant(device.activate((later, 1)))
    device.take(compact)
    assert is_stale(delayed, device)
    bench.grant(device.say("refresh"))
    assert bench.where(later) == (0, 1, 0, 0)


def test_a_field_server_that_was_never_restored_keeps_its_own_epoch(bench):
    line, device = bench.buy(1), Device("a")
    assert claims(activate(bench, device, line, 1)).epoch == 1


@pytest.mark.parametrize("raises", [1, 2])
@pytest.mark.parametrize("raised", [raise_by_loss, raise_by_hold])
def test_a_relinquish_that_crosses_a_raised_epoch_is_credited_and_stays_given_up(bench, raised, raises):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    for _ in range(raises - 1):
        raise_by_hold(bench, device)
    raised(bench, device)
    (answer,) = bench.post(device.relinquish())
    fence, credit = map(bench.read, answer.reply)
    assert (fence.licenses, fence.confirm) == ((), True)
    assert [item.quantity for item in credit.credits] == [2]
    device.take(answer.reply[0])
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (2, 0, 0, 0)
    assert IncidentKind.EPOCH_BEHIND not in bench.incidents()


@pytest.mark.parametrize("raised", [raise_by_loss, raise_by_hold])
def test_a_relinquish_that_crosses_a_fence_is_credited_when_nothing_can_come_back(bench, raised):
    """The fence on its way gives it everything; so the credit waits for the proof of a fence of nothing."""
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    raised(bench, device)
    _, crossing = bench.grant(device.say("refresh"))
    (answer,) = bench.post(device.relinquish())
    fence = bench.read(answer.reply[0])
    assert (fence.licenses, fence.confirm) == ((), True)
    assert bench.where(line) == (0, 0, 2, 0)
    device.take(crossing)
    device.take(answer.reply[0])
    assert bench.credit(device.say("confirm")).credits[0].quantity == 2
    assert bench.where(line) == (2, 0, 0, 0)


def test_a_relinquish_that_was_lost_or_refused_on_hold_is_honoured_by_what_is_said_next(bench):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)

    def hold(tx):
        tx.tables.field_servers[device.id] = server(bench, device).changed(status=Status.HOLD)

    bench.store.transact(hold)
    assert bench.refused(device.relinquish()).code == "on-hold"
    device.relinquish()  # lost
    bench.release(device)
    grant, _ = bench.grant(device.say("refresh"))
    assert grant.licenses == ()
    assert bench.where(line) == (2, 0, 0, 0)


def test_what_a_field_server_raises_alone_never_reaches_what_is_raised_here(bench):
    assert EPOCH_MARGIN > OUTBOX_MAX
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 1)
    for spoken in (1, EPOCH_STEP - 1, EPOCH_STEP, 3 * EPOCH_STEP - EPOCH_MARGIN, 2**40):
        known = server(bench, device)
        bench.store.tables.field_servers[device.id] = known.changed(epoch=spoken, spoken_epoch=spoken)
        raise_by_hold(bench, device)
        raised = server(bench, device).epoch
        assert raised % EPOCH_STEP == 0
        assert spoken + OUTBOX_MAX < raised <= spoken + EPOCH_MARGIN + EPOCH_STEP


def test_a_device_that_is_out_of_service_for_good_is_credited_at_once_whatever_is_on_its_way(bench):
    line, device = bench.buy(3), Device("a")
    activate(bench, device, line, 2)
    bench.grant(device.activate((line, 3)))  # on its way
    raise_by_hold(bench, device)
    device.epoch, device.applied = device.epoch + 1, None
    credit = bench.credit(device.say("relinquish", speaks=2, final=True))
    assert sum(item.quantity for item in credit.credits) == 3
    assert bench.where(line) == (3, 0, 0, 0)
    assert server(bench, device).status is Status.RETIRED
    assert bench.credit(device.say("refresh", speaks=2, final=True)).credits == ()
    assert bench.incidents() == []


def test_a_final_message_from_before_a_restore_is_believed(bench):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    backup = back_up(bench)
    device.epoch, device.applied = device.epoch + 1, None
    message = device.say("relinquish", speaks=2, final=True)
    bench.credit(message)
    put_back(bench, backup)
    assert bench.credit(message).credits[0].quantity == 2
    assert server(bench, device).recovering is None


def test_on_hold_nobody_is_out_of_service_for_good(bench):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)

    def hold(tx):
        tx.tables.field_servers[device.id] = server(bench, device).changed(status=Status.HOLD)

    bench.store.transact(hold)
    device.epoch, device.applied = device.epoch + 1, None
    assert bench.refused(device.say("relinquish", speaks=2, final=True)).code == "on-hold"
    assert bench.where(line) == (0, 2, 0, 0)
    bench.release(device)
    bench.credit(device.say("refresh", speaks=2, final=True))
    assert bench.where(line) == (2, 0, 0, 0)


def test_one_that_said_final_and_speaks_otherwise_is_accused_and_gets_nothing(bench):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    copy = device.copy()
    device.epoch, device.applied = device.epoch + 1, None
    bench.credit(device.say("relinquish", speaks=2, final=True))
    copy.sequence = device.sequence
    grant, _ = bench.grant(copy.say("refresh"))
    assert grant.licenses == ()
    assert bench.incidents() == [IncidentKind.EPOCH_BEHIND]


@pytest.mark.parametrize("speaks", [None, 1])
def test_final_needs_a_field_server_that_speaks_revision_2(bench, speaks):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 2)
    device.epoch, device.applied = device.epoch + 1, None
    assert bench.refused(device.say("relinquish", speaks=speaks, final=True)).code == "revision-needed"
    assert bench.where(line) == (0, 2, 0, 0)


def test_what_a_field_server_speaks_is_remembered_from_its_newest_message(bench):
    line, device = bench.buy(2), Device("a")
    activate(bench, device, line, 1)
    assert server(bench, device).speaks == 1
    late = device.say("refresh")
    bench.post(device.say("refresh", speaks=2))
    bench.post(late)
    assert server(bench, device).speaks == 2
    bench.post(device.say("refresh", speaks=7))
    assert server(bench, device).speaks == 7


def test_a_message_that_waited_for_an_older_activation_server_is_taken_after_its_update(bench):
    """Revision 1 knows no `speaks`: it refuses without a trace, and the same bytes are good later."""
    line, device = bench.buy(2), Device("a")
    message = device.activate((line, 1), speaks=2)
    assert b'"speaks":2' in envelope.open_envelope(message.encode()).payload
    grant, _ = bench.grant(message)
    assert grant.licenses[0].quantity == 1


def test_a_reply_to_revision_1_has_no_claim_that_it_does_not_know(bench):
    """Its readers refuse what they do not know. So this list is never added to."""
    line, device = bench.buy(2), Device("a")
    known = {
        "iss", "sub", "iat", "epoch", "number", "request", "seen", "licenses", "confirm", "code", "detail", "reasons",
        "credits", "entries",
    }  # fmt: skip
    said = [device.activate((line, 1)), device.activate((line, 9)), device.relinquish()]
    for message in said:
        (answer,) = bench.post(message)
        for compact in answer.reply:
            payload = envelope.parse_json(envelope.open_envelope(compact.encode()).payload)
            assert payload.keys() <= known


def test_a_proof_grants_nothing_to_a_second_message(bench):
    line, device = bench.buy(3), Device("a")
    first = device.activate((line, 1))
    bench.grant(first)
    used = messages.convert_claims(envelope.open_envelope(first.encode()).payload, messages.Request)
    device.sequence += 1
    again = device.key.sign(
        messages.REQUEST,
        messages.encode_claims(
            messages.Request(
                **{name: getattr(used, name) for name in used.__struct_fields__}
                | {
                    "sequence": device.sequence,
                    "wants": (messages.LineWant(line=line.line_id, quantity=3, proof=used.wants[0].proof),),
                }
            )
        ),
        with_jwk=True,
    )
    assert bench.refused(again).code == "proof-used"
    assert bench.where(line) == (2, 1, 0, 0)
    assert bench.grant(first)[0].licenses[0].quantity == 1  # the same message is no second one
    assert bench.grant(device.activate((line, 3)))[0].licenses[0].quantity == 3


def test_a_proof_grants_nothing_to_a_second_message_of_the_same_file(bench):
    line, device = bench.buy(3), Device("a")
    wants = [messages.LineWant(line=line.line_id, quantity=quantity, proof=None) for quantity in (1, 3)]
    jti = "the-same-jti-in-both"
    proof = messages.activation_proof(line.activation_id, device.id, jti)
    said = []
    for number, want in enumerate(wants, 1):
        request = messages.Request(
            iss=device.id, aud=device.aud, jti=jti, iat=bench.now, purpose="activate", epoch=1, sequence=number,
            applied=None, facts=messages.Facts(kind="AS-P", host_id="host-a", name="a", software="1.0"),
            wants=(messages.LineWant(line=want.line, quantity=want.quantity, proof=proof),),
        )  # fmt: skip
        said.append(device.key.sign(messages.REQUEST, messages.encode_claims(request), with_jwk=True))
    codes = [answer.code for answer in bench.post(*said)]
    assert codes == [None, "proof-used"]


def test_one_that_was_listed_is_refused_with_a_host_id_that_another_one_of_its_account_has(bench):
    line = bench.buy(2)
    activate(bench, Device("a", host_id="same"), line, 1)
    device = Device("b", host_id="same")
    bench.store.transact(
        lambda tx: entitlements.list_field_server(tx, bench.signer, device.id, account="acme", now=bench.now)
    )
    assert bench.refused(device.say("refresh")).code == "host-id-taken"
    assert server(bench, device).status is Status.LISTED
    assert bench.incidents() == [IncidentKind.HOST_ID_TAKEN]


def test_a_change_to_a_host_id_that_is_taken_is_noted_and_nothing_grows(bench):
    line = bench.buy(3)
    activate(bench, Device("a", host_id="same"), line, 1)
    device = Device("b", host_id="own")
    activate(bench, device, line, 1)
    device.host_id = "same"
    assert bench.refused(device.activate((line, 2))).code == "host-id-taken"
    assert server(bench, device).host_id == "own"
    assert bench.incidents() == [IncidentKind.HOST_ID_TAKEN]
    give_all_back(bench, device)  # what it holds can always come back
    assert bench.where(line) == (2, 1, 0, 0)


def test_nobody_is_enrolled_by_a_wish_for_nothing(bench):
    line, device = bench.buy(2), Device("a")
    assert bench.refused(device.activate((line, 0))).code == "not-enrolled"
    assert device.id not in bench.store.tables.field_servers


def test_a_grant_of_a_removed_key_is_as_good_as_none_and_its_message_is_answered(bench):
    """Else the message would wait for ever: it is refused unsigned, however often it comes."""
    line, device = bench.buy(1), Device("a")
    backup = back_up(bench)
    activate(bench, device, line, 1)
    put_back(bench, backup)
    from support.activation import TestSigner, seeded
    from tallystick.protocol import keys
    from tallystick.protocol.envelope import PrivateKey

    signer = TestSigner()
    signer.key = PrivateKey(seeded("another key"))
    listed = (keys.SigningKey(jwk=keys.Jwk(**signer.key.public.jwk), valid_from=0),)
    compact = keys.make_keyset(signer.root, issuer=signer.keyset.issuer, version=2, issued_at=bench.now, keys=listed)
    signer.keyset = keys.parse_keyset(envelope.open_envelope(compact.encode()))
    bench.signer = signer
    assert bench.refused(device.say("refresh", grant=device.applied_grant)).code == "grant-unknown"
    bench.now += DAY


def test_a_waiting_period_that_ended_leaves_nobody_recovering(bench):
    """Nobody waits for it any more, and the freeze can be lifted."""
    line, device = bench.buy(1), Device("a")
    activate(bench, device, line, 1)
    put_back(bench, back_up(bench))
    bench.declare_lost(device)
    bench.now += 14 * DAY
    bench.settle()
    assert (server(bench, device).status, server(bench, device).recovering) == (Status.RETIRED, None)
