"""One table of codes: what the code of the project raises stands in it, and what stands in it is raised."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tallystick
from tallystick.errors import Error, InvariantError
from tallystick.protocol import problems
from tallystick.protocol.problems import BY_CODE, PROBLEMS, WireError

SOURCE = Path(tallystick.__file__).parent
CODE = re.compile(r"[a-z]+(-[a-z]+)*")
PARTIES = ("activation", "administrator", "fieldserver", "simulator")


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        if path != Path(problems.__file__):
            yield path.relative_to(SOURCE), ast.parse(path.read_text("utf-8"))


def text(node: ast.expr | None) -> list[str]:
    """The texts that an expression can be: itself, or both ends of a conditional."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return text(node.body) + text(node.orelse)
    return []


def named(function: ast.expr) -> str:
    return getattr(function, "id", "") or getattr(function, "attr", "")


def takers(tree: ast.Module) -> tuple[set[str], set[str]]:
    """Functions, methods and exceptions of a module whose first argument is a code, and those where it is not."""
    yes, no = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [argument.arg for argument in node.args.args if argument.arg not in {"self", "cls"}]
            (yes if names[:1] == ["code"] else no).add(node.name)
        if isinstance(node, ast.ClassDef):
            made = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
            takes_code = not made or [argument.arg for argument in made[0].args.args][1:2] == ["code"]
            is_error = any(named(base).endswith("Error") for base in node.bases) or node.name == "Error"
            (yes if is_error and takes_code else no).add(node.name)
    return yes, no


def used() -> dict[str, Path]:
    """Every code that is raised, refused, denied or answered with, and where."""
    modules = list(trees())
    everywhere = {name for _, tree in modules for name in takers(tree)[0]} | {"detail_text", "problem_for"}
    found = {}
    for path, tree in modules:
        yes, no = takers(tree)
        here = (everywhere - no) | yes
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            codes = [word for keyword in node.keywords if keyword.arg == "code" for word in text(keyword.value)]
            if named(node.func) in here and node.args:
                codes += text(node.args[0])
            found |= dict.fromkeys(codes, path)
    return found


def mentioned() -> set[str]:
    return {
        node.value
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_code_that_is_used_stands_in_the_table():
    codes = used()
    assert len(codes) > 30  # else the search itself is broken
    assert {code: str(path) for code, path in codes.items() if code not in BY_CODE} == {}


def test_every_row_of_the_table_is_used_once_all_parties_are_there():
    if all((SOURCE / party / "cli.py").exists() for party in PARTIES):
        assert sorted(BY_CODE.keys() - mentioned()) == []


def test_no_code_stands_twice():
    assert len(BY_CODE) == len(PROBLEMS)


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.code)
def test_a_row_is_whole(problem):
    assert CODE.fullmatch(problem.code)
    assert len(problem.code) <= 40  # the wire's limit
    assert 400 <= problem.status < 600
    assert problem.title[0].isupper()
    assert not problem.title.endswith(".")
    assert problem.next_step[0].isupper()
    assert problem.next_step.endswith((".", "?"))
    assert problem.expected[:1].islower() or not problem.expected[:2].islower()


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.code)
def test_a_problem_document_says_what_was_expected_what_was_seen_and_what_to_do(problem):
    document = problems.problem_document(Error(problem.code, expected="an apple", seen="a pear"))
    assert document["type"] == f"urn:tallystick:problem:{problem.code}"
    assert (document["status"], document["code"]) == (problem.status, problem.code)
    assert (document["expected"], document["seen"]) == ("an apple", "a pear")
    assert document["detail"] == f"Expected an apple; saw a pear. {problem.next_step}"


def test_a_code_that_is_not_in_the_table_stops_everything():
    with pytest.raises(InvariantError):
        problems.problem_for("no-such-code")


def test_an_error_says_what_was_expected_and_what_was_seen():
    assert str(WireError("superseded", expected="this", seen="that")) == "expected this; saw that"
