"""SECURITY.md: every actor has at least one test, every test that is named is there, and the limits are said where people decide."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
ACTORS = re.split(r"^### ", TEXT.partition("## Limits that stay")[0], flags=re.MULTILINE)[1:]
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
LIMIT = "the first contact of either"


def test_every_actor_is_there_with_what_stops_it_and_a_test():
    names = [text.splitlines()[0] for text in ACTORS]
    for word in (
        *(
            "stranger",
            "courier",
            "technician",
            "customer",
            "support",
            "laptop",
            "backup",
            "signing key",
            "field server",
        ),
        *("activation server", "same machine"),
    ):
        assert any(word in name for name in names), word
    for text in ACTORS:
        assert "**At worst**" in text
        assert "**What stops more**" in text
        assert "::test_" in text


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_named_test_is_there(file, name):
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(
    "page", ["README.md", "SECURITY.md", "docs/incidents.md", "src/tallystick/activation/http/portal/templates"]
)
def test_the_limit_that_stays_is_said_where_people_decide(page):
    files = [ROOT / page] if (ROOT / page).is_file() else sorted((ROOT / page).rglob("*.html"))
    assert any(LIMIT in " ".join(file.read_text("utf-8").split()) for file in files)


def test_every_attack_is_a_part_of_make_test_or_of_make_ci():
    """`make test` leaves out what is marked, and `make ci` runs just that: one expression for both, and all of tests/."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    (later,) = re.findall(r"^LATER := (.+)$", makefile, re.MULTILINE)
    assert '-m "not ($(LATER))"' in makefile
    assert '$(PYTEST) -m "$(LATER)"' in makefile
    marks = {"pytest.mark." + name for name in later.split(" or ")}
    for path in Path(__file__).parent.glob("test_*.py"):
        found = set(re.findall(r"pytest\.mark\.\w+", path.read_text("utf-8"))) - {"pytest.mark.parametrize"}
        assert found <= marks, path.name
