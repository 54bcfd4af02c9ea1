"""Keys: made, rotated, retired, handed over; what a crash or a wrong passphrase leaves."""

from __future__ import annotations

import pytest

from tallystick.activation.files import FileError
from tallystick.activation.keys import lifecycle, signing
from tallystick.activation.settings import KeySettings
from tallystick.errors import Error
from tallystick.protocol import keys
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.messages import GRANT

NOW = 1_800_000_000
ROOT = PrivateKey(b"r" * 32)


@pytest.fixture
def data(tmp_path):
    lifecycle.create_keys(tmp_path, issuer="Maker", root_seed=b"r" * 32, signing_seed=b"1" * 32, now=NOW)
    return tmp_path


def rotate(data, seed=b"2" * 32, now=NOW + 10, overlap=100, root=ROOT, settings=None):
    return lifecycle.rotate(data, root, settings or KeySettings(), seed=seed, now=now, overlap_seconds=overlap)[0]


def code(action) -> str:
    with pytest.raises(Error) as error:
        action()
    return error.value.code


def test_a_rotation_brings_a_key_that_signs_and_keeps_what_the_old_one_signed(data):
    signer = signing.load_signer(data)
    old, before = signer.sign(GRANT, b"{}"), signer.keyset
    keyset = rotate(data)
    assert signer.refresh()
    assert not signer.refresh()
    assert (keyset.version, signer.keyset) == (2, keyset)
    assert signer.key.public == PrivateKey(b"2" * 32).public
    assert keys.parse_successor(open_envelope(keyset.compact.encode()), before) == keyset
    verified = keyset.verify(open_envelope(old.encode()))
    keyset.check_issued(verified, issuer="Maker", issued_at=NOW + 109)
    assert code(lambda: keyset.check_issued(verified, issuer="Maker", issued_at=NOW + 110)) == "key-unknown"
    new = keyset.verify(open_envelope(signer.sign(GRANT, b"{}").encode()))
    keyset.check_issued(new, issuer="Maker", issued_at=0)


def test_the_old_private_key_is_gone_and_the_new_one_is_for_its_owner_only(data):
    rotate(data)
    names = sorted(path.name for path in (data / "keys").iterdir())
    assert names == ["root.pem", "signing.pem"]
    assert (data / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600


def test_a_crash_after_the_keyset_leaves_a_key_that_still_counts(data, monkeypatch):
    pem = (data / "keys" / "signing.pem").read_bytes()
    rotate(data)
    (data / "keys" / "signing.pem").write_bytes(pem)  # as if the last step had not happened
    signer = signing.load_signer(data)
    assert signer.key.public == PrivateKey(b"1" * 32).public
    signer.keyset.verify(open_envelope(signer.sign(GRANT, b"{}").encode()))
    assert rotate(data, seed=b"3" * 32).version == 3


def test_only_the_root_of_the_keyset_makes_the_next_one(data):
    before = (data / "keyset.tally").read_bytes()
    assert code(lambda: rotate(data, root=PrivateKey(b"x" * 32))) == "root-differs"
    assert (data / "keyset.tally").read_bytes() == before


def test_the_root_may_be_elsewhere(data, tmp_path_factory):
    away = tmp_path_factory.mktemp("safe") / "root.pem"
    (data / "keys" / "root.pem").rename(away)
    assert code(lambda: lifecycle.load_root(data, None, passphrase=None)) == "keys-unusable"
    assert lifecycle.load_root(data, away, passphrase=None).public == ROOT.public
    signing.load_signer(data)


def test_a_key_that_was_retired_ends_and_one_that_was_stolen_is_gone(data):
    kid = signing.load_signer(data).key.public.thumbprint
    assert code(lambda: lifecycle.retire(data, ROOT, kid, current=kid, now=NOW, remove=False)) == "key-in-use"
    rotate(data)
    current = signing.load_signer(data).key.public.thumbprint
    ended = lifecycle.retire(data, ROOT, kid[:8], current=current, now=NOW + 20, remove=False)
    assert [key.valid_until for key in ended.keys] == [NOW + 20, None]
    again = lifecycle.retire(data, ROOT, kid, current=current, now=NOW + 30, remove=False)
    assert again.keys[0].valid_until == NOW + 20
    gone = lifecycle.retire(data, ROOT, kid, current=current, now=NOW + 40, remove=True)
    assert [key.kid for key in gone.keys] == [current]
    assert code(lambda: lifecycle.retire(data, ROOT, kid, current=current, now=NOW, remove=True)) == "not-found"


def test_a_keyset_has_room_for_32_keys_and_says_so(data):
    for number in range(31):
        rotate(data, seed=bytes([number + 40]) * 32)
    assert code(lambda: rotate(data, seed=b"z" * 32)) == "keys-too-many"


def test_a_handed_over_root_signs_the_next_keysets_and_the_old_one_none(data):
    first = signing.load_keyset(data)
    successor = PrivateKey(b"s" * 32)
    second = lifecycle.hand_over(data, ROOT, successor, now=NOW)
    assert keys.parse_successor(open_envelope(second.compact.encode()), first).root == successor.public
    assert code(lambda: rotate(data)) == "root-differs"
    third = rotate(data, root=successor)
    assert (third.version, len(third.handovers)) == (3, 1)
    last = lifecycle.hand_over(data, successor, PrivateKey(b"t" * 32), now=NOW)
    assert keys.parse_successor(open_envelope(last.compact.encode()), first).version == 4
    assert (
        code(lambda: lifecycle.hand_over(data, PrivateKey(b"t" * 32), PrivateKey(b"t" * 32), now=NOW)) == "root-differs"
    )


def test_a_passphrase_locks_the_signing_key_and_the_root(tmp_path):
    settings = KeySettings(passphrase="correct horse")
    lifecycle.create_keys(
        *(tmp_path,),
        issuer="Maker",
        root_seed=b"r" * 32,
        signing_seed=b"1" * 32,
        now=NOW,
        settings=settings,
        root_passphrase="other",
    )
    assert b"ENCRYPTED" in (tmp_path / "keys" / "signing.pem").read_bytes()
    assert code(lambda: signing.load_signer(tmp_path)) == "passphrase-wrong"
    assert code(lambda: signing.load_signer(tmp_path, KeySettings(passphrase="wrong"))) == "passphrase-wrong"
    assert signing.load_signer(tmp_path, settings).key.place == "file"
    assert code(lambda: lifecycle.load_root(tmp_path, None, passphrase=None)) == "passphrase-wrong"
    root = lifecycle.load_root(tmp_path, None, passphrase="other")
    rotate(tmp_path, root=root, settings=settings)
    assert b"ENCRYPTED" in (tmp_path / "keys" / "signing.pem").read_bytes()
    signing.load_signer(tmp_path, settings)


@pytest.mark.parametrize("pem", [b"", b"no key", b"\xff" * 100])
def test_a_damaged_key_file_is_named(data, pem):
    (data / "keys" / "signing.pem").write_bytes(pem)
    with pytest.raises(FileError) as error:
        signing.load_signer(data)
    assert error.value.code == "keys-unusable"
