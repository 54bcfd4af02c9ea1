"""Making keys and keysets: the first ones, rotation, retirement, and the hand-over of the root (docs/operations/keys.md).

The order of writing makes every crash harmless: a new private key first, beside the old one; then the keyset that
names it, in one step; then the new key takes the old one's place. What is left in between signs with the old key,
which the keyset still names. A new keyset is always one version higher and keeps the keys that it does not say
anything about, so what they signed stays valid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from tallystick.activation.files import FileError, locked, save_file
from tallystick.activation.keys import pkcs11, signing
from tallystick.activation.keys.signing import (
    KEYS_DIRECTORY,
    KEYSET_FILE,
    ROOT_FILE,
    SIGNING_FILE,
    KeySigner,
    SigningKeyPort,
    keyset_lines,
)
from tallystick.activation.settings import KeySettings
from tallystick.errors import Error
from tallystick.protocol import keys
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.keys import HANDOVERS_MAX, KEYS_MAX, Jwk, Keyset, SigningKey
from tallystick.sentences import _

NEXT_FILE: Final = "signing.next.pem"
# A key that ended so long ago leaves with the next rotation. A reply that is still on its way then is asked for again by
# its field server, under the keyset of then; nothing else looks at old signatures.
KEPT_SECONDS: Final = 2 * 366 * 86_400


class KeysError(Error):
    """Something about keys that cannot be done."""


def create_keys(
    data: Path,
    *,
    issuer: str,
    root_seed: bytes,
    signing_seed: bytes,
    now: int,
    settings: KeySettings | None = None,
    root_passphrase: str | None = None,
) -> KeySigner:
    """Make a root, a signing key and keyset 1. The caller has made sure that there are none. Raises ``FileError``."""
    settings = settings or KeySettings()
    root, first = PrivateKey(root_seed), PrivateKey(signing_seed)
    # Since ever: a clock that was set back must not void what it signed.
    signing_key = SigningKey(jwk=Jwk(**first.public.jwk), valid_from=0)
    compact = keys.make_keyset(root, issuer=issuer, version=1, issued_at=now, keys=(signing_key,))
    directory = _directory(data)
    save_file(directory / ROOT_FILE, [key_pem(root_seed, root_passphrase)], mode=0o600)
    save_file(directory / SIGNING_FILE, [key_pem(signing_seed, settings.passphrase)], mode=0o600)
    save_file(data / KEYSET_FILE, keyset_lines(compact, issuer))
    # The first key is in a file; a hardware module gets its own with the first rotation.
    return signing.load_signer(data, replace(settings, pkcs11_module=None, pkcs11_token=None))


def rotate(
    data: Path, root: PrivateKey, settings: KeySettings, *, seed: bytes, now: int, overlap_seconds: int
) -> tuple[Keyset, SigningKeyPort]:
    """A new signing key, and a keyset that names it. Where the settings name a token, the key is made in it.

    Keys that had no end yet get one ``overlap_seconds`` from now: processes that have not looked since may sign with
    them until then, and what they signed before their end stays valid as long as they are listed: ``KEPT_SECONDS`` at
    least. Raises ``Error``.
    """
    with locked(data):
        have = signing.load_keyset(data)
        _check_root(root, have)
        needed = tuple(key for key in have.keys if key.valid_until is None or key.valid_until + KEPT_SECONDS > now)
        if len(needed) >= KEYS_MAX:
            raise KeysError(
                "keys-too-many",
                expected=_("fewer than {keys_max} keys in the keyset", keys_max=KEYS_MAX),
                seen=f"{len(needed)}",
            )
        path = _directory(data) / SIGNING_FILE
        made: SigningKeyPort
        if settings.pkcs11_module is not None:
            made = pkcs11.open_token(settings).create()
        else:
            made = signing.FileKey(PrivateKey(seed))
            save_file(path.with_name(NEXT_FILE), [key_pem(seed, settings.passphrase)], mode=0o600)
        ended = tuple(
            key if key.valid_until is not None else msgspec.structs.replace(key, valid_until=now + overlap_seconds)
            for key in needed
        )
        listed = (*ended, SigningKey(jwk=Jwk(**made.public.jwk), valid_from=0))
        keyset = _save_keyset(data, root, have, listed, now=now)
        try:
            if made.place == "token":
                path.unlink(missing_ok=True)
            else:
                path.with_name(NEXT_FILE).replace(path)
        except OSError as error:
            raise FileError("disk-failed", expected=_("to replace {path}", path=path), seen=str(error)) from error
        return keyset, made


def retire(data: Path, root: PrivateKey, kid: str, *, current: str, now: int, remove: bool) -> Keyset:
    """End a key now, or take it out altogether: nothing that it signed is believed any more. Raises ``Error``."""
    with locked(data):
        have = signing.load_keyset(data)
        _check_root(root, have)
        found = [key for key in have.keys if key.kid == kid or (len(kid) >= 6 and key.kid.startswith(kid))]
        if len(found) != 1:
            raise KeysError("not-found" if not found else "ambiguous", expected=_("a key of the keyset"), seen=kid[:60])
        (chosen,) = found
        if chosen.kid == current:
            raise KeysError("key-in-use", expected=_("a key that does not sign any more"), seen=_("the one that signs"))
        ended = msgspec.structs.replace(chosen, valid_until=min(now, chosen.valid_until or now))
        listed = tuple(ended if key is chosen else key for key in have.keys if key is not chosen or not remove)
        return _save_keyset(data, root, have, listed, now=now)


def hand_over(data: Path, root: PrivateKey, successor: PrivateKey, *, now: int) -> Keyset:
    """Give up the root: a statement that names the next one, and a keyset of the next one. Raises ``Error``."""
    with locked(data):
        have = signing.load_keyset(data)
        _check_root(root, have)
        if successor.public == root.public:
            raise KeysError("root-differs", expected=_("another root"), seen=_("the same one"))
        if len(have.handovers) >= HANDOVERS_MAX:
            raise KeysError(
                "keys-too-many",
                expected=_("fewer than {handovers_max} hand-overs", handovers_max=HANDOVERS_MAX),
                seen=_("as many"),
            )
        statement = keys.make_handover(
            root, issuer=have.issuer, version=have.version + 1, issued_at=now, successor=successor.public
        )
        handovers = [*(handover.compact for handover in have.handovers), statement]
        return _save_keyset(data, successor, have, have.keys, now=now, handovers=handovers)


def load_root(data: Path, path: Path | None, *, passphrase: str | None) -> PrivateKey:
    """The root key, where it was left or where the caller says. Raises ``FileError``."""
    return signing.load_key(path or data / KEYS_DIRECTORY / ROOT_FILE, passphrase=passphrase)


def key_pem(seed: bytes, passphrase: str | None) -> bytes:
    """A private key as PKCS 8, encrypted where there is a passphrase."""
    locking: KeySerializationEncryption = NoEncryption()
    if passphrase:
        locking = BestAvailableEncryption(passphrase.encode("utf-8", "surrogateescape"))
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locking)


def _save_keyset(
    data: Path,
    root: PrivateKey,
    have: Keyset,
    listed: tuple[SigningKey, ...],
    *,
    now: int,
    handovers: Sequence[str] | None = None,
) -> Keyset:
    if handovers is None:
        handovers = [handover.compact for handover in have.handovers]
    compact = keys.make_keyset(
        root, issuer=have.issuer, version=have.version + 1, issued_at=now, keys=listed, handovers=handovers
    )
    # Whoever has the old one must take the new one: what would be refused out there is never written.
    keyset = keys.parse_successor(open_envelope(compact.encode()), have)
    save_file(data / KEYSET_FILE, keyset_lines(compact, have.issuer))
    return keyset


def _check_root(root: PrivateKey, have: Keyset) -> None:
    if root.public != have.root:
        raise KeysError(
            "root-differs",
            expected=_("root {root_fingerprint}", root_fingerprint=have.root_fingerprint[:12]),
            seen=_("root {thumbprint}", thumbprint=root.public.thumbprint[:12]),
        )


def _directory(data: Path) -> Path:
    directory = data / KEYS_DIRECTORY
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileError(
            "disk-failed", expected=_("to make {directory}", directory=directory), seen=str(error)
        ) from error
    return directory
