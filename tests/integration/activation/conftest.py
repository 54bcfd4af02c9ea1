"""A store on each engine, a data directory, a process that serves one."""

import pytest

from support.served import Data, Served
from tallystick.activation.storage import open_store

ENGINES = ("sqlite",)  # the place to add an engine: everything below runs on each


@pytest.fixture(params=ENGINES)
def database(request, tmp_path):
    """The URL of an empty database."""
    return f"sqlite:///{tmp_path}/store.sqlite"


@pytest.fixture
def store(database):
    store = open_store(database, create=True)
    yield store
    store.close()


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / "activation").init()


@pytest.fixture(scope="module")
def served_data(tmp_path_factory):
    return Data(tmp_path_factory.mktemp("served") / "activation").init()


@pytest.fixture(scope="module")
def served(served_data):
    served = Served(served_data.path)
    yield served
    code, stderr = served.stop()
    assert (code, stderr) == (0, "")
