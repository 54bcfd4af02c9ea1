"""Signing in: first run, invitations, passwords, the second factor, sessions, tokens.

Whoever tries is slowed down; an answer never tells whether a name exists. A try is counted before it is looked at, in
one transaction with the look at the count, so that tries at the same time do not slip through. Three counts slow down
who was never signed in: of the pair of address and name, of the address, of the name. A browser that was signed in is
known by a cookie and has a count of its own, so that nobody who knows a name can shut its owner out.

A change of what opens the door asks for the password, and for the second factor where there is one, again. A session's
secret is in the browser only, the database has its digest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tallystick.activation.core import people
from tallystick.activation.core.people import ApiToken, Person, Session
from tallystick.activation.core.permissions import EVERYTHING, Caller, Role, may_give, stranger
from tallystick.activation.core.ports import EventKind
from tallystick.activation.services.base import Office, OfficeError, record, record_security
from tallystick.activation.storage import SqlTransaction
from tallystick.sentences import _

FORGET_SECONDS: Final = 86_400
_TOUCH_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSession:
    """A session that began: ``secret`` is for the browser. ``needs_code``: the second factor is still to come.

    ``known``: another secret for the browser, by which it is known at the next sign-in; None while it is not whole.
    """

    secret: str
    needs_code: bool
    known: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a try comes from: the client's address, and the secret of a browser that was signed in before."""

    address: str
    known: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who is at a page."""

    person: Person
    session: Session
    address: str | None = None

    @property
    def caller(self) -> Caller:
        """As one who asks."""
        return replace(self.person.caller, address=self.address)


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
    _take_try(office, [f"setup:{address}"], now, name="set-up", address=address)
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
        raise OfficeError(
            "setup-code-wrong", expected=_("the set-up code that `serve` printed last"), seen=_("another one")
        )
    return NewSession(secret=secret, needs_code=False)


def sign_in(office: Office, *, email: str, password: str, origin: Origin) -> NewSession:
    """A session, when the password fits. Raises ``OfficeError`` (``sign-in-wrong``, ``sign-in-paused``)."""
    email = email.strip().lower()[: people.EMAIL_LENGTH_MAX]
    now = office.clock()
    keys = _take_try(office, _keys(office, origin, email), now, name=email, address=origin.address)
    namesakes = office.store.read(lambda transaction: transaction.people.find_namesakes(email=email))
    person = _fitting(namesakes, password)
    if person is None:
        known = namesakes[0] if namesakes else None
        _record_failure(office, email, known, origin.address, now, what="a password that does not fit")
        raise OfficeError(
            "sign-in-wrong", expected=_("an e-mail address and its password"), seen=_("a pair that does not fit")
        )
    secret = _new_session_secret(office)
    needs_code = person.totp_secret is not None
    known_secret = None if needs_code else origin.known or people.new_secret("known", office.random_bytes(24))

    def work(transaction: SqlTransaction) -> None:
        _begin(office, transaction, person, secret, is_whole=not needs_code, now=now)
        if known_secret is not None:
            _welcome(transaction, person, known_secret, keys, now=now)
            detail = f"from {origin.address}"
            target, account = person.person_id, person.account
            record(transaction, person.caller, "sign-in", target, account=account, now=now, detail=detail)

    office.store.transact(work)
    return NewSession(secret=secret, needs_code=needs_code, known=known_secret)


def _fitting(namesakes: list[Person], password: str) -> Person | None:
    """Whose password it is. Without anybody the same work is done once, so that nobody learns who exists."""
    if not namesakes:
        people.is_password(password, None)
    fitting = [person for person in namesakes if people.is_password(password, person.password) and person.is_active]
    return fitting[0] if fitting else None


def enter_code(office: Office, secret: str, code: str, *, origin: Origin) -> NewSession:
    """The second factor: a new, whole session for the half one."""
    now = office.clock()
    found = office.store.read(lambda transaction: transaction.people.load_session(people.digest_of(secret)))
    if found is None or found[0].is_whole or not found[0].is_alive(now) or not found[1].is_active:
        raise OfficeError("signed-out", expected=_("a sign-in with the password a moment ago"), seen=_("none"))
    person = found[1]
    is_known = _is_known(office, origin, person.email)
    key = f"code:{person.person_id}:{people.digest_of(origin.known)}" if is_known else f"code:{person.person_id}"
    _take_try(office, [key], now, name=person.email, address=origin.address)
    whole = _new_session_secret(office)
    known_secret = origin.known or people.new_secret("known", office.random_bytes(24))

    def work(transaction: SqlTransaction) -> bool:
        current = _use_code(transaction, person, code, now=now)
        if current is None:
            return False
        transaction.people.end_session(people.digest_of(secret))
        _welcome(transaction, current, known_secret, [key, *_keys_of_stranger(origin, current.email)], now=now)
        _begin(office, transaction, current, whole, is_whole=True, now=now)
        target, account, detail = current.person_id, current.account, f"from {origin.address}"
        record(transaction, current.caller, "sign-in", target, account=account, now=now, detail=detail)
        return True

    if not office.store.transact(work):
        _record_failure(office, person.email, person, origin.address, now, what="a code that does not fit")
        raise _code_wrong()
    return NewSession(secret=whole, needs_code=False, known=known_secret)


def _use_code(transaction: SqlTransaction, person: Person, code: str, *, now: int) -> Person | None:
    """The person after using up a code of the authenticator; None when it does not fit."""
    current = transaction.people.load_person(person.caller.scope, person.person_id)
    if current is None or current.totp_secret is None:
        return None
    step = people.totp_step(current.totp_secret, code, after=current.totp_step, now=now)
    if step is None:
        return None
    current = replace(current, totp_step=step)
    transaction.people.save_person(current)
    return current


def _code_wrong() -> OfficeError:
    return OfficeError(
        "code-wrong", expected=_("the six digits that the authenticator shows now"), seen=_("others, or used ones")
    )


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
            "invitation-wrong", expected=_("an invitation that was not used and has not expired"), seen=_("another")
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
            current,
            password=hashed,
            invitation=None,
            invited_until=None,
            invited_by=None,
            totp_secret=None,
            version=current.version + 1,
        )
        transaction.people.save_person(changed)
        transaction.people.end_sessions(changed.person_id)
        _begin(office, transaction, changed, secret, is_whole=True, now=now)
        kind, account = EventKind.CREDENTIAL_CHANGED, changed.account
        target, caller = changed.person_id, changed.caller
        record_security(office, transaction, caller, kind, "invitation-accept", target, account=account, now=now)
        return True

    if not office.store.transact(work):
        raise OfficeError("invitation-wrong", expected=_("an invitation that was not used yet"), seen=_("a used one"))
    return NewSession(secret=secret, needs_code=False)


def change_password(office: Office, visitor: Visitor, *, old: str, code: str, new: str, address: str) -> None:
    """Another password. Every other session of the person ends."""
    people.check_password(new, email=visitor.person.email)
    hashed = people.hash_password(new, office.random_bytes(people.SALT_BYTES))

    def work(transaction: SqlTransaction, current: Person) -> None:
        transaction.people.save_person(replace(current, password=hashed, version=current.version + 1))
        transaction.people.end_sessions(current.person_id)
        transaction.people.save_session(visitor.session)

    _change_credential(office, visitor, work, "password-change", password=old, code=code, address=address)


def new_totp_secret(office: Office) -> str:
    """A secret to show to an authenticator. It counts once ``confirm_totp`` saw a code made with it."""
    return people.new_totp_secret(office.random_bytes(20))


def confirm_totp(
    office: Office, visitor: Visitor, *, secret: str, code: str, password: str, old_code: str, address: str
) -> None:
    """Turn the second factor on: ``code`` shows that the authenticator has the secret.

    Where one is on already, ``old_code`` is of that one.
    """
    now = office.clock()
    try:
        step = people.totp_step(secret, code, after=0, now=now) if len(secret) == 32 else None
    except ValueError:  # not base32: a form that somebody altered
        step = None
    if step is None:
        raise OfficeError("code-wrong", expected=_("the six digits that the authenticator shows now"), seen=_("others"))

    def work(transaction: SqlTransaction, current: Person) -> None:
        changed = replace(current, totp_secret=secret, totp_step=step, version=current.version + 1)
        transaction.people.save_person(changed)

    _change_credential(office, visitor, work, "second-factor-on", password=password, code=old_code, address=address)


def stop_totp(office: Office, visitor: Visitor, *, password: str, code: str, address: str) -> None:
    """Turn the second factor off."""

    def work(transaction: SqlTransaction, current: Person) -> None:
        transaction.people.save_person(replace(current, totp_secret=None, version=current.version + 1))

    _change_credential(office, visitor, work, "second-factor-off", password=password, code=code, address=address)


def check_again(office: Office, visitor: Visitor, *, password: str, code: str, address: str) -> None:
    """Whether it is still the person: before somebody else gets a way in (a token, an invitation). Raises ``Error``."""
    _change_credential(office, visitor, lambda *_other: None, None, password=password, code=code, address=address)


def _change_credential(
    office: Office,
    visitor: Visitor,
    change: Callable[[SqlTransaction, Person], None],
    action: str | None,
    *,
    password: str,
    code: str,
    address: str,
) -> None:
    """Do ``change`` when the password fits and, where there is a second factor, the code, too: both at once or nothing.

    A stolen session is not enough. Its tries have a count of their own; it cannot shut its owner out.
    """
    now = office.clock()
    person = visitor.person
    keys = [f"again:{visitor.session.digest}"]
    _take_try(office, keys, now, name=person.email, address=address)
    fits = people.is_password(password, person.password)

    def work(transaction: SqlTransaction) -> str:
        current = _current(transaction, visitor)
        if not fits or current.password != person.password:
            return "password"
        if current.totp_secret is not None:
            after = _use_code(transaction, current, code, now=now)
            if after is None:
                return "code"
            current = after
        transaction.people.forget_tries(keys)
        change(transaction, current)
        if action is not None:
            kind, target, account = EventKind.CREDENTIAL_CHANGED, person.person_id, person.account
            record_security(
                office,
                transaction,
                visitor.caller,
                kind,
                action,
                target,
                account=account,
                now=now,
                address=address,
                detail=person.email,
            )
        return ""

    wrong = office.store.transact(work)
    if wrong:
        _record_failure(office, person.email, person, address, now, what=f"a {wrong} that does not fit, signed in")
    if wrong == "code":
        raise _code_wrong()
    if wrong:
        raise OfficeError("sign-in-wrong", expected=_("your present password"), seen=_("another one"))


def caller_of_token(office: Office, secret: str) -> Caller:
    """Who asks with this token. Raises ``OfficeError`` (``token-wrong``)."""
    now = office.clock()
    digest = people.digest_of(secret)

    def work(transaction: SqlTransaction) -> tuple[ApiToken | None, Person | None]:
        token = transaction.people.find_token(digest)
        if token is None or token.person_id is None:
            return token, None
        return token, transaction.people.load_person(EVERYTHING, token.person_id)

    token, person = office.store.read(work)
    is_alive = token is not None and token.is_alive(now)
    if token is not None and token.person_id is not None:  # what is derived from a person ends with the person
        is_alive = is_alive and person is not None and person.is_active and may_give(person.role, token.role)
    if token is None or not is_alive:
        seen = _("none that is known") if token is None else _("one that has expired or was revoked")
        raise OfficeError("token-wrong", expected=_("a token in the header Authorization: Bearer"), seen=seen)
    if token.last_used_at is None or now - token.last_used_at >= 3600:
        office.store.transact(lambda transaction: transaction.people.touch_token(token.token_id, now=now))
    return token.caller


def _current(transaction: SqlTransaction, visitor: Visitor) -> Person:
    current = transaction.people.load_person(visitor.caller.scope, visitor.person.person_id)
    if current is None or not current.is_active:
        raise OfficeError("signed-out", expected=_("somebody who may sign in"), seen=_("somebody who may not any more"))
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


def _keys_of_stranger(origin: Origin, email: str) -> list[str]:
    name = people.digest_of(email)
    return [f"pair:{people.digest_of(origin.address + ' ' + email)}", f"address:{origin.address}", f"name:{name}"]


def _known_key(origin: Origin, email: str) -> str:
    return f"known:{people.digest_of(origin.known + ' ' + email)}"


def _is_known(office: Office, origin: Origin, email: str) -> bool:
    key = _known_key(origin, email)
    return bool(origin.known) and bool(office.store.read(lambda transaction: transaction.people.load_tries([key])))


def _keys(office: Office, origin: Origin, email: str) -> list[str]:
    """What a try is counted under: a browser that this person was signed in with has a count of its own."""
    if _is_known(office, origin, email):
        return [f"browser:{people.digest_of(origin.known + ' ' + email)}"]
    return _keys_of_stranger(origin, email)


def _take_try(office: Office, keys: list[str], now: int, *, name: str, address: str) -> list[str]:
    """Count a try before it is looked at. Raises ``PauseError`` when it comes too early; that one is not counted."""

    def work(transaction: SqlTransaction) -> int:
        tries = {known.key: known for known in transaction.people.load_tries(keys)}
        wait = max((known.wait_seconds(now) for known in tries.values()), default=0)
        if wait:
            return wait
        transaction.people.forget_old_tries(now=now, forget_seconds=FORGET_SECONDS, known_seconds=people.KNOWN_SECONDS)
        for key in sorted(keys):
            transaction.people.count_try(key, now=now)
        if any(known.count + 1 == known.free for known in tries.values()):  # told once, not at every try
            known_person = transaction.people.find_person(email=name)
            account = known_person.account if known_person else None
            kind, caller = EventKind.SIGN_IN_PAUSED, stranger(_shown(name))
            record_security(
                office, transaction, caller, kind, "sign-in-pause", "sign-in", account=account, now=now, address=address
            )
        return 0

    wait = office.store.transact(work)
    if wait:
        raise PauseError(wait)
    return keys


def _welcome(transaction: SqlTransaction, person: Person, known: str, keys: Sequence[str], *, now: int) -> None:
    """The right one came: the counts that it was under begin anew, and the browser is known from now on.

    But for that of the address: who has one name there does not get free tries for others.
    """
    transaction.people.forget_tries([key for key in keys if not key.startswith("address:")])
    transaction.people.count_try(_known_key(Origin(address="", known=known), person.email), now=now)


def _record_failure(office: Office, name: str, person: Person | None, address: str, now: int, *, what: str) -> None:
    """A try that failed, with the name that was given; of the person's account, where there is one."""
    account = person.account if person else None
    target = person.person_id if person else "nobody"

    def work(transaction: SqlTransaction) -> None:
        kind, caller = EventKind.SIGN_IN_FAILED, stranger(_shown(name))
        record_security(
            office,
            transaction,
            caller,
            kind,
            "sign-in-fail",
            target,
            account=account,
            now=now,
            address=address,
            detail=what,
        )

    office.store.transact(work)


def _shown(name: str) -> str:
    """A name that anybody may have typed, for the audit trail."""
    return "".join(symbol if symbol.isprintable() else "\N{REPLACEMENT CHARACTER}" for symbol in name[:100]) or "nobody"


class PauseError(OfficeError):
    """Too many tries: wait ``wait_seconds``."""

    def __init__(self, wait_seconds: int) -> None:
        super().__init__(
            "sign-in-paused",
            expected=_("a pause after failed tries"),
            seen=_("a try {wait_seconds} seconds too early", wait_seconds=wait_seconds),
        )
        self.wait_seconds = wait_seconds
