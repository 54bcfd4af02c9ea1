"""A Merkle tree of RFC 6962 with SHA-256: its hashes, and proofs that need a few of them.

Guarantees: a proof is believed only if it leads to the root that the caller trusts, has exactly the hashes that it needs,
and ends where the tree of that size ends. Whoever makes a proof says first which hashes it needs (``Node``), so that a
reader fetches them in one go. Nothing here grows with the tree but the number of its levels. Leaves to others: where hashes
are kept (``tiles``), and who says what the root is (``checkpoints``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

from tallystick.protocol.problems import WireError
from tallystick.sentences import _

SIZE_MAX: Final = 2**62  # so that no proof has more hashes than a witness takes
HASH_BYTES: Final = 32
HASHES_MAX: Final = 63
EMPTY_ROOT: Final = hashlib.sha256().digest()


@dataclass(frozen=True, slots=True, order=True)
class Node:
    """The hash over the ``2**level`` leaves that begin at ``number * 2**level``; all of them are there."""

    level: int
    number: int


Ranges = tuple[tuple[Node, ...], ...]  # for each hash of a proof: the nodes that make it, from left to right


def hash_of_leaf(data: bytes) -> bytes:
    """The hash of a leaf (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_of_pair(left: bytes, right: bytes) -> bytes:
    """The hash of the node above two others."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def joined(hashes: Sequence[bytes]) -> bytes:
    """The hash over subtrees that stand beside each other and become smaller to the right; of none: the empty tree's."""
    if not hashes:
        return EMPTY_ROOT
    return reduce(lambda right, left: hash_of_pair(left, right), reversed(hashes))


def nodes_of_tree(size: int) -> tuple[Node, ...]:
    """The nodes of which ``joined`` makes the root of the tree with ``size`` leaves."""
    return _nodes(0, size)


def nodes_of_inclusion(index: int, size: int) -> Ranges:
    """What the proof is made of that leaf ``index`` is in the tree of ``size`` leaves (RFC 6962, 2.1.1)."""
    if not 0 <= index < size <= SIZE_MAX:
        raise ValueError(f"a leaf below {size}, not {index}")
    found: list[tuple[Node, ...]] = []
    first, end = 0, size
    while end - first > 1:
        middle = first + _split(end - first)
        if index < middle:
            found.append(_nodes(middle, end))
            end = middle
        else:
            found.append(_nodes(first, middle))
            first = middle
    return tuple(reversed(found))


def nodes_of_consistency(old: int, size: int) -> Ranges:
    """What the proof is made of that the tree of ``old`` leaves is the beginning of that of ``size`` (RFC 6962, 2.1.2)."""
    if not 0 <= old <= size <= SIZE_MAX:
        raise ValueError(f"a size up to {size}, not {old}")
    if old in {0, size}:
        return ()
    found: list[tuple[Node, ...]] = []
    first, end = 0, size
    while old != end:
        middle = first + _split(end - first)
        if old <= middle:
            found.append(_nodes(middle, end))
            end = middle
        else:
            found.append(_nodes(first, middle))
            first = middle
    if first > 0:  # the old tree is not the whole left side, so who checks does not know this part of it
        found.append(_nodes(first, end))
    return tuple(reversed(found))


def nodes_in(ranges: Ranges) -> list[Node]:
    """All nodes that a proof needs, each once."""
    return sorted({node for nodes in ranges for node in nodes})


def make_proof(ranges: Ranges, hashes: Mapping[Node, bytes]) -> tuple[bytes, ...]:
    """The proof, once the hashes of its nodes were read."""
    return tuple(joined([hashes[node] for node in nodes]) for nodes in ranges)


def check_inclusion(*, leaf: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """That the leaf with the hash ``leaf`` stands at ``index``. Raises ``WireError`` (``log-proof-wrong``)."""
    if not 0 <= index < size <= SIZE_MAX:
        raise _wrong(_("a leaf of the {size} of the tree", size=size), _("number {index}", index=index))
    found, place, last = leaf, index, size - 1
    for other in proof:
        if last == 0:
            raise _wrong(_("a proof that ends at the root"), _("{count} hashes", count=len(proof)))
        found, place, last = _above(found, other, place, last)
    if last or found != root:
        raise _wrong(_("a proof that leads to the root of the checkpoint"), _("one that leads elsewhere"))


def check_consistency(*, old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """That the tree of ``old`` leaves is the beginning of that of ``size``. Raises ``WireError`` (``log-proof-wrong``)."""
    if not 0 <= old <= size <= SIZE_MAX:
        raise _wrong(_("a tree of at least {old} leaves", old=old), _("one of {size}", size=size))
    if old in {0, size}:
        if proof or old_root != (EMPTY_ROOT if old == 0 else root):
            raise _wrong(_("the same root, and no proof, for a tree of {old} leaves", old=old), _("something else"))
        return
    path = list(proof)
    if old & (old - 1) == 0:  # the old tree is one node of the new one
        path.insert(0, old_root)
    if not path:
        raise _wrong(_("a proof from {old} leaves to {size}", old=old, size=size), _("no hash"))
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for other in path[1:]:
        if last == 0:
            raise _wrong(_("a proof that ends at the root"), _("{count} hashes", count=len(proof)))
        if place & 1 or place == last:
            before = hash_of_pair(other, before)
        after, place, last = _above(after, other, place, last)
    if last or before != old_root or after != root:
        raise _wrong(_("a proof that leads to both roots"), _("one that leads elsewhere"))


def check_hashes(hashes: Iterable[bytes]) -> None:
    """That each is as long as a hash, and that there are not too many. Raises ``WireError`` (``log-proof-wrong``)."""
    found = list(hashes)
    if len(found) > HASHES_MAX or any(len(one) != HASH_BYTES for one in found):
        raise _wrong(_("at most {most} hashes of 32 bytes", most=HASHES_MAX), _("{count} hashes", count=len(found)))


def _above(found: bytes, other: bytes, place: int, last: int) -> tuple[bytes, int, int]:
    """One step to the root: the hash above, its place in its level, and the last place there."""
    if not (place & 1 or place == last):
        return hash_of_pair(found, other), place >> 1, last >> 1
    while place and not place & 1:  # the right edge, where levels are missing
        place, last = place >> 1, last >> 1
    return hash_of_pair(other, found), place >> 1, last >> 1


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _nodes(first: int, end: int) -> tuple[Node, ...]:
    found = []
    while first < end:
        level = (end - first).bit_length() - 1
        found.append(Node(level, first >> level))
        first += 1 << level
    return tuple(found)


def _wrong(expected: str, seen: str) -> WireError:
    return WireError("log-proof-wrong", expected=expected, seen=seen)
