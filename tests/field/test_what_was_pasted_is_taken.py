"""Row 3: an identifier that was copied from a mail or a document, with marks that nobody sees."""

import unicodedata

import pytest

from support.activation import seeded
from tallystick.domain import ids
from tallystick.domain.ids import ActivationId, IdError

ACTIVATION_ID = ActivationId(line_id=ids.new_line_id(seeded("line")), secret=seeded("secret", 16))
ENTITLEMENT_ID = ids.new_entitlement_id(seeded("entitlement", 16))
REFERENCE = ids.entitlement_reference(ENTITLEMENT_ID)
PARSERS = [
    (ids.parse_activation_id, ACTIVATION_ID, str(ACTIVATION_ID)),
    (ids.parse_entitlement_id, ENTITLEMENT_ID, ENTITLEMENT_ID),
    (ids.parse_entitlement_reference, REFERENCE, REFERENCE),
    (ids.parse_line_id, ACTIVATION_ID.line_id, ACTIVATION_ID.line_id),
    (ids.parse_line_id, ACTIVATION_ID.line_id, str(ACTIVATION_ID)),
]
EVERY = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
UNSEEN = [s for s in EVERY if s.isspace() or unicodedata.category(s) in {"Zs", "Pd", "Cf"}]


@pytest.mark.parametrize(("parse", "value", "text"), PARSERS)
def test_blanks_dashes_and_marks_that_nobody_sees_do_not_matter(parse, value, text):
    assert {"\u00a0", "\u200b", "\ufeff", "\u2011", "\u2013", "\u202f", "\u2060"} <= set(UNSEEN)
    for mark in UNSEEN:
        assert parse(mark + text[:6] + mark + text[6:] + mark) == value, ascii(mark)
        assert parse(text.replace("-", mark)) == value, ascii(mark)


def test_letters_of_full_width_are_the_letters():
    wide = "".join(chr(ord(symbol) + 0xFEE0) for symbol in str(ACTIVATION_ID))
    assert ids.parse_activation_id(wide) == ACTIVATION_ID


@pytest.mark.parametrize("stranger", ["\u0410", "é", "!", "_", "\x07", "€", "中"])
@pytest.mark.parametrize(("parse", "value", "text"), PARSERS)
def test_what_is_refused_names_the_symbol_that_does_not_belong(parse, value, text, stranger):
    with pytest.raises(IdError) as refused:
        parse(text[:5] + stranger + text[6:])
    assert f"U+{ord(stranger.upper()):04X}" in refused.value.seen
    assert "\x07" not in refused.value.seen


@pytest.mark.parametrize(("parse", "value", "text"), PARSERS)
def test_a_mistyped_symbol_is_still_refused(parse, value, text):
    wrong = text[:-1] + ("U" if len(text) < 20 else "2" if text[-1] != "2" else "3")
    with pytest.raises(IdError):
        parse(wrong)
