"""Lines that should never have been written: every way in which a tally file can be bad, for either direction.

``up`` is what an activation server may find where it expects field servers' messages, ``down`` what field servers and
Device Administrators may find where they expect the activation server's. Each has its documented code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallystick.activation.keys.signing import KeySigner
from tallystick.protocol.envelope import PrivateKey, encode_base64url, open_envelope
from tallystick.protocol.messages import ENTITLEMENT, GRANT, KEYS, REQUEST

DAY = 86_400
YEAR = 365 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """One bad line, and the code that it must get."""

    line: bytes
    code: str


def claims_of(compact: str) -> dict[str, Any]:
    """What an envelope says."""
    return json.loads(open_envelope(compact.encode()).payload)


def text(claims: Mapping[str, Any]) -> bytes:
    """Claims as a payload."""
    return json.dumps(claims).encode()


def twice(payload: bytes) -> bytes:
    """The first name in it, once more."""
    name = next(iter(json.loads(payload)))
    return (
        payload[:-1] + b"," + json.dumps(name).encode() + b":" + json.dumps(json.loads(payload)[name]).encode() + b"}"
    )


def raw(header: Mapping[str, Any], payload: bytes, signature: bytes) -> bytes:
    """A compact JWS with any header and any signature."""
    return b".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=") for part in (json.dumps(header).encode(), payload, signature)
    )


def bytes_that_are_no_lines() -> dict[str, Bad]:
    """The same in both directions."""
    return {
        "binary": Bad(line=bytes(range(11, 256)).replace(b"\r", b""), code="envelope-malformed"),
        "a picture": Bad(line=b"\x89PNG\x1a" + b"\0" * 300, code="envelope-malformed"),
        "an archive": Bad(line=b"PK\x03\x04" + b"\xff" * 300, code="file-packed"),
        "a web page": Bad(line=b"<html><body>Sign in to continue</body></html>", code="envelope-malformed"),
        "utf-16": Bad(line="eyJh.eyJh.eyJh".encode("utf-16")[:40], code="envelope-malformed"),
        "a long line": Bad(line=b"A" * (64 * 1024 + 1), code="line-too-long"),
        "a very long line": Bad(line=b"A" * (3 * 1024 * 1024), code="line-too-long"),
        "two dots and nothing": Bad(line=b"..", code="envelope-malformed"),
        "a nested header": Bad(line=raw_json(b"[" * 20_000), code="json-malformed"),
        "a header that is no object": Bad(line=raw_json(b"[1,2]"), code="header-refused"),
    }


def raw_json(header: bytes) -> bytes:
    """A header of any bytes."""
    parts = (header, b"{}", b"\0" * 64)
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


def altered(good: str, key: PrivateKey, stranger: PrivateKey, *, with_jwk: bool) -> dict[str, Bad]:
    """What can be done to a good line, by a courier, by a stranger, and by whoever has the key ``key``."""
    opened = open_envelope(good.encode())
    name = {"jwk": key.public.jwk} if with_jwk else {"kid": key.public.thumbprint}
    half = good[: len(good) // 2].encode()
    head, payload, signature = good.encode().split(b".")
    signed = head + b"." + payload
    hs256 = raw({"alg": "HS256", "typ": opened.typ, **name}, opened.payload, b"")
    secret = base64.urlsafe_b64decode(key.public.x + "=")
    mac = hmac.digest(secret, hs256.rpartition(b".")[0], hashlib.sha256)
    return {
        "half a line": Bad(line=half, code="envelope-malformed"),
        "the second half": Bad(line=good.encode()[len(half) :], code="envelope-malformed"),
        "without its end": Bad(line=good.encode()[:-1], code="envelope-malformed"),
        "a bit flipped": Bad(line=signed[:-2] + (b"A" if signed[-2:-1] != b"A" else b"B") + signed[-1:] + b"." + signature, code="*"),
        "a signature of a stranger": Bad(line=signed + b"." + stranger_signature(signed, stranger), code="signature-wrong"),
        "alg none": Bad(line=raw({"alg": "none", "typ": opened.typ, **name}, opened.payload, b""), code="envelope-malformed"),
        "alg none with a signature": Bad(
            line=raw({"alg": "none", "typ": opened.typ, **name}, opened.payload, b"\0" * 64), code="header-refused"
        ),
        "alg HS256 with the public key": Bad(
            line=raw({"alg": "HS256", "typ": opened.typ, **name}, opened.payload, mac + mac), code="header-refused"
        ),
        "alg HS256, as long as it is": Bad(
            line=raw({"alg": "HS256", "typ": opened.typ, **name}, opened.payload, mac), code="envelope-malformed"
        ),
        "a critical header": Bad(
            line=raw({"alg": "EdDSA", "typ": opened.typ, "crit": ["x"], **name}, opened.payload, b"\0" * 64),
            code="header-refused",
        ),
        "duplicate claims": Bad(line=key.sign(opened.typ, twice(opened.payload), with_jwk=with_jwk).encode(), code="json-malformed"),
        "unknown claims": Bad(
            line=key.sign(opened.typ, text(claims_of(good) | {"hello": 1}), with_jwk=with_jwk).encode(),
            code="claims-malformed",
        ),
        "a float": Bad(line=key.sign(opened.typ, text(claims_of(good) | {"iat": 1.5}), with_jwk=with_jwk).encode(), code="json-malformed"),
        "a number without end": Bad(
            line=key.sign(opened.typ, text(claims_of(good) | {"iat": 10**400}), with_jwk=with_jwk).encode(), code="json-malformed"
        ),
        "claims that are no text": Bad(line=key.sign(opened.typ, b"\xff\xfe{}", with_jwk=with_jwk).encode(), code="json-malformed"),
        "nested claims": Bad(line=key.sign(opened.typ, b"[" * 30_000, with_jwk=with_jwk).encode(), code="json-malformed"),
        "a kind that nobody knows": Bad(line=key.sign("tally-song+jwt", opened.payload, with_jwk=with_jwk).encode(), code="kind-unexpected"),
        "a jwt of somebody else": Bad(line=key.sign("JWT", b'{"sub":"me"}', with_jwk=with_jwk).encode(), code="kind-unexpected"),
    }  # fmt: skip


def stranger_signature(signed: bytes, stranger: PrivateKey) -> bytes:
    """A true signature, by somebody else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return encode_base64url(Ed25519PrivateKey.from_private_bytes(stranger.seed()).sign(signed)).encode()


def signed_by_a_stranger(good: str, stranger: PrivateKey) -> str:
    """The good line's header and claims, with a stranger's signature."""
    signed = good.encode().rpartition(b".")[0]
    return (signed + b"." + stranger_signature(signed, stranger)).decode()


def bad_up(message: str, device: PrivateKey, signer: KeySigner, grant: str) -> dict[str, Bad]:
    """For an activation server. ``message``: a good one of ``device``; ``grant``: one that the server signed."""
    stranger = PrivateKey(b"x" * 32)
    claims = claims_of(message)
    of = {
        "a reply": Bad(line=grant.encode(), code="kind-unexpected"),
        "its own keys": Bad(line=signer.keyset.compact.encode(), code="kind-unexpected"),
        "for another issuer": Bad(
            line=device.sign(REQUEST, text(claims | {"aud": "somebody else"}), with_jwk=True).encode(), code="issuer-wrong"
        ),
        "a stranger in its name": Bad(line=stranger.sign(REQUEST, text(claims), with_jwk=True).encode(), code="signature-wrong"),
        "without its key": Bad(line=device.sign(REQUEST, text(claims)).encode(), code="header-refused"),
        # One whose key nobody knows proves nothing, and is no fault: tests/unit/activation/core/test_issuing.py.
        "a grant that the server signed, repeated in part": Bad(
            line=device.sign(REQUEST, text(claims | {"grant": grant[:-20]}), with_jwk=True).encode(), code="envelope-malformed"
        ),
        "a grant that a stranger altered, repeated": Bad(
            line=device.sign(
                REQUEST, text(claims | {"grant": signed_by_a_stranger(grant, stranger)}), with_jwk=True
            ).encode(),
            code="signature-wrong",
        ),
        "another grant than the applied one, repeated": Bad(
            line=device.sign(
                REQUEST,
                text(claims | {"grant": grant, "applied": {"number": 999, "digest": claims["applied"]["digest"]}}),
                with_jwk=True,
            ).encode(),
            code="claims-malformed",
        ),
        "wants without end": Bad(
            line=device.sign(
                REQUEST,
                text(claims | {"purpose": "return", "wants": [{"line": "7K3M9Q2A", "quantity": 1}] * 51}),
                with_jwk=True,
            ).encode(),
            code="claims-malformed",
        ),
    }  # fmt: skip
    return bytes_that_are_no_lines() | altered(message, device, stranger, with_jwk=True) | of


def bad_down(grant: str, signer: KeySigner, other: str, message: str) -> dict[str, Bad]:
    """For a field server. ``grant``: a good one; ``other``: one for another field server; ``message``: a request."""
    stranger = PrivateKey(b"x" * 32)
    key = signer.key._key  # type: ignore[attr-defined]  # that of a file  # its private key, which only a forger asks for
    claims = claims_of(grant)
    of = {
        "a message of a field server": Bad(line=message.encode(), code="kind-unexpected"),
        "for another field server": Bad(line=other.encode(), code="device-wrong"),
        "of another issuer": Bad(line=PrivateKey(b"y" * 32).sign(GRANT, text(claims)).encode(), code="key-unknown"),
        "of another issuer, with its key": Bad(
            line=PrivateKey(b"y" * 32).sign(GRANT, text(claims), with_jwk=True).encode(), code="key-unknown"
        ),
        "in the name of another issuer": Bad(line=key.sign(GRANT, text(claims | {"iss": "another"})).encode(), code="issuer-wrong"),
        "from before its key was": Bad(line=key.sign(GRANT, text(claims | {"iat": -1})).encode(), code="key-unknown"),
        "keys of another root": Bad(line=keys_of(PrivateKey(b"z" * 32), signer.keyset.issuer).encode(), code="root-differs"),
        "keys that a signing key signed": Bad(
            line=key.sign(KEYS, open_envelope(signer.keyset.compact.encode()).payload).encode(), code="signature-wrong"
        ),
    }  # fmt: skip
    return bytes_that_are_no_lines() | altered(grant, key, stranger, with_jwk=False) | of


def keys_of(root: PrivateKey, issuer: str) -> str:
    """A keyset of one's own."""
    from tallystick.protocol.keys import Jwk, SigningKey, make_keyset

    key = SigningKey(jwk=Jwk(**root.public.jwk), valid_from=0)
    return make_keyset(root, issuer=issuer, version=99, issued_at=1, keys=(key,))


__all__ = ["DAY", "ENTITLEMENT", "YEAR", "Bad", "bad_down", "bad_up", "claims_of", "keys_of", "text", "twice"]
