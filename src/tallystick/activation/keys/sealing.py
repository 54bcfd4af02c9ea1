"""What may leave this computer only under a passphrase: a secret sealed with AES-256-GCM under a key from scrypt.

Guarantees: without the passphrase nothing of the content can be read, and neither content nor place can be exchanged
for another. Leaves to others: to choose a passphrase that cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tallystick.errors import Error
from tallystick.sentences import _

PASSPHRASE_LENGTH_MIN: Final = 8
_MAGIC: Final = b"TALLYSEAL1\n"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
_COST: Final = 2**16  # 64 MiB for a fraction of a second, for each guess too


def seal(content: bytes, passphrase: str, *, place: str, random_bytes: Callable[[int], bytes]) -> bytes:
    """``content`` sealed for ``place``, which is authenticated, too. Raises ``Error`` (``backup-passphrase-wrong``)."""
    if len(passphrase) < PASSPHRASE_LENGTH_MIN:
        expected = _("a passphrase of {least} symbols or more", least=PASSPHRASE_LENGTH_MIN)
        raise Error("backup-passphrase-wrong", expected=expected, seen=_("one of {count}", count=len(passphrase)))
    salt, nonce = random_bytes(_SALT_BYTES), random_bytes(_NONCE_BYTES)
    sealed = AESGCM(_key(passphrase, salt)).encrypt(nonce, content, place.encode())
    return _MAGIC + salt + nonce + sealed


def unseal(sealed: bytes, passphrase: str, *, place: str) -> bytes:
    """The content. Raises ``Error`` (``backup-passphrase-wrong``, also for what was altered)."""
    salt, nonce, rest = _MAGIC, b"", b""
    if sealed.startswith(_MAGIC):
        body = sealed[len(_MAGIC) :]
        salt, nonce, rest = body[:_SALT_BYTES], body[_SALT_BYTES:][:_NONCE_BYTES], body[_SALT_BYTES + _NONCE_BYTES :]
    try:
        return AESGCM(_key(passphrase, salt)).decrypt(nonce, rest, place.encode())
    except (InvalidTag, ValueError) as error:
        raise Error(
            "backup-passphrase-wrong", expected=_("the passphrase of the backup"), seen=_("another one")
        ) from error


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(passphrase.encode("utf-8", "surrogateescape"))
