"""What people type into forms, read strictly: the same patterns as the API's."""

from __future__ import annotations

import re
from typing import Final

from tallystick.activation.core.permissions import Role
from tallystick.activation.services import OfficeError
from tallystick.activation.services.schemas import ACCOUNT_PATTERN, DEVICE_PATTERN, TEXT_PATTERN
from tallystick.domain.dates import parse_moment
from tallystick.domain.ids import parse_line_id
from tallystick.domain.text import normal, pasted
from tallystick.sentences import _

_TEXT: Final = re.compile(TEXT_PATTERN)
_ACCOUNT: Final = re.compile(ACCOUNT_PATTERN)
_DEVICE: Final = re.compile(DEVICE_PATTERN)


def check_named(text: str, what: str) -> str:
    """A name or a reason. Raises ``OfficeError`` (``text-wrong``)."""
    text = normal(text)
    if not _TEXT.fullmatch(text):
        raise OfficeError(
            "text-wrong", expected=_("{what}, 1 to 128 symbols that can be seen", what=what), seen=repr(text[:60])
        )
    return text


def check_account(text: str) -> str:
    """The name of an account. Raises ``OfficeError`` (``text-wrong``)."""
    text = normal(text)
    if not _ACCOUNT.fullmatch(text):
        raise OfficeError(
            "text-wrong", expected=_("the name of an account, 1 to 128 symbols that can be seen"), seen=repr(text[:60])
        )
    return text


def check_device(text: str) -> str:
    """A device id. Raises ``OfficeError``."""
    text = pasted(text)
    if not _DEVICE.fullmatch(text):
        raise OfficeError("device-id-mistyped", expected=_("43 symbols"), seen=repr(text[:60]))
    return text


def check_line(text: str) -> str:
    """A line id. Raises ``Error``."""
    return parse_line_id(text)


def parse_role(text: str) -> Role:
    """A role. Raises ``OfficeError``."""
    try:
        return Role(text)
    except ValueError:
        raise OfficeError("role-wrong", expected=_("one of the roles of the list"), seen=repr(text[:40])) from None


def parse_day(text: str, *, is_end: bool = True) -> int | None:
    """A day like ``2027-12-31``: its end (or its beginning), UTC; empty is None. Raises ``Error``."""
    return parse_moment(text, is_end=is_end) if text else None
