"""The field server's side of the protocol (sections 5 and 6), pure: everything that affects its state lives here.

``(state, what happened, now, random) -> (state, result)``. A returned state that differs is to be made durable before
anything of it is let out; one that is the same object needs no write. The rules:

1.  A message is written with ``sequence`` + 1, which never falls, also not with a new epoch. The message of a step
    and its effect are one state: there is nothing between.
2.  A wish that says what the newest waiting message says (same end states, epoch and applied grant) is that message.
3.  Nothing is asked before a root is pinned. At most ``OUTBOX_MAX`` waiting messages take further wishes; what the
    field server writes by itself is never held up, and is bounded by what the activation server signs.
4.  Relinquish: epoch + 1, no grant, and the message that says so; only if every held license allows it. Where it is
    final, no grant is ever taken any more, nothing is wished for, and every later message says so, too.
5.  The first keyset pins its root, which must be the one that was named at init where one was; later ones need the same root, or one that it was handed over to, the same issuer,
    and a higher version.
6.  A reply counts if a key of the keyset signed it while it was valid, its issuer is the keyset's, and it is for
    this device. Then, in this order, and in one step:
    a. ``seen`` above the own sequence: this state was rolled back, or there are two of it; but for a refusal
       ``restored``, which only means that the activation server was. The sequence follows.
    b. A grant is taken iff ``(epoch, number)`` is above the own epoch and applied number (0 without one). The grant in
       force again, byte for byte, is fine. All else is stale, and changes nothing of what is held.
    c. A reply to a waiting message clears it and all before it, a stale one too: it was received.
    d. A grant that is taken and asks for proof: ``confirm``. A refusal ``grant-unknown``: ``refresh`` with the grant,
       verbatim, once. A rollback that a) found: ``refresh``, unless the grant was taken; after ``restored`` with the
       grant in force, verbatim. An activation or a return cleared by a later message's reply that was not taken:
       ``refresh``, because its own grant may be lost, and nothing else would ever bring it.
    e. A reply to a waiting message whose key is not, or no longer, in a keyset that is newer than the reply never
       counts, however often it comes: ``refresh``, once for each message, and not beyond ``OUTBOX_MAX``.
7.  A step takes ``time_seen`` up to ``now``, never down, but for a grant that is taken: then it is the greater of
    ``now`` and the grant's ``iat``, which is the activation server's signed time. So a clock that jumped ahead and came
    back is healed by a refresh. Nobody gains by it: a grant is taken once, and whoever holds one back and sets the
    clock back to its ``iat`` gets what stopping the clock at that moment would have given, and no more.
8.  Whatever is refused leaves the state as it was.

It leaves to others: durability and damage (``vault``), who may ask (``api``), whether a feature may run (``checks``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, Never, assert_never

from tallystick.domain.ids import LineId
from tallystick.errors import Error
from tallystick.fieldserver.state import (
    OUTBOX_MAX,
    OUTCOMES_MAX,
    Activate,
    Device,
    Fate,
    LineEffect,
    MessageFate,
    Received,
    Refresh,
    Refused,
    Relinquish,
    Return,
    State,
    Waiting,
    Wish,
    Written,
    make_applied,
    make_waiting,
)
from tallystick.protocol import keys, messages
from tallystick.protocol.envelope import INTEGER_MAX, Unverified, digest_of, encode_base64url
from tallystick.protocol.keys import Keyset
from tallystick.protocol.messages import (
    CREDIT,
    ENTITLEMENT,
    EPOCH_MAX,
    GRANT,
    KEYS,
    LICENSES_MAX,
    QUANTITY_MAX,
    REFUSAL,
    REQUEST,
    REVISION,
    AppliedGrant,
    Credit,
    Grant,
    LineReason,
    LineWant,
    Purpose,
    Refusal,
    Reply,
    Request,
)
from tallystick.protocol.problems import WireError, detail_text
from tallystick.sentences import _

_KINDS: Final = {
    REQUEST: "request",
    GRANT: "grant",
    REFUSAL: "refusal",
    CREDIT: "credit",
    KEYS: "keys",
    ENTITLEMENT: "entitlement",
}
_FINAL: Final = "one that was taken out of service for good"
# A later reply to the same message replaces an earlier one only where it says more, so that order does not matter.
_WEIGHT: Final = {Fate.OVERTAKEN: 0, Fate.CREDITED: 1, Fate.REFUSED: 2, Fate.GRANTED: 3}


def write_request(
    state: State, wish: Wish, *, device: Device, now: int, random: bytes
) -> tuple[State, Written | Refused]:
    """Write the message that asks for ``wish``, or find it waiting, or refuse. ``random``: 16 bytes or more."""
    if state.final and isinstance(wish, Relinquish):
        wish = Refresh()  # it was said; whatever is written says it again
    refused = _refuse_wish(state, wish)
    if refused is not None:
        return state, refused
    if state.outbox and _says(state.outbox[-1], wish, state):
        return state, Written(message=state.outbox[-1], is_repeated=True)
    refused = _refuse_new(state, wish)
    if refused is not None:
        return state, refused
    if isinstance(wish, Relinquish):
        state = replace(state, epoch=state.epoch + 1, applied=None, final=wish.is_final)
    state = _write(state, wish, device=device, now=now, random=random)
    return _seen_time(state, now), Written(message=state.outbox[-1], is_repeated=False)


def receive(state: State, envelope: Unverified, *, device: Device, now: int, random: bytes) -> tuple[State, Received]:
    """Take one delivered envelope, whatever it is. Never raises for what it carries."""
    kind = _KINDS.get(envelope.typ, "unknown")
    digest = digest_of(envelope.compact)
    try:
        match envelope.typ:
            case messages.KEYS:
                after, effect, code, detail = _receive_keyset(state, envelope, device=device)
            case messages.GRANT | messages.REFUSAL | messages.CREDIT:
                if state.applied is not None and state.applied.digest == digest:
                    return state, _received(kind, envelope, LineEffect.ALREADY, None, "This grant is in force.")
                after, effect, code, detail = _receive_reply(state, envelope, device=device, now=now, random=random)
            case messages.ENTITLEMENT:
                after, effect, code, detail = _receive_entitlement(state, envelope)
            case _:
                _refuse("kind-unexpected", _("a grant, a refusal, a credit or keys"), envelope.typ[:40])
    except Error as error:
        if error.code == "invariant":
            raise
        return state, _received(kind, envelope, LineEffect.ERROR, error.code, _detail(error))
    return (state if after is state else _seen_time(after, now)), _received(kind, envelope, effect, code, detail)


def receive_all(
    state: State, envelopes: Sequence[Unverified], *, device: Device, now: int, random: bytes
) -> tuple[State, tuple[Received, ...]]:
    """Take a whole file as one step. Keys go first, wherever they stand, then grants; results in the order of the file."""
    results: dict[int, Received] = {}
    turns = {KEYS: 0, GRANT: 1}
    for place, envelope in sorted(enumerate(envelopes), key=lambda item: turns.get(item[1].typ, 2)):
        state, results[place] = receive(state, envelope, device=device, now=now, random=random)
    return state, tuple(results[place] for place in range(len(envelopes)))


def note_time(state: State, now: int) -> State:
    """Remember the highest time seen. The same object when there is nothing new."""
    return _seen_time(state, now)


# Writing


def _refuse_wish(state: State, wish: Wish) -> Refused | None:
    if state.keyset is None:
        return Refused(code="no-root", expected=_("the keys of an activation server"), seen=_("none delivered so far"))
    if state.final and not isinstance(wish, Refresh):
        return Refused(code="out-of-service", expected=_("a field server in service"), seen=_FINAL)
    match wish:
        case Activate(wants=wants):
            ends = [(want.activation_id.line_id, want.quantity) for want in wants]
        case Return(wants=lowered):
            if lowered is None:
                return None
            ends = [(want.line_id, want.quantity) for want in lowered]
        case Refresh() | Relinquish():
            return None
        case _:
            assert_never(wish)
    return _refuse_ends(ends)


def _refuse_ends(ends: Sequence[tuple[LineId, int]]) -> Refused | None:
    if not 1 <= len(ends) <= LICENSES_MAX:
        return Refused(
            code="usage",
            expected=_("from 1 to {licenses_max} lines", licenses_max=LICENSES_MAX),
            seen=_("{count} lines", count=len(ends)),
        )
    for line_id, quantity in ends:
        if not 0 <= quantity <= QUANTITY_MAX:
            return Refused(
                code="quantity-wrong",
                expected=_("a quantity up to {quantity_max}", quantity_max=QUANTITY_MAX),
                seen=_("{quantity} of {line_id}", quantity=quantity, line_id=line_id),
            )
    lines = [line_id for line_id, _other in ends]
    twice = sorted({line_id for line_id in lines if lines.count(line_id) > 1})
    if twice:
        return Refused(
            code="line-twice", expected=_("each line once"), seen=_("{twice} more than once", twice=", ".join(twice))
        )
    return None


def _refuse_new(state: State, wish: Wish) -> Refused | None:
    if len(state.outbox) >= OUTBOX_MAX:
        return Refused(
            code="outbox-full",
            expected=_("fewer than {outbox_max} messages in the outbox", outbox_max=OUTBOX_MAX),
            seen=f"{len(state.outbox)}",
        )
    if isinstance(wish, Return) and not state.licenses and not state.outbox:
        return Refused(
            code="nothing-held", expected=_("a license to return"), seen=_("none held, and nothing under way")
        )
    if isinstance(wish, Relinquish):
        kept = [license_.line_id for license_ in state.licenses if not license_.one_carry]
        if kept:
            return Refused(
                code="one-carry-not-allowed",
                expected=_("licenses that all allow a one-carry return"),
                seen=_("lines that do not: {kept}", kept=", ".join(sorted(kept))),
            )
        if state.epoch >= EPOCH_MAX:
            return Refused(
                code="one-carry-not-allowed",
                expected=_("an epoch below {epoch_max}", epoch_max=EPOCH_MAX),
                seen=_("epoch {epoch}", epoch=state.epoch),
            )
    return None


def _says(waiting: Waiting, wish: Wish, state: State) -> bool:
    """Rule 2. The proofs of an activation are compared too, made with the nonce of the waiting message."""
    if waiting.purpose != _purpose(wish):
        return False
    claims = waiting.claims()
    return (
        claims.epoch == state.epoch
        and claims.applied == _applied_claim(state)
        and claims.wants == _wants(state, wish, claims.jti)
        and claims.all == _all(wish)
        and claims.final == _final(state)
    )


def _write(
    state: State,
    wish: Wish | None,
    *,
    device: Device,
    now: int,
    random: bytes,
    grant: str | None = None,
) -> State:
    """Rule 1. ``wish`` None is ``confirm``, which nobody can ask for."""
    if state.keyset is None or state.sequence >= INTEGER_MAX:
        _refuse(
            "no-root", _("a keyset, and a sequence that can rise"), _("sequence {sequence}", sequence=state.sequence)
        )
    sequence = state.sequence + 1
    jti = encode_base64url(hashlib.sha256(random + sequence.to_bytes(8, "big")).digest()[:18])
    claims = Request(
        iss=state.device_id,
        aud=state.keyset.issuer,
        jti=jti,
        iat=now,
        purpose="confirm" if wish is None else _purpose(wish),
        epoch=state.epoch,
        sequence=sequence,
        applied=_applied_claim(state),
        facts=device.facts,
        wants=None if wish is None else _wants(state, wish, jti),
        all=None if wish is None else _all(wish),
        grant=grant,
        rolled_back_at=state.rolled_back_at,
        speaks=REVISION,
        final=_final(state),
    )
    compact = device.key.sign(REQUEST, messages.encode_claims(claims), with_jwk=True)
    return replace(state, sequence=sequence, outbox=(*state.outbox, make_waiting(compact, claims)))


def _purpose(wish: Wish) -> Purpose:
    match wish:
        case Activate():
            return "activate"
        case Return():
            return "return"
        case Refresh():
            return "refresh"
        case Relinquish():
            return "relinquish"
        case _:
            assert_never(wish)


def _wants(state: State, wish: Wish, jti: str) -> tuple[LineWant, ...] | None:
    """The end states, in the order of their lines, so that two orders of one wish are one message."""
    match wish:
        case Activate(wants=wants):
            claims = [
                LineWant(
                    line=want.activation_id.line_id,
                    quantity=want.quantity,
                    proof=messages.activation_proof(want.activation_id, state.device_id, jti),
                )
                for want in wants
            ]
        case Return(wants=tuple() as lowered):
            claims = [LineWant(line=want.line_id, quantity=want.quantity) for want in lowered]
        case _:
            return None
    return tuple(sorted(claims, key=lambda claim: claim.line))


def _all(wish: Wish) -> Literal[True] | None:
    return True if isinstance(wish, Return) and wish.wants is None else None


def _final(state: State) -> Literal[True] | None:
    return True if state.final else None


def _applied_claim(state: State) -> AppliedGrant | None:
    if state.applied is None:
        return None
    return AppliedGrant(number=state.applied.number, digest=state.applied.digest)


# Receiving


def _receive_keyset(state: State, envelope: Unverified, *, device: Device) -> tuple[State, LineEffect, str | None, str]:
    """Rule 5."""
    have = state.keyset
    if have is not None and have.compact == envelope.compact:
        return state, LineEffect.ALREADY, None, f"Keyset {have.version} is in force."
    if have is None:
        keyset = keys.parse_keyset(envelope)
        root = keyset.root_fingerprint
        if device.root is not None and device.root not in keyset.root_fingerprints:
            _refuse(
                "root-differs",
                _("root {thumbprint}, which was named at init", thumbprint=device.root),
                _("root {thumbprint}", thumbprint=root),
            )
        return replace(state, keyset=keyset), LineEffect.APPLIED, None, f"Root {root} of {keyset.issuer} is pinned."
    keyset = keys.parse_successor(envelope, have)
    if keyset.version <= have.version:
        detail = detail_text(
            "keyset-stale",
            expected=_("a keyset above version {version}", version=have.version),
            seen=_(
                "{value} version {version}",
                value="another" if keyset.version == have.version else "a",
                version=keyset.version,
            ),
        )
        return state, LineEffect.STALE, "keyset-stale", detail
    handed = "" if keyset.root == have.root else f" The root was handed over: {keyset.root_fingerprint} is pinned."
    return replace(state, keyset=keyset), LineEffect.APPLIED, None, f"Keyset {keyset.version} is in force.{handed}"


def _receive_entitlement(state: State, envelope: Unverified) -> tuple[State, LineEffect, str | None, str]:
    keyset = _pinned(state)
    verified = keyset.verify(envelope)
    certificate = messages.parse_entitlement(verified)
    keyset.check_issued(verified, issuer=certificate.iss, issued_at=certificate.iat)
    return state, LineEffect.NOTED, None, "A certificate is for Device Administrator; a field server has no use for it."


def _receive_reply(
    state: State, envelope: Unverified, *, device: Device, now: int, random: bytes
) -> tuple[State, LineEffect, str | None, str]:
    """Rule 6."""
    keyset = _pinned(state)
    try:
        verified = keyset.verify(envelope)
        reply = messages.parse_reply(verified)
        keyset.check_issued(verified, issuer=reply.iss, issued_at=reply.iat)
    except WireError as error:
        if error.code != "key-unknown" or not _is_key_gone(state, envelope, keyset):
            raise
        return (
            _write(state, Refresh(), device=device, now=now, random=random),
            LineEffect.ERROR,
            error.code,
            _detail(error),
        )
    if reply.sub != state.device_id:
        _refuse(
            "device-wrong",
            _("a message for {device_id}", device_id=state.device_id),
            _("one for {sub}", sub=reply.sub),
        )
    before = state
    is_ahead = reply.seen > state.sequence
    # Who is final is believed as it was before a restore, so that no refusal comes between.
    is_restored = before.final or (isinstance(reply, Refusal) and reply.code == "restored")
    if is_ahead:
        state = replace(state, sequence=reply.seen, rolled_back_at=state.rolled_back_at if is_restored else now)
    is_taken = isinstance(reply, Grant) and _is_newer(reply, before)
    if isinstance(reply, Grant) and is_taken:
        applied = make_applied(envelope.compact, reply, keyset)
        state = replace(state, applied=applied, epoch=reply.epoch, time_seen=max(now, reply.iat))
    answered = next((waiting for waiting in state.outbox if waiting.digest == reply.request), None)
    state = _clear(state, reply, answered, is_taken=is_taken, now=now)
    if isinstance(reply, Grant) and is_taken:
        if reply.confirm:
            state = _write(state, None, device=device, now=now, random=random)
    elif _is_grant_missed(state, reply, answered):
        grant = None if state.applied is None else state.applied.compact
        state = _write(state, Refresh(), device=device, now=now, random=random, grant=grant)
    elif is_ahead:
        grant = state.applied.compact if is_restored and state.applied is not None else None
        state = _write(state, Refresh(), device=device, now=now, random=random, grant=grant)
    elif answered is not None and _is_overtaken(before, answered):
        state = _write(state, Refresh(), device=device, now=now, random=random)
    return state if state != before else before, *_effect(reply, is_taken=is_taken, before=before, after=state)


def _is_key_gone(state: State, envelope: Unverified, keyset: Keyset) -> bool:
    """Rule 6 e. What the envelope says is not believed; at worst a ``refresh`` is written that was not needed."""
    reply = messages.read_unverified_reply(envelope)
    if reply.iat >= keyset.issued_at or len(state.outbox) >= OUTBOX_MAX:
        return False
    answered = next((waiting for waiting in state.outbox if waiting.digest == reply.request), None)
    return answered is not None and not any(
        waiting.purpose == "refresh" and waiting.sequence > answered.sequence for waiting in state.outbox
    )


def _is_newer(grant: Grant, state: State) -> bool:
    """Rule 6 b."""
    if state.final:
        return False
    if grant.epoch > EPOCH_MAX:
        _refuse(
            "claims-malformed",
            _("an epoch up to {epoch_max}", epoch_max=EPOCH_MAX),
            _("epoch {epoch}", epoch=grant.epoch),
        )
    return (grant.epoch, grant.number) > (state.epoch, 0 if state.applied is None else state.applied.number)


def _is_grant_missed(state: State, reply: Reply, answered: Waiting | None) -> bool:
    """Rule 6 d: refused for a grant that the activation server forgot, and no message has repeated that grant yet."""
    if not isinstance(reply, Refusal) or reply.code != "grant-unknown" or state.applied is None or answered is None:
        return False
    return all(waiting.claims().grant != state.applied.compact for waiting in (answered, *state.outbox))


def _is_overtaken(before: State, answered: Waiting) -> bool:
    """Rule 6 d: whether a wish of this epoch that was never answered is cleared with ``answered``."""
    return any(
        waiting.sequence < answered.sequence
        and waiting.purpose in {"activate", "return"}
        and waiting.claims().epoch == before.epoch
        for waiting in before.outbox
    )


def _clear(state: State, reply: Reply, answered: Waiting | None, *, is_taken: bool, now: int) -> State:
    """Rule 6 c, and what became of the messages."""
    known = {outcome.sequence: outcome for outcome in state.outcomes}
    if answered is None:
        own = next((outcome for outcome in state.outcomes if outcome.digest == reply.request), None)
        if own is None:
            return state
        told = _outcome(own.sequence, own.purpose, reply, is_taken=is_taken, now=now)
        if _WEIGHT[told.fate] <= _WEIGHT[own.fate]:
            return state
        known[told.sequence] = told
    else:
        for waiting in state.outbox:
            if waiting.sequence < answered.sequence:
                known[waiting.sequence] = MessageFate(
                    sequence=waiting.sequence,
                    digest=waiting.digest,
                    purpose=waiting.purpose,
                    fate=Fate.OVERTAKEN,
                    code=None,
                    detail="A later message was answered.",
                    reasons=(),
                    noted_at=now,
                )
        known[answered.sequence] = _outcome(answered.sequence, answered.purpose, reply, is_taken=is_taken, now=now)
        rest = tuple(waiting for waiting in state.outbox if waiting.sequence > answered.sequence)
        state = replace(state, outbox=rest)
    last = sorted(known.values(), key=lambda outcome: outcome.sequence)[-OUTCOMES_MAX:]
    return replace(state, outcomes=tuple(last))


def _outcome(sequence: int, purpose: Purpose, reply: Reply, *, is_taken: bool, now: int) -> MessageFate:
    code: str | None = None
    reasons: tuple[LineReason, ...] = ()
    match reply:
        case Grant():
            fate = Fate.GRANTED
            code = None if is_taken else "grant-stale"
            detail = f"Grant {reply.number} of epoch {reply.epoch}."
        case Refusal():
            fate, code, detail = Fate.REFUSED, reply.code, reply.detail
            reasons = reply.reasons
        case Credit():
            fate, detail = Fate.CREDITED, _credited(reply)
        case _:
            assert_never(reply)
    digest = messages.request_digest(reply)
    if digest is None:
        _refuse("claims-malformed", _("a reply to a message"), _("a reply to none"))
    return MessageFate(
        sequence=sequence,
        digest=digest,
        purpose=purpose,
        fate=fate,
        code=code,
        detail=detail,
        reasons=reasons,
        noted_at=now,
    )


def _effect(reply: Reply, *, is_taken: bool, before: State, after: State) -> tuple[LineEffect, str | None, str]:
    """What to tell the one who delivered it."""
    is_new = after != before
    match reply:
        case Grant() if is_taken:
            return LineEffect.APPLIED, None, f"Grant {reply.number} is in force: {len(reply.licenses)} licenses."
        case Grant() if before.final:
            detail = detail_text("out-of-service", expected=_("a field server in service"), seen=_FINAL)
            return LineEffect.STALE, "out-of-service", detail
        case Grant():
            number = 0 if before.applied is None else before.applied.number
            detail = detail_text(
                "grant-stale",
                expected=_("a grant above number {number} of epoch {epoch}", number=number, epoch=before.epoch),
                seen=_("number {number} of epoch {epoch}", number=reply.number, epoch=reply.epoch),
            )
            return LineEffect.STALE, "grant-stale", detail
        case Refusal():
            return (LineEffect.REFUSED if is_new else LineEffect.ALREADY), reply.code, reply.detail
        case Credit():
            return (LineEffect.NOTED if is_new else LineEffect.ALREADY), None, _credited(reply)
        case _:
            assert_never(reply)


def _credited(reply: Credit) -> str:
    if not reply.credits:
        return "Taken note of; nothing to credit."
    return "Credited: " + ", ".join(f"{credit.quantity} of {credit.line}" for credit in reply.credits) + "."


# Small things


def _pinned(state: State) -> Keyset:
    if state.keyset is None:
        _refuse("no-root", _("the keys of an activation server"), _("none delivered so far"))
    return state.keyset


def _seen_time(state: State, now: int) -> State:
    return state if now <= state.time_seen else replace(state, time_seen=now)


def _received(kind: str, envelope: Unverified, effect: LineEffect, code: str | None, detail: str) -> Received:
    return Received(kind=kind, digest=digest_of(envelope.compact), effect=effect, code=code, detail=detail)


def _detail(error: Error) -> str:
    return detail_text(error.code, expected=error.expected, seen=error.seen)


def _refuse(code: str, expected: str, seen: str) -> Never:
    raise WireError(code, expected=expected, seen=seen)
