"""What is open, since when, and what to do: every phase in words."""

from dataclasses import replace

import pytest

from tallystick.administrator.core.goals import Report
from tallystick.administrator.core.next_steps import (
    Action,
    NextStep,
    Phase,
    age_sentence,
    decide_next_step,
    step_sentence,
)
from tallystick.administrator.core.planning import assign
from tallystick.administrator.memory.inventory import Trouble
from tallystick.sentences import Reader, spoken
from tallystick.structs import decode_kept, encode_kept

DAY = 86_400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "a moment"), (59, "a moment"), (60, "1 minute"), (7_200, "2 hours"), (3 * DAY + 5, "3 days")],
)
def test_ages_are_said_as_people_say_them(seconds, text):
    assert age_sentence(seconds) == text


def test_nothing_to_do_says_nothing(site):
    step = site.workflows().next_step(site.add("roof").id)
    assert (step.phase, step_sentence(step)) == (Phase.IDLE, "")


def test_a_plan_that_differs_is_named_with_the_command(site, line):
    site.add("roof")
    assign(site.inventory, ["smartdriver=2"], site.inventory.field_servers(), now=1)
    step = site.workflows().next_step(site.inventory.field_servers()[0].device_id)
    assert (step.phase, step_sentence(step)) == (
        Phase.PLANNED,
        f"planned {line.line_id}=2: tallystick admin activate roof",
    )


def test_a_request_under_way_says_how_to_carry_it_by_the_route_there_is(site, line):
    roof = site.add("roof")
    site.cut.add("activation")
    site.activate(roof, (line, 1))
    site.now += 2 * DAY
    assert "carry the request to the activation server: tallystick admin sync" in site.step_text(roof, has_route=True)
    offline = site.step_text(roof, has_route=False)
    assert offline.startswith("activate asked for 2 days ago")
    assert "tallystick admin export FILE.tally" in offline
    site.mailbag.note_exported([message.digest for message in site.mailbag.outbound()], now=site.now - DAY)
    assert "exported 1 day ago: upload that file" in site.step_text(roof, has_route=False)


def test_a_wrong_clock_on_the_field_server_does_not_spoil_the_age(site, line):
    roof = site.add("roof")
    site.cut.add("activation")
    now, site.now = site.now, 0
    site.activate(roof, (line, 1))
    site.now = now + DAY
    message = replace(site.mailbag.outbound()[0], gathered_at=now)
    step = decide_next_step(site.inventory.field_server(roof.id), outbound=[message], now=site.now)
    assert step_sentence(step).startswith("activate asked for 1 day ago")


def test_what_was_not_gathered_yet_is_gathered_first(site, line):
    roof = site.add("roof")
    site.activate(roof, (line, 1))
    from tallystick.protocol.device_api import ReturnWish

    roof.request(ReturnWish(all=True))
    site.workflows().look()
    assert "gather the request from the field server: tallystick admin sync" in site.step_text(roof)


def test_a_message_that_cannot_be_read_is_told(site, line):
    roof = site.add("roof")
    site.cut.add("activation")
    site.activate(roof, (line, 1))
    site.mailbag.note_unread(site.mailbag.outbound()[0].digest, code="claims-malformed", detail="x")
    assert "could not read it (claims-malformed)" in site.step_text(roof)


@pytest.mark.parametrize(
    ("code", "phase"),
    [("certificate-changed", Phase.TROUBLE), ("password-wrong", Phase.TROUBLE), ("unreachable", Phase.SILENT)],
)
def test_troubles_are_told_and_being_out_of_reach_comes_last(site, code, phase):
    roof = site.add("roof")
    site.inventory.keep_trouble(roof.id, Trouble(code=code, seen="what was seen", next_step="Do this.", at=1))
    step = site.workflows().next_step(roof.id)
    assert step.phase is phase
    assert ("what was seen" if phase is Phase.SILENT else "Do this.") in step_sentence(step)


def test_standings_of_all_are_those_of_each(site, line):
    servers = [site.add(f"fs{number}") for number in range(3)]
    site.cut.add("activation")
    site.activate(servers[1], (line, 1))
    flow = site.workflows()
    assert flow.standings() == {server.id: flow.next_step(server.id) for server in servers}


PAGE = Reader(is_page=True)


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.NOTHING])
@pytest.mark.parametrize("phase", [Phase.PROVE, Phase.ASK])
def test_every_action_is_worded_as_a_command_for_a_shell_and_as_a_button_for_a_page(action, phase):
    values = {
        "code": "x", "detail": "d", "seen": "s", "next_step": "n", "ends": "e", "name": "roof", "address": "a",
        "age_seconds": DAY, "exported_seconds": DAY, "purpose": "confirm",
    }  # fmt: skip
    text = step_sentence(NextStep(phase=phase, action=action, values=values))
    assert text
    assert "tallystick" not in spoken(text, PAGE)
    assert ("tallystick admin" in spoken(text)) == (spoken(text) != spoken(text, PAGE))


def test_what_a_visit_ended_with_is_kept_as_a_sentence_and_shown_to_each_reader_in_their_words(site, line):
    roof = site.add("roof")
    site.cut.add("activation")
    report = site.activate(roof, (line, 1))
    kept = decode_kept(encode_kept(report), Report)
    assert kept == report
    assert "tallystick admin export" in spoken(kept.next_step)
    assert "“Carry what waits”" in spoken(kept.next_step, PAGE) or "What to carry" in spoken(kept.next_step, PAGE)
    assert "tallystick admin" not in spoken(kept.next_step, PAGE)


def test_a_report_of_an_earlier_release_is_read_as_it_was_kept():
    data = b'{"device_id": "A", "name": "roof", "result": "failed", "next_step": "Do {this}.", "reasons": []}'
    assert spoken(decode_kept(data, Report).next_step) == "Do {this}."
