"""The vault: the state before or after, never between."""

import errno
from dataclasses import replace

import pytest

from support.fieldserver.disk import CrashError, FaultyDisk
from support.fieldserver.helpers import NOW, activate, holding, license_claim, pinned
from tallystick.errors import Error
from tallystick.fieldserver import codec, vault
from tallystick.fieldserver.state import Refresh, State
from tallystick.fieldserver.vault import SLOTS, Vault
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.problems import WireError

SEED = b"d" * 32


def full_state():
    desk = holding(licenses=(license_claim(expires=NOW + 5, engineering=True), license_claim("7K3M9Q2B")), confirm=True)
    desk.refuse(desk.ask(activate(quantity=7)), seen=50)
    desk.issuer.key = PrivateKey(b"n" * 32)
    desk.take(desk.issuer.keyset(2))
    desk.ask(Refresh())
    return desk.state


def made(state=None):
    disk = FaultyDisk()
    state = state or pinned().state
    return disk, vault.create(disk, SEED, state), state


def with_flip(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("state", [State(device_id=pinned().id), pinned().state, full_state()])
def test_every_state_survives_its_codec(state):
    assert codec.parse_state(codec.encode_state(state)) == state


def test_a_load_gives_what_was_saved_last():
    disk, vault_, state = made()
    for number in range(1, 6):
        state = replace(state, sequence=number)
        vault_.save(state)
        assert Vault(disk, SEED).load() == state


def test_a_save_takes_one_sync():
    disk, vault_, state = made()
    before = disk.syncs
    vault_.save(replace(state, sequence=1))
    assert disk.syncs == before + 1


def test_what_a_load_gives_is_durable():
    disk, _, state = made()
    Vault(disk, SEED).save(replace(state, sequence=1))
    newest = next(name for name in SLOTS if Vault(disk, SEED)._open(name, disk.durable[name]).generation == 2)
    disk.cached[newest] = disk.durable.pop(newest)  # as if its writer had been killed before the sync
    assert Vault(disk, SEED).load().sequence == 1
    assert newest in disk.durable


def test_a_peek_writes_and_syncs_nothing():
    disk, _, state = made()
    before = disk.syncs
    disk.fail_with = errno.EROFS
    assert Vault(disk, SEED).peek() == state
    assert disk.syncs == before


def test_two_vaults_beside_each_other_see_each_others_saves():
    disk, first, state = made()
    second = Vault(disk, SEED)
    for number in range(1, 5):
        state = replace(state, sequence=number)
        (first if number % 2 else second).save(state)
        assert first.load() == second.load() == state


def test_one_bad_slot_falls_back_at_every_byte():
    disk, vault_, state = made()
    vault_.save(replace(state, sequence=1))
    length = 24 + int.from_bytes(disk.durable[SLOTS[1]][16:24], "big") + 32
    newest = disk.durable[SLOTS[1]]
    for place in range(length):
        disk.durable[SLOTS[1]] = with_flip(newest, place)
        assert Vault(disk, SEED).load() == state
    disk.durable[SLOTS[1]] = with_flip(newest, length)  # what stands behind is filling
    assert Vault(disk, SEED).load().sequence == 1


def test_the_slot_that_is_bad_is_the_one_written_next():
    disk, vault_, state = made()
    vault_.save(replace(state, sequence=1))
    disk.durable[SLOTS[1]] = b"junk"
    again = Vault(disk, SEED)
    again.save(replace(again.load(), sequence=2))
    disk.durable[SLOTS[0]] = b"junk"
    assert Vault(disk, SEED).load().sequence == 2


def test_two_bad_slots_are_damage():
    disk, _, _ = made()
    disk.durable = dict.fromkeys(SLOTS, b"junk")
    with pytest.raises(Error) as caught:
        Vault(disk, SEED).load()
    assert caught.value.code == "vault-damaged"


def test_no_slot_at_all_is_not_initialised():
    with pytest.raises(Error) as caught:
        Vault(FaultyDisk(), SEED).load()
    assert caught.value.code == "not-initialised"


def test_slots_of_another_device_are_damage():
    disk, _, _ = made()
    with pytest.raises(Error) as caught:
        Vault(disk, b"e" * 32).load()
    assert caught.value.code == "vault-damaged"


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EFBIG, "disk-full"),
        (errno.EROFS, "disk-failed"),
        (errno.EIO, "disk-failed"),
        (errno.EACCES, "disk-failed"),
    ],
)
@pytest.mark.parametrize("syncs_only", [False, True])
def test_a_save_that_fails_changes_nothing(number, code, syncs_only):
    disk, vault_, state = made()
    disk.fail_with, disk.fail_syncs_only = number, syncs_only
    with pytest.raises(Error) as caught:
        vault_.save(replace(state, sequence=1))
    assert caught.value.code == code
    assert vault_.peek() == state
    assert Vault(disk, SEED).peek() == state
    disk.fail_with = None
    vault_.save(replace(state, sequence=2))
    assert Vault(disk, SEED).load().sequence == 2


@pytest.mark.parametrize("crash_at", [0, 1])
@pytest.mark.parametrize("survives", ["nothing", "all", "half"])
def test_a_crash_leaves_the_state_before_or_after(crash_at, survives):
    disk, vault_, before = made(full_state())
    after = replace(before, sequence=99)
    disk.crash_at = crash_at
    with pytest.raises(CrashError):
        vault_.save(after)
    disk.settle(
        lambda _name, old, new: {"nothing": old, "all": new, "half": new[: len(new) // 2] + old[len(new) // 2 :]}[
            survives
        ]
    )
    assert Vault(disk, SEED).load() == (after if survives == "all" and crash_at == 1 else before)


def test_a_grant_that_no_key_of_its_keyset_signed_is_not_believed_even_inside_the_vault():
    desk = holding()
    stranger = PrivateKey(b"z" * 32)
    applied = replace(desk.state.applied, compact=stranger.sign("tally-grant+jwt", b"{}"))
    with pytest.raises(WireError):
        codec.parse_state(codec.encode_state(replace(desk.state, applied=applied)))


@pytest.mark.parametrize("data", [b"", b"{}", b"null", b"\xff", b'{"version":2}'])
def test_a_state_that_is_none_is_refused_with_the_one_family_of_errors(data):
    with pytest.raises(WireError):
        codec.parse_state(data)
