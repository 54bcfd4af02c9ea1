"""The activation server as a process: listens, announces its address, does its chores, stops cleanly.

SIGTERM and SIGINT let requests that are under way end. After an ``InvariantError`` it stops by itself and says so.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import uvicorn

from tallystick.activation import workers
from tallystick.activation.api import Desk, create_api
from tallystick.activation.app import Activation
from tallystick.activation.batching import Batcher
from tallystick.activation.chores import Chore, Chores
from tallystick.errors import Error, InvariantError

SETTLE_SECONDS: Final = 60.0
KEYS_SECONDS: Final = 2.0
CHORES_GRACE_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 10
_BACKLOG: Final = 2048


class ServiceError(Error):
    """The process cannot serve."""


def serve(activation: Activation, *, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until a signal. ``announce`` gets the URL once it listens. Raises ``Error``."""
    listener = _listen(host, port)
    _serve(activation, listener, announce=lambda: announce(_url(listener)))


def serve_with_workers(
    opened: Callable[[], AbstractContextManager[Activation]],
    count: int,
    *,
    host: str,
    port: int,
    announce: Callable[[str], None],
) -> bool:
    """The same with several processes. ``opened`` is called in each of them. Whether it ended as it was asked to."""

    def work(listener: socket.socket, ready: Callable[[], None], gone: threading.Event) -> None:
        with opened() as activation:
            _serve(activation, listener, announce=ready, gone=gone)

    try:
        holder = workers.reserve(_family(host, port), host, port)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _taken(host, port, error) from error
    with holder:
        return workers.run(count, holder, work, announce=lambda: announce(_url(holder)), backlog=_BACKLOG)


def _serve(
    activation: Activation,
    listener: socket.socket,
    *,
    announce: Callable[[], None],
    gone: threading.Event | None = None,
) -> None:
    def on_broken(_: InvariantError) -> None:
        chores.stop()
        process.should_exit = True

    batcher = Batcher(
        activation.store, activation.signer, activation.settings.policy, clock=activation.now, on_broken=on_broken
    )
    desk = Desk(store=activation.store, signer=activation.signer, batcher=batcher, clock=activation.now)
    config = uvicorn.Config(
        create_api(desk),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    process = _Process(config, announce=announce, gone=gone)
    chores = Chores(_chores(activation), on_broken=batcher.stop_for)
    # uvicorn raises the signals that it caught once more when it has stopped; that is not to end us a second time.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    batcher.start()
    chores.start()
    try:
        process.run(sockets=[listener])
    finally:
        chores.stop()
        batcher.close()
        chores.join(CHORES_GRACE_SECONDS)
        listener.close()
    if batcher.broken is not None:
        raise batcher.broken


class _Process(uvicorn.Server):
    """uvicorn, which says when it listens, and stops when ``gone`` is set."""

    def __init__(
        self, config: uvicorn.Config, *, announce: Callable[[], None], gone: threading.Event | None = None
    ) -> None:
        super().__init__(config)
        self._announce = announce
        self._gone = gone

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._gone is not None and self._gone.is_set())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._announce()


def _chores(activation: Activation) -> list[Chore]:
    return [
        Chore(name="settling quarantines", seconds=SETTLE_SECONDS, work=activation.settle),
        Chore(name="looking for new keys", seconds=KEYS_SECONDS, work=activation.signer.refresh),
    ]


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=_family(host, port), backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _taken(host, port, error) from error


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


def _taken(host: str, port: int, error: Exception) -> ServiceError:
    return ServiceError("address-taken", expected=f"to listen at {host} port {port}", seen=str(error))


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
