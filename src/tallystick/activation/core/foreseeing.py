"""A dry run: what the rules would decide about end states, without a message and without an effect.

Pure but for what it loads; nothing is kept, signed or noted. It tells a courier no more than the replies that it carries
would: of a line only who proves its activation ID, of a field server only what is of that line's account. A field server
of another account is answered like one that nobody has heard of.

What only the message itself shows is not decided here: forks, restores, host ids, and what it proves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from tallystick.activation.core.ports import Enrolment, FieldServer, Policy, Status, Transaction
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.rules import Granted, Reason, Want, decide_activation, decide_company, decide_return
from tallystick.protocol.device_api import ReasonNote
from tallystick.protocol.dry_run import Ask, Foreseen, LineChange, is_dry_run_proof
from tallystick.protocol.reasons import reason_document


def foresee(asks: Sequence[Ask], transaction: Transaction, *, policy: Policy, now: int) -> tuple[list[Foreseen], int]:
    """The answers, in the order of ``asks``; and how many of them proved nothing."""
    servers = transaction.load_field_servers_for_update({DeviceId(ask.device_id) for ask in asks})
    wanted = {LineId(want.line) for ask in asks for want in ask.wants}
    reserved = {line_id for server in servers.values() for line_id in (*server.intended, *server.reserved())}
    run = _DryRun(transaction.load_lines_for_update(wanted | reserved), servers, policy=policy, now=now)
    answers: dict[int, Foreseen] = {}
    for place in sorted(range(len(asks)), key=lambda place: run.is_taking(asks[place])):
        answers[place] = run.decide(asks[place])
    return [answers[place] for place in range(len(asks))], run.strangers


class _DryRun:
    """One dry run: lines and field servers as they would become."""

    def __init__(
        self,
        lines: Mapping[LineId, Line],
        servers: Mapping[DeviceId, FieldServer],
        *,
        policy: Policy,
        now: int,
    ) -> None:
        self._lines = dict(lines)
        self._servers = servers
        self._held: dict[DeviceId, dict[LineId, int]] = {one: dict(server.intended) for one, server in servers.items()}
        self._policy = policy
        self._now = now
        self.strangers = 0

    def is_taking(self, ask: Ask) -> bool:
        """Whether it can take anything, so that it waits for who cannot."""
        held = self._held.get(DeviceId(ask.device_id), {})
        return ask.purpose == "activate" and any(want.quantity > held.get(LineId(want.line), 0) for want in ask.wants)

    def decide(self, ask: Ask) -> Foreseen:
        """One ask, whole or not at all."""
        device_id = DeviceId(ask.device_id)
        wants = [self._want(device_id, want.line, want.quantity, want.proof) for want in ask.wants]
        proven = [want for want in wants if want.is_proven]
        if len(proven) < len(wants):
            self.strangers += not proven
            return _denied([Reason("activation-id-wrong", want.line_id) for want in wants if not want.is_proven])
        accounts = {self._lines[want.line_id].account for want in proven}
        known = self._servers.get(device_id)
        if known is not None and known.account is not None and {known.account} != accounts:
            known = None
        if known is None and self._policy.enrolment is Enrolment.LISTED:
            return Foreseen(outcome="refused", code="not-enrolled")
        if known is not None and known.status is Status.HOLD:
            return Foreseen(outcome="refused", code="on-hold")
        if known is not None and (known.status in {Status.LOST, Status.RETIRED} or known.recovering is not None):
            return Foreseen(outcome="unknown")
        return self._decide_wants(ask, wants, known)

    def _decide_wants(self, ask: Ask, wants: Sequence[Want], known: FieldServer | None) -> Foreseen:
        held = {} if known is None else self._held[known.device_id]
        kept = {} if known is None else {one: of.held + of.returning for one, of in known.reserved().items()}
        reserved = {one: max(held.get(one, 0), kept.get(one, 0)) for one in held.keys() | kept.keys()}
        if ask.purpose == "return":
            decision = decide_return(wants, lines=self._lines, held=held)
        else:
            decision = decide_activation(
                wants, kind=ask.kind, lines=self._lines, held=held, reserved=reserved, now=self._now
            )
            decision = decide_company(decision, lines=self._lines, reserved=reserved)
        if not isinstance(decision, Granted):
            return _denied(decision.reasons)
        changes = []
        for want in wants:
            changes.append(LineChange(line=want.line_id, before=held.get(want.line_id, 0), after=want.quantity))
            self._take(want.line_id, max(0, want.quantity - reserved.get(want.line_id, 0)))
        if known is not None:
            self._held[known.device_id] = {**held, **{want.line_id: want.quantity for want in wants}}
        return Foreseen(outcome="granted", lines=tuple(changes))

    def _want(self, device_id: DeviceId, line: str, quantity: int, proof: str) -> Want:
        known = self._lines.get(LineId(line))
        is_proven = known is not None and is_dry_run_proof(known.activation_id, proof, device_id)
        return Want(line_id=LineId(line), quantity=quantity, is_proven=is_proven)

    def _take(self, line_id: LineId, growth: int) -> None:
        """What one would get is not there for the next."""
        line = self._lines[line_id]
        balances = replace(line.balances, available=line.balances.available - growth, held=line.balances.held + growth)
        self._lines[line_id] = replace(line, balances=balances)


def _denied(reasons: Sequence[Reason]) -> Foreseen:
    codes = {reason.code for reason in reasons}
    return Foreseen(
        outcome="refused",
        code=reasons[0].code if len(codes) == 1 else "denied",
        reasons=tuple(_note(reason) for reason in reasons),
    )


def _note(reason: Reason) -> ReasonNote:
    said = reason_document(reason)
    return ReasonNote(line=reason.line, code=reason.code, expected=str(said["expected"]), seen=str(said["seen"]))
