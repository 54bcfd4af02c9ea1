"""What a person types is what was printed, or is refused before anything is sent."""

from __future__ import annotations

import time

import pytest

from support.activation import seeded
from tallystick.domain import ids
from tallystick.domain.ids import ActivationId, DeviceId, IdError, LineId

SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CHECK_SYMBOLS = SYMBOLS + "*~$=U"


def printed(number: int) -> ActivationId:
    return ActivationId(line_id=ids.new_line_id(seeded(f"line {number}")), secret=seeded(f"secret {number}", 16))


PRINTED = [printed(number) for number in range(20)] + [
    ActivationId(line_id=LineId("00000000"), secret=bytes(16)),
    ActivationId(line_id=LineId("ZZZZZZZZ"), secret=b"\xff" * 16),
]


def with_check(check: str) -> ActivationId:
    """One whose check symbol is the one asked for."""
    return next(found for number in range(10_000) if str(found := printed(number)).endswith(check))


@pytest.mark.parametrize("activation_id", PRINTED, ids=str)
def test_what_was_printed_reads_back(activation_id):
    assert ids.parse_activation_id(str(activation_id)) == activation_id


def test_the_printed_form_never_changes():
    """Worked out by hand: Crockford's digits are those of base 32 under other names."""
    activation_id = ActivationId(line_id=LineId("7K3M9Q2A"), secret=bytes(range(16)))
    assert str(activation_id) == "AT-7K3M9Q2A-00041061050R3GG28A1C60T3GFW"
    digits = str.maketrans(SYMBOLS, "0123456789abcdefghijklmnopqrstuv")
    assert int("00041061050R3GG28A1C60T3GF".translate(digits), 32).to_bytes(16, "big") == bytes(range(16))
    assert CHECK_SYMBOLS[int("7K3M9Q2A00041061050R3GG28A1C60T3GF".translate(digits), 32) % 37] == "W"


def test_case_spaces_hyphens_and_line_ends_do_not_matter():
    activation_id = PRINTED[0]
    text = str(activation_id)
    bare = text.replace("-", "")
    spaced = " ".join(bare[place : place + 4] for place in range(0, len(bare), 4))
    for typed in (text.lower(), bare, spaced, f"  {text}\r\n", "\t" + "-".join(bare)):
        assert ids.parse_activation_id(typed) == activation_id


@pytest.mark.parametrize(
    ("look_alike", "symbol"), [("O", "0"), ("o", "0"), ("I", "1"), ("i", "1"), ("L", "1"), ("l", "1")]
)
def test_look_alikes_are_read_as_what_was_printed(look_alike, symbol):
    activation_id = ActivationId(line_id=LineId("10101010"), secret=b"\x08\x42" * 8)
    text = str(activation_id)
    typed = "AT-" + text[3:-1].replace(symbol, look_alike) + text[-1]
    assert look_alike in typed
    assert ids.parse_activation_id(typed) == activation_id


@pytest.mark.parametrize(("look_alike", "check"), [("O", "0"), ("o", "0"), ("I", "1"), ("l", "1")])
def test_a_check_symbol_may_look_alike_too(look_alike, check):
    activation_id = with_check(check)
    assert ids.parse_activation_id(str(activation_id)[:-1] + look_alike) == activation_id


@pytest.mark.parametrize("check", "*~$=U")
def test_check_symbols_beyond_the_alphabet_survive_typing(check):
    activation_id = with_check(check)
    assert ids.parse_activation_id(str(activation_id).lower()) == activation_id


@pytest.mark.parametrize("activation_id", PRINTED, ids=str)
def test_every_single_wrong_symbol_is_caught(activation_id):
    text = str(activation_id)
    for place, right in enumerate(text):
        for wrong in CHECK_SYMBOLS + "- !O":
            typed = text[:place] + wrong + text[place + 1 :]
            if _same(wrong, right) or (right == "-" and wrong == " "):
                continue
            with pytest.raises(IdError) as error:
                ids.parse_activation_id(typed)
            assert error.value.code == "activation-id-mistyped"


def _same(wrong: str, right: str) -> bool:
    return {"O": "0", "I": "1", "L": "1"}.get(wrong, wrong) == right


@pytest.mark.parametrize("activation_id", PRINTED, ids=str)
def test_every_swap_of_two_neighbours_is_caught(activation_id):
    text = str(activation_id).replace("-", "")
    for place in range(len(text) - 1):
        left, right = text[place], text[place + 1]
        if left == right:
            continue
        with pytest.raises(IdError):
            ids.parse_activation_id(text[:place] + right + left + text[place + 2 :])


def test_a_missing_or_an_extra_symbol_is_caught_anywhere():
    text = str(PRINTED[0]).replace("-", "")
    for place in range(len(text)):
        for typed in (text[:place] + text[place + 1 :], text[:place] + "7" + text[place:]):
            with pytest.raises(IdError):
                ids.parse_activation_id(typed)


def test_a_secret_that_is_out_of_range_is_no_secret():
    secret = "Z" * 26
    check = ids.check_symbol(ids.decode_base32("7K3M9Q2A" + secret))
    with pytest.raises(IdError, match="out of range"):
        ids.parse_activation_id(f"AT-7K3M9Q2A-{secret}{check}")


@pytest.mark.parametrize(
    "text",
    ["", "AT", "AT-", "EN-7K3M9Q2A", "\ud800", "\x00" * 40, "AT" + "é" * 35, "AT" + "\N{FULLWIDTH DIGIT SEVEN}" * 35],
)
@pytest.mark.parametrize("parse", [ids.parse_activation_id, ids.parse_entitlement_id, ids.parse_line_id])
def test_what_is_no_id_at_all_is_refused(parse, text):
    with pytest.raises(IdError) as error:
        parse(text)
    str(error.value).encode()


@pytest.mark.parametrize("parse", [ids.parse_activation_id, ids.parse_entitlement_id, ids.parse_line_id])
@pytest.mark.parametrize("start", ["", "AT", "EN"])
def test_a_megabyte_is_refused_at_once(parse, start):
    began = time.process_time()
    with pytest.raises(IdError):
        parse(start + "Z" * 1_000_000)
    assert time.process_time() - began < 2


def test_the_secret_is_not_in_the_repr():
    activation_id = PRINTED[0]
    assert str(activation_id)[12:] not in repr(activation_id)
    assert repr(activation_id.secret) not in repr(activation_id)


def test_an_entitlement_id_reads_back_and_its_typing_mistakes_are_caught():
    entitlement_id = ids.new_entitlement_id(seeded("entitlement", 16))
    assert ids.parse_entitlement_id(entitlement_id.lower().replace("-", " ")) == entitlement_id
    for place in range(3, len(entitlement_id)):
        for wrong in CHECK_SYMBOLS:
            if _same(wrong, entitlement_id[place]):
                continue
            with pytest.raises(IdError) as error:
                ids.parse_entitlement_id(entitlement_id[:place] + wrong + entitlement_id[place + 1 :])
            assert error.value.code == "entitlement-id-mistyped"


def test_a_line_id_is_also_read_out_of_its_activation_id():
    assert ids.parse_line_id(str(PRINTED[0])) == PRINTED[0].line_id
    assert ids.parse_line_id(" 7k3m-9q2a ") == "7K3M9Q2A"


def test_a_line_id_that_begins_with_at_is_a_line_id():
    assert ids.parse_line_id("AT345678") == "AT345678"


@pytest.mark.parametrize("text", ["7K3M9Q2", "7K3M9Q2AA", "7K3M9Q2U", "7K3M9Q2*"])
def test_a_line_id_has_exactly_eight_symbols_of_the_alphabet(text):
    with pytest.raises(IdError) as error:
        ids.parse_line_id(text)
    assert error.value.code == "line-id-mistyped"


def test_one_line_is_one_license_per_field_server():
    one, two = DeviceId("a" * 43), DeviceId("b" * 43)
    line = LineId("7K3M9Q2A")
    assert ids.license_id(one, line) == ids.license_id(one, line) == "LC-7K3M9Q2A-aaaaaaaaaaaa"
    assert ids.license_id(two, line) != ids.license_id(one, line)
