"""Who gets webhooks: a real HTTP server on loopback, and what its program does with a signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import threading
from typing import Any


class Receiver:
    """An endpoint on loopback, over HTTPS with a ``context``; fails as often as it is told to."""

    def __init__(self, context=None):
        receiver = self
        self.got: list[Any] = []  # headers and body of each
        self.failures = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if receiver.failures:
                    receiver.failures -= 1
                    status = 503
                else:
                    receiver.got.append((dict(self.headers), body))
                    status = 204
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.server.handle_error = lambda *_: None  # who refuses our certificate hangs up
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def is_signed(headers, body, secret):
    """What a receiver does, from the text of Standard Webhooks alone."""
    headers = {name.lower(): value for name, value in headers.items()}
    key = base64.b64decode(secret.removeprefix("whsec_"))
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")
