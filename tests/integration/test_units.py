"""The units in deploy/systemd keep what a service could do to its machine small, and start what is there."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tallystick import cli

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").glob("*.service"))
EXPOSURE_MAX = 3.0
pytestmark = pytest.mark.debian


def test_each_program_has_one():
    assert [unit.stem for unit in UNITS] == [
        f"tallystick-{name}" for name in ("activation", "administrator", "fieldserver")
    ]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_exposure_is_small(unit):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        check=False,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= EXPOSURE_MAX


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_reads_every_line_of_it_and_tallystick_every_word_that_it_starts(unit, tmp_path):
    text = unit.read_text("utf-8")
    (start,) = re.findall(r"^ExecStart=/opt/tallystick/bin/tallystick (.*)$", text, re.MULTILINE)
    party, command, *options = shlex.split(start)
    known = cli.load(cli.PARTIES[party]).commands[command]
    assert {option for option in options if option.startswith("--")} <= {
        name for one in known.params for name in one.opts
    }
    (tmp_path / unit.name).write_text(text.replace("/opt/tallystick/bin/tallystick", "/usr/bin/true"), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / unit.name], check=False, capture_output=True, text=True
    )
    assert unit.name not in done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_never_runs_as_root_and_writes_only_to_its_state(unit):
    said = dict(line.split("=", 1) for line in unit.read_text("utf-8").splitlines() if "=" in line and line[0] != "#")
    assert said["User"].startswith("tallystick")
    assert said["ProtectSystem"] == "strict"
    assert "ReadWritePaths" not in said
    assert f"/var/lib/{said['StateDirectory']}" in unit.read_text("utf-8")
