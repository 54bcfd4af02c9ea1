"""The running agent: its sockets, its TLS, its threads, put together.

Nothing of a command line is imported here, so that the process that runs for years stays small.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tallystick.connections.listening import HEAD_BYTES_MAX, Bounded, Places
from tallystick.connections.logs import PlainFormatter
from tallystick.errors import Error
from tallystick.fieldserver import checks as licenses
from tallystick.fieldserver import platform
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.answering import Answerer
from tallystick.fieldserver.api import Api, make_app
from tallystick.fieldserver.certificate import fingerprint_of
from tallystick.fieldserver.commissioning import open_agent
from tallystick.fieldserver.gate import Gate
from tallystick.fieldserver.local_socket import SOCKET_FILE, USUAL_SOCKET, LocalSocket, SocketWish
from tallystick.sentences import _
from tallystick.terminal import print_text

CONNECTIONS_MAX: Final = 256
ADDRESS_MAX: Final = 128  # of one address: half, so that nobody takes all
HANDSHAKE_SECONDS: Final = 10.0
_SECRET_BYTES: Final = 32
_THREADS: Final = 4
_STOP_SECONDS: Final = 3
_BACKLOG: Final = 128
_TIME_CHECK_SECONDS: Final = 600.0


class PatientProtocol(Bounded, H11Protocol):
    """HTTP/1.1 for clients of any speed, with bounds. Slow bodies are ``api``'s business."""

    places = Places(connections_max=CONNECTIONS_MAX, address_max=ADDRESS_MAX)


class _Server(uvicorn.Server):
    """uvicorn, with an announcement when it listens, and a clean exit on SIGTERM and SIGINT."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen. As uvicorn does it, but with less patience for a TLS handshake."""
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="step"))
        loop.set_exception_handler(_note_exception)
        await self.lifespan.startup()
        self.servers = [
            await loop.create_server(
                self._make_protocol,
                sock=listener,
                ssl=self.config.ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )
            for listener in sockets or ()
        ]
        self.started = True
        self._announce()

    def _make_protocol(self) -> PatientProtocol:
        return PatientProtocol(self.config, self.server_state, self.lifespan.state)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop on a signal, and do not raise it again: it was obeyed."""
        handled = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._stop) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.should_exit = True


def serve(
    directory: Path,
    *,
    host: str,
    port: int,
    activation: str | None,
    announce: Callable[[str], None],
    is_announced: bool = False,
    wish: SocketWish = USUAL_SOCKET,
) -> None:
    """Run until a signal says stop. ``announce`` is called with the URL once it listens, and with ``is_announced``
    the network is told by multicast DNS. ``wish``: the socket at which programs ask.

    Raises ``Error``: those of the vault, and ``address-taken``.
    """
    home = platform.load_home(directory)
    clock, random = platform.SystemClock(), platform.SystemRandom()
    agent = open_agent(home, clock=clock, random=random)
    agent.peek()  # a vault that cannot be read is named now
    _note_time(agent)
    answers = licenses.of_agent(directory)
    certificate = platform.read_file(directory / platform.TLS_CERTIFICATE_FILE)
    gate = Gate(
        platform.read_file(directory / platform.PASSWORD_HASH_FILE).decode("ascii", "replace"),
        secret=random.bytes(_SECRET_BYTES),
    )
    route = None
    if activation is not None:
        from tallystick.fieldserver.route import ActivationRoute  # noqa: PLC0415 - an HTTP client only where one is needed

        route = ActivationRoute(
            activation, agent=agent, clock=clock, random=random, monotonic=platform.MONOTONIC, delivered=answers.look
        )
    stopped = threading.Event()
    api = Api(
        agent=agent,
        checks=answers,
        gate=gate,
        clock=clock,
        monotonic=platform.MONOTONIC,
        fingerprint=fingerprint_of(certificate),
        activation=(lambda: None) if route is None else route.status,
        written=(lambda: None) if route is None else route.wake,
        looked=(lambda: None) if route is None else route.look,
    )
    listener = _listen(host, port)
    programs = LocalSocket(
        wish.path or directory / SOCKET_FILE,
        answer=Answerer(device=home.device, checks=answers, clock=clock).answer,
        monotonic=platform.MONOTONIC,
    )
    end_announcement = _announce(home, fingerprint_of(certificate), host, listener) if is_announced else lambda: None
    try:
        _open_socket(programs, wish)
        _run(api, directory, listener, started=lambda: _start(announce, host, listener, agent, route, stopped))
    finally:
        stopped.set()
        programs.stop()
        end_announcement()
        if route is not None:
            route.stop()


def _open_socket(programs: LocalSocket, wish: SocketWish) -> None:
    """Where nobody asked for a certain path, a field server that cannot have the usual one runs without, and says so."""
    try:
        programs.listen(mode=wish.mode, group=wish.group)
    except Error as error:
        if wish.path is not None or wish.group is not None:
            raise
        sentence = _("Programs cannot ask at {path}: {why}. Name another path: --socket", path=programs.path, why=error)
        print_text(sentence, error=True)
        return
    programs.start()


def _announce(home: platform.Home, fingerprint: str, host: str, listener: socket.socket) -> Callable[[], None]:
    """What ends it. A field server without a network to say it on runs all the same."""
    from tallystick.fieldserver.announce import announce  # noqa: PLC0415 - only where it is asked for

    facts = home.device.facts
    try:
        return announce(
            device_id=home.device.device_id,
            name=facts.name,
            kind=facts.kind,
            fingerprint=fingerprint,
            host=host,
            port=int(listener.getsockname()[1]),
        )
    except OSError as error:
        logging.getLogger(__name__).warning("Not announced: %s", error)
        return lambda: None


def _run(api: Api, directory: Path, listener: socket.socket, *, started: Callable[[], None]) -> None:
    _set_up_logs()
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # strangers' bad requests are not worth a line each
    config = uvicorn.Config(
        make_app(api),
        http=PatientProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_STOP_SECONDS,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        ssl_certfile=directory / platform.TLS_CERTIFICATE_FILE,
        ssl_keyfile=directory / platform.TLS_KEY_FILE,
    )
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise Error("vault-damaged", expected=_("tls.key and tls.pem as init wrote them"), seen=str(error)) from None
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    server = _Server(config, started)
    asyncio.run(server.serve(sockets=[listener]))


def _set_up_logs() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _start(
    announce: Callable[[str], None],
    host: str,
    listener: socket.socket,
    agent: Agent,
    route: Any,
    stopped: threading.Event,
) -> None:
    threading.Thread(target=_watch_time, args=(agent, stopped), name="time", daemon=True).start()
    if route is not None:
        route.start()
    name = f"[{host}]" if ":" in host else host
    announce(f"https://{name}:{listener.getsockname()[1]}")


def _watch_time(agent: Agent, stopped: threading.Event) -> None:
    while not stopped.wait(_TIME_CHECK_SECONDS):
        _note_time(agent)


def _note_time(agent: Agent) -> None:
    with contextlib.suppress(Error):  # a disk that is full or read-only today stops nothing, and may not be tomorrow
        agent.note_time()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # What is accepted inherits it. Without it an answer of two packets waits 40 ms for the reader's delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except (OSError, OverflowError) as error:
        seen = getattr(error, "strerror", None) or str(error)
        raise Error(
            "address-taken", expected=_("to listen at {host} port {port}", host=host, port=port), seen=seen
        ) from None


def _note_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Broken connections are no news; everything else is."""
    if not isinstance(context.get("exception"), OSError):  # ssl.SSLError is one
        loop.default_exception_handler(context)
