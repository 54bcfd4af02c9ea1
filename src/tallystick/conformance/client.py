"""Runs a program over the vectors: what a licensed program decides, in any language.

The program reads vectors on standard input, one a line, and answers each with a line: the code, how many units are in force, and what
it remembers afterwards (``-`` for nothing, or ``DEVICE,EPOCH,NUMBER,MOMENT``). A vector is a line of JSON as in the file; or,
for programs that have no reader of JSON, fields parted by spaces (docs/protocol/conformance.md). For vectors of kind
``socket`` an agent is played: the vector gets ``socket``, a path, and ``deadline``, in milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tallystick.conformance.vectors import Json, Vector

_SHORT, _LONG = 250, 20_000  # milliseconds: where nothing is to come, and where a slow machine must not matter
ANSWER_SECONDS: Final = 30.0
_HEAD_BYTES_MAX: Final = 4096
Form = Literal["json", "fields"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a program did with one vector. ``wrong`` is None where it decided as it must."""

    vector: Vector
    wrong: str | None


def run(program: Sequence[str], vectors: Sequence[Vector], form: Form) -> Iterator[Outcome]:
    """Start the program once and give it every vector. It ends with its input."""
    with (
        tempfile.TemporaryDirectory(prefix="tallystick-") as folder,
        subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        lines: queue.Queue[bytes] = queue.Queue()
        reader = threading.Thread(target=_read_lines, args=(process, lines), daemon=True)
        reader.start()
        try:
            for number, vector in enumerate(vectors):
                path = Path(folder) / f"{number}.sock"
                with _agent(path, vector) if vector.kind == "socket" else contextlib.nullcontext():
                    yield Outcome(vector=vector, wrong=_ask(process, lines, vector, path, form))
        finally:
            process.kill()
            if process.stdin is not None:
                with contextlib.suppress(OSError):  # what it did not read any more is still to be written
                    process.stdin.close()


def _ask(
    process: subprocess.Popen[bytes], lines: queue.Queue[bytes], vector: Vector, path: Path, form: Form
) -> str | None:
    question = _fields(vector, path) if form == "fields" else _json(vector, path)
    try:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        process.stdin.write(question.encode() + b"\n")
        process.stdin.flush()
        line = lines.get(timeout=ANSWER_SECONDS)
        if not line:  # it has ended: for the vectors that follow, too
            lines.put(line)
            return "the program gave no answer"
    except (OSError, queue.Empty):
        return "the program gave no answer"
    try:
        code, activated, remembered = line.decode().split()
        return vector.why_wrong(code, int(activated), _remembered(remembered))
    except ValueError:
        return f"a line that is no answer: {line[:80]!r}"


def _read_lines(process: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    assert process.stdout is not None  # noqa: S101 - it was asked for
    for line in process.stdout:
        lines.put(line)
    lines.put(b"")


def _remembered(text: str) -> Json | None:
    if text == "-":
        return None
    device, epoch, number, moment = text.split(",")
    return {"device": device, "epoch": int(epoch), "number": int(number), "moment": int(moment)}


def _json(vector: Vector, path: Path) -> str:
    more = {"socket": str(path), "deadline": _deadline(vector)} if vector.kind == "socket" else {}
    hidden = {"name", "step", "says", "result", "activated", "afterwards", "reply", "then"}
    return json.dumps({name: value for name, value in vector.fields.items() if name not in hidden} | more)


def _deadline(vector: Vector) -> int:
    return _SHORT if vector.result == "agent-silent" else _LONG


def _fields(vector: Vector, path: Path) -> str:
    fields = vector.fields
    memory = fields.get("remembers")
    remembered = (
        "-" if memory is None else ",".join(str(memory[name]) for name in ("device", "epoch", "number", "moment"))
    )
    asked = [",".join(fields["roots"]) or "-", remembered, _hex(fields["feature"].encode()), str(fields["required"])]
    match vector.kind:
        case "answer":
            return " ".join(["judge", *asked, fields["nonce"], _hex(vector.content("answer"))])
        case "files":
            files = [_hex(vector.content("keys")), _hex(vector.content("grant"))]
            return " ".join(["verify", *asked, fields["device"], str(fields["now"]), *files])
        case _:
            return " ".join(["check", *asked, str(_deadline(vector)), _hex(str(path).encode())])


def _hex(data: bytes | None) -> str:
    return (data or b"").hex() or "-"


@contextlib.contextmanager
def _agent(path: Path, vector: Vector) -> Iterator[None]:
    """Plays an agent on the socket: writes the vector's bytes to whoever connects, then closes or is silent."""
    reply = vector.content("reply")
    if reply is None:
        yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen(1)
        thread = threading.Thread(target=_serve, args=(listening, reply, vector.fields["then"]), daemon=True)
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)  # wakes up an accept that nobody came for
            thread.join(timeout=ANSWER_SECONDS)


def _serve(listening: socket.socket, reply: bytes, then: str) -> None:
    with contextlib.suppress(OSError):
        connection, _address = listening.accept()
        with connection:
            connection.settimeout(ANSWER_SECONDS)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < _HEAD_BYTES_MAX:
                more = connection.recv(_HEAD_BYTES_MAX)
                if not more:
                    return
                head += more
            connection.sendall(reply)
            while then == "silent" and connection.recv(_HEAD_BYTES_MAX):
                pass
