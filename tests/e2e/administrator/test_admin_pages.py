"""Every page in a browser: it says what it should, axe-core finds nothing serious, in light, in dark, and on a phone."""

import os
import re
from pathlib import Path

import pytest

from support.chromium import check_accessible
from tallystick.administrator import web

pytestmark = pytest.mark.chromium
PICTURES = Path(__file__).parents[3] / "docs" / "walkthroughs" / "pictures"
EVERYTHING_VARIABLE = "TALLYSTICK_LOOK_AT"  # a directory: every page in every look, for a person who reviews them

NAMES = ["roof", "cellar", "plant-room", "lobby", "east-wing", "garage"]


@pytest.fixture(scope="module")
def ready(small):
    """Field servers of two sites; a plan that is in force on some; a violation; a return that waits."""
    _, certificate = small.sell("smartdriver=8", "personal-dashboards=2")
    small.certificate = certificate
    small.admin("add", "--csv", small.csv(sites=("North building", "South building")))
    small.admin("entitlement", "add", certificate, "--activation", small.serve_activation())
    small.admin("activate", "fs0000", "fs0001", "fs0002", "--line", "smartdriver=2")
    small.admin("assign", "personal-dashboards=1", "fs0000")
    small.admin("return", "fs0002", "--route", "offline", expect=4)
    return small


@pytest.fixture(scope="module")
def link(ready):
    return ready.web()


@pytest.fixture(scope="module")
def opened(browser, link):
    """One session for all pages: a link opens once."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.goto(link)
    state, base = context.storage_state(), link.partition("/enter")[0]
    yield state, base
    context.close()


def see(path):
    """A page that is there by itself."""

    def lead(page, _site):
        page.goto(page.base + path)

    return lead


def fingerprints(page, site):
    page.goto(page.base + "/add")
    page.get_by_label("CSV file").set_input_files(
        site.csv(path=site.directory / "again.csv", sites=("North building",))
    )
    page.get_by_role("button", name="Show the fingerprints first").click()


def added(page, site):
    """Some that are renewed, one that is not there, and one whose name is another."""
    sites = ("North building", "South building")
    rows = site.csv(path=site.directory / "mixed.csv", sites=sites).read_text("utf-8").splitlines()[:3]
    rows[1] = rows[1].replace("fs0000", "plant-room")
    file = site.directory / "mixed.csv"
    file.write_text(
        "\n".join([*rows, f"nobody,https://127.0.0.1:9,{site.members['password']},North building"]), "utf-8"
    )
    page.goto(page.base + "/add")
    page.get_by_label("CSV file").set_input_files(file)
    page.get_by_role("button", name="Add all in one step").click()


def taken(page, site):
    """A file with something good in it, and something bad."""
    file = site.directory / "odd.tally"
    file.write_bytes(site.certificate.read_bytes() + b"no envelope\n")
    page.goto(page.base + "/carry")
    page.get_by_label("Whatever came back").set_input_files(file)
    page.get_by_role("button", name="Take in and deliver").click()


def whose(page, site):
    page.goto(page.base + "/carry")
    page.get_by_label("Whatever came back").set_input_files(site.file_of_another_vendor())
    page.get_by_role("button", name="Take in and deliver").click()


def one(page, _site):
    page.goto(page.base + "/?q=fs0000")
    page.get_by_role("link", name="fs0000").click()


def dry_run(page, _site):
    page.goto(page.base + "/")
    page.get_by_label("fs0000").check()
    page.get_by_role("button", name="Return…", exact=True).click()


def operation(page, _site):
    page.goto(page.base + "/operations")
    page.locator("tbody th a").first.click()


def stranger(page, _site):
    page.context.clear_cookies()
    page.goto(page.base + "/")


# Every template that is a page: how to get there, and the heading that it then has. A test compares it with the templates.
PAGES = {
    "field_servers": (see("/"), "Field servers"),
    "field_server": (one, "fs0000"),
    "add": (see("/add"), "Add field servers"),
    "add_fingerprints": (fingerprints, "Compare the fingerprints"),
    "added": (added, "2 of 3 added"),
    "plan": (see("/plan"), "Plan"),
    "draft": (dry_run, "Return licenses?"),
    "operations": (see("/operations"), "Operations"),
    "operation": (operation, "Return licenses"),
    "carry": (see("/carry"), "What to carry"),
    "codes": (see("/carry/codes"), "Show codes"),
    "read_codes": (see("/carry/read"), "Read codes"),
    "taken": (taken, "What came back"),
    "whose": (whose, "Whose file is this?"),
    "vendors": (see("/vendors"), "Vendors"),
    "route": (see("/route"), "Route"),
    "report": (see("/report"), "Licenses: all sites"),
    "problem": (see("/drafts/999"), "That did not work"),
    "stranger": (stranger, "Not this browser"),
}
SHOWN = {
    "light": {"field_servers", "add", "add_fingerprints", "plan", "carry", "route", "report"},
    "dark": {"field_servers"},
    "phone": {"carry"},
}


def test_every_page_that_there_is_is_looked_at():
    directory = Path(web.__file__).parent / "templates"
    pages = {path.stem for path in directory.glob("*.html") if "{% extends" in path.read_text("utf-8")} - {"frame"}
    assert set(PAGES) == pages, "say in PAGES how to get to it"
    parts = {path.stem for path in directory.glob("*.html")} - pages - {"frame"}
    for part in parts:
        assert any(f'include "own/{part}.html"' in (directory / f"{page}.html").read_text("utf-8") for page in PAGES)


@pytest.mark.parametrize("looks", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits_in_light_in_dark_and_on_a_phone(browser, opened, ready, name, looks):
    state, base = opened
    lead, title = PAGES[name]
    size = {"width": 390, "height": 844} if looks == "phone" else {"width": 1200, "height": 800}
    context = browser.new_context(
        viewport=size, color_scheme="dark" if looks == "dark" else "light", storage_state=state
    )
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.base = base
    if name != "stranger":
        page.goto(base + "/")
        page.wait_for_function("() => !document.body.textContent.includes('are being asked')")
    lead(page, ready)
    page.get_by_role("heading", level=1, name=title).wait_for()
    page.wait_for_function("() => !document.querySelector('[data-live]')")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    check_accessible(page)
    if os.environ.get("TALLYSTICK_SCREENSHOTS") and name in SHOWN[looks]:
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / f"{name}-{looks}.png")
    if os.environ.get(EVERYTHING_VARIABLE):
        page.screenshot(path=Path(os.environ[EVERYTHING_VARIABLE]) / f"{name}-{looks}.png", full_page=True)
    context.close()


@pytest.fixture
def page(browser, opened):
    context = browser.new_context(viewport={"width": 1200, "height": 800}, storage_state=opened[0])
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.base = opened[1]
    yield page
    context.close()


def test_the_list_is_grouped_by_site_filtered_and_tells_the_next_step(page):
    page.goto(page.base + "/")
    assert page.locator("tr.group").all_inner_texts() == ["North building", "South building"]
    page.get_by_label("Show", exact=True).select_option("holding")
    page.get_by_role("button", name="Show", exact=True).click()
    assert page.locator("tbody th a").all_inner_texts() == ["fs0000", "fs0002", "fs0001"]
    assert "return asked for" in page.content()
    page.goto(page.base + "/?q=fs0004")
    assert page.locator("tbody th a").all_inner_texts() == ["fs0004"]


def test_one_field_server_and_a_dry_run_and_an_operation_are_accessible(page):
    page.goto(page.base + "/?q=fs0000")
    page.get_by_role("link", name="fs0000").click()
    assert "SmartDriver" in page.content() or "smartdriver" in page.content()
    check_accessible(page)
    page.get_by_role("button", name="Refresh…").click()
    assert "nothing was sent yet" in page.content()
    check_accessible(page)
    page.get_by_role("button", name="begin").click()
    page.get_by_text("1 of 1 done.").wait_for()
    check_accessible(page)


def test_a_product_that_does_not_apply_cannot_be_ticked(page):
    page.goto(page.base + "/plan")
    page.get_by_role("link", name="Personal dashboards").click()
    row = page.locator("tr", has_text="fs0001")
    assert "does not apply" in row.inner_text()
    assert row.locator("input[type=checkbox]").is_disabled()
    page.get_by_label("All that it applies to").check()
    assert page.locator("td.tick input:checked").count() == 4
    check_accessible(page)


def test_what_was_asked_offline_is_carried_online_with_one_click(page, ready):
    page.goto(page.base + "/carry")
    assert "1 message" in page.content()
    page.get_by_role("button", name="Carry what waits").click()
    page.get_by_text(re.compile("6 of 6 done")).wait_for()
    assert ready.lines()["smartdriver"]["held"] == 4
