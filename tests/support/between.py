"""Somebody between Device Administrator and one field server, with that field server's own key: it answers badly.

Requests are passed on, so that the field server does what it was asked; what becomes of its answer is ``faults``, by path.
"""

import http.client
import http.server
import json
import ssl
import threading
from urllib.parse import urlsplit

SLOW_SECONDS = 1.0  # for each byte


class Between:
    """``faults`` maps a path to one of: slow, slow head, silent, half, unknown, newer, other form, not json."""

    def __init__(self, server):
        self.server = server  # whoever is behind it: ``url`` and ``directory``
        self.faults = {}
        self.asked = []
        self.is_over = threading.Event()
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                between.answer(self)

            do_POST = do_GET  # noqa: N815 - the name that http.server wants

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.httpd = Server(("127.0.0.1", 0), Handler)
        self.httpd.socket = _context_of(server).wrap_socket(
            self.httpd.socket, server_side=True, do_handshake_on_connect=False
        )
        self.url = f"https://127.0.0.1:{self.httpd.server_address[1]}"
        self.thread = threading.Thread(target=self.httpd.serve_forever)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()

    def show_certificate_of(self, server):
        self.httpd.socket._context = _context_of(server)  # type: ignore[attr-defined]  # a TLS socket has one  # of the connections to come

    def answer(self, handler):
        path = urlsplit(handler.path).path
        self.asked.append(path)
        status, kind, body, more = self.pass_on(handler)
        fault = self.faults.get(path, self.faults.get("*", ""))
        match fault:
            case "silent":
                self.is_over.wait()
                return
            case "unknown":
                status, kind = 404, "application/problem+json"
                body = json.dumps({"code": "not-found", "expected": "another path", "seen": path}).encode()
            case "newer":
                body = json.dumps({**json.loads(body), "protocol": 2, "software": "9.0", "name": 7}).encode()
            case "other form":
                body = json.dumps({**json.loads(body), "licenses": "none", "sequence": "x"}).encode()
            case "not json":
                body = b"<html>Welcome</html>"
            case _:
                pass
        head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode()
        if fault == "half":
            handler.wfile.write(head + body[: len(body) // 2])
            handler.close_connection = True
            return
        for part, is_slow in ((head, fault == "slow head"), (body, fault == "slow")):
            for piece in [part[at : at + 1] for at in range(len(part))] if is_slow else [part]:
                handler.wfile.write(piece)
                if is_slow and self.is_over.wait(SLOW_SECONDS):
                    return

    def pass_on(self, handler):
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        parts = urlsplit(self.server.url)
        context = ssl.create_default_context(cafile=self.server.directory / "tls.pem")
        context.check_hostname = False
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=context, timeout=120)
        headers = {
            name: handler.headers[name] for name in ("Authorization", "Content-Type", "Accept") if handler.headers[name]
        }
        try:
            connection.request(handler.command, handler.path, body=body or None, headers=headers)
            response = connection.getresponse()
            wait = response.headers.get("Retry-After")
            more = f"Retry-After: {wait}\r\n" if wait else ""
            return response.status, response.headers.get("Content-Type", ""), response.read(), more
        finally:
            connection.close()


def _context_of(server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.directory / "tls.pem", server.directory / "tls.key")
    return context
