"""A proof in a file: read as strictly as it was written, and worth what its checkpoint is worth."""

from __future__ import annotations

import dataclasses

import pytest

from support.activation import seeded
from tallystick.log import leaves, tiles, tree
from tallystick.log.checkpoints import Checkpoint
from tallystick.log.notes import NoteSigner, format_note
from tallystick.log.proofs import LogProof, check_proof, parse_proof
from tallystick.log.tree import hash_of_leaf
from tallystick.protocol.problems import WireError

LOG = NoteSigner("log.example/books", seeded("log"))
LEAVES = [leaves.leaf_of_envelope(f"envelope {number}") for number in range(600)]


def made(index: int, *, extra: bytes | None = None) -> LogProof:
    edge = tiles.Edge()
    kept = edge.append(map(hash_of_leaf, LEAVES))
    checkpoint = Checkpoint(LOG.key.name, edge.size, edge.root)
    reader = tiles.TileReader(
        size=edge.size, root=edge.root, fetch=lambda wanted: {tile: kept[tile] for tile in wanted}
    )
    ranges = tree.nodes_of_inclusion(index, edge.size)
    hashes = tree.make_proof(ranges, reader.read(tree.nodes_in(ranges)))
    note = format_note(checkpoint.text, [LOG.sign(checkpoint.text)])
    return LogProof(index=index, hashes=hashes, checkpoint=note, extra=extra)


@pytest.mark.parametrize("extra", [None, b"", b"a line\nand another"])
@pytest.mark.parametrize("index", [0, 1, 255, 256, 599])
def test_a_proof_comes_back_as_it_was_written_and_proves(index, extra):
    proof = made(index, extra=extra)
    read = parse_proof(proof.encode())
    assert read == proof
    assert read.encode() == proof.encode()
    assert check_proof(read, LEAVES[index], LOG.key).checkpoint.size == 600
    for other in (LEAVES[index - 1], b"", LEAVES[index] + b"\x00"):
        with pytest.raises(WireError) as caught:
            check_proof(read, other, LOG.key)
        assert caught.value.code == "log-proof-wrong"


def test_a_tree_of_one_needs_no_hash():
    edge = tiles.Edge()
    edge.append([hash_of_leaf(LEAVES[0])])
    checkpoint = Checkpoint(LOG.key.name, 1, edge.root)
    proof = LogProof(index=0, hashes=(), checkpoint=format_note(checkpoint.text, [LOG.sign(checkpoint.text)]))
    assert b"index 0\n\nlog.example/books\n1\n" in proof.encode()
    check_proof(parse_proof(proof.encode()), LEAVES[0], LOG.key)


def test_a_proof_in_a_tree_of_a_million_is_under_one_and_a_half_kilobytes():
    checkpoint = Checkpoint(LOG.key.name, 1_000_000, bytes(32))
    count = len(tree.nodes_of_inclusion(0, 1_000_000))
    note = format_note(checkpoint.text, [LOG.sign(checkpoint.text)])
    proof = LogProof(index=0, hashes=(bytes(32),) * count, checkpoint=note)
    assert len(proof.encode()) < 1500


GOOD = made(5).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[1:],
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"index 5", b"index 05"),
        GOOD.replace(b"index 5", b"index -5"),
        GOOD.replace(b"index 5", b"index \xd9\xa5"),
        GOOD.replace(b"index 5", b"index"),
        GOOD.replace(b"index 5\n", b"extra !\nindex 5\n"),
        GOOD.replace(b"index 5\n", b"index 5\nAAAA\n"),
        GOOD.replace(b"index 5\n", b"index 5\n" + b"A" * 43 + b"=\n" + (b"A" * 43 + b"=\n") * 63),
        GOOD.replace(b"index 5\n", b"extra " + b"A" * 90_000 + b"\nindex 5\n"),
        GOOD + b"x" * 300_000,
    ],
)
def test_what_is_no_proof_is_refused(data):
    with pytest.raises(WireError) as caught:
        parse_proof(data)
    assert caught.value.code == "log-proof-malformed"


def test_a_proof_with_another_checkpoint_place_or_hash_proves_nothing():
    proof = made(5)
    other = Checkpoint(LOG.key.name, 600, bytes(32))
    forged = NoteSigner(LOG.key.name, seeded("forger"))
    changes = [
        {"index": 4},
        {"hashes": proof.hashes[:-1]},
        {"hashes": (bytes(32), *proof.hashes[1:])},
        {"checkpoint": format_note(other.text, [LOG.sign(other.text)])},
        {"checkpoint": format_note(other.text, [forged.sign(other.text)])},
        {"checkpoint": b""},
    ]
    for change in changes:
        with pytest.raises(WireError):
            check_proof(dataclasses.replace(proof, **change), LEAVES[5], LOG.key)


def test_every_changed_byte_of_a_file_refuses_the_proof_but_for_what_nobody_signs():
    for at in range(len(GOOD)):
        changed = GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]
        with pytest.raises(WireError):
            check_proof(parse_proof(changed), LEAVES[5], LOG.key)
