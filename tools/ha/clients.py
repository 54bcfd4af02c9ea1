"""Clients that never give up: each has its messages, signed beforehand, and says the next when the last is answered.

A message whose answer did not come is said again, word for word, to the other activation server. What is kept: every
reply, byte for byte; when each came; and everything else that was heard instead.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

ANSWER_SECONDS: Final = 10.0  # so long a client waits for an answer before it says it again
AGAIN_SECONDS: Final = 60.0  # so long everything that was answered may take to be answered again
PAUSE_SECONDS: Final = 0.08  # between an answer and the next message
RETRYABLE: Final = frozenset({"database-unavailable", "too-busy"})
_HEADERS: Final = {"Content-Type": "application/x-tally"}

Address = tuple[str, int]


@dataclass(slots=True)
class Heard:
    """What all clients heard. Moments are monotonic, in seconds."""

    replies: dict[str, bytes] = field(default_factory=dict)
    answered: list[tuple[float, float]] = field(default_factory=list)  # when, and how long the message waited
    retries: list[tuple[float, str]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # what no client may hear

    def between(self, begin: float, end: float) -> Window:
        """What happened from one moment to another."""
        moments = [begin, *sorted(at for at, _ in self.answered if begin <= at <= end), end]
        return Window(
            silence=max(after - before for before, after in itertools.pairwise(moments)),
            longest_wait=max((waited for at, waited in self.answered if begin <= at <= end), default=0.0),
            answers=len(moments) - 2,
            retries=Counter(what for at, what in self.retries if begin <= at <= end),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The longest time in which nobody got an answer, the longest that one message waited, and the retries by kind."""

    silence: float
    longest_wait: float
    answers: int
    retries: Counter[str]


class Client(threading.Thread):
    """One that talks until it is told to stop."""

    def __init__(self, number: int, addresses: Sequence[Address], messages: Sequence[str], heard: Heard) -> None:
        super().__init__(name=f"client {number}", daemon=True)
        self._turn = number
        self._addresses = addresses
        self._messages = messages
        self._heard = heard
        self._over = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def stop(self) -> None:
        """Say nothing new."""
        self._over.set()

    def run(self) -> None:
        """See ``Client``."""
        for message in self._messages:
            begun = time.monotonic()
            while not self._over.is_set():
                reply = self._say(message)
                if reply is not None:
                    now = time.monotonic()
                    self._heard.replies[message] = reply
                    self._heard.answered.append((now, now - begun))
                    break
            if self._over.wait(PAUSE_SECONDS):
                return
        self._heard.broken.append(f"{self.name} had nothing to say any more")

    def _say(self, message: str) -> bytes | None:
        """The reply, or None after a pause where there was none."""
        try:
            if self._connection is None:
                address = self._addresses[self._turn % len(self._addresses)]
                self._connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
            self._connection.request("POST", "/v1/messages", body=f"{message}\n".encode(), headers=_HEADERS)
            response = self._connection.getresponse()
            body, wait = response.read(), response.getheader("Retry-After")
        except TimeoutError:
            return self._again(f"no answer within {ANSWER_SECONDS:.0f} s", 0.1)
        except (OSError, http.client.HTTPException):
            return self._again("connection lost or refused", 0.1)
        if response.status == http.client.OK and body.startswith(b"eyJ"):
            return body
        code = _code(body)
        if response.status == http.client.SERVICE_UNAVAILABLE and code in RETRYABLE and wait is not None:
            return self._again(f"503 {code}, Retry-After", float(wait))
        self._heard.broken.append(f"{self.name} heard {response.status} {code}: {body[:200]!r}")
        return self._again("an error that is not retryable", 1.0)

    def _again(self, what: str, pause: float) -> bytes | None:
        self._heard.retries.append((time.monotonic(), what))
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._turn += 1
        self._over.wait(pause)
        return None


def _code(body: bytes) -> str | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    code = found.get("code") if isinstance(found, dict) else None
    return code if isinstance(code, str) else None


def differing(address: Address, said: Sequence[str], heard: Heard) -> list[str]:
    """Say answered messages once more; those whose reply is not the same, byte for byte, or does not come."""
    wrong = []
    connection = http.client.HTTPConnection(*address, timeout=ANSWER_SECONDS)
    deadline = time.monotonic() + AGAIN_SECONDS
    for message in said:
        while True:
            try:
                connection.request("POST", "/v1/messages", body=f"{message}\n".encode(), headers=_HEADERS)
                response = connection.getresponse()
                status, body = response.status, response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                status, body = http.client.SERVICE_UNAVAILABLE, b""
            if status != http.client.SERVICE_UNAVAILABLE or time.monotonic() > deadline:
                break
            time.sleep(1)
        if (status, body) != (http.client.OK, heard.replies[message]):
            wrong.append(message)
    connection.close()
    return wrong
