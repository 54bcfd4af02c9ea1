"""What ``make bench`` compares with: pgbench's script on our tables."""

import pytest

from benchmarks.pgbench import Rival
from support.postgres import Cluster
from tallystick.activation.storage import migrate_database

pytestmark = pytest.mark.postgres


@pytest.fixture
def rival():
    cluster = Cluster()
    try:
        url = cluster.new_database()
        migrate_database(url)
        yield Rival(cluster, url)
    finally:
        cluster.remove()


def test_the_script_runs_again_and_again_and_no_key_is_left_to_chance(rival):
    for clients in (8, 1, 8):
        assert rival.run(clients, 1, salts=2)["rate"] > 0
