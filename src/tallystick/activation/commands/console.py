"""What every command shares: its options, how it prints, how it refuses.

Exit codes: 0 done, 1 refused, 2 wrong usage, 3 nothing could be reached, 4 done in part. Standard output is the
result and nothing else; with ``--json`` it is one JSON value, also for a refusal. Refusals are told on standard error.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from tallystick.domain.dates import moment_text, parse_moment
from tallystick.errors import Error
from tallystick.protocol.problems import detail_sentence, problem_document, problem_for
from tallystick.protocol.reasons import reason_document, reason_sentences
from tallystick.sentences import _, spoken
from tallystick.terminal import plain, print_as_json, print_text

if TYPE_CHECKING:
    from rich.console import Console

    from tallystick.activation.server.instance import Activation

REFUSED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
IN_PART: Final = 4
_EXIT_CODES: Final = {
    "usage": USAGE,
    "quantity-wrong": USAGE,
    "date-wrong": USAGE,
    "database-unavailable": UNREACHABLE,
    "too-busy": UNREACHABLE,
    "unreachable": UNREACHABLE,
    "certificate-untrusted": UNREACHABLE,
}
_PIPE_COLUMNS: Final = 120
_SHORT_CELL: Final = 24
PREFIX_LENGTH_MIN: Final = 6

Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="The data directory that init made.")]
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="TALLYSTICK_DATABASE",
        help="A database other than that of the settings, for example postgresql+psycopg://localhost/tallystick.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE.tally", help="The tally file to write.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it, for the ledger; else the name of this login.")
]
DeviceText = Annotated[
    str,
    typer.Argument(metavar="DEVICE", help="A device id, its first 6 symbols or more, a host id or a name."),
]


@contextlib.contextmanager
def report_errors(as_json: bool) -> Iterator[None]:
    """Print a refusal as expected, seen and next step, and exit with its code."""
    try:
        yield
    except Error as error:
        show_error(error, as_json=as_json)
        raise typer.Exit(_EXIT_CODES.get(error.code, REFUSED)) from None
    except BrokenPipeError:
        # Whoever read our output has enough. Nothing was left undone: output is written last.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def show_error(error: Error, *, as_json: bool) -> None:
    """A refusal on standard error, with a reason per line where there are several."""
    document = problem_document(error)
    reasons = getattr(error, "reasons", ())
    if as_json:
        rows = [reason_document(reason) for reason in reasons]
        print_json(document | ({"reasons": rows} if rows else {}))
    expected, seen = error.said
    detail = detail_sentence(error.code, expected=expected, seen=seen)
    print_text(f"{spoken(problem_for(error.code).title)} ({error.code}). {plain(spoken(detail))}", error=True)
    for reason in reasons if len(reasons) > 1 else ():
        expected, seen = reason_sentences(reason)
        text = spoken(detail_sentence(reason.code, expected=expected, seen=seen))
        print_text(f"  {reason.line or 'all'}: {reason.code}: {plain(text)}", error=True)


@contextlib.contextmanager
def opened(
    data: Path, database: str | None, *, as_json: bool, service: bool = False, is_moved_good: bool = False
) -> Iterator[Activation]:
    """The activation server of a data directory; refusals are printed."""
    from tallystick.activation.server.instance import open_activation

    with report_errors(as_json):
        activation = open_activation(data, database=database, service=service, is_moved_good=is_moved_good)
        try:
            yield activation
        finally:
            activation.close()


def print_json(value: object) -> None:
    """One JSON value on standard output."""
    print_as_json(value)


def console() -> Console:
    """Standard output for tables; wide enough in a pipe that ids are not broken."""
    from rich.console import Console

    columns = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPE_COLUMNS
    return Console(width=columns, highlight=False)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table for people, or a sentence where there is nothing. A header that ends in # is of numbers."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if not rows:
        say(empty)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    headers = [spoken(header) for header in headers]
    cells = [[plain(spoken(cell) if isinstance(cell, str) else str(cell)) for cell in row] for row in rows]
    for header, column in zip(headers, zip(*cells, strict=True), strict=True):
        # What is short stays on one line, so that what is long takes the rest.
        is_short = max(map(len, column)) <= _SHORT_CELL
        justify: Literal["right", "left"] = "right" if header.endswith("#") else "left"
        table.add_column(header.rstrip("#"), justify=justify, overflow="fold", no_wrap=is_short)
    for row in cells:
        table.add_row(*map(Text, row))
    console().print(table)


def say(text: str) -> None:
    """A sentence for people."""
    print_text(text)


def moment(at: int | None) -> str:
    """A moment for people, UTC."""
    if at is None:
        return "never"
    return moment_text(at).removesuffix(" UTC")


def age(seconds: int) -> str:
    """A time span for people, to its two largest units."""
    parts = [(seconds // 86_400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min"), (seconds % 60, "s")]
    shown = [f"{count} {unit}" for count, unit in parts if count][:2]
    return " ".join(shown) or "0 s"


def parse_expiry(text: str) -> int | None:
    """Until when: a date (the end of that day, UTC), a moment, or never. Raises ``Error`` (``date-wrong``)."""
    return None if text.strip().lower() == "never" else parse_moment(text, is_end=True)


def parse_pair(text: str, example: str) -> tuple[str, int]:
    """``WHAT=QUANTITY``. Raises ``Error`` (``quantity-wrong``)."""
    what, equals, number = text.rpartition("=")
    if not equals or not what or not number.isascii() or not number.isdigit() or len(number) > len("1000000000"):
        raise Error("quantity-wrong", expected=_("like {example}", example=example), seen=repr(text[:60]))
    return what.strip(), int(number)


def person(by: str | None) -> str:
    """Who does it."""
    from tallystick.activation.core.entitlements import check_text

    if by is not None:
        return check_text(by, _("a name"))
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


@contextlib.contextmanager
def noted(data: Path, database: str | None, *, by: str | None) -> Iterator[Callable[[str, str, str], None]]:
    """Write the audit trail about what is no transaction of the database: a file of keys, a deletion in many pieces.

    What is yielded takes action, target and detail. The database is opened first, so that nothing is done that cannot
    be told. Raises ``Error``.
    """
    from tallystick.activation.core.permissions import operator
    from tallystick.activation.keys.signing import load_keyset
    from tallystick.activation.server.instance import Activation, check_database, database_url
    from tallystick.activation.services import record
    from tallystick.activation.storage import open_store

    caller = operator(person(by))
    store = open_store(database_url(data, database))

    def note(action: str, target: str, detail: str) -> None:
        now = Activation.now()
        store.transact(
            lambda transaction: record(transaction, caller, action, target, account=None, now=now, detail=detail)
        )

    try:
        check_database(store, load_keyset(data))
        yield note
    finally:
        store.close()
