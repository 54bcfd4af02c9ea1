"""Who is let in: the browser that opened the link, and nobody else on this computer or beyond.

Guarantees: only requests whose Host is this address are answered (a name that a stranger's page resolves to this
computer is not); a link's token opens once and is exchanged for a cookie; a request that changes something carries the
token of its session and comes from our own pages. The cookie's name holds the port, because browsers do not keep the
ports of one host apart.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import Final

from starlette.requests import Request

from tallystick.errors import Error
from tallystick.sentences import _

ENTER_PATH: Final = "/enter"
SESSIONS_MAX: Final = 8


class Gate:
    """The links that were made and the sessions that they opened. ``make_token`` draws 32 unguessable symbols or more."""

    def __init__(self, *, port: int, make_token: Callable[[], str]) -> None:
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self._make_token = make_token
        self._token = ""
        self._sessions: list[str] = []
        self.cookie = f"tallystick-{port}"

    def make_link(self) -> str:
        """A path that opens once. An earlier one that nobody used no longer opens."""
        self._token = self._make_token()
        return f"{ENTER_PATH}?token={self._token}"

    def enter(self, token: str) -> str | None:
        """The session for a link's token, once."""
        if not self._token or not _same(token, self._token):
            return None
        self._token = ""
        session = self._make_token()
        self._sessions = [*self._sessions[1 - SESSIONS_MAX :], session]
        return session

    def check_host(self, request: Request) -> None:
        """Raises ``Error`` (``usage``)."""
        host = request.headers.get("host", "")
        if host not in self._hosts:
            raise Error("usage", expected=_("this computer's own address in the browser"), seen=host[:80] or _("none"))

    def session_of(self, request: Request) -> str | None:
        """The session of a request, if it has one."""
        given = request.cookies.get(self.cookie, "")
        return next((session for session in self._sessions if _same(given, session)), None)

    def check_own(self, request: Request, *, session: str, given: str) -> None:
        """A change comes from a page of this session. Raises ``Error`` (``usage``)."""
        origin = request.headers.get("origin")
        # "null" is what our own forms send, because their pages tell nobody where they are (no-referrer).
        if origin not in {None, "null", *(f"http://{host}" for host in self._hosts)} or request.headers.get(
            "sec-fetch-site", "same-origin"
        ) not in {"same-origin", "none"}:
            raise Error(
                "usage",
                expected=_("a form of these pages"),
                seen=_("one of {origin}", origin=origin[:80] if origin else "nobody"),
            )
        if not _same(given, csrf_of(session)):
            raise Error(
                "usage", expected=_("a form of this session"), seen=_("one of an earlier session; load the page again")
            )


def csrf_of(session: str) -> str:
    """What the forms of a session carry."""
    return hmac.new(session.encode(), b"tallystick form", hashlib.sha256).hexdigest()


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
