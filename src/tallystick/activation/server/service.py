"""The activation server as a process: listens, announces its address, does its chores, stops cleanly.

SIGTERM and SIGINT let requests that are under way end. After an ``InvariantError`` it stops by itself and says so.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

import uvicorn
from fastapi import FastAPI

from tallystick.activation.http.fast_path import Shortcut
from tallystick.activation.http.management import add_management
from tallystick.activation.http.metrics import Metrics
from tallystick.activation.http.monitoring import MonitoringContext, add_monitoring, look, new_request_ids
from tallystick.activation.http.portal import add_portal
from tallystick.activation.http.protocol_api import ProtocolContext, create_api
from tallystick.activation.http.strangers import Strangers
from tallystick.activation.outbound.webhooks import ROUND_SECONDS
from tallystick.activation.server import workers
from tallystick.activation.server.background import BackgroundTask, BackgroundTasks
from tallystick.activation.server.instance import Activation
from tallystick.activation.server.office import make_office
from tallystick.activation.server.timekeeper import Timekeeper
from tallystick.activation.server.tls import HANDSHAKE_SECONDS, CertificateFiles, RenewedContext
from tallystick.activation.services import Office
from tallystick.activation.services.batcher import Batcher
from tallystick.activation.services.sign_in import new_setup_code
from tallystick.connections.listening import Places
from tallystick.errors import Error, InvariantError
from tallystick.sentences import _

SETTLE_SECONDS: Final = 10.0
KEYS_SECONDS: Final = 2.0
CERTIFICATE_SECONDS: Final = 5.0
EVENTS_SECONDS: Final = 0.5
MAIL_SECONDS: Final = 30.0
PRUNE_SECONDS: Final = 3600.0
CHORES_GRACE_SECONDS: Final = 15.0
GRACE_SECONDS: Final = 10
GARBAGE_OBJECTS: Final = 20_000  # new ones before cycles are looked for: a batch makes thousands, and none in a cycle
_BACKLOG: Final = 2048
CONNECTIONS_MAX: Final = 2000  # of a process
FILES_WANTED: Final = 8192


class ServiceError(Error):
    """The process cannot serve."""


def make_site(activation: Activation, batcher: Batcher, *, office: Office) -> FastAPI:
    """Everything that is served: the API of the protocol, the management API, the pages."""
    operations = _operations(activation, batcher, office)
    return _site(_context(activation, batcher, operations), operations, office)


def _context(activation: Activation, batcher: Batcher, operations: MonitoringContext) -> ProtocolContext:
    return ProtocolContext(
        store=activation.store,
        signer=activation.signer,
        batcher=batcher,
        clock=activation.now,
        strangers=Strangers(clock=time.monotonic, tell=operations.metrics.count_paused),
        policy=activation.settings.policy,
        metrics=operations.metrics,
    )


def _site(context: ProtocolContext, operations: MonitoringContext, office: Office) -> FastAPI:
    site = create_api(context)
    add_monitoring(site, operations)
    add_management(site, office)
    add_portal(site, office)
    return site


def make_setup_code(activation: Activation) -> str | None:
    """The code for the first-run page, while nobody can sign in."""
    return new_setup_code(make_office(activation, _batcher(activation, lambda _other: None)))


def serve(
    activation: Activation,
    *,
    host: str,
    port: int,
    files: CertificateFiles | None,
    announce: Callable[[str, str | None], None],
) -> None:
    """Serve until a signal, by TLS where there are ``files``. Raises ``Error``.

    ``announce`` gets the URL once it listens, and the set-up code of the first-run page while nobody can sign in.
    """
    tls = None if files is None else RenewedContext(files)
    listener = _listen(host, port)
    setup_code = make_setup_code(activation)
    _serve(activation, listener, tls=tls, announce=lambda: announce(_url(listener, files), setup_code))


def serve_with_workers(
    opened: Callable[[], AbstractContextManager[Activation]],
    count: int,
    *,
    host: str,
    port: int,
    files: CertificateFiles | None,
    announce: Callable[[str], None],
) -> bool:
    """The same with several processes. ``opened`` is called in each of them. Whether it ended as it was asked to.

    The set-up code is the caller's to make: one for all.
    """

    def work(listener: socket.socket, ready: Callable[[], None], gone: threading.Event) -> None:
        with opened() as activation:
            tls = None if files is None else RenewedContext(files)
            _serve(activation, listener, tls=tls, announce=ready, gone=gone)

    if files is not None:
        files.load()  # refused here and once, and not in each worker
    try:
        holder = workers.reserve(_family(host, port), host, port)
    except (OSError, OverflowError, UnicodeError) as error:
        raise _taken(host, port, error) from error
    with holder:
        return workers.run(count, holder, work, announce=lambda: announce(_url(holder, files)), backlog=_BACKLOG)


def _serve(
    activation: Activation,
    listener: socket.socket,
    *,
    tls: RenewedContext | None,
    announce: Callable[[], None],
    gone: threading.Event | None = None,
) -> None:
    def on_broken(_other: InvariantError) -> None:
        chores.stop()
        process.should_exit = True

    batcher = _batcher(activation, on_broken)
    office = make_office(activation, batcher)
    operations = _operations(activation, batcher, office)
    context = _context(activation, batcher, operations)
    config = uvicorn.Config(
        _site(context, operations, office),
        http=Shortcut.on(context, operations, _places(activation)),  # type: ignore[arg-type]  # it makes a protocol
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        # The address of a client and its scheme are taken from a proxy's headers only when the proxy is one of these.
        forwarded_allow_ips=list(activation.settings.trusted_proxies),
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    process = _Process(config, tls=tls, announce=announce, gone=gone)
    chores = BackgroundTasks(_chores(activation, tls), on_broken=batcher.stop_for)
    # uvicorn raises the signals that it caught once more when it has stopped; that is not to end us a second time.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_other: None)
    gc.freeze()  # what was loaded until now stays: it is not looked through again and again
    gc.set_threshold(GARBAGE_OBJECTS)
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


def _places(activation: Activation) -> Places:
    """As many connections as there are files for: two for each, and some for everything else."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < FILES_WANTED:
        wanted = FILES_WANTED if most == resource.RLIM_INFINITY else min(FILES_WANTED, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        files = wanted
    connections_max = max(50, min(CONNECTIONS_MAX, (files - 200) // 2))
    return Places(
        connections_max=connections_max,
        address_max=max(25, connections_max // 4),
        unbounded=activation.settings.trusted_proxies,
    )


def _operations(activation: Activation, batcher: Batcher, office: Office) -> MonitoringContext:
    store, signer = activation.store, activation.signer

    def check() -> None:
        if batcher.broken is not None:
            raise batcher.broken

    metrics = Metrics(lambda: look(store, signer))
    office.watchers.append(metrics.count_security)
    return MonitoringContext(
        office=office,
        dispatcher=activation.dispatcher(),
        metrics=metrics,
        token=activation.settings.operations_token,
        logs_requests=activation.settings.log.requests,
        request_ids=new_request_ids(activation.random_bytes),
        check=check,
    )


def _batcher(activation: Activation, on_broken: Callable[[InvariantError], None]) -> Batcher:
    return Batcher(
        activation.store, activation.signer, activation.settings.policy, clock=activation.now, on_broken=on_broken
    )


class _Process(uvicorn.Server):
    """uvicorn, which says when it listens, and stops when ``gone`` is set."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        tls: RenewedContext | None,
        announce: Callable[[], None],
        gone: threading.Event | None = None,
    ) -> None:
        super().__init__(config)
        self._tls = tls
        self._announce = announce
        self._gone = gone

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or (self._gone is not None and self._gone.is_set())

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._tls is None:
            await super().startup(sockets)
        else:
            await self._listen_by_tls(self._tls, sockets or ())
        if self.started and not self.should_exit:
            self._announce()

    async def _listen_by_tls(self, tls: RenewedContext, sockets: Sequence[socket.socket]) -> None:
        """As uvicorn does it, but with less patience for a handshake."""
        loop = asyncio.get_running_loop()
        await self.lifespan.startup()
        made: Any = self.config.http_protocol_class
        protocol = partial(
            made,
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.servers = [
            await loop.create_server(
                protocol,
                sock=listener,
                ssl=tls.context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
            for listener in sockets
        ]
        self.started = True


def _chores(activation: Activation, tls: RenewedContext | None) -> list[BackgroundTask]:
    dispatcher, digest = activation.dispatcher(), activation.digest()

    def tell() -> None:
        dispatcher.place_all()
        digest.run_once()

    timekeeper = Timekeeper(activation.store, activation.signer, clock=activation.now)

    def settle() -> None:
        timekeeper.tick()
        activation.settle()

    chores = [
        BackgroundTask(name="sending events", seconds=EVENTS_SECONDS, work=lambda: dispatcher.run_once(ROUND_SECONDS)),
        BackgroundTask(name="forgetting old events", seconds=PRUNE_SECONDS, work=dispatcher.prune),
        BackgroundTask(name="settling quarantines", seconds=SETTLE_SECONDS, work=settle),
        BackgroundTask(name="looking for new keys", seconds=KEYS_SECONDS, work=activation.signer.refresh),
    ]
    if tls is not None:
        chores.append(BackgroundTask(name="looking for a new certificate", seconds=CERTIFICATE_SECONDS, work=tls.renew))
    if activation.settings.mail.host is not None:
        chores.append(BackgroundTask(name="telling people by mail", seconds=MAIL_SECONDS, work=tell))
    return chores


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=_family(host, port), backlog=_BACKLOG)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
        return listener
    except (OSError, OverflowError, UnicodeError) as error:
        raise _taken(host, port, error) from error


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]


def _taken(host: str, port: int, error: Exception) -> ServiceError:
    return ServiceError(
        "address-taken", expected=_("to listen at {host} port {port}", host=host, port=port), seen=str(error)
    )


def _url(listener: socket.socket, files: CertificateFiles | None) -> str:
    scheme = "http" if files is None else "https"
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
