"""What a process did to the files below one directory, and what it said meanwhile: from its system calls.

``strace`` writes them down. Whatever changes a file or a name below the directory is understood or refused: a call that
this module does not know is an error, never overlooked. Lines on standard output are what was said.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

RUN_SECONDS: Final = 120
_CLONES: Final = ("clone", "clone3", "fork", "vfork")
_CALLS: Final = (
    *_CLONES,
    *("open", "openat", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek", "mmap"),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("sendfile", "copy_file_range", "splice", "fsync", "fdatasync", "sync_file_range"),
    *("rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "link", "linkat"),
    *("symlink", "symlinkat"),
)
_LINE: Final = re.compile(r"^(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))$")
_RESULT: Final = re.compile(r"^(.*)\) += (-?\d+|0x[0-9a-f]+|\?)(?: .*)?$")
_UNFINISHED: Final = " <unfinished ...>"
_HEX: Final = re.compile(r"\\x([0-9a-f]{2})")


class UnknownCallError(Exception):
    """A call that changes something below the directory in a way that is not modelled."""


@dataclass(frozen=True, slots=True)
class Named:
    """A name of a directory leads to another file or directory from now on; None: it is gone."""

    directory: int
    name: str
    target: int | None
    is_directory: bool = False
    taken_from: tuple[int, str] | None = None  # a rename takes the old name away in the same step


@dataclass(frozen=True, slots=True)
class Wrote:
    """Bytes of a file."""

    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    """A file has another length; what is new is zeros."""

    file: int
    size: int


@dataclass(frozen=True, slots=True)
class Synced:
    """Everything that was done to a file, or to the names of a directory, is durable."""

    file: int


@dataclass(frozen=True, slots=True)
class Said:
    """A line on standard output: others know it from now on."""

    text: str


Change = Named | Wrote | Resized
Event = Change | Synced | Said


@dataclass(slots=True)
class _Open:
    file: int
    appends: bool
    position: int = 0


@dataclass(slots=True)
class _Reader:
    """Follows descriptors, names and lengths, so that calls become events."""

    root: Path
    directories: dict[int, dict[str, int]] = field(default_factory=lambda: {0: {}})
    sizes: dict[int, int] = field(default_factory=dict)
    tables: dict[int, dict[int, _Open]] = field(default_factory=dict)  # of each process or thread
    pid: int = 0  # whose call it is
    first: int = 0  # whose standard output is listened to
    said: str = ""

    @property
    def descriptors(self) -> dict[int, _Open]:
        return self.tables[self.pid]

    def read(self, pid: int, name: str, arguments: Sequence[str], result: int) -> Iterator[Event]:
        self.first = self.first or pid
        self.pid = pid
        # One that is heard of before its parent's call has ended begins as a process does, with a table of its own.
        self.tables.setdefault(pid, dict(self.tables.get(self.first, {})))
        if result < 0:
            return
        match name:
            case "clone" | "clone3" | "fork" | "vfork":
                is_shared = any("CLONE_FILES" in argument for argument in arguments)
                if is_shared or result not in self.tables:
                    self.tables[result] = self.descriptors if is_shared else dict(self.descriptors)
            case "open" | "openat" | "creat":
                yield from self._open(name, arguments, result)
            case "close":
                self.descriptors.pop(int(arguments[0]), None)
            case "dup" | "dup2" | "dup3" | "fcntl":
                if name != "fcntl" or arguments[1].startswith("F_DUPFD"):
                    self._duplicate(int(arguments[0]), result)
            case "lseek":
                if found := self.descriptors.get(int(arguments[0])):
                    found.position = result
            case "mmap":
                self._map(arguments)
            case "write" if arguments[0] == "1" and 1 not in self.descriptors:
                yield from self._say(_text(arguments[1]))
            case "write" | "writev":
                yield from self._write(int(arguments[0]), _data(arguments), None, result)
            case "pwrite64" | "pwritev" | "pwritev2":
                place = 3 if name != "pwritev2" else -2
                yield from self._write(int(arguments[0]), _data(arguments), int(arguments[place]), result)
            case "ftruncate":
                if found := self.descriptors.get(int(arguments[0])):
                    yield self._resize(found.file, int(arguments[1]))
            case "fsync" | "fdatasync":
                if found := self.descriptors.get(int(arguments[0])):
                    yield Synced(found.file)
            case "sync_file_range":
                return  # it promises nothing
            case "sendfile" | "copy_file_range" | "splice" | "fallocate":
                targets = {"sendfile": 0, "copy_file_range": 2, "splice": 2, "fallocate": 0}
                if int(arguments[targets[name]]) in self.descriptors:
                    raise UnknownCallError(name)
            case _:
                yield from self._name(name, arguments)

    def _open(self, name: str, arguments: Sequence[str], result: int) -> Iterator[Event]:
        path = _text(arguments[1] if name == "openat" else arguments[0])
        flags = arguments[2] if name == "openat" else ("O_CREAT|O_TRUNC" if name == "creat" else arguments[1])
        place = self._place(path, arguments[0] if name == "openat" else "AT_FDCWD")
        if place is None:
            return
        if "O_TMPFILE" in flags:
            raise UnknownCallError("O_TMPFILE")
        directory, last = place
        file = 0 if last == "" else self.directories[directory].get(last)
        if file is None:
            file = self._new()
            self.sizes[file] = 0
            self.directories[directory][last] = file
            yield Named(directory, last, file)
        elif "O_TRUNC" in flags and self.sizes.get(file):
            yield self._resize(file, 0)
        self.descriptors[result] = _Open(file=file, appends="O_APPEND" in flags)

    def _duplicate(self, before: int, after: int) -> None:
        found = self.descriptors.get(before)
        if found is not None:
            self.descriptors[after] = found
        else:
            self.descriptors.pop(after, None)

    def _map(self, arguments: Sequence[str]) -> None:
        if "MAP_SHARED" not in arguments[3] or "PROT_WRITE" not in arguments[2]:
            return
        found = self.descriptors.get(int(arguments[4]))
        if found is None:
            return
        names = {name for entries in self.directories.values() for name, file in entries.items() if file == found.file}
        if not any(name.endswith("-shm") for name in names):  # SQLite's index of its log: made anew when it is opened
            raise UnknownCallError(f"a writable map of {names}")

    def _say(self, text: str) -> Iterator[Event]:
        if self.pid == self.first:
            *lines, self.said = (self.said + text).split("\n")
            yield from map(Said, lines)

    def _write(self, descriptor: int, data: bytes, offset: int | None, count: int) -> Iterator[Event]:
        found = self.descriptors.get(descriptor)
        if found is None:
            return
        if offset is None:
            offset = self.sizes[found.file] if found.appends else found.position
            found.position = offset + count
        self.sizes[found.file] = max(self.sizes[found.file], offset + count)
        yield Wrote(found.file, offset, data[:count])

    def _resize(self, file: int, size: int) -> Resized:
        self.sizes[file] = size
        return Resized(file, size)

    def _name(self, name: str, arguments: Sequence[str]) -> Iterator[Event]:
        match name:
            case "mkdir" | "mkdirat":
                place = self._place(_text(arguments[-2]), arguments[0] if name == "mkdirat" else "AT_FDCWD")
                if place is not None:
                    file = self._new()
                    self.directories[file] = {}
                    self.directories[place[0]][place[1]] = file
                    yield Named(*place, file, is_directory=True)
            case "unlink" | "rmdir" | "unlinkat":
                is_at = name == "unlinkat"
                place = self._place(_text(arguments[int(is_at)]), arguments[0] if is_at else "AT_FDCWD")
                if place is not None:
                    del self.directories[place[0]][place[1]]
                    yield Named(*place, None)
            case "link" | "linkat":
                is_at = name == "linkat"
                old = self._place(_text(arguments[int(is_at)]), arguments[0] if is_at else "AT_FDCWD")
                new = self._place(_text(arguments[3 if is_at else 1]), arguments[2] if is_at else "AT_FDCWD")
                if old is not None and new is not None:
                    file = self.directories[new[0]][new[1]] = self.directories[old[0]][old[1]]
                    yield Named(*new, file)
            case "rename" | "renameat" | "renameat2":
                is_at = name != "rename"
                old = self._place(_text(arguments[int(is_at)]), arguments[0] if is_at else "AT_FDCWD")
                new = self._place(_text(arguments[3 if is_at else 1]), arguments[2] if is_at else "AT_FDCWD")
                if old is None and new is None:
                    return
                if old is None or new is None or old[0] != new[0]:
                    raise UnknownCallError("a rename between directories")
                file = self.directories[old[0]].pop(old[1])
                self.directories[new[0]][new[1]] = file
                yield Named(*new, file, taken_from=old)
            case _:
                if any(str(self.root) in _text(argument) for argument in arguments):
                    raise UnknownCallError(name)

    def _place(self, path: str, at: str) -> tuple[int, str] | None:
        """The directory and the name in it; None for what is not below the root."""
        if not path.startswith("/"):
            if at != "AT_FDCWD" and int(at) in self.descriptors:
                raise UnknownCallError(f"a path below a descriptor: {path}")
            return None
        try:
            parts = Path(os.path.normpath(path)).relative_to(self.root).parts
        except ValueError:
            return None
        directory = 0
        for part in parts[:-1]:
            directory = self.directories[directory][part]
        return directory, parts[-1] if parts else ""

    def _new(self) -> int:
        return len(self.sizes) + len(self.directories)


def record(command: Sequence[str], root: Path, environment: Mapping[str, str]) -> list[Event]:
    """Run ``command``, and return what it did below ``root``. Raises ``RuntimeError`` where it fails."""
    trace = root.with_name(f"{root.name}.strace")
    tracer = ["strace", "-f", "-qq", "-xx", "-s", "16777216", "-o", str(trace), "-e", "signal=none"]
    tracer += ["-e", f"trace={','.join(_CALLS)}", "-e", "status=successful"]
    done = subprocess.run(
        [*tracer, *command], capture_output=True, text=True, env=dict(environment), timeout=RUN_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stderr[-3000:]}")
    with trace.open(encoding="ascii") as lines:
        events = list(read_trace(lines, root))
    trace.unlink()
    return events


def read_trace(lines: Iterator[str] | Sequence[str], root: Path) -> Iterator[Event]:
    """The events of a trace. A call that another thread's call interrupts counts when it ends."""
    reader = _Reader(root)
    begun: dict[str, tuple[str, str]] = {}
    for line in lines:
        matched = _LINE.match(line.rstrip("\n"))
        if matched is None:
            continue
        pid, name, rest, resumed, end = matched.groups()
        if resumed is not None:
            name, start = begun.pop(pid)
            rest = start + end
        elif rest.endswith(_UNFINISHED):
            begun[pid] = name, rest.removesuffix(_UNFINISHED)
            continue
        ended = _RESULT.match(rest)
        if ended is not None and ended[2] != "?":
            yield from reader.read(int(pid), name, ended[1].split(", "), int(ended[2], 0))


def _text(quoted: str) -> str:
    return _bytes(quoted).decode()


def _bytes(quoted: str) -> bytes:
    return bytes.fromhex(quoted.strip('"').replace("\\x", ""))


def _data(arguments: Sequence[str]) -> bytes:
    if arguments[1].startswith("["):
        pieces = re.findall(r'iov_base="((?:\\x[0-9a-f]{2})*)"', ", ".join(arguments))
        return b"".join(map(_bytes, pieces))
    return _bytes(arguments[1])
