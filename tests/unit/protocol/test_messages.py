"""Claims are exact: nothing unknown, nothing missing, nothing converted, nothing beyond its limit."""

from __future__ import annotations

import hashlib
import hmac
import json

import pytest

from support.activation import seeded
from tallystick.domain.ids import ActivationId, LineId
from tallystick.protocol import envelope, messages
from tallystick.protocol.envelope import PrivateKey, Verified
from tallystick.protocol.messages import CREDIT, ENTITLEMENT, GRANT, KEYS, REFUSAL, REQUEST
from tallystick.protocol.problems import WireError

DEVICE, ISSUER = PrivateKey(seeded("device")), PrivateKey(seeded("issuer"))
HASH = "h" * 43
LINE = "7K3M9Q2A"
FACTS = {"kind": "AS-P", "host_id": "host", "name": "Boiler room", "software": "1.0"}
WANT = {"line": LINE, "quantity": 2}
PROVEN = {**WANT, "proof": HASH}
REQUEST_CLAIMS = {
    "iss": DEVICE.public.thumbprint,
    "aud": "Maker",
    "jti": "j" * 16,
    "iat": 1,
    "purpose": "refresh",
    "epoch": 1,
    "sequence": 1,
    "applied": None,
    "facts": FACTS,
}
LICENSE = {
    "license": f"LC-{LINE}-abcdef",
    "line": LINE,
    "product": "mqtt-client",
    "quantity": 2,
    "features": {"mqtt": 1},
    "expires": None,
    "one_carry": True,
}
GRANT_CLAIMS = {
    "iss": "Maker",
    "sub": HASH,
    "iat": 1,
    "epoch": 1,
    "number": 1,
    "request": None,
    "seen": 0,
    "licenses": [LICENSE],
    "confirm": False,
}
REFUSAL_CLAIMS = {
    "iss": "Maker",
    "sub": HASH,
    "iat": 1,
    "request": HASH,
    "seen": 0,
    "code": "not-enough",
    "detail": "Expected more.",
    "reasons": [{"code": "not-enough", "expected": "2", "seen": "1", "line": LINE}],
}
ENTRY = {"line": LINE, "number": 1, "source": "held", "target": "available", "quantity": 1, "chain": "0" * 64}
CREDIT_CLAIMS = {
    "iss": "Maker",
    "sub": HASH,
    "iat": 1,
    "request": HASH,
    "seen": 0,
    "credits": [{"line": LINE, "quantity": 1}],
    "entries": [ENTRY],
}
ENTITLEMENT_LINE = {
    "line": LINE,
    "activation_id": f"AT-{LINE}-",
    "product": "mqtt-client",
    "name": "MQTT client",
    "quantity": 2,
    "kinds": ["AS-P"],
    "features": {"mqtt": 1},
    "expires": None,
    "one_carry": True,
    "returnable": True,
}
ENTITLEMENT_CLAIMS = {"iss": "Maker", "iat": 1, "entitlement": "EN-1", "account": "acme", "lines": [ENTITLEMENT_LINE]}
KINDS = {
    REQUEST: (REQUEST_CLAIMS, messages.parse_request),
    GRANT: (GRANT_CLAIMS, messages.parse_grant),
    REFUSAL: (REFUSAL_CLAIMS, messages.parse_reply),
    CREDIT: (CREDIT_CLAIMS, messages.parse_reply),
    ENTITLEMENT: (ENTITLEMENT_CLAIMS, messages.parse_entitlement),
}
EVERY_KIND = pytest.mark.parametrize("typ", KINDS)


def verified(typ: str, payload: bytes) -> Verified:
    key = DEVICE if typ == REQUEST else ISSUER
    return envelope.verify(envelope.open_envelope(key.sign(typ, payload, with_jwk=True).encode()), key.public)


def parse(typ: str, claims: object):
    return KINDS[typ][1](verified(typ, json.dumps(claims).encode()))


def refusal(typ: str, claims: object) -> str:
    with pytest.raises(WireError) as error:
        parse(typ, claims)
    str(error.value).encode()
    assert all(symbol.isprintable() for symbol in error.value.seen)
    return error.value.code


def places(value, path=()):
    """Every place in nested claims, the whole included."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places(child, (*path, name))


def at(value, path):
    for step in path:
        value = value[step]
    return value


def put(value, path, new):
    """A copy with another value in one place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@EVERY_KIND
def test_the_plain_example_is_fine(typ):
    parsed = parse(typ, KINDS[typ][0])
    assert json.loads(messages.encode_claims(parsed)) == KINDS[typ][0]


@EVERY_KIND
def test_an_unknown_claim_is_refused_at_every_depth(typ):
    claims = KINDS[typ][0]
    for path in places(claims):
        here = at(claims, path)
        if isinstance(here, dict) and path[-1:] != ("features",):
            assert refusal(typ, put(claims, path, {**here, "exp": 5})) == "claims-malformed", path


@EVERY_KIND
def test_a_claim_twice_is_refused_at_every_depth(typ):
    text = json.dumps(KINDS[typ][0])
    for place, symbol in enumerate(text):
        if symbol != "{":
            continue
        name = text[place:].split('"')[1]
        doubled = f'{text[: place + 1]}"{name}": null, {text[place + 1 :]}'
        with pytest.raises(WireError) as error:
            KINDS[typ][1](verified(typ, doubled.encode()))
        assert error.value.code == "json-malformed"


@EVERY_KIND
def test_no_claim_may_be_missing_but_the_optional_ones(typ):
    claims = KINDS[typ][0]
    for path in places(claims):
        here = at(claims, path)
        if not isinstance(here, dict) or path[-1:] == ("features",):
            continue
        for name in here:
            left = {key: value for key, value in here.items() if key != name}
            if (typ, name) in {(REFUSAL, "reasons"), (REFUSAL, "line")}:
                parse(typ, put(claims, path, left))
            else:
                assert refusal(typ, put(claims, path, left)) == "claims-malformed", (path, name)


@EVERY_KIND
def test_no_value_is_taken_for_one_of_another_type(typ):
    """A whole number is not a truth value, a text is not a number, a float is nothing at all."""
    claims = KINDS[typ][0]
    for path in places(claims):
        here = at(claims, path)
        for wrong in (True, 7, "7", [7], {"a": 7}, [], {}, ""):
            is_same = type(wrong) is type(here) or here is None
            if not is_same:
                assert refusal(typ, put(claims, path, wrong)) == "claims-malformed", (path, wrong)
        assert refusal(typ, put(claims, path, 1.0)) == "json-malformed", path
        if here is not None and (typ, path[-1:]) != (REFUSAL, ("line",)):
            assert refusal(typ, put(claims, path, None)) == "claims-malformed", path


@EVERY_KIND
def test_a_number_is_bounded_below_and_above(typ):
    claims = KINDS[typ][0]
    for path in places(claims):
        here = at(claims, path)
        if type(here) is not int:
            continue
        assert refusal(typ, put(claims, path, 2**53)) == "json-malformed", path
        assert refusal(typ, put(claims, path, -(2**53))) == "json-malformed", path
        assert refusal(typ, put(claims, path, 10**4000)) == "json-malformed", path
        if path[-1] == "iat":
            parse(typ, put(claims, path, -1))
        else:
            assert refusal(typ, put(claims, path, -1)) == "claims-malformed", path
        if path[-1] in {"quantity", "mqtt"}:
            parse(typ, put(claims, path, 10**9))
            assert refusal(typ, put(claims, path, 10**9 + 1)) == "claims-malformed", path


@EVERY_KIND
def test_a_text_is_bounded(typ):
    claims = KINDS[typ][0]
    for path in places(claims):
        if isinstance(at(claims, path), str):
            assert refusal(typ, put(claims, path, "a" * 2001)) == "claims-malformed", path


@EVERY_KIND
def test_a_text_that_is_an_identifier_ends_where_it_ends(typ):
    """``$`` in a pattern would let a line feed through."""
    free = {"detail", "expected", "seen", "license", "activation_id", "entitlement", "source", "target"}
    claims = KINDS[typ][0]
    for path in places(claims):
        here = at(claims, path)
        if isinstance(here, str) and path[-1] not in free:
            for wrong in (here + "\n", "\n" + here, here + "\x00", here[:-1] + "\x7f"):
                assert refusal(typ, put(claims, path, wrong)) == "claims-malformed", path


@EVERY_KIND
def test_a_lone_surrogate_is_refused_wherever_it_stands(typ):
    claims = KINDS[typ][0]
    for path in places(claims):
        if isinstance(at(claims, path), str):
            assert refusal(typ, put(claims, path, "\ud800")) == "json-malformed", path


@EVERY_KIND
def test_the_claims_are_an_object(typ):
    for wrong in ([], [KINDS[typ][0]], "claims", 5, None, True):
        assert refusal(typ, wrong) == "claims-malformed"


@EVERY_KIND
@pytest.mark.parametrize("other", [*KINDS, KEYS, "JWT", "tally-request", "TALLY-REQUEST+JWT"])
def test_each_parser_takes_its_own_kinds_only(typ, other):
    replies = {GRANT, REFUSAL, CREDIT}
    if other == typ or (KINDS[typ][1] is messages.parse_reply and other in replies):
        return
    key = DEVICE
    envelope_ = envelope.open_envelope(key.sign(other, json.dumps(KINDS[typ][0]).encode(), with_jwk=True).encode())
    with pytest.raises(WireError) as error:
        KINDS[typ][1](envelope.verify(envelope_, key.public))
    assert error.value.code == "kind-unexpected"


def test_an_unknown_name_with_control_characters_is_not_shown_as_it_is():
    assert refusal(GRANT, {**GRANT_CLAIMS, "\x1b[2J\r\n": 1}) == "claims-malformed"


@pytest.mark.parametrize("depth", [50, 500, 990, 1000, 20_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused_by_its_own_error(depth, opening, closing):
    payload = '{"iss":' + opening * depth + "1" + closing * depth + "}"
    if len(payload) > 40_000:
        payload = payload[:40_000]
    with pytest.raises(WireError) as error:
        messages.parse_grant(verified(GRANT, payload.encode()))
    assert error.value.code in {"claims-malformed", "json-malformed"}


# Requests


def request(purpose: str, **claims: object) -> dict:
    return {**REQUEST_CLAIMS, "purpose": purpose, **claims}


@pytest.mark.parametrize(
    "claims",
    [
        request("activate", wants=[PROVEN]),
        request("return", wants=[WANT]),
        request("return", all=True),
        request("refresh"),
        request("confirm", applied={"number": 1, "digest": HASH}),
        request("relinquish", epoch=2),
        request("refresh", applied={"number": 1, "digest": HASH}, grant="a.b.c"),
    ],
    ids=lambda claims: claims["purpose"],
)
def test_every_purpose_has_its_claims(claims):
    parsed = parse(REQUEST, claims)
    assert (parsed.purpose, parsed.device_id) == (claims["purpose"], DEVICE.public.device_id)
    assert json.loads(messages.encode_claims(parsed)) == claims


@pytest.mark.parametrize(
    "claims",
    [
        request("activate"),
        request("activate", all=True),
        request("activate", wants=[PROVEN], all=True),
        request("activate", wants=[]),
        request("activate", wants=[PROVEN] * 51),
        request("return"),
        request("return", wants=[WANT], all=True),
        request("return", wants=[PROVEN]),
        request("return", wants=[]),
        request("return", all=False),
        request("return", all=1),
        request("return", all="true"),
        *[request(purpose, wants=[WANT]) for purpose in ("refresh", "confirm", "relinquish")],
        *[request(purpose, all=True) for purpose in ("refresh", "confirm", "relinquish")],
        request("reclaim"),
        request("Activate", wants=[PROVEN]),
        request(""),
        request("refresh", epoch=0),
        request("refresh", epoch=2**48 + 1),
        request("refresh", sequence=0),
        request("refresh", jti="j" * 15),
        request("refresh", jti="j" * 65),
        request("refresh", jti="j" * 15 + " "),
        request("refresh", applied={"number": 0, "digest": HASH}),
        request("refresh", applied={"number": 1, "digest": HASH[1:]}),
        request("refresh", applied={"number": 1}),
        request("refresh", grant=5),
        request("refresh", grant="g" * (64 * 1024 + 1)),
        request("activate", wants=[{**PROVEN, "line": "7K3M9Q2U"}]),
        request("activate", wants=[{**PROVEN, "line": "7k3m9q2a"}]),
        request("activate", wants=[{**PROVEN, "quantity": -1}]),
        request("activate", wants=[{**PROVEN, "proof": "p" * 42}]),
    ],
    ids=lambda claims: json.dumps({name: claims[name] for name in claims if claims[name] != REQUEST_CLAIMS.get(name)})[
        :60
    ],
)
def test_every_purpose_has_its_claims_and_no_others(claims):
    if len(json.dumps(claims)) > 40_000:
        with pytest.raises(WireError):
            messages.convert_claims(json.dumps(claims).encode(), messages.Request)
        return
    assert refusal(REQUEST, claims) == "claims-malformed"


def test_iss_is_the_thumbprint_of_the_key_that_signed():
    claims = {**REQUEST_CLAIMS, "iss": PrivateKey(seeded("another")).public.thumbprint}
    assert refusal(REQUEST, claims) == "signature-wrong"


# Activation proofs


def test_a_proof_is_hmac_sha256_over_device_id_zero_and_jti():
    activation_id = ActivationId(line_id=LineId(LINE), secret=b"0123456789abcdef")
    device_id = DEVICE.public.device_id
    expected = hmac.new(b"0123456789abcdef", device_id.encode() + b"\0" + b"j" * 16, hashlib.sha256).digest()
    assert messages.activation_proof(activation_id, device_id, "j" * 16) == envelope.encode_base64url(expected)


def test_a_proof_fits_one_secret_one_field_server_and_one_message():
    activation_id = ActivationId(line_id=LineId(LINE), secret=b"0123456789abcdef")
    other = ActivationId(line_id=LineId(LINE), secret=b"0123456789abcdeg")
    device_id, stranger = DEVICE.public.device_id, ISSUER.public.device_id
    proof = messages.activation_proof(activation_id, device_id, "j" * 16)
    assert messages.is_proof_valid(activation_id, proof, device_id, "j" * 16)
    assert not messages.is_proof_valid(other, proof, device_id, "j" * 16)
    assert not messages.is_proof_valid(activation_id, proof, stranger, "j" * 16)
    assert not messages.is_proof_valid(activation_id, proof, device_id, "k" * 16)
    assert not messages.is_proof_valid(activation_id, None, device_id, "j" * 16)
    assert not messages.is_proof_valid(activation_id, "", device_id, "j" * 16)


# Replies


@pytest.mark.parametrize(
    ("typ", "path", "wrong"),
    [
        (GRANT, ("licenses",), [LICENSE] * 51),
        (GRANT, ("licenses", 0, "quantity"), 0),
        (GRANT, ("licenses", 0, "features"), {str(number): 1 for number in range(9)}),
        (GRANT, ("licenses", 0, "features"), {"mqtt": 0}),
        (GRANT, ("licenses", 0, "features"), {"": 1}),
        (GRANT, ("licenses", 0, "features"), {"m" * 33: 1}),
        (GRANT, ("licenses", 0, "features"), {"m q": 1}),
        (GRANT, ("licenses", 0, "expires"), "2030-01-01"),
        (GRANT, ("licenses", 0, "product"), "a b"),
        (GRANT, ("epoch",), 0),
        (GRANT, ("number",), 0),
        (GRANT, ("request",), "x"),
        (REFUSAL, ("request",), None),
        (REFUSAL, ("code",), "Not-Enough"),
        (REFUSAL, ("code",), "x" * 41),
        (REFUSAL, ("reasons",), REFUSAL_CLAIMS["reasons"] * 101),
        (CREDIT, ("request",), None),
        (CREDIT, ("credits", 0, "quantity"), 0),
        (CREDIT, ("entries", 0, "number"), 0),
        (CREDIT, ("entries", 0, "chain"), "F" * 64),
        (CREDIT, ("entries", 0, "chain"), "0" * 63),
        (ENTITLEMENT, ("lines",), [ENTITLEMENT_LINE] * 101),
        (ENTITLEMENT, ("lines", 0, "kinds"), ["AS-P"] * 33),
    ],
)
def test_limits_of_replies(typ, path, wrong):
    assert refusal(typ, put(KINDS[typ][0], path, wrong)) == "claims-malformed"


def test_a_grant_says_its_licenses_as_domain_values():
    claims = put(GRANT_CLAIMS, ("licenses", 0), {**LICENSE, "expires": -5, "engineering": True})
    (license_,) = parse(GRANT, claims).held()
    assert (license_.line_id, license_.product, license_.quantity) == (LINE, "mqtt-client", 2)
    assert (license_.features, license_.expires_at) == ((("mqtt", 1),), -5)
    assert (license_.engineering, license_.one_carry) == (True, True)


def test_a_grant_started_by_the_activation_server_answers_nothing():
    assert messages.request_digest(parse(GRANT, GRANT_CLAIMS)) is None
    assert messages.request_digest(parse(REFUSAL, REFUSAL_CLAIMS)) == HASH


def reason(line: str | None, code: str, length: int = 1) -> messages.LineReason:
    return messages.LineReason(code=code, expected="e" * length, seen="s", line=line)


def test_reasons_that_fit_are_all_said_in_their_order():
    reasons = [reason("A", "one"), reason("A", "two"), reason("B", "one"), reason(None, "one")]
    assert messages.fit_reasons(reasons) == tuple(reasons)


def test_where_not_all_reasons_fit_every_line_has_its_first_before_any_has_its_second():
    reasons = [reason(line, code) for line in map(str, range(60)) for code in ("one", "two")]
    kept = messages.fit_reasons(reasons)
    assert len(kept) == messages.REASONS_MAX
    assert {item.line for item in kept if item.code == "one"} == set(map(str, range(60)))
    assert list(kept) == [item for item in reasons if item in kept]


def test_long_reasons_are_left_out_from_the_end():
    kept = messages.fit_reasons([reason(str(line), "one", 1900) for line in range(50)])
    assert [item.line for item in kept] == [str(line) for line in range(len(kept))]
    assert 15 < len(kept) < 25
