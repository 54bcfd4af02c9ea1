"""The load: a process of its own that posts prepared messages over real sockets and notes how long each answer took.

``python -m benchmarks.load ADDRESS FILE [CERTIFICATE]``. The certificate is what to trust, for an https address. The file holds a line of JSON per connection: its messages, in order. Each
connection sends one message, waits for the whole reply, sends the next (HTTP/1.1, keep-alive). It does as little as it
can, because it runs on the cores that it measures.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import statistics
import sys
import time
from pathlib import Path
from typing import Any

WARM_UP = 0.1  # the part of every connection's messages that is not counted


class Connection:
    """One client that talks all the time."""

    def __init__(self, address: tuple[str, int], messages: list[str], tls: ssl.SSLContext | None) -> None:
        self.requests = [
            b"POST /v1/messages HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-tally\r\nContent-Length: %d\r\n\r\n%b"
            % (len(message) + 1, message.encode() + b"\n")
            for message in messages
        ]
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.next = 0
        self.received = b""
        self.sent_at = 0.0
        self.spans: list[tuple[float, float]] = []
        self.refused = 0

    def send(self) -> bool:
        """Send the next request; false when there is none."""
        if self.next == len(self.requests):
            return False
        self.sent_at = time.perf_counter()
        self.socket.sendall(self.requests[self.next])
        self.next += 1
        return True

    def receive(self) -> bool:
        """Take what came; true when a reply is whole."""
        piece = self.socket.recv(65536)
        if not piece:
            raise ConnectionError("the activation server hung up")
        self.received += piece
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self.received[:end].lower()
        start = head.index(b"content-length:") + 15
        stop = head.find(b"\r\n", start)
        length = int(head[start : stop if stop > 0 else None])
        if len(self.received) < end + 4 + length:
            return False
        body = self.received[end + 4 :]
        if not head.startswith(b"http/1.1 200") or not body.startswith(b"eyJ"):
            self.refused += 1
        self.spans.append((self.sent_at, time.perf_counter()))
        self.received = b""
        return True


def main() -> None:
    """Run, and print what was measured as JSON."""
    host, _, port = sys.argv[1].partition("://")[2].rpartition(":")
    lines = Path(sys.argv[2]).read_text("ascii").splitlines()
    tls = ssl.create_default_context(cafile=sys.argv[3]) if sys.argv[1].startswith("https:") else None
    connections = [Connection((host, int(port)), json.loads(line), tls) for line in lines]
    selector = selectors.EpollSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    open_ = sum(connection.send() for connection in connections)
    while open_:
        for key, _ in selector.select():
            is_whole = key.data.receive()
            while not is_whole and tls is not None and key.data.socket.pending():  # decrypted already: it wakes nobody
                is_whole = key.data.receive()
            if is_whole and not key.data.send():
                open_ -= 1
    sys.stdout.write(json.dumps(figures(connections)) + "\n")


def figures(connections: list[Connection]) -> dict[str, Any]:
    """Rate and percentiles, without the beginning, and without the end at which connections are few."""
    starts = [connection.spans[int(len(connection.spans) * WARM_UP)][0] for connection in connections]
    since, until = max(starts), min(connection.spans[-1][1] for connection in connections)
    counted = sorted(
        end - start for connection in connections for start, end in connection.spans if start >= since and end <= until
    )
    return {
        "messages": len(counted),
        "rate": len(counted) / (until - since),
        "p50_ms": statistics.median(counted) * 1000,
        "p99_ms": counted[int(len(counted) * 0.99)] * 1000,
        "worst_ms": counted[-1] * 1000,
        "refused": sum(connection.refused for connection in connections),
    }


if __name__ == "__main__":
    main()
