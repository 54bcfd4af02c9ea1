"""A copy is whole and adds up, or is not there."""

import json
import subprocess
import sys

import pytest
from sqlalchemy import text

from support.activation import DAY, Device
from support.office import Office
from tallystick.activation.core import interventions
from tallystick.activation.storage import DatabaseError, copy_database, open_store
from tallystick.errors import InvariantError

pytestmark = pytest.mark.postgres


@pytest.fixture
def grown(tmp_path):
    """An office on SQLite that has seen a little of everything."""
    office = Office.at(f"sqlite:///{tmp_path / 'tally.sqlite'}")
    line = office.buy(100)
    for number in range(30):
        device = Device(f"{number}")
        (answer,) = office.post(device.activate((line, 2)))
        device.take(answer.reply[0])
        if number % 3 == 0:
            office.post(device.give_back())
    office.post(Device("0").copy().say("refresh", sequence=1))
    office.store.transact(
        lambda tx: interventions.declare_lost(
            tx, office.signer, Device("5").id, reason="burnt", by="me", policy=office.policy, now=office.now
        )
    )
    yield office
    office.store.close()


def test_a_copy_answers_as_the_source_does(grown, cluster):
    target = open_store(cluster.new_database(), create=True)
    copied = {}
    report = copy_database(grown.store, target, now=grown.now, advance=copied.__setitem__)
    assert copied["messages"] == 41
    assert (report.lines, report.field_servers) == (1, 30)
    copy = Office(target, now=grown.now + DAY)
    line = grown.store.read(lambda tx: tx.find_lines())[0]
    assert copy.where(line) == grown.where(line)
    message = Device("7").activate((line, 2))
    assert copy.post(message) == grown.post(message)
    copy.post(Device("1").copy("again").say("refresh", sequence=1))  # an incident gets a number of its own
    assert len(copy.store.read(lambda tx: tx.find_incidents())) == 2
    copy.audit()
    target.close()


def test_a_database_that_has_rows_is_not_copied_into(grown, cluster):
    office = Office.at(cluster.new_database())
    with pytest.raises(DatabaseError) as refused:
        copy_database(grown.store, office.store, now=grown.now, advance=lambda *_: None)
    assert refused.value.code == "already-initialised"
    office.store.close()


def test_a_source_that_does_not_add_up_is_not_copied(grown, cluster):
    with grown.store.engine.begin() as connection:
        connection.execute(text("UPDATE entries SET quantity = 1 WHERE number = 5"))
    target = open_store(cluster.new_database(), create=True)
    with pytest.raises(InvariantError):
        copy_database(grown.store, target, now=grown.now, advance=lambda *_: None)
    assert target.read(lambda tx: tx.find_lines()) == []
    target.close()


def run(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tallystick", "activation", *map(str, arguments), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_command_works_on_postgresql(cluster, tmp_path):
    """From a data directory on SQLite to PostgreSQL, by commands only."""
    data, url = tmp_path / "data", cluster.new_database()
    run("init", "--data", data)
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text("kinds: [AS-P]\nproducts:\n  a: {name: A, kinds: [AS-P], features: {a: 1}}\n", "utf-8")
    run("catalog", "load", catalog, "--data", data)
    bought = run("entitlement", "create", "--data", data, "--account", "acme", "--product", "a=5")
    lines = run("lines", "--data", data)
    assert run("migrate", "--data", data, "--database", url)["before"] is None
    assert run("copy-database", "--data", data, "--to", url)["green"]
    elsewhere = ("--data", data, "--database", url)
    assert run("lines", *elsewhere) == lines
    assert run("verify", *elsewhere)["entries"] == 1
    run("entitlement", "create", *elsewhere, "--account", "acme", "--product", "a=7")
    assert sorted(line["bought"] for line in run("lines", *elsewhere)) == [5, 7]
    assert run("entitlement", "certificate", bought["entitlement_id"], *elsewhere, "-o", tmp_path / "c.tally")
    for command in ("returns", "incidents", "field-servers"):
        assert run(command, *elsewhere) == []
