"""What a licensed program makes of an answer: the rules of docs/protocol/checks.md, each with its code, in their order."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from support.answers import (
    GOOD,
    NONCE,
    NOW,
    OTHER,
    QUESTION,
    ROOT_OF_GOOD,
    bad_answers,
    good_answers,
    licensed,
)
from tallystick.domain.verdict import Standing
from tallystick.protocol import answers
from tallystick.protocol.answers import Question, Reader, Remembered
from tallystick.protocol.envelope import digest_of
from tallystick.protocol.problems import BY_CODE, WireError

PAGE = (Path(__file__).parents[3] / "docs" / "protocol" / "checks.md").read_text("utf-8")
CASES = {**good_answers(), **bad_answers()}
DEVICE = GOOD.device.public.thumbprint


def decide(case):
    return Reader(case.roots, remembered=case.remembered).decide(case.question, case.body)


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_decided_with_its_code(name):
    verdict = decide(CASES[name])
    assert verdict.code == CASES[name].code, verdict.why
    assert verdict.is_licensed is (CASES[name].code == "licensed")
    assert verdict.code == "licensed" or BY_CODE[verdict.code]


def test_every_code_of_the_page_that_an_answer_can_get_has_a_case():
    rules = re.findall(r"^\| (\d+) \| .* \| (`[^|]*) \|$", PAGE, re.MULTILINE)
    codes = {code for number, text in rules if int(number) >= 5 for code in re.findall(r"`([a-z-]+)`", text)}
    assert codes - {"expires"} == {case.code for case in bad_answers().values()}
    assert all(code in BY_CODE for code in codes)


@pytest.mark.parametrize("name", CASES)
def test_an_answer_that_was_seen_before_is_decided_in_the_same_way(name):
    case = CASES[name]
    reader = Reader(case.roots, remembered=case.remembered)
    first = reader.decide(case.question, case.body)
    assert reader.decide(case.question, case.body) == first


def test_what_was_checked_for_one_answer_counts_for_no_other():
    reader = Reader([ROOT_OF_GOOD])
    for name, case in CASES.items():
        if case.roots == (ROOT_OF_GOOD,) and case.remembered is None:
            reader.remembered = None
            assert reader.decide(case.question, case.body).code == case.code, name
            reader.remembered = None
            assert reader.decide(QUESTION, GOOD.body()).is_licensed


def test_what_stood_behind_an_answer_counts_only_where_the_same_stands_again():
    """In front of the first answer stands a line that is blank, and is no line for people."""
    reader = Reader([ROOT_OF_GOOD])
    good = GOOD.body()
    assert reader.decide(QUESTION, b"\r\n" + good).is_licensed
    answer = GOOD.lines()[0].encode()
    assert reader.decide(QUESTION, answer + b"\n" + good).code == "answer-malformed"
    assert reader.decide(QUESTION, good).is_licensed
    assert reader.decide(QUESTION, good.replace(b"# For people.", b"# Other words.")).is_licensed
    assert reader.decide(QUESTION, good + b"x\n").code == "answer-malformed"
    assert reader.decide(QUESTION, good[:-9]).code == "answer-malformed"
    assert reader.decide(QUESTION, good).is_licensed


def test_what_is_refused_is_not_remembered():
    for name, case in bad_answers().items():
        if case.code not in {"too-few", "expired", "not-licensed"}:
            reader = Reader(case.roots, remembered=case.remembered)
            reader.decide(case.question, case.body)
            assert reader.remembered == case.remembered, name


def test_the_newest_grant_and_the_highest_moment_with_it_are_remembered():
    reader = Reader([ROOT_OF_GOOD])
    reader.decide(QUESTION, replace(GOOD, answer={"time_seen": NOW + 5}).body())
    assert reader.remembered == Remembered(device=DEVICE, epoch=3, number=7, moment=NOW + 5)
    reader.decide(QUESTION, GOOD.body())
    assert reader.remembered.moment == NOW + 5


def test_a_newer_grant_heals_a_clock_that_had_jumped():
    dated = replace(GOOD, licenses=licensed(expires=NOW + 10))
    reader = Reader([ROOT_OF_GOOD])
    assert reader.decide(QUESTION, replace(dated, answer={"iat": NOW + 10**9}).body()).code == "expired"
    assert reader.decide(QUESTION, dated.body()).code == "expired"
    assert reader.decide(QUESTION, replace(dated, grant={"number": 8}).body()).is_licensed


def test_an_older_grant_is_refused_after_a_newer_one():
    reader = Reader([ROOT_OF_GOOD])
    assert reader.decide(QUESTION, replace(GOOD, grant={"number": 8}).body()).is_licensed
    assert reader.decide(QUESTION, GOOD.body()).code == "older-grant"


@pytest.mark.parametrize(
    "roots",
    [
        (),
        ("",),
        ("A" * 42,),
        ("A" * 42 + "B",),  # bits that say nothing
        ("A" * 44,),
        ("A" * 42 + "=",),
        (f"{ROOT_OF_GOOD} ",),
        (ROOT_OF_GOOD, "typo"),
        (None,),
        (7,),
        tuple(f"{'A' * 41}{letter}A" for letter in "ABCDEFGHI"),
    ],
)
def test_a_program_that_names_no_root_is_never_licensed(roots):
    verdict = Reader(roots).check_question("mqtt-client", 1)
    assert (verdict.code, verdict.standing) == ("check-wrong", Standing.NOT_LICENSED)


@pytest.mark.parametrize(
    ("feature", "required"),
    [
        ("", 1),
        ("a b", 1),
        ("a" * 33, 1),
        ("é", 1),
        (None, 1),
        (b"mqtt", 1),
        ("mqtt", -1),
        ("mqtt", 10**9 + 1),
        ("mqtt", True),
        ("mqtt", 1.0),
        ("mqtt", "1"),
        ("mqtt\n", 1),
        ("a&required=0", 1),
    ],
)
def test_what_cannot_be_asked_is_not_licensed(feature, required):
    assert Reader([ROOT_OF_GOOD]).check_question(feature, required).code == "check-wrong"


def test_a_question_is_read_as_it_was_asked():
    for question in (QUESTION, Question(feature="a.B_c-9", required=0, nonce="-_" * 32)):
        assert answers.parse_target(question.target) == question
    spoken = f"/v1/check?speaks=7&nonce={NONCE}&feature=mqtt"
    assert answers.parse_target(spoken) == Question(feature="mqtt", required=1, nonce=NONCE)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "feature=mqtt",
        f"nonce={NONCE}",
        f"feature=mqtt&nonce={NONCE[:-1]}",
        f"feature=mqtt&nonce={'A' * 65}",
        f"feature=mqtt&nonce={NONCE[:-1]}=",
        f"feature=mqtt&feature=mqtt&nonce={NONCE}",
        f"feature=mqtt&nonce={NONCE}&x=1",
        f"feature=mqtt&nonce={NONCE}&",
        f"feature=mqtt&nonce={NONCE}&required=",
        f"feature=mqtt&nonce={NONCE}&required=01",
        f"feature=mqtt&nonce={NONCE}&required=+1",
        f"feature=mqtt&nonce={NONCE}&required=-1",
        f"feature=mqtt&nonce={NONCE}&required=1e3",
        f"feature=mqtt&nonce={NONCE}&required=1000000001",
        f"feature=mqtt&nonce={NONCE}&required={'9' * 5000}",
        f"feature=mqtt&nonce={NONCE}&speaks=0",
        f"feature=mqtt&nonce={NONCE}&speaks=x",
        f"feature=m%71tt&nonce={NONCE}",
        f"feature=mqtt+x&nonce={NONCE}",
        f"feature=m\u0660&nonce={NONCE}",
    ],
)
def test_a_question_of_another_form_is_refused(query):
    with pytest.raises(WireError) as caught:
        answers.parse_target(f"/v1/check?{query}")
    assert caught.value.code == "check-wrong"


@pytest.mark.parametrize("path", ["/", "/v1/checks", "/v1/check/", "http://localhost/v1/check", "*"])
def test_another_path_is_not_found(path):
    with pytest.raises(WireError) as caught:
        answers.parse_target(f"{path}?feature=mqtt&nonce={NONCE}")
    assert caught.value.code == "not-found"


def test_what_an_agent_signs_is_what_a_program_reads():
    keyset, grant = GOOD.keyset_line(), GOOD.grant_line()
    made = answers.make_answer(
        GOOD.device,
        QUESTION,
        now=NOW,
        time_seen=NOW,
        epoch=3,
        grant=digest_of(grant),
        keyset=digest_of(keyset),
    )
    body = f"{made}\n{grant}\n{keyset}\n".encode()
    assert Reader([ROOT_OF_GOOD]).decide(QUESTION, body).is_licensed
    assert Reader([OTHER.public.thumbprint]).decide(QUESTION, body).code == "other-issuer"


def test_the_limits_of_the_page_are_those_of_the_code():
    assert f"{answers.ANSWER_BYTES_MAX:,} bytes (200 KiB)" in PAGE
    assert f"at most {answers.HEAD_BYTES_MAX:,} bytes" in PAGE
    assert f"at most **{answers.SOCKET_PATH_BYTES_MAX} bytes**" in PAGE
    assert f"at most {answers.ROOTS_MAX}." in PAGE
    assert f"{answers.DEADLINE_SECONDS * 1000:g} ms where it says nothing" in PAGE
