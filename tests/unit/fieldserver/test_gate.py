"""The password gate: wrong ones are slowed down, the table is bounded, nothing leaks."""

import re

import pytest

from tallystick.errors import Error
from tallystick.fieldserver import gate
from tallystick.fieldserver.gate import Gate, PasswordError, hash_password, make_password

PASSWORD = make_password(bytes(range(16)))


def made():
    return Gate(hash_password(PASSWORD, b"salt" * 4), secret=b"k" * 32)


def test_a_password_is_readable_and_has_125_bits():
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{5}-){4}[0-9A-HJKMNP-TV-Z]{5}", PASSWORD)


@pytest.mark.parametrize(
    "change", [str, str.lower, lambda text: text.replace("-", " "), lambda text: text.replace("0", "o")]
)
def test_the_right_password_is_right_however_it_is_typed(change):
    assert made().is_right(change(PASSWORD))


@pytest.mark.parametrize("wrong", ["", "x", PASSWORD[:-1], PASSWORD + "0", "\udcff", "\x00" * 10_000])
def test_a_wrong_password_is_wrong(wrong):
    door = made()
    assert not door.is_right(wrong)
    assert not door.is_known(wrong)


def test_a_password_is_known_once_it_was_right():
    door = made()
    assert not door.is_known(PASSWORD)
    door.is_right(PASSWORD)
    assert door.is_known(PASSWORD.lower())


def test_wrong_passwords_are_slowed_down_from_one_second_to_sixty():
    door, now = made(), 0.0
    pauses = []
    for _ in range(9):
        door.check_free("10.0.0.1", now)
        pauses.append(door.note_wrong("10.0.0.1", now).retry_seconds)
        with pytest.raises(PasswordError) as caught:
            door.check_free("10.0.0.1", now + pauses[-1] - 0.5)
        assert (caught.value.code, caught.value.retry_seconds) == ("too-many-tries", 1)
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_one_address_does_not_slow_another_down():
    door = made()
    door.note_wrong("10.0.0.1", 0.0)
    door.check_free("10.0.0.2", 0.0)


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_ipv6_network_is_one_address(first, second, is_same):
    door = made()
    door.note_wrong(first, 0.0)
    if is_same:
        with pytest.raises(PasswordError):
            door.check_free(second, 0.0)
    else:
        door.check_free(second, 0.0)


def test_the_right_password_forgets_the_wrong_ones():
    door = made()
    door.note_wrong("10.0.0.1", 0.0)
    door.note_right("10.0.0.1")
    assert door.note_wrong("10.0.0.1", 0.0).retry_seconds == 1


def test_the_table_of_addresses_is_bounded():
    door = made()
    for number in range(5000):
        door.note_wrong(f"10.0.{number // 256}.{number % 256}", 0.0)
    assert len(door._tries) == gate._ADDRESSES_MAX


@pytest.mark.parametrize("hashed", ["", "scrypt$", "scrypt$zz$zz", "argon2$00$00", "scrypt$00$00"])
def test_a_broken_hash_is_named(hashed):
    with pytest.raises(Error) as caught:
        Gate(hashed, secret=b"k")
    assert caught.value.code == "vault-damaged"
