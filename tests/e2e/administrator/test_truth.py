"""The screens tell the truth when something is killed, cut, slow, or answers otherwise: read in a browser, at that moment."""

import contextlib
import socket
import threading

import pytest

from support.adminsite import site_at
from support.chromium import check_accessible

pytestmark = pytest.mark.chromium


class Line:
    """The way to an activation server, which a test cuts and mends; its address stays."""

    def __init__(self, target):
        host, _, port = target.rpartition("//")[2].partition(":")
        self._target, self._ends = (host, int(port)), []
        self.is_cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self.is_cut = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                near.close()
                continue
            far = socket.create_connection(self._target)
            self._ends += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one, other):
        with contextlib.suppress(OSError):
            while piece := one.recv(65536):
                other.sendall(piece)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._listener.close()
        self.cut()


@pytest.fixture
def line_to():
    lines = []

    def make(url):
        lines.append(Line(url))
        return lines[-1]

    yield make
    for line in lines:
        line.close()


def row_of(person, name):
    return person.page.locator("tbody tr", has=person.page.get_by_role("link", name=name, exact=True))


def says_in(person, locator, text):
    person.page.wait_for_function(
        "([row, text]) => row.isConnected && row.textContent.includes(text)",
        arg=[locator.element_handle(), text],
        timeout=60_000,
    )


def pill(person):
    return person.page.locator("#pill").inner_text().strip()


def test_a_field_server_that_is_killed_turns_red_in_place_and_ticks_stay(tmp_path, person_at):
    with site_at(tmp_path, 3) as site:
        site.admin("add", "--csv", site.csv())
        person = person_at(site.web("--look-every", 1))
        row = row_of(person, "fs0001")
        says_in(person, row, "reached")
        row_of(person, "fs0002").locator("td.tick input").check()
        assert "changed" not in row_of(person, "fs0000").inner_text().split("reached")[1]

        site.end(site.crowd)  # the page is not touched

        says_in(person, row, "not reached")
        says_in(person, row, "changed")
        assert row_of(person, "fs0002").locator("td.tick input").is_checked()
        assert not row_of(person, "fs0000").locator("td.tick input").is_checked()
        person.says("Changed since you opened this page: ")
        assert "ago" not in person.page.locator("#looking").inner_text()
        check_accessible(person.page)
        assert not person.faults


def test_the_time_on_a_page_is_that_of_its_rows(tmp_path, person_at):
    """Everybody answers slowly: what stands above the table never claims to be newer than the table."""
    with site_at(tmp_path, 2) as site:
        site.admin("add", "--csv", site.csv())
        person = person_at(site.web("--look-every", 0))
        says_in(person, row_of(person, "fs0000"), "reached")
        person.says("All were asked at")
        before = person.page.locator("#looking time").first.get_attribute("datetime")
        site.end(site.crowd)
        person.click("Check now")
        says_in(person, row_of(person, "fs0000"), "not reached")
        asked = person.page.locator("#looking time").nth(1)
        asked.wait_for()
        assert asked.get_attribute("datetime") >= before
        assert person.page.locator("tbody").get_by_text("not reached", exact=True).count() == 2


def test_pill_sentence_and_page_follow_what_is_learned_about_the_route(tmp_path, person_at, line_to):
    with site_at(tmp_path, 2) as site:
        bought, _ = site.sell("smartdriver=4")
        site.admin("add", "--csv", site.csv())
        line = line_to(site.serve_activation())
        person = person_at(site.web("--look-every", 0))
        says_in(person, row_of(person, "fs0000"), "reached")
        assert pill(person) == "offline"

        # An entitlement that is looked up
        person.go("/plan")
        person.page.get_by_label("Entitlement ID").fill(bought["entitlement_id"])
        person.page.get_by_label("Activation server").fill(line.url)
        person.click("Look it up")
        person.says("4 left to plan of 4")
        assert pill(person) in {"online", "semi-online"}
        person.go("/route")
        person.says(f"This computer reaches the activation server at {line.url}")
        assert pill(person) == person.page.locator("#route h2").first.inner_text()

        # A route that is cut, and an operation that meets it
        line.cut()
        person.go("/")
        row_of(person, "fs0000").locator("td.tick input").check()
        person.click("Refresh…")
        person.click("begin")
        person.says("To be carried: 1 field server")
        assert pill(person) == "offline"
        person.go("/route")
        person.says("This computer does not reach the activation server")
        assert pill(person) == person.page.locator("#route h2").first.inner_text() == "offline"

        # It is mended; another page, left open, says so by itself when an operation has gone through
        other = person.page.context.new_page()
        other.goto(person.base + "/")
        line.is_cut = False
        person.go("/carry")
        person.click("Carry what waits")
        person.says("of 2 done.")
        assert pill(person) in {"online", "semi-online"}
        other.bring_to_front()
        other.locator("#pill", has_text=pill(person)).wait_for(timeout=60_000)
        assert pill(person) in other.locator("#looking").inner_text()


def activate_all(site):
    """Three field servers have a right each."""
    _, certificate = site.sell("smartdriver=3")
    site.admin("add", "--csv", site.csv())
    site.admin("entitlement", "add", certificate, "--activation", site.serve_activation())
    site.admin("activate", "--all", "--line", "smartdriver=1")


def take_in(person, file):
    person.go("/carry")
    person.page.get_by_label("Whatever came back").set_input_files(file)
    person.click("Take in and deliver")


def test_a_delivery_that_worked_is_said_to_have_worked_and_a_refusal_is_never_all_is_done(tmp_path, person_at):
    with site_at(tmp_path, 3) as site:
        activate_all(site)
        person = person_at(site.web("--route", "offline"))
        person.says("All were asked at")

        # A return, without a route: its answers are delivered, and the proofs are left to carry
        person.page.get_by_label("All shown here").check()
        person.click("Return…", exact=True)
        person.click("begin")
        person.says("3 messages to carry.")
        assert "0 of 3" not in person.page.locator("main").inner_text()
        requests = person.save("Save 3 messages to one file", tmp_path / "requests.tally")
        site.upload(requests, tmp_path / "answers.tally")
        take_in(person, tmp_path / "answers.tally")
        person.says("Delivered 3 of 3; 3 proofs to carry.")
        text = person.page.locator("main").inner_text()
        assert "0 of 3" not in text
        assert "unreachable" not in text
        assert "All is done" not in text
        check_accessible(person.page)
        confirms = person.save("Save 3 messages to one file", tmp_path / "confirms.tally")
        site.upload(confirms, tmp_path / "credits.tally")
        take_in(person, tmp_path / "credits.tally")
        person.says("All is done")

        # One of two is refused: somebody has put it on hold meanwhile
        site.admin("activate", "fs0001", "fs0002", "--line", "smartdriver=1", "--route", "offline", expect=4)
        site.office("hold", "fs0002", "--reason", "a second copy is looked for", "--data", site.activation)
        person.go("/carry")
        asked = person.save("Save to one file", tmp_path / "asked.tally")
        site.upload(asked, tmp_path / "refusals.tally")
        take_in(person, tmp_path / "refusals.tally")
        person.says("Not all is done")  # while it runs, a refusal is shown, too
        person.says("Refused: 1 field server")
        text = person.page.locator("main").inner_text()
        assert "Delivered 2 of 2." in text
        assert "1 of 2 done." in text
        assert "All is done" not in text
        assert "Not all is done" in text
        assert not person.faults


def dry_run(person):
    person.go("/")
    for name in ("fs0000", "fs0001"):
        row_of(person, name).locator("td.tick input").check()
    person.page.get_by_role("button", name="Activate…", exact=True).click()
    person.says("nothing was sent yet")
    return " ".join(person.page.locator("main").inner_text().split())


def test_a_dry_run_asks_the_activation_server_and_without_a_route_says_that_it_is_likely(tmp_path, person_at, line_to):
    with site_at(tmp_path, 3) as site:
        bought, _ = site.sell("smartdriver=3")
        site.admin("add", "--csv", site.csv())
        line = line_to(site.serve_activation())
        site.admin("entitlement", "add", bought["entitlement_id"], "--activation", line.url)
        site.admin("assign", "smartdriver=1", "fs0000", "fs0001")
        person = person_at(site.web("--look-every", 0))
        says_in(person, row_of(person, "fs0000"), "reached")

        text = dry_run(person)
        assert "this is what it will decide" in text
        assert "2 licenses will be granted on 2 field servers" in text
        assert "likely" not in text
        check_accessible(person.page)

        # Somebody takes two of three, where this laptop does not see it
        own, site.home = site.home, tmp_path / "colleague"
        site.admin("add", "--csv", site.csv())
        site.admin("entitlement", "add", bought["entitlement_id"], "--activation", line.url)
        site.admin("activate", "fs0002", "--line", "smartdriver=2")
        site.home = own

        text = dry_run(person)
        assert "license will be granted" in text
        assert "license will be refused" in text
        assert "not-enough" in text
        assert person.page.locator(".card.alert").count() == 1

        # The route is cut: it says so, what was known, since when, and no more than likely
        line.cut()
        text = dry_run(person)
        assert "This is likely, and no more" in text
        assert "will likely be granted" in text
        assert "will be granted" not in text
        assert "What that is made from" in text
        row = person.page.locator("tbody tr", has_text="SmartDriver").last.inner_text()
        assert " UTC" in row
        check_accessible(person.page)

        # Afterwards nothing had happened by all that
        assert site.lines()["smartdriver"]["held"] == 2
        assert not person.faults


def test_whose_file_it_is_is_shown_and_asked_and_all_of_it_can_be_removed_again(tmp_path, person_at):
    with site_at(tmp_path, 1) as site:
        _, certificate = site.sell("smartdriver=3")
        other = site.file_of_another_vendor()
        person = person_at(site.web())

        # Chosen: it says whose it is, and nothing is taken in yet
        person.go("/carry")
        person.page.get_by_label("Whatever came back").set_input_files(certificate)
        person.page.locator("#whose", has_text="Example Controls").wait_for(timeout=60_000)
        assert "for the account acme" in person.page.locator("#whose").inner_text()
        person.go("/vendors")
        person.says("None yet")
        take_in(person, certificate)
        person.says("1 entitlement")
        person.says("Example Controls")

        # A second vendor's root is asked about; left out, it is refused by its name
        take_in(person, other)
        person.says("Whose file is this?")
        person.says("A root of Other Controls would be trusted beside Example Controls.")
        assert len(person.page.locator("main code").inner_text()) == 43
        check_accessible(person.page)
        person.click("Take in only what is of known vendors and accounts")
        person.says("Other Controls, whose root was left out")
        person.go("/vendors")
        assert "Other Controls" not in person.page.locator("main").inner_text()

        # Wanted, and removed again with all that came of it
        take_in(person, other)
        person.click("It is expected: take it in")
        person.says("1 entitlement")
        person.go("/vendors")
        box = person.page.locator("section.box", has_text="Other Controls")
        box.get_by_text("Remove this vendor", exact=True).first.click()
        check_accessible(person.page)
        box.get_by_role("button", name="Remove Other Controls").click()
        person.page.wait_for_function("() => !document.querySelector('main').textContent.includes('Other Controls')")
        box = person.page.locator("section.box", has_text="Example Controls")
        box.get_by_text("Remove", exact=True).first.click()
        box.get_by_role("button", name="Remove the entitlement of acme").click()
        person.says("No entitlement.")
        person.go("/plan")
        person.says("No entitlement is known here yet")
        assert not person.faults


class Portal:
    """The activation server's portal, in a browser of its own, of the person who set it up."""

    def __init__(self, browser, site, url):
        self.page, self.url = browser.new_context().new_page(), url
        self.page.set_default_timeout(120_000)
        self.page.goto(url)
        self.page.get_by_label("Set-up code").fill(site.setup_code)
        self.page.get_by_label("Your name").fill("Ana Berg")
        self.page.get_by_label("E-mail address").fill("ana@example.com")
        self.page.get_by_label("Password").fill("four quiet words apart")
        self.page.get_by_role("button", name="Begin").click()
        self.page.get_by_role("link", name="Deliver messages").first.wait_for()

    def upload(self, file, replies):
        self.page.goto(f"{self.url}/deliver")
        self.page.get_by_label("Tally files").set_input_files(file)
        self.page.get_by_role("button", name="Deliver").click()
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Download").click()
        download.value.save_as(replies)
        return self.page.locator("main").inner_text()

    def counts(self, line):
        self.page.goto(f"{self.url}/lines/{line}")
        text = self.page.locator("svg.bar").first.get_attribute("aria-label")
        return {name: int(count) for count, name in (part.split() for part in text.split(", "))}


def laptop_counts(person):
    person.go("/plan")
    cells = person.page.locator("tbody tr").first.locator("td.number")
    names = ("bought", "held", "returning", "elsewhere")
    found = dict(zip(names, cells.all_inner_texts(), strict=False))
    return {name: int(text) for name, text in found.items() if text.isdigit()}


def check_same(portal, person, line, **expected):
    there, here = portal.counts(line), laptop_counts(person)
    assert {name: there[name] for name in expected} == {name: here[name] for name in expected} == expected


def test_any_order_is_any_order_and_portal_and_laptop_count_the_same(tmp_path, browser, person_at):
    with site_at(tmp_path, 2) as site:
        bought, _ = site.sell("smartdriver=2")
        site.admin("add", "--csv", site.csv())
        portal = Portal(browser, site, site.serve_activation())
        site.admin("entitlement", "add", bought["entitlement_id"], "--activation", portal.url)
        site.admin("activate", "fs0001", "--line", "smartdriver=2")
        line = site.lines()["smartdriver"]["line"]
        person = person_at(site.web("--route", "offline"))
        check_same(portal, person, line, held=2, returning=0)

        # Given up, and not proven yet
        site.admin("return", "fs0001", "--route", "offline", expect=4)
        person.go("/carry")
        portal.upload(person.save("Save to one file", tmp_path / "up.tally"), tmp_path / "down.tally")
        take_in(person, tmp_path / "down.tally")
        person.says("Delivered 1 of 1; 1 proof to carry.")
        check_same(portal, person, line, held=0, returning=2)

        # The other one asks for both; in the file its wish stands before the proof that frees them
        site.admin("activate", "fs0000", "--line", "smartdriver=2", "--route", "offline", expect=4)
        person.go("/carry")
        file = person.save("Save to one file", tmp_path / "both.tally")
        envelopes = [one for one in file.read_text("utf-8").splitlines() if one and not one.startswith("#")]
        assert len(envelopes) == 2
        for place, order in enumerate((envelopes, envelopes[::-1])):
            either = tmp_path / f"either-{place}.tally"
            either.write_text("\n".join(order), "utf-8")
            said = portal.upload(either, tmp_path / "replies.tally")
            assert "not-enough" not in said
        take_in(person, tmp_path / "replies.tally")
        person.says("All is done")
        check_same(portal, person, line, held=2, returning=0)
        assert not person.faults


ACTIONS_OF_AN_OFFLINE_RETURN_MAX = 8


def test_a_return_of_three_offline_takes_eight_actions_at_the_laptop_and_all_is_said(tmp_path, person_at):
    with site_at(tmp_path, 3) as site:
        activate_all(site)
        person = person_at(site.web("--route", "offline"))
        person.says("All were asked at")

        person.tick("All shown here (3)")  # 1
        person.click("Return…", exact=True)  # 2
        person.click("begin")  # 3
        site.upload(person.save("Save 3 messages to one file", tmp_path / "up.tally"), tmp_path / "down.tally")  # 4
        person.choose("Whatever came back", tmp_path / "down.tally")  # 5
        person.click("Take in and deliver")  # 6
        person.says("Delivered 3 of 3; 3 proofs to carry.")
        site.upload(
            person.save("Save 3 messages to one file", tmp_path / "proofs.tally"), tmp_path / "credits.tally"
        )  # 7
        row = site.lines()["smartdriver"]
        assert (row["available"], row["held"], row["returning"]) == (3, 0, 0)
        assert person.actions <= ACTIONS_OF_AN_OFFLINE_RETURN_MAX
