"""Answers of anybody to a licensed program: a code of the page comes out, and nobody without the keys is licensed."""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.altered import altered_answers
from support.answers import GOOD, QUESTION, ROOT_OF_GOOD, bad_answers, good_answers
from tallystick.protocol import answers
from tallystick.protocol.answers import ANSWER, Reader
from tallystick.protocol.messages import GRANT, KEYS
from tallystick.protocol.problems import BY_CODE, WireError

CASES = [*good_answers().values(), *bad_answers().values()]
BODIES = sorted({case.body for case in CASES if len(case.body) < 20_000})
LICENSED = [case for case in good_answers().values() if case.remembered is None]
CODES = {"licensed", *BY_CODE}
MANY = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])


def decide(data, case=None):
    roots, question = ([ROOT_OF_GOOD], QUESTION) if case is None else (case.roots, case.question)
    reader = Reader(roots)
    verdict = reader.decide(question, data)
    assert verdict.code in CODES
    assert verdict.is_licensed is (verdict.code == "licensed")
    verdict.why.encode()
    assert len(verdict.why) < 2000
    again = reader.decide(question, data)
    assert (again.code, again.activated) == (verdict.code, verdict.activated), "decided otherwise from memory"
    return verdict


def envelopes_of(data):
    lines = (line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r") for line in data.split(b"\n"))
    return [line for line in lines if line and not line.startswith(b"#")]


@st.composite
def damaged(draw, bodies):
    """An answer with bytes changed, cut out, doubled or put in."""
    data = bytearray(draw(bodies))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 60)))
        data[start:end] = draw(st.binary(max_size=8) | st.just(bytes(data[start:end]) * 2) | st.just(b"\n"))
    return bytes(data)


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
@example(b"A" * 65_537)
@example(b"\n" * 204_800)
@example(b"." * 204_801)
@example(b"\xff\xfe")
def test_any_bytes_are_not_licensed(data):
    assert not decide(data).is_licensed


@MANY
@given(damaged(st.sampled_from(BODIES)))
def test_a_damaged_answer_gets_a_code(data):
    decide(data)


@MANY
@given(st.data(), st.sampled_from(LICENSED))
def test_an_answer_that_was_damaged_is_licensed_only_if_it_says_the_same(data, case):
    body = data.draw(damaged(st.just(case.body)))
    if decide(body, case).is_licensed:
        assert envelopes_of(body) == envelopes_of(case.body)


@MANY
@given(st.sampled_from([ANSWER, GRANT, KEYS]), st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_payload_under_a_right_signature_gets_a_code(kind, payload):
    key = {ANSWER: GOOD.device, GRANT: GOOD.signer, KEYS: GOOD.root}[kind]
    line = key.sign(kind, payload.ljust(2), with_jwk=kind == ANSWER)
    lines = [line if kind == other else good for other, good in zip((ANSWER, GRANT, KEYS), GOOD.lines(), strict=True)]
    assert not decide("\n".join(lines).encode()).is_licensed


@MANY
@given(st.integers(0, 2**32))
def test_what_was_altered_with_all_keys_in_hand_gets_a_code(seed):
    """The same alterations as in tests/clients, where readers in other languages have to decide the same."""
    (vector,) = altered_answers([Random(seed).choice(CASES)], 1, str(seed))
    assert vector.result in CODES


@given(
    st.text(max_size=200) | st.text("featurqidnocspk=&?/v1h%0123456789AZ-_.", max_size=200).map("/v1/check?".__add__)
)
def test_any_target_is_a_question_or_its_own_error(target):
    try:
        question = answers.parse_target(target)
    except WireError as error:
        found = (error.code, str(error).encode())
    else:
        assert answers.is_check(question.feature, question.required)
        assert answers.parse_target(question.target) == question
        return
    assert found[0] in {"not-found", "check-wrong"}
