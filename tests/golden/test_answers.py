"""Answers to licensed programs for ever: what was signed once is decided by every later version as it was.

Readers in other languages: ``tests/clients/test_bad_input.py``, over the same files.
"""

from __future__ import annotations

import json

import pytest

from support import golden
from tallystick.protocol import answers, envelope, messages, tallyfile
from tallystick.protocol.answers import ANSWER, Question, Reader
from tallystick.protocol.messages import GRANT, KEYS


def lines(name: str) -> list[envelope.Unverified]:
    found = list(tallyfile.parse_chunks([(golden.FOLDER / f"{name}.tally").read_bytes()]))
    assert all(isinstance(line, tallyfile.GoodLine) for line in found)
    return [line.envelope for line in found]


def test_every_way_to_be_and_not_to_be_licensed_is_there():
    told = [golden.record(name) for name in golden.NAMES]
    assert {one["code"] for one in told} == {"licensed", "too-few", "not-licensed", "expired", "older-grant"}
    kinds = {tuple(one["typ"] for one in record["envelopes"]) for record in told}
    assert kinds == {(ANSWER,), (ANSWER, KEYS), (ANSWER, GRANT, KEYS)}
    assert any(one["envelopes"][-1]["claims"].get("handovers") for one in told)


@pytest.mark.parametrize("name", golden.NAMES)
def test_an_answer_has_its_recorded_kinds_digests_and_claims(name):
    told = golden.record(name)["envelopes"]
    opened = lines(name)
    assert [one.typ for one in opened] == [one["typ"] for one in told]
    assert [envelope.digest_of(one.compact) for one in opened] == [one["digest"] for one in told]
    assert [json.loads(one.payload) for one in opened] == [one["claims"] for one in told]
    claims = messages.convert_claims(opened[0].payload, answers.Answer)
    assert json.loads(messages.encode_claims(claims)) == told[0]["claims"]


@pytest.mark.parametrize("name", golden.NAMES)
def test_an_answer_is_decided_as_it_was(name):
    told = golden.record(name)
    verdict = Reader(told["roots"]).decide(Question(**told["question"]), (golden.FOLDER / f"{name}.tally").read_bytes())
    assert (verdict.code, verdict.activated) == (told["code"], told["activated"])


@pytest.mark.parametrize("name", golden.NAMES)
def test_a_program_that_names_another_root_believes_none_of_it(name):
    told = golden.record(name)
    data = (golden.FOLDER / f"{name}.tally").read_bytes()
    code = Reader(["A" * 43]).decide(Question(**told["question"]), data).code
    assert code == ("other-issuer" if len(told["envelopes"]) > 1 else "not-licensed")
