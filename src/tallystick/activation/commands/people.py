"""Verbs about accounts, people, tokens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tallystick.activation.commands.client import ApiClient, Key, segment, verb
from tallystick.errors import Error
from tallystick.sentences import _

account_app = typer.Typer(no_args_is_help=True, help="Who buys: create, list, show.")
person_app = typer.Typer(no_args_is_help=True, help="Who signs in: invite, list, show, change, invite again.")
token_app = typer.Typer(no_args_is_help=True, help="Keys for programs: create, list, show, revoke.")

AccountText = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The name of an account.")]
PersonText = Annotated[str, typer.Argument(metavar="PERSON", help="The id, PE-..., or the e-mail address.")]
TokenText = Annotated[str, typer.Argument(metavar="TOKEN", help="The id of a token, TK-...; not its key.")]
RoleText = Annotated[
    str,
    typer.Option("--role", metavar="ROLE", help="vendor-administrator, vendor-support, customer-administrator, ..."),
]
OfAccount = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="For a customer's role: of which account.")
]

_PERSON = [
    (_("Person"), "person_id"),
    (_("E-mail"), "email"),
    (_("Name"), "name"),
    (_("Role"), "role"),
    (_("Account"), "account"),
]
_TOKEN = [
    (_("Token"), "token_id"),
    (_("Name"), "name"),
    (_("Role"), "role"),
    (_("Account"), "account"),
    (_("Until"), "expires_at"),
]


@account_app.command("create", epilog="Example: tallystick activation account create Harbour --data DIR")
@verb
def create_account(client: ApiClient, account: AccountText, key: Key = None) -> None:
    """Make an account."""
    made = client.request("POST", "/v1/accounts", {"account": _text(account, _("an account name"))}, key=key)
    client.show_result(made, _("Account {account}.", account=made["account"]))


@account_app.command("list", epilog="Example: tallystick activation account list --data DIR")
@verb
def list_accounts(client: ApiClient) -> None:
    """Every account."""
    columns = [(_("Account"), "account"), (_("Since"), "created_at")]
    client.show(client.all("/v1/accounts"), columns, empty=_("No accounts yet."))


@account_app.command("show", epilog="Example: tallystick activation account show Harbour --data DIR")
@verb
def show_account(client: ApiClient, account: AccountText) -> None:
    """One account."""
    client.show_one(client.request("GET", f"/v1/accounts/{segment(account)}"))


@person_app.command(
    "invite",
    epilog="Example: tallystick activation person invite ada@example.com --name Ada --role vendor-support --data DIR",
)
@verb
def invite_person(
    client: ApiClient,
    email: Annotated[str, typer.Argument(metavar="E-MAIL", help="With what the person signs in.")],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="How the person is called.")],
    role: RoleText,
    account: OfAccount = None,
    key: Key = None,
) -> None:
    """Invite a person, who chooses a password with the invitation. It is shown once."""
    body = {"email": email, "name": _text(name, _("a name")), "role": _role(role), "account": account}
    _show_invited(client, client.request("POST", "/v1/people", body, key=key))


@person_app.command("invite-again", epilog="Example: tallystick activation person invite-again PE-... --data DIR")
@verb
def invite_again(client: ApiClient, person: PersonText, key: Key = None) -> None:
    """A new invitation, for who lost the first one, the password or the authenticator."""
    path = f"/v1/people/{_person_id(client, person)}/invitation"
    _show_invited(client, client.request("POST", path, key=key))


@person_app.command("list", epilog="Example: tallystick activation person list --data DIR")
@verb
def list_people(client: ApiClient) -> None:
    """Everybody who may sign in."""
    columns = [
        *_PERSON,
        (_("Active"), "is_active"),
        (_("Invited"), "is_invited"),
        (_("Second factor"), "has_second_factor"),
    ]
    client.show(client.all("/v1/people"), columns, empty=_("Nobody yet. Next: tallystick activation person invite."))


@person_app.command("show", epilog="Example: tallystick activation person show ada@example.com --data DIR")
@verb
def show_person(client: ApiClient, person: PersonText) -> None:
    """One person."""
    client.show_one(client.request("GET", f"/v1/people/{_person_id(client, person)}"))


@person_app.command(
    "change", epilog="Example: tallystick activation person change ada@example.com --deactivate --data DIR"
)
@verb
def change_person(
    client: ApiClient,
    person: PersonText,
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another name.")] = None,
    role: Annotated[str | None, typer.Option("--role", metavar="ROLE", help="Another role.")] = None,
    active: Annotated[
        bool | None, typer.Option("--activate/--deactivate", help="Whether the person may sign in.")
    ] = None,
) -> None:
    """Another name or role, or no more signing in."""
    body: dict[str, object] = {} if name is None else {"name": _text(name, _("a name"))}
    if role is not None:
        body["role"] = _role(role)
    if active is not None:
        body["is_active"] = active
    if not body:
        raise Error("usage", expected=_("at least one of --name, --role, --activate, --deactivate"), seen=_("none"))
    after = client.change("PATCH", f"/v1/people/{_person_id(client, person)}", body)
    state = _("active") if after["is_active"] else _("not active")
    client.show_result(
        after,
        _(
            "{name} ({email}) is {role}, {state}.",
            name=after["name"],
            email=after["email"],
            role=after["role"],
            state=state,
        ),
    )


@token_app.command(
    "create",
    epilog="Example: tallystick activation token create billing --role vendor-support --days 90 --data DIR",
)
@verb
def create_token(
    client: ApiClient,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    role: RoleText,
    days: Annotated[int, typer.Option("--days", metavar="N", min=1, max=366, help="How long it is good.")],
    *,
    account: OfAccount = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may change nothing.")] = False,
    device: Annotated[
        list[str] | None,
        typer.Option("--field-server", metavar="DEVICE", help="A courier's: for which field servers; repeatable."),
    ] = None,
    key: Key = None,
) -> None:
    """Make a token. Its key is shown once."""
    body = {
        "name": _text(name, _("a name")),
        "role": _role(role),
        "account": account,
        "days": days,
        "is_read_only": read_only,
        "devices": [client.device(text) for text in device or ()],
    }
    made = client.request("POST", "/v1/tokens", body, key=key)
    shown = made["token"] or _("was shown when it was made")
    client.show_result(
        made,
        _("Token {token_id} of {name}.", token_id=made["token_id"], name=made["name"]),
        _("Its key, shown only now: {shown}", shown=shown),
    )


@token_app.command("list", epilog="Example: tallystick activation token list --data DIR")
@verb
def list_tokens(client: ApiClient) -> None:
    """Every token, without its key."""
    columns = [*_TOKEN, (_("Used"), "last_used_at"), (_("Revoked"), "revoked_at")]
    client.show(client.all("/v1/tokens"), columns, empty=_("No tokens."))


@token_app.command("show", epilog="Example: tallystick activation token show TK-... --data DIR")
@verb
def show_token(client: ApiClient, token: TokenText) -> None:
    """One token, without its key."""
    client.show_one(client.request("GET", f"/v1/tokens/{_token_id(token)}"))


@token_app.command("revoke", epilog="Example: tallystick activation token revoke TK-... --data DIR")
@verb
def revoke_token(client: ApiClient, token: TokenText) -> None:
    """End a token. Done again, nothing changes."""
    after = client.request("DELETE", f"/v1/tokens/{_token_id(token)}")
    client.show_result(after, _("{token_id} ({name}) is revoked.", token_id=after["token_id"], name=after["name"]))


def _show_invited(client: ApiClient, made: dict[str, Any]) -> None:
    shown = made["invitation"] or _("was shown when it was made")
    client.show_result(
        made,
        _(
            "{name} ({person_id}) is invited as {role}.",
            name=made["name"],
            person_id=made["person_id"],
            role=made["role"],
        ),
        _("The invitation, shown only now: {shown}", shown=shown),
        _("Next: hand over the address of the portal with /invitation/ and the invitation behind it."),
    )


def _person_id(client: ApiClient, text: str) -> str:
    """By id or e-mail address."""
    if "@" in text:
        for person in client.all("/v1/people"):
            if person["email"].lower() == text.strip().lower():
                return str(person["person_id"])
    return _id(text, "PE-", _("a person who is known there"))


def _token_id(text: str) -> str:
    return _id(text, "TK-", _("a token that is known there"))


def _id(text: str, prefix: str, what: str) -> str:
    if not text.startswith(prefix) or not text[3:].isalnum() or not text.isascii() or len(text) != len(prefix) + 16:
        raise Error("not-found", expected=what, seen=repr(text[:60]))
    return text


def _text(text: str, what: str) -> str:
    from tallystick.activation.core.entitlements import check_text

    return check_text(text, what)


def _role(text: str) -> str:
    from tallystick.activation.core.permissions import Role

    if text not in set(Role):
        raise Error("usage", expected=_("one of {role}", role=", ".join(Role)), seen=repr(text[:40]))
    return text
