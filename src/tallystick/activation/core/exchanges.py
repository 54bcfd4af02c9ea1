"""A tally file on its way through: lines in, messages verified, chunks for the batch, results out.

The same for an upload box, a command and an HTTP body. Every line that is no comment gets exactly one result, in
order; one that cannot be used gets an unsigned error and disturbs no other. Memory does not grow with the file. What
decides is ``issuing``; who runs it, and in which transaction, is the caller's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from msgspec import Struct

from tallystick.activation.core.ports import Answer, MessageOutcome
from tallystick.activation.core.reading import Message, error_answer, read_message
from tallystick.domain.ids import Digest
from tallystick.protocol.envelope import digest_of
from tallystick.protocol.keys import Keyset
from tallystick.protocol.problems import WireError, problem_for
from tallystick.protocol.tallyfile import BadLine, GoodLine
from tallystick.sentences import _
from tallystick.structs import know

CHUNK_LINES_MAX: Final = 256
CHUNK_BYTES_MAX: Final = 1024 * 1024
BAD_LINES_MAX: Final = 10_000  # in a row; what has more is no tally file, and reporting each would help nobody


class ReadLine(Struct, frozen=True, kw_only=True):
    """A line that was read: a verified message, or the answer to a line that is none."""

    line_number: int
    digest: Digest | None
    message: Message | None
    error: Answer | None = None


class MessageResult(Struct, frozen=True, kw_only=True):
    """What became of one line."""

    line_number: int
    digest: Digest | None
    message: Message | None
    answer: Answer

    @property
    def is_error(self) -> bool:
        """Whether the line was not even taken; a refusal was."""
        return self.answer.outcome is MessageOutcome.ERROR

    @property
    def next_step(self) -> str:
        """What the person who carries does next."""
        match self.answer.outcome:
            case MessageOutcome.GRANTED:
                return "Carry the reply to the field server."
            case MessageOutcome.CREDITED:
                return "Nothing to do: it is credited. The reply is the receipt."
            case MessageOutcome.REFUSED | MessageOutcome.ERROR:
                return problem_for(self.answer.code or "invariant").next_step


class ChunkReader:
    """Gathers lines into chunks, each small enough for one transaction. ``size``: of what is gathered."""

    def __init__(self) -> None:
        self._lines: list[GoodLine | BadLine] = []
        self.size = 0
        self._bad_in_a_row = 0

    def add(self, line: GoodLine | BadLine) -> list[GoodLine | BadLine] | None:
        """Keep a line; the chunk, when it is full. Raises ``WireError`` (``not-text``) for what is no tally file."""
        if isinstance(line, GoodLine):
            self._bad_in_a_row = 0
            self.size += len(line.envelope.compact) + len(line.envelope.payload)
        else:
            self._bad_in_a_row += 1
            if self._bad_in_a_row > BAD_LINES_MAX:
                raise WireError(
                    "not-text",
                    expected=_("one envelope a line"),
                    seen=_("{bad_lines_max} lines in a row that are none", bad_lines_max=BAD_LINES_MAX),
                )
        self._lines.append(line)
        if len(self._lines) >= CHUNK_LINES_MAX or self.size >= CHUNK_BYTES_MAX:
            return self.take()
        return None

    def take(self) -> list[GoodLine | BadLine]:
        """What was gathered."""
        lines, self._lines, self.size = self._lines, [], 0
        return lines


def chunks(lines: Iterable[GoodLine | BadLine]) -> Iterator[list[GoodLine | BadLine]]:
    """All lines in chunks. Raises ``WireError`` as ``ChunkReader`` does."""
    reader = ChunkReader()
    for line in lines:
        full = reader.add(line)
        if full is not None:
            yield full
    rest = reader.take()
    if rest:
        yield rest


def read_lines(lines: Sequence[GoodLine | BadLine], keyset: Keyset) -> list[ReadLine]:
    """Verify every line of a chunk. This is where the time goes; it needs no transaction."""
    told: dict[int, Answer] = {}  # of errors that are one object, the answer is worded once
    return [_read_line(line, keyset, told) for line in lines]


def messages_of(lines: Sequence[ReadLine]) -> list[Message]:
    """The messages to process, in order."""
    return [line.message for line in lines if line.message is not None]


def results_of(lines: Sequence[ReadLine], answers: Sequence[Answer]) -> list[MessageResult]:
    """Every line with its answer; ``answers`` are those of ``messages_of``, in order."""
    remaining = iter(answers)
    return [
        MessageResult(
            line_number=line.line_number,
            digest=line.digest,
            message=line.message,
            answer=line.error if line.error is not None else next(remaining),
        )
        for line in lines
    ]


def tally_lines(results: Iterable[MessageResult]) -> Iterator[bytes]:
    """The replies as lines of a tally file; an unsigned error becomes a comment for people."""
    for result in results:
        for envelope in result.answer.reply:
            yield envelope.encode("ascii") + b"\n"
        if result.is_error:
            yield f"# line {result.line_number} was not taken ({result.answer.code}): {_one_line(result)}\n".encode()


def json_row(result: MessageResult) -> bytes:
    """A result for programs."""
    message, answer = result.message, result.answer
    row = {
        "line_number": result.line_number,
        "digest": result.digest,
        "device_id": message.device_id if message else None,
        "purpose": message.request.purpose if message else None,
        "outcome": answer.outcome.value,
        "code": answer.code,
        "detail": answer.detail,
        "next_step": result.next_step,
        "reply": "\n".join(answer.reply),
    }
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _read_line(line: GoodLine | BadLine, keyset: Keyset, told: dict[int, Answer]) -> ReadLine:
    if isinstance(line, BadLine):
        error = told.get(id(line.error)) or told.setdefault(id(line.error), error_answer(line.error))
        return ReadLine(line_number=line.line_number, digest=None, message=None, error=error)
    try:
        message = read_message(line.envelope, keyset)
    except WireError as error:
        digest = digest_of(line.envelope.compact)
        return ReadLine(line_number=line.line_number, digest=digest, message=None, error=error_answer(error))
    return ReadLine(line_number=line.line_number, digest=message.digest, message=message)


def _one_line(result: MessageResult) -> str:
    text = " ".join(result.answer.detail.split())
    return text if text.isprintable() else "".join(symbol if symbol.isprintable() else "?" for symbol in text)


know(ReadLine, MessageResult)
