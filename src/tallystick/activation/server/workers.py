"""Several processes that serve at one address, each with batches of its own on the same database.

The kernel spreads connections over them (SO_REUSEPORT). The first process only watches: a worker that died is started
again, a signal ends all of them, and so does a worker that ended by itself for a reason of its own (a contradiction in
the books, say). One that could not begin ends all of them only at the start; later it is tried again, because the
database may just be coming back. When the watching process is gone, however it went, the workers stop.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

RESTART_SECONDS: Final = 1.0
_EXIT_BY_ITSELF: Final = 3  # of a worker that must not be started again
_EXIT_NOT_BEGUN: Final = 4  # of one that could not begin, because the database was not there, say
_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)

Serve = Callable[[socket.socket, Callable[[], None], threading.Event], None]


def reserve(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """A socket that holds the address, so that port 0 is the same one for every worker. It never listens."""
    holder = socket.socket(family)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # what is accepted inherits it
        holder.bind((host, port))
    except BaseException:
        holder.close()
        raise
    return holder


def run(count: int, holder: socket.socket, serve: Serve, *, announce: Callable[[], None], backlog: int) -> bool:
    """Run ``count`` workers until a signal. Whether it ended as it was asked to.

    ``serve`` runs in each of them: with its listening socket, what it calls once it listens, and an event that is set
    when the watching process is gone. ``announce`` is called here when all listen.
    """
    watching, alive = os.pipe()  # the workers see the end of `watching` when nobody holds `alive` any more
    is_ready, ready = os.pipe()
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in pids:
            _signal(pid)

    pids: set[int] = set()
    for number in _ENDINGS:
        signal.signal(number, stop)

    def start() -> None:
        # A signal between the fork and the note of it would miss the new worker, or reach it as if it watched.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        pid = None if stopping else os.fork()
        if pid:
            pids.add(pid)
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
            return
        os.close(alive)
        os.close(is_ready)
        os._exit(_work(holder, serve, watching=watching, ready=ready, backlog=backlog))

    for _ in range(count):
        start()
    all_listen = threading.Event()
    threading.Thread(target=_announce, args=(is_ready, count, all_listen, announce), daemon=True).start()
    ended_well = True
    while pids:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        pids.discard(pid)
        if stopping:
            continue
        code = os.waitstatus_to_exitcode(status)
        if code == _EXIT_BY_ITSELF or not all_listen.is_set():  # what cannot even begin is not tried again
            ended_well = False
            stop()
        else:
            time.sleep(RESTART_SECONDS)
            start()
    return ended_well


def _work(holder: socket.socket, serve: Serve, *, watching: int, ready: int, backlog: int) -> int:
    gone, begun = threading.Event(), threading.Event()
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)

    def watch() -> None:
        os.read(watching, 1)
        gone.set()

    threading.Thread(target=watch, daemon=True).start()
    try:
        listener = reserve(holder.family, *holder.getsockname()[:2])
        listener.listen(backlog)

        def begin() -> None:
            begun.set()
            _report(ready)

        serve(listener, begin, gone)
    except BaseException:  # noqa: BLE001 - what it was is logged by `serve`; here only the exit code counts
        return _EXIT_BY_ITSELF if begun.is_set() else _EXIT_NOT_BEGUN
    return 0


def _announce(is_ready: int, count: int, all_listen: threading.Event, announce: Callable[[], None]) -> None:
    heard = 0
    while heard < count:
        heard += len(os.read(is_ready, count))
    all_listen.set()  # before the announcement: who reads that may kill a worker at once, and it is started again
    announce()


def _report(ready: int) -> None:
    os.write(ready, b".")


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return
