"""Whatever becomes of unsynced bytes, the vault is the state before or after, never between (protocol, section 9)."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.fieldserver.disk import CrashError, FaultyDisk
from support.fieldserver.helpers import Desk, activate, pinned
from tallystick.errors import Error
from tallystick.fieldserver import codec, vault
from tallystick.fieldserver.state import Refresh
from tallystick.fieldserver.vault import SLOTS, Vault
from tallystick.protocol.problems import WireError

SEED = b"d" * 32
STATE = pinned().state
LONGER = pinned()
LONGER.ask(activate())
LONGER.ask(Refresh())


@st.composite
def torn(draw, old, new):
    """A mixture of old and new bytes: pieces of any size, in any order of arrival, perhaps with a flipped bit."""
    length = max(len(old), len(new))
    old, new = old.ljust(length, b"\0"), new.ljust(length, b"\0")
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=6))})
    pieces = [(new if draw(st.booleans()) else old)[low:high] for low, high in itertools.pairwise(cuts)]
    data = bytearray(b"".join(pieces))
    if data and draw(st.booleans()):
        data[draw(st.integers(0, length - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data[: draw(st.sampled_from([length, len(new) // 2, 0]))])


@pytest.mark.parametrize("offset", range(64))
def test_a_save_cut_at_any_early_offset_gives_the_state_before(offset):
    disk = FaultyDisk()
    vault_ = vault.create(disk, SEED, STATE)
    disk.crash_at = 1
    with pytest.raises(CrashError):
        vault_.save(LONGER.state)
    disk.settle(lambda _name, old, new: new[:offset] + old[offset:])
    assert Vault(disk, SEED).load() == STATE


def test_a_save_cut_at_every_offset_gives_the_state_before_or_after():
    disk = FaultyDisk()
    vault_ = vault.create(disk, SEED, STATE)
    vault_.save(replace(STATE, sequence=1))  # so that the slot written next has an older state in it
    old = dict(disk.durable)
    vault_.save(LONGER.state)
    new = disk.durable[SLOTS[0]]
    end = 24 + int.from_bytes(new[16:24], "big") + 32
    before = Vault(disk, SEED)
    for offset in range(len(new) + 1):
        disk.durable = {**old, SLOTS[0]: new[:offset] + old[SLOTS[0]][offset:]}
        expected = LONGER.state if offset >= end else replace(STATE, sequence=1)
        assert before.load() == expected


@given(data=st.data())
@settings(max_examples=60)
def test_a_flip_anywhere_in_both_slots_never_gives_a_third_state(data):
    disk = FaultyDisk()
    vault_ = vault.create(disk, SEED, STATE)
    vault_.save(LONGER.state)
    for name in SLOTS:
        content = bytearray(disk.durable[name])
        for _ in range(data.draw(st.integers(0, 2))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        disk.durable[name] = bytes(content)
    try:
        found = Vault(disk, SEED).load()
    except Error as error:
        found = error.code
    assert found in (STATE, LONGER.state, "vault-damaged")


@given(data=st.binary(max_size=300))
def test_the_parser_of_a_state_raises_one_family_of_errors(data):
    with pytest.raises(WireError):
        codec.parse_state(data)


@given(data=st.binary(max_size=300))
def test_any_bytes_as_a_slot_are_no_slot(data):
    disk = FaultyDisk()
    disk.durable = {SLOTS[0]: data, SLOTS[1]: b"TALLYVLT" + data}
    with pytest.raises(Error) as caught:
        Vault(disk, SEED).load()
    assert caught.value.code == "vault-damaged"


class VaultMachine(RuleBasedStateMachine):
    """Saves, failed saves, crashes with torn bytes, and loads by another process, in any order."""

    @initialize()
    def begin(self):
        self.disk = FaultyDisk()
        self.states = [Desk().state]
        self.vault = vault.create(self.disk, SEED, self.states[0])
        self.tried = []  # saves since the last acknowledged one: the bytes of a later one may complete an earlier one
        self.number = 0

    def next_state(self, size):
        self.number += 1
        base = LONGER.state if size else STATE
        return replace(base, sequence=self.number)

    @rule(size=st.booleans())
    def save(self, size):
        state = self.next_state(size)
        self.vault.save(state)
        self.states, self.tried = [state], []

    @rule(size=st.booleans(), number=st.sampled_from([28, 5, 30]), syncs_only=st.booleans())
    def save_and_fail(self, size, number, syncs_only):
        self.disk.fail_with, self.disk.fail_syncs_only = number, syncs_only
        state = self.next_state(size)
        with pytest.raises(Error):
            self.vault.save(state)
        self.disk.fail_with = None
        self.tried.append(
            state
        )  # nobody was told of it; a power cut may still keep its bytes, and undo what spoiled them

    @rule(size=st.booleans(), crash_at=st.integers(0, 1), data=st.data())
    def save_and_crash(self, size, crash_at, data):
        state = self.next_state(size)
        self.disk.crash_at = crash_at
        with pytest.raises(CrashError):
            self.vault.save(state)
        self.disk.settle(lambda _name, old, new: data.draw(torn(old, new)))
        self.vault = Vault(self.disk, SEED)
        found = self.vault.load()
        self.tried.append(state)
        assert found in (*self.states, *self.tried)
        self.states = [found]

    @rule()
    def kill_and_load(self):
        """A process is killed; what it wrote is still in the cache of the operating system."""
        self.vault = Vault(self.disk, SEED)
        assert self.vault.load() in self.states

    @invariant()
    def everybody_sees_the_newest_state(self):
        assert Vault(self.disk, SEED).peek() == self.vault.peek() == self.states[-1]


VaultMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=20)
TestVaultMachine = VaultMachine.TestCase
