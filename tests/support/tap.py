"""A tap on the wire between everybody and an activation server: it writes down what was said, and is a bad network.

Whoever posts messages posts them here; they are kept, byte for byte, and passed on. ``loss`` is the chance that an
exchange is cut before the request is passed on, or after the activation server has answered; ``is_cut`` cuts all.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.parties import free_port

_PASSED_ON = ("Content-Type", "Accept", "Accept-Encoding", "Content-Encoding")


class Tap:
    """Listens at ``url``; ``heard`` are the messages that passed, in their order."""

    def __init__(self, port: int, *, seed: object = 0, loss: float = 0.0) -> None:
        self.upstream = port
        self.loss = loss
        self.is_cut = False
        self.heard: dict[str, None] = {}
        self.exchanges = self.lost = 0
        self.broken: list[bytes] = []  # answers that say that it is our fault
        self._dice = random.Random(f"tap {seed}")
        self._lock = threading.Lock()
        tap = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                tap.pass_on(self)

            do_POST = do_GET  # noqa: N815 - http.server's name

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 512

            def handle_error(self, *_: object) -> None:
                pass

        self._server = Server(("127.0.0.1", free_port()), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def note(self, tally: bytes) -> None:
        """Messages that were carried in another way."""
        with self._lock:
            self.heard.update(dict.fromkeys(lines_of(tally)))

    def pass_on(self, handler: Any) -> None:
        """One exchange."""
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        with self._lock:
            self.exchanges += 1
            fate = self._dice.random()
            if handler.path == "/v1/messages":
                self.heard.update(dict.fromkeys(lines_of(body)))
        if self.is_cut or fate < self.loss / 2:
            return self._cut(handler)
        headers = {name: handler.headers[name] for name in _PASSED_ON if name in handler.headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=300)
        try:
            connection.request(handler.command, handler.path, body=body or None, headers=headers)
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException):
            return self._cut(handler)
        finally:
            connection.close()
        if response.status == http.client.INTERNAL_SERVER_ERROR and b'"invariant"' in answer:
            self.broken.append(answer)
        if self.is_cut or fate < self.loss:
            return self._cut(handler)  # it is committed, and nobody is told
        handler.send_response(response.status)
        for name in ("Content-Type", "Retry-After"):
            if name in response.headers:
                handler.send_header(name, response.headers[name])
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)
        return None

    def _cut(self, handler: Any) -> None:
        self.lost += 1
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)


def lines_of(tally: bytes) -> list[str]:
    """The envelopes of a tally file."""
    found = [line.strip() for line in tally.decode("utf-8", "replace").splitlines()]
    return [line for line in found if line and not line.startswith("#")]
