"""Every page in Chromium: light, dark, on a phone; axe-core finds nothing serious; no page is wider than the phone."""

from dataclasses import replace

import pytest

from support.activation import DAY
from support.chromium import check_accessible, chromium, served, take_screenshot
from support.receiver import Receiver
from support.site import PASSWORD, Site
from tallystick.activation.core.permissions import Role
from tallystick.activation.core.ports import EventKind
from tallystick.activation.http.portal.routes import OPEN_PAGES, PAGES
from tallystick.activation.services import people, qr_codes, webhooks
from tallystick.activation.services.webhooks import WebhookChange
from tallystick.protocol.frames import make_frames

pytestmark = pytest.mark.chromium


def webhooks_with_a_past(site):
    """Two webhooks: one that took everything but the last, one that is paused. Returns the first one's id."""
    ana = replace(site.root, name="ana@example.com")
    receiver = Receiver()
    site.dispatcher().place_all()
    made = webhooks.create_webhook(
        site.office, ana, url=receiver.url, account=None, kinds=[], after=9, once=None
    ).webhook_id
    paused = webhooks.create_webhook(
        site.office,
        ana,
        url="https://harbour.example/licenses",
        account="Harbour",
        kinds=[EventKind.RETURN_OPENED],
        after=None,
        once=None,
    )
    change = WebhookChange(is_enabled=False)
    webhooks.change_webhook(site.office, ana, paused.webhook_id, change, version=paused.version)
    site.dispatcher().run_once()
    receiver.failures = 1
    site.sell("Airport", ("mqtt", 5))
    site.dispatcher().run_once()
    receiver.close()
    shown = {"url": "https://hooks.example.com/tally"}  # the same in every picture
    site.activation.transact(lambda tx: tx.events.set_webhook(made, **shown))
    return made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("pages"))
    site.person("ana@example.com")
    bought = site.sell("Harbour", ("smartdriver", 12), ("mqtt", 2), expires_at=site.now + 20 * DAY)
    site.sell("Airport", ("engineering", 40))
    lobby = site.activated(site.device("lobby"), (bought.lines[0], 3))
    roof = site.activated(site.device("roof"), (bought.lines[0], 2))
    burnt = site.activated(site.device("cellar"), (bought.lines[0], 1))
    site.activated(site.device("edge", kind="Edge Server"), (bought.lines[1], 2))
    site.client().post(f"/v1/field-servers/{burnt.id}/lost", json={"reason": "burnt with the switchboard"})
    site.post(roof.give_back())
    copy = lobby.copy()
    site.post(lobby.say("refresh"))
    site.post(copy.say("refresh"))
    site.now += 3 * DAY
    cy = people.invite_person(
        site.office,
        site.root,
        email="cy@example.com",
        name="Cy Marsh",
        role=Role.CUSTOMER_TECHNICIAN,
        account="Harbour",
        once=None,
    )
    site.token(Role.COURIER, "Harbour", devices=(roof.id,))
    person = site.activation.read(lambda tx: tx.people.find_person(email="ana@example.com"))
    hook = webhooks_with_a_past(site)
    frames = make_frames(f"{roof.say('refresh')}\n".encode())
    qr_codes.keep(site.office, person.caller, frames)
    values = {
        "{webhook_id}": hook,
        "{entitlement_id}": bought.entitlement_id,
        "{line_id}": bought.lines[0].line_id,
        "{device_id}": str(lobby.id),
        "{person_id}": person.person_id,
        "{invitation}": str(cy.invitation),
        "{transfer}": frames[0].transfer,
    }
    yield site, values, roof
    site.close()


@pytest.fixture(scope="module")
def address(world):
    with served(world[0].web) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def signed_in(browser, address, **options):
    context = browser.new_context(base_url=address, **options)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto("/sign-in")
    page.get_by_label("E-mail address").fill("ana@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{address}/")
    return page


LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1180, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1180, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


@pytest.fixture(scope="module", params=sorted(LOOKS))
def look(request, browser, address):
    page = signed_in(browser, address, **LOOKS[request.param])
    yield request.param, page
    page.context.close()


def filled(path, values):
    for name, value in values.items():
        path = path.replace(name, value)
    return path


def name_of(path, look):
    words = [word for word in path.split("/") if word and not word.startswith("{")]
    words += ["one"] if path.endswith("}") else []
    return f"{'-'.join(words) or 'home'}-{look}"


SHOWN = sorted(
    path
    for path, (_, methods) in {**PAGES, **OPEN_PAGES}.items()
    if "GET" in methods and not path.endswith((".csv", "certificate", "/set-up"))
)


@pytest.mark.parametrize("path", SHOWN)
def test_a_page_can_be_read_by_everybody(world, look, path):
    name, page = look
    if path in OPEN_PAGES:
        page = page.context.browser.new_context(
            base_url=page.url.split("/")[0] + "//" + page.url.split("/")[2], **LOOKS[name]
        ).new_page()
        page.faults = []
        page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)
    page.faults.clear()
    answer = page.goto(filled(path, world[1]))
    assert answer.status == 200
    assert page.faults == []  # among others: nothing that the content security policy forbids
    check_accessible(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("h1").count() == 1
    take_screenshot(page, name_of(path, name))
    if path in OPEN_PAGES:
        page.context.close()


def test_a_problem_is_a_page_that_can_be_read_by_everybody(look):
    name, page = look
    assert page.goto("/lines/00000000").status == 404
    assert "What there is" not in page.content()
    check_accessible(page)
    take_screenshot(page, f"problem-{name}")


def test_the_keyboard_is_enough(browser, address):
    page = signed_in(browser, address)
    page.goto("/field-servers")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.get_by_label("Search").focus()
    page.keyboard.type("roof")
    page.keyboard.press("Enter")
    page.wait_for_url("**text=roof**")
    assert page.locator("tbody tr").count() == 1
    outline = page.evaluate(
        "() => { const link = document.querySelector('tbody a'); link.focus(); return getComputedStyle(link).outlineStyle }"
    )
    assert outline != "none"
    page.context.close()


def test_files_can_be_dropped_on_the_box(browser, address, world):
    roof = world[2]
    page = signed_in(browser, address)
    page.goto("/deliver")
    page.evaluate(
        """text => {
            const data = new DataTransfer();
            data.items.add(new File([text], 'dropped.tally'));
            document.querySelector('.drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));
        }""",
        roof.say("refresh"),
    )
    assert "Files: 1, " in page.locator("[data-status]").inner_text()
    page.get_by_role("button", name="Deliver").click()
    page.get_by_text("The replies are ready").wait_for()
    check_accessible(page)
    take_screenshot(page, "delivered-light")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename == "replies.tally"
    page.context.close()


def test_a_declaration_cannot_be_sent_before_it_was_read(browser, address, world):
    page = signed_in(browser, address)
    roof = world[2]
    page.goto(f"/field-servers/{roof.id}")
    section = page.locator("#lost")
    assert "quarantine for 14 days" in section.inner_text()
    section.get_by_label("Why").fill("burnt")
    section.get_by_role("button").click()
    assert page.url.endswith(roof.id)  # the browser asks for the tick; without one the activation server does
    assert not section.evaluate("part => part.querySelector('form').checkValidity()")
    page.context.close()
