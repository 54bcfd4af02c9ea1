"""The page Route: found, shown, explained; can be forced; proxies."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.administrator.app import PROXY_SETTING
from tallystick.administrator.core import pinning
from tallystick.administrator.network.proxy import parse_proxy, read_stored
from tallystick.administrator.ports import RouteKind
from tallystick.administrator.web.base import PageRequest


def route_page(ask: PageRequest) -> Response:
    """What was found, and why."""
    inventory = ask.administrator.inventory
    return ask.page(
        "route.html", seen=ask.desk.jobs.seen, proxy=read_stored(inventory.secret(PROXY_SETTING)), urls=inventory.activation_urls(),
        routes=[str(route) for route in RouteKind],
    )  # fmt: skip


def force(ask: PageRequest) -> Response:
    """Take this route, or find out again."""
    wanted = ask.text("route")
    ask.desk.forced = RouteKind(wanted) if wanted in set(RouteKind) else None
    ask.desk.jobs.look()
    return ask.go("/route")


def set_proxy(ask: PageRequest) -> Response:
    """The proxy on the way to activation servers, and perhaps to field servers. Raises ``Error`` (``usage``)."""
    inventory, text = ask.administrator.inventory, ask.text("proxy", 300)
    before = read_stored(inventory.secret(PROXY_SETTING))
    if not text:
        inventory.set_secret(PROXY_SETTING, "")
    else:
        user, password = ask.text("proxy_user", 200), ask.text("proxy_password", 200)
        if before is not None and user == before.user and not password:
            password = before.password  # it is never shown, so an empty field says nothing
        made = parse_proxy(
            text, user=user, password=password, is_for_field_servers=bool(ask.text("proxy_field_servers"))
        )
        inventory.set_secret(PROXY_SETTING, made.stored())
    ask.desk.jobs.look()
    return ask.go("/route")


def add_activation(ask: PageRequest) -> Response:
    """The address of an activation server."""
    ask.administrator.inventory.add_activation(pinning.normal_url(ask.text("url", 300)))
    ask.desk.jobs.look()
    return ask.go("/route")


def look(ask: PageRequest) -> Response:
    """Find out again."""
    ask.desk.jobs.look()
    return ask.go("/route")
