"""Signing in: first run, invitations, passwords, the second factor, sessions, tokens.

Whoever tries is slowed down, by address and by name; an answer never tells whether a name exists. A session's secret
is in the browser only, the database has its digest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from tallystick.activation.core import people
from tallystick.activation.core.people import Person, Session
from tallystick.activation.core.permissions import Caller, Role
from tallystick.activation.services.base import Office, OfficeError, record
from tallystick.activation.storage import SqlTransaction

FORGET_SECONDS: Final = 86_400
_TOUCH_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session that began: ``secret`` is for the browser. ``needs_code``: the second factor is still to come."""

    secret: str
    needs_code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is at a page."""

    person: Person
    session: Session

    @property
    def caller(self) -> Caller:
        """As one who asks."""
        return self.person.caller


def new_setup_code(office: Office) -> str | None:
    """A code for the first-run page, or None when somebody can sign in already. Earlier codes count no more."""
    if office.store.read(lambda transaction: transaction.people.is_set_up()):
        return None
    code = people.new_secret("setup", office.random_bytes(people.SECRET_BYTES))
    now = office.clock()
    office.store.transact(lambda transaction: transaction.people.save_setup_code(people.digest_of(code), now=now))
    return code


def is_set_up(office: Office) -> bool:
    """Whether somebody can sign in."""
    return office.store.read(lambda transaction: transaction.people.is_set_up())


def set_up(office: Office, *, code: str, email: str, name: str, password: str, address: str) -> NewSession:
    """The first person, a vendor administrator, signed in. The code works once."""
    email = people.check_email(email)
    people.check_password(password, email=email)
    now = office.clock()
    _check_pause(office, [f"setup:{address}"], now)
    person = Person(
        person_id=office.new_id("PE"),
        email=email,
        name=name,
        role=Role.VENDOR_ADMINISTRATOR,
        account=None,
        password=people.hash_password(password, office.random_bytes(people.SALT_BYTES)),
        created_at=now,
    )
    secret = _new_session_secret(office)

    def work(transaction: SqlTransaction) -> bool:
        if transaction.people.is_set_up() or not transaction.people.take_setup_code(people.digest_of(code.strip())):
            return False
        known = transaction.people.find_person(email=email)
        made = person if known is None else replace(person, person_id=known.person_id)
        transaction.people.save_person(made)
        _begin(office, transaction, made, secret, is_whole=True, now=now)
        record(transaction, made.caller, "set-up", made.person_id, account=None, now=now, detail=email)
        return True

    if not office.store.transact(work):
        _count(office, [f"setup:{address}"], now)
        raise OfficeError("setup-code-wrong", expected="the set-up code that `serve` printed last", seen="another one")
    return NewSession(secret=secret, needs_code=False)


def sign_in(office: Office, *, email: str, password: str, address: str) -> NewSession:
    """A session, when the password fits. Raises ``OfficeError`` (``sign-in-wrong``, ``too-many-tries``)."""
    email = email.strip().lower()[: people.EMAIL_LENGTH_MAX]
    now = office.clock()
    keys = [f"address:{address}", f"name:{people.digest_of(email)}"]
    _check_pause(office, keys, now)
    person = office.store.read(lambda transaction: transaction.people.find_person(email=email))
    fits = people.is_password(password, person.password if person else None)
    if person is None or not fits or not person.is_active:
        _count(office, keys, now)
        raise OfficeError(
            "sign-in-wrong", expected="an e-mail address and its password", seen="a pair that does not fit"
        )
    secret = _new_session_secret(office)
    needs_code = person.totp_secret is not None

    def work(transaction: SqlTransaction) -> None:
        _begin(office, transaction, person, secret, is_whole=not needs_code, now=now)
        if not needs_code:
            transaction.people.forget_tries(keys[1:])
            record(transaction, person.caller, "sign-in", person.person_id, account=person.account, now=now)

    office.store.transact(work)
    return NewSession(secret=secret, needs_code=needs_code)


def enter_code(office: Office, secret: str, code: str) -> NewSession:
    """The second factor: a new, whole session for the half one."""
    now = office.clock()
    found = office.store.read(lambda transaction: transaction.people.load_session(people.digest_of(secret)))
    if found is None or found[0].is_whole or not found[0].is_alive(now) or not found[1].is_active:
        raise OfficeError("signed-out", expected="a sign-in with the password a moment ago", seen="none")
    person = found[1]
    key = f"code:{person.person_id}"
    _check_pause(office, [key], now)
    whole = _new_session_secret(office)

    def work(transaction: SqlTransaction) -> bool:
        current = transaction.people.find_person(email=person.email)
        if current is None or current.totp_secret is None:
            return False
        step = people.totp_step(current.totp_secret, code, after=current.totp_step, now=now)
        if step is None:
            return False
        current = replace(current, totp_step=step)
        transaction.people.save_person(current)
        transaction.people.end_session(people.digest_of(secret))
        transaction.people.forget_tries([key, f"name:{people.digest_of(current.email)}"])
        _begin(office, transaction, current, whole, is_whole=True, now=now)
        record(transaction, current.caller, "sign-in", current.person_id, account=current.account, now=now)
        return True

    if not office.store.transact(work):
        _count(office, [key], now)
        raise OfficeError(
            "code-wrong", expected="the six digits that the authenticator shows now", seen="others, or used ones"
        )
    return NewSession(secret=whole, needs_code=False)


def visitor_of(office: Office, secret: str | None) -> Visitor | None:
    """Who the browser with this secret is; None when it is signed in no more, or only half."""
    if not secret:
        return None
    now = office.clock()
    digest = people.digest_of(secret)
    found = office.store.read(lambda transaction: transaction.people.load_session(digest))
    if found is None:
        return None
    session, person = found
    if not session.is_whole or not session.is_alive(now) or not person.is_active:
        return None
    if now - session.seen_at >= _TOUCH_SECONDS:
        office.store.transact(lambda transaction: transaction.people.touch_session(digest, now=now))
    return Visitor(person=person, session=session)


def sign_out(office: Office, visitor: Visitor, *, everywhere: bool = False) -> None:
    """End this session, or all of the person's."""

    def work(transaction: SqlTransaction) -> None:
        if everywhere:
            transaction.people.end_sessions(visitor.person.person_id)
        else:
            transaction.people.end_session(visitor.session.digest)

    office.store.transact(work)


def invited_person(office: Office, invitation: str) -> Person:
    """Whose invitation it is. Raises ``OfficeError``."""
    now = office.clock()
    digest = people.digest_of(invitation)
    person = office.store.read(lambda transaction: transaction.people.load_invited(digest, now=now))
    if person is None:
        raise OfficeError(
            "invitation-wrong", expected="an invitation that was not used and has not expired", seen="another"
        )
    return person


def accept_invitation(office: Office, *, invitation: str, password: str) -> NewSession:
    """Choose a password with an invitation, and be signed in. It works once."""
    person = invited_person(office, invitation)
    people.check_password(password, email=person.email)
    hashed = people.hash_password(password, office.random_bytes(people.SALT_BYTES))
    now = office.clock()
    secret = _new_session_secret(office)

    def work(transaction: SqlTransaction) -> bool:
        current = transaction.people.load_invited(people.digest_of(invitation), now=now)
        if current is None:
            return False
        changed = replace(
            current, password=hashed, invitation=None, invited_until=None, totp_secret=None, version=current.version + 1
        )
        transaction.people.save_person(changed)
        transaction.people.end_sessions(changed.person_id)
        _begin(office, transaction, changed, secret, is_whole=True, now=now)
        record(transaction, changed.caller, "invitation-accept", changed.person_id, account=changed.account, now=now)
        return True

    if not office.store.transact(work):
        raise OfficeError("invitation-wrong", expected="an invitation that was not used yet", seen="a used one")
    return NewSession(secret=secret, needs_code=False)


def change_password(office: Office, visitor: Visitor, *, old: str, new: str) -> None:
    """Another password. Every other session of the person ends."""
    now = office.clock()
    key = f"name:{people.digest_of(visitor.person.email)}"
    _check_pause(office, [key], now)
    if not people.is_password(old, visitor.person.password):
        _count(office, [key], now)
        raise OfficeError("sign-in-wrong", expected="your present password", seen="another one")
    people.check_password(new, email=visitor.person.email)
    hashed = people.hash_password(new, office.random_bytes(people.SALT_BYTES))

    def work(transaction: SqlTransaction) -> None:
        current = _current(transaction, visitor)
        transaction.people.save_person(replace(current, password=hashed, version=current.version + 1))
        transaction.people.end_sessions(current.person_id)
        transaction.people.save_session(visitor.session)
        record(transaction, visitor.caller, "password-change", current.person_id, account=current.account, now=now)

    office.store.transact(work)


def new_totp_secret(office: Office) -> str:
    """A secret to show to an authenticator. It counts once ``confirm_totp`` saw a code made with it."""
    return people.new_totp_secret(office.random_bytes(20))


def confirm_totp(office: Office, visitor: Visitor, *, secret: str, code: str) -> None:
    """Turn the second factor on: the code shows that the authenticator has the secret."""
    now = office.clock()
    try:
        step = people.totp_step(secret, code, after=0, now=now) if len(secret) == 32 else None
    except ValueError:  # not base32: a form that somebody altered
        step = None
    if step is None:
        raise OfficeError("code-wrong", expected="the six digits that the authenticator shows now", seen="others")

    def work(transaction: SqlTransaction) -> None:
        current = _current(transaction, visitor)
        changed = replace(current, totp_secret=secret, totp_step=step, version=current.version + 1)
        transaction.people.save_person(changed)
        record(transaction, visitor.caller, "second-factor-on", current.person_id, account=current.account, now=now)

    office.store.transact(work)


def stop_totp(office: Office, visitor: Visitor, *, password: str) -> None:
    """Turn the second factor off; asks for the password."""
    now = office.clock()
    key = f"name:{people.digest_of(visitor.person.email)}"
    _check_pause(office, [key], now)
    if not people.is_password(password, visitor.person.password):
        _count(office, [key], now)
        raise OfficeError("sign-in-wrong", expected="your present password", seen="another one")

    def work(transaction: SqlTransaction) -> None:
        current = _current(transaction, visitor)
        transaction.people.save_person(replace(current, totp_secret=None, version=current.version + 1))
        record(transaction, visitor.caller, "second-factor-off", current.person_id, account=current.account, now=now)

    office.store.transact(work)


def caller_of_token(office: Office, secret: str) -> Caller:
    """Who asks with this token. Raises ``OfficeError`` (``token-wrong``)."""
    now = office.clock()
    digest = people.digest_of(secret)
    token = office.store.read(lambda transaction: transaction.people.find_token(digest))
    if token is None or not token.is_alive(now):
        seen = "none that is known" if token is None else "one that has expired or was revoked"
        raise OfficeError("token-wrong", expected="a token in the header Authorization: Bearer", seen=seen)
    if token.last_used_at is None or now - token.last_used_at >= 3600:
        office.store.transact(lambda transaction: transaction.people.touch_token(token.token_id, now=now))
    return token.caller


def _current(transaction: SqlTransaction, visitor: Visitor) -> Person:
    current = transaction.people.find_person(email=visitor.person.email)
    if current is None or not current.is_active:
        raise OfficeError("signed-out", expected="somebody who may sign in", seen="somebody who may not any more")
    return current


def _new_session_secret(office: Office) -> str:
    return people.new_secret("session", office.random_bytes(people.SECRET_BYTES))


def _begin(
    office: Office, transaction: SqlTransaction, person: Person, secret: str, *, is_whole: bool, now: int
) -> None:
    seconds = people.SESSION_SECONDS if is_whole else people.SECOND_STEP_SECONDS
    transaction.people.save_session(
        Session(
            digest=people.digest_of(secret),
            person_id=person.person_id,
            csrf=people.new_secret("form", office.random_bytes(people.SECRET_BYTES)),
            is_whole=is_whole,
            created_at=now,
            seen_at=now,
            expires_at=now + seconds,
        )
    )


def _check_pause(office: Office, keys: list[str], now: int) -> None:
    tries = office.store.read(lambda transaction: transaction.people.load_tries(keys))
    wait = max((known.wait_seconds(now) for known in tries), default=0)
    if wait:
        raise PauseError(wait)


def _count(office: Office, keys: list[str], now: int) -> None:
    def work(transaction: SqlTransaction) -> None:
        for key in sorted(keys):
            transaction.people.count_try(key, now=now, forget_seconds=FORGET_SECONDS)

    office.store.transact(work)


class PauseError(OfficeError):
    """Too many tries: wait ``wait_seconds``."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(
            "sign-in-paused", expected="a pause after failed tries", seen=f"a try {wait_seconds} seconds too early"
        )
        self.wait_seconds = wait_seconds
