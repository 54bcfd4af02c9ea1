"""The message kinds and their strict parsers (protocol, sections 5 and 6).

A parser takes a ``Verified`` envelope and returns a frozen struct, or raises ``WireError``. Unknown claims, floats and
values out of range are refused. Builders return payload bytes to sign. Moments are Unix seconds, UTC.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from tallystick.domain.ids import ActivationId, DeviceId, Digest, EntitlementId, LicenseId, LineId
from tallystick.domain.rules import LINES_MAX, RESERVED_LINES_MAX
from tallystick.domain.verdict import License
from tallystick.protocol.envelope import (
    INTEGER_MAX,
    Unverified,
    Verified,
    encode_base64url,
    encode_json,
    parse_json,
    printable,
)
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import know

REQUEST: Final = "tally-request+jwt"
GRANT: Final = "tally-grant+jwt"
REFUSAL: Final = "tally-refusal+jwt"
CREDIT: Final = "tally-credit+jwt"
KEYS: Final = "tally-keys+jwt"
ROOT: Final = "tally-root+jwt"  # travels only inside of keysets
ENTITLEMENT: Final = "tally-entitlement+jwt"

QUANTITY_MAX: Final = 1_000_000_000
LICENSES_MAX: Final = LINES_MAX  # so few that a grant fits into a request that repeats it (section 9)
REVISION: Final = 2  # of the wire: the highest that we read, and say that we do
FINAL_REVISION: Final = 2  # `final` is since this one
EPOCH_MAX: Final = 2**48  # a field server's; the activation server may always go higher
REASONS_MAX: Final = 100
REASON_BYTES_MAX: Final = 40_000  # all of them, so that a refusal fits in a line

Purpose = Literal["activate", "return", "refresh", "confirm", "relinquish"]

Moment = Annotated[int, Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]
Number = Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
Count = Annotated[int, Meta(ge=0, le=QUANTITY_MAX)]
Hash = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{43}\Z")]
LineText = Annotated[str, Meta(pattern=r"^[0-9A-HJKMNP-TV-Z]{8}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
Token = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{16,64}\Z")]
Code = Annotated[str, Meta(pattern=r"^[a-z][a-z-]{1,39}\Z")]
Prose = Annotated[str, Meta(max_length=2000)]
Sku = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,40}\Z")]
Feature = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,32}\Z")]
Compact = Annotated[str, Meta(max_length=64 * 1024)]
Features = Annotated[dict[Feature, Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]], Meta(max_length=8)]


class Claims(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Claims are exact: nothing unknown, nothing converted."""


class AppliedGrant(Claims, frozen=True):
    """The last grant that a field server applied."""

    number: Number
    digest: Hash


class Facts(Claims, frozen=True):
    """What a field server says about itself. Advisory, but for ``kind`` and ``host_id`` at enrolment."""

    kind: Text
    host_id: Text
    name: Text
    software: Text


class LineWant(Claims, frozen=True):
    """An end state for one line, and with ``activate`` the proof of its activation secret."""

    line: LineText
    quantity: Count
    proof: Hash | None = None


class Request(Claims, frozen=True):
    """What a field server says (section 5). ``grant`` repeats the applied grant after ``grant-unknown``.

    ``rolled_back_at``: when it found out that it had been rolled back, the last time, by its own clock. Since revision 2:
    ``speaks``, the highest revision that it reads (absent: 1), and ``final``: it takes no grant any more, for good.
    """

    iss: Hash
    aud: Text
    jti: Token
    iat: Moment
    purpose: Purpose
    epoch: Annotated[int, Meta(ge=1, le=EPOCH_MAX)]
    sequence: Number
    applied: AppliedGrant | None
    facts: Facts
    wants: Annotated[tuple[LineWant, ...], Meta(min_length=1, max_length=LICENSES_MAX)] | None = None
    all: Literal[True] | None = None
    grant: Compact | None = None
    rolled_back_at: Moment | None = None
    speaks: Annotated[int, Meta(ge=1, le=INTEGER_MAX)] | None = None
    final: Literal[True] | None = None

    @property
    def device_id(self) -> DeviceId:
        """The device id, which the envelope's key is known to fit."""
        return DeviceId(self.iss)


class LicenseClaim(Claims, frozen=True):
    """One license of a grant: this line on this field server."""

    license: Annotated[str, Meta(max_length=64)]
    line: LineText
    product: Sku
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
    features: Features
    expires: Moment | None
    one_carry: bool
    engineering: bool = False


class Grant(Claims, frozen=True):
    """The complete set to hold from now on. ``seen``: the highest sequence taken from this field server."""

    iss: Text
    sub: Hash
    iat: Moment
    epoch: Annotated[int, Meta(ge=1, le=INTEGER_MAX)]
    number: Number
    request: Hash | None
    seen: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    licenses: Annotated[tuple[LicenseClaim, ...], Meta(max_length=LICENSES_MAX)]
    confirm: bool

    def held(self) -> tuple[License, ...]:
        """The licenses as domain values."""
        return tuple(
            License(
                license_id=LicenseId(claim.license),
                line_id=LineId(claim.line),
                product=claim.product,
                quantity=claim.quantity,
                features=tuple(claim.features.items()),
                expires_at=claim.expires,
                engineering=claim.engineering,
                one_carry=claim.one_carry,
            )
            for claim in self.licenses
        )


class LineReason(Claims, frozen=True):
    """Why one line, or the message as a whole, was refused."""

    code: Code
    expected: Prose
    seen: Prose
    line: LineText | None = None


class Refusal(Claims, frozen=True):
    """Nothing changed, and why. ``seen``: as in ``Grant``."""

    iss: Text
    sub: Hash
    iat: Moment
    request: Hash
    seen: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    code: Code
    detail: Prose
    reasons: Annotated[tuple[LineReason, ...], Meta(max_length=REASONS_MAX)] = ()


class LineCredit(Claims, frozen=True):
    """How many rights of a line became available again."""

    line: LineText
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]


class EntryClaim(Claims, frozen=True):
    """A ledger entry by its number, with the chain value that fixes everything before it."""

    line: LineText
    number: Number
    source: Annotated[str, Meta(max_length=16)]
    target: Annotated[str, Meta(max_length=16)]
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
    chain: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]


class Credit(Claims, frozen=True):
    """The customer's receipt: what came back to which line, and the ledger entries that say so."""

    iss: Text
    sub: Hash
    iat: Moment
    request: Hash
    seen: Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
    credits: Annotated[tuple[LineCredit, ...], Meta(max_length=RESERVED_LINES_MAX)]
    entries: Annotated[tuple[EntryClaim, ...], Meta(max_length=RESERVED_LINES_MAX * 2)]


class EntitlementLine(Claims, frozen=True):
    """A line as its buyer gets to know it, with its activation ID."""

    line: LineText
    activation_id: Annotated[str, Meta(max_length=64)]
    product: Sku
    name: Text
    quantity: Count
    kinds: Annotated[tuple[Text, ...], Meta(max_length=32)]
    features: Features
    expires: Moment | None
    one_carry: bool
    returnable: bool
    engineering: bool = False


class EntitlementCertificate(Claims, frozen=True):
    """What was bought, signed: how Device Administrator learns an entitlement without a route."""

    iss: Text
    iat: Moment
    entitlement: Annotated[str, Meta(max_length=40)]
    account: Text
    lines: Annotated[tuple[EntitlementLine, ...], Meta(max_length=100)]

    @property
    def entitlement_id(self) -> EntitlementId:
        """The entitlement ID."""
        return EntitlementId(self.entitlement)


ClaimsT = TypeVar("ClaimsT", bound=Struct)
_ENCODER: Final = msgspec.json.Encoder()
Reply = Grant | Refusal | Credit
_REPLIES: Final[Mapping[str, type[Reply]]] = {GRANT: Grant, REFUSAL: Refusal, CREDIT: Credit}


def activation_proof(activation_id: ActivationId, device_id: DeviceId, jti: str) -> str:
    """HMAC-SHA256(secret, device id, 0x00, jti), base64url: the secret itself never travels (section 5)."""
    text = f"{device_id}\x00{jti}".encode()
    return encode_base64url(hmac.digest(activation_id.secret, text, "sha256"))


def is_proof_valid(activation_id: ActivationId, proof: str | None, device_id: DeviceId, jti: str) -> bool:
    """Whether ``proof`` was made with the secret of ``activation_id``. Compared in constant time."""
    return hmac.compare_digest(activation_proof(activation_id, device_id, jti), proof or "")


# Whether `wants` is named, and whether `all` is.
_NAMED: Final[Mapping[Purpose, tuple[tuple[bool, bool], ...]]] = {
    "activate": ((True, False),),
    "return": ((False, True), (True, False)),
    "refresh": ((False, False),),
    "confirm": ((False, False),),
    "relinquish": ((False, False),),
}


def _named_text(named: tuple[bool, bool]) -> str:
    return " and ".join(name for name, is_named in zip(("wants", "all"), named, strict=True) if is_named) or "no wants"


def parse_request(verified: Verified) -> Request:
    """A message of a field server, signed with the key that its ``iss`` names. Raises ``WireError``."""
    _check_kind(verified, REQUEST)
    request = _convert(verified, Request)
    if request.iss != verified.key.thumbprint:
        raise WireError("signature-wrong", expected=_("a jwk whose thumbprint is iss"), seen=_("another key"))
    named = (request.wants is not None, request.all is not None)
    if named not in _NAMED[request.purpose]:
        raise WireError(
            "claims-malformed",
            expected=_(
                "{purpose} with {map}",
                purpose=request.purpose,
                map=" or ".join(map(_named_text, _NAMED[request.purpose])),
            ),
            seen=_named_text(named),
        )
    if request.purpose != "activate" and any(want.proof is not None for want in request.wants or ()):
        raise WireError(
            "claims-malformed",
            expected=_("a proof with activate only"),
            seen=_("a {purpose} with one", purpose=request.purpose),
        )
    return request


def parse_reply(verified: Verified) -> Reply:
    """A grant, a refusal or a credit. Raises ``WireError``."""
    _check_kind(verified, *_REPLIES)
    return _convert(verified, _REPLIES[verified.typ])


def read_unverified_reply(message: Unverified) -> Reply:
    """What a reply says whose signature cannot be checked: nothing to believe. Raises ``WireError``."""
    if message.typ not in _REPLIES:
        raise WireError("kind-unexpected", expected=" or ".join(_REPLIES), seen=message.typ[:40])
    return convert_claims(message.payload, _REPLIES[message.typ])


def parse_grant(verified: Verified) -> Grant:
    """A grant and nothing else. Raises ``WireError``."""
    _check_kind(verified, GRANT)
    return _convert(verified, Grant)


def parse_entitlement(verified: Verified) -> EntitlementCertificate:
    """An entitlement certificate. Raises ``WireError``."""
    _check_kind(verified, ENTITLEMENT)
    return _convert(verified, EntitlementCertificate)


def encode_claims(claims: Struct) -> bytes:
    """The payload of a message, ready to be signed."""
    try:
        return _ENCODER.encode(claims)
    except UnicodeEncodeError:  # a lone surrogate
        return encode_json(msgspec.to_builtins(claims))


def convert_claims(payload: bytes, kind: type[ClaimsT]) -> ClaimsT:
    """Strict JSON to a struct. Raises ``WireError`` (``json-malformed``, ``claims-malformed``).

    What we would write in the very same bytes has no name twice, no float and nothing else that is refused: it is read
    by msgspec alone. Anything else is looked at closely, whatever comes of it.
    """
    try:
        found: ClaimsT = _decoder(kind).decode(payload)
        if _ENCODER.encode(found) == payload:
            return found
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        pass
    try:
        return msgspec.convert(parse_json(payload), kind, strict=True)
    except msgspec.ValidationError as error:
        raise WireError(
            "claims-malformed", expected=_("the claims of {name}", name=kind.__name__), seen=printable(str(error), 200)
        ) from None


@cache
def _decoder(kind: type[ClaimsT]) -> msgspec.json.Decoder[ClaimsT]:
    return msgspec.json.Decoder(kind, strict=True)


def fit_reasons(reasons: Sequence[LineReason]) -> tuple[LineReason, ...]:
    """As many as a refusal has room for: the first reason of every line before the second of any, in their order."""
    rank: dict[int, int] = {}
    per_line: dict[str | None, int] = {}
    for place, reason in enumerate(reasons):
        rank[place] = per_line.get(reason.line, 0)
        per_line[reason.line] = rank[place] + 1
    room, kept = REASON_BYTES_MAX, []
    for place in sorted(rank, key=rank.__getitem__)[:REASONS_MAX]:
        room -= len(encode_claims(reasons[place])) + 1
        if room < 0:
            break
        kept.append(place)
    return tuple(reasons[place] for place in sorted(kept))


def request_digest(reply: Reply) -> Digest | None:
    """The digest of the message that a reply answers; None for a grant that the activation server started."""
    return None if reply.request is None else Digest(reply.request)


def _convert(verified: Verified, kind: type[ClaimsT]) -> ClaimsT:
    return convert_claims(verified.payload, kind)


def _check_kind(verified: Verified, *kinds: str) -> None:
    if verified.typ not in kinds:
        raise WireError("kind-unexpected", expected=" or ".join(kinds), seen=verified.typ[:40])


know(
    Claims,
    AppliedGrant,
    Facts,
    LineWant,
    Request,
    LicenseClaim,
    Grant,
    LineReason,
    Refusal,
    LineCredit,
    EntryClaim,
    Credit,
    EntitlementLine,
    EntitlementCertificate,
)
