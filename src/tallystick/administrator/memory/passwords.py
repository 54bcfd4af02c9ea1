"""Field servers' passwords, encrypted at rest: one key seals them all, and the key is not in the database.

The key is, in this order, what follows from a passphrase (``$TALLYSTICK_PASSPHRASE``), the bytes of a key file
(``$TALLYSTICK_KEY_FILE``), what the operating system's keyring keeps, or, where there is no keyring, a file of its own
beside the database that only its owner can read. One secret in the keyring, instead of one for each of a thousand field
servers, asks a person once.

Guarantees: AES-256-GCM; a sealed password opens for its own field server only, so that swapping rows gives nothing; what
was stored plainly by an earlier version is sealed when it is next written. A key that does not fit is told
(``password-wrong``), and nothing is overwritten. A copy of the database alone tells no password.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tallystick.errors import Error
from tallystick.sentences import _

PREFIX: Final = "sealed:1:"
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_SALT: Final = b"tallystick field server passwords"
_SCRYPT_COST: Final = 2**15
_SCRYPT_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealer:
    """Seals and opens. ``random`` draws bytes that nobody can guess; ``where`` says in words where the key is."""

    key: bytes = field(repr=False)
    random: Callable[[int], bytes]
    where: str

    def seal(self, password: str, device_id: str) -> str:
        """What is stored."""
        nonce = self.random(_NONCE_BYTES)
        sealed = AESGCM(self.key).encrypt(nonce, password.encode(), device_id.encode())
        return PREFIX + base64.b64encode(nonce + sealed).decode("ascii")

    def open(self, stored: str, device_id: str) -> str | None:
        """The password; None where this key does not open it."""
        if not stored.startswith(PREFIX):
            return stored
        try:
            data = base64.b64decode(stored.removeprefix(PREFIX), validate=True)
            plain = AESGCM(self.key).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], device_id.encode())
            return plain.decode()
        except (InvalidTag, ValueError):
            return None


def key_from_passphrase(passphrase: str) -> bytes:
    """Takes a tenth of a second, on purpose."""
    return hashlib.scrypt(
        passphrase.encode(), salt=_SALT, n=_SCRYPT_COST, r=8, p=1, maxmem=_SCRYPT_BYTES_MAX, dklen=KEY_BYTES
    )


def key_from_file(data: bytes) -> bytes:
    """Any file with at least 32 bytes. Raises ``Error`` (``usage``)."""
    if len(data) < KEY_BYTES:
        raise Error(
            "usage",
            expected=_("a key file of at least {key_bytes} bytes", key_bytes=KEY_BYTES),
            seen=_("{count} bytes", count=len(data)),
        )
    return hashlib.sha256(data).digest()
