"""Tiles as C2SP has them; the edge that appending needs; a reader that believes only what leads to the root."""

from __future__ import annotations

import hashlib

import pytest

from tallystick.log import tiles, tree
from tallystick.log.tiles import Edge, Tile, TileReader, parse_path
from tallystick.protocol.problems import WireError


def leaf(number: int) -> bytes:
    return hashlib.sha256(b"leaf %d" % number).digest()


def grown(size: int, *, step: int = 1000) -> tuple[Edge, dict[tuple[int, int], bytes]]:
    """A tree of ``size`` leaves, appended in steps, and the widest of each tile."""
    edge, kept = Edge(), {}
    for first in range(0, size, step):
        for tile, data in edge.append(leaf(number) for number in range(first, min(size, first + step))).items():
            kept[tile.level, tile.number] = data
    return edge, kept


def fetcher(kept):
    return lambda wanted: {
        tile: kept[tile.level, tile.number][: tile.width * 32] for tile in wanted if (tile.level, tile.number) in kept
    }


@pytest.mark.parametrize(
    ("path", "tile"),
    [
        ("tile/0/000", Tile(0, 0, 256)),
        ("tile/1/000.p/17", Tile(1, 0, 17)),
        ("tile/0/x001/x234/067", Tile(0, 1234067, 256)),
        ("tile/0/x001/x234/067.p/1", Tile(0, 1234067, 1)),
        ("tile/7/999.p/255", Tile(7, 999, 255)),
        ("tile/0/x001/000", Tile(0, 1000, 256)),
    ],
)
def test_paths_are_those_of_the_specification(path, tile):
    assert tile.path == path
    assert parse_path(path).tile == tile
    assert parse_path(path.replace(f"tile/{tile.level}/", "tile/entries/")).is_of_entries


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0/0",
        "tile/00/000",
        "tile/0/000/",
        "/tile/0/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/257",
        "tile/0/000.p/999",
        "tile/0/000.p/01",
        "tile/64/000",
        "tile/0/../000",
        "tile/0/" + "\N{ARABIC-INDIC DIGIT ZERO}" * 3,
        "tile/-1/000",
        "tile/0/000\n",
        "tile/data/000",
        "tile/0/" + "x999/" * 20 + "999",
    ],
)
def test_another_spelling_is_no_tile(path):
    with pytest.raises(WireError) as caught:
        parse_path(path)
    assert caught.value.code == "tile-path-malformed"


def test_a_tree_of_seventy_thousand_has_the_tiles_that_the_specification_counts():
    """C2SP: 273 full and one of 112 at level 0; one full and one of 17 at level 1; one of 1 at level 2."""
    found = list(tiles.tiles_between(0, 70_000))
    assert [len([tile for tile in found if tile.level == level]) for level in range(3)] == [274, 2, 1]
    assert {tile.width for tile in found if tile.level == 0} == {256, 112}
    assert [tile.width for tile in found if tile.level == 1] == [256, 17]
    assert found[-1] == Tile(2, 0, 1)
    assert [tile.path for tile in tiles.tiles_between(0, 256)] == ["tile/0/000", "tile/1/000.p/1"]


def test_the_root_of_the_edge_is_that_of_the_leaves():
    for size in (0, 1, 2, 3, 255, 256, 257, 511, 512, 1000, 65536, 65537, 70_000):
        edge, kept = grown(size)
        read = TileReader(size=size, root=edge.root, fetch=fetcher(kept)).read
        if size:
            assert read([tree.Node(0, size - 1)]) == {tree.Node(0, size - 1): leaf(size - 1)}
        if size <= 1000:
            hashes = [leaf(number) for number in range(size)]
            while len(hashes) > 1:  # level by level; the odd one at the end moves up
                pairs = [tree.hash_of_pair(*hashes[at : at + 2]) for at in range(0, len(hashes) - 1, 2)]
                hashes = pairs + hashes[len(pairs) * 2 :]
            assert edge.root == (hashes[0] if hashes else tree.EMPTY_ROOT)


def test_what_a_step_returns_is_every_tile_that_is_new_or_wider():
    edge = Edge()
    for old, size in ((0, 1), (1, 255), (255, 256), (256, 257), (257, 70_000), (70_000, 70_001)):
        written = edge.append(leaf(number) for number in range(old, size))
        assert sorted(written) == sorted(tiles.tiles_between(old, size))
        assert all(len(data) == tile.width * 32 for tile, data in written.items())


def test_appending_to_a_hundred_million_leaves_takes_as_few_hashes_as_to_a_thousand(monkeypatch):
    count = 0
    real = tree.hash_of_pair

    def counted(left, right):
        nonlocal count
        count += 1
        return real(left, right)

    monkeypatch.setattr(tiles, "hash_of_pair", counted)
    found = {}
    for size in (1_000, 100_000_000):
        levels = [[leaf(number) for number in range(width)] for width in tiles._widths(size)]
        edge = Edge(size, levels)
        count = 0
        written = edge.append(leaf(number) for number in range(1000))
        assert edge.root
        assert edge.size == size + 1000
        assert len(written) <= 4 + 5
        found[size] = count
    assert found[100_000_000] <= found[1_000] + 8 * 256


def test_an_edge_goes_on_from_the_tiles_that_were_kept():
    for size in (1, 255, 256, 257, 65536, 66_000):
        edge, kept = grown(size)
        hashes = [
            tiles.split_tile(tile, kept[tile.level, tile.number]) if tile else [] for tile in tiles.edge_tiles(size)
        ]
        again = Edge(size, hashes)
        assert again.root == edge.root
        assert again.append([leaf(size)]) == edge.append([leaf(size)])
        assert again.root == edge.root
    with pytest.raises(ValueError, match="the edge of a tree"):
        Edge(3, [[leaf(0)]])


def test_a_reader_believes_no_tile_in_which_a_bit_is_another():
    size = 66_000
    edge, kept = grown(size)
    for key in [(0, 0), (0, 257), (1, 0), (1, 1), (2, 0)]:
        data = bytearray(kept[key])
        data[5] ^= 1
        altered = kept | {key: bytes(data)}
        reader = TileReader(size=size, root=edge.root, fetch=fetcher(altered))
        with pytest.raises(WireError) as caught:
            reader.read([tree.Node(0, 5), tree.Node(0, size - 1)])
        assert caught.value.code == "tile-wrong"


def test_a_reader_refuses_tiles_that_are_missing_or_of_another_length():
    edge, kept = grown(1000)
    for changed in ({}, {key: data for key, data in kept.items() if key != (0, 0)}, kept | {(0, 0): kept[0, 0][:-1]}):
        with pytest.raises(WireError) as caught:
            TileReader(size=1000, root=edge.root, fetch=fetcher(changed)).read([tree.Node(0, 0)])
        assert caught.value.code == "tile-wrong"
    with pytest.raises(ValueError, match="a node of a tree"):
        TileReader(size=1000, root=edge.root, fetch=fetcher(kept)).read([tree.Node(0, 1000)])


def test_a_reader_fetches_a_tile_once():
    edge, kept = grown(66_000)
    asked = []

    def fetch(wanted):
        asked.extend(wanted)
        return fetcher(kept)(wanted)

    reader = TileReader(size=66_000, root=edge.root, fetch=fetch)
    for number in range(0, 66_000, 999):
        reader.read([tree.Node(0, number)])
    assert len(asked) == len(set(asked))
    assert reader.hashes_of(Tile(0, 3, 256))[7] == leaf(3 * 256 + 7)


def test_leaves_are_served_behind_their_length_and_must_be_those_of_the_tile():
    leaves = [b"%033d" % number for number in range(3)]
    tile = Tile(0, 0, 3)
    data = tiles.format_entries(leaves)
    assert data == b"".join(b"\x00\x21" + one for one in leaves)
    assert tiles.parse_entries(tile, data, leaf_bytes=33) == leaves
    tiles.check_entries(tile, leaves, [tree.hash_of_leaf(one) for one in leaves])
    for wrong in (data[:-1], data + b"\x00", b"\x00\x20" + data[2:]):
        with pytest.raises(WireError):
            tiles.parse_entries(tile, wrong, leaf_bytes=33)
    with pytest.raises(WireError):
        tiles.check_entries(tile, leaves[::-1], [tree.hash_of_leaf(one) for one in leaves])
