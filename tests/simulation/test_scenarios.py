"""Stories that are told by hand, in the simulator's worlds: the auditor listens to each of them."""

from __future__ import annotations

import pytest

from tallystick.activation.core.ports import MessageOutcome
from tallystick.fieldserver.state import Activate, ActivationWant, Refresh, Relinquish, Return
from tallystick.simulator import acts, healing
from tallystick.simulator.faults import Fault
from tallystick.simulator.workload import Act, Plan, Step
from tallystick.simulator.world import World, make_world


@pytest.fixture
def world() -> World:
    return make_world(Plan(seed=0, field_servers=2, lines=(("smartdriver", 3),), kinds=("AS-P", "AS-P"), steps=()))


def wanting(world, quantity) -> Activate:
    activation_id = world.activation.lines[0].activation_id
    return Activate(wants=(ActivationWant(activation_id=activation_id, quantity=quantity),))


def activated(world, copy, quantity) -> None:
    world.ask(copy, wanting(world, quantity))
    while healing.exchange(world, copy):
        pass


def struck(fault, call=0) -> Step:
    return Step(act=Act.WISH, who=0, what=0, salt=1, fault=fault, call=call)


def where(world) -> dict[str, int]:
    (line,) = world.auditor.lines.values()
    return line.totals


def held(copy) -> int:
    return sum(license_.quantity for license_ in copy.look().licenses)


def test_a_reply_that_is_lost_with_the_activation_server_comes_again_byte_for_byte(world):
    copy = world.copies[0]
    message = world.ask(copy, wanting(world, 2)).message.compact
    assert world.post(message.encode(), struck(Fault.REPLY_LOST)) == []
    assert where(world)["held"] == 2
    first, second = world.post(message.encode()), world.post(message.encode())
    assert first == second
    healing.heal(world)


def test_a_commit_that_is_lost_was_nothing(world):
    copy = world.copies[0]
    message = world.ask(copy, wanting(world, 2)).message.compact
    assert world.post(message.encode(), struck(Fault.COMMIT_LOST)) == []
    assert where(world)["available"] == 3
    assert world.post(message.encode())[0].outcome is MessageOutcome.GRANTED


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.POWER_CUT, Fault.DISK_FULL, Fault.DISK_ERROR])
@pytest.mark.parametrize("call", range(10))
def test_wherever_the_disk_fails_while_a_return_is_applied_nothing_is_lost(world, fault, call):
    copy = world.copies[0]
    activated(world, copy, 2)
    world.ask(copy, Return(wants=None))
    replies = [reply for answer in world.post("\n".join(world.gather(copy)).encode()) for reply in answer.reply]
    world.hand_over(copy, "\n".join(replies).encode(), struck(fault, call))
    assert held(copy) in {0, 2}
    world.auditor.check()
    healing.heal(world)
    assert where(world)["available"] == 3


def test_a_confirm_that_never_arrives_keeps_the_rights_reserved(world):
    one, two = world.copies
    activated(world, one, 3)
    world.ask(one, Return(wants=None))
    (answer,) = world.post(world.gather(one)[-1].encode())
    world.hand_over(one, "\n".join(answer.reply).encode())
    assert (held(one), where(world)["returning"]) == (0, 3)
    refused = world.post(world.ask(two, wanting(world, 1)).message.compact.encode())
    assert refused[0].code == "not-enough"
    while healing.exchange(world, one):
        pass
    assert where(world)["available"] == 3


def test_a_relinquish_that_is_lost_is_healed_by_whatever_comes_next(world):
    copy = world.copies[0]
    activated(world, copy, 3)
    world.ask(copy, Relinquish())
    message = world.ask(copy, Refresh()).message.compact
    world.post(message.encode())
    assert where(world)["available"] == 3


def test_a_disk_that_is_put_back_is_named_at_the_next_contact(world):
    copy = world.copies[0]
    activated(world, copy, 3)
    snapshot = dict(copy.disk.durable)
    world.ask(copy, Return(wants=None))
    while healing.exchange(world, copy):
        pass
    acts.put_back(world, copy, snapshot)
    assert held(copy) == 3
    healing.heal(world)
    assert world.auditor.incidents[copy.device.device_id]
    assert held(copy) == 0


def test_two_copies_of_one_field_server_are_named_and_stopped(world):
    copy = world.copies[0]
    activated(world, copy, 2)
    clone = copy.clone("fs0-copy")
    world.copies.append(clone)
    world.tell_state(clone)
    world.auditor.cloned(clone.name)
    healing.heal(world)
    assert world.auditor.incidents[copy.device.device_id][0] in {"fork", "rollback"}


def test_one_that_is_declared_lost_and_comes_back_keeps_what_it_has(world):
    copy = world.copies[0]
    activated(world, copy, 2)
    acts.declare_lost(world, copy.device.device_id, None, override_by=None)
    assert where(world)["quarantined"] == 2
    world.auditor.check()
    world.ask(copy, Refresh())
    while healing.exchange(world, copy):
        pass
    assert (held(copy), where(world)["held"], where(world)["quarantined"]) == (2, 2, 0)


def test_after_a_restore_nothing_that_was_returned_comes_back(world):
    one, two = world.copies
    activated(world, one, 3)
    delayed = world.ask(one, Refresh()).message.compact
    world.backup()
    world.ask(one, Return(wants=None))
    while healing.exchange(world, one):
        pass
    activated(world, two, 3)
    acts.perform(world, Step(act=Act.RESTORE, who=0, what=0, salt=0))
    (answer,) = world.post(delayed.encode())
    assert answer.code == "restored"
    world.auditor.check()
    healing.heal(world)
