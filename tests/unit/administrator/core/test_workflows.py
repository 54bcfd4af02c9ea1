"""Every goal, on every route, after every interruption: the same end, and nothing sent that need not be."""

import contextlib
import os
import signal
import threading
import time

import pytest

from tallystick.administrator.core.goals import GoalResult, Return, Sync
from tallystick.administrator.core.next_steps import Phase, step_sentence
from tallystick.administrator.ports import PortError, RouteKind, Stage

DAY = 86_400


@pytest.fixture
def roof(site):
    return site.add("roof")


def test_activate_ends_with_the_licenses_on_the_field_server(site, line, roof):
    report = site.activate(roof, (line, 2))
    assert (report.result, report.code) == (GoalResult.DONE, None)
    assert roof.held == {line.line_id: 2}
    assert site.bench.where(line) == (3, 2, 0, 0)
    assert not roof.state.outbox


def test_a_field_server_without_a_root_gets_the_keys_first(site, line, roof):
    assert roof.state.keyset is None
    site.activate(roof, (line, 1))
    assert roof.state.keyset == site.bench.signer.keyset


def test_activate_again_sends_nothing_and_says_already(site, line, roof):
    site.activate(roof, (line, 2))
    before = roof.state, len(site.bench.store.tables.messages)
    report = site.activate(roof, (line, 2))
    assert report.result is GoalResult.ALREADY
    assert (roof.state, len(site.bench.store.tables.messages)) == before


def test_activate_sets_end_states_it_does_not_add(site, line, roof):
    site.activate(roof, (line, 2))
    site.activate(roof, (line, 3))
    assert roof.held == {line.line_id: 3}
    site.activate(roof, (line, 1))
    assert roof.held == {line.line_id: 1}
    assert site.bench.where(line) == (4, 1, 0, 0)


def test_return_takes_everything_and_proves_it_in_one_run(site, line, roof):
    other = site.bench.buy(1)
    site.know(other)
    site.activate(roof, (line, 2), (other, 1))
    report = site.give_back(roof)
    assert report.result is GoalResult.DONE
    assert roof.held == {}
    assert site.bench.where(line) == (5, 0, 0, 0)
    assert site.bench.where(other) == (1, 0, 0, 0)
    assert site.mailbag.receipts()[0].credits == tuple(sorted([(line.line_id, 2), (other.line_id, 1)]))


def test_what_was_returned_is_activated_elsewhere(site, line, roof):
    cellar = site.add("cellar", "AS-B")
    site.activate(roof, (line, 5))
    assert site.activate(cellar, (line, 5)).code == "not-enough"
    site.give_back(roof)
    assert site.activate(cellar, (line, 5)).result is GoalResult.DONE


def test_return_of_chosen_lines_and_quantities_leaves_the_rest(site, line, roof):
    site.activate(roof, (line, 3))
    report = site.do(Return(wants=((line.line_id, 1),)), roof)
    assert report.result is GoalResult.DONE
    assert roof.held == {line.line_id: 1}
    assert site.do(Return(wants=((line.line_id, 1),)), roof).result is GoalResult.ALREADY


def test_a_return_that_would_raise_is_refused_and_nothing_is_sent(site, line, roof):
    site.activate(roof, (line, 1))
    report = site.do(Return(wants=((line.line_id, 2),)), roof)
    assert (report.result, report.code) == (GoalResult.REFUSED, "return-raises")
    assert not roof.state.outbox


def test_return_again_is_already(site, line, roof):
    site.activate(roof, (line, 1))
    site.give_back(roof)
    assert site.give_back(roof).result is GoalResult.ALREADY


def test_one_carry_gives_up_first_and_is_credited(site, line, roof):
    site.activate(roof, (line, 2))
    report = site.relinquish(roof)
    assert report.result is GoalResult.DONE
    assert roof.state.epoch == 2
    assert site.bench.where(line) == (5, 0, 0, 0)
    assert site.relinquish(roof).result is GoalResult.ALREADY


def test_what_is_scrapped_is_credited_in_one_carry_and_takes_nothing_any_more(site, line, roof):
    site.activate(roof, (line, 2))
    assert site.scrap(roof).result is GoalResult.DONE
    assert site.bench.where(line) == (5, 0, 0, 0)
    again = site.activate(roof, (line, 1))
    assert (again.result, again.code) == (GoalResult.REFUSED, "out-of-service")
    assert site.scrap(roof).result is GoalResult.ALREADY


def test_one_that_holds_nothing_can_be_scrapped(site, line, roof):
    site.activate(roof, (line, 2))
    site.give_back(roof)
    assert site.scrap(roof).result is GoalResult.DONE
    assert roof.state.final


def test_scrapped_without_a_route_is_one_carry(site, line, roof):
    site.activate(roof, (line, 2))
    site.cut.add("activation")
    assert site.scrap(roof).result is GoalResult.CARRY
    assert roof.held == {}
    carry_by_file(site)
    assert site.bench.where(line) == (5, 0, 0, 0)
    assert site.sync(roof).is_finished


def test_one_carry_that_a_license_does_not_allow_is_refused_with_the_next_step(site):
    edge, logs = site.add("edge", "Edge Server"), site.bench.buy(1, "logs")
    site.know(logs)
    site.activate(edge, (logs, 1))
    report = site.relinquish(edge)
    assert (report.result, report.code) == (GoalResult.REFUSED, "one-carry-not-allowed")
    assert "confirmed return" in report.next_step


def test_refresh_brings_what_changed_at_the_activation_server(site, line, roof):
    site.activate(roof, (line, 1))
    site.bench.change_line(line, expires_at=site.now + 400 * DAY)
    assert site.refresh(roof).result is GoalResult.DONE
    assert roof.state.licenses[0].expires_at == site.now + 400 * DAY


def test_a_refusal_names_the_code_the_reason_per_line_and_the_next_step(site, line, roof):
    report = site.activate(roof, (line, 6))
    assert (report.result, report.code) == (GoalResult.REFUSED, "not-enough")
    assert report.reasons[0].line == line.line_id
    assert report.next_step
    assert not roof.state.outbox
    assert site.activate(roof, (line, 5)).result is GoalResult.DONE


# Offline


def test_offline_activation_is_two_carries_by_file(site, line, roof):
    site.cut.add("activation")
    report = site.activate(roof, (line, 2))
    assert (report.result, report.code) == (GoalResult.CARRY, "unreachable")
    assert "export" in report.next_step
    assert [message.purpose for message in site.mailbag.outbound()] == ["activate"]
    carry_by_file(site)
    assert site.sync(roof).result is GoalResult.DONE
    assert roof.held == {line.line_id: 2}


def test_asked_twice_offline_is_one_message(site, line, roof):
    site.cut.add("activation")
    site.activate(roof, (line, 2))
    site.activate(roof, (line, 2))
    assert len(roof.state.outbox) == 1


def test_the_offline_return_and_its_forgotten_confirm(site, line, roof):
    site.activate(roof, (line, 2))
    site.cut.add("activation")
    assert site.give_back(roof).result is GoalResult.CARRY
    assert site.workflows().next_step(roof.id, has_route=False).phase is Phase.ASK
    carry_by_file(site)
    assert site.workflows().next_step(roof.id).phase is Phase.DELIVER
    delivered = site.sync(roof)
    assert delivered.result is GoalResult.CARRY
    assert roof.held == {}
    assert site.bench.where(line) == (3, 0, 2, 0)
    site.now += 3 * DAY
    step = site.workflows().next_step(roof.id, has_route=False)
    assert step.phase is Phase.PROVE
    assert step_sentence(step).startswith(
        "returning since 3 days: carry the confirm to the activation server: tallystick admin"
    )
    again = site.give_back(roof)
    assert (again.result, len(roof.state.outbox)) == (GoalResult.CARRY, 1)
    carry_by_file(site)
    assert site.bench.where(line) == (5, 0, 0, 0)
    assert site.workflows().next_step(roof.id).phase is Phase.RECEIPT
    assert site.sync(roof).is_finished
    assert site.workflows().next_step(roof.id).phase is Phase.IDLE


def test_offline_one_carry_with_a_lost_file_gives_the_same_bytes_again(site, line, roof):
    site.activate(roof, (line, 2))
    site.cut.add("activation")
    assert site.relinquish(roof).result is GoalResult.CARRY
    (first,) = site.mailbag.outbound()
    assert roof.held == {}
    assert "the proof" in site.step_text(roof, has_route=False)
    site.relinquish(roof)
    assert site.mailbag.outbound() == [first]
    carry_by_file(site)
    assert site.bench.where(line) == (5, 0, 0, 0)


def test_an_offline_wish_that_was_replaced_by_another_ends_as_the_last(site, line, roof):
    site.cut.add("activation")
    site.activate(roof, (line, 2))
    site.give_back(roof)
    site.cut.clear()
    assert site.sync(roof).is_finished
    assert roof.held == {}
    assert site.bench.where(line) == (5, 0, 0, 0)


def carry_by_file(site):
    """What a person does with export, the upload box and import."""
    envelopes = [message.compact for message in site.mailbag.outbound()]
    courier = site.workflows().courier
    replies = []
    for compact in envelopes:
        (answer,) = site.bench.post(compact)
        replies += [courier.read_reply(reply) for reply in answer.reply]
    site.mailbag.keep_replies(replies, now=site.now, names=site.inventory.names())


def test_the_mode_can_be_forced(site, line, roof):
    report = site.activate(roof, (line, 1), forced=RouteKind.OFFLINE)
    assert report.result is GoalResult.CARRY
    assert "set to offline" in report.detail
    assert site.calls["activation", "exchange"] == 0


# What goes wrong


def test_an_unreachable_field_server_does_not_stop_the_others(site, line, roof):
    others = [site.add(f"fs{number}") for number in range(4)]
    for server in (roof, *others):
        site.activate(server, (line, 1))
    site.cut.add("fs2")
    reports = site.do(Return(), roof, *others, at_once_max=8)
    assert [report.result for report in reports] == [
        GoalResult.DONE,
        GoalResult.DONE,
        GoalResult.DONE,
        GoalResult.UNREACHABLE,
        GoalResult.DONE,
    ]
    assert reports[3].next_step
    assert site.inventory.field_server(others[2].id).trouble.code == "unreachable"


def test_an_unreachable_field_servers_messages_are_carried_all_the_same(site, line, roof):
    site.activate(roof, (line, 1))
    site.cut.add("activation")
    site.relinquish(roof)
    site.cut = {"roof"}
    assert site.sync(roof).result is GoalResult.UNREACHABLE
    assert site.bench.where(line) == (5, 0, 0, 0)
    assert not site.mailbag.outbound()


@pytest.mark.parametrize(
    "break_at",
    [
        ("roof", "licenses"),
        ("roof", "request"),
        ("roof", "outbox"),
        ("activation", "exchange"),
        ("activation", "exchange answered"),
        ("roof", "inbox"),
        ("roof", "inbox answered"),
    ],
)
def test_a_return_that_breaks_anywhere_is_finished_by_the_next_sync_or_return(site, line, roof, break_at):
    site.activate(roof, (line, 2))
    site.cut = {break_at}
    site.give_back(roof)
    site.cut = set()
    site.sync(roof)
    assert site.give_back(roof).is_finished
    assert roof.held == {}
    assert site.bench.where(line) == (5, 0, 0, 0)
    assert not roof.state.outbox
    assert not site.mailbag.outbound()
    assert not site.mailbag.inbound()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(1, 12))
def test_a_process_that_dies_at_any_call_loses_nothing(site, line, roof, at):
    site.activate(roof, (line, 2))
    left = at

    def die(_who, _what):
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    site.hook = die
    with contextlib.suppress(Killed):
        site.give_back(roof)
    site.hook = lambda _who, _what: None
    site.sync(roof)
    assert site.give_back(roof).is_finished
    assert site.bench.where(line) == (5, 0, 0, 0)


def test_interrupted_visits_are_reported_and_taken_up_again(site, line, roof):
    servers = [roof, *(site.add(f"fs{number}") for number in range(4))]

    def interrupt(_who, what):
        if what == "request":
            raise KeyboardInterrupt

    site.hook = interrupt
    reports = site.do(Return(), *servers)
    assert {report.result for report in reports} <= {GoalResult.INTERRUPTED, GoalResult.ALREADY}
    site.hook = lambda _who, _what: None
    assert all(report.is_finished for report in site.do(Return(), *servers))


def test_ctrl_c_lets_every_visit_end_its_step_and_says_which_were_interrupted(site, line):
    servers = [site.add(f"fs{number}") for number in range(30)]
    for server in servers[:5]:
        site.activate(server, (line, 1))
    pressed = threading.Event()

    def press(_who, what):
        if what == "request" and not pressed.is_set():
            pressed.set()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    site.hook = press
    reports = site.do(Return(), *servers, at_once_max=4)
    assert len(reports) == 30
    assert GoalResult.INTERRUPTED in {report.result for report in reports}
    site.hook = lambda _who, _what: None
    assert all(report.is_finished for report in site.do(Return(), *servers, at_once_max=4))
    assert site.bench.where(line) == (5, 0, 0, 0)


def test_a_field_server_with_a_route_of_its_own_needs_no_file(site, line, roof):
    roof.own_route = {"url": "https://activation.example", "reachable": True, "why": "", "checked_at": 1}
    site.cut.add("activation")
    assert "carries it by itself" in site.activate(roof, (line, 1)).next_step


def test_another_device_at_the_address_is_refused_before_anything_is_asked(site, line, roof):
    stranger = site.add("stranger")
    site.servers[roof.address] = stranger
    report = site.activate(roof, (line, 1))
    assert (report.result, report.code) == (GoalResult.REFUSED, "device-wrong")
    assert not stranger.state.outbox


def test_refusals_of_the_field_server_pass_through_with_their_code(site, roof):
    stranger_to_all = site.bench.buy(1)
    report = site.activate(roof, (stranger_to_all, 1))
    assert (report.result, report.code) == (GoalResult.REFUSED, "no-root")


def test_a_wrong_password_is_kept_as_the_next_step(site, line, roof):
    def lock(who, what):
        if (who, what) == ("roof", "licenses"):
            raise PortError("password-wrong", expected="the password", seen="another")

    site.hook = lock
    report = site.sync(roof)
    assert (report.result, report.code) == (GoalResult.REFUSED, "password-wrong")
    assert site.step_text(roof).startswith("password-wrong")


# After rollbacks, fences and restores


def test_after_a_rollback_the_end_state_is_compared_and_asked_for_again(site, line, roof):
    site.activate(roof, (line, 1))
    old = roof.state
    site.activate(roof, (line, 2))
    site.sync(roof)
    site.give_back(roof)
    roof.state = old
    report = site.activate(roof, (line, 3))
    assert report.result in {GoalResult.DONE, GoalResult.REFUSED}
    assert roof.held == ({line.line_id: 3} if report.result is GoalResult.DONE else roof.held)
    site.bench.check()


def test_a_return_from_an_older_epoch_meets_the_fence_and_is_finished(site, line, roof):
    site.activate(roof, (line, 2))
    old = roof.state
    site.relinquish(roof)
    roof.state = old
    site.now += DAY
    site.give_back(roof)
    site.bench.check()
    assert site.bench.where(line)[0] == 5


def test_declared_lost_and_back_again_the_wish_is_asked_for_until_it_is_reached(site, line, roof):
    from tallystick.activation.core import interventions

    site.activate(roof, (line, 2))
    bench = site.bench
    bench.store.transact(
        lambda tx: interventions.declare_lost(
            tx, bench.signer, roof.id, reason="burnt", by="me", policy=bench.policy, now=site.now
        )
    )
    assert site.activate(roof, (line, 3)).result is GoalResult.DONE
    assert roof.held == {line.line_id: 3}
    assert bench.where(line) == (2, 3, 0, 0)


def test_after_a_restore_the_field_server_repeats_its_grant_and_the_wish_goes_through(site, line, roof):
    from tallystick.activation.core import interventions

    site.activate(roof, (line, 1))
    backup = site.bench.store.tables.copy()
    site.activate(roof, (line, 2))
    site.bench.store.tables = backup
    bench = site.bench
    bench.store.transact(lambda tx: interventions.announce_restore(tx, bench.signer, now=site.now))
    report = site.give_back(roof)
    assert report.result is GoalResult.DONE
    assert roof.held == {}
    assert bench.where(line) == (5, 0, 0, 0)


def test_a_held_field_server_is_reported_with_the_code(site, line, roof):
    from tallystick.activation.core.ports import Status

    site.activate(roof, (line, 1))
    servers = site.bench.store.tables.field_servers
    servers[roof.id] = servers[roof.id].changed(status=Status.HOLD)
    report = site.give_back(roof)
    assert (report.result, report.code) == (GoalResult.REFUSED, "on-hold")


def test_a_return_that_met_a_hold_is_not_done_until_the_hold_is_released(site, line, roof):
    """The field server holds nothing any more, but what it gave up is not credited: that is not "already"."""
    from tallystick.activation.core import interventions
    from tallystick.activation.core.ports import Status

    site.activate(roof, (line, 1))
    bench, servers = site.bench, site.bench.store.tables.field_servers
    servers[roof.id] = servers[roof.id].changed(status=Status.HOLD)
    assert site.relinquish(roof).code == "on-hold"
    assert (roof.held, bench.where(line)) == ({}, (4, 1, 0, 0))
    for again in (site.relinquish, site.give_back):
        report = again(roof)
        assert (report.result, report.code) == (GoalResult.REFUSED, "on-hold")
    bench.store.transact(lambda tx: interventions.release_hold(tx, bench.signer, roof.id, by="me", now=site.now))
    assert site.relinquish(roof).result is GoalResult.DONE
    assert bench.where(line) == (5, 0, 0, 0)


def test_a_grant_that_the_activation_server_started_is_not_open_forever(site, line, roof):
    from tallystick.activation.core import interventions

    site.activate(roof, (line, 2))
    bench = site.bench
    compact = bench.store.transact(
        lambda tx: interventions.start_return(tx, bench.signer, roof.id, by="me", now=site.now, takes_back=True)
    )
    reply = site.workflows().courier.read_reply(compact)
    site.mailbag.keep_replies([reply], now=site.now, names=site.inventory.names())
    assert site.sync(roof).result is GoalResult.DONE
    assert roof.held == {}
    assert bench.where(line) == (5, 0, 0, 0)


# Many at once


def test_at_most_64_are_worked_on_at_once(site, line):
    servers = [site.add(f"fs{number}") for number in range(80)]
    running, most, lock = set(), 0, threading.Lock()

    class Watch:
        def step(self, device_id, stage):
            nonlocal most
            with lock:
                (running.discard if stage is Stage.FINISHED else running.add)(device_id)
                most = max(most, len(running))

    flow = site.workflows(at_once_max=64)
    reports = flow.run({server.id: Sync() for server in servers}, Watch())
    assert len(reports) == 80
    assert most <= 64
    assert [report.name for report in reports] == [server.name for server in servers]


def test_two_runs_at_once_end_as_one(site, line):
    servers = [site.add(f"fs{number}") for number in range(5)]
    for server in servers:
        site.activate(server, (line, 1))
    found = []

    def work():
        found.extend(site.do(Return(), *servers, at_once_max=8))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    site.do(Return(), *servers, at_once_max=8)
    assert all(not server.held and not server.state.outbox for server in servers)
    assert site.bench.where(line) == (5, 0, 0, 0)
