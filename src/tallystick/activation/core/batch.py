"""What is loaded for one batch of messages, all at once and with rows locked in id order, before any is decided.

It grows with what decisions need to know of the past; what they are is ``issuing``.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.activation.core.books import Books
from tallystick.activation.core.ports import Policy, Signer, Status, Transaction
from tallystick.activation.core.reading import Message
from tallystick.domain.ids import LineId
from tallystick.domain.text import folded


class Batch:
    """One batch: what was loaded for it, and the answers so far."""

    def __init__(
        self, batch: Sequence[Message], transaction: Transaction, *, signer: Signer, policy: Policy, now: int
    ) -> None:
        self.signer = signer
        self.policy = policy
        self.now = now
        self.books = Books(transaction, signer, now=now)
        lines = {LineId(want.line) for message in batch for want in message.request.wants or ()}
        for message in batch:
            if message.repeated is not None:
                lines |= {LineId(license_.line) for license_ in message.repeated.licenses}
        past = self.books.load_asked(
            devices={message.device_id for message in batch},
            digests={message.digest for message in batch},
            sequences={(message.device_id, message.request.sequence) for message in batch},
            grants={
                (message.device_id, message.request.applied.number)
                for message in batch
                if message.request.applied is not None
            },
            lines=lines,
        )
        self.answers, self.used, self.grant_digests = past.answers, past.sequences, past.grants
        proofs = {
            (message.device_id, message.request.jti)
            for message in batch
            if message.request.purpose == "activate" and message.digest not in self.answers
        }
        self.used_proofs = transaction.load_used_proofs(proofs) if proofs else {}
        fresh = [message for message in batch if message.digest not in self.answers]
        is_known = self.books.field_servers.get
        host_ids = {
            folded(message.request.facts.host_id)
            for message in fresh
            if (known := is_known(message.device_id)) is None or known.host_id != message.request.facts.host_id
        }
        self.host_id_owners = transaction.load_host_id_owners(host_ids) if host_ids else {}
        is_asked = any(
            (known := is_known(message.device_id)) is None or not known.number or known.status is Status.RETIRED
            for message in fresh
        )
        self.restore = transaction.load_restore() if is_asked else None
        self._idle: dict[str, int] = {}

    def take_idle_place(self, account: str, most: int) -> bool:
        """Whether one more that gets nothing may be enrolled, beside those of the account that hold nothing."""
        if account not in self._idle:
            self._idle[account] = self.books.transaction.count_idle(account)
        self._idle[account] += 1
        return self._idle[account] <= most
