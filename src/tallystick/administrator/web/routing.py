"""The page Route: found, shown, explained; can be forced; proxies."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.responses import Response

from tallystick.administrator import enrolment
from tallystick.administrator.app import PROXY_SETTING
from tallystick.administrator.ports import Route
from tallystick.administrator.web.desk import Ask
from tallystick.errors import Error


def route_page(ask: Ask) -> Response:
    """What was found, and why."""
    inventory = ask.administrator.inventory
    return ask.page(
        "route.html", seen=ask.desk.jobs.seen, proxy=inventory.setting(PROXY_SETTING), urls=inventory.activation_urls(),
        routes=[str(route) for route in Route],
    )  # fmt: skip


def force(ask: Ask) -> Response:
    """Take this route, or find out again."""
    wanted = ask.text("route")
    ask.desk.forced = Route(wanted) if wanted in set(Route) else None
    ask.desk.jobs.look()
    return ask.go("/route")


def set_proxy(ask: Ask) -> Response:
    """The proxy on the way to activation servers. Raises ``Error`` (``usage``)."""
    proxy = ask.text("proxy", 300)
    if proxy:
        try:
            parts = urlsplit(proxy)
            port = parts.port
        except ValueError:
            raise Error("usage", expected="a proxy like http://proxy.example:3128", seen=proxy) from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
            raise Error("usage", expected="a proxy like http://proxy.example:3128", seen=proxy)
    ask.administrator.inventory.set_setting(PROXY_SETTING, proxy)
    ask.desk.jobs.look()
    return ask.go("/route")


def add_activation(ask: Ask) -> Response:
    """The address of an activation server."""
    ask.administrator.inventory.add_activation(enrolment.normal_url(ask.text("url", 300)))
    ask.desk.jobs.look()
    return ask.go("/route")


def look(ask: Ask) -> Response:
    """Find out again."""
    ask.desk.jobs.look()
    return ask.go("/route")
