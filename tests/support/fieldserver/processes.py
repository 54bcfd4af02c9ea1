"""Real field servers as processes on loopback, and a client that is as plain as possible."""

import base64
import http.client
import json
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

COMMAND = [sys.executable, "-m", "tallystick", "fieldserver"]


def run(*words, expect=0, stdin=None, **options):
    """One command; its exit code, its standard output (as JSON where --json was asked for) and its standard error."""
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        input=stdin,
        timeout=120,
        check=False,
        **options,
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == expect, (done.returncode, out, err)
    return (json.loads(out) if "--json" in words else out), err


class FieldServer:
    """A data directory, and the process that runs on it, if any."""

    def __init__(self, directory, *options, name="plant-room", trust=("--trust-first",)):
        self.directory = Path(directory)
        self.options = options
        self.process = None
        self.made, _ = run(
            "init", "--data", directory, "--kind", "AS-P", "--name", name, "--host-id", f"host-{name}", "--json", *trust
        )
        self.id = self.made["device_id"]

    @property
    def password(self):
        return Path(self.made["password_file"]).read_text().strip()

    def start(self, *options, **popen):
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--data", str(self.directory), "--port", "0", "--json", *self.options, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **popen,
        )
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.url = json.loads(line)["url"]
        self.port = urlsplit(self.url).port
        return self

    def stop(self, number=signal.SIGTERM):
        process, self.process = self.process, None
        if process is None:
            return None
        process.send_signal(number)
        try:
            return process.wait(10)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def context(self):
        context = ssl.create_default_context(cafile=self.directory / "tls.pem")
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    def connect(self, timeout=120):
        return http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=self.context())

    def call(self, method, path, body=None, *, password=None, headers=None):
        """Status, headers, body (as JSON where it is)."""
        connection = self.connect()
        sent = dict(headers or {})
        if password is not False:
            sent.setdefault("Authorization", basic(password or self.password))
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            data = response.read()
            kind = response.headers.get("Content-Type", "")
            return response.status, response.headers, json.loads(data) if "json" in kind else data
        finally:
            connection.close()

    def get(self, path):
        status, _, body = self.call("GET", path)
        assert status == 200, body
        return body

    def ask(self, **wish):
        status, _, body = self.post_request(json.dumps(wish).encode())
        assert status == 200, body
        return body

    def post_request(self, body, content_type="application/json"):
        return self.call("POST", "/v1/requests", body, headers={"Content-Type": content_type})

    def deliver(self, *lines):
        status, _, body = self.call("POST", "/v1/inbox", "\n".join(lines).encode())
        assert status == 200, body
        return body


def basic(password, user="administrator"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
