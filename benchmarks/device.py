"""The rows of the field server: B7 and B8."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Sequence
from http.client import HTTPSConnection
from pathlib import Path

from benchmarks.parties import TALLYSTICK, peak_mib
from benchmarks.rows import Bench, Row
from support.clients import compile_c
from tallystick.domain.verdict import Verdict
from tallystick.fieldserver import asking, checks
from tallystick.fieldserver.commissioning import open_agent
from tallystick.fieldserver.platform import SystemClock, SystemRandom, load_home
from tallystick.protocol import keys, messages
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.tallyfile import parse_chunks


def _init(bench: Bench, name: str) -> tuple[Path, str]:
    data = bench.home / name
    command = [*TALLYSTICK, "fieldserver", "init", "--data", str(data), "--kind", "AS-P", "--name", name]
    command += ["--trust-first", "--json"]
    view = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return data, Path(view["password_file"]).read_text("utf-8").strip()


class _Agent:
    """The field server's agent as a process, and the time from its start to its first answer."""

    def __init__(self, data: Path, password: str, *, limits: Sequence[str] = ()) -> None:
        start = time.perf_counter()
        self.socket = data / "s"
        command = [*TALLYSTICK, "fieldserver", "run", "--data", str(data), "--port", "0", "--socket", str(self.socket)]
        self.process = subprocess.Popen(
            [*limits, *command, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if limits else None,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(timeout=30)
            raise OSError("it did not start")
        url = json.loads(line)["url"]
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        host, _, port = url.removeprefix("https://").rpartition(":")
        self.connection = HTTPSConnection(host, int(port), context=context, timeout=30)
        credentials = base64.b64encode(f"admin:{password}".encode()).decode()
        self.headers = {"Authorization": f"Basic {credentials}"}
        self.get("/v1/identity")
        self.first_answer_seconds = time.perf_counter() - start
        self.first_answer_processor_seconds = self.processor_seconds()

    def get(self, path: str) -> int:
        self.connection.request("GET", path, headers=self.headers)
        reply = self.connection.getresponse()
        reply.read()
        return reply.status

    def processor_seconds(self) -> float:
        """Of the agent, from its start as a command; user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pss_mib(self) -> float:
        """What the agent adds to this machine: shared pages in equal parts."""
        rollup = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text("ascii")
        return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024

    def close(self) -> None:
        self.connection.close()
        self.process.terminate()
        self.process.wait(timeout=30)


def b7_checks(bench: Bench) -> list[Row]:
    """A check in process, and ten thousand over HTTPS."""
    data, password = _init(bench, "checks")
    licenses = checks.open(data, root="A" * 43)
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
    memory, shared, starts, processor = [], [], [], []
    for _ in range(5):
        agent = _Agent(data, password)
        try:
            time.sleep(1)
            memory.append(peak_mib(agent.process.pid, "VmRSS"))
            shared.append(agent.pss_mib())
            starts.append(agent.first_answer_seconds)
            processor.append(agent.first_answer_processor_seconds)
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
            what="the agent's memory at rest, shared pages in equal parts (PSS)",
            figure=statistics.median(shared),
            limit=40,
            unit="MiB",
            at_least=False,
            extra={"all": shared},
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
            what="processor time from its start to its first answer",
            figure=statistics.median(processor),
            limit=0.5,
            unit="s",
            at_least=False,
            extra={"all": processor},
        ),
        _least_memory(data, password),
        *_checks_by_socket(bench),
        _nobody_there(bench),
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


def _checks_by_socket(bench: Bench) -> list[Row]:
    """Processor time of one check for both sides together: a program in Python, which keeps its connection, and one in C."""
    data, password = _init(bench, "socket")
    root = _license(data)
    agent = _Agent(data, password)
    licenses = asking.connect(agent.socket, root=root, deadline_seconds=30)
    many = bench.many(2000)
    in_c = compile_c("gcc", bench.home / "checks-in-c", "tallystick.c", "tests/bench.c")

    def ask_in_python() -> float:
        begin = time.process_time()
        codes = {licenses.check("mqtt-client", 2).code for _ in range(many)}
        if codes != {"licensed"}:
            raise SystemExit(f"checks were answered with {codes}")
        return time.process_time() - begin

    def ask_in_c() -> float:
        words = [str(in_c), str(agent.socket), root, "mqtt-client", "2", str(many)]
        spent, code = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        if code != "licensed":
            raise SystemExit(f"checks were answered with {code}")
        return float(spent)

    rows = []
    try:
        for language, ask in (("Python", ask_in_python), ("C", ask_in_c)):
            spans = []
            for _ in range(5):
                begin = agent.processor_seconds()
                own = ask()
                spans.append((own, agent.processor_seconds() - begin))
            row = Row(
                name="B8",
                what=f"processor time of a check by socket, both sides, the program in {language}",
                figure=statistics.median(own + agents for own, agents in spans) / many * 1e6,
                limit=300,
                unit="microseconds",
                at_least=False,
                extra={side: [one[place] / many * 1e6 for one in spans] for place, side in enumerate(("own", "agent"))},
            )
            rows.append(row)
    finally:
        licenses.close()
        agent.close()
    return rows


def _least_memory(data: Path, password: str) -> Row:
    """The least private memory (ulimit -d) in which the agent starts and answers a check; its threads have stacks of 512 KiB."""
    for mib in (20, 24, 28, 32, 40, 48, 64, 128):
        try:
            agent = _Agent(data, password, limits=("prlimit", f"--data={mib << 20}", f"--stack={512 << 10}", "--"))
        except OSError:
            continue
        licenses = asking.connect(agent.socket, root="A" * 43, deadline_seconds=30)
        code = licenses.check("mqtt-client").code
        licenses.close()
        agent.close()
        if code == "not-licensed":
            break
    else:
        raise SystemExit("the agent starts in none of these limits")
    return Row(
        name="B8",
        what="the least private memory in which it starts and answers (ulimit -d; -s 512)",
        figure=mib,
        limit=40,
        unit="MiB",
        at_least=False,
    )


def _nobody_there(bench: Bench) -> Row:
    """From the question to `not licensed, and why`, where there is no agent, no socket or no vault: the slowest of them."""
    folder = bench.home / "nobody"
    (folder / "empty").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "left"))
    root = "A" * 43

    def no_agent() -> Verdict:
        return asking.connect(folder / "left", root=root).check("mqtt-client")

    def no_socket() -> Verdict:
        return asking.connect(folder / "absent", root=root).check("mqtt-client")

    def no_vault() -> Verdict:
        return checks.open(folder / "empty", root=root).check("mqtt-client")

    taken: dict[str, float] = {}
    for ask in (no_agent, no_socket, no_vault):
        spans = []
        for _ in range(21):
            start = time.perf_counter()
            verdict = ask()
            spans.append((time.perf_counter() - start) * 1000)
            if verdict.is_licensed or not verdict.why:
                raise SystemExit(f"{ask.__name__}: {verdict}")
        taken[ask.__name__] = statistics.median(spans)
    return Row(
        name="B8",
        what="no agent, no socket, no vault: to `not licensed, and why`, the slowest of them",
        figure=max(taken.values()),
        limit=50,
        unit="ms",
        at_least=False,
        extra=taken,
    )


def _license(data: Path) -> str:
    """Keys and a grant of three products, delivered; the fingerprint of their root."""
    root, signer = PrivateKey(b"r" * 32), PrivateKey(b"s" * 32)
    agent = open_agent(load_home(data), clock=SystemClock(), random=SystemRandom())
    key = keys.SigningKey(jwk=keys.Jwk(**signer.public.jwk), valid_from=0)
    keyset = keys.make_keyset(root, issuer="Example Controls", version=1, issued_at=1, keys=(key,))
    licenses = tuple(
        messages.LicenseClaim(
            license=f"LC-7K3M9Q2{number}-{agent.device.device_id[:12]}",
            line=f"7K3M9Q2{number}",
            product=feature,
            quantity=3,
            features={feature: 1},
            expires=None,
            one_carry=True,
        )
        for number, feature in enumerate(("mqtt-client", "smartdriver", "reports"))
    )
    grant = messages.Grant(
        iss="Example Controls",
        sub=agent.device.device_id,
        iat=2,
        epoch=1,
        number=1,
        request=None,
        seen=0,
        licenses=licenses,
        confirm=False,
    )
    lines = f"{keyset}\n{signer.sign(messages.GRANT, messages.encode_claims(grant))}\n".encode()
    if agent.deliver(list(parse_chunks([lines]))).has_errors:
        raise SystemExit("the licenses were not taken")
    return root.public.thumbprint


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
