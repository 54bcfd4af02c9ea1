"""One envelope: a compact JWS signed with Ed25519 (protocol, section 2; RFC 7515, 8037, 8725, 9864).

Guarantees: only ``verify`` builds a ``Verified``, so the type says that a signature was checked with the key that the
caller chose; one signed message has exactly one spelling (base64url is read strictly), hence one digest, so a courier
cannot make a second message out of a first. Leaves to others: whose key it is (``keys``), what the claims mean
(``messages``).
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Never, TypeGuard

from msgspec import Struct
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from tallystick.domain.ids import DeviceId, Digest
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import know

LINE_BYTES_MAX: Final = 64 * 1024
INTEGER_MAX: Final = 2**53 - 1

ALGORITHM: Final = "EdDSA"
_ALGORITHMS: Final = ("EdDSA", "Ed25519")
_HEADER_NAMES: Final = {"alg", "typ", "kid", "jwk"}
_SHAPE: Final = re.compile(rb"([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{2,})\.([A-Za-z0-9_-]{86})")
_NAME: Final = re.compile(r"[\x21-\x7e]{1,64}")
_DIGEST_BYTES: Final = 32
_SEED_BYTES: Final = 32
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/=", b"+/...")  # the symbols of plain base64 are none of ours
_HEADER_BYTES_KEPT: Final = 512  # of a longer one (white space is allowed in it) nothing is remembered


@dataclass(frozen=True, slots=True)
class PublicKey:
    """An Ed25519 public key: ``x`` is its base64url form as in a JWK."""

    x: str

    @property
    def jwk(self) -> dict[str, str]:
        """The key as a JWK (RFC 8037)."""
        return {"crv": "Ed25519", "kty": "OKP", "x": self.x}

    @property
    def thumbprint(self) -> str:
        """RFC 7638 thumbprint: a field server's device id, a signing key's ``kid``."""
        return _thumbprint(self.x)

    @property
    def device_id(self) -> DeviceId:
        """The device id of the field server that has this key."""
        return DeviceId(self.thumbprint)


class PrivateKey:
    """An Ed25519 private key, from 32 random bytes. It never shows itself."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        raw, self._key = crypto_sign_seed_keypair(seed)
        self.public = PublicKey(encode_base64url(raw))

    def seed(self) -> bytes:
        """The 32 secret bytes, for durable storage only."""
        return self._key[:_SEED_BYTES]  # the public key is behind it

    def sign(self, typ: str, payload: bytes, *, with_jwk: bool = False) -> str:
        """One compact envelope over ``payload``; the header names the key by ``kid``, or carries it (``jwk``)."""
        return seal(self.public, typ, payload, self._sign, with_jwk=with_jwk)

    def _sign(self, data: bytes) -> bytes:
        return crypto_sign(data, self._key)[:crypto_sign_BYTES]


def seal(public: PublicKey, typ: str, payload: bytes, sign: Callable[[bytes], bytes], *, with_jwk: bool = False) -> str:
    """The envelope over ``payload``, where ``sign`` signs bytes with the private key of ``public``."""
    signed = _header(public, typ, with_jwk) + b"." + _base64url(payload)
    return (signed + b"." + _base64url(sign(signed))).decode("ascii")


@lru_cache(maxsize=256)  # a party has few keys, and says few kinds of things
def _header(public: PublicKey, typ: str, with_jwk: bool) -> bytes:  # noqa: FBT001 - the key of a cache
    name = {"jwk": public.jwk} if with_jwk else {"kid": public.thumbprint}
    return _base64url(encode_json({"alg": ALGORITHM, "typ": typ, **name}))


class Unverified(Struct, frozen=True, kw_only=True):
    """An envelope that was taken apart and not believed: which kind it says it is, and whose it says it is."""

    compact: str
    typ: str
    kid: str | None
    jwk: PublicKey | None
    payload: bytes


_TOKEN: Final = object()


class Verified:
    """An envelope whose signature was checked with ``key``. Only ``verify`` can build one."""

    __slots__ = ("compact", "digest", "key", "payload", "typ")

    def __init__(self, token: object, *, compact: str, typ: str, payload: bytes, key: PublicKey) -> None:
        if token is not _TOKEN:
            raise TypeError("only protocol.envelope.verify builds a Verified")
        self.compact = compact
        self.typ = typ
        self.payload = payload
        self.key = key
        self.digest = digest_of(compact)


def digest_of(compact: str) -> Digest:
    """SHA-256 over the whole compact serialisation, base64url (protocol, section 2)."""
    return Digest(encode_base64url(hashlib.sha256(compact.encode()).digest()))


def open_envelope(line: bytes) -> Unverified:
    """Take one line apart without believing it. Raises ``WireError``."""
    if len(line) > LINE_BYTES_MAX:
        raise WireError(
            "line-too-long",
            expected=_("at most {line_bytes_max} bytes", line_bytes_max=LINE_BYTES_MAX),
            seen=_("{count} bytes", count=len(line)),
        )
    parts = _SHAPE.fullmatch(line)
    if parts is None:
        raise WireError("envelope-malformed", expected=_("three base64url parts joined by dots"), seen=_glimpse(line))
    header_part, payload_part, signature_part = parts.groups()
    _strict_base64url(signature_part)
    open_header = _open_header if len(header_part) <= _HEADER_BYTES_KEPT else _open_header.__wrapped__
    typ, kid, jwk = open_header(header_part)
    payload = _strict_base64url(payload_part)
    return Unverified(compact=line.decode("ascii"), typ=typ, kid=kid, jwk=jwk, payload=payload)


@lru_cache(maxsize=4096)  # whoever speaks often always begins with the same bytes
def _open_header(part: bytes) -> tuple[str, str | None, PublicKey | None]:
    header = parse_json(_strict_base64url(part))
    if not isinstance(header, dict) or not header.keys() <= _HEADER_NAMES:
        _refuse_header(_("only alg, typ, kid and jwk"), _("other names"))
    if header.get("alg") not in _ALGORITHMS:
        _refuse_header(_("alg EdDSA or Ed25519"), _("another alg, or none"))
    typ, kid, jwk = header.get("typ"), header.get("kid"), header.get("jwk")
    if not _is_name(typ) or ("kid" in header) == ("jwk" in header) or not (_is_name(kid) or "jwk" in header):
        _refuse_header(_("a typ, and either a kid or a jwk"), _("something else"))
    return typ, kid, parse_public_jwk(jwk) if "jwk" in header else None


def verify(envelope: Unverified, key: PublicKey) -> Verified:
    """Check the signature with ``key``, and nothing else. Raises ``WireError`` (``signature-wrong``)."""
    signed, _other, signature = envelope.compact.encode("ascii").rpartition(b".")
    try:
        crypto_sign_open(_strict_base64url(signature) + signed, _raw(key.x))
    except BadSignatureError:  # or a key that is no point of the curve, or one of the few that fit everything
        raise WireError(
            "signature-wrong",
            expected=_("a signature by key {thumbprint}", thumbprint=key.thumbprint[:12]),
            seen=_("one that does not fit"),
        ) from None
    return Verified(_TOKEN, compact=envelope.compact, typ=envelope.typ, payload=envelope.payload, key=key)


def parse_public_jwk(value: object) -> PublicKey:
    """A public Ed25519 JWK with exactly its three members. Raises ``WireError``."""
    if not isinstance(value, dict) or value.keys() != {"crv", "kty", "x"}:
        _refuse_header(_("a jwk with crv, kty and x"), _("another jwk"))
    x = value["x"]
    if value["kty"] != "OKP" or value["crv"] != "Ed25519" or not isinstance(x, str):
        _refuse_header(_("an Ed25519 public key"), _("a key of another type"))
    if len(decode_base64url(x)) != _DIGEST_BYTES:
        _refuse_header(_("an Ed25519 public key of 32 bytes"), _("another length"))
    return PublicKey(x)


def parse_json(data: bytes) -> Any:
    """JSON without duplicate names, floats, integers beyond 2^53 or lone surrogates (which no UTF-8 can say).

    Raises ``WireError`` (``json-malformed``).
    """
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_float=_no_float,
            parse_int=_bounded_int,
            parse_constant=_no_float,
        )
        if b"\\u" in data:  # the only way in for a surrogate
            json.dumps(found, ensure_ascii=False).encode("utf-8")
        return found
    except (ValueError, RecursionError) as error:
        raise WireError(
            "json-malformed", expected=_("strict JSON: unique names, integers only"), seen=printable(str(error), 100)
        ) from None


def encode_json(value: object) -> bytes:
    """Compact JSON. It is signed once and never serialised again, so its form is free.

    What UTF-8 cannot say (a file name of an old system, on a command line) becomes a question mark.
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


def printable(text: str, length_max: int) -> str:
    """What a stranger wrote, safe to show to a person: cut, and nothing in it that moves a cursor or is no text."""
    return "".join(symbol if symbol.isprintable() else "\N{REPLACEMENT CHARACTER}" for symbol in text[:length_max])


def encode_base64url(data: bytes) -> str:
    """Base64url without padding."""
    return _base64url(data).decode("ascii")


def decode_base64url(text: str) -> bytes:
    """The bytes of the one canonical spelling, any other is refused. Raises ``WireError``."""
    try:
        return _strict_base64url(text.encode("ascii"))
    except UnicodeEncodeError:
        raise WireError("envelope-malformed", expected=_("base64url"), seen=_("other symbols")) from None


@lru_cache(maxsize=4096)
def _raw(x: str) -> bytes:
    return decode_base64url(x)


@lru_cache(maxsize=4096)
def _thumbprint(x: str) -> str:
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'  # RFC 7638: sorted, no space; x needs no escape
    return encode_base64url(hashlib.sha256(canonical.encode()).digest())


def _base64url(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def _strict_base64url(part: bytes) -> bytes:
    try:
        data = binascii.a2b_base64(part.translate(_FROM_URL) + b"=" * (-len(part) % 4), strict_mode=True)
    except (binascii.Error, ValueError):
        raise WireError("envelope-malformed", expected=_("base64url"), seen=_glimpse(part)) from None
    rest = len(part) % 4
    if rest and _base64url(data[-(len(data) % 3) :]) != part[-rest:]:  # bits that say nothing must be zero
        raise WireError("envelope-malformed", expected=_("canonical base64url"), seen=_glimpse(part[-20:]))
    return data


def _is_name(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in one object")
    return found


def _bounded_int(text: str) -> int:
    if len(text) > len(str(INTEGER_MAX)) + 1 or not -INTEGER_MAX <= int(text) <= INTEGER_MAX:
        raise ValueError("an integer beyond 2^53")
    return int(text)


def _no_float(text: str) -> Never:
    raise ValueError(f"the number {text[:20]}, which is no integer")


def _refuse_header(expected: str, seen: str) -> Never:
    raise WireError("header-refused", expected=expected, seen=seen)


def _glimpse(data: bytes) -> str:
    shown = data[:32].decode("utf-8", "replace")
    return f"{len(data)} bytes beginning {shown!r}"


know(Unverified)
