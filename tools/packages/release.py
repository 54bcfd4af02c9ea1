"""What a release is handed out with: a bill of materials, notes, checksums, and a signature over them by a key from outside.

The key never is in the tree: ``RELEASE_KEY`` names its file, Ed25519 as ``openssl genpkey -algorithm ed25519`` makes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packages import wheels

SUMS = "SHA256SUMS"
PROJECT = "pkg:pypi/tallystick"


def build(directory: Path, made: list[Path]) -> list[Path]:
    """The files beside what was made. Ends the program without a key."""
    key = os.environ.get("RELEASE_KEY", "")
    if not Path(key).is_file():
        sys.exit(
            "RELEASE_KEY names the file of the key that signs a release (docs/operations/release.md); nothing was signed"
        )
    name = f"tallystick-{wheels.version()}"
    bill, notes = directory / f"{name}.cdx.json", directory / f"{name}-notes.md"
    bill.write_text(json.dumps(bill_of_materials(made), indent=1) + "\n", "utf-8")
    notes.write_text(notes_of(Path("CHANGELOG.md").read_text("utf-8"), wheels.version()), "utf-8")
    made = sorted([*made, bill, notes])
    sums = directory / SUMS
    sums.write_text("".join(f"{_digest(file)}  {file.name}\n" for file in made), "ascii")
    signature = directory / f"{SUMS}.sig"
    wheels.run("openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", sums, "-out", signature)
    public = directory / "release-key.pem"
    wheels.run("openssl", "pkey", "-in", key, "-pubout", "-out", public)
    return [*made, sums, signature, public]


def bill_of_materials(made: list[Path]) -> dict[str, Any]:
    """CycloneDX 1.6: every package that any of the programs is installed with, and which program wants it."""
    packages: dict[str, tuple[str, str, set[str], list[str]]] = {}
    for program in wheels.PROGRAMS:
        for pin, hashes in wheels.read_pins(Path(f"requirements/{program}.txt")).items():
            version = str(pin.specifier).removeprefix("==")
            purl = f"pkg:pypi/{pin.name}@{version}"
            packages.setdefault(purl, (pin.name, version, set(), hashes))[2].add(program)
    version = wheels.version()
    components = [
        {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": of,
            "purl": purl,
            # Of a package there are many files; each file that may be installed is named by its hash.
            "properties": [
                *({"name": "tallystick:program", "value": program} for program in sorted(programs)),
                *({"name": "tallystick:file", "value": one} for one in sorted(hashes)),
            ],
        }
        for purl, (name, of, programs, hashes) in sorted(packages.items())
    ]
    root = f"{PROJECT}@{version}"
    files = [
        {"type": "file", "name": file.name, "hashes": [{"alg": "SHA-256", "content": _digest(file)}]}
        for file in sorted(made)
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps([root, components, files]))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(wheels.committed_at()), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": "tallystick",
                "version": version,
                "purl": root,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "components": files,
            },
        },
        "components": components,
        "dependencies": [{"ref": root, "dependsOn": [component["bom-ref"] for component in components]}],
    }


def notes_of(changelog: str, version: str) -> str:
    """The section of a version; before it has one, what is not released yet. Ends the program where there is neither."""
    for title in (re.escape(f"[{version}]"), r"\[Unreleased\]"):
        if found := re.search(rf"^## {title}[^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL):
            return f"# Tallystick {version}\n{found[1].rstrip()}\n"
    return sys.exit(f"CHANGELOG.md has no section for {version}")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
