"""One seed in ten runs on the real SQL store; SQL and memory say the same, and a difference is found."""

import pytest
from sqlalchemy import text

from tallystick.simulator.evidence import Violation
from tallystick.simulator.running import run_seed
from tallystick.simulator.workload import SQL_SEEDS, Act, make_plan
from tallystick.simulator.world import make_world

SEED = SQL_SEEDS - 1


def test_one_seed_in_ten_runs_on_the_real_store():
    plans = [make_plan(seed, steps=1) for seed in range(2 * SQL_SEEDS)]
    assert [plan.seed for plan in plans if plan.has_sql] == [SEED, SEED + SQL_SEEDS]


@pytest.mark.parametrize("act", [Act.RESTORE, Act.DECLARE_LOST, Act.CLONE, Act.PRUNE])
def test_nothing_is_lost_on_it(act):
    result = run_seed(SEED, steps=150, often=act)
    assert result.failure is None, result.failure


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE field_servers SET epoch = epoch + 1",
        "UPDATE lines SET frozen = 1",
        "UPDATE holdings SET held = held + 1",
        "UPDATE entries SET quantity = quantity + 1",
        "DELETE FROM messages",
    ],
)
def test_a_row_that_differs_is_found(change):
    plan = make_plan(SEED, steps=60)
    world = make_world(plan)
    from tallystick.simulator import acts

    for step in plan.steps:
        acts.perform(world, step)
    world.activation.store.compare()
    world.activation.store._store.transact(lambda transaction: transaction.connection.execute(text(change)))  # type: ignore[attr-defined]  # the real one
    with pytest.raises(Violation, match="store"):
        world.activation.store.compare()
