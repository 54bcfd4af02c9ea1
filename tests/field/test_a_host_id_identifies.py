"""Row 9: a host id that identifies nothing is refused at once; kinds are compared as people read them."""

import json

import pytest
from typer.testing import CliRunner

from tallystick import cli
from tallystick.domain.text import identifies
from tallystick.fieldserver import platform

NOTHING = [
    "", " ", "\u00a0", "\u200b", "\ufeff", "null", "NULL", "None", "n/a", "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "To be filled by O.E.M.", "to be  filled\u00a0by o.e.m.", "Default string",
    "System Serial Number", "Not Specified", "0", "-", "xxxx", "123456789", "\uff2e\uff35\uff2c\uff2c",
]  # fmt: skip
SOMETHING = ["host-plant-room", "host-1", "4C4C4544-0042-3510-8052-B9C04F4D4E32", "SN 0001", "ÄÖ-1", "10"]


def init(directory, *words):
    required = ("--data", directory, "--kind", "AS-P", "--name", "roof", "--json")
    return CliRunner().invoke(cli.app, ["fieldserver", "init", *map(str, (*required, *words))])


@pytest.mark.parametrize("host_id", NOTHING)
def test_one_that_identifies_nothing_is_refused_at_init_and_nothing_is_made(tmp_path, host_id):
    done = init(tmp_path / "data", "--host-id", host_id)
    assert done.exit_code in {1, 2}
    assert json.loads(done.stdout)["code"] in {"host-id-empty", "usage"}
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host_id", SOMETHING)
def test_one_that_identifies_is_taken(host_id):
    assert identifies(host_id)


def test_it_is_kept_as_people_read_it(tmp_path):
    assert init(tmp_path / "data", "--host-id", " host\u00a0 A\u0308\u200b ").exit_code == 0
    assert platform.load_home(tmp_path / "data").settings.host_id == "host Ä"


def test_what_this_machine_says_of_itself_identifies():
    assert identifies(platform.find_host_id())


@pytest.mark.parametrize("kind", ["as-p", "AS\u2011P", "As-P", " AS-P", "AS-P\u200b", "\uff21\uff33-\uff30"])
def test_a_kind_is_compared_as_people_read_it(site, kind):
    (line,) = site.sell("Harbour", ("smartdriver", 2)).lines
    (row,) = site.post(site.device("roof", kind=kind).activate((line, 1)))
    assert row["outcome"] == "granted", row


def test_another_kind_is_still_refused(site):
    (line,) = site.sell("Harbour", ("mqtt", 2)).lines
    (row,) = site.post(site.device("roof", kind="AS-P").activate((line, 1)))
    assert row["code"] == "kind-mismatch"
