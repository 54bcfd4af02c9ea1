"""The time that waiting periods count: time in service, while the clock went on steadily (protocol, section 7).

A waiting period gives a field server that lives the time to speak. So it counts what a serving process has seen pass by a
clock that nobody sets, and nothing else: neither the time when nothing served, nor what a clock jumped. A jump, ahead or
back, while it serves or while it did not, is an incident, and no waiting period ends until a person has looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tallystick.activation.core.books import Books
from tallystick.activation.core.ports import IncidentKind, ServiceClock, Signer, Transaction
from tallystick.domain.ids import DeviceId

STEADY_SECONDS: Final = 30  # what a clock may be corrected by, or differ from that of another worker
NOBODY: Final = DeviceId("")  # an incident of the activation server, not of a field server


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """What one serving process sees. ``before``: its clock at its last tick; ``elapsed``: seconds since then.

    ``elapsed`` is by a clock that nobody sets and that begins anew with the computer.
    """

    now: int
    before: int
    elapsed: int

    @property
    def jumped(self) -> int:
        """By how much the clock went otherwise than time."""
        return self.now - self.before - self.elapsed


def decide_tick(clock: ServiceClock, tick: Tick) -> tuple[ServiceClock, int]:
    """The clock after a tick, and the jump that was noticed (0: none).

    Of several processes that see one jump, the first one notices it: for the others, the last tick was another one's, and
    is of the time after the jump.
    """
    if not clock.at:
        return ServiceClock(at=tick.now), 0
    since = tick.now - clock.at
    is_steady = abs(tick.jumped) <= STEADY_SECONDS
    if since < -STEADY_SECONDS:  # back, perhaps while nothing served
        jump = since
    elif not is_steady and (clock.at == tick.before or since > tick.elapsed + STEADY_SECONDS):
        jump = tick.jumped
    else:
        passed = max(0, min(since, tick.elapsed)) if is_steady else 0
        return ServiceClock(at=max(clock.at, tick.now), seconds=clock.seconds + passed, doubted_at=clock.doubted_at), 0
    doubted_at = clock.doubted_at if clock.doubted_at is not None else tick.now
    return ServiceClock(at=tick.now, seconds=clock.seconds, doubted_at=doubted_at), jump


def keep_time(transaction: Transaction, signer: Signer, tick: Tick) -> ServiceClock:
    """Count what has passed. A jump is an incident, the first one until a person has looked."""
    before = transaction.load_clock_for_update()
    clock, jump = decide_tick(before, tick)
    transaction.save_clock(clock)
    if jump and before.doubted_at is None:
        books = Books(transaction, signer, now=tick.now)
        direction = "ahead" if jump > 0 else "back"
        books.note(
            IncidentKind.CLOCK_JUMPED, NOBODY, f"the clock of the activation server jumped {abs(jump)} s {direction}"
        )
        books.save()
    return clock


def confirm_clock(transaction: Transaction) -> ServiceClock:
    """A person has looked: the clock is right now. What it had jumped stays uncounted."""
    before = transaction.load_clock_for_update()
    clock = ServiceClock(at=before.at, seconds=before.seconds)
    transaction.save_clock(clock)
    return clock
