"""Accounts, people, tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tallystick.activation.core import people
from tallystick.activation.core.people import ApiToken, Person
from tallystick.activation.core.permissions import (
    EVERYTHING,
    VENDOR_ROLES,
    Caller,
    Permission,
    Role,
    check_gives,
    may_give,
)
from tallystick.activation.core.ports import EventKind
from tallystick.activation.services import documents
from tallystick.activation.services.base import (
    IdempotentRequest,
    Office,
    OfficeError,
    check_version,
    not_found,
    record,
    record_security,
)
from tallystick.activation.services.schemas import (
    AccountDocument,
    InvitedPerson,
    NewToken,
    PersonDocument,
    TokenDocument,
)
from tallystick.activation.storage import SqlTransaction
from tallystick.domain.ids import DeviceId
from tallystick.domain.text import is_trick
from tallystick.sentences import _

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonChange:
    """What is changed about a person. None leaves it as it is."""

    name: str | None = None
    role: Role | None = None
    is_active: bool | None = None


def find_accounts(office: Office, caller: Caller, *, after: str, limit: int) -> list[AccountDocument]:
    """Accounts by name."""
    found = office.read(
        caller,
        Permission.READ,
        lambda transaction: transaction.within(caller.scope).accounts(after=after, limit=limit),
    )
    return [AccountDocument(account=account, created_at=created_at) for account, created_at in found]


def load_account(office: Office, caller: Caller, account: str) -> AccountDocument:
    """One account."""
    found = office.read(caller, Permission.READ, lambda transaction: transaction.within(caller.scope).account(account))
    if found is None:
        raise not_found(_("an account that exists here"), account)
    return AccountDocument(account=found[0], created_at=found[1])


def check_look_alike(transaction: SqlTransaction, account: str) -> None:
    """Before an account is made. Raises ``OfficeError``: nobody is to sell to one and mean the other.

    Where both are there from before this was looked at, each goes on under its own name.
    """
    if is_trick(account):
        raise OfficeError("name-misleading", expected=_("words of one alphabet each"), seen=ascii(account[:40]))
    other = transaction.people.find_look_alike(account)
    if other is not None and transaction.within(EVERYTHING).account(account) is None:
        raise OfficeError(
            "exists-already", expected=_("a name that no account has, also in other letters"), seen=repr(other)
        )


def create_account(office: Office, caller: Caller, account: str, *, once: IdempotentRequest | None) -> AccountDocument:
    """A new account."""

    def work(transaction: SqlTransaction, now: int) -> AccountDocument:
        check_look_alike(transaction, account)
        if not transaction.people.save_account(account, now=now):
            raise OfficeError("exists-already", expected=_("a name that no account has"), seen=account)
        record(transaction, caller, "account-create", account, account=account, now=now)
        return AccountDocument(account=account, created_at=now)

    return office.create(caller, Permission.ACCOUNTS, work, kind=AccountDocument, once=once)


# People


def find_people(office: Office, caller: Caller, *, after: str, limit: int) -> list[PersonDocument]:
    """People of the caller's scope."""
    found = office.read(
        caller,
        Permission.PEOPLE,
        lambda transaction: transaction.people.find_people(caller.scope, after=after, limit=limit),
    )
    return [documents.person_document(person) for person in found]


def load_person(office: Office, caller: Caller, person_id: str) -> PersonDocument:
    """One person."""
    return documents.person_document(
        office.read(caller, Permission.PEOPLE, lambda transaction: _person(transaction, caller, person_id))
    )


def invite_person(
    office: Office,
    caller: Caller,
    *,
    email: str,
    name: str,
    role: Role,
    account: str | None,
    once: IdempotentRequest | None,
) -> InvitedPerson:
    """A new person, who chooses a password with the invitation."""
    email = people.check_email(email)
    if role is Role.COURIER:
        raise OfficeError("role-wrong", expected=_("a role for a person; a courier gets a token"), seen=role.value)
    check_gives(caller, role, account)
    secret = people.new_secret("invitation", office.random_bytes(people.SECRET_BYTES))
    person_id = office.new_id("PE")

    def work(transaction: SqlTransaction, now: int) -> InvitedPerson:
        _check_account(transaction, caller, account)
        # Of other accounts nothing is told: the same address may be in each.
        transaction.people.lock_email(email)
        if any(known.account == account for known in transaction.people.find_namesakes(email=email)):
            raise OfficeError(
                "exists-already", expected=_("an e-mail address that nobody has in the account"), seen=email
            )
        person = Person(
            person_id=person_id,
            email=email,
            name=name,
            role=role,
            account=account,
            invitation=people.digest_of(secret),
            invited_until=now + people.INVITATION_SECONDS,
            created_at=now,
            invited_by=caller.person_id,
        )
        transaction.people.save_person(person)
        record(
            transaction, caller, "person-invite", person_id, account=account, now=now, detail=f"{email} as {role.value}"
        )
        return documents.invited_person(person, secret)

    return office.create(caller, Permission.PEOPLE, work, kind=InvitedPerson, once=once)


def invite_again(office: Office, caller: Caller, person_id: str, *, once: IdempotentRequest | None) -> InvitedPerson:
    """A new invitation: for who lost the first one, the password or the authenticator. The password counts no more."""
    secret = people.new_secret("invitation", office.random_bytes(people.SECRET_BYTES))

    def work(transaction: SqlTransaction, now: int) -> InvitedPerson:
        person = _person(transaction, caller, person_id)
        check_gives(caller, person.role, person.account)
        _check_last_administrator(transaction, person)
        changed = replace(
            person,
            password=None,
            invitation=people.digest_of(secret),
            invited_until=now + people.INVITATION_SECONDS,
            version=person.version + 1,
            invited_by=caller.person_id,
        )
        transaction.people.save_person(changed)
        transaction.people.end_sessions(person_id)
        _end_derived(office, transaction, caller, changed, now=now)
        record_security(
            office,
            transaction,
            caller,
            EventKind.CREDENTIAL_CHANGED,
            "person-invite-again",
            person_id,
            account=person.account,
            now=now,
            detail=f"{person.email}: the password counts no more",
        )
        return documents.invited_person(changed, secret)

    return office.create(caller, Permission.PEOPLE, work, kind=InvitedPerson, once=once)


def change_person(
    office: Office, caller: Caller, person_id: str, change: PersonChange, *, version: str | None
) -> PersonDocument:
    """Another name or role, or no more signing in.

    A change of role or a deactivation ends the sessions, and what else the person made and could not make now.
    """

    def work(transaction: SqlTransaction, now: int) -> PersonDocument:
        person = _person(transaction, caller, person_id)
        check_version(documents.person_version(person), version, _("the person"))
        check_gives(caller, person.role, person.account)
        role = person.role if change.role is None else change.role
        if role is Role.COURIER:
            raise OfficeError("role-wrong", expected=_("a role for a person; a courier gets a token"), seen=role.value)
        check_gives(caller, role, person.account)
        is_active = person.is_active if change.is_active is None else change.is_active
        if not is_active or role is not person.role:
            _check_last_administrator(transaction, person)
            transaction.people.end_sessions(person_id)
        changed = replace(
            person,
            name=person.name if change.name is None else change.name,
            role=role,
            is_active=is_active,
            version=person.version + 1,
            invitation=person.invitation if is_active else None,
        )
        transaction.people.save_person(changed)
        if not is_active or role is not person.role:
            _end_derived(office, transaction, caller, changed, now=now)
        detail = f"{role.value}, {'active' if is_active else 'not active'}"
        record(transaction, caller, "person-change", person_id, account=person.account, now=now, detail=detail)
        return documents.person_document(changed)

    return office.change(caller, Permission.PEOPLE, work)


def _end_derived(office: Office, transaction: SqlTransaction, caller: Caller, person: Person, *, now: int) -> None:
    """What is derived from a person ends with the person, or with the right to make it: tokens, invitations."""
    may_sign_in = person.is_active and person.password is not None
    for token in transaction.people.tokens_of(person.person_id):
        if not may_sign_in or not may_give(person.role, token.role):
            _end_token(office, transaction, caller, token, now=now, why="with the rights of " + person.email)
    if not may_sign_in or not may_give(person.role, Role.CUSTOMER_TECHNICIAN):
        for invited in transaction.people.end_invitations_of(person.person_id):
            detail = f"{invited.email}: with the rights of {person.email}"
            target, account = invited.person_id, invited.account
            record(transaction, caller, "invitation-end", target, account=account, now=now, detail=detail)


def _end_token(
    office: Office, transaction: SqlTransaction, caller: Caller, token: ApiToken, *, now: int, why: str = ""
) -> None:
    transaction.people.revoke_token(token.token_id, now=now)
    detail = f"{token.name}, {why}" if why else token.name
    kind, account = EventKind.TOKEN_ENDED, token.account
    record_security(
        office, transaction, caller, kind, "token-revoke", token.token_id, account=account, now=now, detail=detail
    )


def _check_last_administrator(transaction: SqlTransaction, person: Person) -> None:
    counts = person.role is Role.VENDOR_ADMINISTRATOR and person.is_active and person.password is not None
    if counts and transaction.people.count_vendor_administrators() <= 1:
        raise OfficeError(
            "last-administrator", expected=_("another vendor administrator who can sign in"), seen=_("the last one")
        )


def _person(transaction: SqlTransaction, caller: Caller, person_id: str) -> Person:
    person = transaction.people.load_person(caller.scope, person_id)
    if person is None:
        raise not_found(_("a person who is known here"), person_id)
    return person


def _check_account(transaction: SqlTransaction, caller: Caller, account: str | None) -> None:
    if account is not None and transaction.within(caller.scope).account(account) is None:
        raise not_found(_("an account that exists here"), account)


# Tokens


def find_tokens(office: Office, caller: Caller, *, after: str, limit: int) -> list[TokenDocument]:
    """Tokens of the caller's scope, without their keys."""
    found = office.read(
        caller,
        Permission.PEOPLE,
        lambda transaction: transaction.people.find_tokens(caller.scope, after=after, limit=limit),
    )
    return [documents.token_document(token) for token in found]


def load_token(office: Office, caller: Caller, token_id: str) -> TokenDocument:
    """One token, without its key."""
    return documents.token_document(
        office.read(caller, Permission.PEOPLE, lambda transaction: _token(transaction, caller, token_id))
    )


def create_token(
    office: Office,
    caller: Caller,
    *,
    name: str,
    role: Role,
    account: str | None,
    days: int,
    is_read_only: bool,
    devices: Sequence[str],
    once: IdempotentRequest | None,
) -> NewToken:
    """A new token. A courier's names the field servers, all of them within the caller's scope, and ends within a month."""
    check_gives(caller, role, account)
    is_courier = role is Role.COURIER
    if is_courier != bool(devices):
        seen = _("none") if is_courier else _("a {role} with some", role=role.value)
        raise OfficeError(
            "devices-wrong", expected=_("a list of field servers for a courier, and only for one"), seen=seen
        )
    if is_courier and days > people.COURIER_DAYS_MAX:
        raise OfficeError(
            "devices-wrong",
            expected=_("at most {courier_days_max} days for a courier", courier_days_max=people.COURIER_DAYS_MAX),
            seen=_("{days} days", days=days),
        )
    secret = people.new_secret("tally", office.random_bytes(people.SECRET_BYTES))
    token_id = office.new_id("TK")

    def work(transaction: SqlTransaction, now: int) -> NewToken:
        _check_account(transaction, caller, account)
        if is_courier:
            known = transaction.within(caller.scope).field_servers_by_id(devices)
            missing = [
                device for device in devices if device not in known or known[DeviceId(device)].account != account
            ]
            if missing:
                raise not_found(_("field servers of account {account}", account=account), missing[0])
        token = ApiToken(
            token_id=token_id,
            digest=people.digest_of(secret),
            name=name,
            role=role,
            account=account,
            is_read_only=is_read_only,
            devices=tuple(DeviceId(device) for device in sorted(set(devices))),
            created_by=caller.name,
            created_at=now,
            expires_at=now + days * DAY_SECONDS,
            person_id=caller.person_id,
        )
        transaction.people.save_token(token)
        detail = f"{name}: {role.value}, {days} days"
        kind = EventKind.TOKEN_CREATED
        record_security(
            office, transaction, caller, kind, "token-create", token_id, account=account, now=now, detail=detail
        )
        return documents.new_token(token, secret)

    return office.create(caller, Permission.PEOPLE, work, kind=NewToken, once=once)


def revoke_token(office: Office, caller: Caller, token_id: str) -> TokenDocument:
    """End a token. Done again, nothing changes."""

    def work(transaction: SqlTransaction, now: int) -> TokenDocument:
        token = _token(transaction, caller, token_id)
        if token.revoked_at is None:
            check_gives(caller, token.role, token.account)
            _end_token(office, transaction, caller, token, now=now)
            token = replace(token, revoked_at=now)
        return documents.token_document(token)

    return office.change(caller, Permission.PEOPLE, work)


def _token(transaction: SqlTransaction, caller: Caller, token_id: str) -> ApiToken:
    token = transaction.people.load_token(caller.scope, token_id)
    if token is None:
        raise not_found(_("a token that is known here"), token_id)
    return token


def is_vendor(caller: Caller) -> bool:
    """Whether the caller sees more than one account."""
    return caller.role in VENDOR_ROLES
