"""Mutants of a module, by its syntax tree: each a small change that somebody could have made by mistake.

Guarantees: the same source gives the same mutants in the same order; a mutant's name holds no line number, so that it
outlives changes elsewhere. What is no error by rule (texts for people, annotations, checks of what cannot be) is never made.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from mutation.scope import TEXT_ARGUMENTS, TUNING

Change = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One change. ``function``: the outermost function that holds it, by its qualified name; "" for the module itself."""

    name: str
    file: str
    kind: str
    function: str
    first_line: int  # of that function
    line: int
    index: int  # its place among all mutants of the file
    text: str  # what it changes, for people


_COMPARED: Final = {
    ast.Lt: (("boundary", ast.LtE), ("comparison", ast.GtE)),
    ast.LtE: (("boundary", ast.Lt), ("comparison", ast.Gt)),
    ast.Gt: (("boundary", ast.GtE), ("comparison", ast.LtE)),
    ast.GtE: (("boundary", ast.Gt), ("comparison", ast.Lt)),
    ast.Eq: (("comparison", ast.NotEq),),
    ast.NotEq: (("comparison", ast.Eq),),
    ast.Is: (("comparison", ast.IsNot),),
    ast.IsNot: (("comparison", ast.Is),),
    ast.In: (("comparison", ast.NotIn),),
    ast.NotIn: (("comparison", ast.In),),
}
_SIGNS: Final = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_TWINS: Final = {"max": "min", "min": "max", "any": "all", "all": "any"}
# Calls that keep everything but what they name: a name that is left out is an error of its own kind.
_KEEPERS: Final = {"changed", "replace", "_keep"}
_CHAINED: Final = {"where", "with_for_update", "order_by", "limit", "desc", "on_conflict_do_nothing"}
_SQL: Final = re.compile(
    r"\b(SELECT|UPDATE|DELETE|INSERT|WHERE|FOR UPDATE|PRAGMA|BEGIN|ISOLATION|ORDER BY|UNION|LIMIT)\b"
)
_SQL_CHANGES: Final = (
    (r" FOR UPDATE( OF \w+)?", ""),
    (r"\bsynchronous = FULL", "synchronous = NORMAL"),
    (r"\bforeign_keys = ON", "foreign_keys = OFF"),
    (r"\bjournal_mode = WAL", "journal_mode = DELETE"),
    (r"\bBEGIN IMMEDIATE", "BEGIN"),
    (r"\bREPEATABLE READ", "READ COMMITTED"),
    (r"\bUNION ALL\b", "UNION"),
    (r" LIMIT \d+", ""),
    (r" ORDER BY [\w., ]+?(?=\)| LIMIT|$|\"| FOR)", ""),
    (r" AND [\w.]+ = [\w.$?:]+", ""),
    (r" WHERE [\w.]+ = [\w.$?:]+ AND ", " WHERE "),
    (r" IS NOT NULL", " IS NULL"),
    (r" IS NULL", " IS NOT NULL"),
    (r" > 0", " >= 0"),
    (r"greatest", "least"),
)


def mutants_of(file: str, source: str) -> tuple[ast.Module, list[tuple[Mutant, Change]]]:
    """The tree of a module, and every mutant with the change to that tree."""
    tree = ast.parse(source)
    walker = _Walker(file)
    walker.walk(tree, _Place())
    return tree, walker.found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where the walk is."""

    names: tuple[str, ...] = ()
    function: str = ""
    first_line: int = 0


class _Walker:
    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[tuple[Mutant, Change]] = []
        self._names: Counter[str] = Counter()

    def walk(self, node: ast.AST, place: _Place) -> None:
        """Everything below ``node``, in the order of the source."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            place = self._inside(node, place)
            if isinstance(node, ast.FunctionDef) and _is_for_people(node.name):
                return
        for kind, text, node_at, change in _changes(node):
            self._add(kind, text, node_at, place, change)
        for child in _children(node):
            self.walk(child, place)

    def _inside(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, place: _Place) -> _Place:
        names = (*place.names, node.name)
        if place.function or isinstance(node, ast.ClassDef):
            return _Place(names=names, function=place.function, first_line=place.first_line)
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        return _Place(names=names, function=".".join(names), first_line=first)

    def _add(self, kind: str, text: str, node: ast.AST, place: _Place, change: Change) -> None:
        base = f"{self.file}:{'.'.join(place.names) or 'module'}: {kind}: {text}"
        self._names[base] += 1
        name = base if self._names[base] == 1 else f"{base} #{self._names[base]}"
        mutant = Mutant(
            name=name,
            file=self.file,
            kind=kind,
            function=place.function,
            first_line=place.first_line,
            line=getattr(node, "lineno", 0),
            index=len(self.found),
            text=text,
        )
        self.found.append((mutant, change))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is looked at below a node: code that runs, and no text for people."""
    for name, value in ast.iter_fields(node):
        if name in {"decorator_list", "returns", "annotation", "args", "keywords", "values"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_passed_over(child):
                yield child
    match node:
        case ast.Call():
            if not _is_text(node):
                yield from node.args
                yield from (one.value for one in node.keywords if one.arg not in TEXT_ARGUMENTS)
        case ast.BoolOp() | ast.Dict():
            yield from node.values
        case ast.JoinedStr():
            yield from (one for one in node.values if isinstance(one, ast.Constant))
        case _:
            pass


def _is_for_people(function: str) -> bool:
    return function in {"__repr__", "__str__"}


def _is_passed_over(node: ast.AST) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom() | ast.Assert():
            return True
        case ast.Expr(value=ast.Constant()):  # a docstring, or the dots of a protocol
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return TUNING.search(name) is not None
        case ast.Raise():  # whether it is raised is a change of the statement; what it says is for people
            return True
        case _:
            return False


def _is_text(call: ast.Call) -> bool:
    match call.func:
        case ast.Name(id="_"):
            return True
        case ast.Attribute(value=ast.Name(id=name)):
            return name in {"log", "logger", "_log", "logging"}
        case _:
            return False


def _changes(node: ast.AST) -> Iterator[tuple[str, str, ast.AST, Change]]:
    """The changes of one node itself."""
    match node:
        case ast.Compare():
            yield from _of_compare(node)
        case ast.BoolOp():
            yield from _of_boolean(node)
        case ast.UnaryOp(op=ast.Not()):
            yield "boolean", f"{_short(node)} -> {_short(node.operand)}", node, _become(node, node.operand)
        case ast.BinOp(op=op) if type(op) in _SIGNS and not _has_text(node):
            other = _SIGNS[type(op)]()
            yield "arithmetic", f"{_short(node)} -> {type(other).__name__}", node, _set(node, "op", other)
        case ast.AugAssign(op=op) if type(op) in _SIGNS:
            other = _SIGNS[type(op)]()
            yield "arithmetic", f"{_short(node)} -> {type(other).__name__}", node, _set(node, "op", other)
        case ast.IfExp():
            yield "boolean", f"{_short(node)} -> the other", node, _swap(node, "body", "orelse")
        case ast.Constant():
            yield from _of_constant(node)
        case ast.Call():
            yield from _of_call(node)
        case _:
            pass
    if isinstance(node, ast.If | ast.While) and isinstance(
        node.test, ast.Name | ast.Attribute | ast.Call | ast.NamedExpr
    ):
        inverse = ast.UnaryOp(op=ast.Not(), operand=node.test)
        yield "boolean", f"if {_short(node.test)} -> not", node, _set(node, "test", inverse)
    for block in ("body", "orelse", "finalbody"):
        statements = getattr(node, block, None)
        if isinstance(statements, list):
            yield from _of_block(statements)


def _of_compare(node: ast.Compare) -> Iterator[tuple[str, str, ast.AST, Change]]:
    for place, op in enumerate(node.ops):
        for kind, other in _COMPARED.get(type(op), ()):
            yield kind, f"{_short(node)} -> {other.__name__}", node, _set_item(node.ops, place, other())


def _of_boolean(node: ast.BoolOp) -> Iterator[tuple[str, str, ast.AST, Change]]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield "boolean", f"{_short(node)} -> {type(other).__name__}", node, _set(node, "op", other)
    for place, value in enumerate(node.values):
        left = node.values[:place] + node.values[place + 1 :]
        change = _drop(node.values, place) if len(left) > 1 else _become(node, left[0])
        yield "boolean", f"{_short(node)} without {_short(value)}", node, change


def _of_constant(node: ast.Constant) -> Iterator[tuple[str, str, ast.AST, Change]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", f"{value} -> {not value}", node, _set(node, "value", not value)
    elif isinstance(value, int):
        yield "constant", f"{value} -> {value + 1}", node, _set(node, "value", value + 1)
    elif isinstance(value, str | bytes):
        text = value if isinstance(value, str) else value.decode("latin-1")
        if not _SQL.search(text) and not text.lstrip().startswith("AND "):
            return
        for pattern, new in _SQL_CHANGES:
            for found in re.finditer(pattern, text):
                changed = text[: found.start()] + new + text[found.end() :]
                whole = changed if isinstance(value, str) else changed.encode("latin-1")
                yield "sql", f"{found[0].strip()} -> {new.strip() or 'nothing'}", node, _set(node, "value", whole)


def _of_call(node: ast.Call) -> Iterator[tuple[str, str, ast.AST, Change]]:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if _is_text(node):
        return
    if isinstance(node.func, ast.Name) and name in _TWINS:
        yield "arithmetic", f"{_short(node)} -> {_TWINS[name]}", node, _set(node.func, "id", _TWINS[name])
    if isinstance(node.func, ast.Attribute) and name in _CHAINED:
        if name == "where" and len(node.args) > 1:
            for place, value in enumerate(node.args):
                yield "sql", f"where without {_short(value)}", node, _drop(node.args, place)
        else:
            yield "sql", f"without .{name}({_short_list(node.args)})", node, _become(node, node.func.value)
    if name in _KEEPERS:
        for place, keyword in enumerate(node.keywords):
            yield "argument", f"{name} without {keyword.arg}", node, _drop(node.keywords, place)
    if name not in {"isinstance", "zip", "getattr", *_TWINS}:
        for place, (one, two) in enumerate(zip(node.args, node.args[1:], strict=False)):
            if isinstance(one, ast.Name | ast.Attribute) and isinstance(two, ast.Name | ast.Attribute):
                text = f"{name}({_short_list(node.args)}) swaps {place}"
                yield "argument", text, node, _swap_items(node.args, place)


def _of_block(statements: list[ast.stmt]) -> Iterator[tuple[str, str, ast.AST, Change]]:
    for place, statement in enumerate(statements):
        if _is_removable(statement):
            nothing = ast.copy_location(ast.Pass(), statement)
            yield "statement", f"without {_short(statement)}", statement, _set_item(statements, place, nothing)


def _is_removable(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call() as call):
            return not _is_text(call)
        case ast.AugAssign() | ast.Break() | ast.Continue() | ast.Delete():
            return True
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            return True
        case ast.Raise(exc=ast.Call(func=ast.Name(id=name))):
            return name != "InvariantError"  # what cannot be is checked all the same
        case ast.Raise():
            return True
        case _:
            return False


def _has_text(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Constant) and isinstance(one.value, str) for one in ast.walk(node))


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else f"{text[:67]}..."


def _short_list(nodes: list[ast.expr]) -> str:
    return ", ".join(_short(node) for node in nodes)[:60]


def _set(node: ast.AST, name: str, value: object) -> Change:
    return lambda: setattr(node, name, value)


def _set_item(items: list[ast.stmt] | list[ast.cmpop], place: int, value: ast.AST) -> Change:
    def change() -> None:
        items[place] = value  # type: ignore[call-overload]  # one of the same family

    return change


def _drop(items: list[ast.expr] | list[ast.keyword], place: int) -> Change:
    def change() -> None:
        del items[place]

    return change


def _swap_items(items: list[ast.expr], place: int) -> Change:
    def change() -> None:
        items[place], items[place + 1] = items[place + 1], items[place]

    return change


def _swap(node: ast.AST, one: str, two: str) -> Change:
    def change() -> None:
        first, second = getattr(node, one), getattr(node, two)
        setattr(node, one, second)
        setattr(node, two, first)

    return change


def _become(node: ast.AST, other: ast.AST) -> Change:
    def change() -> None:
        node.__class__ = other.__class__  # in place, whoever holds it
        node.__dict__ = other.__dict__

    return change
