"""The walk-throughs: every picture is there and shown somewhere, and what they tell to press is on a page."""

import re
from pathlib import Path

import pytest

from tallystick import pages
from tallystick.administrator import web

DIRECTORY = Path(__file__).parents[3] / "docs" / "walkthroughs"
PAGES = {path.name: path.read_text("utf-8") for path in sorted(DIRECTORY.glob("*.md"))}
SOURCES = [
    *(Path(web.__file__).parent / "templates").glob("*.html"),
    *Path(web.__file__).parent.glob("*.py"),
    *(Path(pages.__file__).parent / "templates").glob("*.html"),  # what all pages share
]
TEMPLATES = "\n".join(path.read_text("utf-8") for path in sorted(SOURCES))
# What is put together when the page is made, and headings.
MADE = {"Save 40 messages to one file", "To be carried", "Begin.", "begin"}
PRESSED = sorted(
    {text for page in PAGES.values() for text in re.findall(r"(?<![*\w])\*([A-Z][^*\n]+)\*(?!\*)", page)} - MADE
)


def test_every_picture_is_shown_and_every_shown_one_is_there():
    shown = {name for page in PAGES.values() for name in re.findall(r"pictures/([\w-]+\.png)", page)}
    assert shown == {path.name for path in (DIRECTORY / "pictures").glob("*.png")}


@pytest.mark.parametrize("text", PRESSED)
def test_what_a_technician_is_told_to_press_is_on_a_page(text):
    assert text in TEMPLATES
