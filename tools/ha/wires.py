"""The network between the machines of this run: a small relay before every port, which can cut one machine off.

Whoever is cut off is not told so: what it sends is held, and what is sent to it, ends of connections included, as on a
wire that was pulled. A new connection from it or to it gets no answer. When the wire is back, everything flows on.
Where a connection comes from is looked up in ``/proc``: by the process that holds its other end.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_PIECE_BYTES: Final = 65_536

Inhabitants = Callable[[str], Iterable[int]]  # the processes of a machine


@dataclass(eq=False, slots=True)
class _Wire:
    target: str
    source_port: int
    flows: asyncio.Event = field(default_factory=asyncio.Event)


class Wires:
    """Relays on a thread of their own. ``inhabitants`` says which processes run on a machine."""

    def __init__(self, inhabitants: Inhabitants) -> None:
        self._inhabitants = inhabitants
        self._cut: set[str] = set()
        self._wires: set[_Wire] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def lay(self, machine: str, port: int) -> int:
        """The port at which others reach ``port`` of ``machine``."""

        async def lay() -> int:
            async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await self._relay(machine, port, reader, writer)

            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            found: int = server.sockets[0].getsockname()[1]
            return found

        port_of_relay: int = self._run(lay())
        return port_of_relay

    def cut(self, machine: str) -> None:
        """Pull the wire of a machine."""
        self._run(self._change({*self._cut, machine}))

    def heal(self, machine: str) -> None:
        """Put it back."""
        self._run(self._change(self._cut - {machine}))

    def close(self) -> None:
        """Relay nothing any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _change(self, cut: set[str]) -> None:
        self._cut = cut
        sources = self._sources()
        for wire in self._wires:
            self._set(wire, sources)

    def _sources(self) -> dict[int, str]:
        """Which cut machine holds which port of loopback at its end."""
        if not self._cut:
            return {}
        inodes = {inode: name for name in self._cut for pid in self._inhabitants(name) for inode in _sockets(pid)}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
        return {int(row[1].rpartition(":")[2], 16): inodes[row[9]] for row in rows if row[9] in inodes}

    def _set(self, wire: _Wire, sources: dict[int, str]) -> None:
        if wire.target in self._cut or wire.source_port in sources:
            wire.flows.clear()
        else:
            wire.flows.set()

    async def _relay(self, machine: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = _Wire(target=machine, source_port=writer.get_extra_info("peername")[1])
        self._wires.add(wire)
        self._set(wire, self._sources())
        try:
            await wire.flows.wait()
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            self._wires.discard(wire)
            return
        pumps = [_pump(reader, inner_writer, wire), _pump(inner_reader, writer, wire)]
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await wire.flows.wait()
        for task in tasks:
            task.cancel()
        writer.close()
        inner_writer.close()
        self._wires.discard(wire)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: _Wire) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(_PIECE_BYTES):
            await wire.flows.wait()
            writer.write(piece)
            await writer.drain()


def _sockets(pid: int) -> Iterable[str]:
    """Inodes of the sockets that a process holds."""
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                to = str(entry.readlink())
                if to.startswith("socket:["):
                    yield to[8:-1]
