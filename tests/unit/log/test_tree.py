"""Known answers of RFC 6962, and what a proof must not get away with."""

from __future__ import annotations

import hashlib

import pytest

from tallystick.log import tree
from tallystick.log.tree import EMPTY_ROOT, Node, check_consistency, check_inclusion, hash_of_leaf, joined
from tallystick.protocol.problems import WireError

# The leaves and roots that the tests of Certificate Transparency have used since RFC 6962.
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def hash_of(node: Node, leaves: list[bytes]) -> bytes:
    """By the definition of the RFC, from the leaves."""
    return root_of(leaves[node.number << node.level : (node.number + 1) << node.level])


def root_of(leaves: list[bytes]) -> bytes:
    if len(leaves) < 2:
        return hashlib.sha256(b"\x00" + leaves[0]).digest() if leaves else hashlib.sha256().digest()
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


def proof(ranges: tree.Ranges, leaves: list[bytes]) -> tuple[bytes, ...]:
    return tree.make_proof(ranges, {node: hash_of(node, leaves) for node in tree.nodes_in(ranges)})


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_public_vectors(size):
    nodes = tree.nodes_of_tree(size)
    assert joined([hash_of(node, LEAVES) for node in nodes]).hex() == ROOTS[size]


# Number of the leaf, size of the tree, and the hashes (Certificate Transparency, the same vectors).
INCLUSIONS = [
    (0, 1, []),
    (
        0,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        5,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        1,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENCIES = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


@pytest.mark.parametrize(("index", "size", "hashes"), INCLUSIONS)
def test_proofs_of_inclusion_are_those_of_the_public_vectors(index, size, hashes):
    assert [one.hex() for one in proof(tree.nodes_of_inclusion(index, size), LEAVES)] == hashes
    check_inclusion(
        leaf=hash_of_leaf(LEAVES[index]),
        index=index,
        size=size,
        root=bytes.fromhex(ROOTS[size]),
        proof=[bytes.fromhex(one) for one in hashes],
    )


@pytest.mark.parametrize(("old", "size", "hashes"), CONSISTENCIES)
def test_proofs_of_consistency_are_those_of_the_public_vectors(old, size, hashes):
    assert [one.hex() for one in proof(tree.nodes_of_consistency(old, size), LEAVES)] == hashes
    check_consistency(
        old=old,
        old_root=bytes.fromhex(ROOTS[old]),
        size=size,
        root=bytes.fromhex(ROOTS[size]),
        proof=[bytes.fromhex(one) for one in hashes],
    )


def refused(check, **arguments) -> str:
    with pytest.raises(WireError) as caught:
        check(**arguments)
    return caught.value.code


def test_a_proof_fits_its_leaf_its_place_and_its_size_only():
    good = {
        "leaf": hash_of_leaf(LEAVES[5]),
        "index": 5,
        "size": 8,
        "root": bytes.fromhex(ROOTS[8]),
        "proof": proof(tree.nodes_of_inclusion(5, 8), LEAVES),
    }
    check_inclusion(**good)
    for change in (
        {"leaf": hash_of_leaf(LEAVES[4])},
        {"index": 4},
        {"index": 8},
        {"index": -1},
        {"size": 4},
        {"size": 16},
        {"size": 2**62 + 1},
        {"root": bytes.fromhex(ROOTS[7])},
        {"proof": good["proof"][:-1]},
        {"proof": (*good["proof"], bytes(32))},
        {"proof": ()},
    ):
        assert refused(check_inclusion, **(good | change)) == "log-proof-wrong", change


def test_a_tree_that_shrinks_forks_or_begins_anew_does_not_extend_the_old_one():
    good = {
        "old": 6,
        "old_root": bytes.fromhex(ROOTS[6]),
        "size": 8,
        "root": bytes.fromhex(ROOTS[8]),
        "proof": proof(tree.nodes_of_consistency(6, 8), LEAVES),
    }
    check_consistency(**good)
    for change in (
        {"old_root": bytes.fromhex(ROOTS[5])},
        {"root": bytes.fromhex(ROOTS[7])},
        {"old": 9},
        {"old": 8, "old_root": bytes.fromhex(ROOTS[6])},
        {"old": 8, "old_root": bytes.fromhex(ROOTS[8])},  # equal sizes need no proof
        {"old": 0, "old_root": EMPTY_ROOT},
        {"old": 0, "proof": ()},
        {"old": 5},
        {"old": -1},
        {"size": 2**62 + 1},
        {"proof": ()},
        {"proof": good["proof"][:-1]},
        {"proof": (*good["proof"], bytes(32))},
    ):
        assert refused(check_consistency, **(good | change)) == "log-proof-wrong", change
    check_consistency(old=0, old_root=EMPTY_ROOT, size=8, root=bytes.fromhex(ROOTS[8]), proof=())


def test_a_proof_in_the_largest_tree_has_no_more_hashes_than_a_witness_takes():
    largest = tree.SIZE_MAX
    for index in (0, 1, largest // 2 - 1, largest // 2, largest // 2 + 1, largest - 1):
        assert len(tree.nodes_of_inclusion(index, largest)) <= tree.HASHES_MAX
        assert len(tree.nodes_of_consistency(index or 1, largest)) <= tree.HASHES_MAX
    assert len(tree.nodes_of_inclusion(0, 1_000_000)) == 20


@pytest.mark.parametrize("wrong", [[bytes(31)], [bytes(32)] * 64])
def test_hashes_of_another_length_or_number_are_none(wrong):
    assert refused(tree.check_hashes, hashes=wrong) == "log-proof-wrong"
    tree.check_hashes([bytes(32)] * 63)


def test_who_asks_for_a_proof_of_what_cannot_be_is_told():
    for index, size in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="a leaf below"):
            tree.nodes_of_inclusion(index, size)
    with pytest.raises(ValueError, match="a size up to"):
        tree.nodes_of_consistency(4, 3)
