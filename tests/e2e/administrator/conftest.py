"""Device Administrator's pages in the system's Chromium, without a way to the Internet."""

import os
import shutil
from pathlib import Path

import pytest

from support.adminsite import site_at

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURES_VARIABLE = "TALLYSTICK_SCREENSHOTS"
PICTURES = Path(__file__).parents[3] / "docs" / "walkthroughs" / "pictures"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.fail("Chromium is not installed; make system-packages installs it")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six field servers and an activation server that is reached."""
    with site_at(tmp_path_factory.mktemp("small"), 6) as site:
        yield site


class Person:
    """A person with a mouse: every click, tick and chosen file is counted."""

    def __init__(self, page, base):
        self.page, self.base = page, base
        self.actions = 0
        self.faults = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on(
            "console", lambda message: self.faults.append(message.text) if "Content Security" in message.text else None
        )

    def click(self, text, *, exact=False):
        self.actions += 1
        self.page.get_by_role("button", name=text, exact=exact).first.click()

    def tick(self, label):
        self.actions += 1
        self.page.get_by_label(label).check()

    def choose(self, label, *files):
        self.actions += 1
        self.page.get_by_label(label).set_input_files(list(files))

    def save(self, text, path):
        self.actions += 1
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=text).first.click()
        download.value.save_as(path)
        return path

    def go(self, path):
        self.page.goto(self.base + path)

    def says(self, text, seconds=60):
        from playwright.sync_api import Error as PlaywrightError

        try:
            self.page.get_by_text(text).first.wait_for(timeout=seconds * 1000)
        except PlaywrightError:
            pytest.fail(f"{self.page.url} does not say {text!r}, but: {self.page.locator('main').inner_text()[:2000]}")

    def carried(self):
        """How many actions since the last carry."""
        count, self.actions = self.actions, 0
        return count

    def picture(self, name, *, full=False):
        """Into docs/, when asked for."""
        if os.environ.get(PICTURES_VARIABLE):
            PICTURES.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=PICTURES / f"{name}.png", full_page=full)


@pytest.fixture
def person_at(browser):
    contexts = []

    def make(link, **options):
        context = browser.new_context(viewport={"width": 1200, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.goto(link)
        return Person(page, link.partition("/enter")[0])

    yield make
    for context in contexts:
        context.close()
