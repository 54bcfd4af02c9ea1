"""One reading of dates. A bare date is a whole day, UTC: which end of it counts depends on the end of the period it names.

A license that runs until a day runs to its last second, 23:59:59; what is listed *until* a day includes it; what is
listed *since* or *before* a day is counted from its beginning, 00:00:00.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from tallystick.errors import Error
from tallystick.sentences import _

DAY_SECONDS: Final = 86_400


def moment_text(at: int) -> str:
    """A moment for people, UTC."""
    try:
        return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return str(at)


def parse_moment(text: str, *, is_end: bool) -> int:
    """Unix seconds of a date like ``2027-12-31`` or ``20271231``, or of a moment like ``2027-12-31T12:00:00Z``.

    ``is_end``: a date means the last second of its day, else the first. A moment without a time zone is UTC. Raises
    ``Error`` (``date-wrong``).
    """
    text = text.strip()
    try:
        try:
            day = dt.datetime.combine(dt.date.fromisoformat(text), dt.time(), dt.UTC)
            return int(day.timestamp()) + (DAY_SECONDS - 1 if is_end else 0)
        except ValueError:
            at = dt.datetime.fromisoformat(text)
            return int((at if at.tzinfo else at.replace(tzinfo=dt.UTC)).timestamp())
    except (ValueError, OverflowError):
        raise Error(
            "date-wrong",
            expected=_("a date like 2027-12-31 or a moment like 2027-12-31T12:00:00Z"),
            seen=repr(text[:40]),
        ) from None
