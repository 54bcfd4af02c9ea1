"""Seeds for fuzzing the C library, made from the vectors of the conformance kit: each file is one input of clients/c/tests/fuzz.c.

    python tools/fuzz_corpus.py FOLDER

Then let the fuzzer choose what reaches something new: ``./fuzz -merge=1 clients/c/tests/corpus FOLDER``.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Final

from tallystick.conformance import vectors
from tallystick.protocol.envelope import open_envelope
from tallystick.protocol.problems import WireError

KINDS: Final = ("tally-answer+jwt", "tally-grant+jwt", "tally-keys+jwt", "tally-root+jwt")
BYTES_MAX: Final = 4096


def inputs() -> set[bytes]:
    """All of them."""
    found = set()
    for vector in vectors.load():
        for name, reader in (("answer", 4), ("keys", 4), ("grant", 4), ("reply", 5)):
            data = vector.content(name) if name in vector.fields else None
            if data is None:
                continue
            found.add(bytes([reader]) + data)
            if reader == 4:
                found |= _insides(data)
    return {data for data in found if len(data) <= BYTES_MAX}


def _insides(data: bytes) -> set[bytes]:
    found = set()
    for line in data.split(b"\n"):
        try:
            opened = open_envelope(line)
        except WireError:
            continue
        found.add(b"\x06" + line)
        if opened.typ in KINDS:
            found.add(bytes([KINDS.index(opened.typ)]) + opened.payload)
            found.add(b"\x07" + opened.payload[:200])
    return found


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs():
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


if __name__ == "__main__":
    main()
