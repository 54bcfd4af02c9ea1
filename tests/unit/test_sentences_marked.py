"""What people read is marked for the catalog: a lint over the code, which finds what somebody forgets tomorrow."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from jinja2 import Environment, nodes
from jinja2.ext import extract_from_ast

import tallystick

SOURCE = Path(tallystick.__file__).parent
FILES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if not path.relative_to(SOURCE).as_posix().startswith(("simulator/", "activation/storage/migrations/"))
]
# A keyword of any call that is a sentence, names that become one, and positions of functions that take one.
KEYWORDS = {"expected", "seen", "next_step", "empty", "title", "section"}
NAMES = {"expected", "seen", "empty", "headers", "columns", "sentence"}
POSITIONS = {
    "not_found": (0,),
    "refuse": (1, 2),
    "refuse_disk": (1,),
    "check_text": (1,),
    "check_named": (1,),
    "check_version": (2,),
    "unusable": (0, 1),
    "_unusable": (0, 1),
    "_unreadable": (0,),
    "_in_use": (0, 1),
    "_refuse_header": (0, 1),
    "_another_version": (0,),
    "_torn": (0,),
    "_used": (0,),
    "_show_secret": (2,),
    "save": (3, 4, 5),
    "print_text": (0,),
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
NOT_FOR_PEOPLE = {"InvariantError", "LineReason", "_row", "FastAPI", "get_openapi"}
# Modules whose texts are signed or are answers to programs: English, whoever reads.
IN_ENGLISH = {
    "activation/core/answering.py",
    "activation/core/issuing.py",
    "activation/core/verification.py",
    "activation/services/messages.py",
}

TEMPLATES = sorted(SOURCE.rglob("*.html"))
SHOWN_ATTRIBUTES = re.compile(r'\b(?:title|alt|placeholder|aria-label|data-label)="([^"]*)"')
CLASSES = {"notice warn"}


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
        if isinstance(node, ast.Assign) and NAMES & {getattr(name, "id", "") for name in node.targets}:
            yield from ((node.lineno, text) for text in texts(node.value) if " " in text)
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
    if path.relative_to(SOURCE).as_posix() not in IN_ENGLISH:
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
        'seen = f"{count} lines" if count else _("none")',
        'columns = [("Field server", "device_id")]',
        'refuse_disk(error, f"to open {name}")',
        'EventDocument(title=f"Incident: {kind}")',
        'Matter(section="Open returns")',
    ],
)
def test_the_lint_sees_an_unmarked_one(source):
    assert list(unmarked(source))


def unmarked_in_template(source):
    """Words between and in tags, and in expressions, that no mark is around."""
    environment = Environment(extensions=["jinja2.ext.i18n"])
    tree = environment.parse(source)
    page = "".join(part.data for part in tree.find_all(nodes.TemplateData))
    page = re.sub(r"<(script|style|code)\b.*?</\1>|<!.*?>", "", page, flags=re.DOTALL)
    shown = SHOWN_ATTRIBUTES.findall(page) + re.sub(r"<[^>]*>", "\n", page).split("\n")
    yield from (text.strip() for text in shown if re.search(r"[A-Za-z]{2}", re.sub(r"&\w+;", "", text)))
    for shown in tree.find_all((nodes.Output, nodes.CallBlock, nodes.Assign)):
        yield from (text for text in literals(shown) if (" " in text or text[:1].isupper()) and text not in CLASSES)
    for call in tree.find_all(nodes.Call):
        if getattr(call.node, "attr", "") == "tag":
            yield from literals(call.args[0])


def literals(node):
    """Literal texts with words, but for what is marked and for blocks inside, which are looked at themselves."""
    if isinstance(node, nodes.Call) and getattr(node.node, "name", "") in {"_", "gettext", "ngettext"}:
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str) and re.search(r"[A-Za-z]{2}", node.value):
        yield node.value
    below = node.iter_child_nodes()
    if isinstance(node, nodes.CallBlock | nodes.Getitem):  # not its body; not the key
        below = [node.call if isinstance(node, nodes.CallBlock) else node.node]
    for one in below:
        yield from literals(one)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_every_text_of_a_template_is_marked(path):
    assert list(unmarked_in_template(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "<p>Nothing yet.</p>",
        '<svg aria-label="A bar"></svg>',
        '{{ ui.head("Incidents") }}',
        '{{ ui.tag("expired", "danger") }}',
        '{{ _("on") if x else "Not on" }}',
        '{% call ui.empty("Nobody yet") %}{% endcall %}',
        '{% set columns = [("Name", 0)] %}',
    ],
)
def test_the_lint_sees_an_unmarked_text_of_a_template(source):
    assert list(unmarked_in_template(source))


# Limits are constants of the code, which a page is given: a number of two digits, or with a unit, is one that goes stale.
LIMIT = re.compile(r"\b\d{2,}\b(?!\.\d|:)|\b\d+ (?:days?|hours?|minutes?|weeks?|symbols?|times)\b")


def limits_in(source):
    tree = Environment(extensions=["jinja2.ext.i18n"]).parse(source)
    for _line, _function, text in extract_from_ast(tree):
        for part in (text,) if isinstance(text, str) else text:
            yield from LIMIT.findall(re.sub(r"https?://\S+|SHA256", "", part or ""))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_a_page_is_given_its_limits(path):
    assert list(limits_in(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("source", ['{{ _("At most 366.") }}', "{% trans %}It counts for 7 days.{% endtrans %}"])
def test_the_lint_sees_a_limit(source):
    assert list(limits_in(source))


# What our scripts say stands in the page, marked there: a script has no words with spaces between and no assigned text.
SCRIPTS = sorted((SOURCE / "pages" / "static").glob("*.js"))
SAID_BY_A_SCRIPT = re.compile(
    r"""\b(?:textContent|innerText|innerHTML|title|placeholder)\s*=\s*[^;]*["'`][^"'`]*[A-Za-z]{2}"""
    r"""|["`][A-Z][a-z]+ [^"`]*["`]|\b(?:alert|confirm|prompt)\("""
)


def said_by(script):
    code = re.sub(r"^\s*//.*|\s//\s.*|/\*.*?\*/", "", script, flags=re.MULTILINE)
    return [found[0] for found in SAID_BY_A_SCRIPT.finditer(code)]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_nothing_of_its_own(path):
    assert said_by(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        'pause.textContent = "Go on";',
        'say("Looking for codes.");',
        "all.textContent = one ? `All` : `Turns`;",
        'alert("x")',
    ],
)
def test_the_lint_sees_what_a_script_says(source):
    assert said_by(source)


def test_what_a_script_shows_stands_in_a_template():
    """``dataset.sayRun`` is ``data-say-run``: each that is read is given, and each that is given is read."""
    read = {
        re.sub(r"[A-Z]", lambda letter: "-" + letter[0].lower(), name)
        for path in SCRIPTS
        for name in re.findall(r"""(?:dataset\.|say\(")(say[A-Z]\w+)""", path.read_text("utf-8"))
    }
    given = {name for path in TEMPLATES for name in re.findall(r"data-(say-[a-z-]+)=", path.read_text("utf-8"))}
    assert read == given != set()


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


# What the trade has another word for: Check now, Search again, Cancel, Remove, Resume, Create, Start over.
UNUSUAL = re.compile(
    r"\b(?:Look again|Look for them|Find out again|Let it go on|Begin again|Make (?:the (?:token|webhook)|another secret)"
    r"|[Tt]ak(?:e|en) .{0,40}\boff the (?:list|plan))\b|(?<=[\"“}>])Do not(?=[\"”{<])"
)


@pytest.mark.parametrize("path", [*FILES, *TEMPLATES], ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_buttons_and_commands_have_the_words_of_the_trade(path):
    assert UNUSUAL.findall(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "text", ["{% trans %}Do not{% endtrans %}", '_("Look again")', '"""Take a license off the plan."""']
)
def test_the_lint_sees_an_unusual_word(text):
    assert UNUSUAL.search(text)
