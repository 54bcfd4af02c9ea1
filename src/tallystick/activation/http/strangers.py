"""How much whoever proved nothing may say: by address and by key, in the memory of this process.

A message is counted before it is looked at, and no longer counts when it turns out that its sender is known or proved
something. Beyond the rate a line is refused before its signature is verified, and the answer takes its time, so that an
address costs at most a few such answers a second. While an address has nothing left, its lines are not even taken apart:
only what begins with the very bytes that a known field server begins with is looked at. A key that was known a moment
ago is never counted: who guesses from the same address slows down no field server that is heard. What is kept is
bounded; who was heard longest ago goes first.

What an address has is shared by all that it says at the same time. So a visit, which is one exchange, knows which of its
lines were counted, and gives back exactly those; it waits while others of the address are about to give some back; and
when enough lines of the address wait for the end of their files, the next file has its own decided before that.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tallystick.activation.core.exchanges import MessageResult, ReadLine
from tallystick.activation.core.reading import Message
from tallystick.domain.ids import DeviceId
from tallystick.protocol.envelope import Unverified, open_envelope
from tallystick.protocol.problems import WireError
from tallystick.protocol.tallyfile import BadLine, GoodLine, OpenLine
from tallystick.sentences import _

ADDRESS_AT_ONCE: Final = 2000
ADDRESS_PER_SECOND: Final = 20.0
KEY_AT_ONCE: Final = 20
KEY_PER_SECOND: Final = 0.2
SLOW_SECONDS: Final = 1.0  # an answer beyond the rate
KEPT_MAX: Final = 20_000  # of each kind
WAITING_MAX: Final = 1000  # counted lines of an address that wait for the end of their files
OPEN_MAX: Final = 1500  # counted lines of an address that are not decided; the rest is left to short exchanges


class _Rates:
    """Of each name, what it may still say."""

    def __init__(self, at_once: int, per_second: float) -> None:
        self._at_once, self._per_second = float(at_once), per_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> bool:
        """One more; False, and nothing taken, where that is too many."""
        left, since = self._left.get(name, (self._at_once, now))
        left = min(self._at_once, left + (now - since) * self._per_second)
        is_allowed = left >= 1
        self._keep(name, left - 1 if is_allowed else left, now)
        return is_allowed

    def has_left(self, name: str, now: float, *, ahead: int) -> bool:
        """Whether one more would be allowed behind those that are ``ahead``. Nothing is taken."""
        left, since = self._left.get(name, (self._at_once, now))
        return min(self._at_once, left + (now - since) * self._per_second) - ahead >= 1

    def give(self, name: str) -> None:
        """One back."""
        if name in self._left:
            left, since = self._left[name]
            self._left[name] = (min(self._at_once, left + 1), since)

    def _keep(self, name: str, left: float, now: float) -> None:
        self._left[name] = (left, now)
        self._left.move_to_end(name)
        if len(self._left) > KEPT_MAX:
            self._left.popitem(last=False)


def _make_paused() -> WireError:
    return WireError(
        "strangers-paused",
        expected=_(
            "at most {by_address:g} a second from an address, and {by_key:g} of a key, by whoever proved nothing",
            by_address=ADDRESS_PER_SECOND,
            by_key=KEY_PER_SECOND,
        ),
        seen=_("more"),
    )


@dataclass(slots=True, kw_only=True)
class _Memory:
    """What this process knows of senders, and of what they have said that is not decided."""

    clock: Callable[[], float]
    tell: Callable[[], None]
    known: OrderedDict[DeviceId, bytes] = field(default_factory=OrderedDict)  # with how its envelopes begin
    heads: set[bytes] = field(default_factory=set)
    open: Counter[str] = field(default_factory=Counter)  # of an address: lines that were counted and are not decided
    waiting: Counter[str] = field(default_factory=Counter)  # those of them that wait for the end of their files
    turns: dict[str, list[asyncio.Future[None]]] = field(default_factory=dict)  # who waits for some to be decided
    addresses: _Rates = field(default_factory=lambda: _Rates(ADDRESS_AT_ONCE, ADDRESS_PER_SECOND))
    keys: _Rates = field(default_factory=lambda: _Rates(KEY_AT_ONCE, KEY_PER_SECOND))
    paused: WireError = field(default_factory=_make_paused)  # one for all: to word it costs more than to refuse

    def note_known(self, message: Message) -> None:
        """Its sender is no stranger."""
        if message.device_id in self.known:
            self.known.move_to_end(message.device_id)
            return
        self.keys.give(message.device_id)
        self.known[message.device_id] = head = message.verified.compact.partition(".")[0].encode()
        self.heads.add(head)
        if len(self.known) > KEPT_MAX:
            self.heads.discard(self.known.popitem(last=False)[1])

    def close(self, address: str, count: int) -> None:
        """So many are decided, or given up."""
        _add(self.open, address, -count)
        for turn in self.turns.pop(address, ()):
            turn.get_loop().call_soon_threadsafe(_wake, turn)

    def wait(self, address: str, count: int) -> None:
        """So many more wait, or fewer."""
        _add(self.waiting, address, count)


class Visit:
    """One exchange: its lines are screened as they come, submitted, and their answers learned from."""

    __slots__ = ("_address", "_ahead", "_away", "_here", "_memory", "_waiting")

    def __init__(self, memory: _Memory, address: str) -> None:
        self._memory, self._address = memory, address
        self._ahead = 0  # lines that were taken apart and not screened yet
        self._here: set[int] = set()  # numbers of lines that were counted and not submitted yet
        self._away: set[int] = set()  # that were submitted
        self._waiting = 0

    def opener(self) -> OpenLine:
        """What takes its lines apart: all of them, or while the address has nothing left, those of known ones."""
        memory = self._memory

        def open_line(line: bytes) -> Unverified:
            if line.partition(b".")[0] not in memory.heads:
                if not memory.addresses.has_left(self._address, memory.clock(), ahead=self._ahead):
                    memory.tell()
                    raise memory.paused
                self._ahead += 1
            return open_envelope(line)

        return open_line

    async def turn(self, lines: Sequence[GoodLine | BadLine]) -> None:
        """Wait while these may be too many, and others of the address are being decided, who may give some back.

        Whoever only waits for the end of a file is not waited for.
        """
        memory, address = self._memory, self._address
        count = sum(isinstance(line, GoodLine) and self._is_unheard(line) for line in lines)
        while count and memory.open[address] + count > OPEN_MAX and memory.open[address] > memory.waiting[address]:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            memory.turns.setdefault(address, []).append(turn)
            await turn

    def screen(self, lines: Sequence[GoodLine | BadLine]) -> tuple[list[GoodLine | BadLine], bool]:
        """The same lines, those beyond the rate refused; and whether there are such, or were before."""
        now = self._memory.clock()
        self._ahead = 0
        heard: dict[DeviceId, bool] = {}  # once for all lines of a key: an outbox has many
        screened = [self._screen(line, now, heard) for line in lines]
        paused = self._memory.paused
        return screened, any(isinstance(line, BadLine) and line.error is paused for line in screened)

    def wait(self, count: int) -> bool:
        """So many of its lines that were counted wait for the end of the file. Whether that is enough of the address."""
        self._memory.wait(self._address, count - self._waiting)
        self._waiting = count
        return count > 0 and self._memory.waiting[self._address] >= WAITING_MAX

    def submit(self, lines: Iterable[ReadLine]) -> None:
        """These are being decided: ``learn`` comes whatever becomes of the exchange."""
        if self._here:
            now = self._here.intersection(line.line_number for line in lines)
            self._here -= now
            self._away |= now

    def learn(self, results: Iterable[MessageResult]) -> None:
        """What became of lines: who is known or proved something is no stranger."""
        closed = 0
        for result in results:
            is_counted = result.line_number in self._away
            if is_counted:
                self._away.discard(result.line_number)
                closed += 1
            if result.message is not None and result.answer.is_kept:
                if is_counted:
                    self._memory.addresses.give(self._address)
                self._memory.note_known(result.message)
        if closed:
            self._memory.close(self._address, closed)

    def fail(self, lines: Iterable[ReadLine]) -> None:
        """These were not decided. What was counted stays so: it was verified."""
        lost = self._away.intersection(line.line_number for line in lines)
        self._away -= lost
        self._memory.close(self._address, len(lost))

    def close(self) -> None:
        """Nothing more comes; what was submitted is still learned from."""
        self.wait(0)
        if self._here:
            self._memory.close(self._address, len(self._here))
            self._here.clear()

    def _is_unheard(self, line: GoodLine) -> bool:
        return line.envelope.jwk is not None and line.envelope.jwk.device_id not in self._memory.known

    def _screen(self, line: GoodLine | BadLine, now: float, heard: dict[DeviceId, bool]) -> GoodLine | BadLine:
        if isinstance(line, BadLine) or line.envelope.jwk is None or not self._is_unheard(line):
            return line  # costs nothing more
        memory, device_id = self._memory, line.envelope.jwk.device_id
        if memory.addresses.take(self._address, now):
            if device_id not in heard:
                heard[device_id] = memory.keys.take(device_id, now)
            if heard[device_id]:
                self._here.add(line.line_number)
                memory.open[self._address] += 1
                return line
        memory.tell()
        return BadLine(line_number=line.line_number, error=memory.paused)


class Strangers:
    """Where visits begin. ``tell``: is called for each line that was beyond the rate."""

    def __init__(self, *, clock: Callable[[], float], tell: Callable[[], None] = lambda: None) -> None:
        self._memory = _Memory(clock=clock, tell=tell)

    def visit(self, address: str) -> Visit:
        """One exchange of an address."""
        return Visit(self._memory, address)

    def is_heard(self, device_id: DeviceId) -> bool:
        """Whether a field server was known a moment ago."""
        return device_id in self._memory.known

    def take_asks(self, count: int, address: str) -> None:
        """Each ask of a dry run counts as a stranger's until it has proved something. Raises ``WireError``."""
        memory, now = self._memory, self._memory.clock()
        for taken in range(count):
            if not memory.addresses.take(address, now):
                self.give_asks(taken, address)
                raise memory.paused

    def give_asks(self, count: int, address: str) -> None:
        """So many of them proved what they say."""
        for _other in range(count):
            self._memory.addresses.give(address)


def _wake(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)


def _add(counts: Counter[str], address: str, count: int) -> None:
    counts[address] += count
    if counts[address] <= 0:
        del counts[address]
