"""Structs that threads may read at the same time, and copies between kinds whose fields have the same names.

msgspec looks at the fields of a struct or dataclass when it first meets it, and publishes what it found before it is
complete. Two threads that meet one for the first time at once crash the whole process (msgspec 0.22, SIGSEGV). So every
module shows it the kinds that it defines while it is being imported, which only one thread does: see ``know``.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from functools import cache
from typing import Any, Final, TypeVar, cast

import msgspec

from tallystick.sentences import Sentence, pack, unpack

KindT = TypeVar("KindT")

KNOWN: Final[set[type]] = set()


def know(*kinds: type) -> None:
    """Have msgspec look at ``kinds`` now. For the end of the module that defines them."""
    for kind in kinds:
        msgspec.json.Decoder(kind)
        KNOWN.add(kind)


def copied(kind: type[KindT], source: object, /, **others: object) -> KindT:
    """A ``kind`` whose fields are the attributes of ``source`` with the same names, but for ``others``.

    Raises ``AttributeError`` where neither has a field: nothing falls back to a default unseen.
    """
    return kind(
        **{name: getattr(source, name) for name in _names(cast("Hashable", kind)) if name not in others}, **others
    )


@cache
def _names(kind: Any) -> tuple[str, ...]:
    """The fields of a struct, of a dataclass or of a pydantic model."""
    fields = getattr(kind, "__struct_fields__", None) or getattr(kind, "model_fields", None)
    return tuple(fields or kind.__dataclass_fields__)


def encode_kept(value: object) -> bytes:
    """JSON for our own files, in which a sentence stays one."""
    return msgspec.json.encode(value, enc_hook=pack)


def decode_kept(data: bytes, kind: type[KindT]) -> KindT:
    """A dataclass from it; texts that were kept before there were sentences are as they were."""
    document: dict[str, Any] = msgspec.json.decode(data)
    found = {name: unpack(value) for name, value in document.items()}
    sentences: Any = {name: value for name, value in found.items() if isinstance(value, Sentence)}
    plain: Any = msgspec.convert(document | {name: str(value) for name, value in sentences.items()}, kind)
    kept: KindT = replace(plain, **sentences)
    return kept
