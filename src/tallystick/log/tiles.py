"""The tree in tiles (C2SP tlog-tiles): 256 hashes of one level each, which are files that never change.

Guarantees: whoever appends needs the right edge only, one tile of each level, however large the tree is. Whoever reads
believes no tile that was not led to a root which is trusted. Leaves to others: where tiles are kept, and in which order they
become durable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallystick.log.tree import HASH_BYTES, SIZE_MAX, Node, hash_of_leaf, hash_of_pair, joined, nodes_of_tree
from tallystick.protocol.problems import WireError
from tallystick.sentences import _

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
TILE_BYTES: Final = WIDTH * HASH_BYTES
LEVEL_MAX: Final = SIZE_MAX.bit_length() // HEIGHT
_PATH: Final = re.compile(r"tile/(0|[1-9][0-9]?|entries)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")
_PATH_SYMBOLS_MAX: Final = 64


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """``width`` hashes of ``level`` (0: of leaves, 1: of full tiles of level 0, ...), from the ``number``-th 256 on."""

    level: int
    number: int
    width: int

    @property
    def path(self) -> str:
        """Where it is served, below the log's prefix."""
        return _path(str(self.level), self.number, self.width)

    @property
    def entries_path(self) -> str:
        """Where the leaves themselves are served, whose hashes a tile of level 0 has."""
        return _path("entries", self.number, self.width)


@dataclass(frozen=True, slots=True)
class Served:
    """What a path asks for: a tile, or the leaves of one."""

    tile: Tile
    is_of_entries: bool


def parse_path(path: str) -> Served:
    """What a path below the log's prefix asks for. Raises ``WireError`` (``tile-path-malformed``)."""
    found = _PATH.fullmatch(path) if len(path) <= _PATH_SYMBOLS_MAX else None
    if found is None or not path.isascii():
        raise _no_path(path)
    level, number, width = found.groups()
    is_of_entries = level == "entries"
    tile = Tile(
        0 if is_of_entries else int(level),
        int(number.replace("x", "").replace("/", "")),
        WIDTH if width is None else int(width),
    )
    is_plain = _path(level, tile.number, tile.width) == path  # no zeros that say nothing, no 256 as a part
    if tile.level > LEVEL_MAX or tile.width > WIDTH or not is_plain:
        raise _no_path(path)
    return Served(tile, is_of_entries)


def tile_of(level: int, number: int, size: int) -> Tile | None:
    """The tile as it is in a tree of ``size`` leaves; None: nothing of it is there."""
    width = min(WIDTH, (size >> HEIGHT * level) - number * WIDTH)
    return Tile(level, number, width) if width > 0 else None


def tiles_between(old: int, size: int) -> Iterator[Tile]:
    """Every tile that a tree has at ``size`` leaves and had not, or not so wide, at ``old``."""
    level = 0
    while size >> HEIGHT * level:
        first, end = (old >> HEIGHT * level) // WIDTH, -(-(size >> HEIGHT * level) // WIDTH)
        for number in range(first, end):
            tile = tile_of(level, number, size)
            if tile is not None and tile != tile_of(level, number, old):
                yield tile
        level += 1


def split_tile(tile: Tile, data: bytes) -> list[bytes]:
    """The hashes of a tile that was read. Raises ``WireError`` (``tile-wrong``)."""
    if len(data) != tile.width * HASH_BYTES:
        raise _wrong(tile, _("{count} bytes", count=tile.width * HASH_BYTES), _("{count} bytes", count=len(data)))
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


class Edge:
    """The right edge of a tree, which is all that appending needs: of each level the hashes that fill no tile yet."""

    def __init__(self, size: int = 0, levels: Iterable[Sequence[bytes]] = ()) -> None:
        self.size = size
        self._levels = [list(hashes) for hashes in levels]
        if [len(hashes) for hashes in self._levels] != _widths(size):
            raise ValueError(f"the edge of a tree of {size} leaves")

    @property
    def root(self) -> bytes:
        """The root of the tree as it is."""
        parts: list[bytes] = []
        for hashes in reversed(self._levels):
            at = 0
            for bit in reversed(range(HEIGHT)):
                if len(hashes) >> bit & 1:
                    parts.append(subtree(hashes[at : at + (1 << bit)]))
                    at += 1 << bit
        return joined(parts)

    def append(self, leaves: Iterable[bytes]) -> dict[Tile, bytes]:
        """Take the hashes of new leaves, and return every tile that is new or wider, with what it holds."""
        old, full = self.size, dict[Tile, bytes]()
        for leaf in leaves:
            self._push(0, leaf, full)
            self.size += 1
        return full | self._partial(old)

    def _push(self, level: int, found: bytes, full: dict[Tile, bytes]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        hashes = self._levels[level]
        hashes.append(found)
        if len(hashes) == WIDTH:
            number = ((self.size + 1) >> HEIGHT * (level + 1)) - 1
            full[Tile(level, number, WIDTH)] = b"".join(hashes)
            above = subtree(hashes)
            hashes.clear()
            self._push(level + 1, above, full)

    def _partial(self, old: int) -> dict[Tile, bytes]:
        found = {}
        for level, hashes in enumerate(self._levels):
            if hashes and (self.size >> HEIGHT * level) != (old >> HEIGHT * level):
                found[Tile(level, (self.size >> HEIGHT * level) // WIDTH, len(hashes))] = b"".join(hashes)
        return found


def edge_tiles(size: int) -> list[Tile | None]:
    """The tiles that hold the edge of a tree of ``size`` leaves, level by level; None: all tiles of the level are full."""
    return [
        Tile(level, (size >> HEIGHT * level) // WIDTH, width) if width else None
        for level, width in enumerate(_widths(size))
    ]


def subtree(hashes: Sequence[bytes]) -> bytes:
    """The hash over a power of two of hashes that stand beside each other."""
    while len(hashes) > 1:
        hashes = [hash_of_pair(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]


Fetch = Callable[[Sequence[Tile]], Mapping[Tile, bytes]]


class TileReader:
    """Hashes of a tree of which only the root is trusted, from tiles that anybody may have altered."""

    def __init__(self, *, size: int, root: bytes, fetch: Fetch) -> None:
        self._size = size
        self._root = root
        self._fetch = fetch
        self._trusted: dict[Tile, list[bytes]] = {}

    def read(self, nodes: Sequence[Node]) -> dict[Node, bytes]:
        """The hashes of ``nodes``, all of the tree. Raises ``WireError`` (``tile-wrong``), and what ``fetch`` raises."""
        wanted = {self._tile(node) for node in nodes}
        self._trust(wanted)
        return {node: self._inside(node) for node in nodes}

    def hashes_of(self, tile: Tile) -> list[bytes]:
        """All hashes of one tile. Raises as ``read``."""
        self._trust({tile})
        return self._trusted[tile]

    def _trust(self, wanted: set[Tile]) -> None:
        top = {self._tile(node) for node in nodes_of_tree(self._size)}
        needed = set(wanted) | (top if not self._trusted else set())
        for tile in wanted:
            below = tile
            while below.width == WIDTH and below not in self._trusted:  # a part is at the edge, which leads to the root
                below = self._above(below)
                needed.add(below)
        missing = sorted(needed - self._trusted.keys())
        found = {tile: split_tile(tile, data) for tile, data in self._fetch(missing).items()} if missing else {}
        if found.keys() != set(missing):
            raise _wrong(missing[0], _("a tile that the tree has"), _("none"))
        if not self._trusted:
            self._check_root(found, top)
        for tile in sorted(found, reverse=True):  # from the top: each is led to one that is trusted
            if tile not in self._trusted:
                if self._trusted[self._above(tile)][tile.number % WIDTH] != subtree(found[tile]):
                    raise _wrong(tile, _("the hashes that the tile above it names"), _("others"))
                self._trusted[tile] = found[tile]

    def _check_root(self, found: Mapping[Tile, list[bytes]], top: set[Tile]) -> None:
        parts = []
        for node in nodes_of_tree(self._size):
            tile = self._tile(node)
            parts.append(_node_in(tile, found[tile], node))
        if joined(parts) != self._root:
            raise WireError(
                "tile-wrong",
                expected=_("tiles that lead to the root of the checkpoint"),
                seen=_("others"),
            )
        self._trusted |= {tile: found[tile] for tile in top}

    def _inside(self, node: Node) -> bytes:
        tile = self._tile(node)
        return _node_in(tile, self._trusted[tile], node)

    def _tile(self, node: Node) -> Tile:
        level = node.level // HEIGHT
        number = (node.number << node.level % HEIGHT) // WIDTH
        tile = tile_of(level, number, self._size)
        if tile is None or (node.number + 1) << node.level > self._size:
            raise ValueError(f"a node of a tree of {self._size} leaves, not {node}")
        return tile

    def _above(self, tile: Tile) -> Tile:
        """The tile that has the hash over a full one."""
        above = tile_of(tile.level + 1, tile.number // WIDTH, self._size)
        assert above is not None, "a full tile is one hash of the level above"  # noqa: S101 - for the type checker
        return above


def format_entries(leaves: Iterable[bytes]) -> bytes:
    """The leaves of a tile, as they are served: each behind its length."""
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def parse_entries(tile: Tile, data: bytes, *, leaf_bytes: int) -> list[bytes]:
    """The leaves of a tile, all of one length. Raises ``WireError`` (``tile-wrong``)."""
    step = 2 + leaf_bytes
    if len(data) != tile.width * step or any(
        data[at : at + 2] != leaf_bytes.to_bytes(2, "big") for at in range(0, len(data), step)
    ):
        raise _wrong(tile, _("leaves of {count} bytes", count=leaf_bytes), _("other bytes"))
    return [data[at + 2 : at + step] for at in range(0, len(data), step)]


def check_entries(tile: Tile, leaves: Sequence[bytes], hashes: Sequence[bytes]) -> None:
    """That the leaves are those of the tile. Raises ``WireError`` (``tile-wrong``)."""
    if [hash_of_leaf(leaf) for leaf in leaves] != list(hashes):
        raise _wrong(tile, _("the leaves whose hashes the tile has"), _("others"))


def _node_in(tile: Tile, hashes: Sequence[bytes], node: Node) -> bytes:
    height = node.level - tile.level * HEIGHT
    first = (node.number << height) - tile.number * WIDTH
    return subtree(hashes[first : first + (1 << height)])


def _widths(size: int) -> list[int]:
    found = []
    while size:
        found.append(size % WIDTH)
        size >>= HEIGHT
    return found


def _path(level: str, number: int, width: int) -> str:
    groups = [f"{number % 1000:03}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03}")
    part = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(groups)}{part}"


def _no_path(path: str) -> WireError:
    return WireError(
        "tile-path-malformed", expected=_("the path of a tile"), seen=_("{count} symbols", count=len(path))
    )


def _wrong(tile: Tile, expected: str, seen: str) -> WireError:
    return WireError("tile-wrong", expected=_("{what} in {path}", what=expected, path=tile.path), seen=seen)
