"""What comes from outside cannot move a cursor: everything that is printed passes through ``tallystick.terminal``."""

import ast
from pathlib import Path

import pytest

import tallystick
from tallystick import terminal

ROOT = Path(tallystick.__file__).parent
# A process that decodes photographs speaks to the one that started it. The simulator is a tool of ours that prints its own numbers, over a line that it rewrites.
FILES = [
    path
    for path in sorted(ROOT.rglob("*.py"))
    if "simulator" not in path.relative_to(ROOT).parts and path.name not in {"terminal.py", "photo_process.py"}
]
PLAIN = {"plain", "plain_lines", "_plain", "_shown", "_moment"}
STREAMS = {"stdout", "stderr"}


def names_in(node):
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def texts_of(call):
    """The parts of what is printed that are not written in the program."""
    for argument in call.args:
        parts = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
        for part in parts:
            value = part.value if isinstance(part, ast.FormattedValue) else part
            if not isinstance(value, ast.Constant):
                yield value


def is_plain(value):
    if isinstance(value, ast.Name):
        return value.id in {"table", "renderable", "said"}  # said: markup around what is plain
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "spoken":
        return is_plain_sentence(value.args[0])
    if isinstance(value, ast.BinOp):
        return is_plain(value.left) and is_plain(value.right)
    if isinstance(value, ast.Constant):
        return True
    return isinstance(value, ast.Call) and (getattr(value.func, "id", "") in PLAIN or is_plain_escape(value))


def is_plain_sentence(value):
    """A sentence of the catalog whose values are plain, or were made plain under these names just above."""
    if isinstance(value, ast.Name):
        return value.id in {"about", "sentence"}
    values = [word.value for word in value.keywords]
    return all(is_plain(one) or getattr(one, "id", "") in {"certificate", "issuer", "moment"} for one in values)


def is_plain_escape(value):
    return getattr(value.func, "id", "") == "escape" and any(is_plain(inner) for inner in value.args)


def prints_of(tree):
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = getattr(function, "id", getattr(function, "attr", ""))
        if name in {"print", "echo", "secho"} and not isinstance(function, ast.Attribute):
            yield node, "print"
        elif name in {"echo", "secho"}:
            yield node, name
        elif name == "write" and STREAMS & {
            part.attr for part in ast.walk(function) if isinstance(part, ast.Attribute)
        }:
            yield node, "write"
        elif name == "print" and isinstance(function, ast.Attribute):
            if not all(is_plain(value) for value in texts_of(node)):
                yield node, "console.print of what is not plain"
        elif name in {"prompt", "confirm"} and isinstance(function, ast.Attribute):
            if not all(is_plain(value) for value in texts_of(node)):
                yield node, "a question with what is not plain"
        elif name in {"add_task", "TextColumn"} and not all(is_safe_cell(value) for value in cells_of(node)):
            yield node, "a bar with what is not plain"
        elif name in {"Panel", "from_markup", "from_ansi", "status", "set_window_title"} and node.args:
            if not all(is_plain(value) for value in texts_of(node)):
                yield node, "a frame with what is not plain"
        elif name == "add_row" and not all(is_safe_cell(value) for value in cells_of(node)):
            yield node, "a table with what is not plain"


def cells_of(call):
    for argument in call.args:
        yield argument.value if isinstance(argument, ast.Starred) else argument


def is_safe_cell(value):
    """Plain, a number, or a moment; a whole row where each cell is."""
    if isinstance(value, ast.Name):
        return value.id == "expires"  # a moment
    if isinstance(value, ast.GeneratorExp):
        return is_safe_cell(value.elt)
    if isinstance(value, ast.Call):
        name = getattr(value.func, "id", "")
        if name == "map":
            return True  # cells that were made plain above, see print_table
        if name == "escape":
            return any(is_safe_cell(inner) for inner in value.args)
        return name in PLAIN | {"str", "_moment"}
    return isinstance(value, ast.Constant)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_printed_past_the_one_function(path):
    tree = ast.parse(path.read_text())
    found = [f"line {node.lineno}: {what}" for node, what in prints_of(tree)]
    assert not found


def test_the_walk_finds_a_sibling():
    tree = ast.parse(
        "print(name)\nsys.stderr.write(name)\nconsole.print(f'{name}')\ntyper.echo(name)\ntable.add_row(name)"
        "\nbars.add_task(escape(name))\nTextColumn(name)\nbars.add_task(escape(plain(name)))"
    )
    assert len(list(prints_of(tree))) == 7


HOSTILE = "roof\x1b[2J\x1b[1;1H\x9b2Kfake\r\u202efingerprint\x07\x00"


def test_nothing_that_moves_a_cursor_is_left(capsys):
    terminal.print_text(HOSTILE)
    terminal.print_text(HOSTILE, error=True)
    terminal.print_as_json({"name": HOSTILE})
    out, err = capsys.readouterr()
    for text in (out, err):
        assert all(symbol.isprintable() or symbol == "\n" for symbol in text)
    import json

    assert json.loads(out[out.index("{") :]) == {"name": HOSTILE}


def test_a_line_from_outside_stays_one_line():
    assert "\n" not in terminal.plain("a\nb")
    assert terminal.plain_lines("a\nb") == "a\nb"
