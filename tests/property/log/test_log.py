"""Trees of any size: what is in them can be proven and nothing else; anything into every reader."""

from __future__ import annotations

import contextlib
import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from support.activation import seeded
from tallystick.log import tiles, tree
from tallystick.log.checkpoints import open_checkpoint, parse_text
from tallystick.log.notes import NoteSigner, format_note, open_note, parse_key
from tallystick.log.proofs import LogProof, parse_proof
from tallystick.log.tiles import Edge, Tile, TileReader, parse_path
from tallystick.protocol.problems import WireError

LOG = NoteSigner("log.example/books", seeded("log"))


def leaf(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


@st.composite
def huge_trees(draw):
    """A tree as large as is wanted, of which only what was appended last and its edge exist."""
    size = draw(st.integers(0, 100_000_000) | st.sampled_from([2**26, 255, 256, 65_535, 65_536, 16_777_216]))
    levels = [[leaf(level * 1000 + at) for at in range(width)] for level, width in enumerate(tiles._widths(size))]
    return Edge(size, levels), draw(st.lists(st.integers(1, 700), min_size=1, max_size=3))


@settings(max_examples=30, deadline=None)
@given(huge_trees())
def test_a_tree_of_any_size_is_extended_by_proof(made):
    edge, steps = made
    kept = {}
    for level, hashes in enumerate(edge._levels):
        if hashes:
            kept[level, (edge.size >> 8 * level) // 256] = b"".join(hashes)
    for step in steps:
        old, old_root = edge.size, edge.root
        for tile, data in edge.append(leaf(old + number) for number in range(step)).items():
            kept[tile.level, tile.number] = data
        reader = TileReader(size=edge.size, root=edge.root, fetch=lambda wanted: fetch(kept, wanted))
        ranges = tree.nodes_of_consistency(old, edge.size)
        proof = tree.make_proof(ranges, reader.read(tree.nodes_in(ranges)))
        tree.check_consistency(old=old, old_root=old_root, size=edge.size, root=edge.root, proof=proof)
        ranges = tree.nodes_of_inclusion(edge.size - 1, edge.size)
        hashes = tree.make_proof(ranges, reader.read(tree.nodes_in(ranges)))
        inclusion = {"index": edge.size - 1, "size": edge.size, "root": edge.root, "proof": hashes}
        tree.check_inclusion(leaf=leaf(edge.size - 1), **inclusion)
        with contextlib.suppress(WireError):
            tree.check_inclusion(leaf=leaf(edge.size), **inclusion)
            raise AssertionError("a leaf that is not there was proven")


def fetch(kept: dict[tuple[int, int], bytes], wanted: list[Tile]) -> dict[Tile, bytes]:
    return {tile: kept[tile.level, tile.number][: tile.width * 32] for tile in wanted}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_leaf_of_any_tree_is_proven_at_its_place_only(data):
    size = data.draw(st.integers(1, 600))
    index, other = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size - 1))
    edge = Edge()
    kept = edge.append(leaf(number) for number in range(size))
    reader = TileReader(size=size, root=edge.root, fetch=lambda wanted: {tile: kept[tile] for tile in wanted})
    ranges = tree.nodes_of_inclusion(index, size)
    proof = tree.make_proof(ranges, reader.read(tree.nodes_in(ranges)))
    is_proven = True
    try:
        tree.check_inclusion(leaf=leaf(other), index=other, size=size, root=edge.root, proof=proof)
    except WireError:
        is_proven = False
    assert is_proven == (index == other)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 400))
def test_two_trees_fit_exactly_if_one_is_the_beginning_of_the_other(old, more, changed):
    size = old + more
    edge, before = Edge(), Edge()
    before.append(leaf(-1 if number == changed else number) for number in range(old))
    kept = edge.append(leaf(number) for number in range(size))
    reader = TileReader(size=size, root=edge.root, fetch=lambda wanted: {tile: kept[tile] for tile in wanted})
    ranges = tree.nodes_of_consistency(old, size)
    proof = tree.make_proof(ranges, reader.read(tree.nodes_in(ranges)))
    fits = True
    try:
        tree.check_consistency(old=old, old_root=before.root, size=size, root=edge.root, proof=proof)
    except WireError:
        fits = False
    assert fits == (changed >= old)


LINES = st.sampled_from(
    [
        "log.example/books",
        "0",
        "1",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "",
        "index 0",
        "extra AA==",
        "c2sp.org/tlog-proof@v1",
        LOG.sign("a\n").strip(),
        "\N{EM DASH} x AAAAAAAA",
        "old 3",
        "\r",
        "a",
    ]
)
ANYTHING = st.binary(max_size=300) | st.lists(LINES | st.text(max_size=20), max_size=9).map(
    lambda lines: "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass")
)


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_anything_gives_every_reader_a_value_or_a_wire_error(data):
    text = data.decode("utf-8", "replace")
    for read in (
        lambda: open_note(data, [LOG.key]),
        lambda: open_checkpoint(data, LOG.key),
        lambda: parse_proof(data),
        lambda: parse_key(text),
        lambda: parse_text(text),
        lambda: parse_path(text),
        lambda: tiles.parse_entries(Tile(0, 0, 2), data, leaf_bytes=33),
        lambda: tiles.split_tile(Tile(0, 0, 2), data),
    ):
        with contextlib.suppress(WireError):
            read()


HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=63)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**62), HASHES, st.none() | st.binary(max_size=100), st.integers(0, 2**62))
def test_what_is_written_is_read_the_same(index, hashes, extra, size):
    text = f"{LOG.key.name}\n{size}\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    note = format_note(text, [LOG.sign(text)])
    assert open_checkpoint(note, LOG.key).checkpoint.text == text
    proof = LogProof(index=index, hashes=tuple(hashes), checkpoint=note, extra=extra)
    assert parse_proof(proof.encode()) == proof


@given(st.integers(0, 7), st.integers(0, 2**40), st.integers(1, 256))
def test_the_path_of_any_tile_leads_back_to_it(level, number, width):
    tile = Tile(level, number, width)
    assert parse_path(tile.path).tile == tile
    of_entries = parse_path(Tile(0, number, width).entries_path)
    assert (of_entries.tile, of_entries.is_of_entries) == (Tile(0, number, width), True)
