"""Typed identifiers, and how people read and type them.

Everything a person may have to type is Crockford base32 (no I, L, O, U; case, blanks and dashes of any kind do not
matter, nor do marks that nobody sees).
What carries a secret ends in Crockford's check symbol, so that a typing mistake is caught before anything is sent.
Random bytes are arguments.
"""

from __future__ import annotations

import hashlib
from typing import Any, NewType

from msgspec import Struct

from tallystick.domain.text import named, symbols_of
from tallystick.errors import Error
from tallystick.sentences import _
from tallystick.structs import know

DeviceId = NewType("DeviceId", str)  # RFC 7638 thumbprint of the field server's public key, base64url, 43 characters
Digest = NewType("Digest", str)  # SHA-256 of a whole compact envelope, base64url, 43 characters
EntitlementId = NewType("EntitlementId", str)  # EN-<secret and check symbol>: who knows it may look the lines up
EntitlementReference = NewType("EntitlementReference", str)  # ER-<sixteen Crockford symbols>, public
LicenseId = NewType("LicenseId", str)  # LC-<line>-<device part>: this line on this field server
LineId = NewType("LineId", str)  # eight Crockford symbols, public

LINE_ID_SYMBOLS = 8
SECRET_BYTES = 16
_SECRET_SYMBOLS = 26
_REFERENCE_SYMBOLS = 16

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_CHECK_ALPHABET = _ALPHABET + "*~$=U"
_LOOK_ALIKES = {"O": "0", "I": "1", "L": "1"}
_VALUES = {symbol: value for value, symbol in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_CHECK_PRIME = 37
_ACTIVATION_ID = _("an activation ID like AT-7K3M9Q2A- and 27 more symbols, as printed with the entitlement")
_ENTITLEMENT_ID = _("an entitlement ID like EN- and 27 more symbols, as printed when it was made")


class IdError(Error):
    """An identifier that a person typed is not one."""


def encode_base32(value: int, symbols: int) -> str:
    """``value`` as exactly ``symbols`` Crockford symbols, most significant first."""
    return "".join(_ALPHABET[(value >> (5 * place)) & 31] for place in reversed(range(symbols)))


def decode_base32(text: str) -> int:
    """The number that Crockford symbols spell. Raises ``ValueError`` at a symbol that is none."""
    value = 0
    for symbol in text:
        if symbol not in _VALUES:
            raise ValueError(symbol)
        value = value * 32 + _VALUES[symbol]
    return value


def check_symbol(value: int) -> str:
    """Crockford's check symbol: the number modulo 37."""
    return _CHECK_ALPHABET[value % _CHECK_PRIME]


class ActivationId(Struct, frozen=True, kw_only=True):
    """``AT-<line id>-<secret>``: names a line, and proves the right to activate it (protocol, section 5)."""

    line_id: LineId
    secret: bytes  # 16 bytes; never travels, see protocol.messages.activation_proof

    def __str__(self) -> str:
        """As it is printed. The check symbol covers the line id and the secret."""
        secret = encode_base32(int.from_bytes(self.secret, "big"), _SECRET_SYMBOLS)
        return f"AT-{self.line_id}-{secret}{check_symbol(decode_base32(self.line_id + secret))}"

    def __repr__(self) -> str:
        """Without the secret, so that no log shows it."""
        return f"ActivationId(line_id={self.line_id!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same for rich."""
        return [("line_id", self.line_id)]


def new_line_id(random: bytes) -> LineId:
    """A line id from at least five random bytes."""
    return LineId(encode_base32(int.from_bytes(random[:5], "big"), LINE_ID_SYMBOLS))


def new_entitlement_id(random: bytes) -> EntitlementId:
    """An entitlement ID from 16 random bytes."""
    value = int.from_bytes(random[:SECRET_BYTES], "big")
    return EntitlementId(f"EN-{encode_base32(value, _SECRET_SYMBOLS)}{check_symbol(value)}")


def entitlement_reference(entitlement_id: EntitlementId) -> EntitlementReference:
    """How an entitlement is called where people and programs talk about it: it opens nothing, and leads to no ID."""
    digest = hashlib.sha256(b"tallystick entitlement reference " + entitlement_id.encode()).digest()
    return EntitlementReference(f"ER-{encode_base32(int.from_bytes(digest[:10], 'big'), _REFERENCE_SYMBOLS)}")


def license_id(device_id: DeviceId, line_id: LineId) -> LicenseId:
    """The license that ``line_id`` is on ``device_id``: there is never more than one."""
    return LicenseId(f"LC-{line_id}-{device_id[:12]}")


def parse_activation_id(text: str) -> ActivationId:
    """What a person typed or pasted, forgiving case, spaces, hyphens and look-alike symbols.

    Raises ``IdError`` (``activation-id-mistyped``) when it cannot be what was printed.
    """
    expected = _ACTIVATION_ID
    plain = _symbols(text, code="activation-id-mistyped", expected=expected)
    line, secret, check = plain[2:10], plain[10:36], plain[36:]
    if not plain.startswith("AT") or len(check) != 1:
        raise IdError("activation-id-mistyped", expected=expected, seen=_("{count} symbols", count=len(plain)))
    value = _checked(line + secret, check, code="activation-id-mistyped", expected=expected)
    key = value & ((1 << (5 * _SECRET_SYMBOLS)) - 1)
    if key >> (8 * SECRET_BYTES):
        raise IdError("activation-id-mistyped", expected=expected, seen=_("a secret out of range"))
    line_id = LineId(encode_base32(decode_base32(line), LINE_ID_SYMBOLS))
    return ActivationId(line_id=line_id, secret=key.to_bytes(SECRET_BYTES, "big"))


def parse_entitlement_id(text: str) -> EntitlementId:
    """What a person typed or pasted. Raises ``IdError`` (``entitlement-id-mistyped``)."""
    expected = _ENTITLEMENT_ID
    plain = _symbols(text, code="entitlement-id-mistyped", expected=expected)
    if not plain.startswith("EN") or len(plain) != len("EN") + _SECRET_SYMBOLS + 1:
        raise IdError("entitlement-id-mistyped", expected=expected, seen=_("{count} symbols", count=len(plain)))
    value = _checked(plain[2:-1], plain[-1], code="entitlement-id-mistyped", expected=expected)
    return EntitlementId(f"EN-{encode_base32(value, _SECRET_SYMBOLS)}{check_symbol(value)}")


def parse_line_id(text: str) -> LineId:
    """A line id, or the line id inside an activation ID. Raises ``IdError`` (``line-id-mistyped``)."""
    expected = _("the eight symbols of a line id, like 7K3M9Q2A")
    plain = symbols_of(text)
    if plain.startswith("AT") and len(plain) > LINE_ID_SYMBOLS:
        return parse_activation_id(text).line_id
    plain = _symbols(text, code="line-id-mistyped", expected=expected)
    try:
        value = decode_base32(plain) if len(plain) == LINE_ID_SYMBOLS else -1
    except ValueError:
        value = -1
    if value < 0:
        raise IdError("line-id-mistyped", expected=expected, seen=repr(text[:40]))
    return LineId(encode_base32(value, LINE_ID_SYMBOLS))


def parse_entitlement_reference(text: str) -> EntitlementReference:
    """What a person typed or pasted. Raises ``IdError`` (``entitlement-id-mistyped``)."""
    expected = _("a reference like ER- and 16 more symbols, as shown with the entitlement")
    plain = _symbols(text, code="entitlement-id-mistyped", expected=expected)
    try:
        value = decode_base32(plain[2:])
    except ValueError as error:
        raise IdError(
            "entitlement-id-mistyped", expected=expected, seen=_("the symbol {args!r}", args=error.args[0])
        ) from None
    if not plain.startswith("ER") or len(plain) != len("ER") + _REFERENCE_SYMBOLS:
        raise IdError("entitlement-id-mistyped", expected=expected, seen=_("{count} symbols", count=len(plain)))
    return EntitlementReference(f"ER-{encode_base32(value, _REFERENCE_SYMBOLS)}")


def _symbols(text: str, *, code: str, expected: str) -> str:
    """The symbols of an identifier; one that belongs to none is refused by its name."""
    plain = symbols_of(text)
    for place, symbol in enumerate(plain, 1):
        if symbol not in _VALUES and symbol not in _CHECK_ALPHABET:
            raise IdError(
                code,
                expected=expected,
                seen=_("a symbol that does not belong: {symbol}, number {place}", symbol=named(symbol), place=place),
            )
    return plain


def _checked(symbols: str, check: str, *, code: str, expected: str) -> int:
    try:
        value = decode_base32(symbols)
    except ValueError as error:
        raise IdError(code, expected=expected, seen=_("the symbol {args!r}", args=error.args[0])) from None
    if check_symbol(value) != _LOOK_ALIKES.get(check, check):
        raise IdError(
            code, expected=expected, seen=_("a check symbol that does not fit: one symbol is mistyped")
        ) from None
    return value


know(ActivationId)
