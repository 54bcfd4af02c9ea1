"""Forty field servers without a route, returned by clicks alone, and every action of the person counted."""

import pytest

from support.adminsite import site_at

pytestmark = pytest.mark.chromium

ACTIONS_PER_CARRY_MAX = 4


def test_forty_field_servers_are_activated_and_returned_offline_by_clicks_with_four_actions_per_carry(
    tmp_path, person_at
):
    with site_at(tmp_path, 40) as site:
        _, certificate = site.sell("smartdriver=40")
        person = person_at(site.web())

        # The list, from a CSV file, in one step
        person.go("/add")
        person.choose("CSV file", site.csv())
        person.click("Add all in one step")
        person.says("40 of 40 added")

        # The plan, from the certificate file
        person.go("/plan")
        person.choose("Certificate file", certificate)
        person.click("Take it in")
        person.says("40 left to plan of 40")
        for box in person.page.locator("td.tick input").all():
            box.check()
        person.click("Plan on the ticked ones")
        person.says("0 left to plan of 40")
        person.carried()

        # Activated, in one carry and back
        person.click("Activate what is planned")
        person.says("nothing was sent yet")
        person.picture("dry-run-activate")
        person.click("begin")
        person.says("To be carried: 40 field servers")
        requests = person.save("Save 40 messages to one file", tmp_path / "requests.tally")
        assert person.carried() <= ACTIONS_PER_CARRY_MAX
        site.upload(requests, tmp_path / "replies.tally")
        person.go("/carry")
        person.choose("Whatever came back", tmp_path / "replies.tally")
        person.click("Take in and deliver")
        person.says("40 of 40 done.")
        person.says("All is done")
        assert person.carried() <= ACTIONS_PER_CARRY_MAX
        assert site.lines()["smartdriver"]["held"] == 40

        # The return. First carry: the requests
        person.go("/")
        person.tick("All shown here (40)")
        person.picture("field-servers-ticked")
        person.click("Return…", exact=True)
        person.says("nothing was sent yet")
        person.picture("dry-run-return")
        person.click("begin")
        person.says("To be carried: 40 field servers")
        person.picture("return-to-be-carried")
        requests = person.save("Save 40 messages to one file", tmp_path / "return.tally")
        assert person.carried() <= ACTIONS_PER_CARRY_MAX
        site.upload(requests, tmp_path / "answers.tally")

        # Second carry: the answers in, the confirms out
        person.go("/carry")
        person.choose("Whatever came back", tmp_path / "answers.tally")
        person.click("Take in and deliver")
        person.says("40 messages wait to be carried")
        person.picture("confirms-to-be-carried")
        confirms = person.save("Save 40 messages to one file", tmp_path / "confirms.tally")
        assert person.carried() <= ACTIONS_PER_CARRY_MAX
        person.go("/carry")
        person.says("returning since")
        person.picture("what-to-carry")
        site.upload(confirms, tmp_path / "credits.tally")
        row = site.lines()["smartdriver"]
        assert (row["available"], row["held"], row["returning"]) == (40, 0, 0)

        # The receipts
        person.choose("Whatever came back", tmp_path / "credits.tally")
        person.click("Take in and deliver")
        person.says("All is done")
        assert person.carried() <= ACTIONS_PER_CARRY_MAX
        person.go("/report")
        person.says("credit receipts")
        person.picture("site-report")
        assert not person.faults
