"""The explorer: small worlds hold, its short cuts are sound, and it sees a seeded error."""

from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from tallystick.activation.core import issuing, reading
from tallystick.domain.ids import EntitlementId
from tallystick.protocol.envelope import digest_of, open_envelope
from tallystick.protocol.messages import GRANT, parse_grant
from tallystick.simulator import acts
from tallystick.simulator.dice import Dice
from tallystick.simulator.evidence import Violation
from tallystick.simulator.exhaustive import WORLDS, explore
from tallystick.simulator.halves import Bench, Half
from tallystick.simulator.report import Progress
from tallystick.simulator.store import MemoryStore
from tallystick.simulator.workload import Plan
from tallystick.simulator.world import make_world

pytestmark = pytest.mark.slow

FOUND_MAX = 400  # halves of a world
MERGES_MAX = 120


def visit(name: str, depth: int):
    return explore(WORLDS[name], depth=depth, states_max=None, seconds_max=None, progress=Progress())


@pytest.mark.parametrize(
    ("name", "depth"), [("small", 10), ("standard", 4), ("rollback", 5), ("lost", 4), ("restored", 5)]
)
def test_every_interleaving_up_to_a_depth_holds(name, depth):
    found = visit(name, depth)
    assert found.violation is None
    assert found.depth == depth
    assert found.states > 20


@pytest.mark.parametrize("name", WORLDS)
def test_every_world_begins_and_goes_on(name):
    found = explore(WORLDS[name], depth=None, states_max=100, seconds_max=None, progress=Progress())
    assert found.violation is None
    assert found.states >= 100


def keys_after(bench: Bench, half: Half, available: int) -> set[object]:
    return {bench.key(after) for _, after in bench.steps(half, available)}


@pytest.mark.parametrize("name", WORLDS)
def test_halves_that_are_taken_for_one_have_the_same_future(name):
    """One step of it, for every merge: what comes after merged halves is merged as well, and so on."""
    bench = Bench(WORLDS[name])
    found: dict[object, Half] = {}
    frontier = [bench.start()]
    merges = 0
    while frontier and len(found) < FOUND_MAX and merges < MERGES_MAX:
        half = frontier.pop(0)
        most = bench.world.bought - bench.reserved(half)
        for available in range(most if bench.world.is_alone else 0, most + 1):
            for event, after in bench.steps(half, available):
                known = found.setdefault(bench.key(after), after)
                if known is after:
                    frontier.append(after)
                elif known != after:
                    merges += 1
                    assert bench.reserved(known) == bench.reserved(after)
                    assert bench.held(known) == bench.held(after)
                    left = bench.world.bought - bench.reserved(known)
                    for other in range(left if bench.world.is_alone else 0, left + 1):
                        assert keys_after(bench, known, other) == keys_after(bench, after, other), event
    assert found


def test_it_counts_the_same_states_every_time():
    first, second = visit("small", 8), visit("small", 8)
    assert (first.states, first.transitions, first.halves) == (second.states, second.transitions, second.halves)


def test_limits_end_it():
    found = explore(WORLDS["standard"], depth=None, states_max=200, seconds_max=None, progress=Progress())
    assert found.states >= 200
    assert not found.is_complete


def test_it_sees_rights_that_are_held_and_not_reserved():
    bench = Bench(WORLDS["small"])
    half = _holding(bench)
    bench.check(half)
    with pytest.raises(Violation, match="P1"):
        bench.check(replace(half, tables=bench.start().tables))


def _holding(bench: Bench):
    """A half that holds something, found by walking."""
    frontier = [bench.start()]
    while True:
        half = frontier.pop(0)
        if bench.held(half):
            return half
        frontier += [after for _, after in bench.steps(half, bench.world.bought - bench.reserved(half))]


def test_a_decision_depends_on_the_own_rows_and_on_what_is_available_and_on_nothing_else():
    """What makes a world the product of its halves: with every other row taken away, the same is decided."""
    plan = Plan(seed=1, field_servers=2, lines=(("smartdriver", 2),), kinds=("AS-P", "AS-P"), steps=())
    world = make_world(plan)
    dice = Dice("factors")
    compared = 0
    for _ in range(300):
        copy = dice.pick(world.copies)
        world.ask(copy, acts.make_wish(world, dice))
        for compact in world.gather(copy):
            before = world.activation.store.tables
            (answer,) = world.post(compact.encode())
            if digest_of(compact) not in before.messages:
                compared += _compare(world, before, copy.device.device_id, compact, answer)
            if dice.chance(600):
                world.hand_over(copy, "\n".join(answer.reply).encode())
        world.auditor.check()
    assert compared > 200


def _compare(world, tables, device_id, compact, answer) -> int:
    alone = tables.copy()
    alone.field_servers = {key: value for key, value in tables.field_servers.items() if key == device_id}
    alone.messages = {key: value for key, value in tables.messages.items() if value.device_id == device_id}
    for name in ("sequences", "grants", "holdings"):
        setattr(alone, name, {key: value for key, value in getattr(tables, name).items() if key[0] == device_id})
    alone.entries = {}
    for line_id, line in tables.lines.items():
        mine = alone.holdings.get((device_id, line_id))
        returning = mine.returning if mine else 0
        balances = line.balances
        held = balances.bought - balances.available - returning
        balances = structs.replace(balances, held=held, returning=returning, entries=0, chain="")
        alone.lines[line_id] = structs.replace(line, balances=balances, entitlement_id=EntitlementId("EN-other"))
    activation = world.activation
    message = reading.read_message(open_envelope(compact.encode()), activation.signer.keyset)
    store = MemoryStore(alone)
    (other,) = store.transact(
        lambda tx: issuing.process(
            [message], tx, signer=activation.signer, policy=activation.policy, now=activation.clock.at
        )
    )
    assert (other.outcome, other.code) == (answer.outcome, answer.code)
    assert _grants(world, other) == _grants(world, answer)
    after = world.activation.store.tables
    assert store.tables.field_servers.get(device_id) == after.field_servers.get(device_id)
    for line_id in tables.lines:
        assert store.tables.lines[line_id].balances.available == after.lines[line_id].balances.available
    return 1


def _grants(world, answer):
    found = []
    for compact in answer.reply:
        opened = open_envelope(compact.encode())
        if opened.typ == GRANT:
            found.append(parse_grant(world.activation.signer.keyset.verify(opened)))
    return found
