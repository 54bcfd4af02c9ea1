"""The real parties in seeded surroundings: an activation server on a breakable store, field servers on breakable disks.

Guarantees: what decides is the code of ``activation`` and ``fieldserver``; what stands here is their surroundings, and
the reading-out of plain data for the auditor.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from msgspec.structs import asdict, replace

from tallystick.activation.core import issuing, reading
from tallystick.activation.core.ports import Answer, Changes, Policy, Transaction
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import EntitlementId, new_line_id
from tallystick.domain.ledger import Account, Balances, apply_booking
from tallystick.fieldserver import codec
from tallystick.fieldserver.agent import Agent
from tallystick.fieldserver.state import Device, State
from tallystick.fieldserver.vault import Vault, create
from tallystick.protocol import envelope, keys, tallyfile
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.keys import Keyset
from tallystick.protocol.messages import Facts
from tallystick.protocol.problems import WireError
from tallystick.protocol.tallyfile import BadLine
from tallystick.simulator.cells import Cell, cells_of
from tallystick.simulator.dice import Dice
from tallystick.simulator.faults import SeededDisk, SeededStore
from tallystick.simulator.sql_store import SeededSqlStore
from tallystick.simulator.store import Tables
from tallystick.simulator.table import compare

ResultT = TypeVar("ResultT")

ISSUER: Final = "Example Controls"
START: Final = 1_800_000_000
DAY: Final = 86_400

KINDS: Final = ("AS-P", "AS-B", "Edge Server")
PRODUCTS: Final = {
    product.sku: product
    for product in (
        Product(sku="smartdriver", name="SmartDriver", kinds=frozenset(KINDS), features={"smartdriver": 1}),
        Product(sku="logs", name="Logs", kinds=frozenset(KINDS), features={"logs": 1}, one_carry=False),
        Product(sku="edge", name="Edge", kinds=frozenset({"Edge Server"}), features={"devices": 10}),
        Product(sku="fixed", name="Fixed", kinds=frozenset(KINDS), features={"fixed": 1}, returnable=False),
    )
}


def seeded(text: str, length: int = 32) -> bytes:
    """Bytes that follow from ``text``: keys of parties, the same in every run."""
    return hashlib.shake_256(text.encode()).digest(length)


class Clock:
    """A wall clock in the simulator's hand."""

    def __init__(self, at: int = START) -> None:
        self.at = at

    def now(self) -> int:
        """See ``fieldserver.ports.Clock``."""
        return self.at


class Issuer:
    """The activation server's root and signing keys; ``rotate`` adds a new signing key to the keyset."""

    def __init__(self, name: str = "issuer", issuer: str = ISSUER) -> None:
        self.name = name
        self.issuer = issuer
        self.root = PrivateKey(seeded(f"{name} root"))
        self.handovers: list[str] = []
        self.signing: list[PrivateKey] = []
        self._first = 0  # of the signing keys that are listed
        self._version = 0
        self.rotate()

    def rotate(self) -> None:
        """A new signing key, and a keyset of the next version that lists it beside the old ones."""
        self.signing = [*self.signing, PrivateKey(seeded(f"{self.name} key {len(self.signing)}"))]
        self._publish()

    def remove_oldest(self) -> None:
        """The oldest signing key leaves the keyset."""
        self._first += 1
        self._publish()

    def hand_over_root(self) -> None:
        """Another root signs keysets from now on."""
        successor = PrivateKey(seeded(f"{self.name} root {len(self.handovers) + 1}"))
        self.handovers = [
            *self.handovers,
            keys.make_handover(
                self.root,
                issuer=self.issuer,
                version=self._version + 1,
                issued_at=START,
                successor=successor.public,
            ),
        ]
        self.root = successor
        self._publish()

    @property
    def listed(self) -> list[PrivateKey]:
        """The signing keys of the keyset."""
        return self.signing[self._first :][-32:]

    def _publish(self) -> None:
        self._version += 1
        compact = keys.make_keyset(
            self.root,
            issuer=self.issuer,
            version=self._version,
            issued_at=START,
            keys=tuple(
                keys.SigningKey(jwk=keys.Jwk(**key.public.jwk), valid_from=-START, valid_until=None)
                for key in self.listed
            ),
            handovers=self.handovers,
        )
        message = envelope.open_envelope(compact.encode())
        self._keyset = keys.parse_keyset(message)

    @property
    def keyset(self) -> Keyset:
        """See ``activation.ports.Signer``."""
        return self._keyset

    def sign(self, typ: str, payload: bytes) -> str:
        """See ``activation.ports.Signer``."""
        return self.signing[-1].sign(typ, payload)


class ActivationServer:
    """``issuing`` on a breakable store, with its clock."""

    def __init__(self, *, policy: Policy, has_sql: bool = False, has_table: bool = False) -> None:
        self.policy = policy
        self.has_table = has_table  # each answer is compared with the decision table
        self.signer = Issuer()
        self.clock = Clock()
        tables = Tables(catalog=Catalog(kinds=KINDS, products=PRODUCTS))
        self.store = SeededSqlStore(tables) if has_sql else SeededStore(tables)
        self.lines: list[Line] = []
        self.cells: Counter[Cell] = Counter()  # in which messages were decided
        self.sold: list[Line] = []  # also those that a restore made us forget

    def sell(self, quantity: int, sku: str, *, account: str = "acme", **terms: Any) -> Line:
        """A new entitlement with one line."""
        number = len(self.sold)
        line = Line(
            line_id=new_line_id(seeded(f"line {number}")),
            entitlement_id=EntitlementId(f"EN-{number}"),
            account=account,
            product=PRODUCTS[sku],
            secret=seeded(f"secret {number}", 16),
            **terms,
        )
        balances, entry = apply_booking(
            Balances(),
            line_id=line.line_id,
            source=Account.BOUGHT,
            target=Account.AVAILABLE,
            quantity=quantity,
            device_id=None,
            cause="bought",
            booked_at=self.clock.at,
        )
        line = replace(line, balances=balances)
        entitlement = Entitlement(
            entitlement_id=line.entitlement_id, account=line.account, created_at=self.clock.at, lines=(line,)
        )
        self.store.transact(lambda tx: tx.save_entitlement(entitlement, [entry]))
        self.sold.append(line)
        self.lines.append(line)
        return line

    def take(self, data: bytes) -> tuple[list[Answer], list[str]]:
        """A whole body or file: the answers to its good lines, and the codes of the others."""
        good, codes = [], []
        for line in tallyfile.parse_chunks([data]):
            if isinstance(line, BadLine):
                codes.append(line.error.code)
                continue
            try:
                good.append(reading.read_message(line.envelope, self.signer.keyset))
            except WireError as error:
                answer = reading.error_answer(error)
                codes.append(answer.code or "invariant")
        if not good:
            return [], codes
        before = self.store.tables
        met = list(cells_of(good, before))
        answers = self.run(
            lambda tx: issuing.process(good, tx, signer=self.signer, policy=self.policy, now=self.clock.at)
        )
        self.cells.update(met)
        if self.has_table:
            compare(good, answers, before, self.store.tables)
        return answers, codes

    def run(self, work: Callable[[Transaction], ResultT]) -> ResultT:
        """One unit of work."""
        return self.store.transact(work)


class RecordingVault(Vault):
    """The real vault; it remembers what it was last told to save, and whether it said that it did."""

    intended: State | None = None
    is_saved = False

    def save(self, state: State) -> None:
        """See ``Vault.save``."""
        self.intended = state
        self.is_saved = False
        super().save(state)
        self.is_saved = True


class _Free:
    @contextmanager
    def hold(self) -> Iterator[None]:
        """See ``fieldserver.ports.Lock``: the simulator runs one process at a time."""
        yield


class _Secrets:
    def __init__(self, dice: Dice) -> None:
        self.dice = dice

    def bytes(self, count: int) -> bytes:
        """See ``fieldserver.ports.Random``."""
        return self.dice.bytes(count)


@dataclass(slots=True)
class FieldServerCopy:
    """One physical field server. A clone is another one with the same key."""

    name: str
    device: Device
    disk: SeededDisk
    clock: Clock
    secrets: _Secrets
    alive: bool = True
    snapshots: list[dict[str, bytes]] = field(default_factory=list)
    vault: RecordingVault = field(init=False)
    agent: Agent = field(init=False)

    def __post_init__(self) -> None:
        self.boot()

    def boot(self) -> None:
        """A new process: nothing but the disk is remembered."""
        self.vault = RecordingVault(self.disk, self.device.key.seed())
        self.agent = Agent(vault=self.vault, device=self.device, clock=self.clock, random=self.secrets, lock=_Free())

    def look(self) -> State:
        """The state that a load would give now."""
        return self.vault.peek()

    def durable(self) -> State:
        """The state that a load would give after a power cut that takes everything unsynced."""
        return self.look_at(self.disk.durable, self.device)

    @staticmethod
    def look_at(slots: dict[str, bytes], device: Device) -> State:
        """The state that a load of these slots would give."""
        return Vault(SeededDisk(slots), device.key.seed()).peek()

    def rename_host(self, host_id: str) -> None:
        """Its host id changes, as after a change of hardware."""
        facts = self.device.facts
        self.device = Device(
            key=self.device.key,
            facts=Facts(kind=facts.kind, host_id=host_id, name=facts.name, software=facts.software),
        )
        self.boot()

    def clone(self, name: str) -> FieldServerCopy:
        """A second one, disk and all."""
        return FieldServerCopy(
            name=name,
            device=self.device,
            disk=SeededDisk(self.disk.durable),
            clock=Clock(self.clock.at),
            secrets=_Secrets(Dice(name, "clone")),
        )


def make_field_server(number: int, *, kind: str, keyset: str | None, seed: object) -> FieldServerCopy:
    """A commissioned field server; with a keyset, its root is pinned."""
    name = f"fs{number}"
    key = PrivateKey(seeded(f"device {number}"))
    facts = Facts(kind=kind, host_id=f"host-{number}", name=name, software="1.0")
    disk = SeededDisk()
    create(disk, key.seed(), State(device_id=key.public.device_id))
    copy = FieldServerCopy(
        name=name,
        device=Device(key=key, facts=facts),
        disk=disk,
        clock=Clock(),
        secrets=_Secrets(Dice(seed, "secrets", number)),
    )
    if keyset is not None:
        copy.agent.deliver(list(tallyfile.parse_chunks([keyset.encode()])))
    return copy


# Plain data for the auditor


def state_row(copy: FieldServerCopy, state: State) -> dict[str, Any]:
    """What a field server is, as plain data."""
    return {
        "device": str(copy.device.device_id),
        "epoch": state.epoch,
        "sequence": state.sequence,
        "grant": None if state.applied is None else state.applied.compact,
        "rolled_back_at": state.rolled_back_at,
        "outbox": {str(waiting.digest): waiting.sequence for waiting in state.outbox},
        "is_durable": copy.disk.cached == copy.disk.durable,
    }


def terms_of(line: Line) -> dict[str, Any]:
    """What a line was sold for, as plain data."""
    product = line.product
    return {
        "account": line.account,
        "sku": str(product.sku),
        "features": dict(product.features),
        "kinds": tuple(sorted(product.kinds)),
        "returnable": product.returnable,
        "one_carry": product.one_carry,
        "engineering": line.engineering,
        "expires": line.expires_at,
        "suspended": line.suspended,
    }


def state_bytes(state: State | None) -> bytes:
    """A state as its bytes, to compare two."""
    return b"" if state is None else codec.encode_state(state)


def rows_of(changes: Sequence[Changes], compacts: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Committed changes as plain data. ``compacts``: the envelopes of messages by digest."""
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("field_servers", "lines", "entries", "holdings", "messages", "grants", "incidents")
    }
    for change in changes:
        _add_rows(rows, change, compacts)
    # A unit of work may write a line more than once; what it is committed with is the last.
    rows["lines"] = list({row["line"]: row for row in rows["lines"]}.values())
    return rows


def table_rows(tables: Tables, compacts: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """Everything that an activation server knows, as plain data."""
    everything = Changes(
        field_servers=dict(tables.field_servers),
        lines=dict(tables.lines),
        entries=list(tables.entries.values()),
        holdings=dict(tables.holdings),
        messages=list(tables.messages.values()),
        grants=list(tables.grants.values()),
        incidents=[],
    )
    return rows_of([everything], compacts)


def _add_rows(rows: dict[str, list[dict[str, Any]]], change: Changes, compacts: dict[str, str]) -> None:
    for server in change.field_servers.values():
        rows["field_servers"].append(
            {
                "device": str(server.device_id),
                "status": str(server.status),
                "epoch": server.epoch,
                "sequence": server.sequence,
                "recovering": server.recovering,
                "kind": server.kind,
            }
        )
    for line in change.lines.values():
        rows["lines"].append(
            asdict(line.balances) | {"line": str(line.line_id), "frozen": line.frozen} | terms_of(line)
        )
    for entry in change.entries:
        row = {name: getattr(entry, name) for name in ("number", "quantity", "cause", "booked_at", "chain")}
        row |= {"source": str(entry.source), "target": str(entry.target), "line": str(entry.line_id)}
        rows["entries"].append(row | {"device": entry.device_id and str(entry.device_id)})
    for (device, line_id), holding in change.holdings.items():
        kept = {"held": holding.held, "returning": holding.returning, "quarantined": holding.quarantined}
        rows["holdings"].append({"device": str(device), "line": str(line_id), **kept})
    for message in change.messages:
        rows["messages"].append(
            {
                "device": str(message.device_id),
                "compact": compacts.get(message.digest),
                "reply": [str(reply) for reply in message.answer.reply],
            }
        )
    for grant in change.grants:
        rows["grants"].append({"device": str(grant.device_id), "envelope": grant.envelope})
    for incident in change.incidents:
        rows["incidents"].append({"device": str(incident.device_id), "kind": str(incident.kind)})
