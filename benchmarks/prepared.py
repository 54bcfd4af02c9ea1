"""Messages with real signatures, made before anything is measured.

A field server activates one unit of a line and relinquishes it, again and again: an activation and its return are two
messages, and what it says never depends on a reply, so that all of it can be signed beforehand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Final

from tallystick.domain.ids import ActivationId, LineId
from tallystick.protocol import messages
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import Facts, LineWant, Request

IAT: Final = 1_800_000_000
_PROCESSES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Teller:
    """One field server and the line that it takes from."""

    number: int
    issuer: str
    line_id: LineId
    secret: bytes
    salt: str = ""

    @property
    def key(self) -> PrivateKey:
        """Its key, always the same."""
        return PrivateKey(hashlib.sha256(f"bench {self.salt} {self.number}".encode()).digest())

    def say(self, start: int, count: int) -> list[str]:
        """Its messages from sequence ``start``: activate at odd ones, relinquish at even ones."""
        return list(self._say(self.key, start, count))

    def _say(self, key: PrivateKey, start: int, count: int) -> Iterator[str]:
        device_id = key.public.device_id
        facts = Facts(kind="AS-P", host_id=f"host-{self.salt}-{self.number}", name=f"bench {self.number}", software="1")
        activation_id = ActivationId(line_id=self.line_id, secret=self.secret)
        for sequence in range(start, start + count):
            jti = f"bench-{self.number:08d}-{sequence:08d}"
            wants = None
            if sequence % 2:
                proof = messages.activation_proof(activation_id, device_id, jti)
                wants = (LineWant(line=self.line_id, quantity=1, proof=proof),)
            request = Request(
                iss=device_id,
                aud=self.issuer,
                jti=jti,
                iat=IAT,
                purpose="activate" if wants else "relinquish",
                epoch=sequence // 2 + 1,
                sequence=sequence,
                applied=None,
                facts=facts,
                wants=wants,
            )
            yield key.sign(messages.REQUEST, messages.encode_claims(request), with_jwk=True)


def say_all(tellers: list[Teller], start: int, count: int) -> list[list[str]]:
    """What each says, signed on all cores."""
    with ProcessPoolExecutor(_PROCESSES) as pool:
        return list(pool.map(_say, ((teller, start, count) for teller in tellers), chunksize=16))


def _say(job: tuple[Teller, int, int]) -> list[str]:
    teller, start, count = job
    return teller.say(start, count)
