"""Row 9: a host id that identifies nothing is refused at once; kinds are compared as people read them."""

import json

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from tallystick import cli
from tallystick.activation.storage import schema
from tallystick.domain.text import identifies
from tallystick.fieldserver import platform

NOTHING = [
    "", " ", "\u00a0", "\u200b", "\ufeff", "null", "NULL", "None", "n/a", "00000000-0000-0000-0000-000000000000",
    "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "To be filled by O.E.M.", "to be  filled\u00a0by o.e.m.", "Default string",
    "System Serial Number", "Not Specified", "0", "-", "xxxx", "123456789", "\uff2e\uff35\uff2c\uff2c",
]  # fmt: skip
SOMETHING = ["host-plant-room", "host-1", "4C4C4544-0042-3510-8052-B9C04F4D4E32", "SN 0001", "ÄÖ-1", "10"]


def init(directory, *words):
    required = ("--data", directory, "--kind", "AS-P", "--name", "roof", "--trust-first", "--json")
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


def with_host(site, name, host_id):
    device = site.device(name)
    device.host_id = host_id
    return device


@pytest.mark.parametrize("typed", ["HOST-7", "host\u20117", " Host-7\u200b", "h\u043est-7", "\uff48ost-7"])
def test_one_that_a_reader_takes_for_another_is_taken_already(site, typed):
    (line,) = site.sell("Harbour", ("smartdriver", 2)).lines
    site.activated(with_host(site, "roof", "host-7"), (line, 1))
    other = with_host(site, "cellar", typed)
    assert [row["code"] for row in site.post(other.activate((line, 1)))] == ["host-id-taken"]
    moved = with_host(site, "tower", "host-8")
    site.activated(moved, (line, 1))
    moved.host_id = typed
    assert [row["code"] for row in site.post(moved.activate((line, 1)))] == ["host-id-taken"]


def test_host_ids_of_the_release_before_are_compared_folded_too(site):
    (line,) = site.sell("Harbour", ("smartdriver", 2)).lines
    site.activated(with_host(site, "roof", "Host-7"), (line, 1))
    store = site.office.store
    with store.engine.begin() as connection:
        connection.execute(text("DROP TABLE incident_states"))
        connection.execute(text("DROP INDEX ix_field_servers_host_folded"))
        connection.execute(text("ALTER TABLE field_servers DROP COLUMN host_folded"))
        connection.execute(text("CREATE INDEX ix_field_servers_host_id ON field_servers (host_id)"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0012'"))
    assert schema.migrate(store.engine, store.dialect) == ("0012", schema.HEAD)
    assert [row["code"] for row in site.post(with_host(site, "cellar", "host-7").activate((line, 1)))] == [
        "host-id-taken"
    ]


@pytest.mark.parametrize("kind", ["as-p", "AS\u2011P", "As-P", " AS-P", "AS-P\u200b", "\uff21\uff33-\uff30"])
def test_a_kind_is_compared_as_people_read_it(site, kind):
    (line,) = site.sell("Harbour", ("smartdriver", 2)).lines
    (row,) = site.post(site.device("roof", kind=kind).activate((line, 1)))
    assert row["outcome"] == "granted", row


def test_another_kind_is_still_refused(site):
    (line,) = site.sell("Harbour", ("mqtt", 2)).lines
    (row,) = site.post(site.device("roof", kind="AS-P").activate((line, 1)))
    assert row["code"] == "kind-mismatch"
