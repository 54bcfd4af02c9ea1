"""Checks of licensed programs: the question, the answer that the device signs, and what a program makes of it.

Guarantees: whoever decides by ``Reader`` believes nothing but the roots that the program names: the order of the rules
and their codes are those of docs/protocol/checks.md, the same in every language; nothing here raises for what came
over the socket. It leaves to others: the socket, the time that is waited, and who signs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta, Struct

from tallystick.domain.ids import Digest
from tallystick.domain.verdict import Verdict, decide_verdict, refuse_check
from tallystick.protocol import envelope, keys, messages
from tallystick.protocol.envelope import (
    LINE_BYTES_MAX,
    PrivateKey,
    PublicKey,
    Unverified,
    decode_base64url,
    digest_of,
    open_envelope,
    printable,
)
from tallystick.protocol.keys import Keyset, KeysetClaims, RootClaims
from tallystick.protocol.messages import GRANT, KEYS, QUANTITY_MAX, ROOT, Claims, Count, Feature, Grant, Hash, Moment
from tallystick.protocol.problems import WireError, problem_for
from tallystick.sentences import _
from tallystick.structs import know

ANSWER: Final = "tally-answer+jwt"
PATH: Final = "/v1/check"
REVISION: Final = 1  # of answers: the highest that we write
ANSWER_BYTES_MAX: Final = 200 * 1024
HEAD_BYTES_MAX: Final = 4096  # of a request, and of a reply
SOCKET_PATH_BYTES_MAX: Final = 107
ROOTS_MAX: Final = 8
NONCE_BYTES: Final = 16
DEADLINE_SECONDS: Final = 0.5
_ENVELOPES_MAX: Final = 3
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

Nonce = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{22,64}\Z")]

_FEATURE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{22,64}")
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_FINGERPRINT: Final = re.compile(r"[A-Za-z0-9_-]{43}")


class Question(Struct, frozen=True, kw_only=True):
    """May ``required`` units of ``feature`` run? ``nonce`` is random, and new each time."""

    feature: str
    required: int
    nonce: str

    @property
    def target(self) -> str:
        """As it stands in an HTTP request."""
        return f"{PATH}?feature={self.feature}&required={self.required}&nonce={self.nonce}"


class Answer(Claims, frozen=True):
    """What a device says when it is asked. The program decides by the grant that comes with it, not by a word of this."""

    iss: Hash
    nonce: Nonce
    iat: Moment
    time_seen: Moment
    epoch: messages.Number
    feature: Feature
    required: Count
    grant: Hash | None
    keys: Hash | None


class Remembered(Struct, frozen=True, kw_only=True):
    """Of one device: its newest grant that a program believed, and the highest moment with that grant."""

    device: str
    epoch: int
    number: int
    moment: int


def is_check(feature: object, required: object) -> bool:
    """Whether this can be asked."""
    if not isinstance(feature, str) or _FEATURE.fullmatch(feature) is None:
        return False
    return isinstance(required, int) and not isinstance(required, bool) and 0 <= required <= QUANTITY_MAX


def is_fingerprint(text: object) -> bool:
    """Whether this is a root's fingerprint: the RFC 7638 thumbprint of an Ed25519 key."""
    if not isinstance(text, str) or _FINGERPRINT.fullmatch(text) is None:
        return False
    try:
        decode_base64url(text)
    except WireError:
        return False
    return True


def check_question(roots: Collection[str], feature: object, required: object) -> Verdict | None:
    """Rule 1: None where it can be asked, by a program that names these roots."""
    if not 1 <= len(roots) <= ROOTS_MAX:
        return refused(
            str(feature), 1, code="check-wrong", seen=_("{count} roots that the program names", count=len(roots))
        )
    if not all(map(is_fingerprint, roots)):
        return refused(str(feature), 1, code="check-wrong", seen=_("a root that is no fingerprint"))
    if not is_check(feature, required):
        return refused(str(feature), 1, code="check-wrong", seen=_("another question"))
    return None


def parse_target(target: str) -> Question:
    """The question in the target of an HTTP request. Raises ``WireError`` (``not-found``, ``check-wrong``)."""
    path, _mark, query = target.partition("?")
    if path != PATH:
        raise WireError("not-found", expected=PATH, seen=printable(path, 100))
    pairs = [pair.partition("=")[::2] for pair in query.split("&")] if query else []
    found = dict(pairs)
    if len(found) != len(pairs) or not found.keys() <= {"feature", "required", "nonce", "speaks"}:
        _refuse_question(_("feature, required, nonce and speaks, each at most once"), query)
    feature, required, nonce = found.get("feature", ""), found.get("required", "1"), found.get("nonce", "")
    if _NUMBER.fullmatch(required) is None or not is_check(feature, int(required)):
        _refuse_question(_("feature=NAME and required=N, from 0 to 1,000,000,000"), query)
    if _NONCE.fullmatch(nonce) is None:
        _refuse_question(_("nonce=, 22 to 64 base64url symbols that are random"), query)
    if _NUMBER.fullmatch(speaks := found.get("speaks", "1")) is None or speaks == "0":
        _refuse_question(_("speaks=N, from 1"), query)
    return Question(feature=feature, required=int(required), nonce=nonce)


def make_answer(
    key: PrivateKey, question: Question, *, now: int, time_seen: int, epoch: int, grant: str | None, keyset: str | None
) -> str:
    """The signed envelope. ``grant`` and ``keyset``: the digests of what comes with it."""
    claims = Answer(
        iss=key.public.thumbprint,
        nonce=question.nonce,
        iat=now,
        time_seen=time_seen,
        epoch=epoch,
        feature=question.feature,
        required=question.required,
        grant=grant,
        keys=keyset,
    )
    return key.sign(ANSWER, messages.encode_claims(claims), with_jwk=True)


class _RefusedError(Exception):
    """A rule that does not hold: its code, and what was seen."""

    def __init__(self, code: str, seen: str) -> None:
        super().__init__(code)
        self.code = code
        self.seen = seen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Came:
    """What came, in its form: nothing in it is believed."""

    answer: Answer
    envelope: Unverified
    key: PublicKey
    grant: Unverified | None
    keyset: Unverified | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Believed:
    """A keyset and a grant that passed rules 6, 9, 10 and 12, or the first of these that they do not."""

    grant_digest: Digest | None
    keyset_digest: Digest | None
    grant: Grant | None
    malformed: tuple[str, str] | None = None  # code and what was seen
    refused: tuple[str, str] | None = None


class Reader:
    """Decides for one program. It remembers the newest grant, and which bytes it has checked already.

    ``roots``: the fingerprints that the program names. Not for threads at the same time.
    """

    def __init__(self, roots: Iterable[str], *, remembered: Remembered | None = None) -> None:
        self._roots = tuple(roots)
        self._checked: tuple[tuple[str | None, ...], _Believed] | None = None
        self._tail: tuple[bytes, list[Unverified]] = (b"", [])  # what stood behind the last answer, and what it is
        self.remembered = remembered

    def check_question(self, feature: object, required: object) -> Verdict | None:
        """Rule 1: None where it can be asked."""
        return check_question(self._roots, feature, required)

    def decide(self, question: Question, data: bytes) -> Verdict:
        """Rules 5 to 16, over the body of an answer."""
        try:
            return self._decide(question, data)
        except _RefusedError as error:
            return refused(question.feature, question.required, code=error.code, seen=error.seen)

    def _decide(self, question: Question, data: bytes) -> Verdict:
        if len(data) > ANSWER_BYTES_MAX:
            raise _RefusedError("answer-too-large", f"{len(data)} bytes")
        came = _arrange(self._open(data))
        believed = self._believe(came)
        if believed.malformed is not None:
            raise _RefusedError(*believed.malformed)
        answer = came.answer
        if (answer.nonce, answer.feature, answer.required) != (question.nonce, question.feature, question.required):
            raise _RefusedError("answer-differs", f"{answer.required} of {answer.feature}, nonce {answer.nonce}")
        _check_device(came, believed)
        if believed.refused is not None:
            raise _RefusedError(*believed.refused)
        return self._judge(question, answer, believed)

    def _judge(self, question: Question, answer: Answer, believed: _Believed) -> Verdict:
        grant = believed.grant
        if grant is None:
            raise _RefusedError("not-licensed", "no license at all")
        if grant.sub != answer.iss:
            raise _RefusedError("other-device", f"a grant for {grant.sub}, an answer of {answer.iss}")
        before = self.remembered
        if before is not None and before.device != answer.iss:
            before = None
        place = (grant.epoch, grant.number)
        if grant.epoch != answer.epoch or (before is not None and place < (before.epoch, before.number)):
            raise _RefusedError("older-grant", f"grant {grant.number} of epoch {grant.epoch}")
        moment = max(answer.iat, answer.time_seen)
        if before is not None and place == (before.epoch, before.number):
            moment = max(moment, before.moment)
        self.remembered = Remembered(device=answer.iss, epoch=grant.epoch, number=grant.number, moment=moment)
        return decide_verdict(
            question.feature, required=question.required, licenses=grant.held(), time_seen=moment, now=answer.iat
        )

    def _open(self, data: bytes) -> list[Unverified]:
        """Rule 6, first half. What is byte for byte as behind the answer before is not taken apart again."""
        at = 0
        while data.startswith(b"#", at):
            at = data.find(b"\n", at) + 1 or len(data)
        end = data.find(b"\n", at)
        known, envelopes = self._tail
        if end > at and envelopes and data[end:] == known:
            try:
                return [open_envelope(data[at:end]), *envelopes]
            except WireError:
                pass  # it may be decorated, as lines of a tally file are
        found = _open(data)
        if end > at and found and found[0].compact.encode() == data[at:end]:
            self._tail = (data[end:], found[1:])
        return found

    def _believe(self, came: _Came) -> _Believed:
        which = tuple(None if one is None else one.compact for one in (came.grant, came.keyset))
        if self._checked is None or self._checked[0] != which:
            self._checked = (which, _believe(came.grant, came.keyset, self._roots))
        return self._checked[1]


def refused(feature: str, required: int, *, code: str, seen: str) -> Verdict:
    """Not licensed, in the words of the table of problems."""
    problem = problem_for(code)
    why = f"{problem.title}: expected {problem.expected}, saw {printable(seen, 200)}. {problem.next_step}"
    return refuse_check(feature, required, code=code, why=why)


def _refuse_question(expected: str, query: str) -> None:
    raise WireError("check-wrong", expected=expected, seen=printable(query, 200) or _("nothing"))


def _open(data: bytes) -> list[Unverified]:
    """The envelopes.

    Not by ``tallyfile``, which is patient with what came through people's programs: an answer came straight from the agent.
    """
    found: list[Unverified] = []
    for number, line in enumerate(data.split(b"\n"), 1):
        bare = _bare(line)
        if not bare or bare.startswith(b"#"):
            continue
        if len(line) > LINE_BYTES_MAX or len(found) == _ENVELOPES_MAX:
            raise _RefusedError("answer-malformed", f"line {number}: too long, or one too many")
        try:
            found.append(open_envelope(bare))
        except WireError as error:
            raise _RefusedError("answer-malformed", f"line {number}: {error.code}") from None
    return found


def _bare(line: bytes) -> bytes:
    """Without what may stand around an envelope."""
    bare = line.removeprefix(_BYTE_ORDER_MARK)
    return bare if len(line) > LINE_BYTES_MAX else bare.strip(b" \t\r")


def _arrange(found: list[Unverified]) -> _Came:
    """Rule 6, without what stands in the keyset and the grant."""
    key = found[0].jwk if found and found[0].typ == ANSWER else None
    if key is None:
        raise _RefusedError("answer-malformed", f"{len(found)} envelopes, the first no answer with its jwk")
    try:
        answer = messages.convert_claims(found[0].payload, Answer)
    except WireError as error:
        raise _RefusedError("answer-malformed", f"{error.code}: {error.seen}") from None
    kinds = [kind for kind, digest in ((GRANT, answer.grant), (KEYS, answer.keys)) if digest is not None]
    if [one.typ for one in found[1:]] != kinds or kinds == [GRANT] or not all(one.kid for one in found[1:]):
        seen = " ".join(one.typ for one in found[1:]) or "nothing"
        raise _RefusedError("answer-malformed", f"{seen} behind the answer, and not what it names")
    grant, keyset = ([*found[1:], None] if GRANT in kinds else [None, *found[1:], None])[:2]
    return _Came(answer=answer, envelope=found[0], key=key, grant=grant, keyset=keyset)


def _check_device(came: _Came, believed: _Believed) -> None:
    """Rule 8."""
    if came.answer.iss != came.key.thumbprint:
        raise _RefusedError("answer-forged", "the key of another device")
    if (came.answer.grant, came.answer.keys) != (believed.grant_digest, believed.keyset_digest):
        raise _RefusedError("answer-forged", "another grant or keyset than was signed")
    try:
        envelope.verify(came.envelope, came.key)
    except WireError as error:
        raise _RefusedError("answer-forged", error.code) from None


def _believe(grant: Unverified | None, keyset: Unverified | None, roots: Collection[str]) -> _Believed:
    """Rules 6, 9, 10 and 12: they depend on nothing but these bytes."""
    of_grant = None if grant is None else digest_of(grant.compact)
    of_keyset = None if keyset is None else digest_of(keyset.compact)
    try:
        claims = None if keyset is None else _parse_keyset(keyset)
        held = None if grant is None else messages.convert_claims(grant.payload, Grant)
    except WireError as error:
        seen = ("answer-malformed", f"{error.code}: {error.seen}")
        return _Believed(grant_digest=of_grant, keyset_digest=of_keyset, grant=None, malformed=seen)
    try:
        if keyset is not None and claims is not None:
            _check_grant(grant, held, _check_keyset(keyset, claims, roots))
    except _RefusedError as error:
        seen = (error.code, error.seen)
        return _Believed(grant_digest=of_grant, keyset_digest=of_keyset, grant=None, refused=seen)
    return _Believed(grant_digest=of_grant, keyset_digest=of_keyset, grant=held)


def _parse_keyset(message: Unverified) -> tuple[KeysetClaims, tuple[RootClaims, ...]]:
    """Rule 6 for a keyset and its hand-overs. Raises ``WireError``."""
    claims = messages.convert_claims(message.payload, KeysetClaims)
    handovers = []
    for compact in claims.handovers:
        handover = open_envelope(compact.encode("utf-8", "replace"))
        if handover.typ != ROOT or handover.kid is None:
            raise WireError("kind-unexpected", expected=ROOT, seen=handover.typ[:40])
        handovers.append(messages.convert_claims(handover.payload, RootClaims))
    jwks = [claims.root, *(key.jwk for key in claims.keys)]
    jwks += [jwk for handover in handovers for jwk in (handover.root, handover.successor)]
    for jwk in jwks:
        decode_base64url(jwk.x)
    return claims, tuple(handovers)


def _check_keyset(
    message: Unverified, claims: tuple[KeysetClaims, tuple[RootClaims, ...]], roots: Collection[str]
) -> Keyset:
    """Rules 9 and 10."""
    named, handovers = claims
    led = [PublicKey(jwk.x).thumbprint for jwk in (named.root, *(one.root for one in handovers))]
    if not set(led).intersection(roots):
        raise _RefusedError("other-issuer", f"root {led[0]} of {named.iss}")
    try:
        return keys.parse_keyset(message)
    except WireError as error:
        raise _RefusedError("keys-forged", f"{error.code}: {error.seen}") from None


def _check_grant(message: Unverified | None, grant: Grant | None, keyset: Keyset) -> None:
    """Rule 12."""
    if message is None or grant is None:
        return
    try:
        keyset.check_issued(keyset.verify(message), issuer=grant.iss, issued_at=grant.iat)
    except WireError as error:
        raise _RefusedError("grant-forged", f"{error.code}: {error.seen}") from None


know(Question, Answer, Remembered)
