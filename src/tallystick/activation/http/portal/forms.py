"""What people type into forms, read strictly: the same patterns as the API's."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

from tallystick.activation.core.permissions import Role
from tallystick.activation.services import OfficeError
from tallystick.activation.services.schemas import ACCOUNT_PATTERN, DEVICE_PATTERN, LINE_PATTERN, TEXT_PATTERN
from tallystick.sentences import _

_TEXT: Final = re.compile(TEXT_PATTERN)
_ACCOUNT: Final = re.compile(ACCOUNT_PATTERN)
_DEVICE: Final = re.compile(DEVICE_PATTERN)
_LINE: Final = re.compile(LINE_PATTERN)
_DAY_SECONDS: Final = 86_400


def check_named(text: str, what: str) -> str:
    """A name or a reason. Raises ``OfficeError`` (``text-wrong``)."""
    if not _TEXT.fullmatch(text):
        raise OfficeError(
            "text-wrong", expected=_("{what}, 1 to 128 symbols that can be seen", what=what), seen=repr(text[:60])
        )
    return text


def check_account(text: str) -> str:
    """The name of an account. Raises ``OfficeError`` (``text-wrong``)."""
    if not _ACCOUNT.fullmatch(text):
        raise OfficeError(
            "text-wrong", expected=_("the name of an account, 1 to 128 symbols without a slash"), seen=repr(text[:60])
        )
    return text


def check_device(text: str) -> str:
    """A device id. Raises ``OfficeError``."""
    if not _DEVICE.fullmatch(text):
        raise OfficeError("device-id-mistyped", expected=_("43 symbols"), seen=repr(text[:60]))
    return text


def check_line(text: str) -> str:
    """A line id. Raises ``OfficeError``."""
    if not _LINE.fullmatch(text.upper()):
        raise OfficeError("line-id-mistyped", expected=_("the eight symbols of a line id"), seen=repr(text[:40]))
    return text.upper()


def parse_role(text: str) -> Role:
    """A role. Raises ``OfficeError``."""
    try:
        return Role(text)
    except ValueError:
        raise OfficeError("role-wrong", expected=_("one of the roles of the list"), seen=repr(text[:40])) from None


def parse_day(text: str, *, is_end: bool = True) -> int | None:
    """A day like ``2027-12-31``: its end (or its beginning), UTC; empty is None. Raises ``OfficeError``."""
    if not text:
        return None
    try:
        if len(text) != 10:
            raise ValueError(text)
        day = dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), tzinfo=dt.UTC)
    except ValueError:
        raise OfficeError(
            "date-wrong", expected=_("a date like 2027-12-31, or nothing"), seen=repr(text[:40])
        ) from None
    return int(day.timestamp()) + (_DAY_SECONDS - 1 if is_end else 0)
