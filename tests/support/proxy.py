"""A small HTTP proxy on loopback: CONNECT (RFC 9110) and absolute addresses, with a password or a refusal."""

import base64
import http.client
import http.server
import select
import socket
import threading
from urllib.parse import urlsplit


class Proxy:
    """``asked`` are the targets. ``refuses``: answers this status to everybody. ``only``: user:password that it takes."""

    def __init__(self, *, only="", refuses=0):
        self.only, self.refuses, self.asked = only, refuses, []
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_CONNECT(self):
                if not proxy.lets_through(self):
                    return
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host.strip("[]"), int(port)), timeout=120) as there:
                    self.send_response(200)
                    self.end_headers()
                    pump(self.connection, there)
                self.close_connection = True

            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not proxy.lets_through(self):
                    return
                parts = urlsplit(self.path)
                connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
                headers = {name: value for name, value in self.headers.items() if not name.startswith("Proxy-")}
                connection.request(self.command, parts.path, body=body or None, headers=headers)
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET  # noqa: N815 - the name that http.server wants

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.httpd = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.httpd.server_address[1]}"
        self.thread = threading.Thread(target=self.httpd.serve_forever)

    def lets_through(self, handler):
        self.asked.append((handler.command, handler.path))
        wanted = "Basic " + base64.b64encode(self.only.encode()).decode()
        status = self.refuses
        if not status and self.only and handler.headers.get("Proxy-Authorization") != wanted:
            status = 407
        if status:
            handler.send_response(status)
            if status == 407:
                handler.send_header("Proxy-Authenticate", "Basic")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
        return not status

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.httpd.shutdown()
        self.httpd.server_close()
        self.thread.join()


def pump(one, other):
    pairs = {one: other, other: one}
    while True:
        for ready in select.select(list(pairs), [], [], 30)[0]:
            data = ready.recv(65536)
            if not data:
                return
            pairs[ready].sendall(data)
