"""Load that harms nobody else: E1 webhooks that never answer, E2 a flood of strangers, E3 silent and dripping clients.

Each with its beside: what honest clients have alone, in the same run, in turns. Memory is the most that any process of
the activation server ever had. Everything is on loopback, bounded in count and time.
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from benchmarks.parties import Site, Story, make_site, processor_seconds
from benchmarks.prepared import Teller, say_all
from benchmarks.rows import ROUNDS, Bench, Row
from support.receiver import Receiver
from tallystick.activation.core import entitlements
from tallystick.activation.outbound import webhooks
from tallystick.activation.storage.dialects import dialect_for
from tallystick.domain.ids import LineId

ENGINES: Final = ("postgresql", "sqlite")
MEMORY_MIB_MAX: Final = 200  # at rest it has about 100
DEAD: Final = 60
SECONDS_MAX: Final = 2
FLOOD_RATE: Final = 10_000
FLOOD_SECONDS: Final = 10
BUNDLE: Final = 100
SILENT: Final = 1000
CONNECTIONS: Final = 16


def e1_dead_webhooks(bench: Bench) -> list[Row]:
    """Sixty endpoints that take connections and never answer; beside them one of another account, that answers."""
    rows = []
    for engine in ENGINES:
        site = _new_site(bench, engine, "dead", settings='[webhooks]\nallow_private = ["127.0.0.1"]\n')
        silent, receiver = socket.create_server(("127.0.0.1", 0), backlog=4096), Receiver()  # type: ignore[no-untyped-call]  # of the tests
        taken: list[socket.socket] = []
        threading.Thread(target=_take_all, args=(silent, taken), daemon=True).start()
        try:
            with site.opened() as activation, site.served(1) as service:
                for _number in range(DEAD):
                    activation.transact(partial(_add_hook, activation, silent.getsockname()[1], None, "Airport"))
                activation.transact(partial(_add_hook, activation, None, receiver.url, "Harbour"))
                waits = []
                for _turn in range(max(5, round(20 * bench.scale))):
                    for _event in range(10):
                        activation.transact(partial(_buy, activation, "Airport"))
                    heard = len(receiver.got)
                    activation.transact(partial(_buy, activation, "Harbour"))
                    begun = time.monotonic()
                    while len(receiver.got) == heard and time.monotonic() - begun < 30:
                        time.sleep(0.01)
                    waits.append(time.monotonic() - begun)
                    time.sleep(0.5)
                memory = service.memory_mib()
        finally:
            silent.close()
            receiver.close()  # type: ignore[no-untyped-call]  # of the tests
            for one in taken:
                one.close()
        extra = {"waits": waits, "median": statistics.median(waits), "connections": len(taken)}
        what = f"the longest wait for an event beside {DEAD} webhooks that never answer, {engine}"
        rows.append(
            Row(name="E1", what=what, figure=max(waits), limit=SECONDS_MAX, unit="s", at_least=False, extra=extra)
        )
        rows.append(_memory("E1", memory, f"meanwhile, {engine}"))
    return rows


def e2_strangers(bench: Bench) -> list[Row]:
    """Ten thousand messages a second of strangers, for ten seconds, beside honest ones and alone."""
    rows = []
    for engine in ENGINES:
        site = _new_site(bench, engine, "strangers")
        story = Story(site, bench.many(640), salt=f"beside {engine}")
        seconds = max(2.0, FLOOD_SECONDS * bench.scale)
        file = bench.home / "strangers.jsonl"
        _write_strangers(site, file, round(FLOOD_RATE * min(seconds, 2)))
        rates: list[tuple[float, float]] = []
        floods: list[dict[str, float]] = []
        with site.served(1) as service:
            per_server = max(
                2, round(service.load(story.spread(CONNECTIONS, 4))["rate"] * seconds * 0.7 / len(story.tellers))
            )
            for _turn in range(ROUNDS):
                alone = service.load(story.spread(CONNECTIONS, max(2, per_server // 3)))["rate"]
                said = story.spread(CONNECTIONS, per_server)
                with _pressing("flood", service.url, str(file), str(FLOOD_RATE)) as done:
                    beside = service.load(said)["rate"]
                floods.append(done)
                rates.append((alone, beside))
            while _ask(site, "SELECT count(*) FROM outbox"):  # events of the honest ones get their places first
                time.sleep(0.2)
            before, spent = _count(site), processor_seconds(service.process.pid)
            with _pressing("flood", service.url, str(file), str(FLOOD_RATE)) as done:
                time.sleep(seconds)
            floods.append(done)
            spent = processor_seconds(service.process.pid) - spent
            left = _count(site) - before
            strangers = _strange_rows(site, len(story.tellers))
            memory = service.memory_mib()
        ratio = statistics.median(beside / alone for alone, beside in rates)
        said_rate = statistics.median(one["rate"] for one in floods)
        extra = {"rates": rates, "floods": floods, "flood_rate": said_rate}
        what = f"honest messages/s beside {FLOOD_RATE:,} of strangers a second, {engine}"
        rows.append(Row(name="E2", what=what, figure=ratio, limit=0.7, unit="of the rate", extra=extra))
        what = f"messages of strangers a second that were said, {engine}"
        rows.append(Row(name="E2", what=what, figure=said_rate, limit=None, unit="messages/s"))
        figure, what = spent / done["messages"] * 1e6, f"processor time for a message of a stranger, {engine}"
        rows.append(Row(name="E2", what=what, figure=figure, limit=None, unit="microseconds"))
        what = f"rows and events that strangers left, {engine}"
        rows.append(Row(name="E2", what=what, figure=left + strangers, limit=0, unit="rows", at_least=False))
        rows.append(_memory("E2", memory, f"meanwhile, {engine}"))
    return rows


def e3_silence(bench: Bench) -> list[Row]:
    """A thousand connections that are silent or drip, beside honest ones and alone."""
    site = _new_site(bench, "postgresql", "silence")
    story = Story(site, bench.many(640), salt="in silence")
    found: list[tuple[float, float]] = []
    crowds: list[dict[str, float]] = []
    count = max(200, round(SILENT * bench.scale))
    with site.served(1) as service:
        service.load(story.spread(CONNECTIONS, 4))
        for _turn in range(ROUNDS):
            alone = service.load(story.spread(CONNECTIONS, 10))["p99_ms"]
            said = story.spread(CONNECTIONS, 10)
            with _pressing("silence", service.url, str(count)) as done:
                time.sleep(max(2.0, 8 * bench.scale))  # they are all there, and some were dropped and are back
                beside = service.load(said)["p99_ms"]
            crowds.append(done)
            found.append((alone, beside))
        memory = service.memory_mib()
    ratio = statistics.median(beside / alone for alone, beside in found)
    extra = {"p99_ms": found, "crowds": crowds}
    what = f"honest p99 beside {count:,} silent and dripping connections"
    return [
        Row(name="E3", what=what, figure=ratio, limit=3, unit="times", at_least=False, extra=extra),
        _memory("E3", memory, "meanwhile, postgresql"),
    ]


def _memory(name: str, figure: float, what: str) -> Row:
    return Row(
        name=name, what=f"memory of a process {what}", figure=figure, limit=MEMORY_MIB_MAX, unit="MiB", at_least=False
    )


def _new_site(bench: Bench, engine: str, name: str, *, settings: str = "") -> Site:
    database = bench.cluster.new_database() if engine == "postgresql" else None
    site = make_site(bench.home / f"{name}-{engine}", database=database, lines=100)
    path = site.data / "settings.toml"
    path.write_text(path.read_text("utf-8") + settings, "utf-8")
    return site


def _take_all(listener: socket.socket, taken: list[socket.socket]) -> None:
    while True:
        try:
            taken.append(listener.accept()[0])
        except OSError:
            return


def _add_hook(activation: Any, port: int | None, url: str | None, account: str, transaction: Any) -> None:
    webhooks.add(
        transaction,
        url=url or f"http://127.0.0.1:{port}/hook",
        account=account,
        kinds=(),
        after=None,
        allowed=("127.0.0.1",),
        by="bench",
        random_bytes=activation.random_bytes,
        now=activation.now(),
    )


def _buy(activation: Any, account: str, transaction: Any) -> None:
    entitlements.create_entitlement(
        transaction,
        signer=activation.signer,
        account=account,
        products=[("bench", 1)],
        expires_at=None,
        random_bytes=activation.random_bytes,
        by="bench",
        now=activation.now(),
    )


def _write_strangers(site: Site, file: Path, count: int) -> None:
    """Well-formed, well-signed, for this activation server, each by a key of its own; they prove nothing."""
    tellers = [
        Teller(
            number=number, issuer=site.issuer, line_id=LineId(site.lines[0].line_id), secret=bytes(16), salt="nobody"
        )
        for number in range(count // 2)
    ]
    said = [message for both in say_all(tellers, 1, 2) for message in both]
    with file.open("w", encoding="ascii") as out:
        for start in range(0, len(said), BUNDLE):
            out.write(json.dumps(said[start : start + BUNDLE]) + "\n")


@contextmanager
def _pressing(*words: str) -> Iterator[dict[str, float]]:
    """A process of ``benchmarks.pressure``; what it did is there when it ended."""
    done: dict[str, float] = {}
    command = [sys.executable, "-m", "benchmarks.pressure", *words]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield done
        finally:
            process.stdin.close()
            done |= json.loads(process.stdout.readline() or "{}")
            process.wait(30)
            process.stdout.close()


def _count(site: Site) -> int:
    """Rows of every table that grows when a message is taken or something happens."""
    return sum(_ask(site, f"SELECT count(*) FROM {name}") for name in _GROWING)


_GROWING: Final = (
    *("messages", "field_servers", "incidents", "entries", "grants", "proofs"),
    *("outbox", "events", "deliveries", "trail", "holdings"),
)


def _strange_rows(site: Site, honest: int) -> int:
    """Field servers that nobody honest is, and everything that was noted about anybody."""
    return _ask(site, "SELECT count(*) FROM field_servers") - honest + _ask(site, "SELECT count(*) FROM incidents")


def _ask(site: Site, statement: str) -> int:
    url = site.database or f"sqlite:///{site.data / 'tallystick.sqlite'}"
    engine = dialect_for(url).open_engine(create=False)
    try:
        with engine.connect() as connection:
            return int(connection.execute(text(statement)).scalar_one())
    finally:
        engine.dispose()
