"""The decision table by itself: what must be answered in each cell, and what is then remembered.

Written from the protocol ("Rules of the activation server", 4 to 10, and "Out of service for good"), not from the code; it reads the signed replies, and
the rows before and after. It says nothing about a message whose answer depends on another one of the same batch. What is available, and the terms, are the auditor's (``invariants``, ``terms``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tallystick.activation.core.ports import Answer, FieldServer, Status
from tallystick.activation.core.reading import Message
from tallystick.protocol.messages import Request
from tallystick.simulator.cells import cell_of
from tallystick.simulator.evidence import Violation, read_envelope
from tallystick.simulator.store import Tables

NOT_DECIDED: Final = frozenset({"superseded", "restored", "on-hold", "fork"})
ASKS_BACK: Final = frozenset({"grant-unknown", "restored"})
GRANT: Final = "grant"
CREDIT: Final = "credit"


def compare(batch: Sequence[Message], answers: Sequence[Answer], before: Tables, after: Tables) -> None:
    """Compare a batch that was decided with the table. Raises ``Violation``."""
    said = Counter(message.device_id for message in batch)
    for message, answer in zip(batch, answers, strict=True):
        known = before.field_servers.get(message.device_id)
        is_alone = said[message.device_id] == 1 and message.digest not in before.messages
        if is_alone and known is not None and known.status is not Status.LISTED:
            _Case(message, answer, known, before, after).compare()


class _Case:
    def __init__(self, message: Message, answer: Answer, known: FieldServer, before: Tables, after: Tables) -> None:
        self.request: Request = message.request
        self.known, self.now = known, after.field_servers[message.device_id]
        self.cell = cell_of(message, before)
        self.has_restored = before.restore is not None
        self.incidents = Counter(
            str(one.kind) for one in after.incidents[len(before.incidents) :] if one.device_id == message.device_id
        )
        self.is_unknown = self.request.applied is not None and not any(
            place == (message.device_id, self.request.applied.number) and grant.digest == self.request.applied.digest
            for place, grant in before.grants.items()
        )
        replies = [read_envelope(compact) for compact in answer.reply]
        self.main: Mapping[str, Any] = replies[0][1]
        kind = replies[0][0]["typ"]
        self.is_grant = kind == "tally-grant+jwt"
        self.word = {"tally-grant+jwt": GRANT, "tally-credit+jwt": CREDIT}.get(kind) or str(self.main["code"])

    def must(self, *, hold: bool, what: str) -> None:
        if not hold:
            raise Violation("table", f"{', '.join(filter(None, self.cell))}, {self.request.purpose}: {what}")

    def compare(self) -> None:
        status, recovering, epoch, sequence = self.cell
        self.must(hold=self.main["seen"] == self.now.sequence, what="seen is not the highest sequence")
        if self.request.final and self._is_final_due(status, recovering, epoch, sequence):
            self._is_final()
            return
        is_released = status == "retired" and self.known.lost_at is not None
        if sequence == "late" and (recovering or (is_released and self.has_restored)):
            self._is_refused("restored")
        elif status == "hold":
            self._is_refused("on-hold")
        elif epoch == "lower" and sequence == "late":
            self._is_refused("superseded")
        elif epoch == "lower":
            self._is_fenced(is_used=sequence == "used")
        elif sequence == "used" or (epoch == "higher" and sequence == "late") or self._relinquishes_again():
            self._is_refused("fork")
        elif sequence == "late":
            self._is_refused("superseded")
        else:
            self._is_decided()

    def _is_final_due(self, status: str, recovering: str, epoch: str, sequence: str) -> bool:
        if status == "hold" or sequence == "used":
            return False
        if sequence == "late":
            return bool(recovering)
        return epoch == "lower" or not self._relinquishes_again()

    def _is_final(self) -> None:
        request, known = self.request, self.known
        self.must(hold=self.word == CREDIT, what=f"a final message is answered {self.word}")
        expected = known.changed(
            status=Status.RETIRED,
            epoch=max(known.epoch, request.epoch),
            spoken_epoch=max(known.spoken_epoch, request.epoch),
            sequence=max(known.sequence, request.sequence),
            outstanding=(),
            proven=0,
            recovering=None,
            lost_at=None,
            lost_until=None,
            waits_until=self.now.waits_until,
            speaks=self.now.speaks,
            last_seen_at=self.now.last_seen_at,
        )
        self.must(hold=self.now == expected, what="a final message leaves more than that it is out of service")

    def _relinquishes_again(self) -> bool:
        request, known = self.request, self.known
        return (
            request.purpose == "relinquish"
            and request.epoch == known.epoch == known.spoken_epoch
            and request.sequence > known.sequence > 0
        )

    def _is_refused(self, code: str) -> None:
        self.must(hold=self.word == code, what=f"answered {self.word} and not {code}")
        is_heard = code == "on-hold"
        spoken = max(self.known.spoken_epoch, self.request.epoch)
        expected = self.known.changed(
            sequence=max(self.known.sequence, self.request.sequence) if is_heard else self.known.sequence,
            spoken_epoch=spoken if is_heard or code == "fork" else self.known.spoken_epoch,
            status=Status.HOLD if code == "fork" else self.known.status,
            speaks=self.now.speaks,
            last_seen_at=self.now.last_seen_at,
        )
        self.must(hold=self.now == expected, what=f"{code} changed more than it may")
        self.must(hold=self.incidents == ({"fork": 1} if code == "fork" else {}), what=f"noted {dict(self.incidents)}")

    def _is_fenced(self, *, is_used: bool) -> None:
        if self.is_unknown:
            self.must(hold=self.word in {GRANT, *ASKS_BACK}, what=f"answered {self.word} and not a fence")
            return
        self.must(hold=self.is_grant, what=f"answered {self.word} and not a fence")
        main, request, known, now = self.main, self.request, self.known, self.now
        self.must(hold=main["epoch"] == now.epoch >= known.epoch and main["confirm"], what="a fence of another epoch")
        self.must(hold=request.applied is not None or not main["licenses"], what="it gets back what it gave up")
        self.must(hold=now.status is Status.ACTIVE and now.lost_at is None, what="it was heard and is not in service")
        self.must(hold=now.sequence == max(known.sequence, request.sequence), what="its sequence is not remembered")
        if not is_used:
            self.must(hold=now.spoken_epoch == max(known.spoken_epoch, request.epoch), what="its epoch is forgotten")
            number = request.applied.number if request.applied else 0
            floor = (request.epoch, number)
            self.must(
                hold=all((grant.epoch, grant.number) >= floor for grant in now.outstanding),
                what="a grant is kept that it has passed",
            )
        is_behind = request.epoch < known.spoken_epoch or is_used
        was_lost = known.status is Status.LOST or (known.status is Status.RETIRED and known.lost_at is not None)
        due = Counter({"epoch-behind": int(is_behind), "reappeared": int(was_lost)})
        self.must(hold=self.incidents == +due, what=f"noted {dict(self.incidents)}, due {dict(+due)}")

    def _is_decided(self) -> None:
        request, known, now, facts = self.request, self.known, self.now, self.request.facts
        self.must(hold=self.word not in NOT_DECIDED or self.is_unknown, what=f"answered {self.word}")
        if self.word == "restored":
            return
        epochs = (
            {request.epoch, now.epoch} if self.has_restored and not known.number and self.is_grant else {request.epoch}
        )
        said = (now.spoken_epoch, now.sequence, now.status, now.lost_at, now.lost_until, now.recovering)
        due = (request.epoch, request.sequence, Status.ACTIVE, None, None, None)
        self.must(hold=said == due and now.epoch in epochs, what=f"remembers {said}, due {due}")
        self.must(hold=(now.kind, now.name, now.software) == (facts.kind, facts.name, facts.software), what="its facts")
        is_new = request.epoch > known.epoch or known.spoken_epoch < known.epoch
        proven = 0 if is_new else known.proven
        number = request.applied.number if request.applied else 0
        told = request.rolled_back_at not in {None, known.rolled_back_at}
        self.must(hold=(self.incidents["rollback"] == 1) == (number < proven or told), what="a rollback and its name")
        if number < proven:
            self.must(hold=self.is_grant and self.main["confirm"], what=f"a rollback is answered {self.word}")
        elif self.is_unknown:
            self.must(hold=self.word in {GRANT, *ASKS_BACK}, what=f"an unknown grant is answered {self.word}")
        else:
            self.must(hold=now.proven == max(number, proven), what=f"proven is {now.proven}, due {max(number, proven)}")
            due_words = {"refresh": {GRANT}, "confirm": {CREDIT}, "relinquish": {CREDIT}}.get(request.purpose)
            self.must(hold=due_words is None or self.word in due_words, what=f"answered {self.word}")
            self.must(hold=due_words is not None or self.word != CREDIT, what="a wish is answered by a credit")
