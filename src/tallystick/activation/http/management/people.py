"""Accounts, people, tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import Field

from tallystick.activation.core.people import COURIER_DEVICES_MAX, TOKEN_DAYS_MAX
from tallystick.activation.core.permissions import Role
from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    AccountAfter,
    CallerDependency,
    IdempotencyKey,
    IfMatch,
    Limit,
    OfficeDependency,
    PersonAfter,
    TokenAfter,
    once_for,
    page,
    tag,
    version_from,
)
from tallystick.activation.services import people
from tallystick.activation.services.people import PersonChange
from tallystick.activation.services.schemas import (
    ACCOUNT_PATTERN,
    WHOLE,
    AccountDocument,
    AccountName,
    ChangedDocument,
    DeviceText,
    Document,
    InvitedPerson,
    NewToken,
    Page,
    PersonDocument,
    Text,
    TokenDocument,
)

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES)
PersonId = Annotated[str, Path(pattern="^PE-[A-Z2-7]{16}$")]
TokenId = Annotated[str, Path(pattern="^TK-[A-Z2-7]{16}$")]


class NewAccount(Document):
    """A new account."""

    account: AccountName


class NewPerson(Document):
    """A new person. A customer's role needs an account, a vendor's has none."""

    email: Annotated[str, Field(pattern="^[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,180}$")]
    name: Text
    role: Role
    account: AccountName | None = None


class ChangedPerson(ChangedDocument):
    """What is changed; what is left out stays."""

    name: Text = ""
    role: Role = Role.COURIER
    is_active: bool = Field(default=True, strict=True)


class AskedToken(Document):
    """A new token. ``devices`` for a courier only."""

    name: Text
    role: Role
    account: AccountName | None = None
    days: Annotated[int, Field(ge=1, le=TOKEN_DAYS_MAX), WHOLE]
    is_read_only: bool = Field(default=False, strict=True)
    devices: Annotated[tuple[DeviceText, ...], Field(max_length=COURIER_DEVICES_MAX)] = ()


@router.get("/accounts", tags=["accounts"], summary="Accounts by name")
def find_accounts(
    office: OfficeDependency, caller: CallerDependency, after: AccountAfter | None = None, limit: Limit = 100
) -> Page[AccountDocument]:
    found = people.find_accounts(office, caller, after=after or "", limit=limit + 1)
    return Page[AccountDocument].model_validate(page(found, limit, lambda item: item.account))


@router.post("/accounts", tags=["accounts"], summary="Create an account", status_code=201)
def create_account(
    office: OfficeDependency, caller: CallerDependency, body: NewAccount, key: IdempotencyKey = None
) -> AccountDocument:
    return people.create_account(office, caller, body.account, once=once_for(key, "account", body))


@router.get("/accounts/{account:path}", tags=["accounts"], summary="One account")
def load_account(
    office: OfficeDependency,
    caller: CallerDependency,
    account: Annotated[str, Path(pattern=ACCOUNT_PATTERN, max_length=128)],
) -> AccountDocument:
    return people.load_account(office, caller, account)


@router.get("/people", tags=["people"], summary="People")
def find_people(
    office: OfficeDependency, caller: CallerDependency, after: PersonAfter | None = None, limit: Limit = 100
) -> Page[PersonDocument]:
    found = people.find_people(office, caller, after=after or "", limit=limit + 1)
    return Page[PersonDocument].model_validate(page(found, limit, lambda item: item.person_id))


@router.post("/people", tags=["people"], summary="Invite a person", status_code=201)
def invite_person(
    office: OfficeDependency, caller: CallerDependency, body: NewPerson, key: IdempotencyKey = None
) -> InvitedPerson:
    return people.invite_person(
        office,
        caller,
        email=body.email,
        name=body.name,
        role=body.role,
        account=body.account,
        once=once_for(key, "person", body),
    )


@router.get("/people/{person_id}", tags=["people"], summary="One person")
def load_person(
    office: OfficeDependency, caller: CallerDependency, response: Response, person_id: PersonId
) -> PersonDocument:
    found = people.load_person(office, caller, person_id)
    tag(response, found.version)
    return found


@router.patch("/people/{person_id}", tags=["people"], summary="Change a person's name, role or right to sign in")
def change_person(
    office: OfficeDependency,
    caller: CallerDependency,
    response: Response,
    person_id: PersonId,
    body: ChangedPerson,
    if_match: IfMatch = None,
) -> PersonDocument:
    change = PersonChange(**body.named())
    changed = people.change_person(office, caller, person_id, change, version=version_from(if_match))
    tag(response, changed.version)
    return changed


@router.post("/people/{person_id}/invitation", tags=["people"], summary="Invite a person again", status_code=201)
def invite_again(
    office: OfficeDependency, caller: CallerDependency, person_id: PersonId, key: IdempotencyKey = None
) -> InvitedPerson:
    return people.invite_again(office, caller, person_id, once=once_for(key, "invitation", person_id))


@router.get("/tokens", tags=["tokens"], summary="Tokens, without their keys")
def find_tokens(
    office: OfficeDependency, caller: CallerDependency, after: TokenAfter | None = None, limit: Limit = 100
) -> Page[TokenDocument]:
    found = people.find_tokens(office, caller, after=after or "", limit=limit + 1)
    return Page[TokenDocument].model_validate(page(found, limit, lambda item: item.token_id))


@router.post("/tokens", tags=["tokens"], summary="Create a token; its key is shown once", status_code=201)
def create_token(
    office: OfficeDependency, caller: CallerDependency, body: AskedToken, key: IdempotencyKey = None
) -> NewToken:
    return people.create_token(
        office,
        caller,
        name=body.name,
        role=body.role,
        account=body.account,
        days=body.days,
        is_read_only=body.is_read_only,
        devices=body.devices,
        once=once_for(key, "token", body),
    )


@router.get("/tokens/{token_id}", tags=["tokens"], summary="One token, without its key")
def load_token(office: OfficeDependency, caller: CallerDependency, token_id: TokenId) -> TokenDocument:
    return people.load_token(office, caller, token_id)


@router.delete("/tokens/{token_id}", tags=["tokens"], summary="Revoke a token")
def revoke_token(office: OfficeDependency, caller: CallerDependency, token_id: TokenId) -> TokenDocument:
    return people.revoke_token(office, caller, token_id)
