"""The whole story on one machine: one activation server, three field servers, two laptops, all real processes.

Every scene runs the commands that a person would type, checks what they answer, and tells it in a few lines. A scene
that does not end as it should raises ``DemoError``, and the demo exits with 1.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tallystick.errors import Error

ISSUER: Final = "Example Controls"
_EXAMPLE_CATALOG: Final = Path(__file__).parents[1] / "activation" / "example-catalog.yaml"
START_SECONDS: Final = 20
COMMAND_SECONDS: Final = 60
_DONE, _REFUSED, _PARTLY = 0, 1, 4

BOUGHT: Final = {
    "smartdriver": 6,
    "snmp-notification": 3,
    "personal-dashboards": 3,
    "external-log-storage": 1,
    "mqtt-client": 2,
    "connected-devices": 20,
    "engineering": 1,
}


class DemoError(Error):
    """A scene did not end as it should."""


@dataclass(slots=True)
class Stage:
    """Where the story plays: a directory, the processes that were started, and the way to say something."""

    directory: Path
    tell: Callable[[str], None]
    processes: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    lines: dict[str, str] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    entitlement_id: str = ""
    root: str = ""  # the fingerprint of the vendor's root, as it would stand in the image of a device
    setup_code: str = ""  # of the portal's first-run page

    def run(self, *words: str, laptop: str = "office", expect: Sequence[int] = (_DONE,)) -> Any:
        """Run one ``tallystick`` command with ``--json`` and return what it says. Raises ``DemoError``."""
        done = subprocess.run(
            [sys.executable, "-m", "tallystick", *words, "--json"],
            env={**os.environ, "TALLYSTICK_HOME": str(self.directory / f"laptop-{laptop}")},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode not in expect:
            raise DemoError(
                "demo-failed",
                expected=f"exit {' or '.join(map(str, expect))} from: tallystick {' '.join(words)}",
                seen=f"exit {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}",
            )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def show(self, *words: str) -> None:
        """Run one command and let people see what it prints."""
        self.tell(f"  $ tallystick {' '.join(words[:2])}")
        command = [sys.executable, "-m", "tallystick", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        self.check(done.returncode == _DONE, f"exit 0 from tallystick {' '.join(words)}", done.stderr.strip()[-600:])
        for line in done.stdout.rstrip().splitlines():
            self.tell(f"  {line}")

    def start(self, name: str, *words: str) -> None:
        """Start a process that serves, and wait until it says on which address."""
        with (self.directory / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tallystick", *words, "--json"],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.processes[name] = process
        if process.stdout is None:
            raise DemoError("demo-failed", expected="a pipe", seen="none")
        first = process.stdout.readline()
        self.check(bool(first.strip()), f"{name} to start", f"nothing; see {self.directory / f'{name}.log'}")
        said = json.loads(first)
        self.addresses[name] = said["url"]
        self.setup_code = said.get("setup_code", self.setup_code)

    def stop(self, name: str) -> None:
        """End one process and wait for it."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def check(self, is_true: bool, expected: str, seen: object) -> None:  # noqa: FBT001 - the sentence follows
        """Raises ``DemoError`` unless the story went as told."""
        if not is_true:
            raise DemoError("demo-failed", expected=expected, seen=str(seen))

    def add(self, name: str, *, laptop: str = "office") -> None:
        """Device Administrator gets to know a field server, and pins its certificate."""
        words = ("admin", "add", self.addresses[name], "--password-file", self.passwords[name])
        self.run(*words, laptop=laptop)

    def data(self, name: str) -> str:
        """The data directory of a party."""
        return str(self.directory / name)

    def line(self, product: str) -> dict[str, Any]:
        """The balances of a product's line."""
        rows = self.run("activation", "lines", "--data", self.data("activation"))
        return next(row for row in rows if row["product"] == product)

    def held(self, name: str, *, laptop: str = "office") -> dict[str, int]:
        """What Device Administrator sees on a field server."""
        rows = self.run("admin", "servers", laptop=laptop)
        row = next(row for row in rows if row["name"] == name)
        return {license_["product"]: license_["quantity"] for license_ in row["licenses"]}


def play(directory: Path, tell: Callable[[str], None], *, keep: bool) -> None:
    """Play all scenes in ``directory``. With ``keep`` the processes go on and the directory stays."""
    stage = Stage(directory=directory, tell=tell)
    try:
        for number, (title, scene) in enumerate(SCENES):
            tell("")
            tell(f"{number}. {title}" if number else title)
            scene(stage)
        if keep:
            _leave_running(stage)
    finally:
        if not keep:
            for name in list(stage.processes):
                stage.stop(name)


@contextmanager
def no_route(stage: Stage) -> Iterator[None]:
    """Nobody reaches the activation server: it is really stopped meanwhile."""
    stage.stop("activation")
    try:
        yield
    finally:
        _serve(stage)


def _serve(stage: Stage) -> None:
    port = stage.addresses.get("activation", ":0").rpartition(":")[2].rstrip("/")
    stage.start("activation", "activation", "serve", "--data", stage.data("activation"), "--port", port)


def _run_field_server(stage: Stage, name: str, *options: str) -> None:
    port = stage.addresses.get(name, ":0").rpartition(":")[2].rstrip("/")
    stage.start(name, "fieldserver", "run", "--data", stage.data(name), "--port", port, *options)


FIELD_SERVERS: Final = {"plant-room": "AS-P", "roof": "AS-B", "gateway": "Edge Server"}


def _set_the_stage(stage: Stage) -> None:
    data = stage.data("activation")
    made = stage.run("activation", "init", "--data", data, "--issuer", ISSUER)
    stage.run("activation", "catalog", "load", str(_EXAMPLE_CATALOG), "--data", data)
    bought = [word for sku, quantity in BOUGHT.items() for word in ("--product", f"{sku}={quantity}")]
    created = stage.run("activation", "entitlement", "create", "--data", data, "--account", "Harbour Offices", *bought)
    stage.entitlement_id = created["entitlement_id"]
    stage.lines = {line["product"]: line["line"] for line in created["lines"]}
    _serve(stage)
    url = stage.addresses["activation"]
    stage.root = made["root_fingerprint"]
    stage.tell(f"  Activation server of {made['issuer']}: {url}, root {stage.root[:16]}...")
    for name, kind in FIELD_SERVERS.items():
        made = stage.run(
            "fieldserver",
            "init",
            "--data",
            stage.data(name),
            "--kind",
            kind,
            "--name",
            name,
            "--host-id",
            f"demo-{name}",
            "--root",
            stage.root,
        )
        # The first two have a route of their own to the activation server, gateway only to the technician's laptop.
        _run_field_server(stage, name, *(() if name == "gateway" else ("--activation", url)))
        stage.passwords[name] = made["password_file"]
        stage.tell(f"  {name} ({kind}): {stage.addresses[name]}, certificate {made['certificate_fingerprint'][:24]}...")


def _activate_online(stage: Stage) -> None:
    stage.run("admin", "entitlement", "add", stage.entitlement_id, "--activation", stage.addresses["activation"])
    stage.tell(f"  {len(stage.lines)} products bought; the entitlement ID is all that the technician typed.")
    stage.add("plant-room")
    stage.add("roof")
    route = stage.run("admin", "route")
    stage.tell(f"  Route: {route['route']}. {route['why']}")
    wrong = stage.run("admin", "assign", f"{stage.lines['external-log-storage']}=1", "roof", expect=(_REFUSED,))
    stage.check(wrong is None or wrong.get("code") == "kind-mismatch", "a refusal that names the kinds", wrong)
    stage.tell("  external-log-storage on roof (AS-B) is refused: it is for other kinds of field server.")
    for product, quantity in (("smartdriver", 2), ("snmp-notification", 1), ("engineering", 1)):
        stage.run("admin", "assign", f"{stage.lines[product]}={quantity}", "plant-room")
    stage.run("admin", "activate", "plant-room")
    held = stage.held("plant-room")
    stage.check(held == {"smartdriver": 2, "snmp-notification": 1, "engineering": 1}, "three licenses", held)
    question = ("check", "smartdriver", "--used", "2", "--root", stage.root, "--data", stage.data("plant-room"))
    verdict = stage.run("fieldserver", *question)
    stage.tell(f"  plant-room holds {_words(held)}. Check smartdriver, 2 used: {verdict['standing']}.")


def _return_online(stage: Stage) -> None:
    stage.run("admin", "return", "plant-room")
    stage.run("admin", "activate", "roof", "--line", f"{stage.lines['smartdriver']}=2")
    held = {row["name"]: len(row["licenses"]) for row in stage.run("admin", "servers")}
    stage.check(held == {"plant-room": 0, "roof": 1}, "the SmartDrivers on roof, nothing on plant-room", held)
    stage.tell("  One command, all legs at once: request, grant, confirm, credit. plant-room holds nothing,")
    stage.tell("  and roof has the same two SmartDrivers now.")


def _return_semi_online(stage: Stage) -> None:
    stage.add("gateway")
    stage.run("admin", "activate", "gateway", "--line", f"{stage.lines['mqtt-client']}=1")
    route = stage.run("admin", "route")
    stage.tell(f"  Route: {route['route']}. {route['why']}")
    stage.run("admin", "return", "gateway", "--line", f"{stage.lines['mqtt-client']}=0")
    row = stage.line("mqtt-client")
    stage.check(row["available"] == row["bought"], "the MQTT client available again", row)
    stage.tell("  Activated and returned, the same messages, the same one command.")


def _return_offline(stage: Stage) -> None:
    data = stage.data("activation")
    certificate = str(stage.directory / "harbour-offices.tally")
    stage.run("activation", "entitlement", "certificate", stage.entitlement_id, "--data", data, "-o", certificate)
    stage.run("admin", "entitlement", "add", certificate, laptop="site")
    stage.add("roof", laptop="site")
    stage.stop("roof")
    _run_field_server(stage, "roof")
    request, response, confirm = (
        str(stage.directory / f"{name}.tally") for name in ("1-request", "2-response", "4-confirm")
    )
    with no_route(stage):
        route = stage.run("admin", "route", laptop="site")
        stage.check(route["route"] == "offline", "the offline route", route)
        stage.tell(f"  The site's uplink is cut. Another laptop, on the roof. Route: {route['route']}. {route['why']}")
        stage.run("admin", "return", "roof", laptop="site", expect=(_DONE, _PARTLY))
        stage.run("admin", "export", request, laptop="site")
        stage.tell("  Step 1, at the site: the request is written and saved to a file.")
        stage.run("activation", "message", request, "-o", response, "--data", data)
        stage.tell("  Step 2, at the office: the file goes up, the response comes down.")
        stage.run("admin", "import", response, laptop="site", expect=(_DONE, _PARTLY))
        stage.check(stage.held("roof", laptop="site") == {}, "roof to hold nothing", "licenses")
        stage.tell("  Step 3, at the site: the response is delivered; roof gives up its licenses and writes its proof.")
        (waiting,) = stage.run("activation", "returns", "--data", data)
        stage.tell("  ... and everybody goes home. Step 4 was forgotten; but the activation server says so:")
        stage.tell(
            f"    open: {waiting['quantity']} of line {waiting['line']} on {waiting['name']}, {waiting['age_seconds']} s. {waiting['next_step']}"
        )
        stage.run("admin", "export", confirm, laptop="site")
        stage.run("activation", "message", confirm, "-o", str(stage.directory / "receipt.tally"), "--data", data)
        stage.check(stage.run("activation", "returns", "--data", data) == [], "no open return", "one")
        stage.run("admin", "import", str(stage.directory / "receipt.tally"), laptop="site", expect=(_DONE, _PARTLY))
    stage.tell("  Step 4: the proof goes up; credited, and the signed receipt comes back.")


def _return_with_one_carry(stage: Stage) -> None:
    data = stage.data("activation")
    stage.run("admin", "activate", "roof", "--line", f"{stage.lines['smartdriver']}=3")
    with no_route(stage):
        stage.run("admin", "return", "roof", "--one-carry", laptop="site", expect=(_DONE, _PARTLY))
        proof = stage.directory / "proof.tally"
        stage.run("admin", "export", str(proof), laptop="site")
        first = _envelopes(proof)
        proof.unlink()
        stage.tell("  roof gives up first and writes the proof. The file is lost on the way (deleted, really).")
        stage.run("fieldserver", "outbox", "-o", str(proof), "--data", stage.data("roof"))
        stage.check(_envelopes(proof) == first, "the same proof, byte for byte", "another one")
        digest = hashlib.sha256("\n".join(first).encode()).hexdigest()[:16]
        stage.tell(f"  Asked again, roof gives the same bytes (SHA-256 {digest}...).")
        stage.run("activation", "message", str(proof), "-o", str(stage.directory / "credit.tally"), "--data", data)
    row = stage.line("smartdriver")
    stage.check(row["available"] == row["bought"], "all SmartDrivers available", row)
    stage.run("admin", "sync")
    stage.tell("  One carry, and all three SmartDrivers are available.")


def _catch_a_restored_backup(stage: Stage) -> None:
    data, roof, backup = stage.data("activation"), stage.directory / "roof", stage.directory / "roof-backup"
    stage.run("admin", "activate", "roof", "--line", f"{stage.lines['snmp-notification']}=2")
    stage.stop("roof")
    shutil.copytree(roof, backup)
    _run_field_server(stage, "roof")
    stage.run("admin", "return", "roof")
    stage.tell("  roof holds 2, is backed up, returns them. Then somebody puts the backup back:")
    stage.stop("roof")
    shutil.rmtree(roof)
    shutil.copytree(backup, roof)
    _run_field_server(stage, "roof")
    back = stage.held("roof")
    stage.tell(f"  roof says it holds {_words(back)}, which were already returned. At its next contact:")
    stage.run("admin", "refresh", "roof", expect=(_DONE, _REFUSED, _PARTLY))
    incidents = [
        row for row in stage.run("activation", "incidents", "--data", data) if row["kind"] in {"fork", "rollback"}
    ]
    stage.check(bool(incidents), "an incident that names it", incidents)
    stage.tell(f"    incident: {incidents[0]['kind']}. {incidents[0]['detail']}")
    if incidents[0]["kind"] == "fork":
        stage.run("activation", "release", "roof", "--data", data)
        stage.run("admin", "refresh", "roof", expect=(_DONE, _PARTLY))
    stage.check(stage.held("roof") == {}, "roof to hold nothing", stage.held("roof"))
    stage.tell(
        "  A person looks at it and releases the hold: a fence takes the copies away from roof. Nothing was lost."
    )


def _add_up(stage: Stage) -> None:
    data = stage.data("activation")
    rows = stage.run("activation", "lines", "--data", data)
    stage.check(all(row["available"] == row["bought"] for row in rows), "everything available again", rows)
    stage.show("activation", "lines", "--data", data)
    stage.show("activation", "verify", "--data", data)


SCENES: Final[tuple[tuple[str, Callable[[Stage], None]], ...]] = (
    ("One activation server, three field servers, one technician", _set_the_stage),
    ("Activate online", _activate_online),
    ("Return online, and activate on another field server", _return_online),
    ("Return semi-online", _return_semi_online),
    ("Return offline: files in four steps, the last one forgotten", _return_offline),
    ("Return with one carry, the proof lost on the way", _return_with_one_carry),
    ("A field server restored from an old backup", _catch_a_restored_backup),
    ("Everything is available again, and the books add up", _add_up),
)


def _leave_running(stage: Stage) -> None:
    stage.tell("")
    stage.tell(f"Still running, with all data in {stage.directory}:")
    for name, process in stage.processes.items():
        stage.tell(f"  {name:<11} {stage.addresses[name]}  (process {process.pid})")
    portal = f"{stage.addresses['activation']}/set-up"
    stage.tell(f"  The portal: {portal}  (set-up code {stage.setup_code})")
    stage.tell(f"  Device Administrator: TALLYSTICK_HOME={stage.directory / 'laptop-office'} tallystick admin servers")
    pids = " ".join(str(process.pid) for process in stage.processes.values())
    stage.tell(f"  To end it: kill {pids}")


def _envelopes(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def _words(held: dict[str, int]) -> str:
    return ", ".join(f"{quantity} {product}" for product, quantity in held.items()) or "nothing"
