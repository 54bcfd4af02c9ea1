"""What every terminal shows: text from outside made plain, so that it cannot move a cursor or change what stands there.

The names of field servers, reasons, comments and paths come from others. Everything that is printed passes through here; a test
looks for what does not.
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import Final

from tallystick.sentences import spoken

FOR_PROGRAM: Final = "tallystick.for_program"  # the name under which a command line keeps whether a program asks
AS_JSON: Final = "--json"  # what a program asks for, of every command that has something to say


def plain(text: object) -> str:
    """One line in which nothing is but what can be seen: control, escape and direction symbols are replaced."""
    return "".join(symbol if symbol.isprintable() else "\N{REPLACEMENT CHARACTER}" for symbol in str(text))


def plain_lines(text: object) -> str:
    """The same for a text whose lines are ours."""
    return "\n".join(plain(line) for line in str(text).split("\n"))


def quoted(word: object) -> str:
    """One word of a command that is printed to be pasted into a shell, whatever stands in it."""
    return shlex.quote(plain(word))


def arguments(*words: object) -> str:
    """The last words of such a command, also where one begins like an option."""
    is_like_option = any(str(word).startswith("-") for word in words)
    return " ".join((*(["--"] if is_like_option else []), *map(quoted, words)))


def print_text(text: object, *, error: bool = False) -> None:
    """Plain lines on standard output, or standard error; a sentence in the reader's language."""
    stream = sys.stderr if error else sys.stdout
    stream.write(plain_lines(spoken(text) if isinstance(text, str) else text) + "\n")
    stream.flush()


def json_text(value: object, *, indent: int | None = 2) -> str:
    """JSON for programs, which somebody may look at on a terminal: what cannot be seen is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return "".join(symbol if symbol.isprintable() or symbol == "\n" else _escaped(symbol) for symbol in text)


def print_as_json(value: object, *, indent: int | None = 2) -> None:
    """One JSON value on standard output."""
    sys.stdout.write(json_text(value, indent=indent) + "\n")
    sys.stdout.flush()


def _escaped(symbol: str) -> str:
    return json.dumps(symbol)[1:-1] if ord(symbol) > 0x7E and ord(symbol) != 0x7F else f"\\u{ord(symbol):04x}"
