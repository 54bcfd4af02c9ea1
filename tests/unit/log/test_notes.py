"""Signed notes: a public vector, what is refused, and cosignatures."""

from __future__ import annotations

import pytest

from support.activation import seeded
from tallystick.log import notes
from tallystick.log.notes import Algorithm, NoteSigner, format_note, open_note, parse_key
from tallystick.protocol.problems import WireError

# The example of golang.org/x/mod/sumdb/note, where the format comes from.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
SIGNED = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

LOG = NoteSigner("log.example/books", seeded("log"))
WITNESS = NoteSigner("witness.example/w1", seeded("witness"), Algorithm.COSIGNATURE)


def code(call, *arguments, **named) -> str:
    with pytest.raises(WireError) as caught:
        call(*arguments, **named)
    return caught.value.code


def test_a_note_of_somebody_elses_is_opened():
    key = parse_key(NEUMANN)
    note = open_note(SIGNED, [key])
    assert note.text == TEXT
    assert [signature.key for signature in note.signatures] == [key]
    assert key.text == NEUMANN


def test_every_changed_byte_refuses_a_note():
    key = parse_key(NEUMANN)
    for at in range(len(SIGNED)):
        changed = SIGNED[:at] + bytes([SIGNED[at] ^ 1]) + SIGNED[at + 1 :]
        assert code(open_note, changed, [key]) in {"note-malformed", "note-signature-wrong"}, at


def test_what_was_signed_is_opened_and_lines_of_strangers_are_passed_over():
    text = "a\n\nb\n"
    stranger = NoteSigner("stranger.example", seeded("stranger"))
    raw = format_note(text, [stranger.sign(text), LOG.sign(text)])
    note = open_note(raw, [LOG.key])
    assert (note.text, note.raw) == (text, raw)
    assert [signature.key for signature in note.signatures] == [LOG.key]
    assert code(open_note, raw, [WITNESS.key]) == "note-signature-wrong"
    assert code(open_note, raw, []) == "note-signature-wrong"


def test_a_wrong_signature_in_a_known_name_refuses_the_note_whoever_else_signed():
    text, other = "a\n", "b\n"
    both = format_note(text, [LOG.sign(text), WITNESS.cosign(other, at=5)])
    assert code(open_note, both, [LOG.key, WITNESS.key]) == "note-signature-wrong"
    assert open_note(both, [LOG.key]).text == text


def test_a_cosignature_says_when():
    text = "log.example/books\n0\n\n"
    raw = format_note(text, [WITNESS.cosign(text, at=1679315147)])
    (signature,) = open_note(raw, [WITNESS.key]).signatures
    assert signature.at == 1679315147
    assert signature.line.encode() in raw


def test_the_same_key_under_another_name_or_for_another_use_is_another_key():
    other = NoteSigner("log.example/other", seeded("log"))
    as_witness = NoteSigner(LOG.key.name, seeded("log"), Algorithm.COSIGNATURE)
    assert len({LOG.key.key_id, other.key.key_id, as_witness.key.key_id}) == 3
    text = "a\n"
    assert code(open_note, format_note(text, [other.sign(text)]), [LOG.key]) == "note-signature-wrong"
    assert code(open_note, format_note(text, [as_witness.cosign(text, at=1)]), [LOG.key]) == "note-signature-wrong"


def test_a_log_does_not_cosign_and_a_witness_does_not_sign_without_a_moment():
    with pytest.raises(ValueError, match="a log does not cosign"):
        LOG.cosign("a\n", at=1)
    with pytest.raises(ValueError, match="a witness signs at a moment"):
        WITNESS.sign("a\n")


LINE = LOG.sign("a\n")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"a\n",
        b"a\n\n",
        ("a\n\n" + LINE[:-1]).encode(),
        ("a\n" + LINE).encode(),
        ("a\r\n\n" + LINE).encode(),
        ("a\x00\n\n" + LINE).encode(),
        b"\xff\n\n" + LINE.encode(),
        ("a\n\n" + LINE.replace("\N{EM DASH}", "-")).encode(),
        ("a\n\n" + LINE.replace(" ", "  ")).encode(),
        ("a\n\n" + LINE + "b\n").encode(),
        ("a\n\n" + LINE.replace("=\n", "\n")).encode(),
        ("a\n\n" + LINE + "\N{EM DASH} x AAAAAA==\n").encode(),
        ("a\n\n" + LINE + "\N{EM DASH} x+y AAAAAAAA\n").encode(),
        ("a\n\n" + LINE + "\N{EM DASH} x\N{NO-BREAK SPACE}y AAAAAAAA\n").encode(),
        ("a\n\n" + LINE * 65).encode(),
        ("a" * notes.NOTE_BYTES_MAX + "\n\n" + LINE).encode(),
    ],
)
def test_what_is_no_signed_note_is_refused(raw):
    assert code(open_note, raw, [LOG.key]) == "note-malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        NEUMANN[:-1],
        NEUMANN + "\n",
        NEUMANN.replace("c74f20a3", "C74F20A3"),
        NEUMANN.replace("c74f20a3", "c74f20a4"),
        NEUMANN.replace("PeterNeumann", "Peter Neumann"),
        NEUMANN.replace("PeterNeumann", ""),
        NEUMANN.replace("ARpc", "Axpc"),
        "x" * 600,
        "x+00000000+AQ==",
    ],
)
def test_what_is_no_key_is_refused(text):
    assert code(parse_key, text) == "note-key-malformed"


def test_sixteen_signatures_are_taken_as_the_format_wants_it():
    text = "a\n"
    others = [NoteSigner(f"w{number}.example", seeded(f"w{number}")).sign(text) for number in range(16)]
    assert open_note(format_note(text, [*others, LOG.sign(text)]), [LOG.key]).text == text


def test_a_signer_does_not_show_its_secret():
    assert not hasattr(LOG, "__dict__")
    assert seeded("log").hex() not in repr(LOG)
