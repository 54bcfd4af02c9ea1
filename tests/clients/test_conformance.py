"""The conformance kit: our own agent keeps every rule, and one that was made wrong on purpose is found by the rule that it breaks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tallystick
from support import wrong_agents
from support.engines import EngineFieldServer
from support.fieldserver import processes
from tallystick.conformance import client, rules, vectors
from tallystick.conformance.playing import Play, seeded
from tallystick.conformance.rules import RULES

CHECKOUT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tallystick", "conformance"]
PAGE = CHECKOUT / "docs" / "protocol" / "conformance.md"


def test_the_vectors_are_what_the_tool_writes():
    subprocess.run([sys.executable, CHECKOUT / "tools" / "vectors.py", "--check"], check=True)


def test_every_step_of_the_page_has_vectors_and_every_code():
    steps = {vector.step for vector in vectors.load()}
    assert steps == set(range(1, 17))
    codes = {vector.result for vector in vectors.load()}
    page = (CHECKOUT / "docs" / "protocol" / "checks.md").read_text("utf-8")
    table = page[page.index("## How a program decides") : page.index("The **moment**")]
    assert codes == set(
        re.findall(r"`([a-z]+(?:-[a-z]+)*)`", "".join(re.findall(r"\|([^|]*)\|$", table, re.MULTILINE)))
    )


def test_the_page_names_every_rule_of_a_field_server():
    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [name for name in named if name in {rule.name for rule in RULES}] == [rule.name for rule in RULES]


def test_the_rules_are_kept_by_the_engine():
    play = Play(EngineFieldServer(now=wrong_agents.NOW), now=wrong_agents.NOW)
    rules.begin(play)
    assert {outcome.rule.name: outcome.broken for outcome in rules.run(play) if outcome.broken} == {}


@pytest.mark.slow
def test_each_rule_finds_the_agent_that_was_made_wrong_for_it():
    paths = os.pathsep.join([str(Path(tallystick.__file__).parents[1]), str(CHECKOUT / "tests")])
    done = subprocess.run(
        [sys.executable, wrong_agents.__file__, Path(tallystick.__file__).parents[1]],
        env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert found.pop("") == {}, "the one without a mistake"
    assert sorted(found) == sorted(rule.name for rule in RULES), "each rule has its mistake"
    assert {name: seen for name, seen in found.items() if name not in seen} == {}


def make(directory: Path) -> processes.FieldServer:
    keys = directory / "kit.tally"
    keys.write_bytes(subprocess.run([*COMMAND, "keys"], capture_output=True, check=True).stdout)
    return processes.FieldServer(directory / "data", trust=("--keys", keys))


@pytest.mark.slow
def test_our_agent_keeps_every_rule_over_its_api(tmp_path):
    field_server = make(tmp_path).start()
    try:
        options = [
            "--url",
            field_server.url,
            "--certificate",
            field_server.directory / "tls.pem",
            "--password-file",
            field_server.made["password_file"],
        ]
        done = subprocess.run([*COMMAND, "fieldserver", *options], capture_output=True, text=True, check=False)
    finally:
        field_server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"{len(RULES)} passed, 0 failed\n")


@pytest.mark.slow
def test_our_agent_keeps_rules_by_files(tmp_path):
    field_server = make(tmp_path)
    carrier = CHECKOUT / "tests" / "clients" / "carry.py"
    program = [sys.executable, carrier, field_server.directory]
    some = [
        "confirm-is-written",
        "other-root-is-not-taken",
        "final-takes-nothing",
    ]  # a second for each file that is carried
    options = [word for name in some for word in ("--rule", name)]
    done = subprocess.run(
        [*COMMAND, "fieldserver", "--json", *options, "--", *program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == {"rules": len(some), "broken": {}}


def test_a_broken_rule_is_told_and_the_exit_code_says_so(tmp_path):
    """A field server that swallows everything, as a program."""
    done = subprocess.run([*COMMAND, "fieldserver", "--", "/bin/false"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "/bin/false deliver to succeed" in done.stderr
    done = subprocess.run(
        [*COMMAND, "fieldserver", "--url", "https://localhost"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2


def test_a_reader_that_always_says_licensed_fails_all_other_vectors(tmp_path):
    yes = [sys.executable, "-uc", "import sys\nfor line in sys.stdin: print('licensed 10 -')"]
    outcomes = list(client.run(yes, vectors.load(), "json"))
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    assert len(outcomes) == len(vectors.load())
    assert {one.vector.result for one in outcomes if one not in wrong} == {"licensed"}
    done = subprocess.run([*COMMAND, "client", "--json", "--", *yes], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = json.loads(done.stdout)["wrong"]
    assert told["other-issuer"] == "expected other-issuer, saw licensed"
    assert len(told) == len(wrong)
    done = subprocess.run([*COMMAND, "client", "--", *yes], capture_output=True, text=True, check=False)
    assert f"... and {len(wrong) - 50} more, which --json names" in done.stdout


def test_a_reader_that_dies_fails_and_ends_nothing(tmp_path):
    dead = [sys.executable, "-c", "pass"]
    outcomes = list(client.run(dead, vectors.load()[:3], "fields"))
    assert [outcome.wrong for outcome in outcomes] == ["the program gave no answer"] * 3


def test_keys_of_the_kit_are_the_same_every_time():
    assert seeded("root").public.thumbprint == Play(EngineFieldServer(now=0), now=0).root.public.thumbprint
    assert seeded("root").public.thumbprint in PAGE.read_text("utf-8")
