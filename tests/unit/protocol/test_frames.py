"""Frames of QR codes: what is refused, each with its code, and what was agreed on for ever."""

import zlib
from pathlib import Path

import pytest

from tallystick.protocol import frames
from tallystick.protocol.frames import Frame, Gathering, format_numbers, make_frames, parse_frame, parse_numbers
from tallystick.protocol.problems import WireError

GOLDEN = Path(__file__).parents[2] / "golden" / "v1"
CONTENT = (GOLDEN / "returns-05-return-all.request.tally").read_bytes()


def gathered(texts):
    first = parse_frame(texts[0])
    gathering = Gathering(first.transfer, first.count, {})
    for text in texts:
        gathering.add(parse_frame(text))
    return gathering


def refused(text):
    with pytest.raises(WireError) as caught:
        parse_frame(text)
    return caught.value.code


def text_of(number=1, count=1, piece=b"x", transfer="A" * 16):
    return Frame(transfer=transfer, number=number, count=count, piece=piece).text


def test_golden_frames_give_the_golden_file_for_ever():
    texts = (GOLDEN / "frames-01.txt").read_text("ascii").split()
    assert len(texts) == 3
    assert gathered(texts).content() == CONTENT
    assert gathered(texts[::-1]).content() == CONTENT


def test_the_same_stream_is_cut_and_named_as_in_the_golden_frames():
    texts = (GOLDEN / "frames-01.txt").read_text("ascii").split()
    stream = b"".join(parse_frame(text).piece for text in texts)
    assert [frame.text for frame in frames._split(stream, 3)] == texts


def test_a_scanner_may_type_small_letters_and_spaces_around():
    (first, *_) = make_frames(CONTENT)
    assert parse_frame(f" {first.text.lower()}\r\n") == first


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "https://example.com/T1.",
        "T1",
        "T1.A.1.1.AAAA",
        f"T1.{'A' * 16}.0.1.AAAAAAAAA",
        f"T1.{'A' * 16}.01.1.AAAAAAAAA",
        f"T1.{'A' * 16}.1.1.",
        f"T1.{'A' * 16}.1.1.A",
        "T1." + "A" * 5000,
        "\u0131" * 20,
        "\ud800",
        f"T1.{'A' * 16}.\u0661.1.AAAAAAAAA",
    ],
)
def test_what_is_no_frame_is_torn(text):
    assert refused(text) == "frame-torn"


def test_a_frame_that_lost_its_end_or_a_symbol_in_the_middle_is_torn():
    whole = make_frames(CONTENT)[0].text
    assert refused(whole[:-1]) == refused(whole[:100] + whole[101:]) == refused(whole + "A") == "frame-torn"


def test_unused_bits_are_zero():
    whole = text_of(piece=b"xy")  # 6 bytes are 10 symbols, of which the last has two unused bits
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(whole[-1])
    assert refused(whole[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[last + 1]) == "frame-torn"


def test_numbers_and_pieces_beyond_the_limits_are_torn():
    assert refused(text_of(number=2, count=1)) == "frame-torn"
    assert refused(text_of(count=frames.FRAMES_MAX + 1)) == "frame-torn"
    assert refused(text_of(piece=b"")) == "frame-torn"
    assert refused(text_of(piece=b"x" * (frames.PIECE_BYTES_MAX + 1))) == "frame-torn"
    assert parse_frame(text_of(count=frames.FRAMES_MAX, piece=b"x" * frames.PIECE_BYTES_MAX)).count == 400


@pytest.mark.parametrize("version", ["T0", "T2", "T10", "t2"])
def test_another_version_is_said_to_be_one(version):
    assert refused(f"{version}.{'A' * 16}.1.1.AAAAAAAAA") == "frame-version"


@pytest.mark.parametrize("other", [{"piece": b"y"}, {"count": 3}, {"transfer": "B" * 16}])
def test_what_contradicts_is_refused_and_changes_nothing(other):
    gathering = Gathering("A" * 16, 2, {})
    assert gathering.add(Frame(transfer="A" * 16, number=1, count=2, piece=b"x"))
    assert not gathering.add(Frame(transfer="A" * 16, number=1, count=2, piece=b"x"))
    with pytest.raises(WireError) as caught:
        gathering.add(Frame(**({"transfer": "A" * 16, "number": 1, "count": 2, "piece": b"x"} | other)))
    assert caught.value.code == "frame-contradicts"
    assert gathering.pieces == {1: b"x"}


def test_what_is_not_whole_gives_nothing_and_says_what_is_missing():
    made = make_frames(CONTENT)
    gathering = gathered([made[1].text])
    with pytest.raises(WireError) as caught:
        gathering.content()
    assert caught.value.code == "frames-missing"
    assert caught.value.seen == "all but 1, 3"


def streamed(stream, count=1):
    gathering = Gathering(frames._transfer_of(stream, count), count, {})
    for frame in frames._split(stream, count):
        gathering.add(frame)
    return gathering


@pytest.mark.parametrize(
    "stream",
    [
        b"not deflated",
        zlib.compress(b"a")[:-1],
        zlib.compress(b"a") + b"more",
        zlib.compress(b"\n" * (frames.CONTENT_BYTES_MAX + 1)),
        zlib.compress(b"\n" * 100_000_000, 9),
    ],
    ids=["stranger", "cut", "more", "one byte too long", "bomb"],
)
def test_a_whole_transfer_of_something_else_gives_nothing(stream):
    count = -(-len(stream) // 1000)
    with pytest.raises(WireError) as caught:
        streamed(stream, count).content()
    assert caught.value.code == "frames-differ"


def test_a_content_of_the_largest_size_is_read():
    content = b"\n" * frames.CONTENT_BYTES_MAX
    stream = zlib.compress(content, 9)
    assert streamed(stream, -(-len(stream) // 1000)).content() == content


def test_a_bomb_is_not_inflated_beyond_the_limit():
    import tracemalloc

    stream = zlib.compress(b"\n" * 100_000_000, 9)
    gathering = streamed(stream, -(-len(stream) // 1000))
    tracemalloc.start()
    with pytest.raises(WireError):
        gathering.content()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * frames.CONTENT_BYTES_MAX


def test_too_much_is_said_to_be_too_much():
    import random

    for content in (random.Random(1).randbytes(30_000), b"\n" * (frames.CONTENT_BYTES_MAX + 1)):
        with pytest.raises(WireError) as caught:
            make_frames(content)
        assert caught.value.code == "frames-too-many"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3, 7-9", [3, 7, 8, 9]),
        ("9-7", []),
        ("", []),
        ("0,1,11,-3,x,2-", [1]),
        ("1-999999", []),
        ("5-999", [5, 6, 7, 8, 9, 10]),
        ("2;3 4", [2, 3, 4]),
        ("1," * 5000, [1]),
    ],
)
def test_numbers_that_a_person_types(text, numbers):
    assert parse_numbers(text, 10) == numbers


def test_numbers_for_people_come_back_as_they_are():
    assert format_numbers([9, 3, 8, 7, 3]) == "3, 7-9"
    assert format_numbers([]) == ""
    assert parse_numbers(format_numbers({1, 2, 4}), 10) == [1, 2, 4]
