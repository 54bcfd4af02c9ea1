"""The activation server's keys in files: ``activation.ports.Signer``.

``DATA/keys/root.pem`` and ``DATA/keys/signing.pem`` are PKCS 8, readable by their owner only; ``DATA/keyset.tally``
says, signed by the root, that the signing key speaks for this activation server. Signing needs the root key only to
make a keyset: its file can, and should, be moved to a safe place after ``init``, and brought back to make the next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tallystick.activation.files import FileError, load_file, save_file
from tallystick.protocol import keys, tallyfile
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.keys import Jwk, Keyset, SigningKey
from tallystick.protocol.problems import WireError

KEYS_DIRECTORY: Final = "keys"
ROOT_FILE: Final = "root.pem"
SIGNING_FILE: Final = "signing.pem"
KEYSET_FILE: Final = "keyset.tally"
_BYTES_MAX: Final = 1024 * 1024


class FileSigner:
    """Signs with the key of ``DATA/keys/signing.pem``, which the keyset of ``DATA/keyset.tally`` names."""

    def __init__(self, key: PrivateKey, keyset: Keyset) -> None:
        self._key = key
        self._keyset = keyset

    @property
    def keyset(self) -> Keyset:
        """See ``activation.ports.Signer``."""
        return self._keyset

    def sign(self, typ: str, payload: bytes) -> str:
        """See ``activation.ports.Signer``."""
        return self._key.sign(typ, payload)


def create_keys(data: Path, *, issuer: str, root_seed: bytes, signing_seed: bytes, now: int) -> FileSigner:
    """Make a root, a signing key and keyset 1. The caller has made sure that there are none. Raises ``FileError``."""
    root, signing = PrivateKey(root_seed), PrivateKey(signing_seed)
    signing_key = SigningKey(
        jwk=Jwk(**signing.public.jwk), valid_from=0
    )  # since ever: a clock that was set back must not void what it signed
    compact = keys.make_keyset(root, issuer=issuer, version=1, issued_at=now, keys=(signing_key,))
    directory = data / KEYS_DIRECTORY
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise FileError("disk-failed", expected=f"to make {directory}", seen=str(error)) from error
    save_file(directory / ROOT_FILE, [_pem(root_seed)], mode=0o600)
    save_file(directory / SIGNING_FILE, [_pem(signing_seed)], mode=0o600)
    save_file(data / KEYSET_FILE, keyset_lines(compact, issuer))
    return load_signer(data)


def load_signer(data: Path) -> FileSigner:
    """The signing key and the keyset. The root key is not needed. Raises ``FileError`` (``keys-unusable``)."""
    keyset = _load_keyset(data / KEYSET_FILE)
    path = data / KEYS_DIRECTORY / SIGNING_FILE
    try:
        key = load_pem_private_key(load_file(path, bytes_max=_BYTES_MAX), password=None)
    except (FileError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(f"the signing key in {path}", error) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(f"an Ed25519 key in {path}", "a key of another type")
    signing = PrivateKey(key.private_bytes_raw())
    if signing.public.x not in {known.jwk.x for known in keyset.keys}:
        raise _unusable(f"the key in {path} to be one of the keyset", "another key")
    return FileSigner(signing, keyset)


def keyset_lines(compact: str, issuer: str) -> list[bytes]:
    """The keyset as a tally file."""
    return list(tallyfile.format_file([compact], comment=f"Tallystick: the keys of activation server {issuer}"))


def _load_keyset(path: Path) -> Keyset:
    try:
        lines = list(tallyfile.parse_chunks([load_file(path, bytes_max=_BYTES_MAX)]))
        if len(lines) != 1 or not isinstance(lines[0], tallyfile.GoodLine):
            raise _unusable(f"one keyset in {path}", f"{len(lines)} lines")
        return keys.parse_keyset(lines[0].envelope)
    except FileError as error:
        if error.code == "keys-unusable":
            raise
        raise _unusable(f"the keyset in {path}", error) from error
    except WireError as error:
        raise _unusable(f"the keyset in {path}", error) from error


def _pem(seed: bytes) -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _unusable(expected: str, seen: object) -> FileError:
    return FileError("keys-unusable", expected=expected, seen=str(seen))
