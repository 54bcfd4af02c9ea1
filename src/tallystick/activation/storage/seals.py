"""Seals: a digest over the columns of a row, beside them, so that a row that was changed behind the store shows it.

A seal is no secret: who rewrites a row and its seal is found by what is outside the database (receipts, events that were
sent, backups), not by it. What is only ever added and never pruned is chained instead: the ledger, the audit trail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

# Every column but the seal. What a later version adds to a table is sealed by a table of its own, or sealed anew by its
# migration: a test says that no column is forgotten. (`position` of a line is its place in a certificate, nothing else.)
SEALED: Final[Mapping[str, tuple[str, ...]]] = {
    "lines": (
        *("line_id", "entitlement_id", "account", "sku", "secret", "expires_at", "engineering", "suspended", "frozen"),
        *("bought", "available", "held", "returning", "quarantined", "retired", "entries", "chain"),
    ),
    "messages": (
        *("digest", "device_id", "account", "epoch", "sequence", "purpose", "taken_at"),
        *("outcome", "code", "detail", "reply"),
    ),
    "declarations": (*("device_id", "at", "account", "reason", "declared_by", "override_by", "line_ids", "undone_at"),),
    "incident_states": (
        *("number", "acknowledged_at", "acknowledged_by", "acknowledged_note"),
        *("resolved_at", "resolved_by", "resolved_note", "resolution"),
    ),
    "incidents": ("account", "kind", "device_id", "at", "detail", "digest"),
    "events": ("position", "event_id", "account", "kind", "at", "data"),
}
UNSEALED: Final[Mapping[str, frozenset[str]]] = {"lines": frozenset({"position"}), "incidents": frozenset({"id"})}


def sealed(table: str, values: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row with their seal."""
    return values | {"seal": seal_of(table, values)}


def seal_of(table: str, values: Mapping[str, Any]) -> str:
    """SHA-256 over the name of the table and its columns, as JSON, which says what begins where."""
    return digest_of_row(table, [values[name] for name in SEALED[table]])


def digest_of_row(table: str, values: list[Any]) -> str:
    """SHA-256 of a list that begins with the table's name."""
    return hashlib.sha256(msgspec.json.encode([table, *values])).hexdigest()
