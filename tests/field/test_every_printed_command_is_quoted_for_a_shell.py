"""Row 5: a next step is pasted into a shell. Names, paths and addresses in it come from others."""

import ast
import re
import shlex
from pathlib import Path

import pytest

import tallystick
from tallystick.administrator.core import ways
from tallystick.terminal import arguments, quoted

SOURCES = sorted(Path(tallystick.__file__).parent.rglob("*.py"))
COMMAND = re.compile(r"tallystick (?:admin|activation|fieldserver|simulate|demo)\b")
QUOTING = {"quoted", "arguments"}
NAMES = [
    "Haus 1 Dach",
    "roof; touch pwned",
    "$(touch pwned)",
    "it's",
    "a`b`",
    "-rf",
    "--all",
    "roof\ntouch pwned",
    "Ä&B",
]


def is_quoted(value):
    return isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id in QUOTING


def unquoted_in_f_string(node):
    seen = ""
    for part in node.values:
        if isinstance(part, ast.Constant):
            seen = (seen + str(part.value)).rpartition("\n")[2].rpartition(". ")[2]
        elif COMMAND.search(seen) and not is_quoted(part.value):
            yield ast.unparse(part.value)


def unquoted_in_sentence(call):
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    for text in (one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)):
        command = COMMAND.search(text)
        for place in re.finditer(r"\{(\w+)\}", text) if command else ():
            value = named.get(place[1])
            is_inside = place.start() > command.start() and ". " not in text[command.start() : place.start()]
            if is_inside and value is not None and not is_quoted(value):
                yield f"{place[1]}={ast.unparse(value)}"


def unquoted(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield from (f"line {node.lineno}: {one}" for one in unquoted_in_f_string(node))
        elif isinstance(node, ast.Call):
            yield from (f"line {node.lineno}: {one}" for one in unquoted_in_sentence(node))


# Whole numbers, which need no quotes.
FINE = {"failure.seed", "steps"}


def test_every_value_in_a_command_that_is_printed_goes_through_one_quoting():
    found = [f"{path.name}: {one}" for path in SOURCES for one in unquoted(path.read_text())]
    assert [one for one in found if one.rpartition(": ")[2] not in FINE] == []


@pytest.mark.parametrize(
    "source",
    ['f"Next: tallystick admin activate {name}"', '_("Next: tallystick admin remove {name}", name=record.name)'],
)
def test_the_walk_finds_a_value_that_is_not_quoted(source):
    assert list(unquoted(source))


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_name_as_one_word_and_no_option(name):
    for said in (str(ways.activate(name)), str(ways.remove(name)), f"tallystick admin activate {arguments(name)}"):
        words = shlex.split(said)
        assert words[-1] == name.replace("\n", "\ufffd")
        assert words[-2] == ("--" if name.startswith("-") else words[-2])
        assert len(words) == 4 + name.startswith("-")


def test_a_path_with_a_blank_is_one_word():
    assert (
        shlex.split(f"tallystick activation catalog load x --data {quoted(Path('/srv/my data'))}")[-1] == "/srv/my data"
    )
