"""Row 18: with ``--json`` a refusal is one JSON problem on standard output, of every command."""

import json
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tallystick import cli

# A check that is not licensed is an answer and no refusal; `run` becomes another process, see below.
ANSWERS_OTHERWISE = {("fieldserver", "check"), ("fieldserver", "run")}
PARTIES = ("activation", "fieldserver", "admin")


def commands(command, *words):
    if not hasattr(command, "commands"):
        if any("--json" in parameter.opts for parameter in command.params) and words not in ANSWERS_OTHERWISE:
            yield words, command
        return
    for name, one in command.commands.items():
        yield from commands(one, *words, name)


EVERY = [found for party in PARTIES for found in commands(cli.load(cli.PARTIES[party]), party)]
CHOSEN = {"role": "installer"}
ids = [" ".join(words) for words, _ in EVERY]


def problem(done):
    assert done.exit_code != 0, done.output
    document = json.loads(done.stdout)
    assert {"type", "title", "status", "code", "expected", "seen", "next_step", "detail"} <= document.keys()
    assert document["next_step"]
    assert done.stderr.strip()
    return document


def junk(command, nowhere):
    """What a command needs, of the right form and of nothing that exists."""
    for parameter in command.params:
        if parameter.name == "data":
            yield from ("--data", str(nowhere))
        elif parameter.required:
            value = CHOSEN.get(parameter.name, "1")
            yield from (value,) if parameter.param_type_name == "argument" else (parameter.opts[0], value)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TALLYSTICK_HOME", str(tmp_path / "file" / "home"))
    return tmp_path / "file" / "none"


@pytest.mark.parametrize(("words", "command"), EVERY, ids=ids)
def test_a_refusal_is_a_problem_on_standard_output(words, command, nowhere):
    problem(CliRunner().invoke(cli.app, [*words, *junk(command, nowhere), "--json"]))


@pytest.mark.parametrize(("words", "command"), EVERY, ids=ids)
def test_wrong_usage_is_a_problem_on_standard_output(words, command):
    assert problem(CliRunner().invoke(cli.app, [*words, "--no-such-option", "--json"]))["code"] == "usage"


def test_what_the_case_named_is_a_problem_with_its_own_next_step(tmp_path, monkeypatch):
    monkeypatch.setenv("TALLYSTICK_HOME", str(tmp_path))
    for words in (("entitlement", "add", "EN-WRONG"), ("activate", "roof"), ("servers-of", "x")):
        assert problem(CliRunner().invoke(cli.app, ["admin", *words, "--json"]))["code"]


def test_the_agent_that_cannot_run_says_so_too(tmp_path):
    words = ["-m", "tallystick", "fieldserver", "run", "--data", str(tmp_path / "none"), "--json"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=300, check=False)
    assert json.loads(done.stdout)["code"] == "not-initialised"
    assert done.returncode == 1


def test_every_party_is_walked():
    assert get_command(cli.app) is not None
    assert len(EVERY) > 60
