"""The same as the pages in the command line: many at once, sites, dry runs, reports; and two of us at the same time."""

import csv
import io
import re
import zipfile

import pytest

from support.adminsite import COMMAND, site_at

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with site_at(tmp_path_factory.mktemp("commands"), 4) as site:
        _, certificate = site.sell("smartdriver=3", "personal-dashboards=4")
        site.url = site.serve_activation()
        added = site.admin("add", "--csv", site.csv(), "--json")
        assert added["added"] == 4
        site.admin("entitlement", "add", certificate, "--activation", site.url)
        yield site


def test_one_bad_row_stops_no_other_and_is_named(site, tmp_path):
    file = tmp_path / "more.csv"
    file.write_text(
        f"address,password\nhttps://127.0.0.1:9,p\n{site.members['addresses'][0]},{site.members['password']}\n"
    )
    done = site.admin("add", "--csv", file, "--json", expect=4)
    assert [row["code"] for row in done["field_servers"]] == ["unreachable", None]
    assert done["field_servers"][0]["next_step"]


def test_neither_or_both_of_url_and_csv_is_wrong_usage(site):
    site.admin("add", expect=2)
    site.admin("add", "https://127.0.0.1:9", "--csv", site.csv(), expect=2)


def test_a_dry_run_tells_and_changes_nothing_and_what_is_refused_is_foreseen(site):
    rows = site.admin("activate", "fs0000", "fs0001", "--line", "smartdriver=1", "--dry-run", "--json")
    assert [(row["effect"], row["before"], row["after"]) for row in rows] == [("granted", 0, 1)] * 2
    assert all(row["licenses"] == [] for row in site.admin("servers", "--json"))
    assert site.admin("status", "--json")["outbound"] == 0
    assert site.admin("status", "--json")["open"] == [], "nothing was planned either"
    site.admin("activate", "fs0001", "--line", "personal-dashboards=1", "--dry-run", expect=1)  # another kind
    site.admin("activate", "--all", "--line", "smartdriver=1", "--dry-run", expect=1)  # four, of three


def test_return_and_its_dry_run(site):
    site.admin("activate", "fs0000", "fs0001", "--line", "smartdriver=1")
    (row,) = site.admin("return", "fs0000", "--dry-run", "--json")
    assert (row["effect"], row["before"], row["after"]) == ("returned", 1, 0)
    assert site.lines()["smartdriver"]["held"] == 2
    site.admin("return", "fs0000")
    assert site.lines()["smartdriver"]["held"] == 1


def test_sites_group_and_reports_are_written(site, tmp_path):
    site.admin("site", "Roof", "fs0000", "fs0002")
    sites = {row["name"]: row["site"] for row in site.admin("servers", "--json")}
    assert sites == {"fs0000": "Roof", "fs0001": "South", "fs0002": "Roof", "fs0003": "South"}
    site.admin("report", "-o", tmp_path / "roof.csv", "--site", "Roof")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "roof.csv").read_text("utf-8-sig"))))
    assert {row["name"] for row in rows} == {"fs0000", "fs0002"}
    site.admin("report", "-o", tmp_path / "all.pdf")
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")
    told = site.admin("report", "-o", tmp_path / "all.zip", "--json")
    assert told["receipts"] == 1
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        assert sum("/receipts/fs0000" in name for name in archive.namelist()) == 1
    site.admin("report", "-o", tmp_path / "x.doc", expect=2)
    site.admin("report", "-o", tmp_path / "x.csv", "--site", "Nowhere", expect=1)


def test_two_of_us_return_the_same_site_at_the_same_time_and_nothing_is_lost(site):
    site.admin("activate", "fs0002", "fs0003", "--line", "smartdriver=1")
    both = [site.started(*COMMAND, "admin", "return", "--all", "--json") for _ in range(2)]
    for process in both:
        process.stdout.read()
        assert process.wait(timeout=120) in {0, 4}
    site.admin("sync")
    row = site.lines()["smartdriver"]
    assert (row["available"], row["held"], row["returning"]) == (3, 0, 0)


def test_a_browser_that_nobody_opened_gets_a_link_with_a_secret(site):
    link = site.web()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/enter\?token=[\w-]{43}", link)
    taken = link.rpartition(":")[2].partition("/")[0]
    site.admin("web", "--no-open", "--port", taken, expect=1)
