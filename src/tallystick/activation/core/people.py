"""People, their sessions and tokens: values, rules, passwords, codes.

Passwords are argon2id; a second factor is TOTP (RFC 6238), each code once; what is handed out as a secret (session,
token, invitation, set-up code) is kept only as its SHA-256, which is enough because each has 160 random bits or more.
Time and randomness are arguments. Storing is left to ``storage``, wiring to ``office``.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final

import argon2
import pyotp
from argon2.exceptions import Argon2Error, InvalidHashError

from tallystick.activation.core.permissions import Caller, Role, Scope
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.sentences import _

PASSWORD_LENGTH_MIN: Final = 12
PASSWORD_LENGTH_MAX: Final = 256
EMAIL_LENGTH_MAX: Final = 254
SESSION_SECONDS: Final = 12 * 3600
SESSION_IDLE_SECONDS: Final = 3600
SECOND_STEP_SECONDS: Final = 300
INVITATION_SECONDS: Final = 7 * 86_400
TOKEN_DAYS_MAX: Final = 366
COURIER_DAYS_MAX: Final = 31
COURIER_DEVICES_MAX: Final = 1000
TRIES_FREE: Final = 5
ADDRESS_TRIES_FREE: Final = 20  # many people may share one
NAME_TRIES_FREE: Final = 50  # from every address together, and only from browsers that were never signed in
TRY_SECONDS_MAX: Final = 900
KNOWN_SECONDS: Final = 90 * 86_400  # how long a browser that was signed in is known
GUESSES_SCORE_MIN: Final = 3  # zxcvbn's: more than 10^8 guesses
SECRET_BYTES: Final = 24
SALT_BYTES: Final = 16
_TOTP_SECONDS: Final = 30
_TOTP_DRIFT: Final = 1
_EMAIL: Final = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")
_CODE: Final = re.compile(r"[0-9]{6}")
# OWASP's second choice: 19 MiB, two passes. A sign-in takes some 30 ms and cannot exhaust a small machine.
_HASHER: Final = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
# A hash of nobody's password: to verify it is the same work. Written out, because to make it would be that work at every start.
_NOBODY: Final = (
    f"$argon2id$v=19$m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}$"
    + "A" * 22  # 16 bytes of salt
    + "$"
    + "A" * 43  # 32 bytes
)


class PeopleError(Error):
    """Something about people that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody who signs in by ``email``. ``password`` is a hash, None until the invitation was used."""

    person_id: str
    email: str
    name: str
    role: Role
    account: str | None
    password: str | None = None
    totp_secret: str | None = None
    totp_step: int = 0  # of the last code that was used: a code works once
    is_active: bool = True
    invitation: str | None = None  # digest
    invited_until: int | None = None
    created_at: int = 0
    version: int = 1
    invited_by: str | None = None  # id of the person who invited, while the invitation was not used

    @property
    def caller(self) -> Caller:
        """The person as one who asks."""
        return Caller(
            name=self.email,
            role=self.role,
            scope=Scope(account=self.account),
            subject=self.person_id,
            person_id=self.person_id,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser that is signed in; ``is_whole`` is false between the password and the second factor."""

    digest: str
    person_id: str
    csrf: str
    is_whole: bool
    created_at: int
    seen_at: int
    expires_at: int

    def is_alive(self, now: int) -> bool:
        """Whether it still counts."""
        return now < self.expires_at and now < self.seen_at + SESSION_IDLE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A key for programs. A courier's token names the field servers that it may carry for."""

    token_id: str
    digest: str
    name: str
    role: Role
    account: str | None
    is_read_only: bool
    devices: tuple[DeviceId, ...]
    created_by: str
    created_at: int
    expires_at: int
    last_used_at: int | None = None
    revoked_at: int | None = None
    person_id: str | None = None  # whose it is; None: made by a command on the activation server's own data

    def is_alive(self, now: int) -> bool:
        """Whether it still counts."""
        return self.revoked_at is None and now < self.expires_at

    @property
    def caller(self) -> Caller:
        """The token as one who asks."""
        return Caller(
            name=f"{self.created_by} with token {self.name}",
            role=self.role,
            scope=Scope(account=self.account),
            subject=self.token_id,
            person_id=self.person_id,
            is_read_only=self.is_read_only,
            devices=frozenset(self.devices) if self.role is Role.COURIER else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """Failed sign-ins under one key (an address, a name)."""

    key: str
    count: int
    last_at: int

    @property
    def free(self) -> int:
        """How many tries cost nothing."""
        return _FREE.get(self.key.partition(":")[0], TRIES_FREE)

    def wait_seconds(self, now: int) -> int:
        """How long the next try has to wait: nothing for the first few, then doubling, at most a quarter of an hour."""
        free = self.free
        if self.count < free:
            return 0
        pause = min(TRY_SECONDS_MAX, 1 << min(self.count - free + 1, 20))
        return max(0, self.last_at + pause - now)


_FREE: Final = {"address": ADDRESS_TRIES_FREE, "name": NAME_TRIES_FREE}


def digest_of(secret: str) -> str:
    """What is kept of a secret that was handed out."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def new_secret(prefix: str, random: bytes) -> str:
    """A secret to hand out, from ``SECRET_BYTES`` random bytes. The prefix lets scanners find leaked ones."""
    return f"{prefix}_{base64.b32encode(random).decode().rstrip('=').lower()}"


def check_email(text: str) -> str:
    """An address to sign in with, in lower case. Raises ``PeopleError``."""
    email = text.strip().lower()
    if len(email) > EMAIL_LENGTH_MAX or not email.isprintable() or not email.isascii() or not _EMAIL.fullmatch(email):
        raise PeopleError("text-wrong", expected=_("an e-mail address like ana@example.com"), seen=repr(text[:60]))
    return email


def check_password(password: str, *, email: str) -> None:
    """Long enough, and not among the first that somebody would try. Raises ``PeopleError``.

    Rules about symbols make passwords worse; what counts is how many guesses it takes (lists of common passwords,
    words, names, keyboard rows, dates, and the address itself).
    """
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        seen = _("a shorter one") if len(password) < PASSWORD_LENGTH_MIN else _("a longer one")
    elif len(set(password)) < 4:
        seen = _("hardly different symbols")
    elif password.lower() in {email, email.split("@", maxsplit=1)[0]}:
        seen = _("the e-mail address")
    elif _guesses_score(password, email) < GUESSES_SCORE_MIN:
        seen = _("one of the first that would be tried")
    else:
        return
    raise PeopleError(
        "password-weak",
        expected=_(
            "a password of {password_length_min} to {password_length_max} symbols",
            password_length_min=PASSWORD_LENGTH_MIN,
            password_length_max=PASSWORD_LENGTH_MAX,
        ),
        seen=seen,
    )


def _guesses_score(password: str, email: str) -> int:
    from zxcvbn import zxcvbn  # noqa: PLC0415 - its lists take a while to load, and passwords are rarely chosen

    looked_at = password[:72]  # beyond, it takes long to look and length alone is enough
    return int(zxcvbn(looked_at, user_inputs=[email, *re.split(r"[@.]", email), "tallystick"])["score"])


def hash_password(password: str, salt: bytes) -> str:
    """argon2id with its parameters and ``SALT_BYTES`` of salt, as one text."""
    return _HASHER.hash(password.encode("utf-8", "surrogatepass"), salt=salt)


def is_password(password: str, hashed: str | None) -> bool:
    """Whether it is the one. Without a hash the same work is done, so that nobody learns who exists."""
    try:
        _HASHER.verify(hashed or _NOBODY, password.encode("utf-8", "surrogatepass")[:4096])
    except (Argon2Error, InvalidHashError):
        return False
    return hashed is not None


def new_totp_secret(random: bytes) -> str:
    """A secret for an authenticator, from 20 random bytes."""
    return base64.b32encode(random[:20]).decode()


def totp_address(secret: str, *, email: str, issuer: str) -> str:
    """The ``otpauth`` address that an authenticator reads."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=issuer)


def totp_step(secret: str, code: str, *, after: int, now: int) -> int | None:
    """The time step that ``code`` belongs to, when it is right and later than ``after``; else None."""
    plain = "".join(code.split())
    if not _CODE.fullmatch(plain):
        return None
    totp = pyotp.TOTP(secret)
    for drift in range(-_TOTP_DRIFT, _TOTP_DRIFT + 1):
        step = now // _TOTP_SECONDS + drift
        if step > after and totp.verify(plain, for_time=step * _TOTP_SECONDS):
            return step
    return None
