"""The activation server's signing key and its keyset: ``activation.ports.Signer``.

``DATA/keys/signing.pem`` is PKCS 8, readable by its owner only, with a passphrase where one is set; or the key is in a
hardware security module. ``DATA/keyset.tally`` says, signed by the root, which keys speak for this activation server.
Signing needs no root key. The newest key of the keyset that is at hand signs; after a rotation, ``refresh`` takes up
the new one while the process goes on. Who makes keys and keysets: ``custody``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tallystick.activation.files import FileError, load_file
from tallystick.activation.keys import pkcs11
from tallystick.activation.settings import KeySettings
from tallystick.protocol import keys, tallyfile
from tallystick.protocol.envelope import PrivateKey, PublicKey
from tallystick.protocol.keys import Keyset
from tallystick.protocol.problems import WireError
from tallystick.sentences import _

KEYS_DIRECTORY: Final = "keys"
ROOT_FILE: Final = "root.pem"
SIGNING_FILE: Final = "signing.pem"
KEYSET_FILE: Final = "keyset.tally"
_BYTES_MAX: Final = 1024 * 1024


class SigningKeyPort(Protocol):
    """A private key that signs envelopes, wherever it is."""

    place: str  # "file" or "token"
    public: PublicKey

    def sign(self, typ: str, payload: bytes) -> str:
        """One envelope."""


class FileKey:
    """A private key that was read from a file."""

    place = "file"

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.public = key.public

    def sign(self, typ: str, payload: bytes) -> str:
        """One envelope."""
        return self._key.sign(typ, payload)


class KeySigner:
    """Signs with the newest key of the keyset that is at hand. Threads may share it."""

    def __init__(self, data: Path, settings: KeySettings) -> None:
        self._data = data
        self._settings = settings
        self._token: pkcs11.HardwareToken | None = None
        self._stamp: object = None
        self._current: tuple[SigningKeyPort, Keyset]  # replaced in one step
        self.refresh()

    @property
    def keyset(self) -> Keyset:
        """See ``activation.ports.Signer``."""
        return self._current[1]

    @property
    def key(self) -> SigningKeyPort:
        """The key that signs."""
        return self._current[0]

    def sign(self, typ: str, payload: bytes) -> str:
        """See ``activation.ports.Signer``."""
        return self._current[0].sign(typ, payload)

    def refresh(self) -> bool:
        """Read key and keyset again if a file has changed. True: they are other ones. Raises ``FileError``."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        keyset = load_keyset(self._data)
        self._current = self._newest(keyset), keyset
        self._stamp = stamp
        return True

    def _newest(self, keyset: Keyset) -> SigningKeyPort:
        listed = [PublicKey(key.jwk.x) for key in keyset.keys]
        at_hand: dict[PublicKey, SigningKeyPort] = {}
        path = self._data / KEYS_DIRECTORY / SIGNING_FILE
        if self._settings.pkcs11_module is None or path.exists():
            key = load_key(path, passphrase=self._settings.passphrase)
            at_hand[key.public] = FileKey(key)
        if self._settings.pkcs11_module is not None:
            if self._token is None:
                self._token = pkcs11.open_token(self._settings)
            at_hand |= self._token.find(listed)
        for public in reversed(listed):
            if public in at_hand:
                return at_hand[public]
        raise unusable(_("a signing key that is one of the keyset"), _("another key"))

    def _look(self) -> object:
        found = []
        for path in (self._data / KEYSET_FILE, self._data / KEYS_DIRECTORY / SIGNING_FILE):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns, status.st_size))
            except OSError:
                found.append((0, 0, 0))
        return found


def load_signer(data: Path, settings: KeySettings | None = None) -> KeySigner:
    """The signing key and the keyset. The root key is not needed. Raises ``FileError`` (``keys-unusable``)."""
    return KeySigner(data, settings or KeySettings())


def load_keyset(data: Path) -> Keyset:
    """The keyset of a data directory. Raises ``FileError`` (``keys-unusable``)."""
    path = data / KEYSET_FILE
    try:
        lines = list(tallyfile.parse_chunks([load_file(path, bytes_max=_BYTES_MAX)]))
        if len(lines) != 1 or not isinstance(lines[0], tallyfile.GoodLine):
            raise unusable(_("one keyset in {path}", path=path), _("{lines} lines", lines=len(lines)))
        return keys.parse_keyset(lines[0].envelope)
    except FileError as error:
        if error.code == "keys-unusable":
            raise
        raise unusable(_("the keyset in {path}", path=path), error) from error
    except WireError as error:
        raise unusable(_("the keyset in {path}", path=path), error) from error


def load_key(path: Path, *, passphrase: str | None) -> PrivateKey:
    """An Ed25519 key from PKCS 8. Raises ``FileError`` (``keys-unusable``, ``passphrase-wrong``)."""
    try:
        pem = load_file(path, bytes_max=_BYTES_MAX)
    except FileError as error:
        raise unusable(_("the key in {path}", path=path), error) from error
    is_locked = b"ENCRYPTED" in pem
    if is_locked and passphrase is None:
        raise FileError("passphrase-wrong", expected=_("the passphrase of {path}", path=path), seen=_("none"))
    try:
        key = load_pem_private_key(pem, password=os.fsencode(passphrase) if is_locked and passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if is_locked:
            raise FileError(
                "passphrase-wrong", expected=_("the passphrase of {path}", path=path), seen=_("another one")
            ) from error
        raise unusable(_("the key in {path}", path=path), error) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise unusable(_("an Ed25519 key in {path}", path=path), _("a key of another type"))
    return PrivateKey(key.private_bytes_raw())


def keyset_lines(compact: str, issuer: str) -> list[bytes]:
    """The keyset as a tally file."""
    return list(tallyfile.format_file([compact], comment=f"Tallystick: the keys of activation server {issuer}"))


def unusable(expected: str, seen: object) -> FileError:
    """A fault of the keys (``keys-unusable``)."""
    return FileError("keys-unusable", expected=expected, seen=seen if isinstance(seen, str) else str(seen))
