"""What a field server must do since revision 2 of the wire."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tallystick.fieldserver import codec, engine
from tallystick.fieldserver.state import OUTBOX_MAX, Device, LineEffect, Refresh, Refused, Relinquish, Return, State
from tallystick.protocol import envelope, keys, messages
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.messages import Facts, Grant, LicenseClaim

NOW = 1_800_000_000
ROOT, OLD, NEW = (PrivateKey(bytes([number] * 32)) for number in (1, 2, 3))
KEY = PrivateKey(bytes([9] * 32))
DEVICE = Device(key=KEY, facts=Facts(kind="AS-P", host_id="h", name="n", software="1"))


def keyset(version: int, *listed: PrivateKey, at: int = NOW, until: int | None = None) -> str:
    signing = tuple(
        keys.SigningKey(jwk=keys.Jwk(**key.public.jwk), valid_from=0, valid_until=until if key is OLD else None)
        for key in listed
    )
    return keys.make_keyset(ROOT, issuer="A", version=version, issued_at=at, keys=signing)


def hear(state: State, compact: str):
    return engine.receive(state, open_envelope(compact.encode()), device=DEVICE, now=NOW, random=bytes(16))


def ask(state: State, wish):
    return engine.write_request(state, wish, device=DEVICE, now=NOW, random=bytes(16))


def start() -> State:
    return hear(State(device_id=DEVICE.device_id), keyset(1, OLD))[0]


def grant(state: State, *, number: int = 1, epoch: int = 1, request=None, key=OLD, iat: int = NOW, quantity: int = 1):
    claim = LicenseClaim(
        license="LC-1", line="7K3M9Q2A", product="p", quantity=quantity, features={}, expires=None, one_carry=True
    )
    claims = Grant(
        iss="A", sub=DEVICE.device_id, iat=iat, epoch=epoch, number=number, request=request, seen=state.sequence,
        licenses=(claim,), confirm=False,
    )  # fmt: skip
    return key.sign(messages.GRANT, messages.encode_claims(claims))


def said(state: State) -> list[messages.Request]:
    return [waiting.claims() for waiting in state.outbox]


def test_every_message_says_what_it_speaks():
    state, _ = ask(start(), Refresh())
    assert said(state)[0].speaks == messages.REVISION == 2
    assert b'"speaks":2' in open_envelope(state.outbox[0].compact.encode()).payload


def test_a_device_that_is_scrapped_takes_no_grant_any_more_of_no_epoch():
    state, _ = hear(start(), grant(start()))
    assert state.licenses
    state, _ = ask(state, Relinquish(is_final=True))
    (claims,) = said(state)
    assert (claims.purpose, claims.final, claims.epoch, claims.applied) == ("relinquish", True, 2, None)
    for epoch in (1, 2, 3, 2**40):
        after, received = hear(state, grant(state, number=50, epoch=epoch))
        assert (after.licenses, received.effect, received.code) == ((), LineEffect.STALE, "out-of-service")
        assert after.epoch == 2


def test_whatever_a_scrapped_device_writes_says_so_and_it_wishes_for_nothing():
    state, _ = ask(start(), Relinquish(is_final=True))
    state, written = ask(state, Relinquish(is_final=True))
    assert (written.message.purpose, written.message.claims().final) == ("refresh", True)
    assert state.epoch == 2
    again, repeated = ask(state, Refresh())
    assert again is state
    assert repeated.is_repeated
    _, refused = ask(state, Return(wants=None))
    assert isinstance(refused, Refused)
    assert refused.code == "out-of-service"


def test_a_relinquish_that_is_not_final_leaves_it_in_service():
    state, _ = ask(start(), Relinquish())
    assert said(state)[0].final is None
    after, _ = hear(state, grant(state, epoch=2))
    assert after.licenses


def test_that_it_is_final_survives_a_restart_and_an_older_vault_is_read():
    state, _ = ask(start(), Relinquish(is_final=True))
    assert codec.parse_state(codec.encode_state(state)) == state
    plain = start()
    assert b"final" not in codec.encode_state(plain)
    assert codec.parse_state(codec.encode_state(plain)) == plain


@pytest.mark.parametrize("removed", ["gone", "ended before it signed"])
def test_a_reply_whose_key_was_removed_meanwhile_makes_it_ask_again_once(removed):
    state, written = ask(start(), Relinquish())
    reply = grant(state, epoch=2, request=written.message.digest, iat=NOW)
    listed = (NEW,) if removed == "gone" else (OLD, NEW)
    state, _ = hear(state, keyset(2, *listed, at=NOW + 60, until=NOW - 10))
    after, received = hear(state, reply)
    assert (received.effect, received.code) == (LineEffect.ERROR, "key-unknown")
    assert [claims.purpose for claims in said(after)] == ["relinquish", "refresh"]
    again, _ = hear(after, reply)
    assert again == after
    answered = grant(after, epoch=2, request=after.outbox[-1].digest, key=NEW, iat=NOW + 90)
    healed, _ = hear(after, answered)
    assert healed.outbox == ()
    assert healed.licenses


def test_a_reply_by_a_key_that_its_keyset_does_not_know_yet_is_waited_for():
    """Rotation: the keyset is on its way, too. Nothing is lost, and nothing is asked."""
    state, written = ask(start(), Refresh())
    after, received = hear(state, grant(state, request=written.message.digest, key=NEW, iat=NOW + 60))
    assert (received.code, after.outbox) == ("key-unknown", state.outbox)


def test_strangers_who_invent_replies_cannot_fill_the_outbox():
    state, written = ask(start(), Refresh())
    state, _ = hear(state, keyset(2, OLD, at=NOW + 60))
    for _ in range(OUTBOX_MAX + 10):
        state, _ = hear(state, grant(state, request=state.outbox[-1].digest, key=NEW, iat=NOW))
    assert len(state.outbox) <= OUTBOX_MAX
    unasked, _ = hear(state, grant(state, request=envelope.encode_base64url(bytes(32)), key=NEW, iat=NOW))
    assert unasked == state


def test_a_field_server_of_revision_1_takes_what_comes_of_the_new_rules():
    """Its readers and rules are those of today but for what is new: a higher epoch is taken, and voids what is older."""
    state, _ = hear(start(), grant(start(), epoch=1, number=1))
    forgotten = grant(state, epoch=1024, number=2)
    fence = grant(state, epoch=NOW << 14, number=NOW * 1000, quantity=1)
    state, received = hear(state, fence)
    assert received.effect is LineEffect.APPLIED
    assert NOW << 14 <= messages.EPOCH_MAX
    after, received = hear(state, forgotten)
    assert received.effect is LineEffect.STALE
    assert replace(after, outcomes=()) == replace(state, outcomes=())
