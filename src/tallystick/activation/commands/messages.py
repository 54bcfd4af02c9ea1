"""``message``: what an upload box does, from file to file.

The file is read as a stream and processed in chunks that are each durable; the reply file appears whole, after the
last commit. Interrupted, the same command again gives the same replies.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.client import ApiClient, DataOrUrl, TokenFile, Url, reached
from tallystick.activation.commands.console import AsJson, Database, Output
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.terminal import plain, print_text

if TYPE_CHECKING:
    from tallystick.activation.core.exchanges import MessageResult, ReadLine
    from tallystick.activation.core.ports import Answer
    from tallystick.activation.server.instance import Activation

_PIECE_BYTES: Final = 256 * 1024
_ROWS_MAX: Final = 500
_PROGRESS_BYTES_MIN: Final = 256 * 1024


def message(
    file: Annotated[Path, typer.Argument(metavar="FILE.tally", help="The file that was carried here.")],
    output: Output,
    data: DataOrUrl = None,
    url: Url = None,
    token_file: TokenFile = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Take the messages of a tally file and write the replies, as the upload box does."""
    from tallystick.activation.files import save_named_file

    if data is None or url is not None:
        with reached(data, url, token_file, as_json=as_json) as client:
            exit_code = _carry(client, file, output)
        if exit_code:
            raise typer.Exit(exit_code)
        return
    with console.opened(data, database, as_json=as_json) as activation, _rows_for_programs(as_json) as write_row:
        summary = Summary()
        with _progress(file) as advance:
            save_named_file(output, _replies(activation, file, summary, write_row, advance))
        if not as_json:
            _show(summary, output)
        exit_code = summary.exit_code
    if exit_code:
        print_text(
            _(
                "{count} of {total} lines were not taken: see the comments in {output}. The others are done; have the named lines made again.",
                count=summary.count("error"),
                total=summary.total,
                output=output,
            ),
            error=True,
        )
        raise typer.Exit(exit_code)


@dataclass(slots=True)
class Summary:
    """Counts of a file, and the results that a person is shown."""

    total: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    shown: list[MessageResult] = field(default_factory=list)

    def add(self, result: MessageResult) -> None:
        """Count a result. What needs attention is shown rather than what went well."""
        self.total += 1
        outcome = result.answer.outcome.value
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        needs_attention = outcome in {"refused", "error"}
        if len(self.shown) < _ROWS_MAX or (needs_attention and len(self.shown) < 2 * _ROWS_MAX):
            self.shown.append(result)

    def count(self, outcome: str) -> int:
        """How many had an outcome."""
        return self.counts.get(outcome, 0)

    @property
    def exit_code(self) -> int:
        """A file of which nothing was taken is refused; one with some lines that were not is done in part."""
        if not self.count("error"):
            return 0
        return console.REFUSED if self.count("error") == self.total else console.IN_PART


def _carry(client: ApiClient, file: Path, output: Path) -> int:
    """The same at a running server; the reply file holds the same envelopes. Returns the exit code."""
    from tallystick.activation.files import file_fault, save_named_file
    from tallystick.protocol.tallyfile import MEDIA_TYPE, format_file

    try:
        content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise file_fault(file, error) from error
    headers = {"Content-Type": MEDIA_TYPE, "Accept": "application/json"}
    rows = client.request("POST", "/v1/messages", content, headers=headers)
    keyset = client.fetch("GET", "/v1/keys")[0].decode().strip()
    replies = [envelope for row in rows for envelope in row["reply"].split("\n") if envelope]
    save_named_file(
        output, format_file([keyset, *replies], comment="Tallystick: replies. Carry them to where they belong.")
    )
    columns = [
        (_("Line#"), "line_number"),
        (_("Field server"), "device_id"),
        (_("Wanted"), "purpose"),
        (_("Decided"), "outcome"),
    ]
    client.show(rows, [*columns, (_("Why not"), "code"), (_("Next"), "next_step")], empty=_("No messages."))
    errors = sum(row["outcome"] == "error" for row in rows)
    if errors:
        print_text(
            _("{errors} of {count} lines were not taken. The others are done.", errors=errors, count=len(rows)),
            error=True,
        )
    return 0 if not errors else console.REFUSED if errors == len(rows) else console.IN_PART


def _replies(
    activation: Activation,
    file: Path,
    summary: Summary,
    write_row: Callable[[MessageResult], None],
    advance: Callable[[int], None],
) -> Iterator[bytes]:
    """The lines of the reply file. Each chunk is committed before its replies are written."""
    from tallystick.activation.core import exchanges
    from tallystick.activation.core.two_passes import Held, Rows
    from tallystick.protocol.tallyfile import format_file, parse_chunks

    keyset = activation.signer.keyset
    comment = (
        f"Tallystick: replies of activation server {keyset.issuer}\n"
        "Carry this file to where the messages came from, and import or deliver it there."
    )
    yield from format_file([keyset.compact], comment=comment)
    # While a chunk is booked, the next one is read and verified; it is booked when that one is durable.
    waiting: tuple[list[ReadLine], Future[list[Answer]]] | None = None
    with ThreadPoolExecutor(1) as booking, Rows() as replies, contextlib.closing(Held()) as held:

        def settle() -> None:
            for result in exchanges.results_of(waiting[0], waiting[1].result()) if waiting else ():
                summary.add(result)
                write_row(result)
                replies.add(result.line_number, b"".join(exchanges.tally_lines([result])))

        def passes() -> Iterator[list[ReadLine]]:
            for chunk in exchanges.chunks(parse_chunks(_pieces(file, advance))):
                yield held.hold(exchanges.read_lines(chunk, keyset))
            yield from held.chunks(keyset)

        for lines in passes():
            settle()
            waiting = (lines, booking.submit(activation.process, exchanges.messages_of(lines)))
        settle()
        yield from replies.pieces()
    if not summary.total:
        raise WireError("no-messages", expected=_("at least one message in {file}", file=file), seen=_("none"))


def _pieces(file: Path, advance: Callable[[int], None]) -> Iterator[bytes]:
    from tallystick.activation.files import file_fault

    try:
        with contextlib.nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as source:
            while piece := source.read(_PIECE_BYTES):
                advance(len(piece))
                yield piece
    except OSError as error:
        raise file_fault(file, error) from error


@contextlib.contextmanager
def _rows_for_programs(as_json: bool) -> Iterator[Callable[[MessageResult], None]]:
    """With ``--json``, a list with a row per message, printed when all is done."""
    if not as_json:
        yield lambda _other: None
        return
    from tallystick.activation.core import exchanges
    from tallystick.activation.core.two_passes import Rows

    with Rows() as rows:
        yield lambda result: rows.add(result.line_number, exchanges.json_row(result))
        for place, row in enumerate(rows.pieces(), 1):  # a row each
            print_text(
                ("[" if place == 1 else "") + row.decode("utf-8", "replace") + ("," if place < rows.count else "]")
            )
        sys.stdout.flush()


@contextlib.contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    """A bar on standard error for a long file, where a person looks."""
    size = file.stat().st_size if file.is_file() else 0
    if size < _PROGRESS_BYTES_MIN or not sys.stderr.isatty():
        yield lambda _other: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(plain(file.name), total=size)
        yield lambda count: bar.advance(task, count)


def _show(summary: Summary, output: Path) -> None:
    rows = [
        (result.line_number, *_who_and_what(result), result.answer.outcome.value, _why(result), result.next_step)
        for result in summary.shown
    ]
    console.print_table(
        (_("Line#"), _("From"), _("Wanted"), _("Decided"), _("Why not"), _("Next")), rows, empty=_("No messages.")
    )
    if summary.total > len(summary.shown):
        console.say(_("... and {total} more.", total=summary.total - len(summary.shown)))
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(summary.counts.items()))
    console.say(
        _("{total} messages: {counts}. The replies are in {output}.", total=summary.total, counts=counts, output=output)
    )


def _who_and_what(result: MessageResult) -> tuple[str, str]:
    if result.message is None:
        return "?", "?"
    request = result.message.request
    who = f"{request.facts.name} ({request.facts.kind}, {request.device_id[:8]})"
    wants = ", ".join(f"{want.line}={want.quantity}" for want in request.wants or ())
    return who, f"{request.purpose} {wants or ('all' if request.all else '')}".rstrip()


def _why(result: MessageResult) -> str:
    if result.answer.code is None:
        return ""
    detail = result.answer.detail.removesuffix(result.next_step).strip()
    return f"{result.answer.code}: {detail}"
