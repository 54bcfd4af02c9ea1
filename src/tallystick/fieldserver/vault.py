"""The durable, tamper-evident state of a field server: two slots, written in turn (protocol, section 4).

A slot is ``TALLYVLT``, a generation and a length (eight bytes each, big endian), the state, and an HMAC-SHA256 over all
of it with a key that is derived from the device's seed; zeros fill it up to whole blocks. A save goes into the slot
that does not hold the newest state, and is durable after one sync. So:

*   a load gives the state before or after any save, whatever became of the bytes of that save, and never a mixture.
    (After several crashed saves, it may be the state after an earlier one of them, whose bytes a later one completed:
    nothing of either was let out.)
*   what a load gave is durable: what another process wrote is synced again before it is returned, because that process
    may have been killed between its write and its sync;
*   one bad slot costs nothing but, at most, the last save. Where that save had been acknowledged, the activation
    server names the rollback at the next contact (``engine``, rule 6 a). Two bad slots are ``vault-damaged``;
*   a save that failed changed nothing: the error says ``disk-full`` or ``disk-failed``, and the other slot stands. Only
    a disk that took the write, failed the sync and then takes nothing any more may show it as done to a later load, as
    after a crash; nothing of it was let out before.

It cannot see that both slots were put back to an older pair; no software alone can. It leaves to others: that there
is one writer at a time (``ports.Lock``), and where the seed is (``platform``).
"""

from __future__ import annotations

import errno
import hmac
from dataclasses import dataclass
from typing import Final, Never

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tallystick.errors import Error
from tallystick.fieldserver.codec import encode_state, parse_state
from tallystick.fieldserver.ports import Disk
from tallystick.fieldserver.state import State
from tallystick.protocol.problems import WireError
from tallystick.sentences import _

SLOTS: Final = ("vault-a", "vault-b")

_MAGIC: Final = b"TALLYVLT"
_HEAD_BYTES: Final = 24
_MAC_BYTES: Final = 32
_BLOCK_BYTES: Final = 4096
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class VaultError(Error):
    """The state could not be read or made durable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    name: str
    generation: int
    mac: bytes
    body: bytes


class Vault:
    """Loads and saves the state of the device that has ``seed``."""

    def __init__(self, disk: Disk, seed: bytes) -> None:
        self._disk = disk
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tallystick vault 1").derive(seed)
        self._known: tuple[bytes, State] | None = None  # the MAC of a slot, and the state that it was found to hold
        self._durable: bytes | None = None  # the MAC of the slot that this object synced last

    def load(self) -> State:
        """The newest whole state, made sure to be durable.

        Raises ``VaultError`` (``not-initialised``, ``vault-damaged``, ``disk-full``, ``disk-failed``).
        """
        slot, state = self._newest()
        if slot.mac != self._durable:
            try:
                self._disk.sync(slot.name)
            except OSError as error:
                refuse_disk(error, _("a state that is durable"))
            self._durable = slot.mac
        return state

    def peek(self) -> State:
        """The newest whole state, for answers that promise nothing to anyone else. Writes and syncs nothing.

        Raises as ``load``.
        """
        return self._newest()[1]

    def save(self, state: State) -> None:
        """Make ``state`` the newest one. One sync. Raises ``VaultError`` (``disk-full``, ``disk-failed``)."""
        slots = self._read()
        newest = max((slot for slot in slots if slot is not None), key=lambda slot: slot.generation, default=None)
        name = SLOTS[0] if newest is None or newest.name == SLOTS[1] else SLOTS[1]
        data, mac = self._seal(state, 1 if newest is None else newest.generation + 1)
        try:
            self._disk.write(name, data)
            self._disk.sync(name)
        except OSError as error:
            self._spoil(name)
            refuse_disk(error, _("room and health for {data} bytes", data=len(data)))
        self._known, self._durable = (mac, state), mac

    def _spoil(self, name: str) -> None:
        """Best effort after a failed save: what was reported as not done should not turn up as done."""
        try:
            self._disk.write(name, bytes(_HEAD_BYTES))
            self._disk.sync(name)
        except OSError:
            return

    def _newest(self) -> tuple[_Slot, State]:
        slots = sorted((slot for slot in self._read() if slot is not None), key=lambda slot: -slot.generation)
        for slot in slots:
            if self._known is not None and self._known[0] == slot.mac:
                return slot, self._known[1]
            try:
                state = parse_state(slot.body)
            except WireError:
                continue
            self._known = (slot.mac, state)
            return slot, state
        raise VaultError("vault-damaged", expected=_("one whole slot of two"), seen=_("none that is whole"))

    def _read(self) -> tuple[_Slot | None, ...]:
        try:
            found = [(name, self._disk.read(name)) for name in SLOTS]
        except OSError as error:
            refuse_disk(error, _("a vault that can be read"))
        if all(data is None for _other, data in found):
            raise VaultError("not-initialised", expected=_("a vault"), seen=_("no slot at all"))
        return tuple(self._open(name, data or b"") for name, data in found)

    def _open(self, name: str, data: bytes) -> _Slot | None:
        end = _HEAD_BYTES + int.from_bytes(data[16:_HEAD_BYTES], "big")
        mac = data[end : end + _MAC_BYTES]
        if not data.startswith(_MAGIC) or not hmac.compare_digest(mac, hmac.digest(self._key, data[:end], "sha256")):
            return None
        return _Slot(name=name, generation=int.from_bytes(data[8:16], "big"), mac=mac, body=data[_HEAD_BYTES:end])

    def _seal(self, state: State, generation: int) -> tuple[bytes, bytes]:
        body = encode_state(state)
        data = _MAGIC + generation.to_bytes(8, "big") + len(body).to_bytes(8, "big") + body
        mac = hmac.digest(self._key, data, "sha256")
        # Whole blocks: overwriting them needs no new room and no new length, so it works on a full disk, and is quick.
        return (data + mac).ljust(-(-(len(data) + _MAC_BYTES) // _BLOCK_BYTES) * _BLOCK_BYTES, b"\0"), mac


def create(disk: Disk, seed: bytes, state: State) -> Vault:
    """The first save, for a device that has no vault yet. Raises ``VaultError`` as ``save``."""
    vault = Vault(disk, seed)
    data, _other = vault._seal(state, 1)  # noqa: SLF001 - the same module
    try:
        for name, content in ((SLOTS[1], bytes(_BLOCK_BYTES)), (SLOTS[0], data)):
            disk.write(name, content)
            disk.sync(name)
    except OSError as error:
        refuse_disk(error, _("room and health for {data} bytes", data=len(data)))
    return vault


def refuse_disk(error: OSError, expected: str) -> Never:
    """Say what the operating system said: ``disk-full`` or ``disk-failed``."""
    code = "disk-full" if error.errno in _FULL else "disk-failed"
    seen = error.strerror or type(error).__name__
    raise VaultError(code, expected=expected, seen=seen) from error
