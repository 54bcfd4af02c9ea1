"""``docs/architecture.md`` names files; each of them is there, and every room of a party is named."""

import re
from pathlib import Path

import pytest

import tallystick

SOURCE = Path(tallystick.__file__).parent
ROOT = SOURCE.parents[1]
PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text("utf-8")
RECIPES = re.split(r"^### ", TEXT[TEXT.index("## Recipes") :], flags=re.MULTILINE)[1:]
ROOMS = [
    path.name
    for party in ("activation", "administrator")
    for path in sorted((SOURCE / party).iterdir())
    if path.is_dir() and not path.name.startswith("__")
]


def named(text):
    """Paths in backticks: with a slash and a suffix, or a folder."""
    return [name for name in re.findall(r"`([^`\s]+)`", text) if re.fullmatch(r"[\w./-]+/[\w.-]*", name)]


def is_there(name):
    outside = name.startswith(("tests/", "docs/", "tools/"))
    return ((ROOT if outside else SOURCE) / name).exists()


def test_there_are_ten_recipes():
    assert len(RECIPES) == 10


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.splitlines()[0].replace(" ", "-"))
def test_every_file_of_a_recipe_is_there(recipe):
    files = named(recipe)
    assert len(files) >= 4
    assert [name for name in files if not is_there(name)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_of_a_party_has_a_line(room):
    assert f"`{room}/`" in TEXT


def test_every_file_that_a_table_names_is_there():
    tables = TEXT[TEXT.index("## Where a name does not say it") : TEXT.index("## Recipes")]
    files = named(tables)
    assert len(files) > 20
    beside = {"README.md"}  # named without a folder
    assert [name for name in files if name not in beside and not is_there(name)] == []


def test_every_module_that_a_journey_names_is_there():
    journeys = TEXT[TEXT.index("## Six journeys") : TEXT.index("## Recipes")]
    modules = {path.name for path in SOURCE.rglob("*.py")}
    assert set(re.findall(r"`[\w/]*?(\w+\.py)`", journeys)) <= modules
