"""Two copies without a route are noticed at the first contact, not before: said in plain words where people decide."""

from pathlib import Path

import pytest

from support.browser import words
from support.site import Site

ROOT = Path(__file__).parents[2]
PLAIN = "until then both say that they are licensed"


@pytest.mark.parametrize("page", ["README.md", "SECURITY.md", "docs/incidents.md"])
def test_a_page_says_it(page):
    text = " ".join((ROOT / page).read_text("utf-8").split())
    assert PLAIN in text
    assert "first contact" in text[: text.index(PLAIN)]


def test_the_portals_page_of_a_field_server_says_it(tmp_path):
    site = Site(tmp_path)
    try:
        (line,) = site.sell("Harbour", ("smartdriver", 1)).lines
        device = site.activated(site.device("roof"), (line, 1))
        shown = words(site.signed_in("ann@vendor.example").see(f"/field-servers/{device.id}").text)
    finally:
        site.close()
    assert PLAIN in shown
