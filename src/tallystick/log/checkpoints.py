"""Checkpoints (C2SP tlog-checkpoint): how large a log is and what its root is, signed by the log.

Guarantees: one that was opened is of the log that the caller asks about, and signed with its key. Leaves to others: whether
it extends the one before (``tree.check_consistency``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.log.notes import Note, NoteKey, NoteSignature, decode_base64, encode_base64, open_note
from tallystick.log.tree import HASH_BYTES, SIZE_MAX
from tallystick.protocol.problems import WireError
from tallystick.sentences import _

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
LINES_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log ``origin`` has ``size`` leaves under ``root``. ``extensions`` are lines that nobody checks."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is signed."""
        return "\n".join((self.origin, str(self.size), encode_base64(self.root), *self.extensions)) + "\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint that its log signed; ``cosignatures`` are those of the witnesses that the caller trusts."""

    checkpoint: Checkpoint
    raw: bytes
    cosignatures: tuple[NoteSignature, ...]


def open_checkpoint(
    raw: bytes, log: NoteKey, *, witnesses: Sequence[NoteKey] = (), quorum: int = 0
) -> SignedCheckpoint:
    """The checkpoint of the log whose key is ``log`` and whose origin is the name of that key, which it signed, and
    ``quorum`` of ``witnesses``, too. Raises ``WireError`` (``note-...``, ``checkpoint-...``).
    """
    note = open_note(raw, [log, *witnesses])
    checkpoint = parse_text(note.text)
    if checkpoint.origin != log.name:
        raise WireError(
            "checkpoint-of-another-log",
            expected=_("the log {origin}", origin=log.name),
            seen=_("another one"),
        )
    cosignatures = _cosignatures(note, log)
    count = len({signature.key.public for signature in cosignatures})  # one key under two names is one witness
    if count < quorum:
        raise WireError(
            "checkpoint-not-witnessed",
            expected=_("cosignatures of {quorum} of {count} witnesses", quorum=quorum, count=len(witnesses)),
            seen=str(count),
        )
    return SignedCheckpoint(checkpoint, raw, cosignatures)


def parse_text(text: str) -> Checkpoint:
    """What the text of a note says, signed or not. Raises ``WireError`` (``checkpoint-malformed``)."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) < LINES_MIN or not text.endswith("\n") or not all(lines):
        raise _malformed(_("lines for origin, size and root"), _("{count} lines", count=len(lines)))
    origin, size, root, *extensions = lines
    return Checkpoint(origin, parse_size(size), parse_hash(root), tuple(extensions))


def parse_size(text: str) -> int:
    """A size, or a place in the tree. Raises ``WireError`` (``checkpoint-malformed``)."""
    if _SIZE.fullmatch(text) is None or int(text) > SIZE_MAX:
        raise _malformed(_("a whole number without zeros before it"), _("{count} symbols", count=len(text)))
    return int(text)


def parse_hash(text: str) -> bytes:
    """A hash in base64. Raises ``WireError`` (``checkpoint-malformed``)."""
    data = decode_base64(text)
    if data is None or len(data) != HASH_BYTES:
        raise _malformed(_("a hash of 32 bytes in base64"), _("{count} symbols", count=len(text)))
    return data


def _cosignatures(note: Note, log: NoteKey) -> tuple[NoteSignature, ...]:
    if log not in {signature.key for signature in note.signatures}:  # witnesses alone say nothing
        raise WireError(
            "note-signature-wrong",
            expected=_("a signature by {names}", names=log.name),
            seen=_("signatures by witnesses only"),
        )
    return tuple(signature for signature in note.signatures if signature.key != log)


def _malformed(expected: str, seen: str) -> WireError:
    return WireError("checkpoint-malformed", expected=expected, seen=seen)
