"""Every test that asks for ``site`` runs on SQLite and on a real PostgreSQL."""

import json

import pytest
from typer.testing import CliRunner

from support.postgres import Cluster
from support.site import Site
from tallystick import cli

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def cluster():
    found = Cluster()
    yield found
    found.remove()


@pytest.fixture(params=ENGINES)
def site(request, tmp_path):
    database = None if request.param == "sqlite" else request.getfixturevalue("cluster").new_database()
    made = Site(tmp_path, database=database)
    yield made
    made.close()


@pytest.fixture
def run_command():
    """Run a command of the activation server for a program: what it prints, as JSON; ``fails`` for one that is refused."""

    def run(*words, fails=False):
        done = CliRunner().invoke(cli.app, ["activation", *map(str, words), "--json"])
        assert bool(done.exit_code) is fails, (words, done.output, done.exception)
        return json.loads(done.stdout)

    return run
