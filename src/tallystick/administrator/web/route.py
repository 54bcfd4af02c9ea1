"""The page Route: found, shown, explained; can be forced; proxies."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.administrator.app import PROXY_SETTING
from tallystick.administrator.core import pinning
from tallystick.administrator.network.proxy import parse_proxy, read_stored
from tallystick.administrator.ports import RouteKind
from tallystick.administrator.web.base import PageRequest, at_field


def route_page(page: PageRequest) -> Response:
    """What was found, and why."""
    inventory = page.administrator.inventory
    return page.show(
        "route.html", proxy=read_stored(inventory.secret(PROXY_SETTING)), urls=inventory.activation_urls(),
        routes=[str(route) for route in RouteKind],
    )  # fmt: skip


def force(page: PageRequest) -> Response:
    """Take this route, or find out again."""
    wanted = page.text("route")
    page.context.forced = RouteKind(wanted) if wanted in set(RouteKind) else None
    page.context.jobs.look()
    return page.go("/route")


def set_proxy(page: PageRequest) -> Response:
    """The proxy on the way to activation servers, and perhaps to field servers. Raises ``Error`` (``usage``)."""
    inventory, text = page.administrator.inventory, page.text("proxy", 300)
    before = read_stored(inventory.secret(PROXY_SETTING))
    if not text:
        inventory.set_secret(PROXY_SETTING, "")
    else:
        user, password = page.text("proxy_user", 200), page.text("proxy_password", 200)
        if before is not None and user == before.user and not password:
            password = before.password  # it is never shown, so an empty field says nothing
        with at_field("proxy"):
            made = parse_proxy(
                text, user=user, password=password, is_for_field_servers=bool(page.text("proxy_field_servers"))
            )
        inventory.set_secret(PROXY_SETTING, made.stored())
    page.context.jobs.look()
    return page.go("/route")


def add_activation(page: PageRequest) -> Response:
    """The address of an activation server."""
    with at_field("url"):
        url = pinning.normal_url(page.text("url", 300))
    page.administrator.inventory.add_activation(url)
    page.context.jobs.look()
    return page.go("/route")


def look(page: PageRequest) -> Response:
    """Look for the route once more."""
    page.context.jobs.look()
    return page.go("/route")
