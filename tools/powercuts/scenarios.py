"""What is recorded: each scenario is a process, ``python -m powercuts.scenarios NAME ROOT``, that works below ``ROOT``.

What it has let out, it says: a line of JSON on standard output, in one ``write``. Who is on the other side keeps its
memory elsewhere, so that nothing but the party in question is on the disk that loses its power.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Never

from tallystick.activation.core import entitlements, exchanges
from tallystick.activation.core.ports import Policy
from tallystick.activation.server.instance import Activation, initialise, open_activation
from tallystick.administrator.app import open_sealer
from tallystick.administrator.memory.database import open_database
from tallystick.administrator.memory.messages import Mailbag, read_message
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import ActivationId
from tallystick.fieldserver import codec, commissioning, platform, vault
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.state import (
    Activate,
    ActivationWant,
    Device,
    Refresh,
    Relinquish,
    Return,
    State,
    Waiting,
    Wish,
)
from tallystick.protocol import tallyfile
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.messages import Facts
from tallystick.protocol.tallyfile import GoodLine
from tallystick.simulator.crowd import MemoryDisk

SETTINGS: Final = platform.Settings(kind="AS-P", name="roof", host_id="host-roof", trust_first=True)
STEPS: Final = 24
ROUNDS: Final = 6
FIELD_SERVERS: Final = 3
PASSWORD: Final = "of the field server"  # noqa: S105 - one that is sealed here, and nowhere used
_CATALOG: Final = Catalog(
    kinds=("AS-P",),
    products={"logs": Product(sku="logs", name="Logs", kinds=frozenset({"AS-P"}), features={"logs": 1})},
)


def say(**facts: Any) -> None:
    """Let others know."""
    os.write(1, json.dumps(facts).encode() + b"\n")


# A field server's vault


def fieldserver_vault(root: Path) -> None:
    """A field server that asks, returns, relinquishes and takes replies; also after a command that was killed in a save."""
    with _activation_elsewhere(root) as (activation, line):
        clock, dice = platform.SystemClock(), random.Random("vault")  # the same course every time
        home = commissioning.commission(
            root / "data", settings=SETTINGS, clock=clock, random=platform.SystemRandom()
        ).home
        agent = commissioning.open_agent(home, clock=clock, random=platform.SystemRandom())
        agent.deliver(list(tallyfile.parse_chunks([_keys(activation)])))
        _say_state(agent)
        for step in range(STEPS):
            match ("ask", "deliver", "ask", "killed", "deliver")[step % 5]:
                case "ask":
                    agent.ask(_wish(dice, line, agent.peek()))
                case "killed":
                    _ask_and_be_killed(agent, _activate(line, 10 + step))
                    agent.outbox()  # what it lets out here, another process wrote
                case _:
                    agent.deliver(_carry(activation, agent.outbox()))
            _say_state(agent)


def _say_state(agent: Agent) -> None:
    """What others may rely on: the messages that wait, and so all that led to them."""
    agent.outbox()
    say(state=state_digest(agent.peek()), sequence=agent.peek().sequence)


def state_digest(state: State) -> str:
    """All of a state, in short."""
    return hashlib.sha256(codec.encode_state(state)).hexdigest()


def _wish(dice: random.Random, line: Line, state: State) -> Wish:
    wishes: list[Wish] = [_activate(line, dice.randint(1, 3)), Refresh()]
    if state.licenses:
        wishes += [Return(wants=None), Relinquish()]
    return dice.choice(wishes)


def _ask_and_be_killed(agent: Agent, wish: Wish) -> None:
    """Another process on the same vault dies between its write and its sync: the bytes are in the system's cache."""
    child = os.fork()
    if child == 0:

        def die(_: object, __: str) -> Never:
            os._exit(0)

        platform.FileDisk.sync = die  # type: ignore[method-assign, assignment]  # the end of this process, put where it comes
        agent.ask(wish)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError("the second process was to die in its save")


# An activation server on SQLite


def activation_database(root: Path) -> None:
    """An activation server that answers, is closed and opened again, so that its log is taken into the database."""
    activation = initialise(root / "data", issuer="Example Controls", policy=Policy(), database=None)
    line = _sell(activation)
    dice = random.Random("activation")
    agents = [_agent_in_memory(number, activation) for number in range(FIELD_SERVERS)]
    say(line=line.line_id)
    for round_ in range(2 * ROUNDS):
        if round_ == ROUNDS:
            activation.close()
            activation = open_activation(root / "data", service=True)
        asked: list[Waiting] = []
        for agent in agents:
            agent.ask(_wish(dice, line, agent.peek()))
            asked += agent.outbox()
        replies = _answer(activation, asked)
        say(answers={digest: _short(reply) for digest, reply in replies.items() if not _is_forgotten(reply)})
        for agent in agents:
            agent.deliver(_lines([one for message in agent.outbox() for one in replies[message.digest].split()]))
    activation.close()
    say(closed=True)


def _answer(activation: Activation, asked: Sequence[Waiting]) -> dict[str, str]:
    lines = _lines([message.compact for message in asked])
    read = exchanges.messages_of(exchanges.read_lines(lines, activation.signer.keyset))
    return {str(answer.digest): "\n".join(answer.reply) for answer in activation.process(read)}


# A laptop


def laptop(root: Path) -> None:
    """Device Administrator's mailbag: what came from a stick is there for good before anybody is told."""
    with _activation_elsewhere(root) as (activation, line):
        agents = [_agent_in_memory(number, activation) for number in range(FIELD_SERVERS)]
        database = open_database(root / "data")
        say(sealed=open_sealer(root / "data").seal(PASSWORD, SETTINGS.name), kept=[], is_durable=False)
        bag, dice = Mailbag(database), random.Random("laptop")
        for round_ in range(ROUNDS):
            for turn, agent in enumerate(agents):
                agent.ask(_wish(dice, line, agent.peek()))
                is_from_a_stick = (round_ + turn) % 2 == 0
                gathered = [read_message(open_envelope(one.compact.encode())) for one in agent.outbox()]
                bag.gather(gathered, now=activation.now(), durable=is_from_a_stick)
                say(kept=[one.digest for one in gathered], is_durable=is_from_a_stick)
                agent.deliver(_carry(activation, agent.outbox()))
        database.close()


# The other sides


@contextmanager
def _activation_elsewhere(root: Path) -> Iterator[tuple[Activation, Line]]:
    activation = initialise(
        root.with_name(f"{root.name}.aside"), issuer="Example Controls", policy=Policy(), database=None
    )
    try:
        yield activation, _sell(activation)
    finally:
        activation.close()


def _sell(activation: Activation) -> Line:
    activation.transact(lambda transaction: transaction.save_catalog(_CATALOG))
    bought = activation.transact(
        lambda transaction: entitlements.create_entitlement(
            transaction,
            activation.signer,
            account="acme",
            products=[("logs", 1000)],
            expires_at=None,
            random_bytes=activation.random_bytes,
            by="Office",
            now=activation.now(),
        )
    )
    return bought.lines[0]


class _NoLock:
    """Implements ``fieldserver.ports.Lock`` where there is one thread."""

    @contextmanager
    def hold(self) -> Iterator[None]:
        yield


def _agent_in_memory(number: int, activation: Activation) -> Agent:
    seed = hashlib.sha256(f"field server {number}".encode()).digest()
    facts = Facts(kind="AS-P", host_id=f"host-{number}", name=f"fs-{number}", software="1")
    device = Device(key=PrivateKey(seed), facts=facts)
    agent = Agent(
        vault=vault.create(MemoryDisk(), seed, State(device_id=device.device_id)),
        device=device,
        clock=platform.SystemClock(),
        random=platform.SystemRandom(),
        lock=_NoLock(),
    )
    agent.deliver(list(tallyfile.parse_chunks([_keys(activation)])))
    return agent


def _activate(line: Line, quantity: int) -> Activate:
    want = ActivationWant(activation_id=ActivationId(line_id=line.line_id, secret=line.secret), quantity=quantity)
    return Activate(wants=(want,))


def _carry(activation: Activation, asked: Sequence[Waiting]) -> list[GoodLine]:
    return _lines([one for reply in _answer(activation, asked).values() for one in reply.split()])


def _keys(activation: Activation) -> bytes:
    return activation.signer.keyset.compact.encode() + b"\n"


def _lines(compacts: Sequence[str]) -> list[GoodLine]:
    return [
        GoodLine(line_number=number, envelope=open_envelope(compact.encode()))
        for number, compact in enumerate(compacts, 1)
    ]


def _is_forgotten(reply: str) -> bool:
    """Whether it is the refusal of one that was not known then: nothing of it is kept."""
    payload = reply.split(".")[1] + "==="
    said = json.loads(base64.urlsafe_b64decode(payload))
    return "code" in said and said.get("seen") == 0


def _short(reply: str) -> str:
    return hashlib.sha256(reply.encode()).hexdigest()


SCENARIOS: Final[dict[str, Callable[[Path], None]]] = {
    "fieldserver-vault": fieldserver_vault,
    "activation-database": activation_database,
    "laptop": laptop,
}

if __name__ == "__main__":
    SCENARIOS[sys.argv[1]](Path(sys.argv[2]))
