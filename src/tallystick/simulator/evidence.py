"""What the auditor reads by itself: envelopes, their signatures and digests, without any code of the parties."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Violation(Exception):
    """A promise is broken."""

    def __init__(self, promise: str, what: str) -> None:
        super().__init__(f"{promise}: {what}")
        self.promise = promise
        self.what = what


@lru_cache(maxsize=50_000)
def read_envelope(compact: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Header, claims and digest of a compact envelope."""
    header, payload, _ = compact.split(".")
    digest = base64.urlsafe_b64encode(hashlib.sha256(compact.encode()).digest()).rstrip(b"=").decode()
    return json.loads(_decode(header)), json.loads(_decode(payload)), digest


@lru_cache(maxsize=1000)
def thumbprint(key: str) -> str:
    """RFC 7638, of an Ed25519 key."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{key}"}}'
    return base64.urlsafe_b64encode(hashlib.sha256(canonical.encode()).digest()).rstrip(b"=").decode()


@lru_cache(maxsize=50_000)
def check_signature(compact: str, key: str) -> None:
    """Raises ``Violation`` unless ``key`` signed it. Remembered: the answer never changes."""
    signed, _, signature = compact.rpartition(".")
    try:
        Ed25519PublicKey.from_public_bytes(_decode(key)).verify(_decode(signature), signed.encode())
    except InvalidSignature:
        raise Violation("P3", f"envelope {compact[-12:]} is not signed by the key that it names") from None


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
