"""What the activation server does with a message: protocol.md section 7 with the refinements of docs/protocol/.

``process`` takes a batch in one unit of work: set-based reads with rows locked in id order, decisions in memory, one
set-based write. Per message, in this order:

1. A known digest gets its stored answer, verbatim.
2. (``incoming.read_message``, before any transaction) not well-formed, not signed by its ``iss``, not for this issuer: an
   unsigned error, nothing stored.
3. First contact enrols, or refuses (and forgets it, when nothing was proved); a host id in service elsewhere in the
   account is refused and noted.
   (Out of service for good: everything is credited, see ``_take_final``. After a restore: what was written before it is
   refused as ``restored``, see ``_refuse_restored``.)
4. On hold: refused, until a person decides.
5. A lower epoch gets a fence: a grant of our epoch with what the field server should hold, and of nothing where it says
   that it holds nothing.
6. A sequence used by another message is a fork; a lower one that was never seen is superseded, no accusation.
7. An equal or higher epoch voids every older one.
8. ``applied`` proves grants, or shows a rollback, or is unknown (after a restore).
9. The purpose is decided, whole or not at all.

Nothing here knows how the bytes came, or what time it is but by its argument.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import assert_never

from msgspec.structs import replace

from tallystick.activation.core.answering import Answering
from tallystick.activation.core.batch import Batch
from tallystick.activation.core.jumps import NUMBER_JUMP, jump
from tallystick.activation.core.ordering import decide_all
from tallystick.activation.core.ports import (
    Answer,
    Enrolment,
    FieldServer,
    IncidentKind,
    MessageOutcome,
    Policy,
    Signer,
    Status,
    TakenMessage,
    Transaction,
    UsedProof,
)
from tallystick.activation.core.reading import Message
from tallystick.domain import grant as reservation
from tallystick.domain import rules
from tallystick.domain.grant import Outstanding
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.rules import Denied, Granted, Want
from tallystick.domain.text import folded
from tallystick.protocol import messages
from tallystick.protocol.messages import FINAL_REVISION, Grant
from tallystick.sentences import _


def process(
    batch: Sequence[Message], transaction: Transaction, *, signer: Signer, policy: Policy, now: int
) -> list[Answer]:
    """Answers in the order of ``batch``. The caller commits, and only then lets them out.

    What frees is decided before what takes, wherever it stands: ``ordering``.
    """
    decided = Batch(batch, transaction, signer=signer, policy=policy, now=now)
    decide_all(batch, begin=lambda message: _begin(decided, message), finish=_finish)
    decided.books.save()
    return [decided.answers[message.digest] for message in batch]


def _begin(batch: Batch, message: Message) -> _Decision | None:
    """Steps 1 and 3 to 8 for one message, and 9 for one that takes nothing; the others wait for ``_finish``."""
    if message.digest in batch.answers:
        return None
    decision = _Decision(batch, message)
    answer = decision.decide_first()
    if answer is None:
        return decision
    _note_answer(decision, answer)
    return None


def _finish(decision: _Decision) -> None:
    _note_answer(decision, decision.decide_rest())


def _note_answer(decision: _Decision, answer: Answer) -> None:
    batch, request, digest = decision.batch, decision.request, decision.digest
    if decision.is_of_stranger():
        batch.answers[digest] = replace(answer, is_kept=False)
        return
    batch.books.changes.messages.append(
        TakenMessage(
            digest=digest,
            device_id=decision.device_id,
            epoch=request.epoch,
            sequence=request.sequence,
            purpose=request.purpose,
            taken_at=batch.now,
            answer=answer,
        )
    )
    batch.used.setdefault((decision.device_id, request.sequence), digest)
    batch.answers[digest] = answer


class _Decision(Answering):
    """One message being decided, step by step."""

    def __init__(self, batch: Batch, message: Message) -> None:
        super().__init__(batch, message)
        self.moved_onto: DeviceId | None = None  # who has the host id that it says it has now
        self.is_looked_at = False
        self.is_forgotten = False  # whoever knows an activation ID, and gets nothing, leaves nothing behind either

    def is_of_stranger(self) -> bool:
        """Whether the sender is not known, and proved nothing: such a message is refused and leaves nothing behind."""
        if self.device_id in self.books.field_servers or self.message.repeated is not None:
            return False
        return self.is_forgotten or not any(want.is_proven for want in self._wants())

    def decide_first(self) -> Answer | None:
        """All that does not depend on what is available; None where something does, and is left for ``decide_rest``.

        Whoever is heard of first, and proves nothing that we signed, frees nothing: whether it is enrolled waits, too.
        """
        is_taking = self.request.purpose == "activate"
        is_new = self.device_id not in self.books.field_servers and self.message.repeated is None
        if is_taking and is_new:
            return None
        self.is_looked_at = True
        answer = self._decide_place()
        return answer if answer is not None or is_taking else self._decide_purpose()

    def decide_rest(self) -> Answer:
        """What was left."""
        answer = None if self.is_looked_at else self._decide_place()
        return answer or self._decide_purpose()

    def _decide_place(self) -> Answer | None:
        """Steps 3 to 8: whose turn it is, and what it proves."""
        request = self.request
        known = self.books.field_servers.get(self.device_id)
        if known is None or known.status is Status.LISTED:
            refused = self._enrol(known)
            if refused is not None:
                return refused
        if request.final and (request.speaks or 1) < FINAL_REVISION:
            return self._refuse(
                "revision-needed",
                _(
                    "a message that says speaks {final_revision} or more, which final needs",
                    final_revision=FINAL_REVISION,
                ),
                _("revision {speaks}", speaks=request.speaks or 1),
            )
        self._keep(last_seen_at=self.batch.now)
        if request.sequence > self.field_server.sequence:
            self._keep(speaks=request.speaks or 1)
        before = self.field_server
        used_by = self.batch.used.get((self.device_id, request.sequence))
        late = request.sequence <= before.sequence and used_by is None
        if request.final and used_by is None and self._is_final_believed(before, late=late):
            return self._take_final(before)
        is_released = before.status is Status.RETIRED and before.lost_at is not None
        if late and (before.recovering is not None or (is_released and self.batch.restore is not None)):
            return self._refuse_restored(before)
        if before.status is Status.HOLD:
            self._keep(
                sequence=max(before.sequence, request.sequence), spoken_epoch=max(before.spoken_epoch, request.epoch)
            )
            return self._refuse(
                "on-hold", _("a field server that is not on hold"), _("two copies of this one, see its fork")
            )
        if request.epoch < before.epoch:
            if late:
                return self._superseded(before)
            return self._fence_older_epoch(before, is_reused=used_by is not None)
        if used_by is not None or self._is_impossible_order(before):
            return self._fork(before)
        if late:
            return self._superseded(before)
        self._enter_epoch(before)
        self._note_told_rollback()
        return self._read_applied()

    # Step 3

    def _enrol(self, listed: FieldServer | None) -> Answer | None:
        request, facts = self.request, self.request.facts
        wants = self._wants()
        is_ours = self.message.repeated is not None
        if listed is None and not is_ours:
            if request.applied is not None:
                return self._refuse_grant_unknown()
            is_listed_only = self.batch.policy.enrolment is Enrolment.LISTED
            if is_listed_only or not any(want.is_proven and want.quantity for want in wants):
                return self._refuse(
                    "not-enrolled",
                    "a field server that is enrolled here"
                    + ("" if is_listed_only else ", or a proof of an activation ID"),
                    _("{facts} ({kind}), first heard of", facts=facts.name, kind=facts.kind),
                )
        accounts = self._accounts_shown(listed, wants)
        holder = self._host_id_holder(accounts)
        if holder is not None:
            if listed is not None and listed.recovering is not None and request.sequence <= listed.sequence:
                return self._refuse_restored(listed)
            return self._refuse_host_id(holder)
        if listed is None and not is_ours:
            refused = self._refuse_for_nothing(wants, accounts)
            if refused is not None:
                return refused
        enrolled = FieldServer(
            device_id=self.device_id,
            public_key=self.message.verified.key.x,
            account=listed.account if listed else accounts.pop() if len(accounts) == 1 else None,
            kind=facts.kind,
            host_id=facts.host_id,
            name=facts.name,
            software=facts.software,
            epoch=request.epoch,
            first_seen_at=self.batch.now,
        )
        if listed is not None and listed.recovering is not None:
            enrolled = enrolled.changed(
                epoch=max(listed.epoch, request.epoch),
                number=listed.number,
                sequence=listed.sequence,
                recovering=listed.recovering,
            )
        elif is_ours or (self.batch.restore is not None and self.batch.restore.is_open):
            enrolled = jump(enrolled.changed(sequence=request.sequence), now=self.batch.now)
        self.batch.host_id_owners.setdefault(folded(facts.host_id), {})[self.device_id] = enrolled.account
        self.books.change(enrolled, cause=self.digest)
        return None

    def _refuse_for_nothing(self, wants: Sequence[Want], accounts: Collection[str]) -> Answer | None:
        """An activation ID enrols as many as its line can hold; beyond, only who gets something. The rest is forgotten."""
        decision = self._decide_activation(wants, self.request.facts.kind, held={}, reserved={})
        if isinstance(decision, Granted):
            return None
        bought = sum(self.books.line(want.line_id).balances.bought for want in wants if want.is_proven)
        if len(accounts) == 1 and self.batch.take_idle_place(next(iter(accounts)), bought):
            return None
        self.is_forgotten = True
        return self._deny(decision.reasons)

    def _accounts_shown(self, listed: FieldServer | None, wants: Sequence[Want]) -> set[str]:
        """The accounts that this field server has shown to be of, or was listed for."""
        accounts = {self.books.line(want.line_id).account for want in wants if want.is_proven}
        if listed is not None and listed.account is not None:
            accounts.add(listed.account)
        if self.message.repeated is not None:
            lines = [LineId(license_.line) for license_ in self.message.repeated.licenses]
            accounts |= {self.books.lines[line_id].account for line_id in lines if line_id in self.books.lines}
        return accounts

    def _host_id_holder(self, accounts: Collection[str | None]) -> DeviceId | None:
        """Who else has this host id in one of ``accounts``. Other accounts' field servers are nobody's business here."""
        owners = self.batch.host_id_owners.get(folded(self.request.facts.host_id), {})
        return next((other for other in owners if other != self.device_id and owners[other] in accounts), None)

    def _refuse_host_id(self, holder: DeviceId) -> Answer:
        facts = self.request.facts
        self.books.note(
            IncidentKind.HOST_ID_TAKEN,
            self.device_id,
            f"{facts.name} says it has host id {facts.host_id}, which {holder} has",
            digest=self.digest,
        )
        return self._refuse(
            "host-id-taken",
            _("host id {host_id} on no other field server in service", host_id=facts.host_id),
            _("the same host id on {holder}", holder=holder),
        )

    # Steps 4 to 6

    def _refuse_restored(self, before: FieldServer) -> Answer:
        """What was written before the restore, or may have been, says nothing about what is held now (section 9).

        An answer by what the backup says could give back what was returned since, to a field server that no longer
        holds it. ``seen`` is past everything that was ever said, so the field server's next message is a fresh one.
        """
        return self._refuse(
            "restored",
            _("a sequence above {sequence}, to be written after the restore", sequence=before.sequence),
            _("sequence {sequence}", sequence=self.request.sequence),
        )

    def _superseded(self, before: FieldServer) -> Answer:
        return self._refuse(
            "superseded",
            _("a sequence above {sequence}", sequence=before.sequence),
            _("sequence {sequence}, overtaken on the way", sequence=self.request.sequence),
        )

    def _is_impossible_order(self, before: FieldServer) -> bool:
        """What no single field server can say: a higher epoch after a later message, or a second relinquish of one epoch.

        A field server's sequence never falls while its epoch rises, and each relinquish has an epoch of its own.
        """
        request = self.request
        if request.epoch > before.epoch:
            return request.sequence <= before.sequence
        return (
            request.purpose == "relinquish"
            and request.epoch == before.spoken_epoch
            and request.sequence > before.sequence
            and before.sequence > 0
        )

    def _fork(self, before: FieldServer) -> Answer:
        request = self.request
        self.books.note(
            IncidentKind.FORK,
            self.device_id,
            f"message {request.sequence} of epoch {request.epoch} contradicts an earlier one of {before.name}: there are "
            "two copies, or a restored backup",
            digest=self.digest,
        )
        self._keep(status=Status.HOLD, spoken_epoch=max(before.spoken_epoch, request.epoch))
        return self._refuse(
            "fork",
            _("a sequence that no other message has used"),
            _("sequence {sequence} in a second history", sequence=request.sequence),
        )

    def _fence_older_epoch(self, before: FieldServer, *, is_reused: bool) -> Answer:
        request = self.request
        behind = f"it spoke in epoch {request.epoch}, ours is {before.epoch}"
        if self._is_applied_unknown() and self.message.repeated is None:
            return self._refuse_grant_unknown()
        if before.status is Status.LOST:
            self.books.note(
                IncidentKind.REAPPEARED,
                self.device_id,
                f"{before.name} was declared lost and is back within the waiting period: the release is undone",
                digest=self.digest,
            )
            self._undo_declaration()
        elif before.status is Status.RETIRED and before.lost_at is not None:
            self.books.note(
                IncidentKind.REAPPEARED,
                self.device_id,
                f"{before.name} was declared lost and is back after the waiting period; "
                f"what it held may be in use at {self._present_holders()} as well",
                digest=self.digest,
            )
        if request.epoch < before.spoken_epoch or is_reused:
            self.books.note(
                IncidentKind.EPOCH_BEHIND,
                self.device_id,
                f"{before.name} was rolled back or copied: {behind}",
                digest=self.digest,
            )
        self._keep(status=Status.ACTIVE, lost_at=None, lost_until=None, sequence=max(before.sequence, request.sequence))
        if is_reused:  # one of two copies: it says nothing about the other one
            return self._grant(before.intended if request.applied else {}, confirm=True)
        # It was there when it wrote this, and it only goes forward. So everything before is stale for ever, and where it
        # says that it holds nothing, it has given up what it held: a relinquish is honoured whatever we raised meanwhile.
        if before.recovering is not None and request.epoch >= before.recovering:
            self._keep(recovering=None)
        self._keep(spoken_epoch=max(before.spoken_epoch, request.epoch))
        if self._is_applied_unknown() and self.message.repeated is not None:
            return self._answer_forgotten(self.message.repeated)
        number = request.applied.number if request.applied else 0
        self._keep(outstanding=reservation.prove(before.outstanding, epoch=request.epoch, number=number))
        return self._grant(self.field_server.intended if request.applied else {}, confirm=True)

    def _is_final_believed(self, before: FieldServer, *, late: bool) -> bool:
        """Whether nothing speaks against it: no second copy, and nothing later that says otherwise.

        What was written before a restore is believed, too: a device that takes no grant any more never will.
        """
        if before.status is Status.HOLD:
            return False
        if late:
            return before.recovering is not None
        return self.request.epoch < before.epoch or not self._is_impossible_order(before)

    def _take_final(self, before: FieldServer) -> Answer:
        """A device that takes no grant any more: whatever was ever granted to it is void, and credited at once."""
        request = self.request
        if before.status is Status.LOST:
            self._undo_declaration()
        self._keep(
            status=Status.RETIRED,
            epoch=max(before.epoch, request.epoch),
            spoken_epoch=max(before.spoken_epoch, request.epoch),
            sequence=max(before.sequence, request.sequence),
            outstanding=(),
            proven=0,
            recovering=None,
            lost_at=None,
            lost_until=None,
        )
        return self._answer(MessageOutcome.CREDITED, None)

    def _present_holders(self) -> str:
        declaration = self.books.transaction.load_last_declaration(self.device_id)
        lines = declaration.held if declaration else ()
        holders = {holding.device_id for holding in self.books.transaction.load_holdings(lines)}
        return ", ".join(sorted(holders - {self.device_id})) or "no other field server yet"

    def _undo_declaration(self) -> None:
        declaration = self.books.transaction.load_last_declaration(self.device_id)
        if declaration is not None:
            self.books.changes.declarations.append(replace(declaration, undone_at=self.batch.now))

    # Steps 7 and 8

    def _enter_epoch(self, before: FieldServer) -> None:
        """Everything of an older epoch is void on the field server, proven by its signature. What it says of itself holds."""
        request, facts = self.request, self.request.facts
        if before.status is Status.LOST:
            self._undo_declaration()
        is_new = request.epoch > before.epoch or before.spoken_epoch < before.epoch
        is_moved = folded(facts.host_id) != folded(before.host_id)
        self.moved_onto = self._host_id_holder({before.account}) if is_moved and before.account is not None else None
        self._keep(
            kind=facts.kind,
            host_id=facts.host_id if self.moved_onto is None else before.host_id,
            name=facts.name,
            software=facts.software,
            epoch=request.epoch,
            spoken_epoch=request.epoch,
            sequence=request.sequence,
            status=Status.ACTIVE,
            lost_at=None,
            lost_until=None,
            proven=0 if is_new else before.proven,
            recovering=None,  # it speaks in our epoch, so that nothing of an older one can be taken any more
            outstanding=tuple(grant for grant in before.outstanding if grant.epoch >= request.epoch),
        )

    def _note_told_rollback(self) -> None:
        """A field server that found out by itself says so: what it did in between, nothing else shows."""
        told, before = self.request.rolled_back_at, self.field_server
        if told is None or told == before.rolled_back_at:
            return
        self._keep(rolled_back_at=told)
        number = self.request.applied.number if self.request.applied else 0
        if number >= before.proven:  # a lower one is noted with more words
            self.books.note(
                IncidentKind.ROLLBACK,
                self.device_id,
                f"{before.name} says that its disk was rolled back: a reply was ahead of what it remembered",
                digest=self.digest,
            )

    def _read_applied(self) -> Answer | None:
        """Prove grants, or answer for a rollback, an unknown grant, or a field server that is still recovering."""
        request = self.request
        before = self.field_server
        number = request.applied.number if request.applied else 0
        if number < before.proven:
            self.books.note(
                IncidentKind.ROLLBACK,
                self.device_id,
                f"{before.name} is back at grant {number} after it had proven grant {before.proven}: its disk was rolled "
                "back, or there is a second copy",
                digest=self.digest,
            )
            return self._grant(before.intended, confirm=True)
        if request.applied is not None:
            if self._is_applied_unknown():
                if self.message.repeated is None:
                    return self._refuse_grant_unknown()
                return self._answer_forgotten(self.message.repeated)
            if number > before.proven:
                self._keep(
                    proven=number,
                    outstanding=reservation.prove(before.outstanding, epoch=request.epoch, number=number),
                )
        return None

    def _is_applied_unknown(self) -> bool:
        applied = self.request.applied
        return applied is not None and (
            self.batch.grant_digests.get((self.device_id, applied.number)) != applied.digest
        )

    def _answer_forgotten(self, grant: Grant) -> Answer:
        """A grant that we signed and forgot. When the message was written nobody knows, but for one after a jump.

        So without a jump there is one, and the field server is asked for a fresh message: what this one says may have been
        given up since, and be in use elsewhere.
        """
        before = self.field_server
        if before.recovering is not None:
            return self._grant(self._adopt(grant), confirm=True)
        jumped = jump(before.changed(number=max(before.number, grant.number)), now=self.batch.now)
        self._keep(epoch=jumped.epoch, number=jumped.number, sequence=jumped.sequence, recovering=jumped.recovering)
        return self._refuse_restored(self.field_server)

    def _adopt(self, grant: Grant) -> Mapping[LineId, int]:
        """What it says is what the field server holds (section 9). Returns that.

        Grants that we may have issued after it are forgotten, too, and may still arrive; the jump has made them stale
        for whoever takes the fence that is the answer. Newer grants that we do know stay possible until that fence is
        proven: a fence before it, for one.
        """
        before = self.field_server
        known = {license_.line: license_.quantity for license_ in grant.licenses if license_.line in self.books.lines}
        missing = [license_.line for license_ in grant.licenses if license_.line not in self.books.lines]
        self.books.note(
            IncidentKind.GRANT_ADOPTED,
            before.device_id,
            f"grant {grant.number} of {before.name} was signed here and forgotten; adopted"
            + (f", but for the unknown lines {', '.join(missing)}" if missing else ""),
            digest=self.digest,
        )
        adopted = Outstanding(
            epoch=grant.epoch,
            number=grant.number,
            quantities={LineId(line): quantity for line, quantity in known.items()},
        )
        place = (adopted.epoch, adopted.number)
        newer = tuple(other for other in before.outstanding if (other.epoch, other.number) > place)
        self._keep(
            number=max(before.number, grant.number + NUMBER_JUMP), proven=grant.number, outstanding=(adopted, *newer)
        )
        return adopted.quantities

    # Step 9

    def _decide_purpose(self) -> Answer:
        request, field_server = self.request, self.field_server
        match request.purpose:
            case "refresh":
                return self._grant(field_server.intended)
            case "confirm" | "relinquish":
                return self._answer(MessageOutcome.CREDITED, None)
            case "activate":
                if self.moved_onto is not None:
                    return self._refuse_host_id(self.moved_onto)
                used = self.batch.used_proofs.setdefault((self.device_id, request.jti), self.digest)
                if used != self.digest:
                    return self._refuse(
                        "proof-used", _("a jti that no other message has used"), _("one that was used for another wish")
                    )
                self.books.changes.proofs.append(
                    UsedProof(device_id=self.device_id, jti=request.jti, digest=self.digest)
                )
                reserved = {line_id: kept.held + kept.returning for line_id, kept in field_server.reserved().items()}
                decision = self._decide_activation(
                    self._wants(), field_server.kind, held=field_server.intended, reserved=reserved
                )
                if isinstance(decision, Granted):
                    accounts = {self.books.line(line_id).account for line_id in decision.quantities}
                    if accounts:
                        self._keep(account=accounts.pop())
            case "return":
                decision = rules.decide_return(
                    self._wants(),
                    lines=self.books.lines,
                    held=field_server.intended,
                    return_all=bool(request.all),
                )
            case _:
                assert_never(request.purpose)
        match decision:
            case Granted(quantities=quantities):
                return self._grant(quantities)
            case Denied(reasons=reasons):
                return self._deny(reasons)
            case _:
                assert_never(decision)

    def _wants(self) -> list[Want]:
        wants = []
        for want in self.request.wants or ():
            line_id = LineId(want.line)
            line = self.books.lines.get(line_id)
            is_proven = line is not None and messages.is_proof_valid(
                line.activation_id, want.proof, self.device_id, self.request.jti
            )
            wants.append(Want(line_id=line_id, quantity=want.quantity, is_proven=is_proven))
        return wants

    def _decide_activation(
        self, wants: Sequence[Want], kind: str, *, held: Mapping[LineId, int], reserved: Mapping[LineId, int]
    ) -> Granted | Denied:
        lines = self.books.lines
        decision = rules.decide_activation(
            wants, kind=kind, lines=lines, held=held, reserved=reserved, now=self.batch.now
        )
        return rules.decide_company(decision, lines=lines, reserved=reserved)
