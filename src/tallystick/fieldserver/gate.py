"""The password of a field server's API, and the slow-down after wrong ones.

Guarantees: only a hash is needed to check the password; a wrong one costs its address 1, 2, 4 ... 60 seconds in which
not even the right one is looked at, so nobody learns anything by trying faster; the table of addresses is bounded;
comparisons take constant time. Time is an argument (any monotonic seconds).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from tallystick.domain.ids import encode_base32
from tallystick.errors import Error
from tallystick.sentences import _

USER: Final = "administrator"

PASSWORD_RANDOM_BYTES: Final = 16
SALT_BYTES: Final = 16
_GROUPS: Final = 5
_GROUP_SYMBOLS: Final = 5  # 25 symbols of 5 bits: 125 bits
_PAUSE_SECONDS_MAX: Final = 60.0
_ADDRESSES_MAX: Final = 1024
_IPV6_PREFIX: Final = 64
_LOOK_ALIKES: Final = str.maketrans("OIL", "011", "- \t\r\n")
# The password has 125 random bits, so nobody can try them all whatever the hash costs; this cost is small on purpose
# (4 MiB, a few milliseconds), because the device is small.
_SCRYPT: Final = {"n": 2**12, "r": 8, "p": 1, "dklen": 32}


class PasswordError(Error):
    """No password, a wrong one, or too soon after a wrong one. ``retry_seconds``: how long to wait."""

    def __init__(self, code: str, *, expected: str, seen: str, retry_seconds: int | None = None) -> None:
        super().__init__(code, expected=expected, seen=seen)
        self.retry_seconds = retry_seconds


def make_password(random: bytes) -> str:
    """A password that people can read and type, from 16 random bytes."""
    symbols = encode_base32(int.from_bytes(random[:PASSWORD_RANDOM_BYTES], "big"), _GROUPS * _GROUP_SYMBOLS)
    return "-".join(symbols[at : at + _GROUP_SYMBOLS] for at in range(0, len(symbols), _GROUP_SYMBOLS))


def hash_password(password: str, salt: bytes) -> str:
    """``scrypt$<salt>$<hash>``, in hexadecimal."""
    return f"scrypt${salt.hex()}${_scrypt(password, salt).hex()}"


@dataclass(slots=True)
class _Tries:
    wrong: int
    free_at: float


class Gate:
    """Lets in whoever has the password."""

    def __init__(self, hashed: str, *, secret: bytes) -> None:
        """``secret``: random bytes of this process. Raises ``Error`` (``vault-damaged``) for a broken hash."""
        scheme, _other, rest = hashed.strip().partition("$")
        salt, _other, value = rest.partition("$")
        try:
            self._salt, self._hash = bytes.fromhex(salt), bytes.fromhex(value)
        except ValueError:
            self._salt = self._hash = b""
        if scheme != "scrypt" or not self._salt or len(self._hash) != _SCRYPT["dklen"]:
            raise Error("vault-damaged", expected=_("the password's hash as init wrote it"), seen=_("something else"))
        self._secret = secret
        self._right: bytes | None = None  # a keyed hash of the right password, once it was seen: the quick way
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def check_free(self, address: str, now: float) -> None:
        """Raises ``PasswordError`` (``too-many-tries``) while ``address`` has to wait."""
        tries = self._tries.get(_place(address))
        if tries is not None and now < tries.free_at:
            seconds = int(tries.free_at - now) + 1
            raise PasswordError(
                "too-many-tries",
                expected=_("a pause of {seconds} more seconds after a wrong password", seconds=seconds),
                seen=_("another try after {wrong} wrong ones", wrong=tries.wrong),
                retry_seconds=seconds,
            )

    def is_known(self, password: str) -> bool:
        """Whether this is the right password, which was seen before. Quick, and may be asked on an event loop."""
        return self._right is not None and hmac.compare_digest(self._right, self._quick(password))

    def is_right(self, password: str) -> bool:
        """Whether this is the right password. Takes milliseconds."""
        is_right = hmac.compare_digest(self._hash, _scrypt(password, self._salt))
        if is_right:
            self._right = self._quick(password)
        return is_right

    def note_right(self, address: str) -> None:
        """Forget the wrong tries of ``address``."""
        self._tries.pop(_place(address), None)

    def note_wrong(self, address: str, now: float) -> PasswordError:
        """Count a wrong try of ``address``, and say what to raise."""
        place = _place(address)
        wrong = self._tries[place].wrong + 1 if place in self._tries else 1
        pause = min(_PAUSE_SECONDS_MAX, 2.0 ** min(wrong - 1, 10))
        self._tries[place] = _Tries(wrong, now + pause)
        self._tries.move_to_end(place)
        while len(self._tries) > _ADDRESSES_MAX:
            self._tries.popitem(last=False)
        return PasswordError(
            "password-wrong",
            expected=_("the password of this field server"),
            seen=_("another one"),
            retry_seconds=int(pause),
        )

    def _quick(self, password: str) -> bytes:
        return hmac.digest(self._secret, _plain(password), "sha256")


def _scrypt(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(_plain(password), salt=salt, **_SCRYPT)


def _plain(password: str) -> bytes:
    """Forgiving what people mistype: case, hyphens, look-alikes."""
    return password.upper().translate(_LOOK_ALIKES).encode("utf-8", "surrogatepass")


def _place(address: str) -> str:
    """One entry for each IPv4 address and each IPv6 network: whoever has one IPv6 address has 2^64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((ip, _IPV6_PREFIX), strict=False))
    return str(ip)
