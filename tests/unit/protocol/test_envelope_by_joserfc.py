"""What we sign, a JOSE library that we do not use verifies; what it signs, we read."""

import json

import pytest
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from support.activation import seeded
from tallystick.protocol import envelope
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.problems import WireError

KEY = PrivateKey(seeded("key"))
THEIRS = OKPKey.import_key(
    KEY.public.jwk | {"d": envelope.encode_base64url(KEY.seed())},
)
PAYLOADS = [b"{}", b'{"a":1}', "\N{SNOWMAN}".encode(), bytes(range(256)), b"x" * 40_000]
pytestmark = pytest.mark.filterwarnings("ignore:.*EdDSA.*")


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("with_jwk", [True, False])
def test_it_verifies_what_we_sign(payload, with_jwk):
    compact = KEY.sign("tally-request+jwt", payload, with_jwk=with_jwk)
    found = jws.deserialize_compact(compact, THEIRS, algorithms=["EdDSA"])
    assert found.payload == payload
    assert found.headers()["typ"] == "tally-request+jwt"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_it_signs_the_same_bytes(payload):
    header = {"alg": "EdDSA", "typ": "tally-grant+jwt", "kid": KEY.public.thumbprint}
    theirs = jws.serialize_compact(header, payload, THEIRS, algorithms=["EdDSA"])
    assert theirs == KEY.sign("tally-grant+jwt", payload)


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_we_read_what_it_signs(alg):
    header = {"typ": "tally-request+jwt", "alg": alg, "jwk": KEY.public.jwk}
    compact = jws.serialize_compact(header, json.dumps({"a": 1}).encode(), THEIRS, algorithms=[alg])
    opened = envelope.open_envelope(compact.encode())
    assert envelope.verify(opened, opened.jwk).payload == b'{"a": 1}'


def test_neither_takes_an_altered_one():
    compact = KEY.sign("tally-grant+jwt", b'{"a":1}')
    altered = compact.replace(".eyJhIjoxfQ.", ".eyJhIjoyfQ.")
    assert altered != compact
    with pytest.raises(JoseError):
        jws.deserialize_compact(altered, THEIRS, algorithms=["EdDSA"])
    with pytest.raises(WireError):
        envelope.verify(envelope.open_envelope(altered.encode()), KEY.public)


def test_it_and_we_name_a_key_alike():
    assert THEIRS.thumbprint() == KEY.public.thumbprint
