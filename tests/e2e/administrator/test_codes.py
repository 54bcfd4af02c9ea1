"""A whole offline return of one field server without a stick: by QR codes alone, with a real camera path both ways."""

import json
import shutil

import pytest

from support import camera
from support.adminsite import COMMAND, site_at
from support.chromium import check_accessible

pytestmark = pytest.mark.chromium

ACTIONS_PER_CARRY_MAX = 4


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("camera") / "film.y4m"
    camera.film(path, [])
    return path


@pytest.fixture(scope="module")
def browser(film):
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "Chromium is not installed; make system-packages installs it"
    words = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=[*words, *camera.arguments(film)])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with site_at(tmp_path_factory.mktemp("codes"), 1) as site:
        _, site.certificate = site.sell("smartdriver=2")
        served = site.started(*COMMAND, "activation", "serve", "--data", site.activation, "--port", 0, "--json")
        site.told = json.loads(served.stdout.readline())
        yield site


def sign_in(person, told):
    person.go("/set-up")
    for label, text in (
        ("Set-up code", told["setup_code"]),
        ("Your name", "Ana Berg"),
        ("E-mail address", "ana@example.com"),
        ("Password", "four quiet words apart"),
    ):
        person.page.get_by_label(label).fill(text)
    person.page.get_by_role("button", name="Begin").click()


def follow(person, text):
    person.actions += 1
    person.page.get_by_role("link", name=text).first.click()


def arrives(person, address):
    person.page.wait_for_url(
        f"**{address}**", timeout=240_000
    )  # on a slow machine, a camera sees few pictures a second


def test_one_field_server_is_activated_and_returned_by_codes_alone(site, film, person_at):
    laptop, office = person_at(site.web()), person_at(site.told["url"])
    sign_in(office, site.told)
    laptop.go("/add")
    laptop.choose("CSV file", site.csv())
    laptop.click("Add all in one step")
    laptop.says("1 of 1 added")
    laptop.go("/plan")
    laptop.choose("Certificate file", site.certificate)
    laptop.click("Take it in")
    laptop.says("left to plan")
    laptop.page.locator("td.tick input").first.check()
    laptop.click("Plan on the ticked ones")
    laptop.click("Activate what is planned")
    laptop.says("nothing was sent yet")
    laptop.click("begin")
    laptop.says("To be carried: 1 field server")

    def carry(*, pictures=""):
        """Up and down, by the camera of either side; the number of actions."""
        laptop.actions = office.actions = 0
        follow(laptop, "Show as QR codes")
        arrives(laptop, "/carry/codes")
        box = None
        while box is None:  # between two codes there is none
            laptop.page.locator(".now .qr").wait_for()
            box = laptop.page.locator(".now .qr").bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 800, "a code is seen whole without scrolling"
        if pictures:
            check_accessible(laptop.page)
            laptop.picture(f"{pictures}-show")
        camera.film(film, list(reversed(camera.photograph(laptop.page).values())))
        office.go("/deliver/codes")
        office.click("Start the camera")
        arrives(office, "/deliver/codes/")
        office.says("Replies as codes")
        if pictures:
            check_accessible(office.page)
            office.picture(f"{pictures}-replies")
        camera.film(film, list(reversed(camera.photograph(office.page).values())))
        follow(laptop, "Read the replies")
        laptop.click("Start the camera")
        arrives(laptop, "/carry/taken/")
        return laptop.actions + office.actions

    assert carry() <= ACTIONS_PER_CARRY_MAX
    laptop.says("All is done")
    assert site.lines()["smartdriver"]["held"] >= 1

    laptop.go("/")
    laptop.page.locator("td.tick input").first.check()
    laptop.click("Return…", exact=True)
    laptop.click("begin")
    laptop.says("To be carried: 1 field server")

    # The request and its response: one half of the codes, the page loaded again, the other half in another order.
    follow(laptop, "Show as QR codes")
    arrives(laptop, "/carry/codes")
    seen = camera.photograph(laptop.page)
    assert len(seen) >= 3, "too few codes to leave some out"
    camera.film(film, [seen[1]])
    office.go("/deliver/codes")
    check_accessible(office.page)
    office.click("Start the camera")
    office.page.get_by_text(f"Missing: 2-{len(seen)}").first.wait_for()
    office.picture("codes-missing")
    office.page.reload()
    office.says(f"2-{len(seen)}")
    laptop.page.get_by_label("Show only the missing numbers").fill(f"2-{len(seen)}")
    laptop.click("Show", exact=True)
    rest = camera.photograph(laptop.page)
    assert sorted(rest) == list(range(2, len(seen) + 1))
    camera.film(film, [rest[number] for number in sorted(rest, reverse=True)])
    office.click("Start the camera")
    arrives(office, "/deliver/codes/")
    answers = camera.photograph(office.page)
    laptop.go("/carry/read")
    check_accessible(laptop.page)
    camera.film(film, [answers[max(answers)], answers[1]])
    laptop.click("Start the camera")
    laptop.page.locator("[data-missing]").first.wait_for()
    laptop.page.reload()
    camera.film(film, [answers[number] for number in sorted(answers, reverse=True)])
    laptop.click("Start the camera")
    arrives(laptop, "/carry/taken/")
    laptop.says("Show as QR codes")

    # The proof, and the receipt
    assert site.lines()["smartdriver"]["returning"] >= 1
    assert carry(pictures="codes") <= ACTIONS_PER_CARRY_MAX
    laptop.says("All is done")
    row = site.lines()["smartdriver"]
    assert (row["available"], row["held"], row["returning"]) == (2, 0, 0)
    assert site.run("activation", "verify", "--data", site.activation, "--json")["green"]
    assert not laptop.faults
    assert not office.faults
