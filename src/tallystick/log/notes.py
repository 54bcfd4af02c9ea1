"""Signed notes (C2SP signed-note): a text, and lines that sign it; with Ed25519, and cosignatures of witnesses.

Guarantees: a note that was opened was signed by a key that the caller trusts; a signature in the name of such a key that
does not fit refuses the whole note; signatures of others are passed over, as the format wants it. Leaves to others: what the
text says (``checkpoints``), and which keys are trusted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from tallystick.protocol.problems import WireError
from tallystick.sentences import _

NOTE_BYTES_MAX: Final = 128 * 1024
SIGNATURES_MAX: Final = 64
NAME_SYMBOLS_MAX: Final = 255
MOMENT_MAX: Final = 2**63 - 1
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_MOMENT_BYTES: Final = 8
_LINE: Final = re.compile("\N{EM DASH} ([^ ]+) ([A-Za-z0-9+/]+={0,2})")
_KEY: Final = re.compile(r"([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+={0,2})")


class Algorithm(IntEnum):
    """How a line signs: the byte that goes into the id of its key."""

    ED25519 = 1  # the text itself: a log
    COSIGNATURE = 4  # the text at a moment: a witness


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that signs notes, with the name that stands before its signatures."""

    name: str
    public: bytes
    algorithm: Algorithm = Algorithm.ED25519

    @property
    def key_id(self) -> bytes:
        """Four bytes that stand before a signature. They find the key; they prove nothing."""
        typed = bytes([self.algorithm]) + self.public
        return hashlib.sha256(self.name.encode() + b"\n" + typed).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        """The key on one line, as verifiers take it (a "vkey")."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.algorithm]) + self.public)}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature that was checked: who signed, and when, where the algorithm says it (Unix seconds)."""

    key: NoteKey
    line: str
    at: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """A note that a key signed which the caller trusts; ``raw`` is all of it, with the signatures of others."""

    raw: bytes
    text: str
    signatures: tuple[NoteSignature, ...]


class NoteSigner:
    """The private half of a ``NoteKey``, from 32 random bytes. It never shows itself."""

    __slots__ = ("_key", "key")

    def __init__(self, name: str, seed: bytes, algorithm: Algorithm = Algorithm.ED25519) -> None:
        public, self._key = crypto_sign_seed_keypair(seed)
        self.key = NoteKey(check_name(name), public, algorithm)

    def sign(self, text: str) -> str:
        """The line that signs ``text``, which ends with a line feed."""
        if self.key.algorithm is not Algorithm.ED25519:
            raise ValueError("a witness signs at a moment")
        return self._line(self._signature(text.encode()))

    def cosign(self, text: str, *, at: int) -> str:
        """The line by which a witness signs ``text`` at a moment (C2SP tlog-cosignature)."""
        if self.key.algorithm is not Algorithm.COSIGNATURE:
            raise ValueError("a log does not cosign")
        return self._line(at.to_bytes(_MOMENT_BYTES, "big") + self._signature(_cosigned(text, at)))

    def _signature(self, data: bytes) -> bytes:
        return crypto_sign(data, self._key)[:crypto_sign_BYTES]

    def _line(self, signature: bytes) -> str:
        return f"\N{EM DASH} {self.key.name} {encode_base64(self.key.key_id + signature)}\n"


def format_note(text: str, lines: Iterable[str]) -> bytes:
    """The whole note."""
    return (text + "\n" + "".join(lines)).encode()


def open_note(raw: bytes, keys: Iterable[NoteKey]) -> Note:
    """The note, if one of ``keys`` signed it. Raises ``WireError`` (``note-malformed``, ``note-signature-wrong``)."""
    text, lines = split_note(raw)
    by_id = {(key.name, key.key_id): key for key in keys}
    found: dict[NoteKey, NoteSignature] = {}
    for line in lines:
        name, signature = _parse_line(line)
        key = by_id.get((name, signature[:_ID_BYTES]))
        if key is not None:
            checked = _check(text, key, line, signature[_ID_BYTES:])
            found.setdefault(key, checked)
    if not found:
        raise WireError(
            "note-signature-wrong",
            expected=_("a signature by {names}", names=", ".join(sorted({key.name for key in by_id.values()}))),
            seen=_("{count} signatures by others", count=len(lines)),
        )
    return Note(raw, text, tuple(found.values()))


def split_note(raw: bytes) -> tuple[str, list[str]]:
    """Text and lines, of which nothing is believed. Raises ``WireError`` (``note-malformed``)."""
    if len(raw) > NOTE_BYTES_MAX:
        raise _malformed(_("at most {most} bytes", most=NOTE_BYTES_MAX), _("{count} bytes", count=len(raw)))
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed(_("UTF-8 text"), _("other bytes")) from None
    if any(symbol < " " and symbol != "\n" for symbol in whole):
        raise _malformed(_("no control characters"), _("some"))
    text, blank, signed = whole.rpartition("\n\n")
    if not blank or not signed.endswith("\n"):
        raise _malformed(_("a text, an empty line, and lines that sign it"), _("something else"))
    lines = signed.removesuffix("\n").split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise _malformed(_("at most {most} signatures", most=SIGNATURES_MAX), _("{count} signatures", count=len(lines)))
    for line in lines:
        _parse_line(line)
    return text + "\n", lines


def parse_key(text: str) -> NoteKey:
    """A key from its line (a "vkey"). Raises ``WireError`` (``note-key-malformed``)."""
    found = _KEY.fullmatch(text) if len(text) <= 2 * NAME_SYMBOLS_MAX else None
    if found is None:
        raise _no_key(_("NAME+ID+KEY, as the log or the witness names it"), _("something else"))
    typed = decode_base64(found[3])
    if typed is None or len(typed) != 1 + _KEY_BYTES or typed[0] not in list(Algorithm):
        raise _no_key(_("an Ed25519 key of 32 bytes"), _("another key"))
    key = NoteKey(check_name(found[1]), typed[1:], Algorithm(typed[0]))
    if key.key_id.hex() != found[2]:
        raise _no_key(_("the id of this key, {key_id}", key_id=key.key_id.hex()), _("another id"))
    return key


def check_name(name: str) -> str:
    """The name of a key, or of a log: no spaces, no plus. Raises ``WireError`` (``note-key-malformed``)."""
    is_plain = all(symbol.isprintable() and not symbol.isspace() and symbol != "+" for symbol in name)
    if not 1 <= len(name) <= NAME_SYMBOLS_MAX or not is_plain:
        raise _no_key(_("a name of up to {most} symbols without spaces and plus", most=NAME_SYMBOLS_MAX), _("another"))
    return name


def encode_base64(data: bytes) -> str:
    """Base64 of RFC 4648, section 4, with its padding."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str) -> bytes | None:
    """The bytes of the one canonical spelling; None: another one, or none."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if encode_base64(data) == text else None


def _parse_line(line: str) -> tuple[str, bytes]:
    found = _LINE.fullmatch(line)
    signature = decode_base64(found[2]) if found else None
    if found is None or signature is None or len(signature) <= _ID_BYTES:
        raise _malformed(_("lines that begin with a dash, a name and a signature"), _("another line"))
    try:
        return check_name(found[1]), signature
    except WireError as error:
        raise _malformed(error.expected, error.seen) from None


def _check(text: str, key: NoteKey, line: str, signature: bytes) -> NoteSignature:
    signed, at = text.encode(), None
    if key.algorithm is Algorithm.COSIGNATURE:
        at, signature = int.from_bytes(signature[:_MOMENT_BYTES], "big"), signature[_MOMENT_BYTES:]
        signed = _cosigned(text, at)
    try:
        if len(signature) != crypto_sign_BYTES or (at or 0) > MOMENT_MAX:
            raise BadSignatureError
        crypto_sign_open(signature + signed, key.public)
    except BadSignatureError:  # or a key that is no point of the curve, or one of the few that fit everything
        raise WireError(
            "note-signature-wrong",
            expected=_("a signature by {names}", names=key.name),
            seen=_("one in that name that does not fit"),
        ) from None
    return NoteSignature(key, line + "\n", at)


def _cosigned(text: str, at: int) -> bytes:
    return f"cosignature/v1\ntime {at}\n{text}".encode()


def _malformed(expected: str, seen: str) -> WireError:
    return WireError("note-malformed", expected=expected, seen=seen)


def _no_key(expected: str, seen: str) -> WireError:
    return WireError("note-key-malformed", expected=expected, seen=seen)
