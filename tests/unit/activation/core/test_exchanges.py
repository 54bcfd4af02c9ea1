"""A tally file on its way through: a result for each line, in order, in bounded memory."""

import json

import pytest

from support.activation import Bench, Device, TestSigner
from tallystick.activation.core import exchanges, issuing
from tallystick.protocol import tallyfile
from tallystick.protocol.problems import WireError


@pytest.fixture
def bench():
    return Bench()


def results(bench, data):
    found = []
    for chunk in exchanges.chunks(tallyfile.parse_chunks([data])):
        lines = exchanges.read_lines(chunk, bench.signer.keyset)
        answers = bench.store.transact(
            lambda tx, lines=lines: issuing.process(
                exchanges.messages_of(lines), tx, signer=bench.signer, policy=bench.policy, now=bench.now
            )
        )
        found += exchanges.results_of(lines, answers)
    return found


def mixed(bench):
    line = bench.buy(5)
    device = Device("a")
    return [
        "# a comment",
        device.activate((line, 2)),
        "nonsense",
        bench.signer.keyset.compact,
        TestSigner("stranger").keyset.compact,
        Device("b", aud="Elsewhere").say("refresh"),
        device.activate((line, 99)),
        "",
        device.say("refresh")[:-3],
        device.say("refresh"),
    ]


def test_each_line_gets_its_result_in_order_and_a_bad_one_disturbs_no_other(bench):
    found = results(bench, "\n".join(mixed(bench)).encode())
    assert [(result.line_number, result.answer.outcome.value, result.answer.code) for result in found] == [
        (2, "granted", None),
        (3, "error", "envelope-malformed"),
        (4, "error", "kind-unexpected"),
        (5, "error", "kind-unexpected"),
        (6, "error", "issuer-wrong"),
        (7, "refused", "not-enough"),
        (9, "error", "envelope-malformed"),
        (10, "granted", None),
    ]
    assert all(result.next_step for result in found)


def test_the_reply_file_has_replies_and_comments_and_nothing_else(bench):
    found = results(bench, "\n".join(mixed(bench)).encode())
    data = b"".join(exchanges.tally_lines(found))
    replies = [line.envelope.compact for line in tallyfile.parse_chunks([data])]
    assert replies == [envelope for result in found for envelope in result.answer.reply]
    comments = [line for line in data.decode().splitlines() if line.startswith("#")]
    assert [comment.split(" ")[2] for comment in comments] == ["3", "4", "5", "6", "9"]


def test_a_row_for_programs_says_whose_it_is_and_what_became_of_it(bench):
    granted, error, *_ = (
        json.loads(exchanges.json_row(one)) for one in results(bench, "\n".join(mixed(bench)).encode())
    )
    assert granted.keys() == error.keys()
    assert (granted["device_id"], granted["purpose"], granted["outcome"]) == (Device("a").id, "activate", "granted")
    assert granted["reply"].count(".") == 2
    assert (error["device_id"], error["digest"], error["reply"], error["code"]) == (
        None,
        None,
        "",
        "envelope-malformed",
    )


def test_a_comment_stays_on_its_line_whatever_a_stranger_wrote(bench):
    hostile = Device("a", aud="x\u2028# y\u202e")
    (result,) = results(bench, hostile.say("refresh").encode())
    assert result.is_error
    assert len(b"".join(exchanges.tally_lines([result])).decode().splitlines()) == 1


def test_chunks_are_bounded_by_lines_and_by_bytes(bench, monkeypatch):
    line = tallyfile.parse_chunks([Device("a").say("refresh").encode()])
    (good,) = line
    monkeypatch.setattr(exchanges, "CHUNK_LINES_MAX", 3)
    assert [len(chunk) for chunk in exchanges.chunks([good] * 7)] == [3, 3, 1]
    monkeypatch.setattr(exchanges, "CHUNK_BYTES_MAX", 1)
    assert [len(chunk) for chunk in exchanges.chunks([good] * 3)] == [1, 1, 1]


def test_a_flood_of_lines_that_are_none_is_no_tally_file(bench, monkeypatch):
    monkeypatch.setattr(exchanges, "BAD_LINES_MAX", 5)
    good = Device("a").say("refresh")
    assert len(results(bench, b"x\n" * 5 + good.encode() + b"\n" + b"x\n" * 5)) == 11
    with pytest.raises(WireError) as refused:
        results(bench, b"x\n" * 6)
    assert refused.value.code == "not-text"
