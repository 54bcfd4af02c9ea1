"""The cells of the decision table: each message has one, guided seeds come to the seldom ones, and a run tells what it missed."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tallystick.fieldserver.state import Activate, ActivationWant, Refresh
from tallystick.simulator import running
from tallystick.simulator.cells import TABLE, UNREACHED, name_of
from tallystick.simulator.cli import app
from tallystick.simulator.workload import THEMES, Plan, make_plan, theme_of
from tallystick.simulator.world import make_world

PAGE = Path(__file__).parents[2] / "docs" / "assurance" / "cells.md"


@pytest.fixture
def world():
    return make_world(Plan(seed=0, field_servers=1, lines=(("smartdriver", 3),), kinds=("AS-P",), steps=()))


def said(world) -> str:
    (copy,) = world.copies
    wants = (ActivationWant(activation_id=world.activation.lines[0].activation_id, quantity=1),)
    return world.ask(copy, Activate(wants=wants)).message.compact


def met(world) -> set[str]:
    return {name_of(cell) for cell in world.activation.cells}


def test_a_message_is_counted_in_its_cell_once(world):
    compact = said(world)
    for _ in range(2):
        world.post(compact.encode())
    assert world.activation.cells.total() == 1
    assert met(world) == {"unknown, shows an activation ID"}


def test_a_later_message_and_one_that_it_overtook(world):
    world.post(said(world).encode())
    late = world.ask(world.copies[0], Refresh()).message.compact
    world.activation.cells.clear()
    world.post(said(world).encode())
    world.post(late.encode())
    assert met(world) == {"active, same epoch, new sequence", "active, same epoch, late sequence"}


def test_what_dies_before_its_commit_was_in_no_cell(world):
    from tallystick.simulator.faults import Fault
    from tallystick.simulator.workload import Act, Step

    step = Step(act=Act.POST, who=0, what=0, salt=1, fault=Fault.COMMIT_LOST)
    world.post(said(world).encode(), step)
    assert not world.activation.cells


def test_every_cell_has_a_name_of_its_own():
    assert len({name_of(cell) for cell in TABLE}) == len(TABLE)


def test_what_cannot_be_reached_is_in_the_table_and_on_the_page_with_its_reason():
    page = PAGE.read_text("utf-8")
    assert set(UNREACHED) <= set(TABLE)
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name_of(cell)}` | {why} |" for cell, why in UNREACHED.items()]


def test_one_seed_in_five_is_guided_and_every_theme_comes():
    themes = [theme_of(seed) for seed in range(200)]
    assert sum(theme is not None for theme in themes) == 40
    assert {theme.leads_to for theme in themes if theme} == {theme.leads_to for theme in THEMES}
    guided = next(seed for seed in range(200) if theme_of(seed))
    assert {step.act for step in make_plan(guided, steps=100).steps} <= set(theme_of(guided).acts)


@pytest.mark.slow
def test_guided_seeds_come_to_cells_that_as_many_others_do_not():
    def reached(seeds):
        return {cell for seed in seeds for cell in running.run_seed(seed, steps=100).cells}

    guided, others = reached(range(2, 102, 5)), reached(range(20))
    assert len({cell for cell in guided - others if "recovering" in cell}) >= 8
    assert not (guided | others) & set(UNREACHED)


def test_a_run_that_misses_a_cell_fails_and_names_it():
    arguments = ["simulate", "--seeds", "2", "--steps", "5", "--workers", "1"]
    runner = CliRunner()
    assert runner.invoke(app, arguments).exit_code == 0
    failed = runner.invoke(app, [*arguments, "--cells", "--every-cell"])
    assert failed.exit_code == 1
    assert "missed, of the cells" in failed.output
    assert "hold, recovering, lower epoch, late sequence" in failed.output
