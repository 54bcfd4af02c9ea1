"""Anything into every parser: its own error or a value, soon, and nothing else ever."""

from __future__ import annotations

import base64
import itertools
import json
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.activation import Bench, Device, TestSigner, seeded
from tallystick.activation.core import reading
from tallystick.fieldserver.codec import parse_state
from tallystick.protocol import envelope, keys, messages, tallyfile
from tallystick.protocol.envelope import PrivateKey, Unverified
from tallystick.protocol.messages import CREDIT, ENTITLEMENT, GRANT, KEYS, REFUSAL, REQUEST
from tallystick.protocol.problems import BY_CODE, WireError

KEY = PrivateKey(seeded("fuzz"))
SIGNER = TestSigner()
TYPES = [REQUEST, GRANT, REFUSAL, CREDIT, KEYS, ENTITLEMENT, "JWT"]


def examples() -> list[bytes]:
    """Real envelopes of most kinds."""
    bench = Bench()
    line = bench.buy(2)
    device = Device("a")
    first = device.activate((line, 1))
    grant, compact = bench.grant(first)
    device.take(compact)
    last = device.relinquish()
    (answer,) = bench.post(last)
    refusal = bench.post(Device("b").say("refresh"))[0].reply[0]
    found = [first, compact, last, answer.reply[0], refusal, bench.signer.keyset.compact]
    return [item.encode() for item in found]


ENVELOPES = examples()

# JSON that a text can say, legal here or not.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**60), 2**60)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from(["AT-", "h" * 43, "7K3M9Q2A", "\ud800", "\x1b[2J", "refresh", "activate", "EdDSA", REQUEST])
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
)
TEXT = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)


@st.composite
def mutated_claims(draw):
    """The claims of a real message, with one place of them replaced, removed or added to."""
    compact = draw(st.sampled_from(ENVELOPES)).decode()
    opened = envelope.open_envelope(compact.encode())
    claims = json.loads(opened.payload)
    here = claims
    while True:
        names = list(here) if isinstance(here, dict) else list(range(len(here)))
        name = draw(st.sampled_from(names))
        if isinstance(here[name], dict | list) and here[name] and draw(st.booleans()):
            here = here[name]
            continue
        match draw(st.sampled_from(["replace", "remove", "add", "double"])):
            case "replace":
                here[name] = draw(JSON)
            case "remove":
                del here[name]
            case "add" if isinstance(here, dict):
                here[draw(st.text(st.characters(codec=None), max_size=8))] = draw(JSON)
            case _ if isinstance(here, list):
                here.extend(here * 60)
            case _:
                here[name] = draw(SCALARS)
        return opened.typ, json.dumps(claims).encode()


@st.composite
def mutated_bytes(draw):
    """A real envelope with bytes changed, cut out, doubled or put in."""
    line = bytearray(draw(st.sampled_from(ENVELOPES)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(line)))
        end = draw(st.integers(start, min(len(line), start + 40)))
        line[start:end] = draw(st.binary(max_size=8) | st.just(bytes(line[start:end]) * 2) | st.just(b"."))
    return bytes(line)


def own_error(error: WireError) -> None:
    assert error.code in BY_CODE
    json.dumps([error.expected, error.seen], ensure_ascii=False).encode()
    assert len(str(error)) < 2000


def parse_everything(opened: Unverified) -> None:
    """Every parser that takes an envelope, each on its own."""
    for parse in (
        lambda: envelope.verify(opened, opened.jwk or KEY.public),
        lambda: keys.parse_keyset(opened),
        lambda: keys.parse_keyset(opened, root=SIGNER.keyset.root),
        lambda: SIGNER.keyset.verify(opened),
        lambda: reading.read_message(opened, SIGNER.keyset),
    ):
        try:
            parse()
        except WireError as error:
            own_error(error)
    for parse_claims in (
        messages.parse_request,
        messages.parse_reply,
        messages.parse_grant,
        messages.parse_entitlement,
    ):
        for key in (opened.jwk, KEY.public, SIGNER.key.public):
            try:
                parse_claims(envelope.verify(opened, key or KEY.public))
            except WireError as error:
                own_error(error)


def open_and_parse(line: bytes) -> None:
    began = time.process_time()
    try:
        parse_everything(envelope.open_envelope(line))
    except WireError as error:
        own_error(error)
    assert time.process_time() - began < 2


@given(st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
@example(b"A" * 65_537)
@example(b"." * 65_536)
@example(b"AA." * 20_000)
def test_any_bytes(line):
    open_and_parse(line)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(mutated_bytes())
def test_a_damaged_envelope(line):
    open_and_parse(line)


@given(TEXT, TEXT, st.binary(max_size=70))
def test_any_header_and_any_payload(header, payload, signature):
    parts = (base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload, signature.ljust(64, b"s")[:64]))
    open_and_parse(b".".join(parts))


@given(st.dictionaries(st.sampled_from(["alg", "typ", "kid", "jwk", "crit", "b64", ""]), JSON), TEXT)
def test_a_header_of_the_right_names_and_any_values(header, payload):
    header = {"alg": "EdDSA", "typ": REQUEST, **header}
    part = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=")
    open_and_parse(part + b"." + base64.urlsafe_b64encode(payload).rstrip(b"=") + b"." + b"A" * 86)


@given(st.sampled_from(TYPES), TEXT)
def test_any_payload_under_a_right_signature(typ, payload):
    for key in (KEY, SIGNER.key, SIGNER.root):
        for with_jwk in (False, True):
            open_and_parse(key.sign(typ, payload, with_jwk=with_jwk).encode())


@given(mutated_claims())
def test_altered_claims_under_a_right_signature(message):
    typ, payload = message
    for key in (KEY, SIGNER.key, SIGNER.root):
        open_and_parse(key.sign(typ, payload, with_jwk=key is KEY).encode())


@given(mutated_claims())
def test_a_grant_to_repeat_may_be_anything(message):
    """The envelope inside an envelope."""
    typ, payload = message
    inner = SIGNER.key.sign(typ, payload)
    for grant in (inner, inner[:-3], "\ud7ff", "a.b.c", ""):
        request = messages.Request(
            iss=KEY.public.thumbprint,
            aud=SIGNER.keyset.issuer,
            jti="j" * 16,
            iat=0,
            purpose="refresh",
            epoch=1,
            sequence=1,
            applied=messages.AppliedGrant(number=1, digest=envelope.digest_of(inner)),
            facts=messages.Facts(kind="k", host_id="h", name="n", software="s"),
            grant=grant,
        )
        open_and_parse(KEY.sign(REQUEST, messages.encode_claims(request), with_jwk=True).encode())


@given(TEXT)
def test_any_json(data):
    try:
        value = envelope.parse_json(data)
    except WireError as error:
        own_error(error)
    else:
        assert envelope.parse_json(envelope.encode_json(value)) == value


@given(JSON)
def test_what_is_encoded_is_utf_8(value):
    envelope.encode_json(value).decode()


@given(st.binary() | st.sampled_from(ENVELOPES))
def test_base64url_has_one_spelling(data):
    assert envelope.decode_base64url(envelope.encode_base64url(data)) == data


@given(st.text(max_size=60) | st.text("ABCDabcd0189-_=+/", max_size=60))
def test_base64url_that_is_read_is_spelt_so(text):
    try:
        data = envelope.decode_base64url(text)
    except WireError as error:
        own_error(error)
    else:
        assert envelope.encode_base64url(data) == text


@given(st.binary(max_size=300), st.sampled_from(TYPES), st.booleans())
def test_what_is_signed_verifies(payload, typ, with_jwk):
    payload = payload.ljust(2, b" ")
    compact = KEY.sign(typ, payload, with_jwk=with_jwk)
    verified = envelope.verify(envelope.open_envelope(compact.encode()), KEY.public)
    assert (verified.payload, verified.typ, verified.compact) == (payload, typ, compact)


LINES = st.lists(
    st.sampled_from([*ENVELOPES[:2], b"", b"# a comment", b"rubbish", b"\xef\xbb\xbf", b" \t", b"\xff"])
    | st.binary(max_size=40),
    max_size=8,
)


@given(LINES, st.sampled_from([b"\n", b"\r\n"]), st.lists(st.integers(0, 4000), max_size=6))
def test_a_tally_file_reads_the_same_however_it_is_cut(lines, end, cuts):
    data = end.join(lines)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:stop] for start, stop in itertools.pairwise(places)]
    assert outcome(chunks) == outcome([data])


def outcome(chunks) -> list[tuple[int, str]]:
    found = []
    for line in tallyfile.parse_chunks(chunks):
        if isinstance(line, tallyfile.BadLine):
            own_error(line.error)
            found.append((line.line_number, line.error.code))
        else:
            found.append((line.line_number, line.envelope.compact))
    return found


@given(TEXT | st.sampled_from(ENVELOPES))
def test_any_bytes_as_the_state_of_a_field_server(data):
    try:
        parse_state(data)
    except WireError as error:
        own_error(error)


@pytest.mark.parametrize("size", [10_000, 40_000])
@pytest.mark.parametrize("symbol", ['"', "\\", "[", "{", "1", " ", ",", "\\ud800", '{"a":', "-", "e"])
def test_long_runs_of_one_symbol_are_refused_soon(symbol, size):
    open_and_parse(KEY.sign(GRANT, (symbol * size)[:size].encode()).encode())
