"""The simulator's auditor, on the data of real processes.

It is told everything anew each time: every row of the activation server's database, the messages that the tap has
heard, and what every field server would load now. What only this place knows is the truth about the faults.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, select, text

from support.parties import ISSUER, FieldServer
from tallystick.activation.keys.signing import load_signer
from tallystick.activation.storage import tables
from tallystick.protocol.problems import BY_CODE
from tallystick.simulator.evidence import Violation, read_envelope
from tallystick.simulator.invariants import Auditor

ACCUSATIONS = {"rollback", "fork", "epoch-behind"}


class Books:
    """An activation server's database, only looked at: no lock is taken, and nothing is tidied up."""

    def __init__(self, directory: Path, url: str | None = None) -> None:
        self.directory = directory
        self.url = url or f"sqlite:///file:{directory / 'tallystick.sqlite'}?mode=ro&uri=true"

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All tables, at one instant, but for those that a task of the activation server writes by itself: events, its clock."""
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
                return {
                    table.name: [dict(row._mapping) for row in connection.execute(select(table))]
                    for table in tables.METADATA.sorted_tables
                    if table.name not in {"outbox", "events", "marks", "deliveries", "service_clock"}
                }
        finally:
            engine.dispose()


def state_row(server: FieldServer) -> dict[str, Any]:
    """What a field server is, as plain data."""
    state = server.look()
    return {
        "device": server.id,
        "epoch": state.epoch,
        "sequence": state.sequence,
        "grant": None if state.applied is None else state.applied.compact,
        "rolled_back_at": state.rolled_back_at,
        "is_durable": True,  # a process that is killed takes no page of the system's cache with it
        "outbox": {str(waiting.digest): waiting.sequence for waiting in state.outbox},
        "waiting": len(state.outbox),
        "number": 0 if state.applied is None else state.applied.number,
    }


def judge(
    books: Mapping[str, list[dict[str, Any]]],
    *,
    directory: Path,
    heard: Iterable[str],
    states: Mapping[str, Mapping[str, Any]],
    suspects: Iterable[str] = (),
    was_restored: bool = False,
) -> Auditor:
    """Raises ``Violation``; afterwards the auditor knows all, and can be asked for more."""
    auditor = Auditor(issuer=ISSUER, codes=BY_CODE)
    for key in load_signer(directory).keyset.keys:
        auditor.trust(key.jwk.x)
    for row in books["lines"]:
        auditor.sold(row["line_id"], row["secret"])
    auditor.suspects.update(suspects)
    auditor.was_restored = was_restored
    compacts = {read_envelope(compact)[2]: compact for compact in heard if _is_envelope(compact)}
    unknown = [row for row in books["messages"] if row["digest"] not in compacts]
    if unknown:
        raise Violation("P3", f"{len(unknown)} messages were taken that nobody has said: {unknown[0]}")
    auditor.committed(_rows(books, compacts))
    in_doubt = {row["device_id"] for row in books["field_servers"] if row["recovering"] is not None}
    if was_restored:
        in_doubt |= {state["device"] for state in states.values()} - {
            row["device_id"] for row in books["field_servers"]
        }
    auditor.unheard = in_doubt
    for name, state in states.items():
        auditor.field_server(name, state)
    auditor.check()
    return auditor


def _rows(books: Mapping[str, list[dict[str, Any]]], compacts: Mapping[str, str]) -> dict[str, list[dict[str, Any]]]:
    return {
        "field_servers": [row | {"device": row["device_id"]} for row in books["field_servers"]],
        "grants": [row | {"device": row["device_id"]} for row in books["grants"]],
        "messages": [
            {"device": row["device_id"], "compact": compacts[row["digest"]], "reply": row["reply"].split()}
            for row in sorted(books["messages"], key=lambda row: row["sequence"])
        ],
        "entries": [
            row | {"device": row["device_id"], "line": row["line_id"]}
            for row in sorted(books["entries"], key=lambda row: (row["line_id"], row["number"]))
        ],
        "holdings": [row | {"device": row["device_id"], "line": row["line_id"]} for row in books["holdings"]],
        "incidents": [row | {"device": row["device_id"]} for row in books["incidents"]],
        "lines": [row | {"line": row["line_id"]} for row in books["lines"]],
    }


def _is_envelope(compact: str) -> bool:
    try:
        read_envelope(compact)
    except (ValueError, json.JSONDecodeError):
        return False
    return True
