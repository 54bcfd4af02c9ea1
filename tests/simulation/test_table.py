"""The decision table: what the real code answers is in it, and what is not in it is found."""

from __future__ import annotations

import pytest

from tallystick.activation.core import reading
from tallystick.activation.core.ports import Status
from tallystick.fieldserver.state import Activate, ActivationWant, Refresh, Relinquish
from tallystick.protocol.envelope import open_envelope
from tallystick.simulator.evidence import Violation
from tallystick.simulator.table import compare
from tallystick.simulator.workload import Plan, make_plan, theme_of
from tallystick.simulator.world import make_world


@pytest.fixture
def world():
    plan = Plan(seed=0, field_servers=1, lines=(("smartdriver", 3),), kinds=("AS-P",), steps=(), has_table=True)
    world = make_world(plan)
    want = ActivationWant(activation_id=world.activation.lines[0].activation_id, quantity=1)
    tell(world, Activate(wants=(want,)))
    return world


def tell(world, wish):
    """Ask, post and deliver; what the table is given to compare."""
    (copy,) = world.copies
    compact = world.ask(copy, wish).message.compact
    before = world.activation.store.tables
    answers = world.post(compact.encode())
    message = reading.read_message(open_envelope(compact.encode()), world.activation.signer.keyset)
    world.hand_over(copy, "\n".join(answers[0].reply).encode())
    return [message], answers, before, world.activation.store.tables


def without(tables, **changes):
    """The same, but for the row of the field server."""
    after = tables.copy()
    after.field_servers = {key: row.changed(**changes) for key, row in tables.field_servers.items()}
    return after


def test_what_is_answered_is_in_the_table(world):
    for wish in (Refresh(), Relinquish(), Refresh(), Relinquish(is_final=True), Refresh()):
        compare(*tell(world, wish))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sequence": 1},
        {"spoken_epoch": 0},
        {"status": Status.HOLD},
        {"recovering": 7},
        {"lost_at": 1},
        {"name": "another"},
        {"proven": 0},
    ],
    ids=str,
)
def test_what_is_remembered_wrongly_is_found(world, wrong):
    batch, answers, before, after = tell(world, Refresh())
    compare(batch, answers, before, after)
    with pytest.raises(Violation, match="table"):
        compare(batch, answers, before, without(after, **wrong))


def test_another_kind_of_answer_is_found(world):
    batch, answers, before, after = tell(world, Relinquish())
    for row in ({"sequence": batch[0].request.sequence}, {"status": Status.HOLD}, {"epoch": 9}):
        with pytest.raises(Violation, match="table"):
            compare(batch, answers, without(before, **row), after)


def test_a_final_message_after_which_something_is_kept_is_found(world):
    batch, answers, before, after = tell(world, Relinquish(is_final=True))
    kept = next(iter(before.field_servers.values())).outstanding
    for row in ({"outstanding": kept}, {"status": Status.ACTIVE}, {"recovering": 5}):
        with pytest.raises(Violation, match="table"):
            compare(batch, answers, before, without(after, **row))


def test_a_guided_seed_is_compared_with_the_table():
    assert [make_plan(seed, steps=1).has_table for seed in range(40)] == [
        theme_of(seed) is not None for seed in range(40)
    ]
