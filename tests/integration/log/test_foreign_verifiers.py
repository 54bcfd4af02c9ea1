"""Verifiers that are not ours accept what our log writes, and refuse it with a changed byte.

Go's golang.org/x/mod/sumdb (Debian's packages golang-go and golang-golang-x-mod-dev), and the Python package aics-tlog, in a
Python of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.activation import seeded
from tallystick.log import leaves, tiles, tree
from tallystick.log.checkpoints import Checkpoint
from tallystick.log.notes import Algorithm, NoteSigner, encode_base64, format_note

pytestmark = pytest.mark.foreign

HERE = Path(__file__).parent / "foreign"
CHECKOUT = Path(__file__).parents[3]
GOCODE = Path("/usr/share/gocode")
LOG = NoteSigner("log.example/books", seeded("log"))
WITNESS = NoteSigner("witness.example/w1", seeded("witness"), Algorithm.COSIGNATURE)
SIZE, OLD = 66_000, 300
INDEXES = (0, 299, 300, 65_535, 65_536, 65_999)


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    program = shutil.which("go")
    assert program, "Go is missing: tools/install-system-packages.sh installs it"
    assert (GOCODE / "src/golang.org/x/mod/sumdb").is_dir(), "tools/install-system-packages.sh installs x/mod"
    build = tmp_path_factory.mktemp("go")
    source = build / "verifier.go"
    shutil.copy(HERE / "verifier.go", source)
    environment = {"GO111MODULE": "off", "GOPATH": str(GOCODE), "GOCACHE": str(build / "cache"), "GOFLAGS": ""}
    subprocess.run(
        [program, "build", "-o", build / "verifier", source], check=True, env=os.environ | environment, cwd=build
    )
    return [str(build / "verifier")]


@pytest.fixture(scope="module")
def aics():
    python = CHECKOUT / "build" / "foreign" / "bin" / "python"
    assert python.exists(), "aics-tlog is missing: make build/foreign/.foreign installs it"
    return [str(python), str(HERE / "verifier.py")]


@pytest.fixture(scope="module", params=["go", "aics"])
def verifier(request):
    return request.getfixturevalue(request.param)


def leaf(number: int) -> bytes:
    return leaves.leaf_of_entry(hashlib.sha256(b"%d" % number).hexdigest(), seeded("blind"))


class Log:
    """A log in files, as its readers see it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        edge, self.kept = tiles.Edge(), {}
        all_leaves = [leaf(number) for number in range(SIZE)]
        for first, end in ((0, OLD), (OLD, SIZE)):
            written = edge.append(map(tree.hash_of_leaf, all_leaves[first:end]))
            for tile, data in written.items():
                self.kept[tile.level, tile.number] = data
                self.write(tile.path, data)
                if tile.level == 0:
                    begin = tile.number * tiles.WIDTH
                    self.write(tile.entries_path, tiles.format_entries(all_leaves[begin : begin + tile.width]))
            if first == 0:
                self.old_root = edge.root
        self.checkpoint = Checkpoint(LOG.key.name, edge.size, edge.root)
        text = self.checkpoint.text
        self.note = format_note(text, [LOG.sign(text), WITNESS.cosign(text, at=1_800_000_000)]).decode()
        self.reader = tiles.TileReader(size=SIZE, root=edge.root, fetch=self.fetch)

    def write(self, path: str, data: bytes) -> None:
        (self.directory / path).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / path).write_bytes(data)

    def fetch(self, wanted):
        return {tile: self.kept[tile.level, tile.number][: tile.width * 32] for tile in wanted}

    def proof(self, ranges: tree.Ranges) -> list[str]:
        return [encode_base64(one) for one in tree.make_proof(ranges, self.reader.read(tree.nodes_in(ranges)))]

    def case(self, index: int) -> dict[str, object]:
        return {
            "Note": self.note,
            "Leaf": encode_base64(leaf(index)),
            "Index": index,
            "Inclusion": self.proof(tree.nodes_of_inclusion(index, SIZE)),
            "OldSize": OLD,
            "OldRoot": encode_base64(self.old_root),
            "Consistency": self.proof(tree.nodes_of_consistency(OLD, SIZE)),
            "Tiles": "",
        }


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return Log(tmp_path_factory.mktemp("log"))


def verdicts(verifier: list[str], cases: list[dict[str, object]]) -> list[str]:
    job = {"Key": LOG.key.text, "Witnesses": [WITNESS.key.text], "Cases": cases}
    done = subprocess.run(verifier, input=json.dumps(job), capture_output=True, text=True, timeout=120, check=True)
    found = done.stdout.splitlines()
    assert len(found) == len(cases), done.stderr
    return found


def test_checkpoints_and_proofs_of_ours_are_accepted(verifier, log):
    cases = [log.case(index) for index in INDEXES]
    assert verdicts(verifier, cases) == ["ok"] * len(cases)


def test_proofs_that_others_make_from_our_tiles_are_accepted(verifier, log):
    cases = [log.case(index) | {"Tiles": str(log.directory), "Inclusion": [], "Consistency": []} for index in INDEXES]
    assert verdicts(verifier, cases) == ["ok"] * len(cases)


def test_every_changed_byte_is_refused(verifier, log):
    good = log.case(300)
    end = log.note.index("\n\n")
    flipped = [
        good | {"Note": log.note[:at] + chr(ord(log.note[at]) ^ 1) + log.note[at + 1 :]}
        for at in [*range(0, end, 3), end + 10, end + 24, end + 40, end + 90]  # name, id and signature of the log
    ]
    flipped += [good | {name: changed(good[name])} for name in ("Leaf", "OldRoot")]
    for name in ("Inclusion", "Consistency"):
        hashes = good[name]
        flipped += [good | {name: [*hashes[:at], changed(hashes[at]), *hashes[at + 1 :]]} for at in range(len(hashes))]
        flipped += [good | {name: hashes[:-1]}, good | {name: [*hashes, hashes[0]]}]
    flipped += [good | {"Index": 301}, good | {"OldSize": 301}]
    assert len(flipped) > 60
    assert "ok" not in verdicts(verifier, flipped)
    assert verdicts(verifier, [good]) == ["ok"]


def test_a_changed_byte_in_a_tile_is_refused(verifier, log, tmp_path):
    cases = []
    for number, path in enumerate(["tile/0/001", "tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"]):
        copy = tmp_path / str(number)
        shutil.copytree(log.directory, copy)
        data = bytearray((copy / path).read_bytes())
        data[len(data) // 2 + 1] ^= 1
        (copy / path).write_bytes(data)
        cases.append(log.case(300) | {"Tiles": str(copy), "Inclusion": [], "Consistency": []})
    assert "ok" not in verdicts(verifier, cases)


def changed(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[7] ^= 1
    return encode_base64(bytes(data))
