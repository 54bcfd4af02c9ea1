"""The permission table: what the documentation says, and what must never be in it."""

import re
from pathlib import Path

import pytest

from tallystick.activation.core.permissions import (
    ALLOWED,
    EVERYTHING,
    GIVES,
    VENDOR_ROLES,
    Caller,
    NotAllowedError,
    Permission,
    Role,
    Scope,
    check_gives,
)

PAGE = Path(__file__).parents[4] / "docs" / "portal" / "README.md"


def caller(role, account=None, **options):
    return Caller(name="x", role=role, scope=Scope(account=account), subject="x", **options)


def test_the_page_has_the_table_of_the_code():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text("utf-8").splitlines()]
    header = next(row for row in rows if row[0] == "permission")
    said = {
        (row[0], role.replace(" ", "-"))
        for row in rows
        if row[0] in set(Permission)
        for role, cell in zip(header[1:], row[1:], strict=True)
        if cell == "yes"
    }
    assert said == {(permission.value, role.value) for role in Role for permission in ALLOWED[role]}


def test_every_picture_of_the_page_is_there():
    for name in re.findall(r"\(([\w-]+\.png)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / name).exists(), name


def test_nobody_gives_more_than_the_own_permissions():
    for giver, roles in GIVES.items():
        for role in roles:
            assert ALLOWED[role] <= ALLOWED[giver]


def test_a_customer_never_gets_what_is_the_vendors():
    vendors = {Permission.CATALOG, Permission.SELL, Permission.ACCOUNTS, Permission.OVERRIDE_LOST, Permission.HOLD}
    for role in set(Role) - VENDOR_ROLES:
        assert not ALLOWED[role] & vendors


def test_a_courier_delivers_and_nothing_else():
    assert ALLOWED[Role.COURIER] == {Permission.DELIVER}


def test_reading_only_takes_every_other_permission():
    reader = caller(Role.VENDOR_ADMINISTRATOR, is_read_only=True)
    assert reader.permissions == {Permission.READ, Permission.READ_RETURNS, Permission.READ_TRAIL}


@pytest.mark.parametrize(
    ("account", "covers"), [(None, False), ("", False), ("Harbour", True), ("harbour", False), ("Harbour ", False)]
)
def test_a_scope_covers_its_account_and_nothing_that_looks_like_it(account, covers):
    assert Scope(account="Harbour").covers(account) is covers
    assert EVERYTHING.covers(account)


@pytest.mark.parametrize(
    ("role", "account"),
    [
        (Role.VENDOR_ADMINISTRATOR, None),
        (Role.VENDOR_SUPPORT, None),
        (Role.CUSTOMER_ADMINISTRATOR, "Other"),
        (Role.CUSTOMER_TECHNICIAN, None),
        (Role.VENDOR_SUPPORT, "Harbour"),
    ],
)
def test_a_customer_administrator_gives_roles_of_the_own_account_only(role, account):
    with pytest.raises(NotAllowedError) as refused:
        check_gives(caller(Role.CUSTOMER_ADMINISTRATOR, "Harbour"), role, account)
    assert refused.value.code == "not-allowed"


def test_a_role_and_its_account_fit_together():
    for role, account in ((Role.VENDOR_SUPPORT, "Harbour"), (Role.CUSTOMER_TECHNICIAN, None), (Role.COURIER, None)):
        with pytest.raises(NotAllowedError) as refused:
            check_gives(caller(Role.VENDOR_ADMINISTRATOR), role, account)
        assert refused.value.code == "role-wrong"
