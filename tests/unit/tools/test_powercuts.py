"""The disk of ``tools/powercuts`` loses what POSIX lets it lose, and nothing else; its reader overlooks no call."""

from pathlib import Path

import pytest

from powercuts.disk import cut_power
from powercuts.recording import Named, Said, Synced, UnknownCallError, Wrote, read_trace

ROOT = Path("/disk")
ALL = 10_000


def hexed(text):
    return '"' + "".join(f"\\x{byte:02x}" for byte in text.encode()) + '"'


def trace(*calls):
    return list(read_trace([f"7 {call}" for call in calls], ROOT))


def found(*events):
    return [(state.files, state.said) for state in cut_power(events, seed=1, states_max=ALL)]


MADE = (Named(0, "a", 1), Synced(0))


def test_bytes_that_were_not_synced_may_be_there_or_not_and_in_part():
    states = [files["a"] for files, _ in found(*MADE, Wrote(1, 0, b"x" * 1024)) if "a" in files]
    assert {b"", b"x" * 1024, b"x" * 512, bytes(1024), bytes(512) + b"x" * 512} <= set(states)


def test_bytes_that_were_synced_stay():
    states = found(*MADE, Wrote(1, 0, b"x"), Synced(1), Said("done"))
    assert {str(files) for files, said in states if said} == {"{'a': b'x'}"}


def test_a_synced_file_without_a_synced_name_may_be_gone():
    states = found(Named(0, "a", 1), Wrote(1, 0, b"x"), Synced(1), Said("done"))
    assert ({}, 1) in states
    assert ({"a": b"x"}, 1) in states


def test_a_rename_is_before_or_after_and_never_between():
    events = (*MADE, Wrote(1, 0, b"old"), Synced(1), Named(0, "b", 2), Wrote(2, 0, b"new"), Synced(2), Synced(0))
    states = found(*events, Said("done"), Named(0, "a", 2, taken_from=(0, "b")))
    assert {str(files) for files, said in states if said} == {"{'a': b'old', 'b': b'new'}", "{'a': b'new'}"}


def test_changes_arrive_in_any_order():
    states = [files for files, _ in found(*MADE, Wrote(1, 0, b"x"), Wrote(1, 1, b"y"))]
    assert {"a": b"\0y"} in states
    assert {"a": b"x"} in states


def test_what_is_in_a_directory_whose_name_is_lost_is_lost():
    states = found(Named(0, "d", 1, is_directory=True), Named(1, "a", 2), Wrote(2, 0, b"x"), Synced(2), Synced(1))
    assert {str(files) for files, _ in states} >= {"{}", "{'d/a': b'x'}"}


def test_a_trace_is_read_as_what_it_did():
    path, other = hexed("/disk/a"), hexed("/disk/b")
    assert trace(
        f"openat(AT_FDCWD, {path}, O_WRONLY|O_CREAT|O_CLOEXEC, 0600) = 5",
        f"write(5, {hexed('hello')}, 5) = 5",
        f"pwrite64(5, {hexed('J')}, 1, 0) = 1",
        "fdatasync(5) = 0",
        f"rename({path}, {other}) = 0",
        f"write(1, {hexed('said' + chr(10))}, 5) = 5",
        f"write(9, {hexed('elsewhere')}, 9) = 9",
        f"unlink({hexed('/elsewhere')}) = 0",
    ) == [
        Named(0, "a", 1),
        Wrote(1, 0, b"hello"),
        Wrote(1, 0, b"J"),
        Synced(1),
        Named(0, "b", 1, taken_from=(0, "a")),
        Said("said"),
    ]


def test_another_process_closes_its_own_descriptors_and_says_nothing_for_us():
    path = hexed("/disk/a")
    calls = [
        f"7 openat(AT_FDCWD, {path}, O_WRONLY|O_CREAT, 0600) = 5",
        "7 vfork( <unfinished ...>",
        "8 close(5) = 0",
        f"8 write(1, {hexed('noise' + chr(10))}, 6) = 6",
        "7 <... vfork resumed>) = 8",
        "7 fsync(5) = 0",
    ]
    assert list(read_trace(calls, ROOT)) == [Named(0, "a", 1), Synced(1)]


@pytest.mark.parametrize(
    "call",
    [
        f"symlink({hexed('x')}, {hexed('/disk/b')}) = 0",
        f"rename({hexed('/disk/a')}, {hexed('/elsewhere')}) = 0",
        "fallocate(5, 0, 0, 4096) = 0",
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 5, 0) = 0x7f0000000000",
    ],
)
def test_a_call_that_is_not_understood_is_an_error(call):
    with pytest.raises(UnknownCallError):
        trace(f"openat(AT_FDCWD, {hexed('/disk/a')}, O_RDWR|O_CREAT, 0600) = 5", call)
