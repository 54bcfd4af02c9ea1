"""Checkpoints: of one log, signed by it, cosigned by as many witnesses as are asked for."""

from __future__ import annotations

import pytest

from support.activation import seeded
from tallystick.log import checkpoints
from tallystick.log.checkpoints import Checkpoint, open_checkpoint, parse_text
from tallystick.log.notes import Algorithm, NoteSigner, format_note
from tallystick.protocol.problems import WireError

LOG = NoteSigner("log.example/books", seeded("log"))
WITNESSES = [NoteSigner(f"w{number}.example", seeded(f"w{number}"), Algorithm.COSIGNATURE) for number in range(3)]
KEYS = [witness.key for witness in WITNESSES]
CHECKPOINT = Checkpoint(LOG.key.name, 20852163, bytes(range(32)))


def code(call, *arguments, **named) -> str:
    with pytest.raises(WireError) as caught:
        call(*arguments, **named)
    return caught.value.code


def test_a_checkpoint_comes_back_as_it_was_signed():
    raw = format_note(CHECKPOINT.text, [LOG.sign(CHECKPOINT.text)])
    opened = open_checkpoint(raw, LOG.key)
    assert opened.checkpoint == CHECKPOINT
    assert raw.startswith(b"log.example/books\n20852163\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n")


def test_extension_lines_are_kept_and_signed():
    extended = Checkpoint(LOG.key.name, 1, bytes(32), ("one", "two"))
    assert open_checkpoint(format_note(extended.text, [LOG.sign(extended.text)]), LOG.key).checkpoint == extended


def test_a_key_signs_for_the_log_of_its_own_name_only():
    other = Checkpoint("log.example/other", 1, bytes(32))
    raw = format_note(other.text, [LOG.sign(other.text)])
    assert code(open_checkpoint, raw, LOG.key) == "checkpoint-of-another-log"


def test_witnesses_are_counted_and_never_stand_for_the_log():
    lines = [witness.cosign(CHECKPOINT.text, at=1800000000) for witness in WITNESSES[:2]]
    raw = format_note(CHECKPOINT.text, [LOG.sign(CHECKPOINT.text), *lines])
    opened = open_checkpoint(raw, LOG.key, witnesses=KEYS, quorum=2)
    assert [signature.key for signature in opened.cosignatures] == KEYS[:2]
    assert code(open_checkpoint, raw, LOG.key, witnesses=KEYS, quorum=3) == "checkpoint-not-witnessed"
    again = format_note(CHECKPOINT.text, [LOG.sign(CHECKPOINT.text), lines[0], lines[0]])
    assert code(open_checkpoint, again, LOG.key, witnesses=KEYS, quorum=2) == "checkpoint-not-witnessed"
    alone = format_note(CHECKPOINT.text, lines)
    assert code(open_checkpoint, alone, LOG.key, witnesses=KEYS, quorum=1) == "note-signature-wrong"


def test_one_key_under_two_names_is_one_witness():
    twice = [NoteSigner(name, seeded("w0"), Algorithm.COSIGNATURE) for name in ("w0.example", "other.example")]
    lines = [witness.cosign(CHECKPOINT.text, at=1800000000) for witness in twice]
    raw = format_note(CHECKPOINT.text, [LOG.sign(CHECKPOINT.text), *lines])
    keys = [witness.key for witness in twice]
    assert len(open_checkpoint(raw, LOG.key, witnesses=keys, quorum=1).cosignatures) == 2
    assert code(open_checkpoint, raw, LOG.key, witnesses=keys, quorum=2) == "checkpoint-not-witnessed"


ROOT = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        f"a\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"a\n01\n{ROOT}\n",
        f"a\n-1\n{ROOT}\n",
        f"a\n1 \n{ROOT}\n",
        f"a\n\N{ARABIC-INDIC DIGIT ONE}\n{ROOT}\n",
        f"a\n4611686018427387905\n{ROOT}\n",
        f"a\n1\n{ROOT[:-1]}\n",
        f"a\n1\n{ROOT[:-2]}9=\n",
        f"a\n1\n{ROOT[4:]}\n",
        f"a\n1\n{ROOT}\n\nx\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    assert code(parse_text, text) == "checkpoint-malformed"


def test_sizes_go_as_far_as_proofs_of_witnesses_do():
    assert parse_text(f"a\n4611686018427387904\n{ROOT}\n").size == 2**62
    assert checkpoints.parse_size("0") == 0
