"""``python -m benchmarks.layers``: where the processor time of a message goes; writes ``docs/performance/profile.md``.

Two looks at the same messages on PostgreSQL: the threads of a server under 32 connections, from outside, and the steps
of batches of sixteen in this process. Processor time only: what waits costs nothing here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks.parties import Site, Story, processor_seconds
from benchmarks.rows import CONNECTIONS, Bench, bare_seconds, libsodium_seconds
from tallystick.activation.core import exchanges, issuing
from tallystick.activation.storage.transaction import SqlTransaction
from tallystick.protocol import tallyfile

PAGE: Final = Path("docs/performance/profile.md")
BATCH: Final = 16  # what 32 connections come to, half of them waiting for the batch before
_HERTZ: Final = os.sysconf("SC_CLK_TCK")


class Clock:
    """Processor time of this thread by step, microseconds a message."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.messages = 0

    def timed(self, step: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time noted."""

        def run(*arguments: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return work(*arguments, **named)
            finally:
                self.spent[step] = self.spent.get(step, 0.0) + time.thread_time() - start

        return run

    def of(self, step: str) -> float:
        """Microseconds a message."""
        return self.spent.get(step, 0.0) / self.messages * 1e6


def steps(site: Site, messages: list[str]) -> Clock:
    """Take messages in batches in this process."""
    clock = Clock()
    patched: list[tuple[Any, str, str]] = [
        (SqlTransaction, "load_asked", "load"),
        (SqlTransaction, "save", "save"),
        (SqlTransaction, "finish", "save"),
    ]
    patched += [(issuing, "_take", "take")]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in patched]
    for owner, name, step in patched:
        setattr(owner, name, clock.timed(step, getattr(owner, name)))
    try:
        with site.opened() as activation:
            signer = activation.signer
            object.__setattr__(signer, "sign", clock.timed("sign", signer.sign))
            for start in range(0, len(messages), BATCH):
                if start == 8 * BATCH:  # warm by now
                    clock.spent.clear()
                    clock.messages = 0
                body = "".join(message + "\n" for message in messages[start : start + BATCH]).encode()
                chunk = clock.timed("open", lambda body=body: list(tallyfile.parse_chunks([body])))()
                lines = clock.timed("read", exchanges.read_lines)(chunk, signer.keyset)
                clock.timed("process", activation.process)(exchanges.messages_of(lines))
                clock.messages += BATCH
    finally:
        for owner, name, work in kept:
            setattr(owner, name, work)
    return clock


def threads(pid: int) -> list[float]:
    """Processor seconds of every thread of a process, in the order in which they were started."""
    found = []
    for task in sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda path: int(path.name)):
        fields = (task / "stat").read_text("ascii").rsplit(")", 1)[1].split()
        found.append((int(fields[11]) + int(fields[12])) / _HERTZ)
    return found


def served(bench: Bench, site: Site) -> dict[str, float]:
    """The parts of a server under load, microseconds a message."""
    story = Story(site, bench.many(640), salt="threads")
    database = int((bench.cluster.data / "postmaster.pid").read_text("ascii").split()[0])
    with site.served(1) as service:
        service.load(story.spread(CONNECTIONS, 6))
        load = story.spread(CONNECTIONS, 20)
        before, other = threads(service.process.pid), processor_seconds(database)
        service.load(load)
        time.sleep(2)  # the last events get their places
        spent = [b - a for a, b in zip(before, threads(service.process.pid), strict=False)]
        count = sum(map(len, load))
        first, second, third, *rest = (seconds / count * 1e6 for seconds in sorted(spent, reverse=True))
        # The event loop and the thread of the batches are the busiest two, the chore of the events comes next.
        return {
            "loop and batches": first + second,
            "events": third + sum(rest),
            "database": (processor_seconds(database) - other) / count * 1e6,
        }


def main() -> None:
    """Measure and write the page."""
    with Bench.opened(float(os.environ.get("BENCH_SCALE", "1"))) as bench:
        site = bench.site("postgresql")
        parts = served(bench, site)
        story = Story(site, bench.many(640), salt="steps")
        clock = steps(site, [message for turn in zip(*story.next(8), strict=True) for message in turn])
    openssl, bare = bare_seconds() * 1e6, libsodium_seconds() * 1e6
    inside = clock.of("open") + clock.of("read") + clock.of("process")
    table = [
        ("verify a message and sign its reply, bare Ed25519 by libsodium", bare),
        ("take the envelope apart, read its claims strictly", clock.of("open") + clock.of("read") + clock.of("sign") - bare),
        ("decide and book: reservation rule, double entry, chain, claims of the reply", clock.of("take") - clock.of("sign")),
        ("rows from the database: one round trip a batch", clock.of("load")),
        ("rows to the database, and the commit: one round trip a batch", clock.of("save")),
        ("the rest of a batch: connection, locks, events told", clock.of("process") - clock.of("take") - clock.of("load") - clock.of("save")),
        ("HTTP, sockets, hand-over between the event loop and the thread of the batches", parts["loop and batches"] - inside),
        ("places in the stream of events, once a second", parts["events"]),
    ]  # fmt: skip
    whole = parts["loop and batches"] + parts["events"]
    rows = [f"| {name} | {value:.0f} | {value / whole:.0%} |" for name, value in table]
    load = os.getloadavg()[0]
    at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    PAGE.write_text(_TEXT.format(at=at, load=load, rows="\n".join(rows), whole=whole, database=parts["database"], bare=bare, openssl=openssl, together=whole + parts["database"], inside=inside), "utf-8")  # fmt: skip
    print(PAGE.read_text("utf-8"))


_TEXT: Final = """# Where the time goes

Written by `python -m benchmarks.layers` on {at}, load average {load:.1f}. Processor time a message, one activation process
on PostgreSQL, 32 connections; the steps inside were measured in batches of sixteen (the server's were larger, so what is left for HTTP is a little too low).

| | microseconds | |
| --- | --- | --- |
{rows}
| **the activation process** | **{whole:.0f}** | |
| PostgreSQL | {database:.0f} | |
| **both** | **{together:.0f}** | |

## Why a lone message (B3) is slower than its limit

pgbench does its seven round trips in 0.75 to 0.85 milliseconds here; 0.8 of its rate would be about one. Our two round trips
of PostgreSQL, with the wait for the disk, take 0.7 by themselves: pgbench's own client needs as long for our
statements. A batch of one costs the activation process about 0.5 milliseconds in Python (one message in a batch of
sixteen {inside:.0f} microseconds, Ed25519 included): nobody shares its begin, its look at the past and its commit, and caches are cold.
The rest are wake-ups: client, event loop, thread of the batches and database wait for each other, one after the other.

## What made the difference

* **The event loop and the batches take turns.** Two threads of one process that both want Python's lock cost each other
  more than they gain: a message took 297 microseconds of the process while they overlapped, 193 since a batch begins when
  the loop is at rest. Batches became twice as large by it, too.
* **Few round trips.** A batch asks in one and writes, with its commit, in another, on libpq itself.
* **libsodium**: {bare:.0f} microseconds to verify and sign, where OpenSSL takes {openssl:.0f}. The limit of B4 was set with OpenSSL's figure,
  and B4 goes on measuring beside OpenSSL; beside libsodium it would be about half.

What was tried and not kept: two batches at once in one process (smaller batches, 10 in 100 slower), a shorter switch
interval of Python's lock (no difference), psycopg's own pipeline (it costs more than it saves), asyncio's own loop
instead of uvloop (4 to 7 in 100 more on the loop's thread), rows of large batches one by one (half as much again).
"""


if __name__ == "__main__":
    main()
