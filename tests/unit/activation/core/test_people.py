"""Passwords, codes and pauses, without a database."""

import argon2
import pyotp
import pytest

from tallystick.activation.core import people
from tallystick.activation.core.people import (
    ADDRESS_TRIES_FREE,
    NAME_TRIES_FREE,
    TRIES_FREE,
    TRY_SECONDS_MAX,
    PeopleError,
    Tries,
)

NOW = 1_800_000_000
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def test_who_does_not_exist_is_verified_with_the_same_work():
    made = people.hash_password("a long password", b"0" * people.SALT_BYTES)
    assert argon2.extract_parameters(people._NOBODY) == argon2.extract_parameters(made)
    with pytest.raises(argon2.exceptions.VerifyMismatchError):  # done to the end: not a hash that cannot be read
        people._HASHER.verify(people._NOBODY, "nobody")
    assert not people.is_password("nobody", None)


def test_a_password_is_hashed_with_argon2id_and_its_own_salt():
    first = people.hash_password("four quiet words apart", b"a" * 16)
    second = people.hash_password("four quiet words apart", b"b" * 16)
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert people.is_password("four quiet words apart", first)
    assert not people.is_password("four quiet words apart ", first)
    assert not people.is_password("four quiet words apart", None)
    assert not people.is_password("nobody", None)
    assert not people.is_password("x", "no hash")
    assert not people.is_password("\ud800", first)


def test_rfc_6238_codes_are_taken_once_and_with_a_drift_of_one_step():
    totp = pyotp.TOTP(SECRET)
    step = NOW // 30
    for drift, expected in ((-2, None), (-1, step - 1), (0, step), (1, step + 1), (2, None)):
        assert people.totp_step(SECRET, totp.at(NOW + 30 * drift), after=0, now=NOW) == expected
    assert people.totp_step(SECRET, totp.at(NOW), after=step, now=NOW) is None
    spaced = f"{totp.at(NOW)[:3]} {totp.at(NOW)[3:]}"
    assert people.totp_step(SECRET, spaced, after=0, now=NOW) == step


def test_the_test_vectors_of_rfc_6238_hold():
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # 12345678901234567890
    for now, code in ((59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (2_000_000_000, "279037")):
        assert people.totp_step(secret, code, after=-1, now=now) == now // 30


@pytest.mark.parametrize("code", ["", "12345", "1234567", "abcdef", "\u0661\u0662\u0663\u0664\u0665\u0666", "1" * 1000])
def test_what_is_no_code_is_none(code):
    assert people.totp_step(SECRET, code, after=0, now=NOW) is None


def test_a_pause_begins_after_the_first_failures_doubles_and_has_an_end():
    waits = [Tries(key="pair:x", count=count, last_at=NOW).wait_seconds(NOW) for count in range(TRIES_FREE + 30)]
    assert waits[:TRIES_FREE] == [0] * TRIES_FREE
    assert waits[TRIES_FREE : TRIES_FREE + 3] == [2, 4, 8]
    assert max(waits) == TRY_SECONDS_MAX
    assert Tries(key="pair:x", count=1000, last_at=NOW).wait_seconds(NOW + TRY_SECONDS_MAX) == 0
    assert Tries(key="address:x", count=ADDRESS_TRIES_FREE - 1, last_at=NOW).wait_seconds(NOW) == 0
    assert Tries(key="name:x", count=NAME_TRIES_FREE - 1, last_at=NOW).wait_seconds(NOW) == 0


@pytest.mark.parametrize(
    "email", ["", "ana", "@example.com", "ana@", "a b@example.com", "x" * 300 + "@x", "a@b@c", "ä@x"]
)
def test_what_is_no_address_is_refused(email):
    with pytest.raises(PeopleError):
        people.check_email(email)


def test_an_address_is_the_same_in_any_case():
    assert people.check_email("  Ana@Example.COM ") == "ana@example.com"


def test_secrets_have_their_prefix_and_all_their_bits():
    secret = people.new_secret("tally", bytes(range(24)))
    assert secret.startswith("tally_")
    assert len(secret.split("_")[1]) == 39  # 24 bytes in base32
