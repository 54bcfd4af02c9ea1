"""Keysets: which keys speak for the activation server (protocol, section 3; docs/protocol/keys.md).

A root key signs keysets and hand-overs, and nothing else; a keyset lists the signing keys with their validity; its
version only rises. A root that is given up signs a hand-over (``tally-root+jwt``) that names the next one, and every
keyset of the next one carries it: who has pinned the old root believes the new one for that reason and for no other.
Who pins which root is decided by the party that reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from msgspec import Meta

from tallystick.protocol import envelope, messages
from tallystick.protocol.envelope import PrivateKey, PublicKey, Unverified, Verified
from tallystick.protocol.messages import KEYS, ROOT, Claims, Compact, Hash, Moment, Number, Text
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import know

KEYS_MAX: Final = 32
HANDOVERS_MAX: Final = 16


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

    @property
    def kid(self) -> str:
        """How messages name it."""
        return PublicKey(self.jwk.x).thumbprint


class RootClaims(Claims, frozen=True):
    """What a root says when it is given up: from keyset ``version`` on, ``successor`` speaks in its place."""

    iss: Text
    version: Number
    iat: Moment
    root: Jwk
    successor: Jwk


class KeysetClaims(Claims, frozen=True):
    """What a root says. ``handovers`` lead from the first root to this one, oldest first."""

    iss: Text
    version: Number
    iat: Moment
    root: Jwk
    keys: Annotated[tuple[SigningKey, ...], Meta(min_length=1, max_length=KEYS_MAX)]
    handovers: Annotated[tuple[Compact, ...], Meta(max_length=HANDOVERS_MAX)] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """A hand-over whose old root's signature was checked. ``compact`` is the envelope, verbatim."""

    compact: str
    issuer: str
    version: int
    root: PublicKey
    successor: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyset:
    """A keyset whose root signature was checked. ``compact`` is the envelope, verbatim."""

    compact: str
    issuer: str
    version: int
    root: PublicKey
    keys: tuple[SigningKey, ...]
    issued_at: int = 0
    handovers: tuple[Handover, ...] = ()

    @property
    def root_fingerprint(self) -> str:
        """How people compare a root: its RFC 7638 thumbprint."""
        return self.root.thumbprint

    @property
    def root_fingerprints(self) -> frozenset[str]:
        """The root's, and those of the roots that led to it: whoever has pinned one of them may take this keyset."""
        return frozenset({self.root_fingerprint, *(handover.root.thumbprint for handover in self.handovers)})

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
            expected=_("a key of keyset {version} of {issuer}", version=self.version, issuer=self.issuer),
            seen=_("kid {kid}", kid=str(message.kid)[:12]) if message.kid else _("a message that carries its own key"),
        )

    def may_have_signed(self, kid: str | None, *, issued_at: int) -> bool:
        """Whether the key that ``kid`` names is listed, and was valid at that moment."""
        for key in self.keys:
            if key.kid == kid:
                return key.valid_from <= issued_at and (key.valid_until is None or issued_at < key.valid_until)
        return False

    def check_issued(self, verified: Verified, *, issuer: str, issued_at: int) -> None:
        """Raises ``WireError`` unless the message names this issuer and its key was valid when it was issued."""
        if issuer != self.issuer:
            raise WireError(
                "issuer-wrong",
                expected=_("a message from {issuer}", issuer=self.issuer),
                seen=_("one from {issuer}", issuer=issuer[:60]),
            )
        for key in self.keys:
            if key.jwk.x != verified.key.x:
                continue
            if key.valid_from <= issued_at and (key.valid_until is None or issued_at < key.valid_until):
                return
            raise WireError(
                "key-unknown", expected=_("a key valid when the message was issued"), seen=_("one that was not")
            )


def parse_keyset(message: Unverified, *, root: PublicKey | None = None) -> Keyset:
    """A keyset, signed by ``root`` or, where none is given, by the root that it names. Raises ``WireError``.

    Its hand-overs are always checked: each signed by the root before, in an unbroken chain that ends at its own root,
    with rising versions.
    """
    if message.typ != KEYS:
        raise WireError("kind-unexpected", expected=KEYS, seen=message.typ[:40])
    claims = messages.convert_claims(message.payload, KeysetClaims)
    named = PublicKey(claims.root.x)
    if root is not None and named != root:
        raise _root_differs(root, named)
    if message.kid != named.thumbprint:
        raise WireError("signature-wrong", expected=_("the signature of the root"), seen=_("another kid"))
    envelope.verify(message, named)
    return Keyset(
        compact=message.compact,
        issuer=claims.iss,
        version=claims.version,
        issued_at=claims.iat,
        root=named,
        keys=claims.keys,
        handovers=_parse_handovers(claims, named),
    )


def parse_successor(message: Unverified, have: Keyset) -> Keyset:
    """A keyset for who has pinned the root of ``have``. Raises ``WireError`` (``root-differs``, ``issuer-wrong``).

    It is of the same root; or of one that the root of ``have`` was handed over to, in a version after that of ``have``;
    or an earlier one, of a root that led to it. Whether its version is higher is for the caller to look at.
    """
    keyset = parse_keyset(message)
    if keyset.issuer != have.issuer and keyset.root == have.root:
        raise WireError(
            "issuer-wrong",
            expected=_("keys of {issuer}", issuer=have.issuer),
            seen=_("keys of {issuer}", issuer=keyset.issuer),
        )
    is_next = any(other.root == have.root and other.version > have.version for other in keyset.handovers)
    is_earlier = any(other.root == keyset.root and other.version > keyset.version for other in have.handovers)
    if keyset.root == have.root or (keyset.issuer == have.issuer and (is_next or is_earlier)):
        return keyset
    raise _root_differs(have.root, keyset.root)


def parse_handover(message: Unverified) -> Handover:
    """A hand-over, signed by the root that it gives up. Raises ``WireError``."""
    if message.typ != ROOT:
        raise WireError("kind-unexpected", expected=ROOT, seen=message.typ[:40])
    claims = messages.convert_claims(message.payload, RootClaims)
    root, successor = PublicKey(claims.root.x), PublicKey(claims.successor.x)
    if message.kid != root.thumbprint:
        raise WireError(
            "signature-wrong", expected=_("the signature of the root that is given up"), seen=_("another kid")
        )
    if root == successor:
        raise WireError("claims-malformed", expected=_("another root as successor"), seen=_("the same root"))
    envelope.verify(message, root)
    return Handover(compact=message.compact, issuer=claims.iss, version=claims.version, root=root, successor=successor)


def make_keyset(
    root: PrivateKey,
    *,
    issuer: str,
    version: int,
    issued_at: int,
    keys: tuple[SigningKey, ...],
    handovers: Sequence[str] = (),
) -> str:
    """Sign a keyset with the root key."""
    claims = KeysetClaims(
        iss=issuer,
        version=version,
        iat=issued_at,
        root=Jwk(**root.public.jwk),
        keys=keys,
        handovers=tuple(handovers),
    )
    return root.sign(KEYS, messages.encode_claims(claims))


def make_handover(root: PrivateKey, *, issuer: str, version: int, issued_at: int, successor: PublicKey) -> str:
    """Give up ``root``: from keyset ``version`` on, ``successor`` signs keysets."""
    claims = RootClaims(
        iss=issuer, version=version, iat=issued_at, root=Jwk(**root.public.jwk), successor=Jwk(**successor.jwk)
    )
    return root.sign(ROOT, messages.encode_claims(claims))


def _parse_handovers(claims: KeysetClaims, root: PublicKey) -> tuple[Handover, ...]:
    found = tuple(
        parse_handover(envelope.open_envelope(compact.encode("utf-8", "replace"))) for compact in claims.handovers
    )
    successors = [*(handover.root for handover in found[1:]), root]
    versions = [*(handover.version for handover in found), claims.version + 1]
    for place, handover in enumerate(found):
        if handover.issuer != claims.iss:
            raise WireError(
                "issuer-wrong",
                expected=_("hand-overs of {iss}", iss=claims.iss),
                seen=_("one of {issuer}", issuer=handover.issuer),
            )
        if handover.successor != successors[place] or handover.version >= versions[place + 1]:
            raise WireError(
                "claims-malformed",
                expected=_("hand-overs that lead to this root, in rising versions"),
                seen=_("a break after the hand-over at version {version}", version=handover.version),
            )
    return found


def _root_differs(expected: PublicKey, seen: PublicKey) -> WireError:
    return WireError(
        "root-differs",
        expected=_("root {thumbprint}", thumbprint=expected.thumbprint[:12]),
        seen=_("root {thumbprint}", thumbprint=seen.thumbprint[:12]),
    )


know(Jwk, SigningKey, RootClaims, KeysetClaims)
