"""Home: what needs attention."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import PageRequest
from tallystick.activation.services import catalog, entitlements, field_servers

DAY_SECONDS: Final = 86_400
SOON_DAYS: Final = 30
RECENT_DAYS: Final = 7
_SHOWN: Final = 20


async def home(page: PageRequest) -> Response:
    """What needs attention."""
    caller, office = page.who.caller, page.office
    if not caller.may(Permission.READ):
        returns = await page.do(field_servers.find_open_returns, office, caller, limit=_SHOWN)
        return await page.show("home_technician.html", returns=returns)
    now = office.clock()
    soon = now + SOON_DAYS * DAY_SECONDS
    return await page.show(
        "home.html",
        returns=await page.do(field_servers.find_open_returns, office, caller, limit=_SHOWN),
        incidents=await page.do(
            field_servers.find_incidents, office, caller, since_at=now - RECENT_DAYS * DAY_SECONDS, limit=_SHOWN
        ),
        used_up=await page.do(entitlements.find_lines, office, caller, is_used_up=True, limit=_SHOWN),
        expiring=await page.do(entitlements.find_lines, office, caller, expires_before=soon, limit=_SHOWN),
        has_lines=bool(await page.do(entitlements.find_lines, office, caller, limit=1)),
        products=len((await page.do(catalog.load_catalog, office, caller)).products),
        now=now,
    )
