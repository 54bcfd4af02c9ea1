"""Ed25519 is deterministic: the same key over the same bytes is the same signature, and a signature that fits once fits
always. So both are remembered while a simulation runs. What is checked with which key is still the parties' decision:
only the arithmetic is replaced, one level below ``protocol.envelope``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from joserfc.errors import JoseError

from tallystick.protocol import envelope

REMEMBERED_MAX: Final = 200_000
KEYS_MAX: Final = 5_000


class _Remembering:
    """Stands where ``protocol.envelope`` finds joserfc's two functions."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self._verify = lru_cache(maxsize=REMEMBERED_MAX)(self._verify_once)
        self._sign = lru_cache(maxsize=REMEMBERED_MAX)(self._sign_once)
        self._keys: dict[int, Any] = {}

    def deserialize_compact(self, compact: str, key: Any, *, registry: Any) -> Any:
        """Whether the signature fits. Nothing but the exception is used by the caller."""
        name = self._name(key, registry)
        error = self._verify(compact, name)
        if error is not None:
            raise error
        return None

    def serialize_compact(self, header: dict[str, Any], payload: bytes, key: Any, *, registry: Any) -> str:
        """One compact envelope."""
        name = self._name(key, registry)
        return self._sign(_frozen(header), payload, name)

    def _name(self, key: Any, registry: Any) -> int:
        """A name for a key that holds as long as the key is kept here; keys compare by what they are, not by value."""
        if len(self._keys) >= KEYS_MAX:
            self._keys.clear()
            self._verify.cache_clear()
            self._sign.cache_clear()
        self._keys[id(key)] = (key, registry)
        return id(key)

    def _verify_once(self, compact: str, name: int) -> JoseError | ValueError | None:
        key, registry = self._keys[name]
        try:
            self._original.deserialize_compact(compact, key, registry=registry)
        except (JoseError, ValueError) as error:
            return error
        return None

    def _sign_once(self, header: tuple[tuple[str, Any], ...], payload: bytes, name: int) -> str:
        key, registry = self._keys[name]
        thawed = {key_: dict(value) if isinstance(value, tuple) else value for key_, value in header}
        signed: str = self._original.serialize_compact(thawed, payload, key, registry=registry)
        return signed


def _frozen(header: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, tuple(value.items()) if isinstance(value, dict) else value) for name, value in header.items())


def remember_signatures() -> None:
    """From now on, in this process. More than once is once."""
    if not isinstance(envelope.jws, _Remembering):
        envelope.jws = _Remembering(envelope.jws)  # type: ignore[assignment]
