"""The audit trail: one record of who did what to what, chained like the ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One entry of the audit trail: who did what to what. Written in the transaction of what it records.

    ``chain`` is hex SHA-256 over the chain of the record before and this one, as in the ledger; None: not written yet.
    """

    at: int
    actor: str
    role: str
    account: str | None
    action: str
    target: str
    detail: str = ""
    number: int = 0  # given by the database
    chain: str | None = None

    def chained(self, before: str) -> str:
        """The chain value that this record must have after ``before``."""
        moved = [
            before,
            self.number,
            self.at,
            self.actor,
            self.role,
            self.account,
            self.action,
            self.target,
            self.detail,
        ]
        return hashlib.sha256(json.dumps(moved, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()
