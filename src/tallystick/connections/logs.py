"""Makes log lines that nobody from outside can forge: one record is one entry, and nothing in it moves a terminal.

Whatever is not printable is written as an escape, line ends included. A traceback is several lines, each with a mark in
front, so that none of it looks like the beginning of an entry.
"""

from __future__ import annotations

import logging
from typing import Final

_MARK: Final = "    | "


class PlainFormatter(logging.Formatter):
    """For people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging wants
        """See ``logging.Formatter``."""
        return plain_line(super().formatMessage(record))

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name that logging wants
        """See ``logging.Formatter``."""
        text = super().formatException(ei)  # type: ignore[arg-type]  # as logging gives it
        return "\n".join(_MARK + plain_line(line) for line in text.split("\n"))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - the name that logging wants
        """See ``logging.Formatter``."""
        return "\n".join(_MARK + plain_line(line) for line in stack_info.split("\n"))


def plain_line(text: str) -> str:
    """One line, in which everything that is not printable is an escape."""
    if text.isprintable():
        return text
    return "".join(symbol if symbol.isprintable() else ascii(symbol)[1:-1] for symbol in text)
