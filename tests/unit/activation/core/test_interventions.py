"""What people at the activation server do to field servers, and what time does."""

from __future__ import annotations

import pytest

from support.activation import DAY, START, Bench, Device
from tallystick.activation.core import entitlements, interventions, jumps
from tallystick.activation.core.interventions import RefusedError
from tallystick.activation.core.jumps import EPOCH_STEP
from tallystick.activation.core.ports import IncidentKind, Policy, Status
from tallystick.domain.ids import LineId
from tallystick.domain.rules import LINES_MAX, Want
from tallystick.protocol.messages import Grant


@pytest.fixture
def bench() -> Bench:
    return Bench()


def enrolled(bench, device, line, quantity) -> Device:
    _, compact = bench.grant(device.activate((line, quantity)))
    device.take(compact)
    bench.post(device.say("refresh"))
    return device


def change(bench, device, *wants) -> Grant:
    """A grant that a person started."""
    asked = [Want(line_id=line.line_id, quantity=quantity) for line, quantity in wants]
    compact = bench.store.transact(
        lambda tx: interventions.start_change(
            tx, bench.signer, device.id, asked, by="ann", now=bench.now, takes_back=True
        )
    )
    bench.check()
    return bench.read(compact)


def server(bench, device):
    return bench.store.tables.field_servers[device.id]


def code_of(error) -> str:
    return error.value.code


# Changes and returns started here


def test_a_change_started_here_is_a_grant_that_answers_nothing_and_wants_its_proof(bench):
    line = bench.buy(3)
    device = enrolled(bench, Device("a"), line, 1)
    grant = change(bench, device, (line, 3))
    assert (grant.request, grant.confirm, grant.seen) == (None, True, device.sequence)
    assert [item.quantity for item in grant.licenses] == [3]
    assert bench.where(line) == (0, 3, 0, 0)


def test_a_change_needs_no_activation_id_but_everything_else(bench):
    line, logs = bench.buy(3), bench.buy(3, "logs")
    device = enrolled(bench, Device("a"), line, 1)
    with pytest.raises(RefusedError) as error:
        change(bench, device, (line, 4), (logs, 1))
    assert [reason.code for reason in error.value.reasons] == ["not-enough", "kind-mismatch"]
    assert bench.where(line) == (2, 1, 0, 0)


def test_a_product_sold_without_return_can_be_taken_back_by_its_vendor(bench):
    line = bench.buy(3, "fixed")
    device = enrolled(bench, Device("a"), line, 1)
    assert bench.read(bench.start_return(device)).licenses == ()


def test_whoever_is_not_its_vendor_does_not_take_it_back(bench):
    line = bench.buy(3, "fixed")
    device = enrolled(bench, Device("a"), line, 2)
    for wants in (None, [Want(line_id=line.line_id, quantity=1)]):
        with pytest.raises(RefusedError) as error:
            bench.store.transact(
                lambda tx, wants=wants: interventions.start_change(
                    tx, bench.signer, device.id, wants, by="bob", now=bench.now, takes_back=False
                )
            )
        assert code_of(error) == "not-returnable"
    assert bench.where(line) == (1, 2, 0, 0)


@pytest.mark.parametrize("sku", ["fixed", "smartdriver"])
def test_what_replaces_a_dead_one_gives_nothing_back(bench, sku):
    line = bench.buy(9, sku)
    dead, new = enrolled(bench, Device("dead"), line, 2), enrolled(bench, Device("new"), line, 5)
    compact = bench.store.transact(
        lambda tx: interventions.replace_field_server(
            tx, bench.signer, dead.id, with_device=new.id, reason="fire", by="ann", policy=bench.policy, now=bench.now
        )
    )
    assert [license_.quantity for license_ in bench.read(compact).licenses] == [5]


def test_the_same_change_again_is_the_same_envelope_and_another_is_another(bench):
    line = bench.buy(3)
    device = enrolled(bench, Device("a"), line, 1)
    first = change(bench, device, (line, 2))
    bench.now += 500
    assert change(bench, device, (line, 2)) == first
    assert change(bench, device, (line, 3)).number == first.number + 1


def test_a_change_never_makes_a_grant_that_no_field_server_can_read(bench):
    lines = [bench.buy(1) for _ in range(LINES_MAX + 1)]
    device = enrolled(bench, Device("a"), lines[0], 1)
    with pytest.raises(RefusedError) as error:
        change(bench, device, *[(line, 1) for line in lines])
    assert code_of(error) == "too-many-lines"
    assert len(change(bench, device, *[(line, 1) for line in lines[:-1]]).licenses) == LINES_MAX


def test_a_change_brings_no_licenses_of_another_account(bench):
    ours, theirs = bench.buy(1), bench.buy(1, account="other")
    device = enrolled(bench, Device("a"), ours, 1)
    with pytest.raises(RefusedError) as error:
        change(bench, device, (theirs, 1))
    assert code_of(error) == "account-differs"


def test_a_field_server_gets_its_account_with_the_first_license_that_a_change_brings(bench):
    line = bench.buy(1)
    device = Device("a")
    bench.store.transact(
        lambda tx: entitlements.list_field_server(tx, bench.signer, device.id, account=None, now=bench.now)
    )
    bench.grant(device.say("refresh"))
    assert server(bench, device).account is None
    change(bench, device, (line, 1))
    assert server(bench, device).account == "acme"


def test_an_unknown_line_is_refused_with_its_name(bench):
    line = bench.buy(1)
    device = enrolled(bench, Device("a"), line, 1)
    with pytest.raises(RefusedError) as error:
        bench.store.transact(
            lambda tx: interventions.start_change(
                tx,
                bench.signer,
                device.id,
                [Want(line_id=LineId("00000000"), quantity=1)],
                by="ann",
                now=bench.now,
                takes_back=True,
            )
        )
    assert error.value.reasons[0].line == "00000000"


def test_nothing_is_started_on_one_that_is_unknown_on_hold_or_lost(bench):
    line = bench.buy(9)
    held, lost = enrolled(bench, Device("a"), line, 1), enrolled(bench, Device("b"), line, 1)
    copy = held.copy()
    bench.post(held.say("refresh"))
    bench.refused(copy.activate((line, 2)))
    bench.declare_lost(lost)
    for device, code in ((held, "on-hold"), (lost, "lost-already"), (Device("c"), "not-found")):
        with pytest.raises(RefusedError) as error:
            bench.start_return(device)
        assert code_of(error) == code


# Declared lost


def test_a_declaration_raises_the_epoch_and_says_until_when(bench):
    device = enrolled(bench, Device("a"), bench.buy(1), 1)
    bench.declare_lost(device)
    found = server(bench, device)
    assert (found.status, found.epoch, found.lost_until) == (Status.LOST, EPOCH_STEP, START + 14 * DAY)


def test_what_was_returning_goes_into_quarantine_too(bench):
    line = bench.buy(3)
    device = enrolled(bench, Device("a"), line, 3)
    bench.grant(device.give_back((line, 1)))
    bench.declare_lost(device)
    assert bench.where(line) == (0, 0, 0, 3)


def test_one_can_be_declared_lost_only_while_in_service(bench):
    device = enrolled(bench, Device("a"), bench.buy(1), 1)
    bench.declare_lost(device)
    with pytest.raises(RefusedError) as error:
        bench.declare_lost(device)
    assert code_of(error) == "lost-already"
    bench.now += 14 * DAY
    bench.settle()
    with pytest.raises(RefusedError) as error:
        bench.declare_lost(device)
    assert code_of(error) == "lost-already"
    with pytest.raises(RefusedError) as error:
        bench.declare_lost(Device("b"))
    assert code_of(error) == "not-found"


def lost(bench, line, name) -> Device:
    device = enrolled(bench, Device(name), line, 1)
    bench.declare_lost(device)
    return device


def test_only_so_many_a_year_per_account_and_an_override_leaves_its_name(bench):
    line = bench.buy(9)
    for name in "abc":
        lost(bench, line, name)
    device = enrolled(bench, Device("d"), line, 1)
    with pytest.raises(RefusedError) as error:
        bench.declare_lost(device)
    assert code_of(error) == "lost-too-often"
    bench.declare_lost(device, override_by="the boss")
    assert [item.override_by for item in bench.store.tables.declarations.values()] == [None, None, None, "the boss"]
    assert {item.reason for item in bench.store.tables.declarations.values()} == {"burnt"}


def test_another_account_has_its_own_limit(bench):
    line, other = bench.buy(9), bench.buy(9, account="other")
    for name in "abc":
        lost(bench, line, name)
    lost(bench, other, "d")


def test_after_a_year_there_is_room_again(bench):
    line = bench.buy(9)
    for name in "abc":
        lost(bench, line, name)
    device = enrolled(bench, Device("d"), line, 1)
    bench.now += 365 * DAY
    with pytest.raises(RefusedError):
        bench.declare_lost(device)
    bench.now += 1
    bench.declare_lost(device)


def test_one_that_was_undone_does_not_count(bench):
    bench.policy = Policy(lost_per_year=1)
    line = bench.buy(9)
    device = lost(bench, line, "a")
    bench.grant(device.say("refresh"))
    lost(bench, line, "b")


# Time


def test_only_waiting_periods_that_are_over_are_settled(bench):
    line = bench.buy(2)
    early = lost(bench, line, "a")
    bench.now += DAY
    late = lost(bench, line, "b")
    bench.now = START + 14 * DAY
    bench.settle()
    assert (server(bench, early).status, server(bench, late).status) == (Status.RETIRED, Status.LOST)
    assert bench.where(line) == (1, 0, 0, 1)
    bench.settle()
    assert bench.where(line) == (1, 0, 0, 1)


def test_the_waiting_period_is_that_of_the_policy(bench):
    bench.policy = Policy(waiting_days=1)
    line = bench.buy(1)
    lost(bench, line, "a")
    bench.now += DAY
    bench.settle()
    assert bench.where(line) == (1, 0, 0, 0)


# Retired


def test_one_that_a_person_retired_is_back_without_an_accusation(bench):
    """It was never declared lost; only one that was may be in use elsewhere."""
    line = bench.buy(2)
    device = enrolled(bench, Device("a"), line, 1)
    bench.store.transact(lambda tx: interventions.hold(tx, bench.signer, device.id, by="ann", now=bench.now))
    bench.release(device)  # the epoch rises
    bench.post(device.copy().relinquish())
    bench.store.transact(lambda tx: interventions.retire(tx, bench.signer, device.id, by="ann", now=bench.now))
    grant, _ = bench.grant(device.say("refresh"))
    assert (grant.licenses, grant.confirm) == ((), True)
    assert server(bench, device).status is Status.ACTIVE
    assert [incident.kind for incident in bench.store.tables.incidents if incident.kind == "reappeared"] == []


def test_one_that_holds_something_is_not_retired_and_one_on_hold_neither(bench):
    device = enrolled(bench, Device("a"), bench.buy(2), 1)
    for code, prepare in (
        ("holds-licenses", lambda: None),
        (
            "not-in-service",
            lambda: bench.store.transact(
                lambda tx: interventions.hold(tx, bench.signer, device.id, by="ann", now=bench.now)
            ),
        ),
    ):
        prepare()
        with pytest.raises(RefusedError) as error:
            bench.store.transact(lambda tx: interventions.retire(tx, bench.signer, device.id, by="ann", now=bench.now))
        assert code_of(error) == code


# Holds


def test_only_a_hold_can_be_released(bench):
    device = enrolled(bench, Device("a"), bench.buy(1), 1)
    with pytest.raises(RefusedError) as error:
        bench.release(device)
    assert code_of(error) == "not-on-hold"


def test_a_released_one_gets_an_epoch_above_any_that_a_copy_spoke_in(bench):
    """Else a copy that had relinquished in between could speak again as if nothing had happened."""
    line = bench.buy(2)
    device = enrolled(bench, Device("a"), line, 1)
    copy = device.copy()
    bench.post(device.say("refresh"))
    bench.refused(copy.activate((line, 2)))
    for _ in range(3):
        assert bench.refused(copy.relinquish()).code == "on-hold"
    bench.release(device)
    assert server(bench, device).epoch > copy.epoch + 100
    grant, _ = bench.grant(copy.say("refresh"))
    assert (grant.epoch, grant.confirm) == (server(bench, device).epoch, True)


def test_while_on_hold_nothing_moves(bench):
    line = bench.buy(3)
    device = enrolled(bench, Device("a"), line, 2)
    copy = device.copy()
    bench.post(device.say("refresh"))
    bench.refused(copy.activate((line, 3)))
    before = bench.where(line)
    bench.refused(device.relinquish())
    bench.refused(copy.give_back())
    assert bench.where(line) == before == (1, 2, 0, 0)


# Restored from a backup


def restore(bench) -> tuple[int, int]:
    found = bench.store.transact(lambda tx: interventions.announce_restore(tx, bench.signer, now=bench.now))
    bench.check()
    return found


def hear(bench, device) -> None:
    """It is told that the activation server was restored; what it says from now on is fresh."""
    refusal = bench.refused(device.say("refresh"))
    assert refusal.code == "restored"
    device.sequence = refusal.seen


def lift(bench, *lines) -> int:
    chosen = [line.line_id for line in lines] or None
    return bench.store.transact(lambda tx: interventions.lift_freeze(tx, bench.signer, chosen, now=bench.now))


def test_a_restore_freezes_growth_on_every_line_and_jumps_every_number(bench):
    one, two = bench.buy(5), bench.buy(5)
    device = enrolled(bench, Device("a"), one, 1)
    number = server(bench, device).number
    assert restore(bench) == (2, 1)
    assert server(bench, device).number >= number + jumps.NUMBER_JUMP
    hear(bench, device)
    grant, compact = bench.grant(device.activate((two, 1)))
    assert [item.line for item in grant.licenses] == [one.line_id]
    device.take(compact)
    assert bench.refused(device.activate((two, 1))).code == "line-frozen"


def test_after_a_restore_everything_is_answered_by_a_fence_until_a_jumped_grant_is_proven(bench):
    line = bench.buy(5)
    device = enrolled(bench, Device("a"), line, 2)
    restore(bench)
    lift(bench)
    hear(bench, device)
    for message in (device.activate((line, 4)), device.give_back(), device.say("refresh"), device.say("confirm")):
        grant, compact = bench.grant(message)
        assert ([item.quantity for item in grant.licenses], grant.confirm) == ([2], True)
    assert bench.where(line) == (3, 2, 0, 0)
    device.take(compact)
    grant, _ = bench.grant(device.activate((line, 4)))
    assert [item.quantity for item in grant.licenses] == [4]


def test_a_grant_of_the_forgotten_time_cannot_prove_anything_after_the_jump(bench):
    """It was given out after the backup; a field server that applied it is heard as such, and nothing is credited."""
    line = bench.buy(5)
    device = enrolled(bench, Device("a"), line, 4)
    backup = bench.store.tables.copy()
    _, forgotten = bench.grant(device.give_back((line, 1)))
    bench.store.tables = backup
    restore(bench)
    hear(bench, device)
    device.take(forgotten)
    assert bench.refused(device.say("confirm")).code == "grant-unknown"
    assert bench.where(line) == (1, 4, 0, 0)
    grant, compact = bench.grant(device.say("refresh", grant=device.applied_grant))
    assert [item.quantity for item in grant.licenses] == [1]
    assert IncidentKind.GRANT_ADOPTED in bench.incidents()
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (4, 1, 0, 0)


def test_returns_still_work_while_lines_are_frozen(bench):
    line = bench.buy(5)
    device = enrolled(bench, Device("a"), line, 2)
    restore(bench)
    hear(bench, device)
    _, compact = bench.grant(device.say("refresh"))
    device.take(compact)
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (5, 0, 0, 0)


def test_the_freeze_is_lifted_line_by_line_or_altogether(bench):
    one, two, three = bench.buy(1), bench.buy(1), bench.buy(1)
    restore(bench)
    lines = bench.store.tables.lines
    assert lift(bench, one) == 1
    assert [lines[line.line_id].frozen for line in (one, two, three)] == [True] * 3
    assert [bench.store.tables.lines[line.line_id].frozen for line in (one, two, three)] == [False, True, True]
    assert lift(bench) == 2
    assert lift(bench) == 0


def test_one_listed_beforehand_is_not_waited_for_and_is_heard_afresh_all_the_same(bench):
    """It may have been enrolled after the backup, and what it was granted then may still be on its way."""
    from tallystick.activation.core.ports import FieldServer

    line = bench.buy(1)
    device = Device("a")
    bench.store.tables.field_servers[device.id] = FieldServer(device_id=device.id, public_key="", status=Status.LISTED)
    assert restore(bench) == (1, 0)
    hear(bench, device)
    grant, _ = bench.grant(device.activate((line, 1)))
    assert (grant.licenses, grant.confirm) == ((), True)


def test_a_message_from_before_the_restore_does_not_bring_back_what_was_returned_since(bench):
    """Found by simulation: the fence gave it back, while another field server held it already."""
    line = bench.buy(2)
    device, other = Device("a"), Device("b")
    enrolled(bench, device, line, 2)
    delayed = device.say("refresh")
    backup = bench.store.tables.copy()
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))
    bench.grant(other.activate((line, 2)))
    bench.store.tables = backup
    restore(bench)
    assert bench.refused(delayed).code == "restored"
    hear(bench, device)
    bench.refused(device.say("refresh"))
    grant, _ = bench.grant(device.say("refresh", grant=device.applied_grant))
    assert grant.licenses == ()


def test_one_enrolled_after_the_backup_does_not_start_with_low_numbers_again(bench):
    """Found by simulation: a forgotten grant with a number above the new ones raised what nobody had reserved."""
    line = bench.buy(5)
    device = Device("a")
    backup = bench.store.tables.copy()
    first = device.activate((line, 5))
    _, forgotten = bench.grant(first)
    bench.store.tables = backup
    restore(bench)
    assert bench.refused(first).code == "restored"
    device.sequence = server(bench, device).sequence
    fence, _ = bench.grant(device.say("refresh"))
    assert fence.licenses == ()
    assert fence.number > bench.read(forgotten).number


def test_a_grant_that_is_adopted_does_not_forget_a_fence_on_its_way(bench):
    """Found by simulation (seed 998 of 150 steps)."""
    line = bench.buy(1)
    device = enrolled(bench, Device("a"), line, 1)
    backup = bench.store.tables.copy()
    _, forgotten = bench.grant(device.give_back())
    bench.store.tables = backup
    restore(bench)
    hear(bench, device)
    _, fence = bench.grant(device.say("refresh"))
    device.take(forgotten)
    bench.refused(device.say("confirm"))
    bench.grant(device.say("refresh", grant=device.applied_grant))
    assert bench.where(line) == (0, 0, 1, 0)
    device.take(fence)
    bench.credit(device.say("confirm"))
    assert bench.where(line) == (0, 0, 1, 0)


def test_nothing_is_started_on_a_field_server_that_was_not_heard_from_since_the_restore(bench):
    line = bench.buy(2)
    device = enrolled(bench, Device("a"), line, 2)
    restore(bench)
    with pytest.raises(RefusedError) as error:
        bench.start_return(device)
    assert error.value.code == "restored"


def test_one_declared_lost_after_the_restore_gets_what_it_holds_not_what_the_backup_says(bench):
    line = bench.buy(2)
    device = enrolled(bench, Device("a"), line, 2)
    backup = bench.store.tables.copy()
    _, compact = bench.grant(device.give_back())
    device.take(compact)
    bench.credit(device.say("confirm"))
    bench.store.tables = backup
    restore(bench)
    bench.declare_lost(device)
    hear(bench, device)
    assert bench.refused(device.say("refresh")).code == "grant-unknown"
    grant, _ = bench.grant(device.say("refresh", grant=device.applied_grant))
    assert (grant.epoch, grant.licenses) == (server(bench, device).epoch, ())
