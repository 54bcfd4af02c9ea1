"""The field server at work: load, step, save, then speak.

Guarantees: nothing of a step is let out before it is durable; one step at a time among all processes that share a
data directory (the command line may work beside the running agent); every step begins with the newest state, also
where another process wrote it; a step that changes nothing writes nothing. It leaves what a step means to ``engine``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.fieldserver import engine
from tallystick.fieldserver.ports import Clock, Lock, Random
from tallystick.fieldserver.state import Device, LineEffect, Received, Refused, State, Waiting, Wish, Written
from tallystick.fieldserver.vault import Vault
from tallystick.protocol.problems import detail_text
from tallystick.protocol.tallyfile import BadLine, GoodLine

RANDOM_BYTES: Final = 32
TIME_SAVED_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class LineResult:
    """What one line of a delivered file did."""

    line_number: int
    received: Received


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryResult:
    """What a delivered file did, line by line, and how many own messages wait now."""

    lines: tuple[LineResult, ...]
    waiting: int

    @property
    def has_errors(self) -> bool:
        """Whether any line could not be used here."""
        return any(line.received.effect is LineEffect.ERROR for line in self.lines)


class Agent:
    """One field server. Every method but ``peek`` takes the lock and may raise ``Error``: ``vault-locked``,
    ``vault-damaged``, ``disk-full``, ``disk-failed``, ``not-initialised``.
    """

    def __init__(self, *, vault: Vault, device: Device, clock: Clock, random: Random, lock: Lock) -> None:
        self.device = device
        self._vault = vault
        self._clock = clock
        self._random = random
        self._lock = lock

    def peek(self) -> State:
        """The newest state, to look at. It may not be durable yet, so no message of it may be let out."""
        return self._vault.peek()

    def ask(self, wish: Wish) -> Written:
        """Write the message for ``wish``, durably. Raises ``Error`` with the code of a refusal."""
        with self._lock.hold():
            state, result = engine.write_request(
                before := self._vault.load(),
                wish,
                device=self.device,
                now=self._clock.now(),
                random=self._random.bytes(RANDOM_BYTES),
            )
            self._save(before, state)
        if isinstance(result, Refused):
            raise result.as_error()
        return result

    def outbox(self) -> tuple[Waiting, ...]:
        """The messages that wait, durable, and so ready to be carried; the same bytes every time."""
        with self._lock.hold():
            return self._vault.load().outbox

    def deliver(self, lines: Sequence[GoodLine | BadLine]) -> DeliveryResult:
        """Take a whole file with one durable write. Good lines go through beside bad ones."""
        good = [line for line in lines if isinstance(line, GoodLine)]
        with self._lock.hold():
            state, received = engine.receive_all(
                before := self._vault.load(),
                [line.envelope for line in good],
                device=self.device,
                now=self._clock.now(),
                random=self._random.bytes(RANDOM_BYTES),
            )
            self._save(before, state)
        results = {line.line_number: result for line, result in zip(good, received, strict=True)}
        results |= {line.line_number: _bad(line) for line in lines if isinstance(line, BadLine)}
        return DeliveryResult(
            lines=tuple(LineResult(line_number=number, received=results[number]) for number in sorted(results)),
            waiting=len(state.outbox),
        )

    def note_time(self) -> None:
        """Save the highest time seen, where the saved one is more than ``TIME_SAVED_SECONDS`` behind."""
        with self._lock.hold():
            before = self._vault.load()
            now = self._clock.now()
            if now - before.time_seen >= TIME_SAVED_SECONDS:
                self._save(before, engine.note_time(before, now))

    def _save(self, before: State, after: State) -> None:
        if after is not before:
            self._vault.save(after)


def _bad(line: BadLine) -> Received:
    error = line.error
    return Received(
        kind="unknown",
        digest=None,
        effect=LineEffect.ERROR,
        code=error.code,
        detail=detail_text(error.code, expected=error.expected, seen=error.seen),
    )
