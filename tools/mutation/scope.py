"""Where errors are seeded, and which changes are no errors by rule."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

# Arguments that are for people to read.
TEXT_ARGUMENTS: Final = frozenset({"expected", "seen", "detail", "cause", "reason", "by", "strict"})
# Constants that say how long or how much at once, and nothing about what is so.
TUNING: Final = re.compile(r"(_SECONDS|_TRIES|_ATTEMPTS_MAX|_ROWS|_KEYS_MAX|^KEYS_MAX|^FEW_ROWS|_DAYS_MAX|^__all__)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module, and which judges look. ``only``: functions and classes, if not all; ``without``: those left out, and why."""

    file: str
    judges: str  # see ``judging``
    only: tuple[str, ...] = ()
    without: dict[str, str] = field(default_factory=dict)


MODULES: Final = (
    Module(file="activation/core/issuing.py", judges="core"),
    Module(file="activation/core/batch.py", judges="core"),
    Module(file="activation/core/answering.py", judges="core"),
    Module(file="activation/core/reading.py", judges="core"),
    Module(file="activation/core/books.py", judges="core"),
    Module(file="activation/core/interventions.py", judges="core"),
    Module(file="activation/core/jumps.py", judges="core"),
    Module(file="activation/core/clock.py", judges="core"),
    Module(file="domain/grant.py", judges="core"),
    Module(file="domain/rules.py", judges="core"),
    Module(file="domain/ledger.py", judges="core"),
    Module(file="fieldserver/engine.py", judges="core"),
    Module(file="fieldserver/vault.py", judges="core"),
    Module(
        file="activation/storage/transaction.py",
        judges="sql",
        without={
            f"SqlTransaction.{name}": "for pages, mail, metrics and commands; no promise rests on it"
            for name in (
                *("people", "frames", "within", "find_expiring_lines", "count_open_returns", "schema_version"),
                *("find_open_returns", "find_incidents", "find_entitlements", "replace_entitlement_id"),
            )
        },
    ),
    Module(file="activation/storage/rows.py", judges="sql"),
    Module(file="activation/storage/batches.py", judges="sql"),
    Module(file="activation/storage/batches_sqlite.py", judges="sql"),
    Module(file="activation/storage/statements.py", judges="sql"),
    Module(
        file="activation/storage/store.py",
        judges="sql",
        without=dict.fromkeys(("open_store", "migrate_database"), "opens files and databases; examples have it"),
    ),
    Module(
        file="activation/storage/pruning.py", judges="sql", without={"prune.count": "figures for who runs the command"}
    ),
    Module(file="activation/storage/copying.py", judges="sql"),
)
