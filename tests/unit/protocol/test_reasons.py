"""Every reason that the domain gives has its sentences; what is signed is English, whatever the reader speaks."""

from __future__ import annotations

import ast
import inspect
import string

import pytest

from tallystick import sentences
from tallystick.domain import rules
from tallystick.domain.rules import Reason
from tallystick.protocol import reasons
from tallystick.protocol.reasons import claim_of, reason_document, reason_text

IN_WORDS = [
    (
        Reason("kind-mismatch", None, {"sku": "driver", "kinds": ("AS-B", "AS-P"), "kind": "Edge Server"}),
        "expected a field server of kind AS-B, AS-P for driver; saw one of kind Edge Server",
    ),
    (Reason("not-enough", None, {"wanted": 4, "available": 3}), "expected 4 more available; saw 3 available"),
    (
        Reason("not-enough", None, {"wanted": 4, "available": 3, "quarantined": 2, "until": 1_800_000_000}),
        "expected 4 more available; saw 3 available, and 2 in quarantine until 2027-01-15 08:00 UTC at the earliest",
    ),
    (Reason("too-many-lines", None, {"most": 50, "held": 51}), "expected at most 50 lines; saw 51 lines"),
    (
        Reason("too-many-lines", None, {"most": 100, "reserved": 101}),
        "expected at most 100 lines, with those whose return is not proven; saw 101 lines",
    ),
    (
        Reason("return-raises", None, {"held": 2, "wanted": 3}),
        "expected at most the 2 that this field server holds; saw an end state of 3",
    ),
]


@pytest.mark.parametrize(("reason", "words"), IN_WORDS, ids=[words for _reason, words in IN_WORDS])
def test_a_reason_is_worded_from_its_code_and_values(reason, words):
    assert reason_text(reason) == words


def test_every_code_that_a_decision_gives_has_sentences():
    tree = ast.parse(inspect.getsource(rules))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    codes = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Name)
        and call.func.id in {"Reason", "deny"}
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert len(codes) > 10
    assert codes == {code.split()[0] for code in reasons._SENTENCES}


def test_no_sentence_wants_a_value_that_no_decision_gives():
    source = inspect.getsource(rules)
    for pair in reasons._SENTENCES.values():
        for text in pair:
            for _literal, name, _spec, _conversion in string.Formatter().parse(text):
                assert name is None or f"{name}=" in source or f'"{name}"' in source, (name, text)


def test_what_is_signed_and_what_programs_read_is_english_whatever_the_reader_speaks():
    token = sentences.READER.set(sentences.Reader(language="de"))
    try:
        claim = claim_of(Reason("not-enough", "00000001", {"wanted": 4, "available": 3}))
    finally:
        sentences.READER.reset(token)
    assert (claim.expected, claim.seen, claim.line) == ("4 more available", "3 available", "00000001")
    assert type(claim.expected) is str
    assert reason_document(claim) == {
        "code": "not-enough",
        "expected": "4 more available",
        "seen": "3 available",
        "line": "00000001",
    }
