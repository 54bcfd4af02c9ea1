"""A proof in a file of its own (C2SP tlog-proof): that something is in a log, checked without asking anybody.

Guarantees: what was checked stands in the tree of a checkpoint that the log signed. Leaves to others: what the leaf stands
for (``leaves``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.log.checkpoints import SignedCheckpoint, open_checkpoint, parse_hash, parse_size
from tallystick.log.notes import NOTE_BYTES_MAX, NoteKey, decode_base64, encode_base64
from tallystick.log.tree import HASHES_MAX, check_inclusion, hash_of_leaf
from tallystick.protocol.problems import WireError
from tallystick.sentences import _

SUFFIX: Final = ".tlog-proof"
EXTRA_BYTES_MAX: Final = 64 * 1024
PROOF_BYTES_MAX: Final = 2 * EXTRA_BYTES_MAX + NOTE_BYTES_MAX
_HEAD: Final = "c2sp.org/tlog-proof@v1"
_PROOF: Final = re.compile(rb"([^\n]*)\n(?:extra ([^\n]*)\n)?index ([^\n]*)\n((?:[^\n]+\n)*)\n(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProof:
    """The leaf at ``index`` is in the tree of ``checkpoint``, a whole signed note. Nobody signed ``extra``."""

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """The file."""
        lines = [_HEAD]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines += [f"index {self.index}", *map(encode_base64, self.hashes), "", ""]
        return "\n".join(lines).encode() + self.checkpoint


def parse_proof(data: bytes) -> LogProof:
    """Take a file apart, and believe nothing of it. Raises ``WireError`` (``log-proof-malformed``)."""
    if len(data) > PROOF_BYTES_MAX:
        raise _malformed(_("at most {most} bytes", most=PROOF_BYTES_MAX), _("{count} bytes", count=len(data)))
    found = _PROOF.fullmatch(data)
    if found is None or found[1] != _HEAD.encode():
        raise _malformed(_("a file that begins with {head}", head=_HEAD), _("another file"))
    lines = found[4].split(b"\n")[:-1]
    if len(lines) > HASHES_MAX:
        raise _malformed(_("at most {most} hashes", most=HASHES_MAX), _("{count} hashes", count=len(lines)))
    try:
        extra = None if found[2] is None else decode_base64(found[2].decode("ascii"))
        if found[2] is not None and (extra is None or len(extra) > EXTRA_BYTES_MAX):
            raise _malformed(_("base64 behind extra"), _("something else"))
        index = parse_size(found[3].decode("ascii"))
        hashes = tuple(parse_hash(line.decode("ascii")) for line in lines)
    except UnicodeDecodeError:
        raise _malformed(_("ASCII"), _("other bytes")) from None
    except WireError as error:
        raise _malformed(error.expected, error.seen) from None
    return LogProof(index=index, hashes=hashes, checkpoint=found[5], extra=extra)


def check_proof(
    proof: LogProof, leaf: bytes, log: NoteKey, *, witnesses: Sequence[NoteKey] = (), quorum: int = 0
) -> SignedCheckpoint:
    """That ``leaf`` is in the log, by a checkpoint that it signed, and ``quorum`` of the witnesses. Raises ``WireError``."""
    signed = open_checkpoint(proof.checkpoint, log, witnesses=witnesses, quorum=quorum)
    check_inclusion(
        leaf=hash_of_leaf(leaf),
        index=proof.index,
        size=signed.checkpoint.size,
        root=signed.checkpoint.root,
        proof=proof.hashes,
    )
    return signed


def _malformed(expected: str, seen: str) -> WireError:
    return WireError("log-proof-malformed", expected=expected, seen=seen)
