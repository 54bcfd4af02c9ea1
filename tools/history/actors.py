"""Who acts: field servers, couriers, people, and whoever kills. Each is a thread with dice of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg

from history.checks import claims_of
from history.record import History, Look, Verb
from tallystick.domain.ids import ActivationId, parse_activation_id
from tallystick.errors import Error
from tallystick.fieldserver import vault
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.platform import FileDisk, FileLock, SystemClock, SystemRandom
from tallystick.fieldserver.state import (
    Activate,
    ActivationWant,
    Device,
    Refresh,
    Relinquish,
    Return,
    State,
    Wish,
)
from tallystick.protocol import tallyfile
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import Facts

KINDS: Final = ("AS-P", "AS-B", "Edge Server")
NOT_REACHED: Final = "not-reached"  # nobody listened, so nothing was done
UNKNOWN: Final = frozenset({"database-unavailable", "too-busy", "invariant", "disk-failed", "disk-full"})
WAITING_MAX: Final = 8  # of its own messages; then it asks for nothing new
BAG_MAX: Final = 400  # messages and replies that may be carried again
_TIMEOUT_SECONDS: Final = 20.0


class FieldServer:
    """A real agent with its vault on a disk. One step at a time; what it holds is noted."""

    def __init__(self, directory: Path, number: int, history: History, *, seed: bytes, keys: bytes) -> None:
        directory.mkdir()
        facts = Facts(kind=KINDS[number % 2], host_id=f"host-{seed.hex()[:16]}", name=f"fs-{number}", software="1")
        device = Device(key=PrivateKey(seed), facts=facts)
        self.directory = directory
        self.device_id = str(device.device_id)
        self._history = history
        self._lock = threading.Lock()
        vault.create(FileDisk(directory), seed, State(device_id=device.device_id))
        self._seed, self._device = seed, device
        self.open()
        self.agent.deliver(list(tallyfile.parse_chunks([keys])))

    def open(self) -> None:
        """As a process that begins does."""
        self.agent = Agent(
            vault=vault.Vault(FileDisk(self.directory), self._seed),
            device=self._device,
            clock=SystemClock(),
            random=SystemRandom(),
            lock=FileLock(self.directory / "lock"),
        )

    @contextmanager
    def step(self) -> Iterator[Agent]:
        """One step, and what it held before and after."""
        with self._lock:
            since = self._history.now()
            yield self.agent
            self._note(since)

    def _note(self, since: float) -> None:
        state = self.agent.peek()
        quantities = {str(held.line_id): held.quantity for held in state.licenses}
        self._history.note_held(self.device_id, state.epoch, quantities, since=since)

    def speak(self, wish: Wish | None) -> dict[str, str]:
        """Its messages, by digest, with one more where that can be."""
        with self.step() as agent:
            if wish is not None and len(agent.peek().outbox) < WAITING_MAX:
                with contextlib.suppress(Error):  # it is told why; so may it be
                    agent.ask(wish)
            return {str(one.digest): one.compact for one in agent.outbox()}

    def take(self, compacts: Sequence[str]) -> None:
        """What was delivered to it."""
        with self.step() as agent:
            agent.deliver(list(tallyfile.parse_chunks([f"{compact}\n".encode() for compact in compacts])))


class Web:
    """Requests to the activation server, each on a connection of its own, so that either worker may get it."""

    def __init__(self, port: int, token: str, history: History) -> None:
        self._port, self._token, self._history = port, token, history

    def post(self, messages: Mapping[str, str], order: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Carry messages up; the replies by digest. Nothing where the connection broke."""
        post = self._history.add_post({digest: messages[digest] for digest in order})
        body = "".join(f"{messages[digest]}\n" for digest in order).encode()
        try:
            status, said = self._call("POST", "/v1/messages", body, {"Content-Type": tallyfile.MEDIA_TYPE})
        except (OSError, http.client.HTTPException):
            return {}
        if status != http.HTTPStatus.OK:
            return {}
        replies: dict[str, tuple[str, ...]] = {}
        for line in said.decode().splitlines():
            if line and not line.startswith("#"):
                digest = claims_of(line)["request"]
                replies[digest] = (*replies.get(digest, ()), line)
        post.replies, post.ended = replies, self._history.now()
        return replies

    def verb(
        self, name: str, subject: str, method: str, path: str, body: Any = None, change: Mapping[str, Any] | None = None
    ) -> tuple[Verb, Any]:
        """What a person does; its outcome is noted. None for the answer where there was no good one."""
        verb = self._history.add_verb(name, subject, change or {})
        try:
            status, said = self._call(
                method, path, None if body is None else json.dumps(body).encode(), self._headers()
            )
            answer = json.loads(said)
        except ConnectionRefusedError:
            verb.outcome, verb.ended = NOT_REACHED, self._history.now()
            return verb, None
        except (OSError, http.client.HTTPException, ValueError):
            return verb, None
        if status < http.HTTPStatus.BAD_REQUEST:
            verb.outcome, verb.ended = "done", self._history.now()
            return verb, answer
        code = str(answer.get("code"))
        if code not in UNKNOWN and status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
            verb.outcome, verb.ended = code, self._history.now()
        return verb, None

    def look(self, line: str) -> None:
        """Look at a line."""
        begun = self._history.now()
        try:
            status, said = self._call("GET", f"/v1/lines/{line}", None, self._headers())
        except (OSError, http.client.HTTPException):
            return
        if status == http.HTTPStatus.OK:
            shown = json.loads(said)
            self._history.add_look(Look(line=line, begun=begun, ended=self._history.now(), shown=shown))

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}

    def _call(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body=body, headers=dict(headers))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class Lines:
    """Lines that field servers know of."""

    def __init__(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self._ids: list[tuple[str, ActivationId]] = []
        self.add(documents)

    def add(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """They were sold."""
        self._ids += [(one["line"], parse_activation_id(one["activation_id"])) for one in documents]

    @property
    def ids(self) -> list[str]:
        """All of them."""
        return [line for line, _ in self._ids]

    def want(self, dice: random.Random, most: int) -> ActivationWant:
        """Some of one."""
        return ActivationWant(activation_id=dice.choice(self._ids)[1], quantity=dice.randint(0, most))


class Crowd:
    """Field servers and what is on its way between them and the activation server."""

    def __init__(
        self, field_servers: Sequence[FieldServer], twin: tuple[FieldServer, FieldServer], lines: Lines
    ) -> None:
        self.field_servers = field_servers
        self.twin = twin
        self.lines = lines
        self.by_id = {one.device_id: one for one in field_servers}
        self.said: deque[tuple[str, str]] = deque(maxlen=BAG_MAX)
        self.replies: deque[tuple[str, tuple[str, ...]]] = deque(maxlen=BAG_MAX)

    def wish(self, dice: random.Random) -> Wish:
        """What a technician wants."""
        draw = dice.random()
        if draw < 0.6:
            return Activate(wants=(self.lines.want(dice, 3),))
        if draw < 0.75:
            return Return(wants=None)
        return Refresh() if draw < 0.85 else Relinquish()

    def carry(self, web: Web, dice: random.Random) -> None:
        """One way of a courier: what waits at some field servers, and some of what was carried before, in any order."""
        messages: dict[str, str] = {}
        for one in dice.sample(self.field_servers, dice.choice((1, 1, 1, 2, 4))):
            messages |= one.speak(self.wish(dice) if dice.random() < 0.8 else None)
        self.said.extend(messages.items())
        if self.said and dice.random() < 0.3:
            messages |= dict(dice.choices(self.said, k=3))
        order = list(messages)
        dice.shuffle(order)
        if not order:
            return
        replies = web.post(messages, order)
        for digest in replies:
            device = str(claims_of(messages[digest])["iss"])
            self.replies.append((device, replies[digest]))
            if dice.random() < 0.85:
                self.deliver(device, replies[digest])
        if self.replies and dice.random() < 0.3:
            self.deliver(*dice.choice(self.replies))

    def deliver(self, device: str, reply: Sequence[str]) -> None:
        """Bring a reply to its field server."""
        if device in self.by_id:
            self.by_id[device].take(reply)

    def speak_twice(self, web: Web, dice: random.Random) -> None:
        """A copied field server: both copies say something else with the same sequence, in one file."""
        first, second = self.twin
        with first.step(), second.step():
            shutil.copytree(first.directory, second.directory, dirs_exist_ok=True)
            second.open()
        messages: dict[str, str] = {}
        for one, quantity in ((first, 1), (second, 2)):
            want = ActivationWant(activation_id=self.lines.want(dice, 1).activation_id, quantity=quantity)
            with contextlib.suppress(IndexError):
                digest, compact = list(one.speak(Activate(wants=(want,))).items())[-1]
                messages[digest] = compact
        order = list(messages)
        dice.shuffle(order)
        for reply in web.post(messages, order).values():
            first.take(reply)


class People:
    """Those at the activation server."""

    def __init__(
        self,
        web: Web,
        crowd: Crowd,
        desk: Callable[[str, Mapping[str, Any]], Verb],
        locked: Callable[[str], AbstractContextManager[Callable[[int], None]]],
    ) -> None:
        self._web, self._crowd, self._desk, self._locked = web, crowd, desk, locked
        self._reasons = 0

    def change_terms(self, dice: random.Random, pause: Callable[[float], bool]) -> None:
        """Suspend a line for a moment, or change how many there are of it."""
        line = dice.choice(self._crowd.lines.ids)
        if dice.random() < 0.3:
            quantity = dice.randint(8, 30)
            self._web.verb("quantity", line, "PATCH", f"/v1/lines/{line}", {"quantity": quantity})
            return
        for is_suspended in (True, False):
            change = {"suspended": is_suspended}
            while self._web.verb("terms", line, "PATCH", f"/v1/lines/{line}", change, change)[0].outcome != "done":
                if pause(0.2):
                    return
            self._web.look(line)
            pause(dice.uniform(0.0, 0.08))
            self._web.look(line)

    def change_standing(self, dice: random.Random) -> None:
        """Hold, release, retire, replace, start a return, sell something new."""
        one = dice.choice(self._crowd.field_servers)
        place = f"/v1/field-servers/{one.device_id}"
        self._reasons += 1
        because = {"reason": f"because {self._reasons}"}
        match dice.choice(("hold", "retire", "return", "return", "replace", "sell")):
            case "hold":
                self._web.verb("hold", one.device_id, "POST", f"{place}/hold", because)
                self._web.verb("release", one.device_id, "POST", f"{place}/release")
            case "retire":
                self._web.verb("retire", one.device_id, "POST", f"{place}/retire")
            case "return":
                self._hand_over(self._web.verb("return", one.device_id, "POST", f"{place}/return")[1])
            case "replace":
                other = dice.choice(self._crowd.field_servers)
                body = because | {"by": other.device_id}
                self._hand_over(self._web.verb("replace", one.device_id, "POST", f"{place}/replace", body)[1])
            case _:
                self.sell()

    def sell(self) -> None:
        """A late sale."""
        if len(self._crowd.lines.ids) >= 6:
            return
        body = {"account": "acme", "products": [{"product": "connected-devices", "quantity": 12}]}
        verb, sold = self._web.verb("sell", "", "POST", "/v1/entitlements", body)
        if sold is not None:
            verb.change = {"lines": [one["line"] for one in sold["lines"]]}
            self._crowd.lines.add(sold["lines"])

    def race_to_settle(self, dice: random.Random) -> None:
        """One that lives is declared lost, and speaks as its waiting period ends.

        Somebody else's transaction is at it for a moment: what was said stands before the look of whoever settles.
        """
        holding = [one for one in self._crowd.field_servers if one.agent.peek().licenses]
        one = dice.choice(holding or self._crowd.field_servers)
        because = {"reason": "a race", "override": True}
        self._web.verb("lost", one.device_id, "POST", f"/v1/field-servers/{one.device_id}/lost", because)
        with ThreadPoolExecutor(2) as pool:
            with self._locked(one.device_id) as wait_for:
                speaking = pool.submit(self._speak, one)
                wait_for(1)
                settling = pool.submit(self._desk, "settle", {})
                wait_for(2)
            speaking.result()
            settling.result()

    def _speak(self, one: FieldServer) -> None:
        messages = one.speak(Refresh())
        for reply in self._web.post(messages, list(messages)).values():
            one.take(reply)

    def _hand_over(self, started: Mapping[str, Any] | None) -> None:
        """Carry a file that was started here to its field server."""
        if started is not None:
            lines = [line for line in started["file"].splitlines() if line and not line.startswith("#")]
            self._crowd.deliver(started["device_id"], lines)

    def freeze_and_lift(self, pause: Callable[[float], bool]) -> None:
        """A restore is announced; old replies are pruned before all were heard from; the freeze is lifted."""
        frozen = self._desk("freeze", {"frozen": True})
        if frozen.outcome == "done":
            self._desk("prune", {})
        pause(0.3)
        while self._desk("lift", {"frozen": False}).outcome != "done":
            if pause(0.2):
                return

    def release_all(self, devices: Sequence[str]) -> None:
        """End every hold."""
        for device in devices:
            self._web.verb("release", device, "POST", f"/v1/field-servers/{device}/release")


class Killer:
    """``kill -9``, of what is named."""

    def __init__(self, server_pid: Callable[[], int], cluster: Any, database: str, history: History) -> None:
        self._server_pid, self._cluster, self._database, self._history = server_pid, cluster, database, history

    def kill_something(self, dice: random.Random) -> None:
        """A worker, all workers, every connection, one backend, the whole database."""
        what = dice.choices(("worker", "worker", "workers", "connections", "backend", "cluster"), (3, 3, 2, 2, 2, 1))[0]
        self._history.note_fault(what)
        match what:
            case "worker" | "workers":
                workers = children_of(self._server_pid())
                for pid in workers if what == "workers" else workers[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            case "connections" | "backend":
                kill = self._cluster.end_connections if what == "connections" else self._cluster.kill_backend
                with contextlib.suppress(psycopg.OperationalError):  # it is not there to be asked just now
                    kill(self._database)
            case _:
                self._cluster.kill()
                self._cluster.start()


def children_of(pid: int) -> list[int]:
    """The processes that this one has started."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    return []
