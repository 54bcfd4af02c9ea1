"""Make ``.venv`` what the pins say: ``python tools/set_up.py base``, ``test`` or ``dev``; each holds the one before.

``base`` is what runs, ``test`` what tests that need nothing but Python, ``dev`` what develops. ``lowest`` goes into a
``.venv`` of its own: of each package the lowest version that ``pyproject.toml`` allows. ``foreign`` (verifiers that
are not ours, which want Python 3.12) and ``generators`` (of clients in other people's programs) are without Tallystick.

One at a time in a checkout: who comes second waits, looks again, and mostly finds that everything is there. A lock of
the system goes with the process that holds it, so that no stale one is ever left behind. What is there stays as it is,
also for a demo that runs from it at that moment: a package has the same version in all three sets, and Tallystick itself
is put in again only when ``pyproject.toml`` changes.

Nothing is needed beforehand but the Python that ``.venv`` is made of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = Path(".venv.lock")
SETS = ("base", "test", "dev")
ALONE = ("foreign", "generators")  # without Tallystick
BUILD = Path("requirements/build.txt")
PACKAGE = (Path("pyproject.toml"), BUILD)


def main() -> None:
    """Set up what was asked for, and note what that holds."""
    os.chdir(Path(__file__).parents[1])
    wanted = sys.argv[1]
    held = SETS[: SETS.index(wanted) + 1] if wanted in SETS else (wanted,)
    with _alone():
        set_up = _SetUp(Path(".venv") if wanted in SETS else Path("build") / wanted)
        set_up.make()
        if set_up.is_missing(wanted, _files(wanted)):
            _say(f"installing {' '.join(map(str, _files(wanted)))}")
            # Everything is pinned and nothing is missing, so there is nothing to work out. Modules are compiled when
            # they are first imported: most never are.
            words = (word for file in _files(wanted) for word in ("-r", file))
            set_up.install("--no-deps", "--no-compile", "--require-hashes", *words)
        if wanted not in ALONE and set_up.is_missing("package", PACKAGE):
            set_up.install("--no-index", "--no-deps", "--no-build-isolation", "--editable", ".")
            set_up.note("package", PACKAGE)
        for name in held:
            set_up.note(name, _files(name))


class _SetUp:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._python = directory / "bin" / "python"

    def make(self) -> None:
        """Unless it is there, and whole."""
        whole = self._stamp("python")
        if not (whole.exists() and self._python.exists()):
            _say(f"{self._directory} with Python {sys.version.split()[0]}")
            venv.create(self._directory, with_pip=True, clear=True, symlinks=True)
            whole.touch()

    def install(self, *words: str | Path) -> None:
        """Ends the program where pip cannot."""
        pip = (self._python, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq", "install")
        done = subprocess.run([*map(str, pip), *map(str, words)], check=False)
        if done.returncode:
            sys.exit(done.returncode)

    def is_missing(self, name: str, files: tuple[Path, ...]) -> bool:
        """Whether something else than these very files was installed last."""
        stamp = self._stamp(name)
        return not stamp.exists() or stamp.read_text("ascii") != _digest(files)

    def note(self, name: str, files: tuple[Path, ...]) -> None:
        """These files are installed. What make looks at, the hour of the file, is newer than theirs."""
        self._stamp(name).write_text(_digest(files), "ascii")

    def _stamp(self, name: str) -> Path:
        return self._directory / f".{name}"


@contextmanager
def _alone() -> Iterator[None]:
    with LOCK.open("a", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another one is under way in this checkout; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _files(name: str) -> tuple[Path, ...]:
    return Path(f"requirements/{name}.txt"), BUILD


def _digest(files: tuple[Path, ...]) -> str:
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _say(text: str) -> None:
    sys.stdout.write(f"set-up: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
