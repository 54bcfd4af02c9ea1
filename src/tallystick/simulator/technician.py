"""A technician with the real Device Administrator, whose network is the world and whose laptop may die at any call.

Guarantees: workflows, courier, mailbag and inventory are the real ones, on a database in memory that survives the
process; every call over the network may not arrive, may arrive and be answered into the void, or may carry damaged
bytes. What an operation reports is compared with the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar

from tallystick.administrator.core import goals
from tallystick.administrator.core.courier import Courier
from tallystick.administrator.core.goals import Goal, Report
from tallystick.administrator.core.workflows import Workflows
from tallystick.administrator.memory.database import open_in_memory
from tallystick.administrator.memory.inventory import Assignment, Inventory
from tallystick.administrator.memory.messages import Mailbag
from tallystick.administrator.ports import Answered, Contact, FoundEntitlement, PortError
from tallystick.domain.ids import EntitlementId
from tallystick.errors import Error
from tallystick.fieldserver import views
from tallystick.protocol import tallyfile
from tallystick.protocol.device_api import Identity, InboxResult, LicenseReport, Wish, WrittenRequest
from tallystick.protocol.dry_run import Ask, DryRunAnswer
from tallystick.simulator.dice import Dice
from tallystick.simulator.evidence import Violation
from tallystick.simulator.faults import CARRIAGE_FAULTS, DISK_FAULTS, STORE_FAULTS, Crash, Fault, damage
from tallystick.simulator.parties import Clock, FieldServerCopy
from tallystick.simulator.workload import Act, Step
from tallystick.simulator.world import World

ResultT = TypeVar("ResultT")

URL: Final = "https://activation.example"
CALLS: Final = 14  # a fault strikes at one of so many calls


class Technician:
    """One laptop. ``open`` starts its program anew; only the database is remembered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = Clock()
        self.database = open_in_memory()
        self.step: Step | None = None
        self.calls = 0
        self.strikes_at = -1
        self.cut_at = -1
        self.is_answered_in_vain = False
        self.struck = False
        self.known: set[str] = set()
        self.open()
        self.inventory.add_activation(URL, world.activation.signer.issuer)

    def open(self) -> None:
        """A new process."""
        self.inventory = Inventory(self.database)
        self.mailbag = Mailbag(self.database)
        self.workflows = Workflows(
            inventory=self.inventory,
            mailbag=self.mailbag,
            network=self,  # type: ignore[arg-type]  # a Network, but for `certificate`, which nothing here asks for
            courier=Courier(self, self.inventory),  # type: ignore[arg-type]  # the same
            clock=self.clock,
            at_once_max=1,
        )

    def run(self, copy: FieldServerCopy, goal: Goal, step: Step | None = None) -> Report | None:
        """One operation on one field server; None where the laptop died or its program refused."""
        self._add(copy)
        dice = Dice("technician", step.salt if step else 0)
        self.step, self.calls, self.struck = step, 0, False
        self.strikes_at = dice.below(CALLS) if step and step.fault else -1
        self.cut_at = dice.below(CALLS) if step and dice.chance(250) else -1
        self.is_answered_in_vain = dice.chance(500)
        self.open()
        try:
            (report,) = self.workflows.run({copy.device.device_id: goal})
        except Crash:
            self.world.struck[Fault.COURIER_DIES] += 1
            self.world.log.append("  the laptop dies")
            return None
        except Error as error:
            self.world.auditor.refused(error.code)
            return None
        finally:
            self.step = None
            self.open()
        if report.code is not None:
            self.world.auditor.refused(report.code)
        self._check_report(copy, goal, report)
        return report

    def _check_report(self, copy: FieldServerCopy, goal: Goal, report: Report) -> None:
        """That a return is done is said only where nothing hangs.

        But for what people at the activation server started and nobody has carried yet: no laptop can know of it.
        """
        auditor, device = self.world.auditor, str(copy.device.device_id)
        if not report.is_finished or device in auditor.suspects or auditor.was_restored or device in auditor.declared:
            return
        is_return = isinstance(goal, goals.ReturnOneCarry) or (isinstance(goal, goals.Return) and goal.wants is None)
        is_started = self.world.done[Act.START_CHANGE] + self.world.done[Act.START_RETURN] > 0
        kept = auditor.devices[device].reserved if device in auditor.devices and not is_started else {}
        if is_return and (copy.look().licenses or any(kept.values())):
            raise Violation("P2", f"the return on {copy.name} is said to be done; {kept} is still kept for it")

    def _add(self, copy: FieldServerCopy) -> None:
        if copy.name not in self.known:
            contact = Contact(address=_address(copy), certificate="PEM", fingerprint=copy.name, password="p")  # noqa: S106 - of a simulated one
            port = _FieldServer(self, copy)
            self.inventory.add_field_server(port.look(), contact, now=self.clock.at)
            self.known.add(copy.name)

    # Network

    @contextmanager
    def field_server(self, contact: Contact) -> Iterator[_FieldServer]:
        """See ``administrator.ports.Network``."""
        yield _FieldServer(self, next(copy for copy in self.world.copies if _address(copy) == contact.address))

    def activation(self, _url: str) -> _Activation:
        """See ``administrator.ports.Network``."""
        return _Activation(self)

    def call(self, who: str, work: Callable[[Step | None], ResultT]) -> ResultT:
        """One call over the network, with what may happen to it. Raises ``PortError``."""
        number, self.calls = self.calls, self.calls + 1
        here = self.step if number == self.strikes_at else None
        dies = here is not None and here.fault is Fault.COURIER_DIES
        if number == self.cut_at and not self.is_answered_in_vain:
            raise _unreachable(who)
        if dies and not self.is_answered_in_vain:
            raise Crash
        result = work(here)
        if dies:
            raise Crash
        if number == self.cut_at:
            raise _unreachable(who)
        return result

    def damaged(self, data: bytes, here: Step | None) -> bytes:
        """What a bad route makes of a tally file."""
        if here is None or here.fault not in CARRIAGE_FAULTS or not data.strip():
            return data
        lines = data.strip().split(b"\n")
        place = here.call % len(lines)
        lines[place] = damage(lines[place], here.fault, Dice("damage", here.salt))
        self.world.struck[here.fault] += 1
        return b"\n".join(lines)


class _FieldServer:
    """A field server as its HTTPS API shows it. Implements ``administrator.ports.FieldServerPort``."""

    def __init__(self, technician: Technician, copy: FieldServerCopy) -> None:
        self._technician = technician
        self._world = technician.world
        self._copy = copy

    def look(self) -> Identity:
        """Who it is, without a network."""
        return views.show_identity(self._copy.device, self._copy.look(), fingerprint=self._copy.name, activation=None)

    def identity(self) -> Identity:
        """See ``administrator.ports.FieldServerPort``."""
        return self._call(lambda _: self.look())

    def licenses(self) -> LicenseReport:
        """See ``administrator.ports.FieldServerPort``."""
        copy = self._copy
        return self._call(lambda _: views.show_licenses(copy.device, copy.look(), required={}, now=copy.clock.at))

    def request(self, wish: Wish) -> WrittenRequest:
        """See ``administrator.ports.FieldServerPort``."""
        written = self._call(
            lambda here: self._answer(self._world.ask(self._copy, views.make_wish(wish), _at_disk(here)))
        )
        return views.show_written(written)

    def outbox(self) -> bytes:
        """See ``administrator.ports.FieldServerPort``."""

        def work(here: Step | None) -> bytes:
            outbox = self._world.gather(self._copy, _at_disk(here))
            self._answer("" if self._world.refusal is None else None)
            return self._technician.damaged(b"".join(tallyfile.format_file(outbox)), here)

        return self._call(work)

    def inbox(self, tally: bytes) -> InboxResult:
        """See ``administrator.ports.FieldServerPort``."""

        def work(here: Step | None) -> InboxResult:
            data = self._technician.damaged(tally, here)
            delivery = self._answer(self._world.hand_over(self._copy, data, _at_disk(here)))
            return views.show_delivery(delivery)

        return self._call(work)

    def _call(self, work: Callable[[Step | None], ResultT]) -> ResultT:
        if not self._copy.alive:
            raise _unreachable(self._copy.name)
        return self._technician.call(self._copy.name, work)

    def _answer(self, result: ResultT | None) -> ResultT:
        if result is not None:
            return result
        error = self._world.refusal
        if error is None:  # it died
            raise _unreachable(self._copy.name)
        raise PortError(error.code, expected=error.expected, seen=error.seen)


class _Activation:
    """An activation server as its HTTP API shows it. Implements ``administrator.ports.ActivationPort``."""

    def __init__(self, technician: Technician) -> None:
        self._technician = technician
        self._world = technician.world

    def keys(self) -> bytes:
        """See ``administrator.ports.ActivationPort``."""
        keyset = f"{self._world.activation.signer.keyset.compact}\n".encode()
        return self._technician.call("the activation server", lambda _: keyset)

    def exchange(self, envelopes: Sequence[str]) -> tuple[Answered, ...]:
        """See ``administrator.ports.ActivationPort``. Each message stands alone, so that a bad one has its answer."""

        def work(here: Step | None) -> tuple[Answered, ...]:
            return tuple(self._exchange_one(compact, here) for compact in envelopes)

        return self._technician.call("the activation server", work)

    def _exchange_one(self, compact: str, here: Step | None) -> Answered:
        data = self._technician.damaged(compact.encode(), here)
        answers = self._world.post(data, here if here and here.fault in STORE_FAULTS else None)
        if not answers:
            if data == compact.encode():
                raise _unreachable("the activation server")
            return Answered(digest=None, outcome="error", code="signature-wrong", detail="damaged on the way")
        answer = answers[0]
        return Answered(
            digest=answer.digest,
            outcome=answer.outcome,
            code=answer.code,
            detail=answer.detail,
            replies=answer.reply,
        )

    def foresee(self, asks: Sequence[Ask]) -> DryRunAnswer:
        """See ``administrator.ports.ActivationPort``; nobody here asks."""
        raise PortError("not-found", expected="an activation server that foresees", seen=f"{len(asks)} asks")

    def lookup(self, entitlement_id: EntitlementId) -> FoundEntitlement:
        """See ``administrator.ports.ActivationPort``; nobody here asks."""
        raise PortError("not-found", expected="an entitlement", seen=str(entitlement_id))


def make_goal(world: World, copy: FieldServerCopy, dice: Dice) -> Goal:
    """Something that a technician may want."""
    match dice.weighted({"activate": 8, "return": 5, "one-carry": 3, "refresh": 2, "sync": 4}):
        case "activate":
            line = dice.pick(world.activation.lines)
            assignment = Assignment(
                device_id=copy.device.device_id,
                line_id=line.line_id,
                activation_id=str(line.activation_id),
                quantity=dice.between(1, line.balances.bought),
            )
            return goals.Activate(wants=(assignment,))
        case "return":
            return goals.Return()
        case "one-carry":
            return goals.ReturnOneCarry()
        case "refresh":
            return goals.Refresh()
        case _:
            return goals.Sync()


def technician_of(world: World) -> Technician:
    """The technician of a world, who comes when first called."""
    if not isinstance(world.technician, Technician):
        world.technician = Technician(world)
    return world.technician


def _at_disk(here: Step | None) -> Step | None:
    return here if here and here.fault in DISK_FAULTS else None


def _address(copy: FieldServerCopy) -> str:
    return f"https://{copy.name}"


def _unreachable(who: str) -> PortError:
    return PortError("unreachable", expected=f"an answer from {who}", seen="no route to host")
