"""The system's Chromium, by playwright; axe-core looks at every page; screenshots on demand."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
SHOTS = ROOT / "docs" / "portal"
SHOWN_DARK = {"home-dark", "field-servers-one-dark", "webhooks-one-dark"}  # the others are looked at, and not kept
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # `make test` has no browser, and collects what is marked chromium

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "Chromium is missing: tools/install-system-packages.sh installs it"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def served(application: Any) -> Iterator[str]:
    """The address of an application that is served by a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def check_accessible(page: Page) -> None:
    """Raises ``AssertionError`` for any finding of axe-core that is serious or critical."""
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}}).then(result => result.violations)", RULES
    )
    serious = [
        (finding["id"], finding["help"], [node["html"][:200] for node in finding["nodes"]][:4])
        for finding in found
        if finding["impact"] in {"serious", "critical"}
    ]
    assert not serious, (page.url, serious)


def take_screenshot(page: Page, name: str) -> None:
    """Into docs/portal, when TALLYSTICK_SCREENSHOTS asks for it: a test run leaves the tree as it is."""
    if os.environ.get("TALLYSTICK_SCREENSHOTS") and (not name.endswith("-dark") or name in SHOWN_DARK):
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
