"""Ed25519 is deterministic: the same key over the same bytes is the same signature, and a signature that fits once fits
always. So both are remembered while a simulation runs. What is checked with which key is still the parties' decision:
only the arithmetic is replaced, one level below ``protocol.envelope``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidSignature

from tallystick.protocol import envelope

REMEMBERED_MAX: Final = 200_000
KEYS_MAX: Final = 5_000


class _PublicKey:
    """Verifies as the key does, each signature once."""

    def __init__(self, key: Any) -> None:
        self._key = key

    def verify(self, signature: bytes, data: bytes) -> None:
        """Raises ``InvalidSignature``."""
        if not _fits(self, signature, data):
            raise InvalidSignature

    def fits(self, signature: bytes, data: bytes) -> bool:
        """Whether it does, by arithmetic."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class _PrivateKey:
    """Signs as the key does, the same bytes once."""

    def __init__(self, key: Any) -> None:
        self._key = key
        self.public_key = key.public_key
        self.private_bytes = key.private_bytes

    def sign(self, data: bytes) -> bytes:
        """One signature."""
        return _signature(self, data)

    def make(self, data: bytes) -> bytes:
        """The signature, by arithmetic."""
        signature: bytes = self._key.sign(data)
        return signature


class _PrivateKeys:
    """Stands where ``protocol.envelope`` finds the class of private keys."""

    def __init__(self, original: Any) -> None:
        self._original = original

    @lru_cache(maxsize=KEYS_MAX)  # noqa: B019 - there is one, for as long as the process runs
    def from_private_bytes(self, seed: bytes) -> _PrivateKey:
        """A key from its seed: the same one for the same seed."""
        return _PrivateKey(self._original.from_private_bytes(seed))


@lru_cache(maxsize=REMEMBERED_MAX)
def _fits(key: _PublicKey, signature: bytes, data: bytes) -> bool:
    return key.fits(signature, data)


@lru_cache(maxsize=REMEMBERED_MAX)
def _signature(key: _PrivateKey, data: bytes) -> bytes:
    return key.make(data)


def remember_signatures() -> None:
    """From now on, in this process. More than once is once."""
    below: Any = envelope  # what is replaced is not for others
    if isinstance(below.Ed25519PrivateKey, _PrivateKeys):
        return
    original = below._public_key.__wrapped__  # noqa: SLF001 - one level below, as said above
    below._public_key = lru_cache(maxsize=KEYS_MAX)(lambda x: _PublicKey(original(x)))  # noqa: SLF001 - to remember keys
    below.Ed25519PrivateKey = _PrivateKeys(below.Ed25519PrivateKey)
