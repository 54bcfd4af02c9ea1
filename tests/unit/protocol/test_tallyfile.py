"""Any file, in chunks of any size: the good lines go through, the bad ones are named, memory stays small."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from support.activation import seeded
from tallystick.protocol import tallyfile
from tallystick.protocol.envelope import LINE_BYTES_MAX, PrivateKey
from tallystick.protocol.tallyfile import BadLine, GoodLine, LineParser

KEY = PrivateKey(seeded("key"))
ONE, TWO, THREE = (KEY.sign("tally-request+jwt", text, with_jwk=True).encode() for text in (b"{}", b"[1]", b"[2]"))
BOM = b"\xef\xbb\xbf"


def read(*chunks: bytes) -> list[tuple[int, bytes | str]]:
    """Line number, and the envelope or the code."""
    return [
        (line.line_number, line.envelope.compact.encode() if isinstance(line, GoodLine) else line.error.code)
        for line in tallyfile.parse_chunks(chunks)
    ]


MIXED = b"\n".join(
    [
        BOM + b"# Tallystick: 3 messages for Example Controls\r",
        b"",
        ONE,
        b"  \t ",
        b"#" + ONE,
        b"  " + TWO + b" \t\r",
        b"not an envelope",
        b"<!doctype html>",
        ONE[:-5],
        b"\xff\xfe\x00",
        THREE,
    ]
)
MIXED_LINES = [
    (3, ONE),
    (6, TWO),
    (7, "envelope-malformed"),
    (8, "envelope-malformed"),
    (9, "envelope-malformed"),
    (10, "envelope-malformed"),
    (11, THREE),
]


def test_good_lines_go_through_beside_bad_ones_each_with_its_number():
    assert read(MIXED) == MIXED_LINES


def test_the_last_line_needs_no_line_end_and_may_have_one():
    assert read(MIXED + b"\n") == read(MIXED + b"\r\n") == read(MIXED + b"\n\n\n") == MIXED_LINES


def test_cut_in_two_at_every_byte_the_lines_are_the_same():
    for place in range(len(MIXED) + 1):
        assert read(MIXED[:place], MIXED[place:]) == MIXED_LINES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_in_chunks_of_any_size_the_lines_are_the_same(size):
    assert read(*(MIXED[place : place + size] for place in range(0, len(MIXED), size))) == MIXED_LINES


def test_empty_chunks_are_nothing():
    assert read(b"", MIXED[:9], b"", b"", MIXED[9:], b"") == MIXED_LINES


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_windows_line_ends_make_no_difference(end):
    assert read(ONE + end + TWO + end) == [(1, ONE), (2, TWO)]


@pytest.mark.parametrize("text", [b"", b"\n", b"\r\n\r\n", b"   ", b"#", b"# only words", BOM, BOM + b"\n", BOM + b"#"])
def test_a_file_without_messages_is_no_error(text):
    assert read(text) == []


def test_one_byte_order_mark_is_passed_over_and_not_two():
    assert read(BOM + ONE) == [(1, ONE)]
    assert read(BOM + BOM + ONE) == [(1, "envelope-malformed")]


def test_files_joined_by_a_program_that_left_their_marks_are_read():
    """``copy a.tally+b.tally c.tally`` on Windows leaves the second mark in the middle."""
    assert read(BOM + ONE + b"\r\n" + BOM + TWO + b"\r\n" + BOM + b"# end") == [(1, ONE), (2, TWO)]


@pytest.mark.parametrize(
    "text", [b"PK\x03\x04" + bytes(range(256)), "# caf\u00e9\n".encode("utf-16"), bytes(5000), b"\r\r\r" + ONE * 2]
)
def test_what_is_no_text_becomes_bad_lines_and_nothing_else(text):
    for line in tallyfile.parse_chunks([text]):
        assert isinstance(line, BadLine)
        assert line.error.code == ("file-packed" if text[:2] == b"PK" else "envelope-malformed")
        str(line.error).encode()


def test_a_line_of_the_longest_length_is_read_and_one_byte_more_is_too_long():
    at_limit = b"A" * LINE_BYTES_MAX
    assert read(at_limit) == [(1, "envelope-malformed")]
    assert read(at_limit + b"A") == [(1, "line-too-long")]
    assert read(at_limit + b"A\n" + ONE) == [(1, "line-too-long"), (2, ONE)]


def test_the_length_of_a_line_too_long_is_told():
    (line,) = tallyfile.parse_chunks([b"A" * 50_000] * 4)
    assert isinstance(line, BadLine)
    assert "200000 bytes" in line.error.seen


def test_a_comment_may_be_as_long_as_it_likes():
    assert read(b"# " + b"x" * 200_000 + b"\n" + ONE) == [(2, ONE)]


def peak_bytes(chunks) -> int:
    tracemalloc.start()
    try:
        for _ in tallyfile.parse_chunks(chunks):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("symbol", [b"A", b"#", b" ", b"\x00", b"\r", b"."])
def test_one_gigantic_line_costs_no_more_memory_than_a_line_of_the_longest_length(symbol):
    chunk = symbol * 65_536
    assert peak_bytes(chunk for _ in range(2000)) < 10 * LINE_BYTES_MAX  # 125 MiB went through


def test_a_file_of_many_lines_costs_no_more_memory_than_a_short_one():
    chunk = (ONE + b"\n") * 100
    short, long = peak_bytes(chunk for _ in range(2)), peak_bytes(chunk for _ in range(50))
    assert long < short + 50_000


def test_a_file_of_nothing_but_line_ends_is_read_in_no_time():
    began = time.process_time()
    assert read(*[b"\n" * 65_536] * 20) == []
    assert time.process_time() - began < 10


def test_a_line_that_arrives_byte_by_byte_is_read_in_no_time():
    line = b"A" * (2 * LINE_BYTES_MAX)
    began = time.process_time()
    assert read(*(line[place : place + 1] for place in range(len(line)))) == [(1, "line-too-long")]
    assert time.process_time() - began < 5


def test_the_parser_gives_a_line_as_soon_as_it_is_whole():
    parser = LineParser()
    assert list(parser.feed(ONE)) == []
    (line,) = parser.feed(b"\nrest")
    assert line.line_number == 1
    (rest,) = parser.close()
    assert rest.line_number == 2
    assert list(parser.close()) == []


# Writing


def test_what_is_written_reads_back():
    envelopes = [ONE.decode(), TWO.decode()]
    text = b"".join(tallyfile.format_file(envelopes, comment="For the boiler room.\nCarry it on."))
    assert text == b"# For the boiler room.\n# Carry it on.\n" + ONE + b"\n" + TWO + b"\n"
    assert [line for _, line in read(text)] == [ONE, TWO]


@pytest.mark.parametrize("separator", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_comment_can_smuggle_a_line_in(separator):
    text = b"".join(tallyfile.format_file([], comment=f"name{separator}{ONE.decode()}"))
    assert read(text) == []
    assert all(line.startswith(b"#") for line in text.splitlines())
