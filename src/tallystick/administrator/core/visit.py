"""One visit of Device Administrator to one field server, whatever the goal and whatever the route:

1. Look: who is there, what it holds, what waits. The keys it lacks go along with the first delivery.
2. Settle what waits from before, in both directions.
3. Compare with the goal. Reached, and nothing under way that would change it: nothing is sent.
4. Ask; settle; compare again. A grant may answer with something else (after a rollback, a restore or a fence), a
   message may have been overtaken: then ask again, a bounded number of times.

Settling is: outbox up, replies down, until the outbox is empty and nothing waits, or no courier can go on. An envelope
is in the mailbag before it is passed on, so a visit that dies at any point is taken up by the next one.
Leaves to others: many field servers at once (``workflows``), who carries (``courier``), what a person typed
(``planning``), what is shown (``next_steps``, ``cli``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, assert_never

from tallystick.administrator.core.courier import Courier, Unread
from tallystick.administrator.core.goals import (
    Activate,
    Goal,
    GoalResult,
    Refresh,
    Report,
    Return,
    ReturnOneCarry,
    Sync,
    TakeOutOfService,
    wish_of,
)
from tallystick.administrator.core.next_steps import CHANGING, PROOFS, NextStep, Phase, decide_next_step, step_sentence
from tallystick.administrator.core.reach import Reach
from tallystick.administrator.core.ways import SYNC, remove
from tallystick.administrator.memory.inventory import FieldServerRecord, Inventory, Trouble
from tallystick.administrator.memory.messages import Inbound, Mailbag, Outbound, read_message
from tallystick.administrator.ports import (
    Clock,
    FieldServerPort,
    Network,
    PortError,
    Stage,
    made_reasons,
    next_step_of,
)
from tallystick.domain.ids import DeviceId, Digest
from tallystick.errors import Error
from tallystick.protocol import tallyfile
from tallystick.protocol.device_api import Identity, LicenseReport, LineResult, OutcomeNote, WrittenRequest
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.keys import Keyset
from tallystick.protocol.messages import LineReason
from tallystick.protocol.tallyfile import BadLine
from tallystick.sentences import _

ROUNDS_MAX: Final = 8
ATTEMPTS_MAX: Final = 4
# Refusals that say: nothing is wrong with the wish, ask again.
_ASK_AGAIN: Final = frozenset({"superseded", "grant-unknown", "restored"})
# Who answers all the same, and what else says something about the next contact.
ANSWERS: Final = frozenset({"password-wrong", "too-many-tries", "version-wrong"})
# Who was asked did not answer, and somebody else did: a proxy, a certificate that nobody here vouches for.
ON_THE_WAY: Final = frozenset({"proxy-refused", "certificate-untrusted"})
_TROUBLES: Final = ANSWERS | {"unreachable", "proxy-refused", "certificate-changed", "device-wrong"}
_TAKEN: Final = frozenset({"applied", "already", "noted", "stale", "refused"})


class Stopped(Exception):
    """A person said stop; raised between two steps of a visit."""


class Office:
    """What all visits share: what the laptop remembers, and the ways to the outside."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        mailbag: Mailbag,
        network: Network,
        courier: Courier,
        clock: Clock,
        reach: Reach | None = None,
    ) -> None:
        self.reach = reach
        self.inventory = inventory
        self.mailbag = mailbag
        self.network = network
        self.courier = courier
        self.clock = clock

    def carry(
        self, issuer: str, waiting: Sequence[Outbound], *, names: Mapping[DeviceId, str] | None = None
    ) -> list[Unread]:
        """Messages up, replies for the field servers in ``names`` (None: all) into the bag. Raises ``PortError``."""
        carried = self.courier.exchange(issuer, waiting)
        self.mailbag.keep_replies(carried.replies, now=self.clock.now(), names=names or self.inventory.names())
        for unread in carried.unread:
            self.mailbag.note_unread(unread.digest, code=unread.code, detail=unread.detail)
        return list(carried.unread)

    def keep_trouble(self, device_id: DeviceId, error: PortError) -> None:
        """Remember why a field server could not be worked with, where that says something about the next contact."""
        if self.reach is not None:
            self.reach.note_field_server(device_id, code=error.code, why=error.said[1])
        if error.code in _TROUBLES:
            trouble = Trouble(code=error.code, seen=error.said[1], next_step=error.next_step, at=self.clock.now())
            self.inventory.keep_trouble(device_id, trouble)

    def next_step(self, device_id: DeviceId, *, has_route: bool | None = None) -> NextStep:
        """What is open on a field server, and what to do."""
        record = self.inventory.field_server(device_id)
        if record is None:
            raise Error("not-found", expected=_("a field server in the list"), seen=device_id)
        return decide_next_step(
            record,
            outbound=self.mailbag.outbound(device_id),
            inbound=self.mailbag.inbound(device_id),
            assignments=self.inventory.assignments(device_id),
            now=self.clock.now(),
            has_route=has_route,
        )


def _is_on_hold(report: LicenseReport) -> bool:
    """As far as the newest answer of its activation server says."""
    return bool(report.outcomes) and report.outcomes[-1].code == "on-hold"


@dataclass(slots=True)
class _Log:
    """What happened during one visit."""

    no_route: PortError | None = None
    unread: list[Unread] = field(default_factory=list)
    refused: dict[Digest, LineResult] = field(default_factory=dict)
    is_delivered: bool = False
    carried: int = 0
    delivered: int = 0


class Visit:
    """One field server, one goal, one thread."""

    def __init__(
        self, office: Office, record: FieldServerRecord, tell: Callable[[Stage], None], stop: threading.Event
    ) -> None:
        self.office = office
        self.record = record
        self.device_id = record.device_id
        self._tell = tell
        self._stop = stop
        self.log = _Log()
        self.has_own_route = False
        self.is_proving = bool(record.returning)

    def run(self, goal: Goal) -> Report:
        """All four steps, or what can be done without the field server."""
        self._step(Stage.CONNECTING)
        try:
            with self.office.network.field_server(self.record.contact) as port:
                return self._work(port, goal)
        except PortError as error:
            self.office.keep_trouble(self.device_id, error)
            return self._without_field_server(goal, error)

    def _work(self, port: FieldServerPort, goal: Goal) -> Report:
        identity = port.identity()
        self._check_identity(identity)
        report = self._look(port)
        keyset = self._keys_for(identity, goal)
        if report.outbox or keyset or self.office.mailbag.inbound(self.device_id):
            self._settle(port, keyset, None if report.outbox else [])
            report = self._look(port)
        return self._reach(port, goal, report)

    # 1. Look

    def look(self, port: FieldServerPort) -> bool:
        """Only this step. True: it was reached."""
        self._check_identity(port.identity())
        self._look(port)
        return True

    def _check_identity(self, identity: Identity) -> None:
        if identity.device_id != self.device_id:
            raise PortError(
                "device-wrong",
                expected=_(
                    "{record}, {device_id}, at {address}",
                    record=self.record.name,
                    device_id=self.device_id[:12],
                    address=self.record.address,
                ),
                seen=f"{identity.name}, {identity.device_id[:12]}",
                next_step=_("Remove it and add it again: {remove}.", remove=remove(self.record.name)),
            )
        if self.office.reach is not None:
            self.office.reach.note_field_server(self.device_id, identity)
        own = identity.activation
        self.has_own_route = own is not None and own.reachable
        if own is not None and own.url not in self.office.inventory.activation_urls():
            self.office.inventory.add_activation(own.url)

    def _look(self, port: FieldServerPort) -> LicenseReport:
        report = port.licenses()
        if report.device_id != self.device_id:
            raise PortError("device-wrong", expected=self.device_id, seen=report.device_id)
        was_proving = self.is_proving
        waits = any(message.purpose in PROOFS for message in self.office.mailbag.outbound(self.device_id))
        self.is_proving = waits or any(note.purpose in PROOFS for note in report.outbox)
        self.office.inventory.keep_report(
            report, now=self.office.clock.now(), was_proving=was_proving, is_proving=self.is_proving
        )
        self.office.mailbag.forget_answered(report)
        return report

    def _keys_for(self, identity: Identity, goal: Goal) -> Keyset | None:
        """The newest keyset that this field server needs: of its own issuer, or, where it has none, of the goal's."""
        if identity.issuer is not None:
            keyset = self.office.inventory.keyset(identity.issuer)
            is_ours = keyset is not None and identity.root_fingerprint in keyset.root_fingerprints
            is_newer = keyset is not None and keyset.version > (identity.keyset_version or 0)
            return keyset if is_ours and is_newer else None
        issuers = self._issuers(goal)
        return self.office.inventory.keyset(issuers.pop()) if len(issuers) == 1 else None

    def _issuers(self, goal: Goal) -> set[str]:
        """Which activation servers a field server that knows none is about to be bound to."""
        inventory = self.office.inventory
        match goal:
            case Activate(wants=wants):
                lines = inventory.lines()
                found = {lines[want.line_id].issuer for want in wants if want.line_id in lines}
                return found or {keyset.issuer for keyset in inventory.keysets()}
            case Return() | ReturnOneCarry() | TakeOutOfService() | Refresh():
                return {keyset.issuer for keyset in inventory.keysets()}
            case Sync():
                return set()
            case _:
                assert_never(goal)

    # 2. Settle

    def _settle(self, port: FieldServerPort, keyset: Keyset | None, known: list[Outbound] | None = None) -> None:
        """Carry both ways until nothing waits, or no courier can go on. ``known``: the outbox, where it is known."""
        carried: set[Digest] = set()
        delivered: set[Digest] = set()
        for _round in range(ROUNDS_MAX):
            outbox = self._gather(port) if known is None else known
            known = None
            waiting = {message.digest: message for message in (*outbox, *self.office.mailbag.outbound(self.device_id))}
            fresh = [message for digest, message in waiting.items() if digest not in carried]
            if fresh:
                self._carry_up(fresh)
                carried |= waiting.keys()
            inbound = [reply for reply in self.office.mailbag.inbound(self.device_id) if reply.digest not in delivered]
            if not inbound and keyset is None:
                return
            left = self._deliver(port, inbound, keyset)
            delivered |= {reply.digest for reply in inbound}
            keyset = None
            if not left:
                return

    def _gather(self, port: FieldServerPort) -> list[Outbound]:
        """Its outbox into the bag. A line that cannot be read is reported, and stops nothing."""
        found: list[Outbound] = []
        for line in tallyfile.parse_chunks([port.outbox()]):
            try:
                if isinstance(line, BadLine):
                    raise line.error
                message = read_message(line.envelope)
                if message.device_id == self.device_id:
                    found.append(message)
            except Error as error:
                self.log.unread.append(
                    Unread(digest=Digest(""), code=error.code, detail=str(error), next_step=next_step_of(error.code))
                )
        self.office.mailbag.gather(found, now=self.office.clock.now())
        return found

    def _carry_up(self, messages: Sequence[Outbound]) -> None:
        self._step(Stage.CARRYING)
        by_issuer: dict[str, list[Outbound]] = {}
        for message in messages:
            by_issuer.setdefault(message.issuer, []).append(message)
        for issuer, ours in by_issuer.items():
            try:
                unread = self.office.carry(issuer, ours, names={self.device_id: self.record.name})
                self.log.unread += unread
                self.log.carried += len(ours) - len(unread)
            except PortError as error:
                self.log.no_route = error

    def _deliver(self, port: FieldServerPort, inbound: Sequence[Inbound], keyset: Keyset | None) -> int:
        """Replies down, with the keys before them; how many messages wait on the field server afterwards."""
        self._step(Stage.DELIVERING)
        envelopes = [*([keyset.compact] if keyset else []), *(reply.compact for reply in inbound)]
        delivery = port.inbox(b"".join(tallyfile.format_file(envelopes)))
        results = {result.digest: result for result in delivery.results if result.digest is not None}
        if keyset is None and any(result.code == "key-unknown" for result in results.values()):
            newest = self._newest_keys(inbound)
            if newest is not None:
                return self._deliver(port, inbound, newest)
        taken: list[Digest] = []
        unusable: list[tuple[Digest, str, str]] = []
        for reply in inbound:
            result = results.get(reply.digest)
            if result is None:
                continue
            if result.outcome in _TAKEN:
                taken.append(reply.digest)
                self.log.delivered += 1
                self.log.is_delivered = self.log.is_delivered or result.outcome == "applied"
            else:
                unusable.append((reply.digest, result.code or "unreachable", result.detail))
            if result.outcome == "refused" and reply.request is not None:
                self.log.refused[reply.request] = result
        self.office.mailbag.note_delivered(taken, unusable)
        return delivery.waiting

    def _newest_keys(self, inbound: Sequence[Inbound]) -> Keyset | None:
        issuers = {self.office.courier.read_reply(reply.compact).claims.iss for reply in inbound}
        return self.office.inventory.keyset(issuers.pop()) if len(issuers) == 1 else None

    # 3. and 4. Compare, and ask

    def _reach(self, port: FieldServerPort, goal: Goal, report: LicenseReport) -> Report:
        asked: WrittenRequest | None = None
        for _attempt in range(ATTEMPTS_MAX):
            if self._is_reached(goal, report, asked):
                return self._finished(goal, report, asked)
            self.log.refused.clear()  # what was refused before is not what is asked for now
            gave_up = (goal == Return() or isinstance(goal, ReturnOneCarry)) and not report.held
            asked = self._ask(port, Refresh() if gave_up and _is_on_hold(report) else goal)
            self._settle(port, None, None if report.outbox else [_as_outbound(asked)])
            report = self._look(port)
            if any(note.digest == asked.digest for note in report.outbox):
                return self._finished(goal, report, asked)  # nobody could carry it, or bring its reply
            outcome = next((note for note in report.outcomes if note.digest == asked.digest), None)
            if outcome is not None and outcome.outcome == "refused" and outcome.code not in _ASK_AGAIN:
                return self._refused(outcome)
        if self._is_reached(goal, report, asked):
            return self._finished(goal, report, asked)
        return self._report(
            GoalResult.FAILED,
            code="superseded",
            detail=_(
                "asked {attempts_max} times, and it holds something else: {held_text}",
                attempts_max=ATTEMPTS_MAX,
                held_text=_held_text(report),
            ),
            next_step=_("Look whether somebody else works on this field server, then try again."),
        )

    def _is_reached(self, goal: Goal, report: LicenseReport, asked: WrittenRequest | None) -> bool:
        """The goal's end state is there, and nothing that is still under way would change it."""
        if isinstance(goal, Sync):
            return True  # it asks for nothing; what still waits is told by `_finished`
        if any(note.purpose in CHANGING - {"relinquish"} for note in report.outbox):
            return False
        held = report.held
        match goal:
            case Activate(wants=wants):
                return all(held.get(want.line_id, 0) == want.quantity for want in wants)
            case TakeOutOfService():
                return report.final is True and not _is_on_hold(report)
            case Return(wants=None) | ReturnOneCarry():
                return not held and not _is_on_hold(report)  # who is on hold gave it up, and it is not credited
            case Return(wants=wants):
                for line_id, quantity in wants or ():
                    if quantity > held.get(line_id, 0):
                        raise PortError(
                            "return-raises",
                            expected=_(
                                "at most the {get} of {line_id} that {record} holds",
                                get=held.get(line_id, 0),
                                line_id=line_id,
                                record=self.record.name,
                            ),
                            seen=_("an end state of {quantity}", quantity=quantity),
                        )
                return all(held.get(line_id, 0) == quantity for line_id, quantity in wants or ())
            case Refresh():
                return asked is not None and any(
                    note.digest == asked.digest and note.outcome == "granted" for note in report.outcomes
                )
            case _:
                assert_never(goal)

    def _ask(self, port: FieldServerPort, goal: Goal) -> WrittenRequest:
        """Have the request written, and put it into the bag. What is returned is no longer planned."""
        self._step(Stage.ASKING)
        written = port.request(wish_of(goal))
        self.office.mailbag.gather([_as_outbound(written)], now=self.office.clock.now())
        match goal:
            case Return(wants=None) | ReturnOneCarry() | TakeOutOfService():
                self.office.inventory.unplan(self.device_id)
            case Return(wants=wants):
                self.office.inventory.unplan(self.device_id, [line_id for line_id, _other in wants or ()])
            case Activate() | Refresh() | Sync():
                pass
            case _:
                assert_never(goal)
        return written

    # Reports

    def _finished(self, goal: Goal, report: LicenseReport, asked: WrittenRequest | None) -> Report:
        """All that can be done now is done: is anything left to carry, or was anything refused on the way?"""
        waits = bool(report.outbox) or bool(self.office.mailbag.outbound(self.device_id))
        refused = {digest: one for digest, one in self.log.refused.items() if one.code not in _ASK_AGAIN}
        if waits and self.log.no_route is not None:
            error = self.log.no_route
            why, text = self._not_carried(error)
            if self.has_own_route:
                text = _(
                    "The field server has a route of its own and carries it by itself: look again soon. Or {other}",
                    other=text,
                )
            return self._report(GoalResult.CARRY, code=error.code, detail=why, next_step=text)
        if self.log.unread:
            unread = self.log.unread[0]
            return self._report(GoalResult.REFUSED, code=unread.code, detail=unread.detail, next_step=unread.next_step)
        if refused and (asked is not None or isinstance(goal, Sync)):
            outcome = next((note for note in report.outcomes if note.digest in refused), None)
            return self._refused(outcome or refused.popitem()[1])
        unusable = [reply for reply in self.office.mailbag.inbound(self.device_id) if reply.code]
        if unusable:
            code = unusable[0].code
            return self._report(GoalResult.FAILED, code=code, detail=unusable[0].detail, next_step=next_step_of(code))
        if waits:
            return self._report(
                GoalResult.FAILED,
                code="unreachable",
                detail=_("{count} messages still wait after {most} rounds", count=len(report.outbox), most=ROUNDS_MAX),
                next_step=step_sentence(self.office.next_step(self.device_id)),
            )
        is_changed = asked is not None or self.log.is_delivered
        return self._report(GoalResult.DONE if is_changed else GoalResult.ALREADY, detail=_held_text(report))

    def _not_carried(self, error: PortError) -> tuple[str, str]:
        """Why the activation server has not taken what waits, and what to do: that depends on whose trouble it is."""
        by_file = step_sentence(self.office.next_step(self.device_id, has_route=False))
        if error.code == "unreachable":
            return _("no route to the activation server: {seen}", seen=error.said[1]), by_file or error.next_step
        if error.code in ON_THE_WAY:
            text = _("{first} Meanwhile: {then}.", first=error.next_step, then=by_file) if by_file else error.next_step
            return error.sentence, text
        why = _("the activation server was reached, and has trouble of its own: {seen}", seen=error.sentence)
        text = _(
            "There, whoever runs it: {theirs} Here nothing is lost, and what waits is kept; then {sync}.",
            theirs=error.next_step,
            sync=SYNC,
        )
        return why, text

    def _refused(self, outcome: OutcomeNote | LineResult) -> Report:
        return self._report(
            GoalResult.REFUSED,
            code=outcome.code,
            detail=outcome.detail,
            next_step=next_step_of(outcome.code),
            reasons=made_reasons(outcome.reasons) if isinstance(outcome, OutcomeNote) else (),
        )

    def _without_field_server(self, goal: Goal, error: PortError) -> Report:
        """It cannot be worked with; what it said before can be carried all the same."""
        waiting = self.office.mailbag.outbound(self.device_id)
        if waiting and isinstance(goal, Sync):
            self._carry_up(waiting)
        result = GoalResult.UNREACHABLE if error.code == "unreachable" else GoalResult.REFUSED
        step = self.office.next_step(self.device_id, has_route=None if self.log.no_route is None else False)
        text = error.next_step
        if step.phase in {Phase.DELIVER, Phase.PROVE, Phase.ASK, Phase.RECEIPT}:
            text = _("{first} Meanwhile: {then}.", first=text, then=step_sentence(step))
        return self._report(result, code=error.code, detail=error.sentence, next_step=text, reasons=error.reasons)

    def _report(
        self,
        result: GoalResult,
        *,
        detail: str,
        code: str | None = None,
        next_step: str = "",
        reasons: tuple[LineReason, ...] = (),
    ) -> Report:
        return Report(
            device_id=self.device_id,
            name=self.record.name,
            result=result,
            code=code,
            detail=detail,
            next_step=next_step,
            reasons=reasons,
            carried=self.log.carried,
            delivered=self.log.delivered,
            undelivered=sum(reply.kind != "credit" for reply in self.office.mailbag.inbound(self.device_id)),
            waiting=len(outbound := self.office.mailbag.outbound(self.device_id)),
            proofs=sum(message.purpose in PROOFS for message in outbound),
        )

    def _step(self, stage: Stage) -> None:
        """Report how far it is; the place at which a visit can be stopped."""
        if self._stop.is_set():
            raise Stopped
        self._tell(stage)


def _as_outbound(written: WrittenRequest) -> Outbound:
    return read_message(open_envelope(written.message.encode("utf-8", "replace")))


def _held_text(report: LicenseReport) -> str:
    held = ", ".join(f"{license_.quantity} × {license_.product} ({license_.line})" for license_ in report.licenses)  # noqa: RUF001 - times
    return _("holds {held}", held=held) if held else _("holds nothing")
