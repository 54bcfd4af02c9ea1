"""What a leaf of the activation server's log stands for: a kind, and a digest that reveals nothing to whoever has not seen the thing.

An envelope carries a signature, which nobody can guess. Entries of the ledger and records of the audit trail are short and
could be guessed, so a secret of their line goes into their digest, which those may read who may read the entries.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum
from typing import Final

LEAF_BYTES: Final = 33
BLIND_BYTES: Final = 32


class LeafKind(IntEnum):
    """The first byte of a leaf."""

    ENTRY = 1  # of the ledger
    ENVELOPE = 2  # that the activation server signed
    RECORD = 3  # of the audit trail
    RESTORED = 4  # the log went on after the activation server was restored from a backup


def leaf_of_envelope(compact: str) -> bytes:
    """The leaf of a signed envelope: its digest (protocol, envelope)."""
    return bytes([LeafKind.ENVELOPE]) + hashlib.sha256(compact.encode()).digest()


def leaf_of_entry(chain: str, blind: bytes) -> bytes:
    """The leaf of an entry of the ledger, by its chain and the secret of its line."""
    return bytes([LeafKind.ENTRY]) + _blinded(chain, blind)


def leaf_of_record(chain: str, blind: bytes) -> bytes:
    """The leaf of a record of the audit trail, by its chain and the secret of the trail."""
    return bytes([LeafKind.RECORD]) + _blinded(chain, blind)


def blind_of(secret: bytes, what: str) -> bytes:
    """The secret of a line (``line:7K3M9Q2A``), or of the audit trail (``trail``), from the log's own."""
    return hmac.digest(secret, what.encode(), hashlib.sha256)


def _blinded(chain: str, blind: bytes) -> bytes:
    return hmac.digest(blind, chain.encode(), hashlib.sha256)
