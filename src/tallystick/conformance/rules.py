"""The rules that a field server keeps (docs/protocol/README.md, "Rules of a field server"; keys.md), one function each.

A rule is a short play: it begins with a field server that holds one license and waits for nothing, and raises ``BrokenError`` where it
sees what must not be. They are played in this order; those of keys come last, because keysets only rise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.conformance.playing import ISSUER, LINE, BrokenError, Message, Play
from tallystick.protocol import envelope, keys, messages
from tallystick.protocol.envelope import PrivateKey, encode_base64url
from tallystick.protocol.messages import GRANT
from tallystick.protocol.problems import WireError

_FAR: Final = 20 * 365 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: its name for ever, what it says, and the play."""

    name: str
    says: str
    play: Callable[[Play], None]


RULES: list[Rule] = []


def _rule(play: Callable[[Play], None]) -> Callable[[Play], None]:
    RULES.append(Rule(name=play.__name__.replace("_", "-"), says=(play.__doc__ or "").strip(), play=play))
    return play


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a field server did. ``broken`` is None where it keeps the rule."""

    rule: Rule
    broken: str | None


def begin(play: Play) -> None:
    """Give it the keys, which it may know already."""
    play.give(play.keyset())
    play.settle()


def run(play: Play, rules: Sequence[Rule] = RULES) -> Iterator[Outcome]:
    """Rules in their order. One that is broken does not end the rest."""
    for rule in rules:
        broken = None
        try:
            play.settle()
            rule.play(play)
        except BrokenError as error:
            broken = str(error)
        except WireError as error:
            broken = f"expected a message of the protocol, saw {error.seen} ({error.code})"
        yield Outcome(rule=rule, broken=broken)


# Writing


@_rule
def message_says_what_is_in_force(play: Play) -> None:
    """A message says what is in force, for whom it is, and is signed by the device that it names."""
    asked = play.settle()
    after = play.state()
    play.expect(after.claims.aud == ISSUER, f"aud {ISSUER}", after.claims.aud)
    play.expect(after.claims.iss == asked.claims.iss, "one device id", after.claims.iss)
    play.expect(
        after.claims.applied is not None and after.claims.applied.number == play.number,
        f"grant {play.number} applied",
        after.claims.applied,
    )


@_rule
def sequence_rises_by_one(play: Play) -> None:
    """Each message has the sequence of the one before, and one more."""
    first = play.settle()
    second = play.state()
    play.expect(
        second.claims.sequence == first.claims.sequence + 1,
        f"sequence {first.claims.sequence + 1}",
        second.claims.sequence,
    )


@_rule
def outbox_is_the_same_every_time(play: Play) -> None:
    """Whoever asks for the outbox gets the same bytes every time, until a reply clears it."""
    play.state()
    first, second = play.field_server.outbox(), play.field_server.outbox()
    play.expect(first == second, "the same bytes twice", "others")


@_rule
def same_wish_is_the_same_message(play: Play) -> None:
    """A wish that the newest waiting message says already is that message."""
    first, second = play.state(), play.state()
    play.expect(
        first.compact == second.compact,
        "the same message",
        f"sequences {first.claims.sequence} and {second.claims.sequence}",
    )


@_rule
def activation_has_its_proof(play: Play) -> None:
    """An activation has the proof of the activation ID for this device and this message, and never the secret."""
    asked = play.ask(purpose="activate", wants=[{"activation_id": str(play.activation_id), "quantity": 2}])
    (want,) = asked.claims.wants or (None,)
    is_proven = want is not None and messages.is_proof_valid(
        play.activation_id, want.proof, asked.claims.device_id, asked.claims.jti
    )
    play.expect(is_proven, "a proof that fits", "another one, or none")
    play.expect(encode_base64url(play.activation_id.secret) not in asked.compact, "no secret", "the secret")


@_rule
def return_names_end_states(play: Play) -> None:
    """A return names end states, without a proof."""
    asked = play.ask(purpose="return", wants=[{"line": LINE, "quantity": 1}])
    said = [(want.line, want.quantity, want.proof) for want in asked.claims.wants or ()]
    play.expect(said == [(LINE, 1, None)], f"{LINE} to 1", said)


@_rule
def relinquish_raises_the_epoch(play: Play) -> None:
    """Relinquishing raises the epoch by one, drops the grant and writes the message, all at once."""
    before = play.settle()
    asked = play.ask(purpose="relinquish")
    claims = asked.claims
    play.expect(
        claims.purpose == "relinquish" and claims.applied is None,
        "a relinquish without a grant",
        f"{claims.purpose}, applied {claims.applied}",
    )
    play.expect(claims.epoch == before.claims.epoch + 1, f"epoch {before.claims.epoch + 1}", claims.epoch)


@_rule
def lower_epoch_is_stale(play: Play) -> None:
    """What was given up is not taken again: a grant of a lower epoch is stale, whatever its number."""
    before = play.settle()
    asked = play.ask(purpose="relinquish")
    play.give(play.grant(asked, epoch=before.claims.epoch, request=None))
    after = play.state()
    play.expect(
        after.claims.applied is None and after.claims.epoch == asked.claims.epoch,
        "no grant",
        f"applied {after.claims.applied}",
    )


@_rule
def one_carry_false_is_kept(play: Play) -> None:
    """Relinquishing is refused while a license with one_carry false is held."""
    asked = play.state()
    play.give(play.grant(asked, licenses=(play.license(asked, one_carry=False),)))
    is_written = play.field_server.wish({"purpose": "relinquish"})
    play.expect(not is_written and not play.waiting(), "a refusal", "a message")


# Taking a reply


@_rule
def newer_grant_is_taken(play: Play) -> None:
    """A grant with a higher number is taken, each time."""
    for _time in range(3):
        granted = play.grant(play.state())
        play.give(granted)
        play.expect_taken(granted)


@_rule
def unasked_grant_is_taken(play: Play) -> None:
    """A grant that a person at the activation server started is taken as well."""
    asked = play.settle()
    granted = play.grant(asked, request=None)
    play.give(granted)
    play.expect_taken(granted)


@_rule
def older_grant_is_stale(play: Play) -> None:
    """A grant with a lower number is stale."""
    asked = play.settle()
    older = play.grant(asked, request=None)
    newer = play.grant(asked, request=None)
    play.give(newer)
    play.expect_taken(newer)
    play.expect_untouched(play.state(), older)


@_rule
def same_grant_again_is_fine(play: Play) -> None:
    """The grant in force again changes nothing."""
    asked = play.state()
    granted = play.grant(asked, confirm=True)
    play.give(granted)
    first = play.field_server.outbox()
    play.give(granted)
    play.expect(first == play.field_server.outbox(), "the same outbox", "another one")


@_rule
def higher_epoch_is_followed(play: Play) -> None:
    """A grant of a higher epoch is taken, and the epoch follows."""
    asked = play.state()
    epoch = asked.claims.epoch + 1152
    granted = play.grant(asked, epoch=epoch)
    play.give(granted)
    after = play.expect_taken(granted)
    play.expect(after.claims.epoch == epoch, f"epoch {epoch}", after.claims.epoch)


@_rule
def reply_clears_all_before(play: Play) -> None:
    """A reply to a waiting message clears it and all before it."""
    play.state()
    play.ask(purpose="return", wants=[{"line": LINE, "quantity": 1}])
    asked = play.ask(purpose="return", all=True)
    play.expect(len(play.waiting()) == 3, "three messages", len(play.waiting()))
    play.give(play.grant(asked))
    play.nothing_waits()


@_rule
def later_messages_wait_on(play: Play) -> None:
    """A reply clears only what it answers: later messages wait on."""
    first = play.state()
    later = play.ask(purpose="return", all=True)
    play.give(play.refusal(first, "superseded"))
    waiting = [message.compact for message in play.waiting()]
    play.expect(waiting == [later.compact], "the later message", f"{len(waiting)} messages")


@_rule
def stale_reply_clears(play: Play) -> None:
    """A stale grant that answers a waiting message clears it, too."""
    asked = play.settle()
    stale = play.grant(asked, request=None)
    play.give(play.grant(asked, request=None))
    waiting = play.state()
    again = play.grant(waiting, number=play.number - 1)
    play.expect(stale != again, "another grant", "the same")
    play.give(again)
    play.nothing_waits()


@_rule
def confirm_is_written(play: Play) -> None:
    """A taken grant with confirm writes the confirm by itself, in the same step."""
    asked = play.state()
    granted = play.grant(asked, confirm=True)
    play.give(granted)
    waiting = play.waiting()
    purposes = [message.claims.purpose for message in waiting]
    play.expect(purposes == ["confirm"], "a confirm", purposes or "nothing")
    applied = waiting[0].claims.applied
    play.expect(applied is not None and applied.number == play.number, f"that grant {play.number} is applied", applied)


@_rule
def unknown_grant_is_attached_once(play: Play) -> None:
    """A refusal grant-unknown makes it attach its grant, once."""
    asked = play.settle()
    granted = play.grant(asked, request=None)
    play.give(granted)
    asked = play.state()
    play.give(play.refusal(asked, "grant-unknown"))
    waiting = play.waiting()
    attached = [
        message for message in waiting if message.claims.grant == granted and message.claims.purpose == "refresh"
    ]
    play.expect(
        len(attached) == 1, "a refresh with the grant, verbatim", f"{len(waiting)} messages, {len(attached)} with it"
    )
    play.give(play.refusal(attached[0], "grant-unknown"))
    again = [message for message in play.waiting() if message.claims.grant is not None]
    play.expect(not again, "that it is attached once", "once more")


@_rule
def overtaken_wish_is_asked_about(play: Play) -> None:
    """A wish that was cleared by the answer to a later message is asked about: its grant may be lost."""
    play.ask(purpose="activate", wants=[{"activation_id": str(play.activation_id), "quantity": 1}])
    later = play.ask(purpose="return", wants=[{"line": LINE, "quantity": 1}])
    play.give(play.refusal(later, "denied"))
    purposes = [message.claims.purpose for message in play.waiting()]
    play.expect(purposes == ["refresh"], "a refresh", purposes or "nothing")


@_rule
def rollback_is_reported(play: Play) -> None:
    """A `seen` above the own sequence: the sequence follows, and a refresh reports it."""
    asked = play.state()
    play.give(play.refusal(asked, "superseded", seen=asked.claims.sequence + 40))
    waiting = play.waiting()
    play.expect([message.claims.purpose for message in waiting] == ["refresh"], "a refresh", f"{len(waiting)} messages")
    claims = waiting[0].claims
    play.expect(
        claims.sequence == asked.claims.sequence + 41, f"sequence {asked.claims.sequence + 41}", claims.sequence
    )
    play.expect(claims.rolled_back_at is not None, "rolled_back_at", "none")


@_rule
def restore_is_answered_with_the_grant(play: Play) -> None:
    """After a refusal restored the sequence follows, and the grant is attached."""
    asked = play.settle()
    granted = play.grant(asked, request=None)
    play.give(granted)
    asked = play.state()
    before = asked.claims.rolled_back_at
    play.give(play.refusal(asked, "restored", seen=asked.claims.sequence + 1000))
    waiting = play.waiting()
    play.expect(len(waiting) == 1, "a refresh", f"{len(waiting)} messages")
    claims = waiting[0].claims
    play.expect(
        claims.sequence == asked.claims.sequence + 1001, f"sequence {asked.claims.sequence + 1001}", claims.sequence
    )
    play.expect(claims.grant == granted, "the grant, verbatim", "another one, or none")
    play.expect(
        claims.rolled_back_at == before,
        "that nobody is said to be rolled back",
        f"rolled_back_at {claims.rolled_back_at}",
    )


# What is not taken


@_rule
def other_device_is_not_taken(play: Play) -> None:
    """A message for another field server changes nothing."""
    asked = play.state()
    play.expect_untouched(asked, play.grant(asked, sub=play.stranger.public.thumbprint))


@_rule
def wrong_signature_is_not_taken(play: Play) -> None:
    """A message whose signature does not fit changes nothing."""
    asked = play.state()
    head, _dot, signature = play.grant(asked).rpartition(".")
    play.expect_untouched(asked, f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}")


@_rule
def stranger_is_not_taken(play: Play) -> None:
    """A message by a key that the keyset does not list changes nothing, whatever kid it names."""
    asked = play.state()
    true = play.grant(asked)
    signed = true.rpartition(".")[0]
    forged = play.stranger.sign(GRANT, envelope.open_envelope(true.encode()).payload)
    play.expect_untouched(asked, forged, f"{signed}.{forged.rpartition('.')[2]}")


@_rule
def other_issuer_is_not_taken(play: Play) -> None:
    """A message of another issuer changes nothing."""
    asked = play.state()
    play.expect_untouched(asked, play.grant(asked, iss="Somebody Else"))


@_rule
def key_out_of_its_time_is_not_taken(play: Play) -> None:
    """A message that was issued when its key was not valid changes nothing."""
    asked = play.state()
    play.expect_untouched(
        asked, play.grant(asked, iat=play.now - _FAR, request=None), play.grant(asked, iat=play.now + _FAR)
    )


@_rule
def root_signs_no_grants(play: Play) -> None:
    """The root signs keysets; a grant that it signed changes nothing."""
    asked = play.state()
    play.expect_untouched(asked, play.grant(asked, signer=play.root))


@_rule
def name_twice_is_not_taken(play: Play) -> None:
    """A name that stands twice in one object is refused."""
    asked = play.state()
    play.expect_untouched(asked, _respelled(play, asked, lambda text: text[:-1] + b',"confirm":false}'))


@_rule
def unknown_claim_is_not_taken(play: Play) -> None:
    """A claim that is not known is refused."""
    asked = play.state()
    play.expect_untouched(asked, _respelled(play, asked, lambda text: text[:-1] + b',"note":1}'))


@_rule
def fraction_is_not_taken(play: Play) -> None:
    """A number that is not whole is refused."""
    asked = play.state()
    seen = f'"seen":{asked.claims.sequence}'.encode()
    play.expect_untouched(asked, _respelled(play, asked, lambda text: text.replace(seen, seen + b".0")))


@_rule
def respelled_signature_is_not_taken(play: Play) -> None:
    """base64url whose unused bits are not zero is refused: one message has one spelling."""
    asked = play.state()
    symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    good = play.grant(asked)
    play.expect_untouched(asked, good[:-1] + symbols[symbols.index(good[-1]) + 1])


def _respelled(play: Play, asked: Message, change: Callable[[bytes], bytes]) -> str:
    payload = envelope.open_envelope(play.grant(asked).encode()).payload
    return play.signing.sign(GRANT, change(payload))


# Files


@_rule
def good_lines_go_through(play: Play) -> None:
    """A line that is no envelope is passed over; the lines beside it go through."""
    asked = play.state()
    granted = play.grant(asked)
    play.give(
        "# for people",
        b"\xff\xfe\x00",
        "hello",
        "",
        "A" * 70_000,
        b"\xef\xbb\xbf \t" + granted.encode() + b" \r",
        "a.b.c",
    )
    play.expect_taken(granted)


@_rule
def keys_may_stand_behind(play: Play) -> None:
    """Kinds may be mixed, in any order: keys count for what stands before them in a file."""
    asked = play.state()
    play.listed = (play.signing, play.second)
    granted = play.grant(asked, signer=play.second)
    play.give(granted, play.keyset())
    play.expect_taken(granted)


# Keys


@_rule
def newer_keyset_counts(play: Play) -> None:
    """A keyset with a higher version is taken, and its keys count."""
    asked = play.state()
    third = PrivateKey(play.second.seed()[::-1])
    play.listed = (play.signing, play.second, third)
    play.give(play.keyset())
    granted = play.grant(asked, signer=third)
    play.give(granted)
    play.expect_taken(granted)


@_rule
def older_keyset_is_stale(play: Play) -> None:
    """A keyset with a lower version changes nothing, and a key that was taken out counts no more."""
    asked = play.state()
    older = play.keyset(listed=(play.signing, play.second))
    play.listed = (play.signing,)
    play.give(play.keyset())
    play.give(older)
    play.expect_untouched(asked, play.grant(asked, signer=play.second, request=None))


@_rule
def other_root_is_not_taken(play: Play) -> None:
    """A keyset of another root changes nothing, and neither does what its keys sign."""
    asked = play.state()
    foreign = play.keyset(version=play.version + 100, root=play.stranger, listed=(play.second,))
    play.expect_untouched(asked, foreign, play.grant(asked, signer=play.second, request=None))
    granted = play.grant(asked)
    play.give(granted)
    play.expect_taken(granted)


@_rule
def forged_keyset_is_not_taken(play: Play) -> None:
    """A keyset that names the root, and that another key signed, changes nothing."""
    asked = play.state()
    true = play.keyset(version=play.version + 100, listed=(play.second,))
    payload = envelope.open_envelope(true.encode()).payload
    forged = play.stranger.sign(messages.KEYS, payload)
    signed = true.rpartition(".")[0]
    play.expect_untouched(
        asked, forged, f"{signed}.{forged.rpartition('.')[2]}", play.grant(asked, signer=play.second, request=None)
    )


@_rule
def removed_key_is_asked_about(play: Play) -> None:
    """A reply whose key was taken out while it was under way makes it ask again, once."""
    asked = play.ask(purpose="return", all=True)
    lost = play.grant(asked, signer=play.second, iat=play.now - 10)
    play.give(play.keyset(), lost)
    play.give(lost)
    refreshes = [message for message in play.waiting() if message.claims.purpose == "refresh"]
    play.expect(len(refreshes) == 1, "one refresh", len(refreshes))


@_rule
def handover_is_followed(play: Play) -> None:
    """A root that was handed over: the keyset of its successor is taken, and the old root has nothing to say any more."""
    asked = play.state()
    old, successor = play.root, PrivateKey(play.root.seed()[::-1])
    forged = keys.make_handover(
        play.stranger, issuer=ISSUER, version=play.version + 1, issued_at=play.now, successor=successor.public
    )
    play.handovers, play.root = [forged], successor
    play.expect_untouched(
        asked,
        play.keyset(version=play.version + 100, listed=(play.second,)),
        play.grant(asked, signer=play.second, request=None),
    )
    play.version += 1
    play.handovers = [
        keys.make_handover(old, issuer=ISSUER, version=play.version, issued_at=play.now, successor=successor.public)
    ]
    play.listed = (play.second,)
    play.give(play.keyset(version=play.version))
    play.signing, play.second = play.second, play.signing
    granted = play.grant(asked)
    play.give(granted)
    play.expect_taken(granted)
    handovers, play.handovers = play.handovers, []
    after = play.state()
    play.expect_untouched(
        after,
        play.keyset(version=play.version + 100, root=old, listed=(play.second,)),
        play.grant(after, signer=play.second, request=None),
    )
    play.handovers = handovers


# The end: there is no way back from it


@_rule
def final_takes_nothing(play: Play) -> None:
    """With final everything is given up, and no grant is taken any more, whatever it says."""
    asked = play.ask(purpose="relinquish", final=True)
    play.expect(
        asked.claims.final is True and asked.claims.applied is None,
        "final, and no grant",
        f"final {asked.claims.final}",
    )
    play.give(play.grant(asked, epoch=asked.claims.epoch + 5000))
    after = play.state()
    play.expect(
        after.claims.final is True and after.claims.applied is None,
        "final, and no grant",
        f"applied {after.claims.applied}",
    )
