"""Builds the C library as others would, and takes the programs out of the pages of docs/clients."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
C: Final = CHECKOUT / "clients" / "c"
CLIENT_TESTS: Final = CHECKOUT / "tests" / "clients"
PAGES: Final = CHECKOUT / "docs" / "clients"
STRICT: Final = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZED: Final = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
FUZZED: Final = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
# Where tools/install-system-packages.sh puts libsodium for machines of other kinds.
CROSS: Final = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "tallystick" / "cross"
MACHINES: Final = {
    "arm64": ("aarch64-linux-gnu-gcc", "qemu-aarch64", "aarch64-linux-gnu"),
    "armhf": ("arm-linux-gnueabihf-gcc", "qemu-arm", "arm-linux-gnueabihf"),
}


def compile_c(
    compiler: str, target: Path, *sources: str, flags: Sequence[str] = ("-O2",), links: Sequence[str] = ("-lsodium",)
) -> Path:
    """One program out of sources of clients/c, with every warning an error."""
    run([compiler, *STRICT, *flags, f"-I{C}", *(str(C / source) for source in sources), "-o", str(target), *links])
    return target


def cross_compile(machine: str, target: Path, *sources: str) -> list[str]:
    """The same for another kind of machine, with libsodium inside; the command that runs it here."""
    compiler, emulator, triplet = MACHINES[machine]
    root = CROSS / machine / "usr"
    inside = str(root / "lib" / triplet / "libsodium.a")
    compile_c(
        compiler, target, *sources, flags=("-Os", "-static", f"-I{root / 'include'}"), links=(inside, "-lpthread")
    )
    return [emulator, str(target)]


def blocks(page: str) -> dict[str, str]:
    """The programs of a page, by the names of their files."""
    return dict(
        re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", (PAGES / page).read_text("utf-8"), re.DOTALL | re.MULTILINE)
    )


def write_blocks(page: str, folder: Path) -> None:
    """The programs of a page, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, code in blocks(page).items():
        (folder / name).write_text(code, "utf-8")


def build_go(folder: Path, name: str, *files: str) -> Path:
    """A Go program out of files of one folder, with nothing but the standard library, and without a network."""
    target = folder / name
    cache = CHECKOUT / "build" / "go"
    more = {"GOCACHE": str(cache), "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GO111MODULE": "off", "HOME": str(folder)}
    run(["go", "build", "-o", str(target), *files], cwd=folder, env=os.environ | more)
    return target


def run(command: Sequence[str], **options) -> str:
    """Run it to its end; what it wrote. A failure shows everything that it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **options)
    assert done.returncode == 0, f"{' '.join(command)}: {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}"
    return done.stdout
