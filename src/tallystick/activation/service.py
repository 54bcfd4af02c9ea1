"""The activation server as a process: listens, announces its address, does its chores, stops cleanly.

SIGTERM and SIGINT let requests that are under way end. After an ``InvariantError`` it stops by itself and says so.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from fastapi import FastAPI

from tallystick.activation.api import Desk, create_api
from tallystick.activation.app import Activation
from tallystick.activation.batching import Batcher
from tallystick.activation.chores import Chore, Chores
from tallystick.activation.management import add_management
from tallystick.activation.metrics import Metrics
from tallystick.activation.office import Office
from tallystick.activation.office.signin import new_setup_code
from tallystick.activation.operations import Operations, add_operations, look
from tallystick.activation.portal import add_portal
from tallystick.errors import Error, InvariantError

SETTLE_SECONDS: Final = 60.0
KEYS_SECONDS: Final = 2.0
EVENTS_SECONDS: Final = 1.0
MAIL_SECONDS: Final = 30.0
PRUNE_SECONDS: Final = 3600.0
CHORES_GRACE_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 10
_BACKLOG: Final = 2048


class ServiceError(Error):
    """The process cannot serve."""


def make_office(activation: Activation, batcher: Batcher) -> Office:
    """What people do here, on the data of ``activation``."""
    return Office(
        store=activation.store,
        signer=activation.signer,
        policy=activation.settings.policy,
        batcher=batcher,
        clock=activation.now,
        random_bytes=activation.random_bytes,
    )


def make_site(activation: Activation, batcher: Batcher, *, office: Office) -> FastAPI:
    """Everything that is served: the API of the protocol, the management API, the pages."""
    operations = _operations(activation, batcher, office)
    desk = Desk(
        store=activation.store,
        signer=activation.signer,
        batcher=batcher,
        clock=office.clock,
        metrics=operations.metrics,
    )
    site = create_api(desk)
    add_operations(site, operations)
    add_management(site, office)
    add_portal(site, office)
    return site


def serve(activation: Activation, *, host: str, port: int, announce: Callable[[str, str | None], None]) -> None:
    """Serve until a signal. Raises ``Error``.

    ``announce`` gets the URL once it listens, and the set-up code of the first-run page while nobody can sign in.
    """
    listener = _listen(host, port)

    def on_broken(_: InvariantError) -> None:
        chores.stop()
        process.should_exit = True

    batcher = Batcher(
        activation.store, activation.signer, activation.settings.policy, clock=activation.now, on_broken=on_broken
    )
    office = make_office(activation, batcher)
    setup_code = new_setup_code(office)
    config = uvicorn.Config(
        make_site(activation, batcher, office=office),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    process = _Process(config, announce=lambda: announce(_url(listener), setup_code))
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


def _operations(activation: Activation, batcher: Batcher, office: Office) -> Operations:
    store, signer = activation.store, activation.signer

    def check() -> None:
        if batcher.broken is not None:
            raise batcher.broken

    return Operations(
        office=office,
        dispatcher=activation.dispatcher(),
        metrics=Metrics(lambda: look(store, signer)),
        token=activation.settings.operations_token,
        logs_requests=activation.settings.log.requests,
        random_bytes=activation.random_bytes,
        check=check,
    )


class _Process(uvicorn.Server):
    """uvicorn, which says when it listens."""

    def __init__(self, config: uvicorn.Config, *, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._announce()


def _chores(activation: Activation) -> list[Chore]:
    dispatcher, digest = activation.dispatcher(), activation.digest()

    def tell() -> None:
        dispatcher.place_all()
        digest.run_once()

    chores = [
        Chore(name="sending events", seconds=EVENTS_SECONDS, work=dispatcher.run_once),
        Chore(name="forgetting old events", seconds=PRUNE_SECONDS, work=dispatcher.prune),
        Chore(name="settling quarantines", seconds=SETTLE_SECONDS, work=activation.settle),
        Chore(name="looking for new keys", seconds=KEYS_SECONDS, work=activation.signer.refresh),
    ]
    if activation.settings.mail.host is not None:
        chores.append(Chore(name="telling people by mail", seconds=MAIL_SECONDS, work=tell))
    return chores


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServiceError("address-taken", expected=f"to listen at {host} port {port}", seen=str(error)) from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
