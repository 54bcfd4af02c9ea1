"""What people read is marked for the catalog: a lint over the code, which finds what somebody forgets tomorrow."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tallystick

SOURCE = Path(tallystick.__file__).parent
FILES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if not path.relative_to(SOURCE).as_posix().startswith(("simulator/", "activation/storage/migrations/"))
]
# A keyword of any call that is a sentence, and positions of functions that take one.
KEYWORDS = {"expected", "seen", "next_step", "empty"}
POSITIONS = {
    "not_found": (0,),
    "refuse": (1, 2),
    "say": (0,),
    "show_text": (0,),
    "show_note": (0,),
    "_unreachable": (1,),
    "echo": (0,),
    "show_result": (1, 2, 3),
    "print_table": (0,),
    "show_table": (0,),
}
# For developers, for the wire in English, and the table whose rows are marked by standing in it.
NOT_FOR_PEOPLE = {"InvariantError", "LineReason", "_row"}


def texts(node):
    """Literal texts with words that are reached without a call between."""
    match node:
        case ast.Constant(value=str() as value) if re.search(r"[A-Za-z]{2}", value):
            yield value
        case ast.JoinedStr(values=values):
            words = "".join(part.value for part in values if isinstance(part, ast.Constant))
            if re.search(r"[A-Za-z]{2}", words):
                yield words
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)
        case ast.BoolOp(values=values):
            for value in values:
                yield from texts(value)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):  # the heads of a table
            for part in parts:
                yield from texts(part)
        case ast.BinOp(left=left, right=right):
            yield from texts(left)
            yield from texts(right)


def unmarked(source):
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in NOT_FOR_PEOPLE:
            continue
        said = [keyword.value for keyword in node.keywords if keyword.arg in KEYWORDS]
        said += [node.args[place] for place in POSITIONS.get(name, ()) if place < len(node.args)]
        for value in said:
            yield from ((node.lineno, text) for text in texts(value))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_sentence_that_a_call_takes_is_marked(path):
    assert list(unmarked(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        'raise Error("a", expected="an apple", seen=seen)',
        'raise Error("a", expected=f"an {x}", seen=seen)',
        'raise Error("a", expected=x, seen=y or "none")',
        'say("Done.")',
        'console.say("a" if b else _("c d"))'.replace('"a"', '"an a"'),
        'raise not_found("a thing", name)',
        'print_table(("Name", _("Kind")), rows, empty=_("None."))',
        'typer.echo(f"{count} lines")',
    ],
)
def test_the_lint_sees_an_unmarked_one(source):
    assert list(unmarked(source))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_no_mark_has_a_text_that_cannot_be_extracted_or_a_name_that_hides_the_mark(path):
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tallystick.sentences"
        for name in node.names
    }
    for node in ast.walk(tree):
        if "_" in imported:
            assert not (isinstance(node, ast.Name) and node.id == "_" and isinstance(node.ctx, ast.Store)), node.lineno
            assert not (isinstance(node, ast.arg) and node.arg == "_"), node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"_", "_n", "N_"}:
            assert not any(isinstance(one, ast.JoinedStr | ast.BinOp) for one in node.args), node.lineno
            if isinstance(node.args[0], ast.Constant) and node.func.id == "_":
                given = {keyword.arg for keyword in node.keywords}
                text = node.args[0].value
                if given and None not in given:
                    assert given == set(re.findall(r"(?<!\{)\{(\w+)", text)), (node.lineno, text)


def test_nothing_is_replaced_in_prose():
    """A text for another edge is another text of the catalog, not a search in the first one."""
    base = (SOURCE / "administrator" / "web").rglob("*.py")
    assert not [
        path
        for path in base
        if re.search(r"\btext\.replace\(|\bre\.(sub|compile)\(r?\"tallystick", path.read_text("utf-8"))
    ]
