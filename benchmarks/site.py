"""``make bench-site``: one return of a whole site, online, beside the same HTTPS calls with nothing else done.

A thousand simulated field servers run the real engine behind the real HTTPS API and answer after 20 ms (one process);
an activation server is another process. Device Administrator returns everything in one operation, as its pages do it,
with every report kept on disk. Then the calls that this took are made again, in the same order on as many connections,
by the same HTTP client and by nothing else. Limits: at most 1.5 times that; never more than 64 field servers at once,
counted by the field servers themselves, requests and connections; and memory that grows with the number of field servers
by no more than what the list shows of each: measured with a hundred and with a thousand, the difference counts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tallystick.administrator.app import Administrator, open_administrator
from tallystick.administrator.core import pinning, planning
from tallystick.administrator.core.courier import Courier, at_once
from tallystick.administrator.core.goals import Goal, Report, Return
from tallystick.administrator.core.workflows import Workflows
from tallystick.administrator.network.clients import RealNetwork
from tallystick.administrator.ports import FIELD_SERVERS_AT_ONCE_MAX, Contact, FieldServerPort
from tallystick.domain.ids import DeviceId

COUNT = int(os.environ.get("BENCH_SITE_COUNT", "1000"))
DELAY_SECONDS = 0.02
RATIO_MAX = 1.5
FEW = 100
EACH_BYTES_MAX = 16 * 1024  # of memory, for each field server
COMMAND = [sys.executable, "-m", "tallystick"]
CATALOG = Path(__file__).parents[1] / "examples" / "catalog.yaml"
MIB = 1 << 20

Call = tuple[str, tuple[Any, ...]]


class Recording:
    """A ``FieldServerPort`` that remembers what was asked of it."""

    def __init__(self, port: FieldServerPort, calls: list[Call]) -> None:
        self._port, self._calls = port, calls

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._port, name)

        def call(*arguments: Any) -> Any:
            self._calls.append((name, arguments))
            return method(*arguments)

        return call


class RecordingNetwork(RealNetwork):
    """The real network, with a list of calls for each field server and for the activation server."""

    def __init__(self) -> None:
        super().__init__(trust_environment=False)
        self.calls: dict[str, list[tuple[Contact, list[Call]]]] = {}
        self._here = threading.local()

    @contextmanager
    def field_server(self, contact: Contact) -> Iterator[Any]:
        """See ``Network``."""
        calls: list[Call] = []
        self.calls.setdefault(contact.address, []).append((contact, calls))
        self._here.calls = calls
        with super().field_server(contact) as port:
            yield Recording(port, calls)

    def activation(self, url: str) -> Any:
        """See ``Network``. What it is asked stands in the list of the visit that asks."""
        port = super().activation(url)
        here = self._here

        class Asked:
            def keys(self) -> bytes:
                return port.keys()

            def exchange(self, envelopes: Any) -> Any:
                here.calls.append(("exchange", (envelopes,)))
                return port.exchange(envelopes)

        return Asked()


def started(*words: object) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """A process, and the JSON line that it begins with."""
    process = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline() if process.stdout else ""
    return process, json.loads(line)


def run(*words: object) -> Any:
    """A command of the activation server."""
    done = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout) if "--json" in words else None


def main() -> int:
    """Measure, print, and exit with 1 where a limit is not kept."""
    with tempfile.TemporaryDirectory() as text:
        directory = Path(text)
        data = directory / "activation"
        run("activation", "init", "--data", data, "--issuer", "Example Controls")
        run("activation", "catalog", "load", CATALOG, "--data", data)
        bought = run(
            "activation", "entitlement", "create", "--data", data, "--account", "acme",
            "--product", f"smartdriver={COUNT + FEW}", "--json",
        )  # fmt: skip
        options = json.dumps({"count": COUNT + FEW, "delay_seconds": DELAY_SECONDS})
        crowd, members = started(sys.executable, "-m", "tallystick.simulator.crowd", options)
        server, served = started(*COMMAND, "activation", "serve", "--data", data, "--port", 0, "--json")
        try:
            few, many = members["addresses"][:FEW], members["addresses"][FEW:]
            with open_administrator(directory=directory / "few") as administrator:
                _, less = prepare(administrator, few, members["password"], served["url"], bought["entitlement_id"])
            with open_administrator(directory=directory / "home") as administrator:
                goals, more = prepare(administrator, many, members["password"], served["url"], bought["entitlement_id"])
                each = (more - less) / max(1, len(many) - len(few))
                return measure(administrator, goals, served["url"], each=each)
        finally:
            for process in (crowd, server):
                process.terminate()
                process.wait()


def prepare(
    administrator: Administrator, addresses: list[str], password: str, url: str, entitlement: str
) -> tuple[dict[DeviceId, Goal], int]:
    """Add and activate; the goals, and how many bytes of memory were taken while that was done."""
    network, inventory, now = administrator.network, administrator.inventory, administrator.clock.now()
    candidates = [pinning.Candidate(address=one, password=password) for one in addresses]
    begun = time.monotonic()
    results = pinning.pin(network, inventory, pinning.meet(network, inventory, candidates), now=now)
    added = [result for result in results if result.enrolled is not None]
    print(f"added: {len(added)} of {len(candidates)} in {time.monotonic() - begun:.1f} s", flush=True)
    known = pinning.learn_entitlement(administrator.courier, inventory, text=entitlement, url=url, now=now)
    records = inventory.field_servers()
    planning.assign(inventory, [f"{known.lines[0].line_id}=1"], records, now=now)
    goals: dict[DeviceId, Goal] = planning.activation_goals(inventory.assignments(), records, is_everyone=True)
    del results, added, records
    memory, begun = Memory(), time.monotonic()
    reports = administrator.run(administrator.begin(goals), goals)
    taken, grown = time.monotonic() - begun, memory.stop()
    print(f"activated: {done(reports)} in {taken:.1f} s; memory: {grown / MIB:.1f} MiB more", flush=True)
    return goals, grown


def measure(administrator: Administrator, goals: dict[DeviceId, Goal], url: str, *, each: float) -> int:
    """Return all; then the bare calls."""
    inventory, records = administrator.inventory, administrator.inventory.field_servers()
    recorder = RecordingNetwork()
    office = Workflows(
        inventory=inventory, mailbag=administrator.mailbag, network=recorder, clock=administrator.clock,
        courier=Courier(recorder, inventory),
    )  # fmt: skip
    returns: dict[DeviceId, Goal] = {record.device_id: Return() for record in records}
    begun = time.monotonic()
    number = administrator.operations.begin(returns, names=inventory.names(), now=administrator.clock.now())
    with administrator.operations.run(number):
        reports = office.run(returns, on_report=lambda report: administrator.operations.keep(number, report))
        administrator.operations.end(number, now=administrator.clock.now())
    taken = time.monotonic() - begun
    print(f"returned: {done(reports)} in {taken:.1f} s", flush=True)
    seen = httpx2.get(f"{records[0].address}/crowd", verify=False, trust_env=False).json()

    administrator.workflows.run(goals)  # all of it again in force, so that the bare calls have the same effect
    bare = time_bare(recorder, url)
    recorder.close()
    calls = sum(len(calls) for visits in recorder.calls.values() for _, calls in visits)
    ratio = taken / bare
    print(f"the same {calls} calls, bare: {bare:.1f} s")
    print(f"ratio: {ratio:.2f} (at most {RATIO_MAX})")
    highest, connections = seen["at_once_max"], seen["connections_max"]
    print(f"at once: {highest} requests, {connections} connections (at most {FIELD_SERVERS_AT_ONCE_MAX})")
    print(f"memory: {each:,.0f} bytes more for each further field server (at most {EACH_BYTES_MAX:,})")
    is_good = (
        ratio <= RATIO_MAX
        and max(highest, connections) <= FIELD_SERVERS_AT_ONCE_MAX
        and each <= EACH_BYTES_MAX
        and done(reports) == len(records)
    )
    print("within its limits" if is_good else "NOT within its limits")
    return 0 if is_good else 1


def done(reports: list[Report]) -> int:
    """How many reached their goal."""
    return sum(report.is_finished for report in reports)


def time_bare(recorder: RecordingNetwork, url: str) -> float:
    """The same calls with the same effects, in the same order for each field server, at most 64 field servers at once.

    What one call answers is handed to the next as it is; nothing is checked, kept or told.
    """
    network = RealNetwork(trust_environment=False)
    activation = network.activation(url)

    def repeat(visits: list[tuple[Contact, list[Call]]]) -> None:
        for contact, calls in visits:
            messages: list[str] = []
            replies: list[str] = []
            with network.field_server(contact) as port:
                for name, arguments in calls:
                    match name:
                        case "request":
                            messages = [port.request(*arguments).message]
                        case "outbox":
                            messages = port.outbox().decode().splitlines()
                        case "inbox":
                            port.inbox("".join(f"{reply}\n" for reply in replies).encode())
                        case "exchange":
                            replies = [one for answer in activation.exchange(messages) for one in answer.replies]
                        case _:
                            getattr(port, name)(*arguments)

    begun = time.monotonic()
    at_once(repeat, list(recorder.calls.values()))
    taken = time.monotonic() - begun
    network.close()
    return taken


class Memory:
    """How much the resident memory of this process grows at most, looked at ten times a second."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._first = self._highest = resident()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopped.wait(0.1):
            self._highest = max(self._highest, resident())

    def stop(self) -> int:
        """Bytes."""
        self._stopped.set()
        self._thread.join()
        return max(0, self._highest - self._first)


def resident() -> int:
    """Bytes of resident memory."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
