"""Checks a log with the package aics-tlog: the same job and the same verdicts as verifier.go, and cosignatures."""

import base64
import json
import sys

from aics_tlog import checkpoint, note, tiles, tree, verified


def verdict(job, case):
    signed = note.parse_note(case["Note"])
    key = note.parse_vkey(job["Key"])
    witnesses = [note.parse_vkey(text) for text in job.get("Witnesses", ())]
    result = checkpoint.verify_checkpoint(signed, key, witnesses, len(witnesses), expected_origin=key.name)
    if not result.ok:
        return f"checkpoint: {result.error}"
    head, _ = checkpoint.checkpoint_from_note(signed)
    leaf = base64.b64decode(case["Leaf"])
    inclusion = [base64.b64decode(text) for text in case["Inclusion"]]
    consistency = [base64.b64decode(text) for text in case["Consistency"]]
    if case.get("Tiles"):
        reader = verified.VerifiedTileReader(tiles.FileSystemTileReader(case["Tiles"]), head.size, head.root)
        inclusion = tiles.inclusion_proof_from_tiles(reader, case["Index"], head.size)
        consistency = tiles.consistency_proof_from_tiles(reader, case["OldSize"], head.size)
        number, at = divmod(case["Index"], 256)
        width = min(256, head.size - number * 256)
        bundle = reader.read_entry_bundle(number, None if width == 256 else width)
        if tiles.parse_entry_bundle(bundle)[at] != leaf:
            return "entries: another leaf"
    if not tree.verify_leaf_inclusion(leaf, case["Index"], head.size, inclusion, head.root):
        return "inclusion: refused"
    old_root = base64.b64decode(case["OldRoot"])
    if not tree.verify_consistency(case["OldSize"], head.size, old_root, head.root, consistency):
        return "consistency: refused"
    return "ok"


def main():
    job = json.load(sys.stdin)
    for case in job["Cases"]:
        try:
            print(verdict(job, case))
        except Exception as error:
            print(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
