"""A world: one activation server, some field servers, and everything that is on its way between them.

Guarantees: what happens follows from the plan alone; after every step the auditor has been told every fact. The acts
themselves are in ``acts``; the peaceful end of a run is in ``healing``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from tallystick.activation.core import verification
from tallystick.activation.core.ports import Answer, MessageOutcome, Policy, Status, Transaction
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.fieldserver.agent import DeliveryResult
from tallystick.fieldserver.state import LineEffect, State, Wish, Written
from tallystick.protocol import tallyfile
from tallystick.protocol.envelope import digest_of
from tallystick.protocol.problems import PROBLEMS
from tallystick.protocol.tallyfile import GoodLine
from tallystick.simulator.dice import Dice
from tallystick.simulator.evidence import Violation, read_envelope
from tallystick.simulator.faults import DISK_FAULTS, STORE_FAULTS, Crash, Fault, damage
from tallystick.simulator.invariants import Auditor
from tallystick.simulator.parties import (
    ActivationServer,
    FieldServerCopy,
    make_field_server,
    rows_of,
    state_bytes,
    state_row,
    table_rows,
    terms_of,
)
from tallystick.simulator.workload import Plan, Step

ResultT = TypeVar("ResultT")

CARRIED_MAX: Final = 80


@dataclass(slots=True)
class Backup:
    """An old state of the activation server, and what the auditor knew about ended waiting periods."""

    snapshot: Any
    void: dict[str, int]


@dataclass(slots=True)
class World:
    """The parties, what is carried, and the auditor."""

    plan: Plan
    activation: ActivationServer
    copies: list[FieldServerCopy]
    auditor: Auditor
    up: list[str] = field(default_factory=list)
    down: list[str] = field(default_factory=list)
    compacts: dict[str, str] = field(default_factory=dict)  # every message that left a field server, by digest
    backups: list[Backup] = field(default_factory=list)
    restored_at: int = 0  # by the activation server's clock
    technician: object = None  # see ``technician``, which knows this module
    refusal: Error | None = None  # of the last step of a field server
    log: list[str] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)

    # Telling the auditor

    def tell_committed(self) -> None:
        """Everything that the activation server committed since the last time."""
        journal, self.activation.store.journal = self.activation.store.journal, []
        if journal:
            self.auditor.committed(rows_of(journal, self.compacts))
        for key in self.activation.signer.signing:
            self.auditor.trust(key.public.x)

    def tell_state(self, copy: FieldServerCopy) -> None:
        """What a field server is now."""
        self.auditor.field_server(copy.name, state_row(copy, copy.look()))

    # Field servers

    def at_field_server(self, copy: FieldServerCopy, work: Callable[[], ResultT], step: Step | None) -> ResultT | None:
        """One step of a field server with a fault inside; None where it crashed or refused."""
        before = [copy.look()]
        if copy.disk.cached != copy.disk.durable:  # a killed process left something unsynced; it may still be lost
            before.append(copy.durable())
        copy.vault.intended, copy.vault.is_saved = None, False
        dice = Dice("fault", step.salt) if step else Dice("none")
        if step and step.fault in DISK_FAULTS:
            copy.disk.arm(step.fault, calls=step.call, dice=dice)
        result = None
        self.refusal = None
        try:
            result = work()
        except Crash:
            copy.disk.fault = None
            if copy.disk.struck is Fault.POWER_CUT:
                copy.disk.cut_power(dice)
            self.log.append(f"  {copy.name} dies at a disk call ({copy.disk.struck})")
        except Error as error:
            self.auditor.refused(error.code)
            self.refusal = error
            self.log.append(f"  {copy.name} refuses: {error.code}")
        struck = copy.disk.disarm()
        if struck:
            self.struck[struck] += 1
            self._check_vault(copy, before, struck)
        self.tell_state(copy)
        return result

    def _check_vault(self, copy: FieldServerCopy, before: Sequence[State], struck: Fault) -> None:
        intended, is_saved = copy.vault.intended, copy.vault.is_saved
        if struck in {Fault.KILL, Fault.POWER_CUT}:
            copy.boot()
        allowed = [*before] if intended is None else [*before, intended]
        if intended is not None and is_saved:
            allowed = [intended]
        self.auditor.vault(copy.name, found=state_bytes(copy.look()), allowed=[state_bytes(state) for state in allowed])

    def ask(self, copy: FieldServerCopy, wish: Wish, step: Step | None = None) -> Written | None:
        """A wish; its message is shown to whoever asked, and so may be carried at once."""
        written = self.at_field_server(copy, lambda: copy.agent.ask(wish), step)
        if written is not None:
            self.speak(copy, [written.message.compact])
        return written

    def gather(self, copy: FieldServerCopy, step: Step | None = None) -> list[str]:
        """The outbox, as a courier gets it."""
        outbox = self.at_field_server(copy, copy.agent.outbox, step) or ()
        messages = [waiting.compact for waiting in outbox]
        self.speak(copy, messages)
        return messages

    def speak(self, copy: FieldServerCopy, messages: Sequence[str]) -> None:
        """Messages leave a field server."""
        if not messages:
            return
        durable = copy.durable()
        outbox = [waiting.compact for waiting in durable.outbox]
        for compact in messages:
            self.compacts[digest_of(compact)] = compact
            self.auditor.spoken(copy.name, compact, durable_outbox=outbox, durable_sequence=durable.sequence)

    def hand_over(self, copy: FieldServerCopy, data: bytes, step: Step | None = None) -> DeliveryResult | None:
        """A tally file reaches a field server."""
        lines = list(tallyfile.parse_chunks([data]))
        for good in lines:
            if isinstance(good, GoodLine):
                request, seen = _request_of(good.envelope.compact)
                self.auditor.offered(copy.name, request, seen=seen)
        delivery = self.at_field_server(copy, lambda: copy.agent.deliver(lines), step)
        if delivery is None:
            return None
        for line in delivery.lines:
            if line.received.code is not None:
                self.auditor.refused(line.received.code)
        taken = {line.received.digest for line in delivery.lines if line.received.effect is not LineEffect.ERROR}
        self._tell_heard(copy, [line.envelope.compact for line in lines if isinstance(line, GoodLine)], taken)
        return delivery

    def _tell_heard(self, copy: FieldServerCopy, compacts: Sequence[str], taken: Collection[str | None]) -> None:
        for compact in compacts:
            if digest_of(compact) in taken:
                self.auditor.heard(copy.name, _request_of(compact)[0])

    # The activation server

    def post(self, data: bytes, step: Step | None = None) -> list[Answer]:
        """A tally file reaches the activation server; what it lets out comes back."""

        def work() -> list[Answer]:
            answers, codes = self.activation.take(data)
            for code in codes:
                self.auditor.refused(code)
            return answers

        answers = self.at_activation(work, step) or []
        self.auditor.answered([str(answer.digest) for answer in answers])
        for answer in answers:
            if answer.code is not None:
                self.auditor.refused(answer.code)
            known = self.auditor.messages.get(str(answer.digest))
            if not answer.is_kept:  # whoever proved nothing leaves no row; what it gets says so, and may change
                if known is not None or answer.outcome is not MessageOutcome.REFUSED:
                    raise Violation(
                        "P4", f"message {str(answer.digest)[:8]} was taken, and is answered as a stranger's"
                    )
                continue
            if known != tuple(answer.reply):
                raise Violation("P4", f"message {str(answer.digest)[:8]} got a reply that is not the stored one")
        return answers

    def at_activation(self, work: Callable[[], ResultT], step: Step | None = None) -> ResultT | None:
        """One unit of work with a fault inside; None where the activation server died or refused."""
        store = self.activation.store
        store.fault = step.fault if step and step.fault in STORE_FAULTS else None
        result = None
        try:
            result = work()
        except Crash:
            self.log.append(f"  the activation server dies ({store.struck})")
        except Error as error:
            self.auditor.refused(error.code)
            self.log.append(f"  the activation server refuses: {error.code}")
        store.fault = None
        if store.struck:
            self.struck[store.struck] += 1
            store.struck = None
        self.tell_committed()
        return result

    def transact(self, work: Callable[[Transaction], ResultT], step: Step | None = None) -> ResultT | None:
        """What a person or the clock does at the activation server."""
        return self.at_activation(lambda: self.activation.run(work), step)

    # What is carried

    def carry(self, bag: list[str], envelopes: Sequence[str], dice: Dice) -> None:
        """Put envelopes into a bag; a full bag loses something, anything."""
        bag.extend(envelopes)
        while len(bag) > CARRIED_MAX:
            bag.pop(dice.below(len(bag)))

    def pack(self, envelopes: Sequence[str], step: Step | None) -> bytes:
        """A tally file with these lines, damaged where the step says so."""
        lines = [compact.encode() for compact in envelopes]
        if step and lines and step.fault in {Fault.CUT, Fault.FLIP, Fault.JUNK}:
            place = step.call % len(lines)
            lines[place] = damage(lines[place], step.fault, Dice("damage", step.salt))
            self.struck[step.fault] += 1
        return b"\n".join(lines)

    def verify(self) -> None:
        """The activation server's own audit must be green, too."""
        report = self.activation.run(verification.verify_books)
        if not report.is_green:
            raise Violation("P5", "; ".join(report.faults))
        self.activation.store.compare()

    def backup(self) -> None:
        """Copy the database away."""
        void = {device: known.void_below for device, known in self.auditor.devices.items()}
        self.backups = [*self.backups[-3:], Backup(snapshot=self.activation.store.snapshot(), void=void)]

    def tell_restored(self, backup: Backup) -> None:
        """The activation server is what the backup says."""
        self.activation.store.journal = []
        there = self.activation.store.tables.lines
        self.activation.lines = [line for line in self.activation.sold if line.line_id in there]
        rows: dict[str, Any] = table_rows(self.activation.store.tables, self.compacts)
        present = {str(copy.device.device_id) for copy in self.copies if copy.alive}
        self.auditor.restored(rows, present=present, void=backup.void)

    @property
    def living(self) -> list[FieldServerCopy]:
        """The copies that are alive."""
        return [copy for copy in self.copies if copy.alive]


def known_devices(world: World, *statuses: Status) -> list[DeviceId]:
    """Device ids that the activation server knows, with one of the statuses."""
    servers = world.activation.store.tables.field_servers
    return sorted(device for device, server in servers.items() if server.status in statuses)


def name_of(world: World, device: str) -> str:
    """The name of a device's first copy."""
    return next((copy.name for copy in world.copies if copy.device.device_id == device), device[:8])


def _request_of(compact: str) -> tuple[str, int]:
    """Which message a reply says that it answers, and ``seen``; nothing where it says nothing that can be read."""
    try:
        claims = read_envelope(compact)[1]
        return str(claims.get("request")), int(claims.get("seen", 0))
    except (ValueError, TypeError):
        return "", 0


def make_world(plan: Plan) -> World:
    """The world of a plan, before anything happens."""
    activation = ActivationServer(policy=Policy(lost_per_year=3), has_sql=plan.has_sql, has_table=plan.has_table)
    for sku, quantity in plan.lines:
        activation.sell(quantity, sku)
    keyset = activation.signer.keyset.compact
    copies = [
        make_field_server(number, kind=kind, keyset=keyset, seed=plan.seed) for number, kind in enumerate(plan.kinds)
    ]
    world = World(
        plan=plan,
        activation=activation,
        copies=copies,
        auditor=Auditor(issuer=activation.signer.issuer, codes=[problem.code for problem in PROBLEMS]),
    )
    world.tell_committed()
    for line in activation.lines:
        world.auditor.sold(str(line.line_id), line.secret, terms_of(line))
    for copy in copies:
        world.tell_state(copy)
    return world
