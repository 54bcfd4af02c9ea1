"""The process that ``tallystick fieldserver run`` becomes: the agent, without the command line's weight.

The command line replaces itself with this (the process id stays the same), because what parses a command once would
otherwise stay in the memory of a small device for years.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final, Never

from tallystick.errors import Error
from tallystick.protocol.problems import detail_sentence, problem_document, problem_for
from tallystick.sentences import spoken
from tallystick.terminal import json_text, print_as_json, print_text

_REFUSED: Final = 1
# Two heaps are enough for an event loop and a few threads that wait for the disk; glibc would take one for each.
_ENVIRONMENT: Final = {"MALLOC_ARENA_MAX": "2"}


def become(
    *,
    data: Path,
    host: str,
    port: int,
    activation: str | None,
    as_json: bool,
    is_announced: bool,
    socket: Path | None,
    socket_mode: int,
    socket_group: str | None,
) -> Never:
    """Replace this process with the agent."""
    options = {
        "data": str(data),
        "host": host,
        "port": port,
        "activation": activation,
        "json": as_json,
        "announce": is_announced,
        "socket": None if socket is None else str(socket),
        "socket_mode": socket_mode,
        "socket_group": socket_group,
    }
    sys.stdout.flush()
    sys.stderr.flush()
    # -P: the directory that this was started in is no place to import from.
    arguments = [sys.executable, "-P", "-m", "tallystick.fieldserver.process", json.dumps(options)]
    os.execve(sys.executable, arguments, _ENVIRONMENT | os.environ)  # noqa: S606 - no shell, and our own program


def main(options: dict[str, Any]) -> int:
    """Run the agent, and return its exit code."""
    from tallystick.fieldserver.local_socket import SocketWish  # noqa: PLC0415 - as the next one
    from tallystick.fieldserver.service import serve  # noqa: PLC0415 - so that what it lacks is told by main's caller

    def announce(url: str) -> None:
        print_text(json_text({"url": url}, indent=None) if options["json"] else url)
        sys.stdout.flush()

    try:
        serve(
            Path(options["data"]),
            host=options["host"],
            port=options["port"],
            activation=options["activation"],
            announce=announce,
            is_announced=options["announce"],
            wish=SocketWish(
                path=None if options["socket"] is None else Path(options["socket"]),
                mode=options["socket_mode"],
                group=options["socket_group"],
            ),
        )
    except Error as error:
        if options["json"]:
            print_as_json(problem_document(error), indent=None)
        print_text(refusal_text(error), error=True)
        return _REFUSED
    return 0


def refusal_text(error: Error) -> str:
    """A refusal as one sentence for standard error."""
    expected, seen = error.said
    title, detail = problem_for(error.code).title, detail_sentence(error.code, expected=expected, seen=seen)
    return f"{spoken(title)} ({error.code}). {spoken(detail)}"


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
