"""Real processes to measure: an activation server on SQLite or PostgreSQL, and what it has to know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.prepared import Teller, say_all
from support.authority import Authority
from tallystick.activation.core import entitlements, exchanges
from tallystick.activation.server.instance import Activation, open_activation
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Line
from tallystick.protocol import tallyfile

TALLYSTICK: Final = (sys.executable, "-m", "tallystick")
CATALOG: Final = Catalog(
    kinds=("AS-P",),
    products={"bench": Product(sku="bench", name="Bench", kinds=frozenset({"AS-P"}), features={"bench": 1})},
)


@dataclass(slots=True)
class Site:
    """A data directory with lines, and the field servers that take from them."""

    data: Path
    database: str | None
    issuer: str
    lines: list[Line]

    def tellers(self, count: int, *, salt: str, lines: int | None = None) -> list[Teller]:
        """``count`` field servers over the first ``lines`` lines."""
        chosen = self.lines[:lines]
        return [
            Teller(
                number=number,
                issuer=self.issuer,
                line_id=chosen[number % len(chosen)].line_id,
                secret=chosen[number % len(chosen)].secret,
                salt=salt,
            )
            for number in range(count)
        ]

    @contextmanager
    def opened(self) -> Iterator[Activation]:
        """The activation server in this process."""
        activation = open_activation(self.data, database=self.database)
        try:
            yield activation
        finally:
            activation.close()

    def post(self, messages: list[str]) -> None:
        """Take messages in this process, without measuring anything."""
        lines = tallyfile.parse_chunks([message.encode() + b"\n" for message in messages])
        with self.opened() as activation:
            for chunk in exchanges.chunks(lines):
                activation.process(exchanges.messages_of(exchanges.read_lines(chunk, activation.signer.keyset)))

    @contextmanager
    def served(self, workers: int, *, authority: Authority | None = None) -> Iterator[Service]:
        """The activation server as a process, by TLS with a certificate of an ``authority``."""
        command = [*TALLYSTICK, "activation", "serve", "--data", str(self.data), "--port", "0", "--json"]
        command += ["--workers", str(workers)] if workers != 1 else []
        command += ["--database", self.database] if self.database else []
        if authority is not None:
            both = str(authority.certify("localhost"))
            command += ["--certificate", both, "--key", both]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield Service(process=process, url=url, trusted=authority.file if authority else None)
        finally:
            process.terminate()
            process.wait(timeout=30)


@dataclass(slots=True)
class Service:
    """A running activation server."""

    process: subprocess.Popen[str]
    url: str
    trusted: Path | None = None

    def load(self, per_connection: list[list[str]]) -> dict[str, Any]:
        """Post from a process of its own; see ``benchmarks.load``."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps(messages) + "\n" for messages in per_connection)
            file.flush()
            command = [sys.executable, "-m", "benchmarks.load", self.url, file.name]
            command += [str(self.trusted)] if self.trusted else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        if found["refused"]:
            raise SystemExit(f"{found['refused']} messages were refused: nothing was measured")
        return found

    def memory_mib(self) -> float:
        """The most memory that any of its processes ever had, MiB."""
        pids = [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii").split()
        pids += map(int, children)
        return max(peak_mib(pid) for pid in pids)


def peak_mib(pid: int, name: str = "VmHWM") -> float:
    """Resident memory of a process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise ValueError(name)


def make_site(home: Path, *, database: str | None, lines: int) -> Site:
    """``init``, a catalog, and an entitlement with as many lines as wanted."""
    command = [*TALLYSTICK, "activation", "init", "--data", str(home), "--json"]
    command += ["--database", database] if database else []
    issuer = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)["issuer"]
    site = Site(data=home, database=database, issuer=issuer, lines=[])
    with site.opened() as activation:
        activation.transact(lambda tx: tx.save_catalog(CATALOG))
        while len(site.lines) < lines:
            products = [("bench", 1_000_000_000)] * min(100, lines - len(site.lines))
            buy = partial(
                entitlements.create_entitlement,
                signer=activation.signer,
                account="bench",
                products=products,
                expires_at=None,
                random_bytes=activation.random_bytes,
                by="bench",
                now=activation.now(),
            )
            bought = activation.transact(buy)
            site.lines += bought.lines
    return site


class Story:
    """Field servers that are known and go on talking: each round of messages follows the one before."""

    def __init__(self, site: Site, field_servers: int, *, salt: str, lines: int | None = None, told: int = 2) -> None:
        self.site = site
        self.tellers = site.tellers(field_servers, salt=salt, lines=lines)
        self.sequence = 1
        site.post([message for said in self.next(told) for message in said])

    def next(self, count: int) -> list[list[str]]:
        """The next ``count`` messages of each field server."""
        said = say_all(self.tellers, self.sequence, count)
        self.sequence += count
        return said

    def spread(self, connections: int, per_field_server: int) -> list[list[str]]:
        """The next messages, for so many connections; those of one field server stay on one, in order."""
        said = self.next(per_field_server)
        spread: list[list[str]] = [[] for _ in range(connections)]
        for turn in range(per_field_server):
            for number, mine in enumerate(said):
                spread[number % connections].append(mine[turn])
        return spread


def processor_seconds(pid: int) -> float:
    """Processor time of a process and of everything that it started, ended or not."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return 0.0
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)
