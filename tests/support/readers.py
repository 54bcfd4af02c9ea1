"""The readers of answers in every language, as programs that `tallystick conformance client` can run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.answers import QUESTION, ROOT_OF_GOOD
from support.clients import CLIENT_TESTS, build_go, compile_c, run, write_blocks
from tallystick.conformance import client
from tallystick.conformance.client import Form
from tallystick.conformance.vectors import Vector


@dataclass(frozen=True, slots=True)
class Program:
    """A reader, and in which form it takes vectors."""

    command: tuple[str, ...]
    form: Form

    def decide(self, vectors: Sequence[Vector]) -> list[str]:
        """Of each vector the code; or what was wrong, where it gave none."""
        wrongs = [(outcome.vector.result, outcome.wrong) for outcome in self._run(vectors)]
        return [code if wrong is None else wrong.removeprefix(f"expected {code}, saw ") for code, wrong in wrongs]

    def ask(self, *paths: str | Path, deadline: int = 60_000) -> list[str]:
        """The codes of one question at each of these paths, to whatever is there. ``deadline``: in milliseconds."""
        lines = [self._question(str(path), deadline) for path in paths]
        return [line.split()[0] for line in run(self.command, input="".join(lines)).splitlines()]

    def _question(self, path: str, deadline: int) -> str:
        feature, required = QUESTION.feature, QUESTION.required
        if self.form == "fields":
            return (
                f"check {ROOT_OF_GOOD} - {feature.encode().hex()} {required} {deadline} {path.encode().hex() or '-'}\n"
            )
        asked = {"kind": "socket", "roots": [ROOT_OF_GOOD], "feature": feature, "required": required}
        return json.dumps({**asked, "socket": path, "deadline": deadline}) + "\n"

    def wrong(self, vectors: Sequence[Vector]) -> list[str]:
        """What it decided otherwise than the vectors say."""
        outcomes = list(self._run(vectors))
        assert len(outcomes) == len(vectors)
        return [f"{outcome.vector.name}: {outcome.wrong}" for outcome in outcomes if outcome.wrong]

    def _run(self, vectors: Sequence[Vector]) -> Iterable[client.Outcome]:
        return client.run(self.command, vectors, self.form)


def in_python(_folder: Path) -> Program:
    return Program((sys.executable, str(CLIENT_TESTS / "harness.py")), "json")


def in_c(folder: Path) -> Program:
    return Program((str(compile_c("gcc", folder / "in-c", "tallystick.c", "tests/vectors.c")),), "fields")


def in_go(folder: Path) -> Program:
    write_blocks("go.md", folder)
    shutil.copy(CLIENT_TESTS / "harness.go", folder)
    return Program((str(build_go(folder, "in-go", "check.go", "harness.go")),), "json")


def in_javascript(folder: Path) -> Program:
    write_blocks("javascript.md", folder)
    shutil.copy(CLIENT_TESTS / "harness.mjs", folder)
    return Program(("node", str(folder / "harness.mjs")), "json")


READERS: dict[str, Callable[[Path], Program]] = {
    "Python": in_python,
    "C": in_c,
    "Go": in_go,
    "JavaScript": in_javascript,
}
