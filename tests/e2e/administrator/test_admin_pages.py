"""Every page in a browser: it says what it should, axe-core finds nothing serious, in light, in dark, and on a phone."""

import os
import re

import pytest

from support.chromium import check_accessible

pytestmark = pytest.mark.chromium

NAMES = ["roof", "cellar", "plant-room", "lobby", "east-wing", "garage"]


@pytest.fixture(scope="module")
def ready(small):
    """Field servers of two sites; a plan that is in force on some; a violation; a return that waits."""
    _, certificate = small.sell("smartdriver=8", "personal-dashboards=2")
    small.link = small.web()
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


PAGES = {
    "field-servers": ("/", "Field servers"),
    "add": ("/add", "Add field servers"),
    "plan-page": ("/plan", "Plan"),
    "carry-page": ("/carry", "What to carry"),
    "route": ("/route", "Route"),
    "report": ("/report", "Licenses: all sites"),
    "operations": ("/operations", "Operations"),
}


@pytest.mark.parametrize("looks", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_accessible_and_fits_in_light_in_dark_and_on_a_phone(browser, opened, name, looks):
    state, base = opened
    path, title = PAGES[name]
    size = {"width": 390, "height": 844} if looks == "phone" else {"width": 1200, "height": 800}
    context = browser.new_context(
        viewport=size, color_scheme="dark" if looks == "dark" else "light", storage_state=state
    )
    page = context.new_page()
    page.goto(base + path)
    page.wait_for_function("() => !document.body.textContent.includes('are being asked')")
    page.goto(base + path)
    assert page.get_by_role("heading", level=1).inner_text() == title
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    check_accessible(page)
    if os.environ.get("TALLYSTICK_SCREENSHOTS") and (looks == "light" or name in {"field-servers", "carry-page"}):
        from pathlib import Path

        pictures = Path(__file__).parents[3] / "docs" / "walkthroughs" / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=pictures / f"{name}-{looks}.png")
    context.close()


@pytest.fixture
def page(browser, opened):
    context = browser.new_context(viewport={"width": 1200, "height": 800}, storage_state=opened[0])
    page = context.new_page()
    page.set_default_timeout(30_000)
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


def test_a_problem_has_its_sentence_and_next_step(page):
    page.goto(page.base + "/drafts/999")
    assert "That did not work" in page.content()
    check_accessible(page)
