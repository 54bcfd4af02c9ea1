"""The field server's own route to its activation server, where it has one: one more courier, and no more than that.

A thread posts the outbox and delivers the replies, now and when something was written, with back-off and jitter. It
can lose, repeat and fail as any courier may; nothing depends on it. It also tells whether the route is there, so that
Device Administrator knows who can carry. Whoever asks that is told what is known and waits for nothing; another thread
looks again. Each exchange has a deadline for the whole of it and a limit in bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final

import httpx2

from tallystick.connections.calling import deadline, set_deadlines
from tallystick.connections.troubles import untrusted_certificate
from tallystick.errors import Error
from tallystick.fieldserver.agent import Agent, DeliveryResult
from tallystick.fieldserver.ports import Clock, Random
from tallystick.protocol import tallyfile
from tallystick.protocol.device_api import OwnRoute
from tallystick.sentences import _

PROBE_SECONDS: Final = 2.0
_PROBE_KEPT_SECONDS: Final = 10.0
_EXCHANGE_SECONDS: Final = 30.0  # for each read
EXCHANGE_WHOLE_SECONDS: Final = 120.0
START_SECONDS: Final = 1.0  # how long the first look is waited for at most, before anybody can ask
_PAUSE_SECONDS_MIN: Final = 2.0
_PAUSE_SECONDS_MAX: Final = 900.0
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}  # so that the limit in bytes is one
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
        set_deadlines(self._client)
        self._prober = ThreadPoolExecutor(1, thread_name_prefix="route's look")
        self._probing: Future[None] | None = None
        self._probed_at: float | None = None
        self._status = OwnRoute(
            url=self._url, reachable=False, why=f"{self._url} was not asked yet", checked_at=clock.now()
        )
        self._awake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="route", daemon=True)

    def start(self) -> None:
        """Begin to carry, and look for the first time."""
        self._thread.start()
        looking = self.look()
        if looking is not None:
            wait([looking], START_SECONDS)

    def wake(self) -> None:
        """Something was written: carry it soon."""
        self._awake.set()

    def stop(self) -> None:
        """Carry no more. An exchange under way is given up; it can be repeated."""
        self._stopped.set()
        self._awake.set()
        self._prober.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def status(self) -> OwnRoute:
        """Whether the activation server answered when it was asked last. Waits for nothing."""
        return self._status

    def look(self) -> Future[None] | None:
        """Ask again where what is known is old; None where it is not. Waits for nothing. Of one thread only."""
        if self._probing is not None and not self._probing.done():
            return self._probing
        now = self._monotonic()
        if self._stopped.is_set() or (self._probed_at is not None and now - self._probed_at < _PROBE_KEPT_SECONDS):
            return None
        self._probing = self._prober.submit(self._look)
        return self._probing

    def _look(self) -> None:
        why = self._probe()
        self._probed_at = self._monotonic()
        self._status = OwnRoute(
            url=self._url,
            reachable=why is None,
            why=why or f"{self._url} answered",
            checked_at=self._clock.now(),
        )

    def carry(self) -> None:
        """Exchange messages until none waits, or no reply clears any. Raises ``Error`` and ``httpx2.HTTPError``."""
        if self._agent.peek().keyset is None:
            self._fetch_keys()
        for _round in range(_ROUNDS_MAX):
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
        headers = {"Accept": tallyfile.MEDIA_TYPE, "Content-Type": tallyfile.MEDIA_TYPE, **_AS_IT_IS}
        with (
            deadline(EXCHANGE_WHOLE_SECONDS),
            self._client.stream(method, self._url + path, content=body, headers=headers) as response,
        ):
            if response.status_code != httpx2.codes.OK:
                raise Error("unreachable", expected=_("200 from {path}", path=path), seen=f"{response.status_code}")
            data = bytearray()
            for chunk in response.iter_raw():
                data += chunk
                if len(data) > _REPLY_BYTES_MAX:
                    raise Error(
                        "body-too-large",
                        expected=_("at most {reply_bytes_max} bytes", reply_bytes_max=_REPLY_BYTES_MAX),
                        seen=_("more"),
                    )
            return bytes(data)

    def _probe(self) -> str | None:
        """None when it answers, else why not. How it goes on after the head of its answer is not read."""
        url = f"{self._url}/healthz"
        try:
            with (
                deadline(PROBE_SECONDS),
                self._client.stream("GET", url, headers=_AS_IT_IS, timeout=PROBE_SECONDS) as response,
            ):
                status = response.status_code
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError) as error:
            untrusted = untrusted_certificate(error)
            if untrusted is not None:
                return f"{self._url} was reached, but its certificate is not trusted there: {untrusted}"
            if isinstance(error, httpx2.ProxyError):
                return f"the proxy on the way to {self._url} refused: {error}"
            return f"{self._url} did not answer: {str(error) or type(error).__name__}"
        if status == httpx2.codes.OK:
            return None
        return f"{self._url} was reached, and has trouble of its own: it answered {status}"

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
