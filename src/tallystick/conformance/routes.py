"""How the kit reaches a field server: over its HTTPS API, or by a program that carries files."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tallystick.conformance.playing import Json
from tallystick.connections.calling import WatchedContext, cut_off
from tallystick.errors import Error
from tallystick.protocol import device_api, tallyfile
from tallystick.sentences import _

_SECONDS: Final = 30.0  # for each read, and for a program
WHOLE_SECONDS: Final = 120.0
_ANSWER_BYTES_MAX: Final = device_api.INBOX_BYTES_MAX
_OK: Final = 200
_REFUSED: Final = (409, 422)


class HttpsFieldServer:
    """A field server's API (docs of the field server: ``GET /v1/openapi.json``), with its certificate pinned."""

    def __init__(self, url: str, *, certificate: Path, password: str, user: str = "administrator") -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise Error("usage", expected=_("an address: https://HOST[:PORT]"), seen=url)
        self._host, self._port = parts.hostname, parts.port or 443
        self._context = ssl.create_default_context(cafile=certificate)
        self._context.check_hostname = False  # this very certificate is pinned, whatever name it has
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def wish(self, wish: Json) -> bool:
        """A message, or a refusal."""
        status, body = self._call(device_api.REQUESTS, json.dumps(wish).encode())
        if status != _OK and status not in _REFUSED:
            raise _unusable(status, body)
        return status == _OK

    def outbox(self) -> bytes:
        """What waits."""
        return self._good(device_api.OUTBOX)

    def deliver(self, tally: bytes) -> None:
        """Take a tally file."""
        self._good(device_api.INBOX, tally)

    def _good(self, operation: device_api.Operation, body: bytes | None = None) -> bytes:
        status, answer = self._call(operation, body)
        if status != _OK:
            raise _unusable(status, answer)
        return answer

    def _call(self, operation: device_api.Operation, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"Authorization": self._authorization}
        if body is not None:
            headers["Content-Type"] = operation.body_type
        with cut_off(WHOLE_SECONDS) as cut:
            context: Any = WatchedContext(self._context, cut)
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=_SECONDS, context=context)
            try:
                connection.request(operation.method, operation.path, body=body, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read(_ANSWER_BYTES_MAX)
            except (OSError, http.client.HTTPException) as error:
                expected = _("an answer of {host}:{port}", host=self._host, port=self._port)
                seen = _("no whole answer in time") if cut.is_over else str(error)[:200]
                raise Error("unreachable", expected=expected, seen=seen) from None
            finally:
                connection.close()


class CommandFieldServer:
    """A program that is called with one word, and carries files: ``wish`` (a wish in JSON on standard input; exit code 1: refused),
    ``outbox`` (a tally file on standard output), ``deliver`` (one on standard input).
    """

    def __init__(self, program: Sequence[str]) -> None:
        self._program = list(program)

    def wish(self, wish: Json) -> bool:
        """A message, or a refusal."""
        return self._run("wish", json.dumps(wish).encode(), may_refuse=True) is not None

    def outbox(self) -> bytes:
        """What waits."""
        return self._run("outbox", b"") or b""

    def deliver(self, tally: bytes) -> None:
        """Take a tally file."""
        self._run("deliver", tally)

    def _run(self, word: str, data: bytes, *, may_refuse: bool = False) -> bytes | None:
        try:
            done = subprocess.run(
                [*self._program, word], input=data, capture_output=True, check=False, timeout=_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            expected = _("{program} to run", program=self._program[0])
            raise Error("unreachable", expected=expected, seen=str(error)) from None
        if done.returncode == 1 and may_refuse:
            return None
        if done.returncode != 0:
            said = done.stderr[:200].decode("utf-8", "replace")
            seen = _("exit code {code}: {said}", code=done.returncode, said=said)
            expected = _("{program} {word} to succeed", program=self._program[0], word=word)
            raise Error("unreachable", expected=expected, seen=seen)
        return done.stdout


def _unusable(status: int, body: bytes) -> Error:
    return Error(
        "unreachable",
        expected=_("status {status} ({media_type} or JSON)", status=_OK, media_type=tallyfile.MEDIA_TYPE),
        seen=f"{status}: {body[:200].decode('utf-8', 'replace')}",
    )
