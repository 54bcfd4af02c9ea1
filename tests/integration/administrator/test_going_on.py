"""Closing the laptop in the middle loses nothing, whoever began: the command line, or the pages; each sees the other's."""

import json
import os
import signal
import subprocess
import time

import pytest

from support.adminsite import COMMAND, site_at
from support.pagereader import PageReader

pytestmark = pytest.mark.slow

COUNT = 8


@pytest.fixture
def site(tmp_path):
    """Each answer takes its time, so that there is a middle."""
    with site_at(tmp_path, COUNT) as site:
        _, certificate = site.sell(f"smartdriver={COUNT}")
        site.admin("add", "--csv", site.csv())
        site.admin("entitlement", "add", certificate, "--activation", site.serve_activation())
        site.admin("activate", "--all", "--line", "smartdriver=1")
        site.delay(1.5)
        yield site


def begun(site, *words):
    """A command of another process, in the middle of its operation."""
    process = subprocess.Popen(
        [*COMMAND, "admin", *words], env=site.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(site, "running")
    return process


def wait_for(site, state):
    for _ in range(300):
        rows = site.admin("operations", "--json")
        if rows and rows[0]["state"] == state:
            return rows[0]
        time.sleep(0.05)
    raise AssertionError(f"it never was {state}: {rows[:1]}")


def kill(site, process):
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    site.delay(0)


def everything_came_back(site):
    row = site.lines()["smartdriver"]
    assert (row["available"], row["held"], row["returning"]) == (COUNT, 0, 0)


def test_a_return_that_was_killed_is_told_by_status_and_finished_by_sync(site):
    kill(site, begun(site, "return", "--all"))
    status = site.admin("status", "--json")
    (open_one,) = status["unfinished"]
    assert (open_one["kind"], open_one["field_servers"]) == ("return", COUNT)
    assert open_one["open"] > 0
    assert "Next: tallystick admin go-on" in site.admin("status")
    done = site.admin("sync", "--json")
    assert done["went_on"] == [open_one["operation"]]
    everything_came_back(site)
    assert site.admin("status", "--json")["unfinished"] == []


def test_it_is_left_by_a_person_and_then_nothing_more_is_returned(site):
    process = begun(site, "return", "--all")
    kill(site, process)
    site.admin("leave")
    site.admin("sync", expect=(0, 4))
    assert "Every operation is finished" in site.admin("go-on")


@pytest.fixture
def page(site):
    page = PageReader(site.web())
    page.enter()
    page.see("/add")
    yield page
    page.close()


def test_the_pages_see_stop_and_go_on_with_what_the_command_line_began(site, page):
    process = begun(site, "return", "--all", "--json")
    number = wait_for(site, "running")["operation"]
    assert "Another window runs it" in page.see(f"/operations/{number}").text
    page.send(f"/operations/{number}/cancel")
    out, error = process.communicate(timeout=300)
    assert process.returncode == 4, (out, error)
    assert {row["result"] for row in json.loads(out)["field_servers"]} & {"interrupted"}
    assert "tallystick admin go-on" in error
    assert "An operation was not finished" in page.see("/").text
    site.delay(0)
    page.send(f"/operations/{number}/go-on")
    page.wait()
    everything_came_back(site)
    assert "An operation was not finished" not in page.see("/").text


def test_the_command_line_sees_stops_and_goes_on_with_what_the_pages_began(site, page):
    page.send("/drafts", data={"do": "return", "everyone": "yes"})
    page.send(f"{page.at}/begin")
    number = wait_for(site, "running")["operation"]
    site.admin("go-on", number, expect=1)  # it runs
    site.admin("stop", number)
    wait_for(site, "not finished")
    site.admin("stop", number, expect=1)
    site.delay(0)
    done = site.admin("go-on", "--json")
    assert done["finished"]
    everything_came_back(site)
    page.see(f"/operations/{number}")
    assert f"{COUNT} of {COUNT} done" in page.text
