"""The errors of the controls must follow the code: what each replaces stands in its module, and what comes of it runs."""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path

import pytest

EDITS = runpy.run_path(str(Path(__file__).parents[1] / "support" / "faults" / "sitecustomize.py"))["EDITS"]


@pytest.mark.parametrize("name", sorted(EDITS))
def test_the_error_of_a_control_applies(name):
    module, old, new = EDITS[name]
    file = Path(find_spec(module).origin)
    text = file.read_text("utf-8")
    assert old in text, f"make tests/support/faults/sitecustomize.py follow the change in {file}"
    compile(text.replace(old, new), file, "exec")
