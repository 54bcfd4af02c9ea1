"""Who does harm, as a process of its own on loopback: floods, silence and drips, until it is told to stop or 120 s passed.

``python -m benchmarks.pressure flood ADDRESS FILE RATE`` posts the bundles of FILE (a line of JSON each: an envelope a
member) in turn, by a hundred connections from four addresses, RATE messages a second in all, whether they are answered
or not. ``python -m benchmarks.pressure silence ADDRESS COUNT`` opens so many connections: every other one says nothing,
the rest a byte of a head each second; whoever is dropped comes back. It says ``ready``, and what it did when its
standard input ends.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import socket
import sys
import time
from pathlib import Path
from typing import Final

SECONDS_MAX: Final = 120.0  # it ends by itself, whoever forgets it
FROM: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")
CONNECTIONS: Final = 100
HEAD: Final = (
    b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-tally\r\nContent-Length: %d\r\n\r\n%b"
)
DRIP: Final = b"GET /healthz HTTP/1.1\r\nHost: a\r\nX-Long: " + b"a" * 4096


class Connection:
    """One that is opened again when it is closed. What it gets is read and thrown away."""

    def __init__(self, address: tuple[str, int], number: int) -> None:
        self.address, self.number = address, number
        self.dropped = -1
        self.open()

    def open(self) -> None:
        """Connect, from one of the addresses."""
        self.dropped += 1
        self.left = b""
        self.said = 0
        self.socket = socket.socket()
        self.socket.bind((FROM[self.number % len(FROM)], 0))
        self.socket.setblocking(False)
        self.socket.connect_ex(self.address)

    def flush(self) -> None:
        """Send what can be sent, read what there is."""
        try:
            if self.left:
                self.left = self.left[self.socket.send(self.left) :]
            while piece := self.socket.recv(65536):
                if len(piece) < 65536:
                    return
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in {errno.ENOTCONN, errno.EINPROGRESS}:
                return  # still connecting
        self.socket.close()
        self.open()


def is_told_to_stop() -> bool:
    """Whether standard input ended."""
    readable, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def flood(address: tuple[str, int], file: Path, rate: float) -> dict[str, float]:
    """Bundles at a rate. A connection whose last bundle has not left yet is passed over: the others say more."""
    bundles = [json.loads(line) for line in file.read_text("ascii").splitlines()]
    ready = [HEAD % (len(body), body) for body in ("".join(f"{one}\n" for one in said).encode() for said in bundles)]
    connections = [Connection(address, number) for number in range(CONNECTIONS)]
    begun = time.monotonic()
    sent = turn = 0
    while not is_told_to_stop() and (passed := time.monotonic() - begun) < SECONDS_MAX:
        for connection in connections:
            connection.flush()
        free = [connection for connection in connections if not connection.left]
        while free and sent < passed * rate:
            connection = free.pop(turn % len(free))
            place = turn % len(ready)
            connection.left = ready[place]
            sent += len(bundles[place])
            turn += 1
        time.sleep(0.005)
    seconds = time.monotonic() - begun
    return {"messages": sent, "rate": sent / seconds, "dropped": sum(one.dropped for one in connections)}


def silence(address: tuple[str, int], count: int) -> dict[str, float]:
    """Half say nothing; half drip."""
    connections = [Connection(address, number) for number in range(count)]
    begun = time.monotonic()
    while not is_told_to_stop() and time.monotonic() - begun < SECONDS_MAX:
        for connection in connections:
            if connection.number % 2:
                connection.left = connection.left or DRIP[connection.said : connection.said + 1]
                connection.said += 1
            connection.flush()
        time.sleep(1)
    return {"connections": count, "dropped": sum(one.dropped for one in connections)}


def main() -> None:
    """See above."""
    kind, url, *words = sys.argv[1:]
    host, _, port = url.removeprefix("http://").rpartition(":")
    address = (host, int(port))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):
        match kind:
            case "flood":
                done = flood(address, Path(words[0]), float(words[1]))
            case _:
                done = silence(address, int(words[0]))
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
