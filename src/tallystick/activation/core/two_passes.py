"""A tally file in two passes: what frees is decided while the file is read, what takes when all of it was.

``Held`` keeps what waits for the end: who wants to activate, and what the same field server says behind that. ``Rows``
brings what was decided in two passes back into the order of the lines. Both use memory for a chunk or so and a
temporary file for more, so that memory does not grow with the file.
"""

from __future__ import annotations

import heapq
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import IO, Final, Self

from tallystick.activation.core import exchanges
from tallystick.activation.core.exchanges import CHUNK_LINES_MAX, ReadLine
from tallystick.domain.ids import DeviceId
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.keys import Keyset
from tallystick.protocol.tallyfile import GoodLine

HELD_DEVICES_MAX: Final = 100_000  # of whom it is kept that they wait; of others each chunk is decided as it comes
_MEMORY_BYTES: Final = 256 * 1024
_PASSES_MAX: Final = 16
_HEAD: Final = struct.Struct(">QI")  # the number of a line, and how many bytes belong to it


class _Spool:
    """Numbered bytes, read back in the order in which they were written."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115 - closed with its owner
        self.last = 0

    def write(self, line_number: int, data: bytes) -> None:
        self._file.write(_HEAD.pack(line_number, len(data)))
        self._file.write(data)
        self.last = line_number

    def read(self) -> Iterator[tuple[int, bytes]]:
        self._file.seek(0)
        while head := self._file.read(_HEAD.size):
            line_number, length = _HEAD.unpack(head)
            yield line_number, self._file.read(length)

    def close(self) -> None:
        self._file.close()


class Rows:
    """Pieces of bytes, each of a line; lines come in order within a pass. Raises ``OSError`` where the disk is full."""

    def __init__(self) -> None:
        self._passes = [_Spool()]
        self.count = 0
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, line_number: int, data: bytes) -> None:
        """The bytes of one line."""
        if line_number < self._passes[-1].last:
            if len(self._passes) >= _PASSES_MAX:
                self._merge()
            self._passes.append(_Spool())
        self._passes[-1].write(line_number, data)
        self.count += 1
        self.size += len(data)

    def pieces(self) -> Iterator[bytes]:
        """All of them, in the order of the lines."""
        for _line_number, data in self._in_order():
            yield data

    def _in_order(self) -> Iterator[tuple[int, bytes]]:
        return heapq.merge(*(one.read() for one in self._passes), key=lambda pair: pair[0])

    def _merge(self) -> None:
        merged = _Spool()
        for line_number, data in self._in_order():
            merged.write(line_number, data)
        self.close()
        self._passes = [merged]

    def close(self) -> None:
        """Forget them."""
        for one in self._passes:
            one.close()


class Held:
    """What waits for the end of a file, or until there is reason to decide the ``chunks`` before; then more may wait.

    ``is_heard``: whether a field server is known where strangers have a rate; ``unheard``: how many wait of the others.
    ``size``: of what is kept in memory.
    """

    def __init__(self, is_heard: Callable[[DeviceId], bool] = lambda _device_id: True) -> None:
        self._is_heard = is_heard
        self.unheard = 0
        self._since: dict[DeviceId, int] = {}  # the lowest sequence that waits
        self._few: list[ReadLine] = []
        self.size = 0
        self._more: _Spool | None = None

    def hold(self, lines: Sequence[ReadLine]) -> list[ReadLine]:
        """Those of ``lines`` that are decided now; the others are kept."""
        for line in lines:
            if line.message is not None and line.message.request.purpose == "activate":
                self._note(line.message.device_id, line.message.request.sequence)
        now: list[ReadLine] = []
        for line in lines:
            message = line.message
            if message is None or message.request.sequence < self._since.get(
                message.device_id, message.request.sequence + 1
            ):
                now.append(line)
                continue
            self.unheard += not self._is_heard(message.device_id)
            if len(self._few) < CHUNK_LINES_MAX and self.size <= _MEMORY_BYTES and self._more is None:
                self._few.append(line)
                self.size += len(message.verified.compact)
            else:
                if self._more is None:
                    self._more = _Spool()
                self._more.write(line.line_number, message.verified.compact.encode())
        return now

    def _note(self, device_id: DeviceId, sequence: int) -> None:
        known = self._since.get(device_id)
        if known is None and len(self._since) >= HELD_DEVICES_MAX:
            return
        self._since[device_id] = sequence if known is None else min(known, sequence)

    def chunks(self, keyset: Keyset) -> Iterator[list[ReadLine]]:
        """All that waits, in the order of the lines. What was put on the disk is read and verified again."""
        few, self._few, self._since, self.unheard = self._few, [], {}, 0
        self.size = 0
        if few:
            yield few
        if self._more is None:
            return
        reader = exchanges.ChunkReader()
        for line_number, compact in self._more.read():
            full = reader.add(GoodLine(line_number=line_number, envelope=open_envelope(compact)))
            if full is not None:
                yield exchanges.read_lines(full, keyset)
        rest = reader.take()
        if rest:
            yield exchanges.read_lines(rest, keyset)
        self.close()

    def close(self) -> None:
        """Forget it."""
        if self._more is not None:
            self._more.close()
            self._more = None
