"""``python -m ha``: start the cluster, load it, break it, and look whether every promise was kept.

Exit code 1 when one was not, 2 when the run could not be made. Everything is on loopback and in one temporary
directory, which is kept (``--keep``, or when something went wrong) or removed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.parties import TALLYSTICK, Site, make_site
from benchmarks.prepared import say_all
from ha.clients import Client, Heard, Window, differing
from ha.cluster import Cluster
from ha.events import EVENTS, Event
from ha.processes import NotInTimeError, Processes

CLIENTS: Final = 8
MESSAGES: Final = 4500  # for each client: more than it can say
CALM_SECONDS: Final = 3.0  # before the first event, and after each
RUN_SECONDS: Final = 480  # then it ends by itself, whatever it waits for
BROKEN, NOT_MADE = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event, and what clients noticed of it."""

    name: str
    fail_over: float | None
    seconds: float
    window: Window

    def view(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "event": self.name,
            "new_leader_after_s": None if self.fail_over is None else round(self.fail_over, 1),
            "longest_silence_s": round(self.window.silence, 1),
            "longest_wait_of_one_message_s": round(self.window.longest_wait, 1),
            "retries": dict(self.window.retries),
            "answers": self.window.answers,
            "until_whole_again_s": round(self.seconds, 1),
        }


@dataclass(slots=True)
class Results:
    """What was seen."""

    begun: float
    rows: list[Row] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    replies: int = 0
    repeated: int = 0
    entries: int = 0

    def view(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "ok": not self.broken,
            "broken": self.broken,
            "replies": self.replies,
            "compared_again": self.repeated,
            "ledger_entries": self.entries,
            "seconds": round(time.monotonic() - self.begun, 1),
            "machine": f"{os.cpu_count()} cores, {platform.system()}, everything on loopback",
            "events": [row.view() for row in self.rows],
        }


class Run:
    """One run in ``home``."""

    def __init__(self, home: Path) -> None:
        self.processes = Processes(home)
        self.cluster = Cluster(self.processes)
        self.heard = Heard()
        self.results = Results(begun=time.monotonic())

    def say(self, text: str) -> None:
        """A line for whoever watches."""
        print(f"{time.monotonic() - self.results.begun:6.1f} s  {text}", file=sys.stderr, flush=True)

    def build(self) -> list[Client]:
        """Everything runs, and nobody has said anything."""
        cluster = self.cluster
        self.say("starting three etcd")
        cluster.start_etcd()
        self.say("starting three PostgreSQL under Patroni")
        cluster.start_members()
        cluster.make_database()
        self.say("starting two activation servers, a HAProxy beside each")
        first = cluster.add_server(self.processes.home / "activation1")
        site = make_site(first.data, database=first.database, lines=CLIENTS)
        shutil.copytree(first.data, self.processes.home / "activation2")
        cluster.add_server(self.processes.home / "activation2")
        for server in cluster.servers:
            cluster.launch_server(server)
        return self._clients(site)

    def _clients(self, site: Site) -> list[Client]:
        self.say(f"signing {CLIENTS * MESSAGES} messages")
        said = say_all(site.tellers(CLIENTS, salt="ha"), 1, MESSAGES)
        addresses = [server.address for server in self.cluster.servers]
        return [Client(number, addresses, messages, self.heard) for number, messages in enumerate(said)]

    def happen(self, event: Event) -> None:
        """One event, until the cluster is whole again and clients are answered."""
        begun = time.monotonic()
        self.say(f"-- {event.name}")
        try:
            fail_over = event.work(self.cluster, lambda text: self.say(f"   {text}"))
            self.cluster.settle()
        finally:
            whole = time.monotonic()
            time.sleep(CALM_SECONDS)
            window = self.heard.between(begun, time.monotonic())
        row = Row(name=event.name, fail_over=fail_over, seconds=whole - begun, window=window)
        self.results.rows.append(row)
        self.say(f"   whole again after {row.seconds:.1f} s; nobody was answered for {window.silence:.1f} s")

    def check(self) -> None:
        """Every reply is still there and the same, through either server; the books are right."""
        replies, results = self.heard.replies, self.results
        results.replies = len(replies)
        self.say(f"saying all {len(replies)} answered messages again, to both activation servers")
        said = list(replies)
        parts = [(server, said[start::4]) for server in self.cluster.servers for start in range(4)]
        with ThreadPoolExecutor(len(parts)) as pool:
            for (server, part), wrong in zip(
                parts, pool.map(lambda job: differing(job[0].address, job[1], self.heard), parts), strict=True
            ):
                results.repeated += len(part)
                results.broken += [f"{server.name} has another reply, or none, to {one[:60]}..." for one in wrong]
        server = self.cluster.servers[0]
        command = [*TALLYSTICK, "activation", "verify", "--data", str(server.data), "--database", server.database]
        done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False, timeout=60)
        verified = json.loads(done.stdout or "{}")
        results.entries = verified.get("entries", 0)
        if done.returncode or not verified.get("green"):
            results.broken.append(f"activation verify: {done.stdout} {done.stderr}")
        results.broken += self.heard.broken
        if not replies:
            results.broken.append("nobody was answered")

    def go(self, events: list[Event]) -> None:
        """All of it."""
        clients = self.build()
        for client in clients:
            client.start()
        time.sleep(CALM_SECONDS)
        try:
            for event in events:
                self.happen(event)
        finally:  # also of a run that got stuck: whether a reply was lost is the question
            for client in clients:
                client.stop()
            for client in clients:
                client.join(30)
            self.check()

    def close(self) -> None:
        """End everything."""
        self.processes.close()
        self.cluster.wires.close()


def show(results: Results) -> None:
    """The table."""
    table = Table(title="Fail-over under load: what clients noticed", title_justify="left")
    for name in ("event", "new leader\nafter, s", "nobody was\nanswered for, s", "one message\nwaited, s"):
        table.add_column(name, justify="left" if name == "event" else "right")
    table.add_column("answers", justify="right")
    table.add_column("what was heard instead, and tried again")
    for row in results.rows:
        retries = "\n".join(f"{count} x {what}" for what, count in row.window.retries.most_common())
        fail_over = "" if row.fail_over is None else f"{row.fail_over:.1f}"
        window = row.window
        table.add_row(
            row.name,
            fail_over,
            f"{window.silence:.1f}",
            f"{window.longest_wait:.1f}",
            str(window.answers),
            retries or "nothing",
        )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    for broken in results.broken[:10]:
        console.print(f"BROKEN: {broken}", markup=False)
    if not results.broken:
        console.print(
            f"Kept: {results.replies} replies, each said again to both activation servers and the same byte for byte; "
            f"verify is green over {results.entries} entries; nothing was heard but replies and retryable errors."
        )


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="make ha", description=__doc__)
    parser.add_argument("--only", type=int, action="append", help="number of an event, from 1; may be repeated")
    parser.add_argument("--results", type=Path, help="write what was seen to this file, as JSON")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    parser.add_argument("--keep", action="store_true", help="keep the directory with logs and data")
    options = parser.parse_args()
    events = [EVENTS[number - 1] for number in options.only or range(1, len(EVENTS) + 1)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(NOT_MADE))
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(RUN_SECONDS)
    home = Path(tempfile.mkdtemp(prefix="tallystick-ha-"))
    home.chmod(0o755)
    run, code = Run(home), NOT_MADE
    try:
        run.go(events)
        code = BROKEN if run.results.broken else 0
    except (NotInTimeError, FileNotFoundError) as error:
        run.results.broken.append(f"the run was not finished: {error}")
    finally:
        signal.alarm(0)
        run.close()
        if code == 0 and not options.keep:
            shutil.rmtree(home, ignore_errors=True)
        else:
            run.say(f"logs and data are in {home}")
    view = json.dumps(run.results.view(), indent=1, ensure_ascii=False)
    if options.results:
        options.results.write_text(view + "\n", "utf-8")
    if options.json:
        print(view)
    else:
        show(run.results)
    return code


def _too_long(*_: object) -> None:
    raise NotInTimeError(f"the end within {RUN_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
