"""Every test that asks for ``site`` runs on SQLite and on a real PostgreSQL."""

import pytest

from support.postgres import Cluster
from support.site import Site

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
