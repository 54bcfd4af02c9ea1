"""A database is of one activation server, and of one only: the one that made it, or the copy that took its place.

With commands and files only, on both engines.
"""

import json
import subprocess
import sys

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from support.office import Office
from tallystick.activation.cli import app
from tallystick.activation.core.ports import Policy
from tallystick.activation.server import instance
from tallystick.activation.storage import DatabaseError, copy_database, open_store

CATALOG = "kinds: [AS-P]\nproducts:\n  a: {name: A, kinds: [AS-P], features: {a: 1}}\n"


def run(*arguments):
    """What a command prints, or the code that it refuses with."""
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    said = json.loads(done.stdout)
    return said["code"] if done.exit_code else said


def forget(url, table):
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()


class Served:
    """``serve`` in a process of its own, until the ``with`` ends."""

    def __init__(self, data):
        self.data = data

    def __enter__(self):
        words = [
            sys.executable,
            "-m",
            "tallystick",
            "activation",
            "serve",
            "--data",
            self.data,
            "--port",
            "0",
            "--json",
        ]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert json.loads(self.process.stdout.readline())["url"]
        return self

    def __exit__(self, *_):
        self.process.terminate()
        assert self.process.wait(60) == 0
        self.process.stdout.close()


@pytest.fixture
def data(tmp_path, url):
    """A data directory with its database at ``url``."""
    made = tmp_path / "data"
    run("init", "--data", made, "--issuer", "Example Controls", "--database", url)
    (tmp_path / "catalog.yaml").write_text(CATALOG, "utf-8")
    run("catalog", "load", tmp_path / "catalog.yaml", "--data", made)
    return made


@pytest.mark.slow
def test_what_something_serves_is_not_copied_and_what_was_copied_is_not_served(data, tmp_path):
    target = f"sqlite:///{tmp_path / 'target.sqlite'}"
    run("entitlement", "create", "--data", data, "--account", "acme", "--product", "a=2")
    with Served(data):
        assert run("copy-database", "--data", data, "--to", target) == "database-in-use"
    assert run("copy-database", "--data", data, "--to", target)["green"]
    refused = [
        ("serve", "--port", 0),
        ("lines",),
        ("prune", "--older-than", 30),
        ("copy-database", "--to", f"{target}2"),
    ]
    for words in refused:
        assert run(*words, "--data", data) == "database-moved", words
    assert run("verify", "--data", data)["green"]
    (line,) = run("lines", "--data", data, "--database", target)
    assert (line["available"], line["frozen"]) == (2, False)
    # Whoever goes on with it all the same goes on with an old backup.
    assert run("restore", "--data", data) == {"frozen_lines": 1, "field_servers": 0}
    assert [line["frozen"] for line in run("lines", "--data", data)] == [True]


@pytest.mark.slow
def test_what_any_other_process_has_open_is_not_copied(url, tmp_path):
    office = Office.at(url)
    other = open_store(url)
    other.read(lambda tx: tx.find_lines())
    target = open_store(f"sqlite:///{tmp_path / 'target.sqlite'}", create=True)
    with pytest.raises(DatabaseError) as refused:
        copy_database(office.store, target, now=office.now, advance=lambda *_: None)
    assert refused.value.code == "database-in-use"
    assert target.read(lambda tx: tx.deployment.used_table()) is None
    other.close()
    office.store.close()
    source = open_store(url)
    assert copy_database(source, target, now=office.now, advance=lambda *_: None).is_green
    source.close()
    target.close()


def test_nothing_opens_what_is_being_copied(url, tmp_path):
    source = Office.at(url).store
    target = open_store(f"sqlite:///{tmp_path / 'target.sqlite'}", create=True)
    codes = set()

    def meanwhile(*_):
        try:
            open_store(url).close()
        except DatabaseError as error:
            codes.add(error.code)

    copy_database(source, target, now=1, advance=meanwhile)
    assert codes == {"database-in-use"}
    source.close()
    target.close()


@pytest.mark.postgres
def test_who_lost_its_connections_does_not_go_on_with_what_was_copied_away(cluster, tmp_path):
    url = cluster.new_database()
    serving = instance.initialise(tmp_path / "a", issuer="A", policy=Policy(), database=url)
    serving.close()
    serving = instance.open_activation(tmp_path / "a")
    serving.store.engine.dispose()  # as a fail-over ends them
    source, target = open_store(url), open_store(f"sqlite:///{tmp_path / 'target.sqlite'}", create=True)
    copy_database(source, target, now=1, advance=lambda *_: None)
    with pytest.raises(DatabaseError) as refused:
        serving.transact(lambda tx: tx.find_lines())
    assert refused.value.code == "database-in-use"
    for store in (source, target, serving):
        store.close()


def test_a_second_init_does_not_take_a_database_that_is_in_use(data, tmp_path, url):
    assert run("init", "--data", tmp_path / "second", "--issuer", "Example Controls", "--database", url) == (
        "already-initialised"
    )
    assert not (tmp_path / "second" / "settings.toml").exists()
    assert run("lines", "--data", data) == []


def test_an_init_that_did_not_come_to_its_settings_is_run_again(data, url):
    before = run("keys", "list", "--data", data)
    for table in ("products", "kinds", "trail", "heads"):  # it had not come to a catalog, either
        forget(url, table)
    (data / "settings.toml").unlink()
    again = run("init", "--data", data, "--issuer", "Example Controls", "--database", url)
    assert isinstance(again, dict), again
    assert run("keys", "list", "--data", data) != before
    assert run("lines", "--data", data) == []


COMMANDS = [
    ("lines",),
    ("verify",),
    ("serve", "--port", 0),
    ("restore",),
    ("prune", "--older-than", 30),
    ("copy-database", "--to", "sqlite:////nowhere/at-all"),
    ("keys", "rotate"),
]


def test_the_keys_of_another_data_directory_do_not_open_a_database(data, tmp_path, url):
    other = tmp_path / "other"
    run("init", "--data", other, "--issuer", "Example Controls")
    for words in COMMANDS:
        assert run(*words, "--data", other, "--database", url) == "database-foreign", words
    assert run("lines", "--data", data) == []


def test_a_database_of_an_older_version_becomes_that_of_the_keys_it_is_used_with(data, tmp_path, url):
    other = tmp_path / "other"
    run("init", "--data", other)
    forget(url, "deployment")
    assert run("lines", "--data", data) == []
    assert run("lines", "--data", other, "--database", url) == "database-foreign"


def test_a_database_follows_its_root_and_refuses_the_one_before(data, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    for name in ("keyset.tally", "settings.toml", "keys/signing.pem"):
        place = old / name
        place.parent.mkdir(exist_ok=True)
        place.write_bytes((data / name).read_bytes())
    assert "root_fingerprint" in run("keys", "hand-over", "--data", data, "--new-root", tmp_path / "root.pem")
    assert run("lines", "--data", data) == []
    assert run("lines", "--data", old) == "database-foreign"
