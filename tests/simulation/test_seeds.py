"""A few seeds, and every seed that ever failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.simulator import running
from tallystick.simulator.workload import Act, make_plan

FAILED = [
    tuple(map(int, line.split()[:2]))
    for line in (Path(__file__).parent / "failed_seeds.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("seed", "steps"), FAILED)
def test_a_seed_that_once_failed_holds(seed, steps):
    assert running.run_seed(seed, steps=steps).failure is None


@pytest.mark.parametrize("seed", range(500_000, 500_020))
def test_nothing_is_lost_and_nothing_is_used_twice(seed):
    assert running.run_seed(seed, steps=120).failure is None


def test_whoever_was_rolled_back_or_cloned_is_judged_again_in_most_runs():
    runs = [running.run_seed(seed, steps=80, often=Act.ROLL_BACK) for seed in range(10)]
    assert sum(run.judged_again > 0 for run in runs) >= 5


def test_one_field_server_and_many():
    for count in (1, 6):
        assert running.run_seed(1, steps=150, field_servers=count).failure is None


def test_a_seed_is_the_same_story_every_time():
    assert running.run_seed(12, steps=80).log == running.run_seed(12, steps=80).log


def test_processes_find_what_one_process_finds():
    one = sorted(running.run_seeds(range(30), steps=20, field_servers=None, workers=1), key=lambda result: result.seed)
    two = sorted(running.run_seeds(range(30), steps=20, field_servers=None, workers=2), key=lambda result: result.seed)
    assert [(result.seed, result.checks, result.done) for result in one] == [
        (result.seed, result.checks, result.done) for result in two
    ]


def test_every_fault_and_every_act_comes_within_a_hundred_seeds():
    from tallystick.simulator.faults import Fault

    plans = [make_plan(seed, steps=150) for seed in range(100)]
    assert {step.act for plan in plans for step in plan.steps} == set(Act)
    assert {step.fault for plan in plans for step in plan.steps} >= set(Fault)
