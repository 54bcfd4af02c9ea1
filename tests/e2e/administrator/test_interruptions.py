"""Live progress, stopping, and a laptop that dies in the middle: nothing is lost, and it goes on where it was."""

import re

import pytest

from support.adminsite import site_at
from support.chromium import check_accessible

pytestmark = pytest.mark.chromium


def test_an_operation_is_watched_stopped_killed_and_goes_on(tmp_path, person_at):
    with site_at(tmp_path, 8, delay_seconds=0.5) as site:
        _, certificate = site.sell("smartdriver=8")
        site.admin("add", "--csv", site.csv())
        site.admin("entitlement", "add", certificate, "--activation", site.serve_activation())
        site.admin("activate", "--all", "--line", "smartdriver=1")

        # Watched, and stopped
        person = person_at(site.web())
        person.page.get_by_label("All shown here").check()
        person.click("Return…", exact=True)
        person.click("begin")
        person.says("of 8 field servers ended")
        person.picture("progress")
        check_accessible(person.page)
        person.click("Stop")
        person.says("Interrupted:", 30)

        # It goes on, and the power fails
        person.click("Go on")
        person.says("of 8 field servers ended")
        site.pages.kill()
        site.pages.wait()

        # Another day
        person = person_at(site.web())
        person.says("An operation was not finished")
        person.picture("not-finished")
        person.click("Go on")
        person.page.get_by_text(re.compile("8 of 8 done")).wait_for()
        row = site.lines()["smartdriver"]
        assert (row["available"], row["held"], row["returning"]) == (8, 0, 0)
        assert not person.faults


def test_the_summary_names_each_that_did_not_work_why_and_what_to_do(tmp_path, person_at):
    with site_at(tmp_path, 3) as site:
        _, certificate = site.sell("smartdriver=2")
        site.admin("add", "--csv", site.csv())
        site.admin("entitlement", "add", certificate, "--activation", site.serve_activation())
        site.admin("activate", "fs0000", "fs0001", "--line", "smartdriver=1")
        person = person_at(site.web())
        site.end(site.crowd)  # nobody answers any more
        person.page.get_by_label("All shown here").check()
        person.click("Return…", exact=True)
        person.click("begin")
        person.says("Not reached")
        text = person.page.locator("#progress").inner_text()
        assert all(name in text for name in ("fs0000", "fs0001", "fs0002"))
        assert "unreachable" in text
        assert "Next:" in text
        person.picture("not-reached")
        check_accessible(person.page)
