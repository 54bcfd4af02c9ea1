"""Every bad input has its code, the same one in every language: the table of docs/protocol/checks.md, row by row."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path

import pytest

from support.altered import altered_answers, altered_files, altered_replies
from support.answers import GOOD, Case, bad_answers, good_answers
from support.golden import golden_answers
from support.readers import READERS
from tallystick.conformance import vectors
from tallystick.conformance.vectors import Vector
from tallystick.protocol.answers import Question

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "protocol" / "checks.md").read_text("utf-8")
TABLE = PAGE.partition("<!-- table: bad input -->\n")[2].partition("\n\n")[0]
ROWS = [
    (what, code, tuple(re.findall(r"`([a-z0-9-]+)`", names)))
    for what, code, names in re.findall(r"^\| ([^|]+) \| `([a-z-]+)` \| (`[^|]+`) \|$", TABLE, re.MULTILINE)
]
VECTORS = {vector.name: vector for vector in vectors.load()}
OTHERS = sorted(set(READERS) - {"Python"})
LANGUAGES = list(READERS)
pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("clients")]


def test_the_table_was_read_whole():
    assert len(ROWS) == len(TABLE.splitlines()) - 2 > 20
    assert {len(names) > 0 for _what, _code, names in ROWS} == {True}


@pytest.fixture(scope="module")
def decided(reader):
    """What a language's reader decides, of every vector that a row names."""
    chosen = [VECTORS[name] for name in sorted({name for *_row, names in ROWS for name in names})]

    @cache
    def decide(language):
        return dict(zip((one.name for one in chosen), reader(language).decide(chosen), strict=True))

    return decide


@pytest.mark.parametrize(("what", "code", "names"), ROWS, ids=[what for what, *_ in ROWS])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_bad_input_has_its_code(decided, language, what, code, names):
    assert {name: decided(language)[name] for name in names} == dict.fromkeys(names, code)


def test_python_decides_every_vector_as_it_must(reader):
    """Files without an agent are for the others: a program in Python reads the data directory (``checks.open``)."""
    assert reader("Python").wrong([one for one in VECTORS.values() if one.kind != "files"]) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_golden_answers_are_decided_as_they_were(reader, language):
    assert reader(language).wrong(golden_answers()) == []


# Whatever somebody makes of an answer, all readers decide the same


@pytest.fixture(scope="module")
def altered():
    golden = [
        Case(
            code=one.result,
            body=one.content("answer"),
            roots=tuple(one.fields["roots"]),
            question=Question(**{name: one.fields[name] for name in ("feature", "required", "nonce")}),
        )
        for one in golden_answers()
    ]
    good, all_ = [*good_answers().values(), *golden], [*good_answers().values(), *bad_answers().values(), *golden]
    found = altered_answers(good, 2000, "good") + altered_answers(all_, 1000, "all")
    codes = {one.result for one in found}
    assert {"licensed", "too-few", "expired", "grant-forged", "keys-forged", "answer-forged", "other-device"} <= codes
    return found


@pytest.mark.parametrize("language", OTHERS)
def test_readers_agree_on_answers_that_were_altered(reader, altered, language):
    assert reader(language).wrong(altered) == []


def test_readers_agree_on_heads_that_were_altered(reader):
    replies = altered_replies(GOOD.body(), 500, "head")
    decided = reader("Python").decide(replies)
    assert set(decided) == {"answer-differs", "answer-malformed", "answer-too-large", "agent-refused"}
    said = [Vector({**one.fields, "result": code}) for one, code in zip(replies, decided, strict=True)]
    for language in OTHERS:
        assert reader(language).wrong(said) == [], language


def test_readers_agree_on_files_that_were_altered(reader):
    files = altered_files([*good_answers().values(), *bad_answers().values()], 1000, "files")
    decided = reader("C").decide(files)
    assert {"licensed", "expired", "check-wrong", "other-device", "keys-forged", "grant-forged"} <= set(decided)
    said = [Vector({**one.fields, "result": code}) for one, code in zip(files, decided, strict=True)]
    for language in sorted({*OTHERS} - {"C"}):
        assert reader(language).wrong(said) == [], language


# What listens, and where


@pytest.fixture
def folder(monkeypatch):
    """A short one, and the current one: paths of sockets are short, those of tests are not."""
    with tempfile.TemporaryDirectory(prefix="t") as made:
        monkeypatch.chdir(made)
        yield Path(made)


@contextlib.contextmanager
def listening(path, say, *, backlog=8):
    """Something listens at a path or an address, and says what it is told to, to one program after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(backlog)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                with one, contextlib.suppress(OSError):
                    one.settimeout(60)
                    one.recv(65_536)
                    say(one)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


def replay(one):
    body = GOOD.body()
    one.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_gigabyte_is_refused_before_it_came(reader, folder, language):
    """Said, not said, and as a head: whoever sends it gets rid of little more than what the kernel holds."""
    sent = []

    def pour(start):
        def say(one):
            sent.append(len(start))
            one.sendall(start)
            for _ in range(1024):
                one.sendall(b"# filling\n" * 104_858)
                sent[-1] += 1_048_580

        return say

    codes = []
    for number, start in enumerate(
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 204800\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nx: ",
        )
    ):
        with listening(f"{number}", pour(start)):
            codes += reader(language).ask(folder / f"{number}")
    assert codes == ["answer-too-large", "answer-malformed", "answer-malformed"]
    assert max(sent) < 16 * 1024 * 1024


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_agent_that_takes_nobody_costs_the_deadline_and_no_more(reader, folder, language):
    """Its queue is full, and it never accepts: were the deadline not kept, this would not end."""
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as waiting:
        listener.bind("full")
        listener.listen(0)
        for _ in range(8):
            one = waiting.enter_context(socket.socket(socket.AF_UNIX))
            one.setblocking(False)
            try:
                one.connect("full")
            except BlockingIOError:
                break
        else:
            pytest.fail("the queue took eight connections")
        assert reader(language).ask("full", deadline=100) == ["agent-silent"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_no_path_of_a_socket_is_no_agent(reader, folder, language):
    (folder / "file").write_text("x")
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("left")
    paths = ("absent", "no/such/place", "file", ".", "left", "loop", "dangling", "x" * 108, "x" * 5000)
    assert dict(zip(paths, reader(language).ask(*paths), strict=True)) == dict.fromkeys(paths, "agent-absent")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_path_has_up_to_107_bytes_and_is_never_cut(reader, folder, language):
    """Where a longer one were cut, somebody else's socket would be asked."""
    with listening("x" * 107, replay):
        codes = reader(language).ask(*("x" * length for length in range(107, 111)))
    assert codes == ["answer-differs", "agent-absent", "agent-absent", "agent-absent"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_symbolic_link_leads_to_its_socket_and_proves_nothing(reader, folder, language):
    with listening("real", replay):
        (folder / "link").symlink_to("real")
        assert reader(language).ask(folder / "link") == ["answer-differs"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_name_without_a_file_is_nobody_s_socket(reader, folder, language):
    """The abstract namespace has no modes: whoever comes first has the name. A path that begins with @ is a file's."""
    program, name = reader(language), f"tallystick-{os.getpid()}-{language}"
    with listening(f"\0{name}", replay):
        assert program.ask(f"\0{name}", f"@{name}", "\0", "") == ["agent-absent"] * 4
        with listening(f"@{name}", replay):
            assert program.ask(f"@{name}") == ["answer-differs"]
