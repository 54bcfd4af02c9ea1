"""Frames in any order, lost, repeated, mixed and altered: the file that was meant, or an error, and never another file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.errors import Error
from tallystick.protocol.frames import (
    FRAMES_MADE_MAX,
    TEXT_SYMBOLS_MAX,
    Gathering,
    make_frames,
    parse_frame,
)
from tallystick.protocol.problems import WireError

CONTENTS = st.binary(max_size=3_000)


class Box:
    """What a reader keeps: as ``administrator.framebox`` and ``office.codes`` do, without a database."""

    def __init__(self):
        self.kept = {}

    def read(self, text):
        frame = parse_frame(text)
        self.kept.setdefault(frame.transfer, Gathering(frame.transfer, frame.count, {})).add(frame)

    def try_(self, text):
        try:
            self.read(text)
        except WireError:
            return


@given(st.lists(CONTENTS, min_size=1, max_size=4), st.data())
def test_frames_of_many_transfers_in_any_order_and_repeated_give_each_file(contents, data):
    made = [make_frames(content) for content in contents]
    texts = [frame.text for frames in made for frame in frames]
    again = data.draw(st.lists(st.sampled_from(texts), max_size=10))
    box = Box()
    for text in data.draw(st.permutations(texts + again)):
        box.read(text)
    for frames, content in zip(made, contents, strict=True):
        assert box.kept[frames[0].transfer].content() == content


@given(CONTENTS, st.data())
def test_of_a_transfer_with_a_loss_exactly_the_lost_are_missing(content, data):
    made = make_frames(content)
    lost = data.draw(st.sets(st.sampled_from([frame.number for frame in made]), min_size=1))
    box = Gathering(made[0].transfer, len(made), {})
    for frame in made:
        if frame.number not in lost:
            box.add(parse_frame(frame.text))
    assert box.missing == sorted(lost)
    with pytest.raises(WireError):
        box.content()
    for number in data.draw(st.permutations(sorted(lost))):  # it goes on where it was
        box.add(parse_frame(made[number - 1].text))
    assert box.content() == content


@st.composite
def altered(draw, text):
    """A text with something wrong in it."""
    place = draw(st.integers(0, len(text) - 1))
    symbol = draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567.01589$-") | st.characters())
    match draw(st.sampled_from(["replace", "cut", "drop", "insert", "swap"])):
        case "replace":
            return text[:place] + symbol + text[place + 1 :]
        case "cut":
            return text[:place]
        case "drop":
            return text[:place] + text[place + 1 :]
        case "insert":
            return text[:place] + symbol + text[place:]
        case _:
            other = draw(st.integers(0, len(text) - 1))
            first, last = sorted((place, other))
            return text[:first] + text[last] + text[first + 1 : last] + text[first] + text[last + 1 :]


@given(CONTENTS, st.data())
def test_no_corruption_gives_another_file(content, data):
    made = make_frames(content)
    texts = [frame.text for frame in made]
    bad = [data.draw(altered(data.draw(st.sampled_from(texts)))) for _ in range(data.draw(st.integers(1, 8)))]
    box = Box()
    for text in data.draw(st.permutations(texts + bad)):
        box.try_(text)
    for gathering in box.kept.values():
        try:
            found = gathering.content()
        except WireError:
            continue
        assert found == content
    assert box.kept[made[0].transfer].content() == content


@given(st.text(max_size=TEXT_SYMBOLS_MAX * 2) | st.from_regex(r"T1\.[A-Z2-7]{16}\.[0-9]{1,4}\.[0-9]{1,4}\.[A-Z2-7]*"))
def test_any_text_is_a_frame_or_one_kind_of_error(text):
    code = ""
    try:
        frame = parse_frame(text)
    except Error as error:
        code = error.code
    else:
        assert parse_frame(frame.text) == frame
    assert code in {"", "frame-torn", "frame-version"}


@given(CONTENTS)
def test_what_is_made_is_bounded_and_of_the_symbols_of_the_alphanumeric_mode(content):
    made = make_frames(content)
    assert len(made) <= FRAMES_MADE_MAX
    assert [frame.number for frame in made] == list(range(1, len(made) + 1))
    assert {frame.count for frame in made} == {len(made)}
    for frame in made:
        assert len(frame.text) <= 366  # version 11 at level M
        assert set(frame.text) <= set("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:")
