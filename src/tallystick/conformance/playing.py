"""Plays an activation server against one field server, with keys and a catalog of its own. Pure but for the field server.

All that is known of a field server is what it writes: ``applied``, ``epoch`` and ``sequence`` stand in every message, so files are
enough to see whether it keeps the rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tallystick.domain.ids import ActivationId, LineId
from tallystick.protocol import envelope, keys, messages, tallyfile
from tallystick.protocol.envelope import PrivateKey, digest_of
from tallystick.protocol.messages import GRANT, REFUSAL, Grant, LicenseClaim, Refusal, Request

ISSUER: Final = "Tallystick conformance"
LINE: Final = LineId("7K3M9Q2A")
_PRODUCT: Final = "conformance"
FEATURE: Final = "conformance"
_KEYS_VALID_SECONDS: Final = 10 * 365 * 86_400
Json = dict[str, Any]


class FieldServerPort(Protocol):
    """A field server, over whatever route."""

    def wish(self, wish: Json) -> bool:
        """Have it write a message, in the words of its API; False where it refuses to."""

    def outbox(self) -> bytes:
        """Its waiting messages, as a tally file."""

    def deliver(self, tally: bytes) -> None:
        """Give it a tally file."""


class BrokenError(Exception):
    """A rule that the field server does not keep: what was expected, and what was seen."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the field server, its signature checked."""

    compact: str
    claims: Request

    @property
    def digest(self) -> str:
        """How a reply names it."""
        return digest_of(self.compact)


def seeded(name: str) -> PrivateKey:
    """Keys by their names, for ever the same: they are for tests, and protect nothing."""
    return PrivateKey(hashlib.sha256(f"tallystick conformance: {name}".encode()).digest())


class Play:
    """An activation server that is asked for nothing but what a rule needs."""

    def __init__(self, field_server: FieldServerPort, *, now: int) -> None:
        self.field_server = field_server
        self.now = now
        self.root, self.stranger = seeded("root"), seeded("stranger")
        self.signing, self.second = seeded("signing"), seeded("second signing")
        self.activation_id = ActivationId(line_id=LINE, secret=hashlib.sha256(b"conformance").digest()[:16])
        self.version = 0
        self.number = 0
        self.handovers: list[str] = []
        self.listed: tuple[PrivateKey, ...] = (self.signing,)

    # Keys

    def keyset(
        self, *, version: int | None = None, root: PrivateKey | None = None, listed: Sequence[PrivateKey] = ()
    ) -> str:
        """A keyset, of the next version where none is said."""
        if version is None:
            self.version += 1
        signing = tuple(
            keys.SigningKey(
                jwk=keys.Jwk(**key.public.jwk),
                valid_from=self.now - _KEYS_VALID_SECONDS,
                valid_until=self.now + _KEYS_VALID_SECONDS,
            )
            for key in listed or self.listed
        )
        return keys.make_keyset(
            root or self.root,
            issuer=ISSUER,
            version=version or self.version,
            issued_at=self.now,
            keys=signing,
            handovers=self.handovers,
        )

    # The field server

    def give(self, *lines: str | bytes) -> None:
        """Deliver lines as one tally file."""
        self.field_server.deliver(
            b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines)
        )

    def waiting(self) -> list[Message]:
        """What waits in its outbox, each message read as an activation server reads it."""
        found = []
        for line in tallyfile.parse_chunks([self.field_server.outbox()]):
            if isinstance(line, tallyfile.BadLine) or line.envelope.jwk is None:
                raise BrokenError(f"expected messages in the outbox, saw something else in line {line.line_number}")
            verified = envelope.verify(line.envelope, line.envelope.jwk)
            found.append(Message(line.envelope.compact, messages.parse_request(verified)))
        return found

    def ask(self, **wish: Any) -> Message:
        """Have it wish for something; the newest message that waits afterwards."""
        if not self.field_server.wish(wish):
            raise BrokenError(f"expected a message for {wish['purpose']}, saw a refusal")
        waiting = self.waiting()
        if not waiting:
            raise BrokenError("expected a message in the outbox, saw none")
        return waiting[-1]

    def state(self) -> Message:
        """A message of now: it says what is in force."""
        return self.ask(purpose="refresh")

    # Replies

    def grant(self, to: Message, *, signer: PrivateKey | None = None, **changes: Any) -> str:
        """A grant for the field server that wrote ``to``: a new number, answering ``to``, unless said otherwise."""
        if "number" not in changes:
            self.number += 1
        claims: Json = {
            "iss": ISSUER,
            "sub": to.claims.iss,
            "iat": self.now,
            "epoch": to.claims.epoch,
            "number": self.number,
            "request": to.digest,
            "seen": to.claims.sequence,
            "licenses": (self.license(to),),
            "confirm": False,
        }
        return (signer or self.signing).sign(GRANT, messages.encode_claims(Grant(**(claims | changes))))

    def license(self, to: Message, **changes: Any) -> LicenseClaim:
        """One license."""
        claims: Json = {
            "license": f"LC-{LINE}-{to.claims.iss[:12]}",
            "line": LINE,
            "product": _PRODUCT,
            "quantity": 2,
            "features": {FEATURE: 5},
            "expires": None,
            "one_carry": True,
        }
        return LicenseClaim(**(claims | changes))

    def refusal(self, to: Message, code: str, *, seen: int | None = None) -> str:
        """A refusal of ``to``."""
        claims = Refusal(
            iss=ISSUER,
            sub=to.claims.iss,
            iat=self.now,
            request=to.digest,
            seen=to.claims.sequence if seen is None else seen,
            code=code,
            detail="Conformance.",
        )
        return self.signing.sign(REFUSAL, messages.encode_claims(claims))

    # What every rule begins with

    def settle(self, **changes: Any) -> Message:
        """It holds one license by a new grant, and nothing waits. The message that the grant answered."""
        asked = self.state()
        self.number = max(self.number, 0 if asked.claims.applied is None else asked.claims.applied.number)
        self.give(self.grant(asked, **changes))
        self.nothing_waits()
        return asked

    # Expectations

    def expect(self, holds: bool, expected: str, seen: object) -> None:  # noqa: FBT001 - what is expected, in one word
        """The rule is broken unless it holds."""
        if not holds:
            raise BrokenError(f"expected {expected}, saw {seen}")

    def nothing_waits(self) -> None:
        """The outbox is empty."""
        waiting = [message.claims.purpose for message in self.waiting()]
        self.expect(not waiting, "an empty outbox", ", ".join(waiting))

    def expect_taken(self, compact: str) -> Message:
        """This grant is in force."""
        after = self.state()
        applied = after.claims.applied
        self.expect(
            applied is not None and applied.digest == digest_of(compact),
            "that this grant is in force",
            f"applied {applied}",
        )
        return after

    def expect_untouched(self, before: Message, *lines: str | bytes) -> None:
        """Delivering these lines changes neither grant nor epoch nor sequence."""
        self.give(*lines)
        after = self.state()
        saw = f"applied {after.claims.applied}, epoch {after.claims.epoch}, sequence {after.claims.sequence}"
        self.expect(after.compact == before.compact, "that nothing changes: the same message waits", saw)
