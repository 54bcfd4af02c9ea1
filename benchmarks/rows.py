"""The rows of the activation server: B1 to B6 and B9 to B11."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

from benchmarks.parties import Site, Story, make_site, processor_seconds
from benchmarks.pgbench import Rival
from benchmarks.prepared import say_all
from support.authority import Authority
from support.postgres import Cluster
from tallystick.activation.storage import migrate_database

ROUNDS: Final = 3
LINES: Final = 1000
CONNECTIONS: Final = 32
PGBENCH_SECONDS: Final = 6


@dataclass(kw_only=True)
class Row:
    """A figure beside its limit. ``at_least``: whether more is better."""

    name: str
    what: str
    figure: float
    limit: float | None
    unit: str
    at_least: bool = True
    extra: dict[str, Any] = field(default_factory=dict)
    taken_on: dict[str, Any] = field(default_factory=dict)

    @property
    def is_reached(self) -> bool | None:
        """None where no figure was asked for."""
        if self.limit is None:
            return None
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    @property
    def figure_text(self) -> str:
        return f"{self.figure:,.3g} {self.unit}" if self.figure < 100 else f"{self.figure:,.0f} {self.unit}"

    @property
    def limit_text(self) -> str:
        if self.limit is None:
            return "shown"
        sign = "at least" if self.at_least else "at most"
        return f"{sign} {self.limit:,.3g} {self.unit}" if self.limit < 100 else f"{sign} {self.limit:,.0f} {self.unit}"

    @property
    def ratio_text(self) -> str:
        return "" if not self.limit else f"{self.figure / self.limit:.2f}"

    @property
    def verdict(self) -> str:
        return {None: "", True: "reached", False: "missed"}[self.is_reached]


@dataclass
class Bench:
    """A PostgreSQL, a rival on it, and sites."""

    cluster: Cluster
    rival: Rival
    home: Path
    scale: float
    workers: int = 2
    _sites: dict[str, Site] = field(default_factory=dict)
    _taken: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def opened(cls, scale: float) -> Iterator[Bench]:
        settings = {
            "deadlock_timeout": "1s",
            "shared_buffers": "512MB",
            "max_connections": "100",
            "max_wal_size": "4GB",
        }
        cluster = Cluster(**settings)
        home = Path(tempfile.mkdtemp(prefix="tallystick-bench-"))
        try:
            url = cluster.new_database()
            migrate_database(url)
            yield cls(cluster=cluster, rival=Rival(cluster, url), home=home, scale=scale)
        finally:
            cluster.remove()
            shutil.rmtree(home, ignore_errors=True)

    def site(self, engine: str) -> Site:
        """The site on ``engine``, made when it is first asked for."""
        if engine not in self._sites:
            database = self.cluster.new_database() if engine == "postgresql" else None
            self._sites[engine] = make_site(self.home / engine, database=database, lines=LINES)
        return self._sites[engine]

    def many(self, count: int) -> int:
        """A count, scaled."""
        return max(64, round(count * self.scale))

    def rivalry(self, engine: str, connections: int, *, workers: int) -> dict[str, Any]:
        """Ours and pgbench in turns, with the same number of clients, after our own warm-up."""
        name = f"{engine} {connections} {workers}"
        if name not in self._taken:
            story = Story(self.site(engine), self.many(640), salt=name)
            ours, theirs = [], []
            with self.site(engine).served(workers) as service:
                for turn in range(ROUNDS + 1):
                    per_server = 10 if connections > 1 else 2
                    load = story.spread(connections, per_server)
                    database = int((self.cluster.data / "postmaster.pid").read_text("ascii").split()[0])
                    spent = [processor_seconds(database)]
                    rival = self.rival.run(connections, PGBENCH_SECONDS)
                    spent += [processor_seconds(database), processor_seconds(service.process.pid)]
                    measured = service.load(load)
                    count = sum(map(len, load))
                    rival["database_us"] = (spent[1] - spent[0]) / (rival["rate"] * PGBENCH_SECONDS) * 1e6
                    measured["database_us"] = (processor_seconds(database) - spent[1]) / count * 1e6
                    measured["server_us"] = (processor_seconds(service.process.pid) - spent[2]) / count * 1e6
                    if turn:  # the first one warms up
                        ours.append(measured)
                        theirs.append(rival)
            self._taken[name] = {
                "ours": ours,
                "pgbench": theirs,
                "rate": statistics.median(one["rate"] for one in ours),
                "pgbench_rate": statistics.median(one["rate"] for one in theirs),
                "ratio": statistics.median(a["rate"] / b["rate"] for a, b in zip(ours, theirs, strict=True)),
                "server_us": statistics.median(one["server_us"] for one in ours),
                "database_us": statistics.median(one["database_us"] for one in ours),
                "pgbench_database_us": statistics.median(one["database_us"] for one in theirs),
                "tail": statistics.median(one["p99_ms"] / one["p50_ms"] for one in ours),
            }
        found: dict[str, Any] = self._taken[name]
        return found


def b1_single_messages(bench: Bench) -> list[Row]:
    """Single messages over HTTP, 32 connections, PostgreSQL."""
    rows = []
    for workers in (1, bench.workers):
        taken = bench.rivalry("postgresql", CONNECTIONS, workers=workers)
        what = f"messages/s beside pgbench, {CONNECTIONS} connections, PostgreSQL, {workers} worker{'s'[: workers > 1]}"
        limit = 1.0 if workers == 1 else 1.5
        rows.append(Row(name="B1", what=what, figure=taken["ratio"], limit=limit, unit="of pgbench", extra=taken))
        what = f"p99 over p50, {workers} worker{'s'[: workers > 1]}"
        rows.append(Row(name="B1", what=what, figure=taken["tail"], limit=4, unit="times", at_least=False))
    return rows


def b2_sqlite(bench: Bench) -> list[Row]:
    """The same on SQLite, ``synchronous=FULL``."""
    taken = bench.rivalry("sqlite", CONNECTIONS, workers=1)
    what = f"messages/s beside B1's pgbench, {CONNECTIONS} connections, SQLite"
    return [Row(name="B2", what=what, figure=taken["ratio"], limit=1.2, unit="of pgbench", extra=taken)]


def b3_one_at_a_time(bench: Bench) -> list[Row]:
    """One connection, one message at a time."""
    return _few(bench, "B3", 1, limits={"postgresql": 0.8, "sqlite": 1.5})


def b3b_eight(bench: Bench) -> list[Row]:
    """Eight connections: batches of a few messages."""
    return _few(bench, "B3b", 8, limits={"postgresql": 1.0, "sqlite": 1.0})


def _few(bench: Bench, name: str, connections: int, *, limits: dict[str, float]) -> list[Row]:
    rows = []
    for engine, limit in limits.items():
        taken = bench.rivalry(engine, connections, workers=1)
        what = f"messages/s beside pgbench, {connections} connection{'s'[: connections > 1]}, {engine}"
        rows.append(Row(name=name, what=what, figure=taken["ratio"], limit=limit, unit="of pgbench", extra=taken))
    return rows


def b10_processor_time(bench: Bench) -> list[Row]:
    """What a message costs, all processes, the database's, too."""
    rows = []
    for workers, limit in ((1, 240.0), (bench.workers, None)):
        taken = bench.rivalry("postgresql", CONNECTIONS, workers=workers)
        what = (
            f"processor time a message, all processes, {CONNECTIONS} connections, {workers} worker{'s'[: workers > 1]}"
        )
        figure = taken["server_us"] + taken["database_us"]
        rows.append(Row(name="B10", what=what, figure=figure, limit=limit, unit="microseconds", at_least=False))
    return rows


def b11_tls(bench: Bench) -> list[Row]:
    """The same messages over the activation server's own TLS, beside none, in turns; connections are kept."""
    site = bench.site("postgresql")
    story = Story(site, bench.many(640), salt="tls")
    rates: tuple[list[float], list[float]] = ([], [])
    with site.served(1) as plain, site.served(1, authority=Authority(bench.home)) as secret:
        for turn in range(ROUNDS + 1):
            for service, found in zip((plain, secret), rates, strict=True):
                rate = service.load(story.spread(CONNECTIONS, 10))["rate"]
                if turn:  # the first one warms up
                    found.append(rate)
    ratio = statistics.median(b / a for a, b in zip(*rates, strict=True))
    what = f"messages/s over TLS beside plain HTTP, {CONNECTIONS} connections, PostgreSQL, 1 worker"
    return [Row(name="B11", what=what, figure=ratio, limit=0.9, unit="of plain", extra={"rates": rates})]


def b4_bundle(bench: Bench) -> list[Row]:
    """A bundle from file to replies, beside the bare arithmetic."""
    rows = []
    for engine in ("postgresql", "sqlite"):
        site, ratios, rates = bench.site(engine), [], []
        story = Story(site, bench.many(5000), salt=f"bundle {engine}")
        bundle: list[str] = []
        with site.served(1) as service:
            for _ in range(ROUNDS):
                bundle = [message for turn in zip(*story.next(2), strict=True) for message in turn]
                before = bare_seconds()
                start = time.perf_counter()
                replies = post_bundle(service.url, bundle)
                seconds = time.perf_counter() - start
                bare = (before + bare_seconds()) / 2 * len(bundle)
                if replies != len(bundle):
                    raise SystemExit(f"{replies} replies to {len(bundle)} messages")
                ratios.append(bare / seconds)
                rates.append(len(bundle) / seconds)
        what = f"a bundle of {len(bundle):,} by HTTP, {engine}, beside OpenSSL's bare verify-and-sign on one core"
        extra = {"rate": statistics.median(rates), "ratios": ratios, "libsodium_us": libsodium_seconds() * 1e6}
        rows.append(Row(name="B4", what=what, figure=statistics.median(ratios), limit=0.5, unit="of bare", extra=extra))
    return rows


def b5_one_line(bench: Bench) -> list[Row]:
    """All field servers on one line, beside spread over a thousand."""
    site = bench.site("postgresql")
    rates: dict[int, list[float]] = {1: [], LINES: []}
    stories = {lines: Story(site, bench.many(640), salt=f"on {lines}", lines=lines) for lines in rates}
    with site.served(1) as service:
        for turn in range(ROUNDS + 1):
            for lines, story in stories.items():
                rate = service.load(story.spread(CONNECTIONS, 6))["rate"]
                if turn:
                    rates[lines].append(rate)
    ratio = statistics.median(one / many for one, many in zip(rates[1], rates[LINES], strict=True))
    return [
        Row(
            name="B5",
            what="one line beside 1,000 lines",
            figure=ratio,
            limit=0.8,
            unit="of the rate",
            extra={"rates": {str(k): v for k, v in rates.items()}},
        )
    ]


def b6_history(bench: Bench) -> list[Row]:
    """1,000 field servers beside 1,000,000 with ten grants of history each."""
    small = make_site(bench.home / "small", database=bench.cluster.new_database(), lines=LINES)
    large = make_site(bench.home / "large", database=bench.cluster.new_database(), lines=LINES)
    grow(bench, large, bench.many(1_000_000))
    few = bench.many(1000)
    stories = [Story(site, few, salt="history", told=20) for site in (small, large)]  # ten grants, ten returns
    for site in (small, large):  # both are known to the planner, as autovacuum would have it
        assert site.database is not None
        bench.cluster.sql("VACUUM ANALYZE", database=site.database.split("/")[3].split("?")[0])
    p50s: list[list[float]] = [[], []]
    with small.served(1) as first, large.served(1) as second:
        for turn in range(3 * ROUNDS + 2):  # many, and short: so few milliseconds are easily disturbed
            for place, service in enumerate((first, second)):
                p50 = service.load(stories[place].spread(8, 4))["p50_ms"]
                if turn > 1:
                    p50s[place].append(p50)
    ratio = statistics.median(b / a for a, b in zip(*p50s, strict=True))
    what = f"p50 with {bench.many(1_000_000):,} field servers and ten grants each, beside {few:,}"
    return [Row(name="B6", what=what, figure=ratio, limit=1.2, unit="times", at_least=False, extra={"p50_ms": p50s})]


def grow(bench: Bench, site: Site, count: int) -> None:
    """Field servers with a history, written by the database itself."""
    assert site.database is not None
    database = site.database.split("/")[3].split("?")[0]
    line = site.lines[0].line_id
    device = "rpad('h' || n, 43, 'h')"
    statements = (
        f"""INSERT INTO field_servers (device_id, public_key, account, kind, host_id, name, software, status, epoch, spoken_epoch,
sequence, number, proven, outstanding, first_seen_at, last_seen_at) SELECT {device}, 'key', 'bench', 'AS-P', 'host-h' || n, 'h ' || n, '1', 'active', 1, 1, 10,
        10, 10, '[[1,10,{{"{line}":1}}]]', 0, 0 FROM generate_series(1, {count}) n""",
        f"""INSERT INTO grants SELECT {device}, g, 'bench', 1, substr(md5(n || '-' || g) || md5(n || '+' || g), 1, 43), 0, NULL
        FROM generate_series(1, {count}) n, generate_series(1, 10) g""",
        f"""INSERT INTO messages SELECT substr(md5(n || ' ' || g) || md5(n || '.' || g), 1, 43), {device}, 'bench', 1, g,
        'activate', 0, 'granted', NULL, '', repeat(md5(n || ':' || g), 4)
        FROM generate_series(1, {count}) n, generate_series(1, 10) g""",
    )
    for statement in statements:
        bench.cluster.sql(statement, database=database)


def b9_memory(bench: Bench) -> list[Row]:
    """Memory of the activation server while it takes a bundle of a million."""
    site = bench.site("postgresql")
    count = bench.many(1_000_000)
    tellers = site.tellers(count // 20, salt="million")
    path = bench.home / "million.tally"
    with path.open("w", encoding="ascii") as file:
        for said in say_all(tellers, 1, 20):
            file.writelines(message + "\n" for message in said)
    with site.served(1) as service:
        start = time.perf_counter()
        replies = post_file(service.url, path)
        seconds = time.perf_counter() - start
        memory = service.memory_mib()
    path.unlink()
    if replies < count // 20 * 20:
        raise SystemExit(f"{replies} replies to {count} messages")
    what = f"memory while a bundle of {count // 20 * 20:,} is taken"
    extra = {"rate": count / seconds, "seconds": seconds}
    return [Row(name="B9", what=what, figure=memory, limit=300, unit="MiB", at_least=False, extra=extra)]


def bare_seconds() -> float:
    """One verification and one signature of our size by OpenSSL, with which the limits were set, on one core, now."""
    key = Ed25519PrivateKey.generate()
    public, data = key.public_key(), os.urandom(700)
    signature = key.sign(data)
    start = time.process_time()
    for _ in range(1000):
        public.verify(signature, data)
        key.sign(data)
    return (time.process_time() - start) / 1000


def libsodium_seconds() -> float:
    """The same by libsodium, which Tallystick uses."""
    public, private = crypto_sign_seed_keypair(os.urandom(32))
    signed = crypto_sign(os.urandom(700), private)
    start = time.process_time()
    for _ in range(1000):
        crypto_sign(crypto_sign_open(signed, public), private)
    return (time.process_time() - start) / 1000


def post_bundle(url: str, bundle: list[str]) -> int:
    """The number of replies."""
    body = "\n".join(bundle).encode() + b"\n"
    request = urllib.request.Request(f"{url}/v1/messages", body, {"Content-Type": "application/x-tally"})
    with urllib.request.urlopen(request, timeout=600) as reply:
        return sum(line.startswith(b"eyJ") for line in reply)


def post_file(url: str, path: Path) -> int:
    """The same from a file, as it is."""
    with path.open("rb") as file:
        headers = {"Content-Type": "application/x-tally", "Content-Length": str(path.stat().st_size)}
        request = urllib.request.Request(f"{url}/v1/messages", file, headers)
        with urllib.request.urlopen(request, timeout=7200) as reply:
            return sum(line.startswith(b"eyJ") for line in reply)
