"""Everybody is killed at any moment, on disks that are full and with clocks that step, and nothing is lost or used twice.

``TALLYSTICK_CHAOS_FIELD_SERVERS``, ``TALLYSTICK_CHAOS_SECONDS`` and ``TALLYSTICK_CHAOS_SEED`` set the size; the log of
a run that failed is where pytest keeps its temporary directories (``events.log``, and one log per process).
"""

import os

import pytest

from support.chaos import Chaos
from support.postgres import Cluster

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("TALLYSTICK_CHAOS_SEED", "1"))


@pytest.fixture
def play(tmp_path):
    worlds = []

    def start(**options):
        chaos = Chaos(tmp_path, **options)
        worlds.append(chaos)
        return chaos

    yield start
    for chaos in worlds:
        chaos.close()


def play_through(chaos, seconds):
    chaos.build()
    chaos.work(seconds)
    chaos.make_peace()
    chaos.check_everything()


def test_a_few_field_servers_lose_nothing_whoever_is_killed_and_who_was_put_back_is_named(play):
    seconds = float(os.environ.get("TALLYSTICK_CHAOS_SECONDS", "8"))
    play_through(play(seed=SEED, field_servers=12, with_restore=False), seconds)


def test_a_database_that_was_put_back_is_healed_by_what_field_servers_say(play):
    seconds = float(os.environ.get("TALLYSTICK_CHAOS_SECONDS", "20"))
    play_through(play(seed=SEED + 1, field_servers=12, with_restore=True), seconds)


def test_a_hundred_field_servers_lose_nothing_whoever_is_killed(play):
    count = int(os.environ.get("TALLYSTICK_CHAOS_FIELD_SERVERS", "100"))
    seconds = float(os.environ.get("TALLYSTICK_CHAOS_SECONDS", "90"))
    play_through(play(seed=SEED, field_servers=count, with_restore=True), seconds)


@pytest.mark.postgres
def test_on_postgresql_nothing_is_lost_either_also_when_the_database_is_killed_and_put_back(play):
    cluster = Cluster()
    try:
        seconds = float(os.environ.get("TALLYSTICK_CHAOS_SECONDS", "20"))
        chaos = play(seed=SEED + 2, field_servers=12, with_restore=True, database=cluster)
        play_through(chaos, seconds)
        chaos.close()
    finally:
        cluster.remove()
