"""People, sessions, tokens and what was answered to repeats, in the caller's transaction.

What belongs to an account is found within a ``Scope``; what a person brings along as a secret (a session, a token, an
invitation) is found by its digest alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, func, insert, or_, select, update

from tallystick.activation.core.people import ApiToken, Person, Session, Tries
from tallystick.activation.core.permissions import Role, Scope
from tallystick.activation.storage.dialects import Dialect
from tallystick.activation.storage.rows import Row, Values
from tallystick.activation.storage.tables import (
    ACCOUNTS,
    PEOPLE,
    REPEATS,
    SESSIONS,
    SETUP_CODES,
    TOKENS,
    TRIES,
)
from tallystick.domain.text import folded

REPEAT_SECONDS: Final = 86_400
NAMESAKES_MAX: Final = 20  # so many passwords are compared at a sign-in, at most


class PeopleTables:
    """One transaction's view of the tables about people."""

    def __init__(self, connection: Connection, dialect: Dialect, *, locks: bool) -> None:
        self._connection = connection
        self._dialect = dialect
        self._locks = locks

    # Accounts

    def save_account(self, account: str, *, now: int) -> bool:
        """A new account. False where there was one already."""
        statement = self._dialect.insert(ACCOUNTS).values(account=account, created_at=now, folded=folded(account))
        made = statement.on_conflict_do_nothing().returning(ACCOUNTS.c.account)
        return self._connection.execute(made).first() is not None

    def find_look_alike(self, account: str) -> str | None:
        """An account of another name that a reader takes for the same. Others that ask for its like wait."""
        self._dialect.lock_names(self._connection, [f"account:{folded(account)}"])
        same = (ACCOUNTS.c.folded == folded(account)) & (ACCOUNTS.c.account != account)
        return self._connection.execute(select(ACCOUNTS.c.account).where(same).limit(1)).scalar()

    # People

    def find_person(self, *, email: str) -> Person | None:
        """The first person with an address: see ``find_namesakes``."""
        return next(iter(self.find_namesakes(email=email)), None)

    def find_namesakes(self, *, email: str) -> list[Person]:
        """Everybody who signs in with an address, the vendor's first: each account may have one."""
        statement = select(PEOPLE).where(PEOPLE.c.email == email)
        order = (PEOPLE.c.account.is_not(None), PEOPLE.c.created_at, PEOPLE.c.person_id)
        return [_person_of(row) for row in self._connection.execute(statement.order_by(*order).limit(NAMESAKES_MAX))]

    def lock_email(self, email: str) -> None:
        """Keep others that add or change somebody with this address waiting."""
        self._dialect.lock_names(self._connection, [f"email:{email}"])

    def load_person(self, scope: Scope, person_id: str) -> Person | None:
        """A person of the scope."""
        statement = select(PEOPLE).where(PEOPLE.c.person_id == person_id)
        if scope.account is not None:
            statement = statement.where(PEOPLE.c.account == scope.account)
        return self._person(statement)

    def load_invited(self, digest: str, *, now: int) -> Person | None:
        """Whose invitation this is, while it counts."""
        column = PEOPLE.c
        return self._person(
            select(PEOPLE).where(column.invitation == digest, column.invited_until > now, column.is_active.is_(True))
        )

    def find_people(self, scope: Scope, *, after: str = "", limit: int = 100) -> list[Person]:
        """People of the scope in the order of their ids."""
        statement = select(PEOPLE).where(PEOPLE.c.person_id > after)
        if scope.account is not None:
            statement = statement.where(PEOPLE.c.account == scope.account)
        return [
            _person_of(row) for row in self._connection.execute(statement.order_by(PEOPLE.c.person_id).limit(limit))
        ]

    def end_invitations_of(self, person_id: str) -> list[Person]:
        """Invitations that a person made and nobody used count no more. Returns whose they were."""
        column = PEOPLE.c
        is_theirs = (column.invited_by == person_id) & column.invitation.is_not(None)
        found = [_person_of(row) for row in self._connection.execute(select(PEOPLE).where(is_theirs))]
        self._connection.execute(update(PEOPLE).where(is_theirs).values(invitation=None, invited_until=None))
        return found

    def count_vendor_administrators(self) -> int:
        """How many active ones there are: the last one stays."""
        # Two who take each other's rights at the same time wait for each other.
        if self._locks:
            self._dialect.lock_names(self._connection, ["vendor-administrators"])
        column = PEOPLE.c
        statement = select(func.count()).where(
            column.role == Role.VENDOR_ADMINISTRATOR.value, column.is_active.is_(True), column.password.is_not(None)
        )
        return int(self._connection.execute(statement).scalar_one())

    def save_person(self, person: Person) -> None:
        """A person, new or changed."""
        values = _person_values(person)
        statement = self._dialect.insert(PEOPLE).values(values)
        changed = {name: statement.excluded[name] for name in values if name not in {"person_id", "created_at"}}
        self._connection.execute(statement.on_conflict_do_update(index_elements=[PEOPLE.c.person_id], set_=changed))

    def _person(self, statement: object) -> Person | None:
        if self._locks:
            statement = statement.with_for_update()  # type: ignore[attr-defined]  # a select
        row = self._connection.execute(statement).first()  # type: ignore[call-overload]  # a select
        return None if row is None else _person_of(row)

    # Set-up

    def is_set_up(self) -> bool:
        """Whether somebody could ever sign in."""
        statement = select(PEOPLE.c.person_id).where(PEOPLE.c.password.is_not(None)).limit(1)
        return self._connection.execute(statement).first() is not None

    def save_setup_code(self, digest: str, *, now: int) -> None:
        """The one set-up code; earlier ones count no more."""
        self._connection.execute(delete(SETUP_CODES))
        self._connection.execute(insert(SETUP_CODES).values(digest=digest, created_at=now))

    def take_setup_code(self, digest: str) -> bool:
        """Use up the set-up code. False where it is another one."""
        found = self._connection.execute(delete(SETUP_CODES).where(SETUP_CODES.c.digest == digest))
        return bool(found.rowcount)

    # Sessions

    def load_session(self, digest: str) -> tuple[Session, Person] | None:
        """A session and whose it is."""
        row = self._connection.execute(select(SESSIONS).where(SESSIONS.c.digest == digest)).first()
        if row is None:
            return None
        session = Session(**{name: row._mapping[name] for name in SESSIONS.c.keys()})  # noqa: SLF001, SIM118 - SQLAlchemy's public names
        person = self._person(select(PEOPLE).where(PEOPLE.c.person_id == session.person_id))
        return None if person is None else (session, person)

    def save_session(self, session: Session) -> None:
        """A new session. Dead ones are cleared away beside it."""
        values = {name: getattr(session, name) for name in SESSIONS.c.keys()}  # noqa: SIM118 - a collection of columns
        self._connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at < session.created_at))
        self._connection.execute(insert(SESSIONS).values(values))

    def touch_session(self, digest: str, *, now: int) -> None:
        """The session was used."""
        self._connection.execute(update(SESSIONS).where(SESSIONS.c.digest == digest).values(seen_at=now))

    def end_session(self, digest: str) -> None:
        """Sign one browser out."""
        self._connection.execute(delete(SESSIONS).where(SESSIONS.c.digest == digest))

    def end_sessions(self, person_id: str) -> None:
        """Sign a person out everywhere."""
        self._connection.execute(delete(SESSIONS).where(SESSIONS.c.person_id == person_id))

    # Tokens

    def find_token(self, digest: str) -> ApiToken | None:
        """The token that this is the digest of."""
        row = self._connection.execute(select(TOKENS).where(TOKENS.c.digest == digest)).first()
        return None if row is None else _token_of(row)

    def load_token(self, scope: Scope, token_id: str) -> ApiToken | None:
        """A token of the scope."""
        statement = select(TOKENS).where(TOKENS.c.token_id == token_id)
        if scope.account is not None:
            statement = statement.where(TOKENS.c.account == scope.account)
        row = self._connection.execute(statement.with_for_update() if self._locks else statement).first()
        return None if row is None else _token_of(row)

    def find_tokens(self, scope: Scope, *, after: str = "", limit: int = 100) -> list[ApiToken]:
        """Tokens of the scope in the order of their ids."""
        statement = select(TOKENS).where(TOKENS.c.token_id > after)
        if scope.account is not None:
            statement = statement.where(TOKENS.c.account == scope.account)
        return [_token_of(row) for row in self._connection.execute(statement.order_by(TOKENS.c.token_id).limit(limit))]

    def tokens_of(self, person_id: str) -> list[ApiToken]:
        """Tokens that a person made, and that were not revoked."""
        statement = select(TOKENS).where(TOKENS.c.person_id == person_id, TOKENS.c.revoked_at.is_(None))
        return [_token_of(row) for row in self._connection.execute(statement.order_by(TOKENS.c.token_id))]

    def save_token(self, token: ApiToken) -> None:
        """A new token."""
        values = {name: getattr(token, name) for name in TOKENS.c.keys()}  # noqa: SIM118 - a collection of columns
        values |= {"role": token.role.value, "devices": msgspec.json.encode(sorted(token.devices)).decode()}
        self._connection.execute(insert(TOKENS).values(values))

    def revoke_token(self, token_id: str, *, now: int) -> None:
        """It counts no more."""
        self._connection.execute(
            update(TOKENS).where(TOKENS.c.token_id == token_id, TOKENS.c.revoked_at.is_(None)).values(revoked_at=now)
        )

    def touch_token(self, token_id: str, *, now: int) -> None:
        """It was used. Kept to the hour, so that a busy program does not write at every request."""
        column = TOKENS.c
        old = or_(column.last_used_at.is_(None), column.last_used_at < now - 3600)
        self._connection.execute(update(TOKENS).where(column.token_id == token_id, old).values(last_used_at=now))

    # Tries

    def load_tries(self, keys: Sequence[str]) -> list[Tries]:
        """Tries under these keys. Who counts them next waits until this transaction ends."""
        if self._locks:
            self._dialect.lock_names(self._connection, [f"tries:{key}" for key in keys])
        found = self._connection.execute(select(TRIES).where(TRIES.c.key.in_(keys)))
        return [Tries(key=row.key, count=row.failures, last_at=row.last_at) for row in found]

    def forget_old_tries(self, *, now: int, forget_seconds: int, known_seconds: int) -> None:
        """Forget tries of yesterday, and browsers that were not used for long."""
        column = TRIES.c
        is_known = column.key.like("known:%")
        old = (~is_known & (column.last_at < now - forget_seconds)) | (column.last_at < now - known_seconds)
        self._connection.execute(delete(TRIES).where(old))

    def count_try(self, key: str, *, now: int) -> None:
        """One more try."""
        statement = self._dialect.insert(TRIES).values(key=key, failures=1, last_at=now)
        self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=[TRIES.c.key], set_={"failures": TRIES.c.failures + 1, "last_at": now}
            )
        )

    def forget_tries(self, keys: Sequence[str]) -> None:
        """The right one came."""
        self._connection.execute(delete(TRIES).where(TRIES.c.key.in_(keys)))

    # Repeats

    def load_repeat(self, subject: str, key: str, *, now: int) -> tuple[str, str] | None:
        """The fingerprint and the answer of the request that used the key, within a day."""
        self._dialect.lock_names(self._connection, [f"repeat:{subject}:{key}"])
        column = REPEATS.c
        statement = select(REPEATS).where(
            column.subject == subject, column.key == key, column.at >= now - REPEAT_SECONDS
        )
        row = self._connection.execute(statement).first()
        return None if row is None else (row.fingerprint, row.answer)

    def save_repeat(self, subject: str, key: str, *, fingerprint: str, answer: str, now: int) -> None:
        """What was answered. Those of yesterday are cleared away beside it."""
        self._connection.execute(
            delete(REPEATS).where(REPEATS.c.subject == subject, REPEATS.c.at < now - REPEAT_SECONDS)
        )
        values = {"subject": subject, "key": key, "fingerprint": fingerprint, "answer": answer, "at": now}
        self._connection.execute(insert(REPEATS).values(values))


def _person_of(row: Row) -> Person:
    return Person(**{**dict(row._mapping), "role": Role(row.role)})  # noqa: SLF001 - SQLAlchemy's public name


def _person_values(person: Person) -> Values:
    values = {name: getattr(person, name) for name in PEOPLE.c.keys()}  # noqa: SIM118 - a collection of columns
    return {**values, "role": person.role.value}


def _token_of(row: Row) -> ApiToken:
    devices = tuple(msgspec.json.decode(row.devices))
    return ApiToken(**{**dict(row._mapping), "role": Role(row.role), "devices": devices})  # noqa: SLF001 - SQLAlchemy's public name
