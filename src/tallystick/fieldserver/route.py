"""The field server's own route to its activation server, where it has one: one more courier, and no more than that.

A thread posts the outbox and delivers the replies, now and when something was written, with back-off and jitter. It
can lose, repeat and fail as any courier may; nothing depends on it. It also tells whether the route is there, so that
Device Administrator knows who can carry.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

import httpx2

from tallystick.errors import Error
from tallystick.fieldserver.agent import Agent, DeliveryResult
from tallystick.fieldserver.ports import Clock, Random
from tallystick.protocol import tallyfile
from tallystick.protocol.device_api import OwnRoute

PROBE_SECONDS: Final = 2.0
_PROBE_KEPT_SECONDS: Final = 10.0
_EXCHANGE_SECONDS: Final = 30.0
_PAUSE_SECONDS_MIN: Final = 2.0
_PAUSE_SECONDS_MAX: Final = 900.0
_REPLY_BYTES_MAX: Final = 16 * 1024 * 1024
_ROUNDS_MAX: Final = 5  # a grant, its confirmation, and what a refusal makes the field server add


class ActivationRoute:
    """One activation server, by its address."""

    def __init__(
        self,
        url: str,
        *,
        agent: Agent,
        clock: Clock,
        random: Random,
        monotonic: Callable[[], float],
        delivered: Callable[[], None] = lambda: None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """``delivered`` is called after replies were taken; ``transport`` is for tests."""
        self._url = url.rstrip("/")
        self._agent = agent
        self._clock = clock
        self._random = random
        self._monotonic = monotonic
        self._delivered = delivered
        self._client = httpx2.Client(timeout=_EXCHANGE_SECONDS, transport=transport)
        self._probing = threading.Lock()
        self._probed_at: float | None = None
        self._status = OwnRoute(url=self._url, reachable=False)
        self._awake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route", daemon=True)

    def start(self) -> None:
        """Begin to carry."""
        self._thread.start()

    def wake(self) -> None:
        """Something was written: carry it soon."""
        self._awake.set()

    def stop(self) -> None:
        """Carry no more. An exchange under way is given up; it can be repeated."""
        self._stopped.set()
        self._awake.set()
        self._client.close()

    def status(self) -> OwnRoute:
        """Whether the activation server answers; asked again at most every few seconds."""
        with self._probing:
            now = self._monotonic()
            if self._probed_at is None or now - self._probed_at >= _PROBE_KEPT_SECONDS:
                why = self._probe()
                self._probed_at = self._monotonic()
                self._status = OwnRoute(
                    url=self._url,
                    reachable=why is None,
                    why=why or f"{self._url} answered",
                    checked_at=self._clock.now(),
                )
            return self._status

    def carry(self) -> None:
        """Exchange messages until none waits, or no reply clears any. Raises ``Error`` and ``httpx2.HTTPError``."""
        if self._agent.peek().keyset is None:
            self._fetch_keys()
        for _ in range(_ROUNDS_MAX):
            outbox = self._agent.outbox()
            if not outbox:
                return
            body = b"".join(tallyfile.format_file(waiting.compact for waiting in outbox))
            replies = self._exchange("POST", "/v1/messages", body)
            delivery = self._deliver(replies)
            if any(line.received.code == "key-unknown" for line in delivery.lines):
                self._fetch_keys()
                self._deliver(replies)
            if self._agent.outbox() == outbox:
                return

    def _fetch_keys(self) -> None:
        self._deliver(self._exchange("GET", "/v1/keys", None))

    def _deliver(self, data: bytes) -> DeliveryResult:
        delivery = self._agent.deliver(list(tallyfile.parse_chunks([data])))
        self._delivered()
        return delivery

    def _exchange(self, method: str, path: str, body: bytes | None) -> bytes:
        headers = {"Accept": tallyfile.MEDIA_TYPE, "Content-Type": tallyfile.MEDIA_TYPE}
        with self._client.stream(method, self._url + path, content=body, headers=headers) as response:
            if response.status_code != httpx2.codes.OK:
                raise Error("unreachable", expected=f"200 from {path}", seen=f"{response.status_code}")
            data = b""
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > _REPLY_BYTES_MAX:
                    raise Error("body-too-large", expected=f"at most {_REPLY_BYTES_MAX} bytes", seen="more")
            return data

    def _probe(self) -> str | None:
        """None when it answers, else why not."""
        try:
            response = self._client.get(f"{self._url}/healthz", timeout=PROBE_SECONDS)
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError) as error:
            return f"{self._url} did not answer: {str(error) or type(error).__name__}"
        return None if response.status_code == httpx2.codes.OK else f"{self._url} answered {response.status_code}"

    def _run(self) -> None:
        pause = _PAUSE_SECONDS_MIN
        while not self._stopped.is_set():
            self._awake.clear()
            try:
                self.carry()
                pause = _PAUSE_SECONDS_MIN
                is_idle = not self._agent.peek().outbox
            except (Error, httpx2.HTTPError, httpx2.InvalidURL, RuntimeError):
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)  # any courier may fail; it tries again
                is_idle = False
            jitter = 0.5 + self._random.bytes(1)[0] / 255
            self._awake.wait((_PAUSE_SECONDS_MAX if is_idle else pause) * jitter)
