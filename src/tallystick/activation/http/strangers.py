"""How much whoever proved nothing may say: by address and by key, in the memory of this process.

A message is counted before it is looked at, and no longer counts when it turns out that its sender is known or proved
something. Beyond the rate a line is refused before its signature is verified, and the answer takes its time, so that an
address costs at most a few such answers a second. While an address has nothing left, its lines are not even taken apart:
only what begins with the very bytes that a known field server begins with is looked at. A key that was known a moment
ago is never counted: who guesses from the same address slows down no field server that is heard. What is kept is
bounded; who was heard longest ago goes first.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from tallystick.activation.core.exchanges import MessageResult
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
class Strangers:
    """What this process knows of senders. ``tell``: is called for each line that was beyond the rate."""

    clock: Callable[[], float]
    tell: Callable[[], None] = lambda: None
    _known: OrderedDict[DeviceId, bytes] = field(default_factory=OrderedDict)  # with how its envelopes begin
    _heads: set[bytes] = field(default_factory=set)
    _ahead: Counter[str] = field(
        default_factory=Counter
    )  # of an address: lines that were taken apart and not counted yet
    _addresses: _Rates = field(default_factory=lambda: _Rates(ADDRESS_AT_ONCE, ADDRESS_PER_SECOND))
    _keys: _Rates = field(default_factory=lambda: _Rates(KEY_AT_ONCE, KEY_PER_SECOND))
    _paused: WireError = field(default_factory=_make_paused)  # one for all: to word it costs more than to refuse

    def screen(self, lines: Sequence[GoodLine | BadLine], address: str) -> tuple[list[GoodLine | BadLine], bool]:
        """The same lines, those beyond the rate refused; and whether there are such, or were before."""
        now = self.clock()
        self._ahead.pop(address, None)
        heard: dict[DeviceId, bool] = {}  # once for all lines of a key: an outbox has many
        screened = [self._screen(line, address, now, heard) for line in lines]
        return screened, any(isinstance(line, BadLine) and line.error is self._paused for line in screened)

    def opener(self, address: str) -> OpenLine:
        """What takes the lines of an address apart: all of them, or while it has nothing left, those of known ones."""

        def open_line(line: bytes) -> Unverified:
            if line.partition(b".")[0] not in self._heads:
                if not self._addresses.has_left(address, self.clock(), ahead=self._ahead[address]):
                    self.tell()
                    raise self._paused
                if len(self._ahead) >= KEPT_MAX:
                    self._ahead.clear()
                self._ahead[address] += 1
            return open_envelope(line)

        return open_line

    def is_heard(self, device_id: DeviceId) -> bool:
        """Whether a field server was known a moment ago."""
        return device_id in self._known

    def learn(self, results: Iterable[MessageResult], address: str) -> None:
        """What became of lines: who is known or proved something is no stranger."""
        new = set()
        for result in results:
            if result.message is None or not result.answer.is_kept:
                continue
            device_id = result.message.device_id
            if device_id in new or device_id not in self._known:
                self._addresses.give(address)
            if device_id not in self._known:
                self._keys.give(device_id)
                self._known[device_id] = head = result.message.verified.compact.partition(".")[0].encode()
                self._heads.add(head)
                new.add(device_id)
                if len(self._known) > KEPT_MAX:
                    self._heads.discard(self._known.popitem(last=False)[1])
            else:
                self._known.move_to_end(device_id)

    def _screen(
        self, line: GoodLine | BadLine, address: str, now: float, heard: dict[DeviceId, bool]
    ) -> GoodLine | BadLine:
        if isinstance(line, BadLine) or line.envelope.jwk is None:
            return line  # costs nothing more
        device_id = line.envelope.jwk.device_id
        if device_id in self._known:
            return line
        if device_id not in heard:
            heard[device_id] = self._keys.take(device_id, now)
        if self._addresses.take(address, now) and heard[device_id]:
            return line
        self.tell()
        return BadLine(line_number=line.line_number, error=self._paused)
