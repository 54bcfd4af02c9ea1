"""docs/walkthroughs/when-something-fails.md promises a test for each of its rows, and codes that there are."""

import re
from pathlib import Path

import pytest

from tallystick.protocol.problems import BY_CODE

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "walkthroughs" / "when-something-fails.md").read_text("utf-8")
ROWS = [
    line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line and "| shown by |" not in line
]
FILES = sorted((ROOT / "tests" / "integration" / "administrator").glob("test_*.py"))
TESTS = {name for file in FILES for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)}
BAD_INPUT = re.findall(
    r"^def (test_\w+)",
    next(file for file in FILES if file.name == "test_bad_input.py").read_text("utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_a_test_and_codes_that_there_are(row):
    (name,) = re.findall(r"`(test_\w+)`", row)
    assert name in TESTS
    for code in re.findall(r"`([a-z-]+)`", row):
        assert code in BY_CODE


@pytest.mark.parametrize("name", BAD_INPUT)
def test_every_kind_of_bad_input_that_is_tested_has_a_row(name):
    assert f"`{name}`" in PAGE
