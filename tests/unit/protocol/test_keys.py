"""Whose signature counts: the pinned root's keysets, and the keys that they list, in their time."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.activation import seeded
from tallystick.protocol import envelope, keys, messages
from tallystick.protocol.envelope import PrivateKey, Unverified
from tallystick.protocol.keys import Jwk, KeysetClaims, SigningKey
from tallystick.protocol.messages import GRANT, KEYS, REFUSAL
from tallystick.protocol.problems import WireError

ROOT, OTHER_ROOT = PrivateKey(seeded("root")), PrivateKey(seeded("other root"))
KEY, OTHER_KEY = PrivateKey(seeded("key")), PrivateKey(seeded("other key"))


def entry(key: PrivateKey, valid_from: int = 0, valid_until: int | None = None) -> SigningKey:
    return SigningKey(jwk=Jwk(**key.public.jwk), valid_from=valid_from, valid_until=valid_until)


def opened(compact: str) -> Unverified:
    return envelope.open_envelope(compact.encode())


def keyset(*entries: SigningKey, root: PrivateKey = ROOT, version: int = 1) -> str:
    return keys.make_keyset(root, issuer="Maker", version=version, issued_at=5, keys=entries or (entry(KEY),))


def signed(claims: dict, *, by: PrivateKey = ROOT, typ: str = KEYS, with_jwk: bool = False) -> Unverified:
    return opened(by.sign(typ, envelope.encode_json(claims), with_jwk=with_jwk))


def claims(**changed: object) -> dict:
    made = KeysetClaims(iss="Maker", version=1, iat=5, root=Jwk(**ROOT.public.jwk), keys=(entry(KEY),))
    return {**envelope.parse_json(messages.encode_claims(made)), **changed}


def code(action) -> str:
    with pytest.raises(WireError) as error:
        action()
    return error.value.code


def test_a_keyset_reads_back_with_its_root_and_its_keys():
    compact = keyset(entry(KEY, 10, 20), entry(OTHER_KEY), version=3)
    found = keys.parse_keyset(opened(compact))
    assert (found.compact, found.issuer, found.version, found.root) == (compact, "Maker", 3, ROOT.public)
    assert found.keys == (entry(KEY, 10, 20), entry(OTHER_KEY))
    assert found.root_fingerprint == ROOT.public.thumbprint


def test_the_pinned_root_is_taken_and_no_other():
    assert keys.parse_keyset(opened(keyset()), root=ROOT.public).root == ROOT.public
    assert code(lambda: keys.parse_keyset(opened(keyset(root=OTHER_ROOT)), root=ROOT.public)) == "root-differs"


def test_a_keyset_that_names_the_pinned_root_must_be_signed_by_it():
    forged = OTHER_ROOT.sign(KEYS, envelope.encode_json(claims()))
    assert code(lambda: keys.parse_keyset(opened(forged), root=ROOT.public)) == "signature-wrong"
    header, payload, _ = keyset().split(".")
    stolen = OTHER_ROOT.sign(KEYS, envelope.encode_json(claims())).split(".")[2]
    assert code(lambda: keys.parse_keyset(opened(f"{header}.{payload}.{stolen}"))) == "signature-wrong"


def test_a_signing_key_cannot_make_a_keyset():
    assert code(lambda: keys.parse_keyset(signed(claims(), by=KEY))) == "signature-wrong"


def test_a_keyset_that_carries_its_key_itself_is_not_signed_by_a_named_root():
    assert code(lambda: keys.parse_keyset(signed(claims(), with_jwk=True))) == "signature-wrong"


def test_another_kind_of_message_is_no_keyset():
    assert code(lambda: keys.parse_keyset(signed(claims(), typ=GRANT))) == "kind-unexpected"


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 0},
        {"version": -1},
        {"version": True},
        {"version": "1"},
        {"keys": []},
        {"keys": None},
        {"keys": [{"jwk": KEY.public.jwk}]},
        {"keys": [{"jwk": {**KEY.public.jwk, "kid": "x"}, "valid_from": 0}]},
        {"keys": [{"jwk": {**KEY.public.jwk, "kty": "EC"}, "valid_from": 0}]},
        {"keys": [{"jwk": {**KEY.public.jwk, "crv": "Ed448"}, "valid_from": 0}]},
        {"keys": [{"jwk": {**KEY.public.jwk, "x": "short"}, "valid_from": 0}]},
        {"keys": [{"jwk": KEY.public.jwk, "valid_from": False}]},
        {"keys": [{"jwk": KEY.public.jwk, "valid_from": 0}] * 33},
        {"iss": ""},
        {"iss": "a\nb"},
        {"iss": "a" * 129},
        {"iss": None},
        {"iat": "now"},
        {"root": None},
        {"exp": 5},
    ],
    ids=str,
)
def test_the_claims_of_a_keyset_are_exact(changed):
    assert code(lambda: keys.parse_keyset(signed(claims(**changed)))) == "claims-malformed"


@pytest.mark.parametrize("missing", ["iss", "version", "iat", "root", "keys"])
def test_no_claim_of_a_keyset_may_be_missing(missing):
    left = claims()
    del left[missing]
    assert code(lambda: keys.parse_keyset(signed(left))) == "claims-malformed"


def test_a_root_of_another_spelling_is_refused():
    x = ROOT.public.x
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".index(x[-1])
    respelt = x[:-1] + "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last | 1]
    forged = claims(root={**ROOT.public.jwk, "x": respelt})
    assert code(lambda: keys.parse_keyset(signed(forged), root=ROOT.public)) == "root-differs"


# Messages


def grant(by: PrivateKey, **options: object) -> Unverified:
    return signed({}, by=by, typ=GRANT, **options)


def test_a_message_is_checked_with_the_key_that_its_kid_names():
    found = keys.parse_keyset(opened(keyset(entry(KEY), entry(OTHER_KEY))))
    assert found.verify(grant(KEY)).key == KEY.public
    assert found.verify(grant(OTHER_KEY)).key == OTHER_KEY.public


@pytest.mark.parametrize("stranger", [OTHER_KEY, OTHER_ROOT, ROOT])
def test_a_key_that_is_not_listed_signs_nothing_not_even_the_root(stranger):
    found = keys.parse_keyset(opened(keyset()))
    assert code(lambda: found.verify(grant(stranger))) == "key-unknown"


def test_a_message_of_the_activation_server_does_not_bring_its_own_key():
    found = keys.parse_keyset(opened(keyset()))
    assert code(lambda: found.verify(grant(KEY, with_jwk=True))) == "key-unknown"


def test_a_right_kid_on_another_signature_is_refused():
    header = KEY.sign(GRANT, b"{}").split(".")[0]
    payload, signature = OTHER_KEY.sign(GRANT, b"{}").split(".")[1:]
    found = keys.parse_keyset(opened(keyset()))
    assert code(lambda: found.verify(opened(f"{header}.{payload}.{signature}"))) == "signature-wrong"


@pytest.mark.parametrize(("issued_at", "is_fine"), [(9, False), (10, True), (19, True), (20, False), (-5, False)])
def test_a_key_counts_for_what_was_issued_while_it_was_valid(issued_at, is_fine):
    found = keys.parse_keyset(opened(keyset(entry(KEY, 10, 20))))
    verified = found.verify(grant(KEY))
    if is_fine:
        found.check_issued(verified, issuer="Maker", issued_at=issued_at)
    else:
        assert code(lambda: found.check_issued(verified, issuer="Maker", issued_at=issued_at)) == "key-unknown"


def test_a_key_without_an_end_has_none():
    found = keys.parse_keyset(opened(keyset(entry(KEY, 10))))
    found.check_issued(found.verify(grant(KEY)), issuer="Maker", issued_at=2**53 - 1)


def test_a_message_names_the_issuer_of_the_keyset():
    found = keys.parse_keyset(opened(keyset()))
    verified = found.verify(grant(KEY))
    assert code(lambda: found.check_issued(verified, issuer="Faker", issued_at=5)) == "issuer-wrong"


def test_a_key_of_an_older_keyset_is_not_known_any_more():
    old = keys.parse_keyset(opened(keyset(entry(KEY))))
    new = keys.parse_keyset(opened(keyset(entry(OTHER_KEY), version=2)), root=old.root)
    assert code(lambda: new.verify(grant(KEY))) == "key-unknown"


def test_a_kind_has_its_own_typ_so_that_none_passes_for_another():
    found = keys.parse_keyset(opened(keyset()))
    verified = found.verify(signed({}, by=KEY, typ=REFUSAL))
    assert code(lambda: messages.parse_grant(verified)) == "kind-unexpected"


# Hand-over of the root

THIRD_ROOT = PrivateKey(seeded("third root"))


def handed(*path: tuple[PrivateKey, PrivateKey, int], version: int, root: PrivateKey, issuer: str = "Maker") -> str:
    """A keyset of ``root`` that carries hand-overs (from, to, at version)."""
    statements = [
        keys.make_handover(old, issuer=issuer, version=at, issued_at=5, successor=new.public) for old, new, at in path
    ]
    return keys.make_keyset(
        root, issuer="Maker", version=version, issued_at=5, keys=(entry(KEY),), handovers=statements
    )


PINNED = keys.parse_keyset(opened(keyset(version=4)))
ONE = (ROOT, OTHER_ROOT, 5)
TWO = (OTHER_ROOT, THIRD_ROOT, 7)


def test_a_keyset_of_the_next_root_follows_with_its_hand_over():
    found = keys.parse_successor(opened(handed(ONE, version=5, root=OTHER_ROOT)), PINNED)
    assert (found.root, found.version) == (OTHER_ROOT.public, 5)
    assert found.root_fingerprints == {ROOT.public.thumbprint, OTHER_ROOT.public.thumbprint}


def test_who_missed_a_hand_over_follows_two_at_once():
    found = keys.parse_successor(opened(handed(ONE, TWO, version=9, root=THIRD_ROOT)), PINNED)
    assert found.root == THIRD_ROOT.public


def test_a_keyset_of_the_same_root_follows_with_or_without_hand_overs():
    assert keys.parse_successor(opened(keyset(version=5)), PINNED).version == 5
    pinned = keys.parse_keyset(opened(handed(ONE, version=5, root=OTHER_ROOT)))
    assert keys.parse_successor(opened(handed(ONE, version=6, root=OTHER_ROOT)), pinned).version == 6


def test_an_earlier_keyset_of_the_old_root_is_known_as_genuine_and_older():
    pinned = keys.parse_keyset(opened(handed(ONE, version=5, root=OTHER_ROOT)))
    assert keys.parse_successor(opened(keyset(version=4)), pinned).version == 4


def test_the_old_root_has_nothing_to_say_after_its_hand_over():
    pinned = keys.parse_keyset(opened(handed(ONE, version=5, root=OTHER_ROOT)))
    assert code(lambda: keys.parse_successor(opened(keyset(version=8)), pinned)) == "root-differs"
    forged = handed((ROOT, THIRD_ROOT, 8), version=9, root=THIRD_ROOT)
    assert code(lambda: keys.parse_successor(opened(forged), pinned)) == "root-differs"


def test_a_hand_over_from_before_the_pinned_keyset_is_no_hand_over():
    stale = handed((ROOT, OTHER_ROOT, 4), version=9, root=OTHER_ROOT)
    assert code(lambda: keys.parse_successor(opened(stale), PINNED)) == "root-differs"


@pytest.mark.parametrize(
    ("compact", "expected"),
    [
        (keyset(root=OTHER_ROOT, version=5), "root-differs"),
        (handed((THIRD_ROOT, OTHER_ROOT, 5), version=5, root=OTHER_ROOT), "root-differs"),
        (handed((ROOT, THIRD_ROOT, 5), version=5, root=OTHER_ROOT), "claims-malformed"),
        (handed(TWO, ONE, version=9, root=OTHER_ROOT), "claims-malformed"),
        (handed(ONE, (OTHER_ROOT, THIRD_ROOT, 5), version=9, root=THIRD_ROOT), "claims-malformed"),
        (handed((ROOT, OTHER_ROOT, 6), version=5, root=OTHER_ROOT), "claims-malformed"),
        (handed(ONE, version=5, root=OTHER_ROOT, issuer="Else"), "issuer-wrong"),
    ],
)
def test_anything_but_an_unbroken_chain_from_the_pinned_root_is_refused(compact, expected):
    assert code(lambda: keys.parse_successor(opened(compact), PINNED)) == expected


def test_a_hand_over_counts_only_if_the_old_root_signed_it():
    statement = opened(keys.make_handover(ROOT, issuer="Maker", version=5, issued_at=5, successor=OTHER_ROOT.public))
    for signer in (OTHER_ROOT, KEY):
        forged = signer.sign(messages.ROOT, statement.payload)
        assert code(lambda forged=forged: keys.parse_handover(opened(forged))) == "signature-wrong"
    header = envelope.encode_base64url(
        envelope.encode_json({"alg": "EdDSA", "typ": messages.ROOT, "kid": ROOT.public.thumbprint})
    )
    _, payload, stolen = OTHER_ROOT.sign(messages.ROOT, statement.payload).split(".")
    assert code(lambda: keys.parse_handover(opened(f"{header}.{payload}.{stolen}"))) == "signature-wrong"
    assert code(lambda: keys.parse_handover(opened(ROOT.sign(KEYS, statement.payload)))) == "kind-unexpected"
    to_itself = keys.make_handover(ROOT, issuer="Maker", version=5, issued_at=5, successor=ROOT.public)
    assert code(lambda: keys.parse_handover(opened(to_itself))) == "claims-malformed"


def test_a_broken_chain_is_refused_also_by_who_has_pinned_nothing():
    broken = handed((THIRD_ROOT, ROOT, 5), version=5, root=OTHER_ROOT)
    assert code(lambda: keys.parse_keyset(opened(broken))) == "claims-malformed"


def test_a_key_that_only_signs_bytes_makes_the_same_envelope():
    private = Ed25519PrivateKey.from_private_bytes(KEY.seed())
    assert envelope.seal(KEY.public, GRANT, b'{"a":1}', private.sign) == KEY.sign(GRANT, b'{"a":1}')
