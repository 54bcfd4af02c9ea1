"""The whole offline return through the portal, from the first-run page on: real processes, Chromium without JavaScript."""

import pytest

from support.chromium import chromium, take_screenshot
from support.processes import CATALOG, run, serving

pytestmark = pytest.mark.chromium
PASSWORD = "four quiet words apart"


@pytest.fixture
def page(tmp_path):
    with chromium() as browser:
        context = browser.new_context(java_script_enabled=False, viewport={"width": 1180, "height": 900})
        made = context.new_page()
        made.set_default_timeout(120_000)
        yield made


def upload(page, url, file, target):
    """One file into the box; what the page says; the replies."""
    page.goto(f"{url}/deliver")
    page.get_by_label("Tally files").set_input_files(file)
    page.get_by_role("button", name="Deliver").click()
    said = page.locator("main").inner_text()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    waiting.value.save_as(target)
    return said


def test_the_whole_offline_return_through_the_portal(page, tmp_path):
    data, device = tmp_path / "activation", tmp_path / "device"
    home = {"TALLYSTICK_HOME": str(tmp_path / "laptop")}
    run("activation", "init", "--data", data, "--issuer", "Maker")
    with serving("activation", "serve", "--data", data, "--port", "0") as (told, _):
        url = told["url"]
        page.goto(url)
        assert page.url == f"{url}/set-up"
        take_screenshot(page, "set-up-light")
        page.get_by_label("Set-up code").fill(told["setup_code"])
        page.get_by_label("Your name").fill("Ana Berg")
        page.get_by_label("E-mail address").fill("ana@example.com")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Begin").click()
        assert "First, a catalog" in page.locator("main").inner_text()

        page.get_by_role("link", name="Load a catalog").click()
        page.get_by_label("Catalog, as YAML").fill(CATALOG.read_text("utf-8"))
        page.get_by_role("button", name="Show what it changes").click()
        assert "New: " in page.locator("main").inner_text()
        page.get_by_role("button", name="Load it").click()
        page.goto(url)
        page.get_by_role("link", name="Create an entitlement").click()
        page.get_by_label("Account", exact=True).fill("Harbour")
        page.get_by_label("Product 1").select_option("smartdriver")
        page.get_by_label("Quantity 1").fill("5")
        page.get_by_role("button", name="Create").click()
        assert "Entitlement of Harbour" in page.locator("h1").inner_text()
        with page.expect_download() as waiting:
            page.get_by_role("button", name="Download the certificate").click()
        certificate = tmp_path / "bought.tally"
        waiting.value.save_as(certificate)
        line = page.locator("tbody a code").first.inner_text()

        who = ("--kind", "AS-P", "--name", "roof", "--host-id", "h1", "--trust-first")
        made = run("fieldserver", "init", "--data", device, *who)
        with serving("fieldserver", "run", "--data", device, "--port", "0") as (server, _):
            words = ("--password-file", made["password_file"], "--fingerprint", made["certificate_fingerprint"])
            run("admin", "add", server["url"], *words, env=home)
            run("admin", "entitlement", "add", certificate, env=home)
            up, down = tmp_path / "up.tally", tmp_path / "down.tally"
            run("admin", "activate", "roof", "--line", f"{line}=3", "--route", "offline", expect=4, env=home)
            run("admin", "export", up, env=home)
            said = upload(page, url, up, down)
            assert "roof" in said
            assert "activate" in said
            assert "granted" in said
            run("admin", "import", down, "--route", "offline", expect=None, env=home)
            (row,) = run("admin", "servers", env=home)
            assert [license_["quantity"] for license_ in row["licenses"]] == [3]
            page.goto(f"{url}/lines/{line}")
            assert "2 available, 3 held" in page.locator("svg.bar").first.get_attribute("aria-label")

            # Up with the request, down with the response: the licenses leave the field server.
            run("admin", "return", "roof", "--route", "offline", expect=4, env=home)
            run("admin", "export", up, env=home)
            said = upload(page, url, up, down)
            assert "return" in said
            run("admin", "import", down, "--route", "offline", expect=None, env=home)
            (row,) = run("admin", "servers", env=home)
            assert row["licenses"] == []

            # The proof was not brought yet: it is listed, with what to carry.
            page.goto(f"{url}/returns")
            assert "3 smartdriver" in page.locator("main").inner_text()
            assert "roof" in page.locator("tbody").inner_text()
            take_screenshot(page, "returns-waiting-light")

            run("admin", "export", up, env=home)
            said = upload(page, url, up, down)
            assert "credited" in said
            page.goto(f"{url}/returns")
            assert "No return is open" in page.locator("main").inner_text()
            page.goto(f"{url}/lines/{line}")
            assert "5 available, 0 held, 0 returning" in page.locator("svg.bar").first.get_attribute("aria-label")
            run("admin", "import", down, "--route", "offline", expect=None, env=home)

            # The same file once more, by mistake: the same answers, nothing changes.
            said = upload(page, url, up, tmp_path / "again.tally")
            assert "credited" in said
    assert run("activation", "verify", "--data", data)["green"]
    (row,) = run("activation", "lines", "--data", data)
    assert (row["available"], row["returning"]) == (5, 0)
