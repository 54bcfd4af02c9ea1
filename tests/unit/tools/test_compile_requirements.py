"""The bounds of pyproject.toml and the pins of requirements/ say the same."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
DECLARED = [
    requirement
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in map(Requirement, group)
    if requirement.name != "tallystick"
]


def pins(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    return {found[1]: Version(found[2]) for found in re.finditer(r"^([a-z0-9-]+)==([^ ;\\]+)", text, re.MULTILINE)}


NEWEST, LOWEST, TEST = pins("dev"), pins("lowest"), pins("test")


def bounds(requirement):
    """Lower and upper bound; there is nothing else."""
    found = {one.operator: Version(one.version) for one in requirement.specifier}
    assert set(found) == {">=", "<"}, f"{requirement} needs a lower and an upper bound, and nothing else"
    return found[">="], found["<"]


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_what_is_installed_lies_between_two_bounds_and_just_below_the_upper_one(requirement):
    lower, upper = bounds(requirement)
    newest = NEWEST[requirement.name.lower()]
    assert lower <= newest < upper
    next_that_may_break = (newest.major + 1, 0) if newest.major else (0, newest.minor + 1)
    assert (upper.major, upper.minor) == next_that_may_break, (
        "a version that nobody tried is allowed, or a bound is old"
    )


@pytest.mark.parametrize("requirement", DECLARED, ids=str)
def test_the_lowest_version_that_is_allowed_is_the_one_that_make_lowest_tries(requirement):
    name = requirement.name.lower()
    if name in TEST:
        series = bounds(requirement)[0].release
        assert LOWEST[name].release[: len(series)] == series


@pytest.mark.parametrize("name", ["base", "test", "fieldserver"])
def test_a_package_has_one_version_in_every_set(name):
    assert pins(name).items() <= NEWEST.items()
