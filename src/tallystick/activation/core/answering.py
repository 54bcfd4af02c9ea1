"""How a message is answered: what changed is kept, what came free is credited, and the answer is worded and signed.

It changes with the envelopes of a reply. When a message gets which answer is ``issuing``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from tallystick.activation.core.batch import Batch
from tallystick.activation.core.jumps import jump
from tallystick.activation.core.ports import Answer, FieldServer, MessageOutcome
from tallystick.activation.core.reading import Message
from tallystick.domain.ids import LineId
from tallystick.domain.ledger import Account, Entry
from tallystick.domain.rules import Reason
from tallystick.protocol import messages
from tallystick.protocol.messages import CREDIT, REFUSAL, Credit, Refusal
from tallystick.protocol.problems import detail_text
from tallystick.protocol.reasons import claim_of, reason_sentences
from tallystick.sentences import _


class Answering:
    """One message: the field server as it changes, what was credited on the way, and every kind of answer."""

    def __init__(self, batch: Batch, message: Message) -> None:
        self.batch = batch
        self.books = batch.books
        self.message = message
        self.request = message.request
        self.device_id = message.device_id
        self.digest = message.digest
        self.credited: list[Entry] = []

    @property
    def field_server(self) -> FieldServer:
        """As it is now."""
        return self.books.field_servers[self.device_id]

    def _keep(self, **changed: object) -> None:
        """Change the field server; what that makes available again is remembered for the credit."""
        before = self.field_server
        after = replace(before, **changed)
        if after == before:
            return
        for entry in self.books.change(after, cause=self.digest):
            if entry.target is Account.AVAILABLE:
                self.credited.append(entry)

    def _grant(self, quantities: Mapping[LineId, int], *, confirm: bool = False) -> Answer:
        if self.batch.restore is not None and not self.field_server.number:
            # The first grant since a restore that may have made us forget others: it makes them stale.
            self._keep(epoch=jump(self.field_server, now=self.batch.now).epoch)
        envelope_ = self.books.grant(
            self.field_server, quantities, request=self.digest, cause=self.digest, confirm=confirm
        )
        return self._answer(MessageOutcome.GRANTED, envelope_)

    def _deny(self, reasons: Sequence[Reason]) -> Answer:
        reasons = self.books.tell_quarantines(reasons)
        codes = {reason.code for reason in reasons}
        if len(codes) == 1:
            return self._refuse(reasons[0].code, *reason_sentences(reasons[0]), reasons)
        return self._refuse(
            "denied",
            _("end states that can all be granted"),
            _("{count} reasons against it", count=len(reasons)),
            reasons,
        )

    def _refuse_grant_unknown(self) -> Answer:
        applied = self.request.applied
        return self._refuse(
            "grant-unknown",
            _("an applied grant that is known here"),
            _("grant {number}", number=applied.number if applied else 0),
        )

    def _refuse(self, code: str, expected: str, seen: str, reasons: Sequence[Reason] = ()) -> Answer:
        known = self.books.field_servers.get(self.device_id)
        detail = detail_text(code, expected=expected, seen=seen)
        claims = Refusal(
            iss=self.batch.signer.keyset.issuer,
            sub=self.request.iss,
            iat=self.batch.now,
            request=self.digest,
            seen=known.sequence if known else 0,
            code=code,
            detail=detail,
            reasons=messages.fit_reasons([claim_of(reason) for reason in reasons]),
        )
        signed = self.batch.signer.sign(REFUSAL, messages.encode_claims(claims))
        return self._answer(MessageOutcome.REFUSED, signed, code=code, detail=detail)

    def _answer(
        self, outcome: MessageOutcome, main: str | None, *, code: str | None = None, detail: str = ""
    ) -> Answer:
        reply = [] if main is None else [main]
        if self.credited or main is None:
            reply.append(self._credit())
        return Answer(digest=self.digest, outcome=outcome, reply=tuple(reply), code=code, detail=detail)

    def _credit(self) -> str:
        totals: dict[LineId, int] = {}
        for entry in self.credited:
            totals[entry.line_id] = totals.get(entry.line_id, 0) + entry.quantity
        claims = Credit(
            iss=self.batch.signer.keyset.issuer,
            sub=self.request.iss,
            iat=self.batch.now,
            request=self.digest,
            seen=self.field_server.sequence,
            credits=tuple(
                messages.LineCredit(line=line_id, quantity=quantity) for line_id, quantity in sorted(totals.items())
            ),
            entries=tuple(
                messages.EntryClaim(
                    line=entry.line_id,
                    number=entry.number,
                    source=entry.source,
                    target=entry.target,
                    quantity=entry.quantity,
                    chain=entry.chain,
                )
                for entry in self.credited
            ),
        )
        return self.batch.signer.sign(CREDIT, messages.encode_claims(claims))
