"""Who may do what: one table. Pure; nothing here asks a database or knows a page.

A role belongs to the vendor, who sees every account, or to a customer, who sees one. What a caller sees is its
``Scope``; every list and every look-up takes one, so that what is outside does not exist for the caller.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.sentences import _


class NotAllowedError(Error):
    """The caller may not do this (``not-allowed``)."""


class Role(StrEnum):
    """What a person, or a token, is."""

    VENDOR_ADMINISTRATOR = "vendor-administrator"
    VENDOR_SUPPORT = "vendor-support"
    CUSTOMER_ADMINISTRATOR = "customer-administrator"
    CUSTOMER_TECHNICIAN = "customer-technician"
    COURIER = "courier"


class Permission(StrEnum):
    """What can be allowed."""

    READ = "read"  # entitlements, lines, field servers, incidents, the ledger
    READ_RETURNS = "read-returns"  # open returns
    READ_TRAIL = "read-trail"  # who did what
    DELIVER = "deliver"  # messages up, replies down
    START_RETURN = "start-return"  # a return or a change from here
    DECLARE_LOST = "declare-lost"
    OVERRIDE_LOST = "override-lost"  # beyond the yearly limit
    HOLD = "hold"  # hold, release, retire
    SELL = "sell"  # entitlements and lines: create and change
    CATALOG = "catalog"  # change the catalog
    ACCOUNTS = "accounts"  # create accounts
    PEOPLE = "people"  # people and tokens
    REVEAL = "reveal"  # see what opens something (activation IDs, entitlement IDs, certificates), and replace it
    WEBHOOKS = "webhooks"  # who is told what happens here


VENDOR_ROLES: Final = frozenset({Role.VENDOR_ADMINISTRATOR, Role.VENDOR_SUPPORT})
PERSON_ROLES: Final = tuple(role for role in Role if role is not Role.COURIER)

ALLOWED: Final[dict[Role, frozenset[Permission]]] = {
    Role.VENDOR_ADMINISTRATOR: frozenset(Permission),
    Role.VENDOR_SUPPORT: frozenset(
        {
            Permission.READ,
            Permission.READ_RETURNS,
            Permission.READ_TRAIL,
            Permission.DELIVER,
            Permission.START_RETURN,
            Permission.DECLARE_LOST,
            Permission.HOLD,
        }
    ),
    Role.CUSTOMER_ADMINISTRATOR: frozenset(
        {
            Permission.READ,
            Permission.READ_RETURNS,
            Permission.READ_TRAIL,
            Permission.DELIVER,
            Permission.START_RETURN,
            Permission.DECLARE_LOST,
            Permission.PEOPLE,
            Permission.WEBHOOKS,
            Permission.REVEAL,
        }
    ),
    Role.CUSTOMER_TECHNICIAN: frozenset({Permission.DELIVER, Permission.READ_RETURNS}),
    Role.COURIER: frozenset({Permission.DELIVER}),
}
_READING: Final = frozenset({Permission.READ, Permission.READ_RETURNS, Permission.READ_TRAIL})

# Which roles a role may give to people and tokens.
GIVES: Final[dict[Role, frozenset[Role]]] = {
    Role.VENDOR_ADMINISTRATOR: frozenset(Role),
    Role.CUSTOMER_ADMINISTRATOR: frozenset({Role.CUSTOMER_ADMINISTRATOR, Role.CUSTOMER_TECHNICIAN, Role.COURIER}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What exists for a caller: everything (``account`` None), or one account's."""

    account: str | None

    def covers(self, account: str | None) -> bool:
        """Whether something of ``account`` exists for the caller. What has no account exists for the vendor only."""
        return self.account is None or (account is not None and account == self.account)


EVERYTHING: Final = Scope(account=None)
COMMAND_LINE: Final = "command line"
NOT_SIGNED_IN: Final = "not signed in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. ``name`` is what the audit trail and the ledger say; ``devices`` bounds a courier."""

    name: str
    role: Role
    scope: Scope
    subject: str  # id of the person or token
    person_id: str | None = None  # whose rights these are: what the person makes ends with the person
    is_read_only: bool = False
    devices: frozenset[DeviceId] | None = None
    address: str | None = None  # where it comes from, for security events
    permissions: frozenset[Permission] = field(init=False)

    def __post_init__(self) -> None:
        allowed = ALLOWED[self.role]
        object.__setattr__(self, "permissions", allowed & _READING if self.is_read_only else allowed)

    @property
    def title(self) -> str:
        """What the audit trail says the caller is: the role, or that it was a local command."""
        return self.subject if self.subject in {COMMAND_LINE, NOT_SIGNED_IN} else self.role.value

    def may(self, permission: Permission) -> bool:
        """Whether the table allows it."""
        return permission in self.permissions

    def check(self, permission: Permission) -> None:
        """Raises ``NotAllowedError`` unless the table allows it."""
        if permission not in self.permissions:
            seen = f"{self.role.value}{', read only' if self.is_read_only else ''}"
            raise NotAllowedError(
                "not-allowed", expected=_("somebody who may {permission}", permission=permission.value), seen=seen
            )


def operator(name: str) -> Caller:
    """Who runs a command on the activation server's own data, which is everything already."""
    return Caller(name=name, role=Role.VENDOR_ADMINISTRATOR, scope=EVERYTHING, subject=COMMAND_LINE)


def stranger(name: str) -> Caller:
    """Who tries to become somebody. May nothing; the audit trail says what name was given."""
    nothing: frozenset[DeviceId] = frozenset()
    return Caller(name=name, role=Role.COURIER, scope=Scope(account=""), subject=NOT_SIGNED_IN, devices=nothing)


def may_give(role: Role, given: Role) -> bool:
    """Whether somebody of ``role`` may give ``given``; a token counts only as long as its maker may."""
    return given in GIVES.get(role, frozenset())


def check_gives(caller: Caller, role: Role, account: str | None) -> None:
    """Raises ``NotAllowedError`` unless ``caller`` may give ``role`` in ``account`` to somebody."""
    caller.check(Permission.PEOPLE)
    if role not in GIVES.get(caller.role, frozenset()) or not caller.scope.covers(account):
        raise NotAllowedError("not-allowed", expected=_("a role that your own role may give"), seen=role.value)
    if (role in VENDOR_ROLES) != (account is None):
        raise NotAllowedError(
            "role-wrong",
            expected=_("an account for a customer's role or a courier, and none for a vendor's"),
            seen=f"{role.value} {'without an account' if account is None else 'with an account'}",
        )
