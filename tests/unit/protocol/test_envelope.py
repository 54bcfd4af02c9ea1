"""One message, one spelling, one algorithm; everything else is refused by its name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest

from support.activation import seeded
from tallystick.protocol import envelope
from tallystick.protocol.envelope import LINE_BYTES_MAX, PrivateKey, PublicKey, Verified
from tallystick.protocol.problems import WireError

SYMBOLS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
KEY = PrivateKey(seeded("key"))
TYP = "tally-request+jwt"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: dict | bytes, payload: bytes = b"{}", key: PrivateKey = KEY) -> bytes:
    """A correct Ed25519 signature over any header, right or wrong."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{b64(raw)}.{b64(payload)}".encode()
    signature = Ed25519PrivateKey.from_private_bytes(key.seed()).sign(signing_input)
    return signing_input + b"." + b64(signature).encode()


def accept(line: bytes, key: PublicKey = KEY.public) -> Verified:
    return envelope.verify(envelope.open_envelope(line), key)


def refusal(line: bytes, key: PublicKey = KEY.public) -> str:
    with pytest.raises(WireError) as error:
        accept(line, key)
    str(error.value).encode()
    return error.value.code


HEADER = {"alg": "EdDSA", "typ": TYP, "jwk": KEY.public.jwk}


# What is written


def test_what_is_signed_verifies_and_carries_its_payload_verbatim():
    payload = b'{ "a" : 1 }'
    verified = accept(KEY.sign(TYP, payload, with_jwk=True).encode())
    assert (verified.payload, verified.typ, verified.key) == (payload, TYP, KEY.public)


def test_the_digest_is_sha256_over_the_whole_compact_form():
    compact = KEY.sign(TYP, b"{}")
    verified = accept(compact.encode())
    assert verified.digest == b64(hashlib.sha256(compact.encode()).digest())
    assert len(verified.digest) == 43


def test_we_write_eddsa_and_name_the_key_by_kid_or_carry_it():
    for with_jwk, expected in ((False, {"kid": KEY.public.thumbprint}), (True, {"jwk": KEY.public.jwk})):
        header = KEY.sign(TYP, b"{}", with_jwk=with_jwk).split(".")[0]
        assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "EdDSA", "typ": TYP, **expected}


def test_the_thumbprint_is_that_of_rfc_8037():
    """RFC 8037, appendix A.3."""
    key = PublicKey("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert key.thumbprint == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_the_signature_is_that_of_rfc_8037():
    """RFC 8037, appendix A.4: the same key, header and payload, worked out by others."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    line = signed(b'{"alg":"EdDSA"}', b"Example of Ed25519 signing", PrivateKey(seed))
    assert line.split(b".")[2] == (
        b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
    )


def test_nobody_but_verify_builds_a_verified():
    with pytest.raises(TypeError):
        Verified(object(), compact="", typ="", payload=b"", key=KEY.public)


def test_a_private_key_does_not_show_itself():
    assert b64(KEY.seed()) not in repr(KEY)
    assert KEY.seed().hex() not in repr(KEY)
    with pytest.raises(AttributeError):
        KEY.anything = 1  # type: ignore[attr-defined]  # which is what is tested


# Algorithms


def test_the_newer_name_of_the_algorithm_is_read_too():
    assert accept(signed({**HEADER, "alg": "Ed25519"})).typ == TYP


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "", "HS256", "HS512", "RS256", "ES256", "ES256K", "Ed448", "eddsa", "ed25519"]
)
def test_no_other_algorithm_is_accepted_even_with_a_right_signature(alg):
    assert refusal(signed({**HEADER, "alg": alg})) == "header-refused"


@pytest.mark.parametrize("alg", [None, 1, True, ["EdDSA"], {"EdDSA": 1}], ids=str)
def test_an_algorithm_is_text(alg):
    assert refusal(signed({**HEADER, "alg": alg})) == "header-refused"


def test_an_empty_signature_with_alg_none_is_refused():
    header = b64(json.dumps({**HEADER, "alg": "none"}).encode())
    assert refusal(f"{header}.{b64(b'{}')}.".encode()) == "envelope-malformed"


@pytest.mark.parametrize("secret", [KEY.public.x.encode(), base64.urlsafe_b64decode(KEY.public.x + "="), b""])
def test_an_hmac_with_the_public_key_as_its_secret_is_refused(secret):
    signing_input = f"{b64(json.dumps({**HEADER, 'alg': 'HS512'}).encode())}.{b64(b'{}')}"
    mac = b64(hmac.digest(secret, signing_input.encode(), "sha512"))
    assert len(mac) == 86
    assert refusal(f"{signing_input}.{mac}".encode()) == "header-refused"


def test_a_real_es256_envelope_is_refused():
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
    from cryptography.hazmat.primitives.hashes import SHA256

    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    jwk = {
        "kty": "EC",
        "crv": "P-256",
        "x": b64(numbers.x.to_bytes(32, "big")),
        "y": b64(numbers.y.to_bytes(32, "big")),
    }
    for alg in ("ES256", "EdDSA"):
        signing_input = f"{b64(json.dumps({'alg': alg, 'typ': TYP, 'jwk': jwk}).encode())}.{b64(b'{}')}"
        r, s = decode_dss_signature(key.sign(signing_input.encode(), ec.ECDSA(SHA256())))
        signature = b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))
        assert refusal(f"{signing_input}.{signature}".encode()) == "header-refused"


# Headers


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "EdDSA", "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": "", "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": None, "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": 7, "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": "t" * 65, "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": "tally\x1b[2J", "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": "t\u00e4lly", "jwk": KEY.public.jwk},
        {"alg": "EdDSA", "typ": TYP},
        {"alg": "EdDSA", "typ": TYP, "kid": None},
        {"alg": "EdDSA", "typ": TYP, "kid": 5},
        {"alg": "EdDSA", "typ": TYP, "kid": ""},
        {"alg": "EdDSA", "typ": TYP, "kid": "k" * 65},
        {"alg": "EdDSA", "typ": TYP, "kid": "\u202e"},
        {"alg": "EdDSA", "typ": TYP, "jwk": None},
        {"alg": "EdDSA", "typ": TYP, "jwk": []},
        {"alg": "EdDSA", "typ": TYP, "jwk": KEY.public.jwk, "kid": KEY.public.thumbprint},
        {"alg": "EdDSA", "typ": TYP, "jwk": KEY.public.jwk, "kid": None},
        {"alg": "EdDSA", "typ": TYP, "kid": KEY.public.thumbprint, "jwk": None},
        {**HEADER, "crit": ["exp"]},
        {**HEADER, "crit": []},
        {**HEADER, "b64": True},
        {**HEADER, "b64": False, "crit": ["b64"]},
        {**HEADER, "jku": "https://example.com/keys"},
        {**HEADER, "x5c": []},
        {**HEADER, "x5u": ""},
        {**HEADER, "cty": "json"},
        {**HEADER, "zip": "DEF"},
        {**HEADER, "": ""},
        {**HEADER, "ALG": "EdDSA"},
        {},
        [],
        ["EdDSA"],
        "EdDSA",
        5,
        None,
    ],
    ids=lambda header: json.dumps(header)[:70],
)
def test_a_header_has_exactly_alg_typ_and_one_way_to_name_the_key(header):
    assert refusal(signed(json.dumps(header).encode())) == "header-refused"


@pytest.mark.parametrize("name", ["alg", "typ", "jwk"])
def test_a_name_twice_in_a_header_is_refused_even_with_the_same_value(name):
    text = json.dumps(HEADER)
    doubled = text[:-1] + f', "{name}": {json.dumps(HEADER[name])}}}'
    assert refusal(signed(doubled.encode())) == "json-malformed"


def test_a_name_twice_under_an_escape_is_the_same_name():
    text = json.dumps(HEADER)
    assert refusal(signed((text[:-1] + ', "\\u0061lg": "EdDSA"}').encode())) == "json-malformed"


@pytest.mark.parametrize(
    "jwk",
    [
        {"kty": "OKP", "crv": "Ed25519"},
        {"kty": "OKP", "crv": "X25519", "x": KEY.public.x},
        {"kty": "EC", "crv": "Ed25519", "x": KEY.public.x},
        {"kty": "OKP", "crv": "Ed25519", "x": None},
        {"kty": "OKP", "crv": "Ed25519", "x": 5},
        {**KEY.public.jwk, "use": "sig"},
        {**KEY.public.jwk, "d": b64(bytes(32))},
        {**KEY.public.jwk, "x": b64(bytes(31))},
        {**KEY.public.jwk, "x": b64(bytes(33))},
        {**KEY.public.jwk, "x": ""},
    ],
    ids=str,
)
def test_a_key_in_a_header_is_a_public_ed25519_key_and_nothing_more(jwk):
    assert refusal(signed({**HEADER, "jwk": jwk})) == "header-refused"


def test_the_key_in_a_header_has_one_spelling():
    """Else one key would have two device ids."""
    last = SYMBOLS.index(KEY.public.x[-1])
    for other in range(last + 1, (last | 3) + 1):
        respelt = KEY.public.x[:-1] + SYMBOLS[other]
        assert base64.urlsafe_b64decode(respelt + "=") == base64.urlsafe_b64decode(KEY.public.x + "=")
        assert refusal(signed({**HEADER, "jwk": {**KEY.public.jwk, "x": respelt}})) == "envelope-malformed"


@pytest.mark.parametrize("x", ["\u00e9" * 43, "=" * 43, "+/" * 21 + "A", " " * 43])
def test_a_key_is_written_in_base64url(x):
    assert refusal(signed({**HEADER, "jwk": {**KEY.public.jwk, "x": x}})) == "envelope-malformed"


# One spelling


def last_symbol_variants(part: str) -> list[str]:
    """Other spellings of the same bytes, by the bits that base64 leaves over in the last symbol."""
    free = {0: 0, 2: 4, 3: 2}[len(part) % 4]
    last = SYMBOLS.index(part[-1])
    return [part[:-1] + SYMBOLS[last & -(1 << free) | low] for low in range(1 << free) if low != last & (1 << free) - 1]


@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "payload", "signature"])
def test_left_over_bits_do_not_make_a_second_message_out_of_a_first(part):
    """A courier could otherwise respell a message, and the field server would be accused of a fork."""
    found = 0
    for length in range(4):
        header = json.dumps({**HEADER, "typ": "t" * (length + 1)}).encode()
        parts = signed(header, b" " * length + b"{}").decode().split(".")
        for variant in last_symbol_variants(parts[part]):
            respelt = ".".join((*parts[:part], variant, *parts[part + 1 :]))
            assert base64.urlsafe_b64decode(variant + "==") == base64.urlsafe_b64decode(parts[part] + "==")
            assert refusal(respelt.encode()) == "envelope-malformed"
            found += 1
    assert found > 10


@pytest.mark.parametrize("extra", [b"=", b" ", b"\n", b"\r", b"\t", b"\x00", b"\x0b", b"\xc2\xa0", b"+", b"/", b"."])
def test_nothing_may_stand_in_an_envelope_anywhere(extra):
    line = signed(HEADER)
    places = {0, 1, len(line) - 1, len(line), *(line.index(b".") + step for step in (0, 1, 5)), line.rindex(b".") + 1}
    for place in places:
        assert refusal(line[:place] + extra + line[place:]) == "envelope-malformed"


@pytest.mark.parametrize("count", [0, 1, 85, 87, 88])
def test_a_signature_is_86_symbols(count):
    header, payload, signature = signed(HEADER).decode().split(".")
    assert refusal(f"{header}.{payload}.{(signature * 2)[:count]}".encode()) == "envelope-malformed"


def test_an_impossible_base64_length_is_refused():
    header, payload, signature = signed(HEADER, b"{}  ").decode().split(".")
    assert refusal(f"{header}.{payload[: len(payload) // 4 * 4]}A.{signature}".encode()) == "envelope-malformed"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b".",
        b"..",
        b"a.b.c",
        b"\xff\xfe" * 50,
        json.dumps({"payload": "e30", "protected": "e30", "signature": "A" * 86}).encode(),
        json.dumps({"payload": "e30", "signatures": [{"protected": "e30", "signature": "A" * 86}]}).encode(),
        b"e30.e30.e30.e30.e30",
        signed(HEADER) + b"." + signed(HEADER).split(b".")[2],
    ],
    ids=lambda line: repr(line[:20]),
)
def test_other_serialisations_and_rubbish_are_no_envelope(line):
    assert refusal(line) == "envelope-malformed"


def test_a_line_may_be_so_long_and_not_one_byte_longer():
    header = json.dumps(HEADER).encode()
    overhead = len(b64(header)) + 2 + 86
    payload = b" " * ((LINE_BYTES_MAX - overhead) * 3 // 4 - 2) + b"{}"
    line = signed(header, payload)
    assert LINE_BYTES_MAX - 2 <= len(line) <= LINE_BYTES_MAX
    assert accept(line).payload == payload
    assert refusal(line + b"A" * (LINE_BYTES_MAX + 1 - len(line))) == "line-too-long"
    assert refusal(b"A" * (65 * 1024)) == "line-too-long"


# Signatures


def test_a_changed_bit_anywhere_is_refused():
    line = signed(HEADER, b'{"a":1}')
    for place in range(len(line)):
        for bit in (1, 2, 16):
            changed = bytearray(line)
            changed[place] ^= bit
            assert refusal(bytes(changed)) in {
                "envelope-malformed",
                "json-malformed",
                "header-refused",
                "signature-wrong",
            }


def test_a_signature_by_another_key_is_refused():
    assert refusal(signed(HEADER, key=PrivateKey(seeded("other")))) == "signature-wrong"
    assert refusal(signed(HEADER), PrivateKey(seeded("other")).public) == "signature-wrong"


def test_header_and_payload_of_two_messages_do_not_mix():
    one, two = signed(HEADER, b'{"a":1}').split(b"."), signed({**HEADER, "typ": "other"}, b'{"a":2}').split(b".")
    for mixed in ((one[0], two[1], one[2]), (two[0], one[1], one[2]), (one[0], one[1], two[2])):
        assert refusal(b".".join(mixed)) == "signature-wrong"


def test_a_key_that_fits_every_message_is_no_key():
    """A point of small order: one signature, written without any secret, would verify over whatever is said with it."""
    neutral = (1).to_bytes(32, "little")
    public = PublicKey(b64(neutral))
    for text in (b"{}", b'{"a":1}'):
        signing_input = f"{b64(json.dumps({**HEADER, 'jwk': public.jwk}).encode())}.{b64(text)}".encode()
        assert refusal(signing_input + b"." + b64(neutral + bytes(32)).encode(), public) == "signature-wrong"


def test_a_signature_with_the_group_order_added_is_no_second_signature():
    """Ed25519 is malleable where S is not checked to be below the group order."""
    order = 2**252 + 27742317777372353535851937790883648493
    header, payload, signature = signed(HEADER).decode().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    larger = int.from_bytes(raw[32:], "little") + order
    assert refusal(f"{header}.{payload}.{b64(raw[:32] + larger.to_bytes(32, 'little'))}".encode()) == "signature-wrong"


@pytest.mark.parametrize("x", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, b"\x02" + bytes(31)], ids=bytes.hex)
def test_a_key_that_is_no_good_point_verifies_nothing_and_breaks_nothing(x):
    jwk = {**KEY.public.jwk, "x": b64(x)}
    assert refusal(signed({**HEADER, "jwk": jwk}), PublicKey(b64(x))) == "signature-wrong"


# JSON


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{}x",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'[{"b":1,"b":2}]',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-0.5}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":-9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":' + b"9" * 60_000 + b"}",
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":0x10}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":"\x01"}',
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"\x00",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"[" * 5000 + b"]" * 5000,
    ],
    ids=lambda text: repr(text[:24]),
)
def test_json_is_strict(text):
    with pytest.raises(WireError) as error:
        envelope.parse_json(text)
    assert error.value.code == "json-malformed"
    str(error.value).encode()


def test_json_reads_what_it_should():
    text = '{"a":[1,-9007199254740991,9007199254740991,null,true,"\\ud83d\\ude00 \\\\ud800 \u00e9"]}'
    assert envelope.parse_json(text.encode()) == {
        "a": [1, -(2**53) + 1, 2**53 - 1, None, True, "\U0001f600 \\ud800 \u00e9"]
    }


def test_what_utf_8_cannot_say_is_signed_as_a_question_mark_and_can_be_read_back():
    assert envelope.parse_json(envelope.encode_json({"name": "caf\udce9"})) == {"name": "caf?"}


def test_what_a_stranger_wrote_is_shown_without_its_control_characters():
    assert envelope.printable("a\x1b[2J\u202eb\ud800\u00e9", 50) == "a\ufffd[2J\ufffdb\ufffd\u00e9"
    assert envelope.printable("x" * 50, 7) == "x" * 7
