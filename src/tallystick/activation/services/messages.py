"""The upload box: tally files in, what became of every message, the replies.

Whoever delivers needs no trust for what the messages say, each of them is signed by its field server. But a caller
delivers only for field servers within the own scope: a customer for its own and for new ones, a courier for the listed.
Replies are found again by the digests of the messages, as often as one likes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from tallystick.activation.core import exchanges
from tallystick.activation.core.exchanges import MessageResult, ReadLine
from tallystick.activation.core.permissions import EVERYTHING, Caller, Permission
from tallystick.activation.core.ports import Answer, MessageOutcome
from tallystick.activation.core.two_passes import Held
from tallystick.activation.services.base import Office, not_found
from tallystick.activation.services.schemas import DeliveredDocument, ReplyDocument
from tallystick.activation.storage import SqlTransaction
from tallystick.domain.ids import DeviceId
from tallystick.protocol.problems import WireError, detail_text
from tallystick.protocol.tallyfile import format_file, parse_chunks
from tallystick.sentences import _

ROWS_SHOWN_MAX = 500
_BEHIND_ALL = 2**63  # what is said of a file as a whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What became of some files. ``rows`` are the ones to show; ``digests`` of all messages that have a reply."""

    rows: tuple[DeliveredDocument, ...]
    digests: tuple[str, ...]
    total: int
    counts: dict[str, int]


def deliver(office: Office, caller: Caller, files: Iterable[tuple[str, Iterable[bytes]]]) -> Upload:
    """Take all messages of some files (name, pieces), each chunk in one durable step."""
    caller.check(Permission.DELIVER)
    rows: list[DeliveredDocument] = []
    digests: list[str] = []
    counts: dict[str, int] = {}
    for name, results in _results(office, caller, files):
        taken = list(_rows(name, results))
        digests += [row.digest for row in taken if row.digest and row.outcome != MessageOutcome.ERROR.value]
        if not taken or all(row.digest is None for row in taken):
            taken = [_no_tally_file(name, taken)]
        for row in taken:
            counts[row.outcome] = counts.get(row.outcome, 0) + 1
        rows += taken
    attention = {MessageOutcome.REFUSED.value: 0, MessageOutcome.ERROR.value: 0}
    shown = (
        sorted(rows, key=lambda row: attention.get(row.outcome, 1))[:ROWS_SHOWN_MAX]
        if len(rows) > ROWS_SHOWN_MAX
        else rows
    )
    return Upload(rows=tuple(shown), digests=tuple(digests), total=len(rows), counts=counts)


def replies(office: Office, caller: Caller, digests: Sequence[str], *, comment: bool = True) -> bytes:
    """The stored replies to messages, as one tally file in the order of ``digests``; ``comment`` tells people what it is."""
    caller.check(Permission.DELIVER)

    def work(transaction: SqlTransaction) -> list[str]:
        envelopes: list[str] = []
        for digest in digests:
            message = transaction.within(EVERYTHING).message(digest)
            if message is not None and _is_allowed(transaction, caller, message.device_id):
                envelopes += message.answer.reply
        return envelopes

    keyset = office.signer.keyset
    told = (
        f"Tallystick: replies of activation server {keyset.issuer}\n"
        "Carry this file to where the messages came from, and import or deliver it there."
    )
    return b"".join(format_file([keyset.compact, *office.store.read(work)], comment=told if comment else ""))


def load_reply(office: Office, caller: Caller, digest: str) -> ReplyDocument:
    """The stored answer to one message."""

    def work(transaction: SqlTransaction) -> ReplyDocument:
        message = transaction.within(EVERYTHING).message(digest)
        if message is None or not _is_allowed(transaction, caller, message.device_id):
            raise not_found(_("a message that was taken here"), digest)
        answer = message.answer
        return ReplyDocument(
            digest=digest,
            outcome=answer.outcome.value,
            code=answer.code,
            detail=answer.detail,
            reply="\n".join(answer.reply),
        )

    return office.read(caller, Permission.DELIVER, work)


def _is_allowed(transaction: SqlTransaction, caller: Caller, device_id: DeviceId) -> bool:
    """Whether replies to a field server are for the caller: a known one of the scope, and a listed one for a courier."""
    if caller.devices is not None and device_id not in caller.devices:
        return False
    server = transaction.within(EVERYTHING).field_server(device_id)
    return caller.scope.covers(server.account if server else None)


def _results(
    office: Office, caller: Caller, files: Iterable[tuple[str, Iterable[bytes]]]
) -> Iterator[tuple[str, list[MessageResult]]]:
    """Each file with its results. What frees is decided while they are read, what takes when all of them were."""
    keyset = office.signer.keyset
    found: list[tuple[str, list[MessageResult], Held]] = []

    def decide(lines: Sequence[ReadLine]) -> list[MessageResult]:
        batch = exchanges.messages_of(lines)
        answers = office.batcher.submit(batch).result() if batch else []
        return exchanges.results_of(lines, answers)

    with ExitStack() as opened:
        for name, pieces in files:
            results: list[MessageResult] = []
            held = opened.enter_context(closing(Held()))
            found.append((name, results, held))
            try:
                for chunk in exchanges.chunks(parse_chunks(pieces)):
                    results += decide(held.hold(_allowed(office, caller, exchanges.read_lines(chunk, keyset))))
            except WireError as error:  # so many bad lines that it is no tally file; what was good before is durable
                answer = _error(error.code, error.expected, error.seen)
                results.append(MessageResult(line_number=0, digest=None, message=None, answer=answer))
        for name, results, held in found:
            for lines in held.chunks(keyset):
                results.extend(decide(lines))
            yield name, sorted(results, key=lambda result: result.line_number or _BEHIND_ALL)


def _allowed(office: Office, caller: Caller, lines: list[ReadLine]) -> list[ReadLine]:
    if caller.scope == EVERYTHING and caller.devices is None:
        return lines
    wanted = {line.message.device_id for line in lines if line.message is not None}
    known = office.store.read(lambda transaction: transaction.within(EVERYTHING).field_servers_by_id(wanted))

    def is_allowed(device_id: DeviceId) -> bool:
        if caller.devices is not None:
            return device_id in caller.devices and device_id in known and caller.scope.covers(known[device_id].account)
        return device_id not in known or caller.scope.covers(known[device_id].account)

    refusal = _error("outside-scope", "a message of a field server that you may carry for", "one of another")
    return [
        line
        if line.message is None or is_allowed(line.message.device_id)
        else ReadLine(line_number=line.line_number, digest=line.digest, message=None, error=refusal)
        for line in lines
    ]


def _rows(name: str, results: Sequence[MessageResult]) -> Iterator[DeliveredDocument]:
    for result in results:
        request = result.message.request if result.message else None
        wants = ", ".join(f"{want.line} to {want.quantity}" for want in (request.wants or ())) if request else ""
        answer = result.answer
        yield DeliveredDocument(
            file=name,
            line_number=result.line_number,
            digest=result.digest,
            device_id=request.device_id if request else None,
            device_name=request.facts.name if request else None,
            purpose=request.purpose if request else None,
            wanted=wants or ("everything" if request and request.all else ""),
            outcome=answer.outcome.value,
            code=answer.code,
            detail=answer.detail.removesuffix(result.next_step).strip(),
            next_step=result.next_step,
        )


def _no_tally_file(name: str, rows: Sequence[DeliveredDocument]) -> DeliveredDocument:
    """One row for a file in which nothing was an envelope, instead of one for each of its lines."""
    named = next((row.code for row in rows if row.code is not None and row.code.startswith("file-")), None)
    code = named or ("not-text" if rows else "no-messages")
    seen = f"{len(rows)} lines, none of them an envelope" if rows else "none"
    answer = _error(code, "a tally file with at least one message", seen)
    result = MessageResult(line_number=0, digest=None, message=None, answer=answer)
    return next(_rows(name, [result]))


def _error(code: str, expected: str, seen: str) -> Answer:
    return Answer(
        digest=None, outcome=MessageOutcome.ERROR, code=code, detail=detail_text(code, expected=expected, seen=seen)
    )
