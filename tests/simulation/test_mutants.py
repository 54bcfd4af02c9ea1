"""The list of seeded errors must follow the code: every text that a mutant replaces is there exactly once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from mutants_list import MUTANTS

SOURCE = Path(__file__).parents[2] / "src" / "tallystick"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies(mutant):
    text = (SOURCE / mutant.file).read_text("utf-8")
    assert text.count(mutant.old) == 1, f"make tools/mutants_list.py follow the change in {mutant.file}"
    compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")


def test_names_are_unique_and_there_are_many():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 40
