"""The generated errors: what is made, what is no error by rule, and that what is put in is what runs."""

from __future__ import annotations

import ast
import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from mutation.__main__ import FOUND, STILL_THERE, all_mutants, is_failure
from mutation.applying import Live, compile_mutant
from mutation.operators import mutants_of
from mutation.report import read_survivors
from tallystick.domain import grant

SOURCE = '''
"""A text with 1 and SELECT 1 WHERE a = 1 AND b = 2."""
WAIT_SECONDS = 5

def decide(limit: int, count, other):
    """Not 2."""
    if limit < count and not other:
        raise Refused(expected=_("{n} or more", n=7), seen=f"{count + 1}")
    log.info("was %d", 3)
    assert count is not None
    keep(limit, count)
    return changed(count=count)

def ask(connection):
    return connection.execute("SELECT id FROM lines WHERE a = ? AND b = ? FOR UPDATE")
'''


def made(source):
    return {(mutant.kind, mutant.text) for mutant, _ in mutants_of("a.py", source)[1]}


def test_every_kind_of_error_is_made():
    found = made(SOURCE)
    assert {
        ("boundary", "limit < count -> LtE"),
        ("comparison", "limit < count -> GtE"),
        ("boolean", "limit < count and (not other) -> Or"),
        ("boolean", "limit < count and (not other) without not other"),
        ("boolean", "not other -> other"),
        ("argument", "keep(limit, count) swaps 0"),
        ("argument", "changed without count"),
        ("statement", "without keep(limit, count)"),
        ("sql", "FOR UPDATE -> nothing"),
        ("sql", "AND b = ? -> nothing"),
    } <= found


def test_what_people_read_and_how_long_is_waited_is_no_error():
    texts = " ".join(text for _, text in made(SOURCE))
    assert "log.info" not in texts
    assert not any(text.startswith(("1 ", "2 ", "3 ", "5 ", "7 ")) for _, text in made(SOURCE))


def test_names_are_unique_and_survive_lines_that_come_before():
    names = [mutant.name for mutant, _ in all_mutants()]
    assert len(names) == len(set(names)) > 1500
    before = [mutant.name for mutant, _ in mutants_of("a.py", SOURCE)[1]]
    assert [mutant.name for mutant, _ in mutants_of("a.py", f"x = call()\n\n{SOURCE}")[1]][-len(before) :] == before


@pytest.mark.parametrize("mutant", random.Random(1).sample([mutant for mutant, _ in all_mutants()], 60), ids=str)
def test_a_mutant_compiles_and_is_other_code(mutant):
    path = Path(grant.__file__).parents[1] / mutant.file
    original = compile(ast.parse(path.read_text("utf-8")), str(path), "exec")
    assert compile_mutant(mutant) != original


def test_what_is_put_in_is_what_runs():
    mutant = next(one for one, _ in all_mutants() if one.file == "domain/grant.py" and one.function == "append")
    function = getattr(grant, mutant.function)
    child = os.fork()
    if child == 0:
        before = function.__code__
        Live().put_in(mutant)
        os._exit(0 if function.__code__ is not before else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_those_that_were_found_before_are_still_there():
    names = {mutant.name for mutant, _ in all_mutants()}
    before = [line.split("\t", 1)[1] for line in FOUND.read_text("utf-8").splitlines()]
    assert sum(name in names for name in before) >= len(before) * STILL_THERE > 0


def test_a_survivor_without_a_reason_is_a_failure(tmp_path):
    row = {"name": "a", "found_by": None, "line": 1, "file": "a.py", "kind": "sql"}
    found = [{**row, "name": str(number), "found_by": "seed 1"} for number in range(99)]
    assert is_failure([row, *found], {})
    assert not is_failure([row, *found], {"a": "gap: nobody looks"})
    assert is_failure(
        [{**row, "name": f"s{number}"} for number in range(9)] + found, {f"s{n}": "gap: x" for n in range(9)}
    )
    (tmp_path / "s.txt").write_text("## because\na\n")
    with pytest.raises(ValueError, match="a reason begins"):
        read_survivors(tmp_path / "s.txt")
