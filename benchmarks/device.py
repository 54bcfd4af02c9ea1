"""The rows of the field server: B7 and B8."""

from __future__ import annotations

import base64
import json
import os
import ssl
import statistics
import subprocess
import time
from http.client import HTTPSConnection
from pathlib import Path

from benchmarks.parties import TALLYSTICK, peak_mib
from benchmarks.rows import Bench, Row
from tallystick.fieldserver import checks


def _init(bench: Bench, name: str) -> tuple[Path, str]:
    data = bench.home / name
    command = [*TALLYSTICK, "fieldserver", "init", "--data", str(data), "--kind", "AS-P", "--name", name]
    command += ["--trust-first", "--json"]
    view = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return data, Path(view["password_file"]).read_text("utf-8").strip()


class _Agent:
    """The field server's agent as a process, and the time from its start to its first answer."""

    def __init__(self, data: Path, password: str) -> None:
        start = time.perf_counter()
        self.process = subprocess.Popen(
            [*TALLYSTICK, "fieldserver", "run", "--data", str(data), "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        url = json.loads(self.process.stdout.readline())["url"]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = url.removeprefix("https://").rpartition(":")
        self.connection = HTTPSConnection(host, int(port), context=context, timeout=30)
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {credentials}"}
        self.get("/v1/identity")
        self.first_answer_seconds = time.perf_counter() - start

    def get(self, path: str) -> int:
        self.connection.request("GET", path, headers=self.headers)
        reply = self.connection.getresponse()
        reply.read()
        return reply.status

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(timeout=30)


def b7_checks(bench: Bench) -> list[Row]:
    """A check in process, and ten thousand over HTTPS."""
    data, password = _init(bench, "checks")
    licenses = checks.open(data)
    licenses.check("mqtt-client")
    count, spans = 100_000, []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(count):
            licenses.check("mqtt-client")
        spans.append((time.perf_counter() - start) / count)
    agent = _Agent(data, password)
    try:
        many = bench.many(10_000)
        start = time.perf_counter()
        statuses = {agent.get("/v1/checks/mqtt-client") for _ in range(many)}
        rate = many / (time.perf_counter() - start)
        if statuses != {200}:
            raise SystemExit(f"checks were answered with {statuses}")
    finally:
        agent.close()
    return [
        Row(
            name="B7",
            what="a license check in process",
            figure=min(spans) * 1e6,
            limit=1.0,
            unit="microseconds",
            at_least=False,
            extra={"all": spans},
        ),
        Row(
            name="B7",
            what=f"{many:,} checks over HTTPS, one connection",
            figure=rate,
            limit=None,
            unit="checks/s",
            extra={"statuses": sorted(statuses)},
        ),
    ]


def b8_agent(bench: Bench) -> list[Row]:
    """Memory at rest, time to the first answer, and a durable apply beside a bare fsync."""
    data, password = _init(bench, "agent")
    memory, starts = [], []
    for _ in range(5):
        agent = _Agent(data, password)
        try:
            time.sleep(1)
            memory.append(peak_mib(agent.process.pid, "VmRSS"))
            starts.append(agent.first_answer_seconds)
        finally:
            agent.close()
    applies, syncs = _applies(bench)
    ratio = statistics.median(applies) / statistics.median(syncs)
    return [
        Row(
            name="B8",
            what="the agent's memory at rest",
            figure=statistics.median(memory),
            limit=45,
            unit="MiB",
            at_least=False,
        ),
        Row(
            name="B8",
            what="from its start to its first answer",
            figure=statistics.median(starts),
            limit=1.0,
            unit="s",
            at_least=False,
            extra={"all": starts},
        ),
        Row(
            name="B8",
            what="a durable apply beside a bare fsync",
            figure=ratio,
            limit=3,
            unit="fsyncs",
            at_least=False,
            extra={"apply_ms": statistics.median(applies) * 1000, "fsync_ms": statistics.median(syncs) * 1000},
        ),
    ]


def _applies(bench: Bench) -> tuple[list[float], list[float]]:
    """How long the vault takes to make a state durable, in turns with an fsync of as many bytes beside it."""
    from tallystick.fieldserver import platform  # noqa: PLC0415 - other rows do without it
    from tallystick.fieldserver.vault import Vault  # noqa: PLC0415 - see above

    data, _ = _init(bench, "vault")
    vault = Vault(platform.FileDisk(data), platform.read_seed(data))
    state = vault.load()
    beside = os.open(data / "beside", os.O_CREAT | os.O_WRONLY, 0o600)
    applies, syncs = [], []
    for _ in range(100):
        start = time.perf_counter()
        vault.save(state)
        middle = time.perf_counter()
        os.pwrite(beside, b"x" * 4096, 0)
        os.fsync(beside)
        syncs.append(time.perf_counter() - middle)
        applies.append(middle - start)
    os.close(beside)
    return applies, syncs
