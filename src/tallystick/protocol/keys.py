"""Keysets: which keys speak for the activation server (protocol, section 3).

A root key signs keysets and nothing else; a keyset lists the signing keys with their validity; its version only
rises. Who pins which root is decided by the party that reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from tallystick.protocol import envelope, messages
from tallystick.protocol.envelope import PrivateKey, PublicKey, Unverified, Verified
from tallystick.protocol.messages import KEYS, Claims, Hash, Moment, Number, Text
from tallystick.protocol.problems import WireError


class Jwk(Claims, frozen=True):
    """A public Ed25519 key."""

    crv: Annotated[str, Meta(pattern=r"^Ed25519\Z")]
    kty: Annotated[str, Meta(pattern=r"^OKP\Z")]
    x: Hash


class SigningKey(Claims, frozen=True):
    """A signing key and the time in which messages that it signed may have been issued (their ``iat``)."""

    jwk: Jwk
    valid_from: Moment
    valid_until: Moment | None = None


class KeysetClaims(Claims, frozen=True):
    """What a root says."""

    iss: Text
    version: Number
    iat: Moment
    root: Jwk
    keys: Annotated[tuple[SigningKey, ...], Meta(min_length=1, max_length=32)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset:
    """A keyset whose root signature was checked. ``compact`` is the envelope, verbatim."""

    compact: str
    issuer: str
    version: int
    root: PublicKey
    keys: tuple[SigningKey, ...]

    @property
    def root_fingerprint(self) -> str:
        """How people compare a root: its RFC 7638 thumbprint."""
        return self.root.thumbprint

    def verify(self, message: Unverified) -> Verified:
        """Check that a key of this keyset signed ``message``. Raises ``WireError``.

        The key is the one that ``kid`` names; the algorithm follows from the key. Validity over ``iat`` is checked by
        ``check_issued``, once the claims are parsed.
        """
        for key in self.keys:
            public = PublicKey(key.jwk.x)
            if message.kid == public.thumbprint:
                return envelope.verify(message, public)
        raise WireError(
            "key-unknown",
            expected=f"a key of keyset {self.version} of {self.issuer}",
            seen=f"kid {str(message.kid)[:12]}" if message.kid else "a message that carries its own key",
        )

    def check_issued(self, verified: Verified, *, issuer: str, issued_at: int) -> None:
        """Raises ``WireError`` unless the message names this issuer and its key was valid when it was issued."""
        if issuer != self.issuer:
            raise WireError("issuer-wrong", expected=f"a message from {self.issuer}", seen=f"one from {issuer[:60]}")
        for key in self.keys:
            if key.jwk.x != verified.key.x:
                continue
            if key.valid_from <= issued_at and (key.valid_until is None or issued_at < key.valid_until):
                return
            raise WireError("key-unknown", expected="a key valid when the message was issued", seen="one that was not")


def parse_keyset(message: Unverified, *, root: PublicKey | None = None) -> Keyset:
    """A keyset, signed by ``root`` or, where none is pinned yet, by the root that it names. Raises ``WireError``."""
    if message.typ != KEYS:
        raise WireError("kind-unexpected", expected=KEYS, seen=message.typ[:40])
    claims = messages.convert_claims(message.payload, KeysetClaims)
    named = PublicKey(claims.root.x)
    if root is not None and named != root:
        raise WireError("root-differs", expected=f"root {root.thumbprint[:12]}", seen=f"root {named.thumbprint[:12]}")
    if message.kid != named.thumbprint:
        raise WireError("signature-wrong", expected="the signature of the root", seen="another kid")
    envelope.verify(message, named)
    return Keyset(compact=message.compact, issuer=claims.iss, version=claims.version, root=named, keys=claims.keys)


def make_keyset(root: PrivateKey, *, issuer: str, version: int, issued_at: int, keys: tuple[SigningKey, ...]) -> str:
    """Sign a keyset with the root key."""
    claims = KeysetClaims(iss=issuer, version=version, iat=issued_at, root=Jwk(**root.public.jwk), keys=keys)
    return root.sign(KEYS, messages.encode_claims(claims))
