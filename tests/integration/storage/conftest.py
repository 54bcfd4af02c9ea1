"""Every test that asks for ``url`` or ``office`` runs on SQLite and on a real PostgreSQL."""

import pytest

from support.office import Office
from support.postgres import Cluster

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def cluster():
    found = Cluster()
    yield found
    found.remove()


@pytest.fixture(params=ENGINES)
def url(request, tmp_path):
    """A new and empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'tally.sqlite'}"
    return request.getfixturevalue("cluster").new_database()


@pytest.fixture
def office(url):
    found = Office.at(url)
    yield found
    found.store.close()
