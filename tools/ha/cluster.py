"""The machines of one run: three etcd, three PostgreSQL under Patroni, two activation servers with a HAProxy each.

The configuration is that of ``examples/high-availability``, unchanged; addresses, directories and passwords of this run
are in the environment, as the examples' ``.env`` files say.
"""

from __future__ import annotations

import contextlib
import json
import secrets  # noqa: TID251 - passwords of this run
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psycopg

from ha.processes import EXAMPLES, NotInTimeError, Processes, example_environment, tree_of, wait_for
from ha.wires import Wires
from support.postgres import program

MEMBERS: Final = ("pg1", "pg2", "pg3")
SERVERS: Final = ("activation1", "activation2")
DATABASE: Final = "tallystick"
START_SECONDS: Final = 60.0
SETTLE_SECONDS: Final = 75.0


def find_program(name: str) -> str:
    """A program that the packages bring. Raises ``FileNotFoundError``."""
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin") or shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed (make ha installs it)")
    return path


def ask(url: str, *, seconds: float = 1.0, body: object = None, password: str | None = None) -> tuple[int, str]:
    """Status and text of an HTTP exchange; status 0 when there is none."""
    request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())  # noqa: S310 - ours
    if password is not None:
        request.add_header("Authorization", "Basic " + b64encode(f"patroni:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=seconds) as reply:  # noqa: S310 - see above
            return reply.status, reply.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("utf-8", "replace")
    except (OSError, ValueError):
        return 0, ""


@dataclass(slots=True)
class Etcd:
    """One member of etcd."""

    name: str
    client_port: int
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None


@dataclass(slots=True)
class Member:
    """One PostgreSQL with its Patroni."""

    name: str
    port: int
    rest_port: int
    data: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    @property
    def postmaster(self) -> int | None:
        """The server's process, if it runs."""
        try:
            return int((self.data / "postmaster.pid").read_text("utf-8").split()[0])
        except (OSError, ValueError, IndexError):
            return None

    @property
    def server_pids(self) -> list[int]:
        """PostgreSQL's processes."""
        pid = self.postmaster
        return tree_of(pid) if pid is not None and Path(f"/proc/{pid}").exists() else []

    @property
    def pids(self) -> list[int]:
        """Patroni's processes and PostgreSQL's."""
        return [*(tree_of(self.process.pid) if self.process is not None else []), *self.server_pids]

    def is_leader(self) -> bool:
        """Whether its Patroni says so, asked on its own machine."""
        return ask(f"http://127.0.0.1:{self.rest_port}/primary", seconds=0.5)[0] == 200


@dataclass(slots=True)
class Server:
    """One activation server, and the HAProxy beside it."""

    name: str
    data: Path
    port: int
    proxy_port: int
    database: str
    process: subprocess.Popen[bytes] | None = None
    proxy: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where clients reach it."""
        return "127.0.0.1", self.port


class Cluster:
    """All machines."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.wires = Wires(lambda machine: self.members[machine].pids if machine in self.members else ())
        self.password = secrets.token_hex(16)
        self.etcds: list[Etcd] = []
        self.members: dict[str, Member] = {}
        self.servers: list[Server] = []
        for name in ("patroni.yml", "haproxy.cfg"):  # where whoever runs it may read it
            (processes.home / name).write_text((EXAMPLES / name).read_text("utf-8"), "utf-8")

    # To begin

    def start_etcd(self) -> None:
        """Three of them."""
        names = ("etcd1", "etcd2", "etcd3")
        peers = {name: f"http://127.0.0.1:{self.processes.port()}" for name in names}
        for name in names:
            port = self.processes.port()
            environment = example_environment(
                "etcd.env",
                {
                    "ETCD_NAME": name,
                    "ETCD_DATA_DIR": str(self.processes.directory(name)),
                    "ETCD_LISTEN_CLIENT_URLS": f"http://127.0.0.1:{port}",
                    "ETCD_ADVERTISE_CLIENT_URLS": f"http://127.0.0.1:{self.wires.lay(name, port)}",
                    "ETCD_LISTEN_PEER_URLS": peers[name],
                    "ETCD_INITIAL_ADVERTISE_PEER_URLS": peers[name],
                    "ETCD_INITIAL_CLUSTER": ",".join(f"{peer}={url}" for peer, url in peers.items()),
                },
            )
            self.etcds.append(Etcd(name=name, client_port=port, environment=environment))
        for etcd in self.etcds:
            self.launch_etcd(etcd)
        for etcd in self.etcds:
            self.wait_for_etcd(etcd)

    def launch_etcd(self, etcd: Etcd) -> None:
        """Start one, and do not wait."""
        etcd.process = self.processes.start(etcd.name, [find_program("etcd")], etcd.environment)

    def wait_for_etcd(self, etcd: Etcd) -> None:
        """Until it is healthy."""
        url = f"http://127.0.0.1:{etcd.client_port}/health"
        wait_for(etcd.name, lambda: '"true"' in ask(url)[1] or None, START_SECONDS)

    def start_members(self) -> None:
        """The first one makes the cluster, the others copy it."""
        clients = ",".join(
            etcd.environment["ETCD_ADVERTISE_CLIENT_URLS"].removeprefix("http://") for etcd in self.etcds
        )
        for name in MEMBERS:
            home, port, rest_port = self.processes.directory(name), self.processes.port(), self.processes.port()
            rest = f"127.0.0.1:{self.wires.lay(name, rest_port)}"
            environment = example_environment(
                "patroni.env",
                {
                    "PATRONI_NAME": name,
                    "PATRONI_RESTAPI_LISTEN": f"127.0.0.1:{rest_port}",
                    "PATRONI_RESTAPI_CONNECT_ADDRESS": rest,
                    "PATRONI_RESTAPI_PASSWORD": self.password,
                    "PATRONI_ETCD_HOSTS": clients,
                    "PATRONI_POSTGRESQL_LISTEN": f"127.0.0.1:{port}",
                    "PATRONI_POSTGRESQL_CONNECT_ADDRESS": f"127.0.0.1:{self.wires.lay(name, port)}",
                    "PATRONI_POSTGRESQL_DATA_DIR": str(home / "data"),
                    "PATRONI_POSTGRESQL_BIN_DIR": str(Path(program("postgres")).parent),
                    "PATRONI_POSTGRESQL_PGPASS": str(home / "pgpass"),
                    "PATRONI_SUPERUSER_PASSWORD": self.password,
                    "PATRONI_REPLICATION_PASSWORD": self.password,
                },
            )
            self.members[name] = Member(
                name=name, port=port, rest_port=rest_port, data=home / "data", environment=environment
            )
        for member in self.members.values():
            self.launch_member(member)
            if member.name == MEMBERS[0]:
                wait_for("the first leader", lambda member=member: member.is_leader() or None, START_SECONDS)  # type: ignore[misc]  # mypy infers no type for a lambda with a default
        self.settle()

    def launch_member(self, member: Member) -> None:
        """Start one, and do not wait."""
        command: list[str | Path] = [find_program("patroni"), self.processes.home / "patroni.yml"]
        member.process = self.processes.start(member.name, command, member.environment)

    def make_database(self) -> None:
        """A role and a database, as an operator makes them."""
        leader = self.leader()
        with psycopg.connect(self._superuser(leader), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE tally LOGIN PASSWORD '{self.password}'")
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER tally")

    def _superuser(self, member: Member) -> str:
        return f"host=127.0.0.1 port={member.port} user=postgres password={self.password} dbname=postgres"

    def add_server(self, data: Path) -> Server:
        """An activation server on ``data``, which may not exist yet; its HAProxy is started."""
        name, proxy_port = SERVERS[len(self.servers)], self.processes.port()
        database = f"postgresql+psycopg://tally:{self.password}@127.0.0.1:{proxy_port}/{DATABASE}"
        server = Server(name=name, data=data, port=self.processes.port(), proxy_port=proxy_port, database=database)
        self.servers.append(server)
        self.launch_proxy(server)
        return server

    def launch_proxy(self, server: Server) -> None:
        """Start a HAProxy, and wait until it leads somewhere."""
        values = {"TALLYSTICK_HAPROXY_LISTEN": f"127.0.0.1:{server.proxy_port}"}
        for member in self.members.values():
            values[f"TALLYSTICK_{member.name.upper()}"] = member.environment["PATRONI_POSTGRESQL_CONNECT_ADDRESS"]
            rest = member.environment["PATRONI_RESTAPI_CONNECT_ADDRESS"]
            values[f"TALLYSTICK_{member.name.upper()}_PATRONI_PORT"] = rest.rpartition(":")[2]
        command: list[str | Path] = [find_program("haproxy"), "-db", "-f", self.processes.home / "haproxy.cfg"]
        environment = example_environment("haproxy.env", values)
        server.proxy = self.processes.start(f"haproxy-{server.name}", command, environment)

        def leads() -> bool | None:
            with contextlib.suppress(psycopg.Error), psycopg.connect(_plain(server.database), connect_timeout=2):
                return True
            return None

        wait_for("HAProxy's way to the leader", leads, START_SECONDS)

    def launch_server(self, server: Server) -> None:
        """Start an activation server, and wait until it is ready."""
        command: list[str | Path] = [sys.executable, "-m", "tallystick", "activation", "serve", "--data", server.data]
        command += ["--port", str(server.port), "--database", server.database]
        server.process = self.processes.start(server.name, command, {}, as_root=True)
        url = f"http://127.0.0.1:{server.port}/readyz"
        wait_for(f"{server.name} in service", lambda: ask(url, seconds=3)[0] == 200 or None, START_SECONDS)

    # To look

    def leader(self) -> Member:
        """Who is the leader. Raises ``NotInTimeError``."""
        return self.new_leader(None, seconds=START_SECONDS)

    def new_leader(self, old: Member | None, *, seconds: float = SETTLE_SECONDS) -> Member:
        """Wait until another one than ``old`` is the leader."""
        others = [member for member in self.members.values() if member is not old]
        return wait_for("a leader", lambda: next((one for one in others if one.is_leader()), None), seconds)

    def roles(self) -> dict[str, tuple[str, str]]:
        """Role and state of every member, as whoever can say so sees it."""
        for member in self.members.values():
            status, text = ask(f"http://127.0.0.1:{member.rest_port}/cluster", seconds=0.5)
            if status == 200:
                found: dict[str, Any] = json.loads(text)
                return {one["name"]: (one["role"], one["state"]) for one in found.get("members", ())}
        return {}

    def standby(self, *, synchronous: bool) -> Member:
        """The synchronous standby, or the other one."""
        wanted = "sync_standby" if synchronous else "replica"

        def look() -> Member | None:
            return next((self.members[name] for name, (role, _) in self.roles().items() if role == wanted), None)

        return wait_for(f"a {wanted}", look, SETTLE_SECONDS)

    def settle(self) -> None:
        """Wait until one leads, one is in step and the third follows."""

        def is_whole() -> bool | None:
            roles = self.roles()
            wanted = sorted(role for role, _ in roles.values()) == ["leader", "replica", "sync_standby"]
            if not wanted or not all(state in {"running", "streaming"} for _, state in roles.values()):
                return None
            leader = next(self.members[name] for name, (role, _) in roles.items() if role == "leader")
            return (leader.is_leader() and self._followers(leader) == 2) or None

        wait_for("a whole cluster", is_whole, SETTLE_SECONDS)

    def _followers(self, leader: Member) -> int:
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._superuser(leader), connect_timeout=2) as one:
            row = one.execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").fetchone()
            return int(row[0]) if row else 0
        return 0

    # To break

    def kill_machine(self, member: Member) -> None:
        """``kill -9`` of everything on a machine."""
        self.processes.kill(member.pids)
        member.process = None

    def restart_machine(self, member: Member) -> None:
        """Patroni ends, and PostgreSQL with it; then both start again."""
        assert member.process is not None
        self.processes.stop(member.process)
        time.sleep(1)
        self.launch_member(member)

    def restart_server(self, server: Server, number: int) -> None:
        """An activation server ends at a signal, and starts again."""
        assert server.process is not None
        if number == signal.SIGKILL:
            self.processes.kill(tree_of(server.process.pid))
        else:
            self.processes.stop(server.process, number)
        time.sleep(1)
        self.launch_server(server)

    def switch_over(self, leader: Member, candidate: Member) -> None:
        """Ask Patroni for another leader. Raises ``NotInTimeError``."""
        status, text = ask(
            f"http://127.0.0.1:{leader.rest_port}/switchover",
            seconds=60,
            body={"leader": leader.name, "candidate": candidate.name},
            password=self.password,
        )
        if status != 200:
            raise NotInTimeError(f"a switch-over: {status} {text[:200]}")


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")
