"""Which page is where."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from tallystick.activation.http.portal import (
    catalog,
    entitlements,
    field_servers,
    home,
    incidents,
    ledger,
    messages,
    people,
    qr_codes,
    reference,
    sign_in,
    trail,
    webhooks,
)
from tallystick.activation.http.portal.base import Handler, PageRequest, make_context, page_for
from tallystick.activation.services import Office, OfficeError
from tallystick.pages import PAGE_HEADERS, STATIC_HEADERS, STATICS
from tallystick.sentences import _

_GET: Final = ["GET"]
_POST: Final = ["POST"]
_BOTH: Final = ["GET", "POST"]

OPEN_PAGES: Final[dict[str, tuple[Handler, list[str]]]] = {
    "/set-up": (sign_in.set_up, _BOTH),
    "/sign-in": (sign_in.sign_in, _BOTH),
    "/sign-in/code": (sign_in.sign_in_code, _BOTH),
    "/invitation/{invitation}": (sign_in.invitation, _BOTH),
}
PAGES: Final[dict[str, tuple[Handler, list[str]]]] = {
    "/": (home.home_page, _GET),
    "/sign-out": (sign_in.sign_out, _POST),
    "/me": (sign_in.me, _BOTH),
    "/deliver": (messages.deliver, _BOTH),
    "/deliver/replies": (messages.replies, _POST),
    "/deliver/codes": (qr_codes.read, _BOTH),
    "/deliver/codes/{transfer}": (qr_codes.transfer, _GET),
    "/entitlements": (entitlements.list_page, _GET),
    "/entitlements/new": (entitlements.new_page, _BOTH),
    "/entitlements/{entitlement_id}": (entitlements.one_page, _GET),
    "/entitlements/{entitlement_id}/certificate": (entitlements.certificate_file, _POST),
    "/entitlements/{entitlement_id}/reveal": (entitlements.reveal_page, _POST),
    "/entitlements/{entitlement_id}/rotate-secret": (entitlements.rotate_page, _POST),
    "/lines": (entitlements.lines_page, _GET),
    "/lines/{line_id}": (entitlements.line_page, _BOTH),
    "/field-servers": (field_servers.list_page, _GET),
    "/field-servers/{device_id}": (field_servers.one_page, _GET),
    "/field-servers/{device_id}/return": (field_servers.start_return, _POST),
    "/field-servers/{device_id}/lost": (field_servers.declare_lost, _POST),
    "/field-servers/{device_id}/hold": (field_servers.hold, _POST),
    "/field-servers/{device_id}/release": (field_servers.release, _POST),
    "/field-servers/{device_id}/retire": (field_servers.retire, _POST),
    "/field-servers/{device_id}/replace": (field_servers.replace, _POST),
    "/returns": (field_servers.returns_page, _GET),
    "/incidents": (incidents.list_page, _GET),
    "/incidents/{number}": (incidents.handle, _POST),
    "/ledger": (ledger.ledger_page, _GET),
    "/ledger.csv": (ledger.ledger_csv, _GET),
    "/catalog": (catalog.catalog_page, _BOTH),
    "/people": (people.list_page, _BOTH),
    "/people/{person_id}": (people.one_page, _BOTH),
    "/tokens/{token_id}/revoke": (people.revoke, _POST),
    "/webhooks": (webhooks.list_page, _BOTH),
    "/webhooks/{webhook_id}": (webhooks.one_page, _BOTH),
    "/webhooks/{webhook_id}/pause": (webhooks.pause, _POST),
    "/webhooks/{webhook_id}/go-on": (webhooks.go_on, _POST),
    "/webhooks/{webhook_id}/retry": (webhooks.retry, _POST),
    "/webhooks/{webhook_id}/replay": (webhooks.replay, _POST),
    "/webhooks/{webhook_id}/secret": (webhooks.rotate_secret, _POST),
    "/webhooks/{webhook_id}/remove": (webhooks.remove, _POST),
    "/trail": (trail.list_page, _GET),
    "/api-reference": (reference.reference_page, _GET),
}


class _PageConvertor(Convertor[str]):
    """Addresses that are for browsers: none of the API's."""

    regex = r"(?!v1(?:/|$)|healthz|readyz|metrics|openapi\.json|static/).*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("page", _PageConvertor())


def add_portal(site: FastAPI, office: Office) -> None:
    """Add every page to the application."""
    context = make_context(office)

    async def static(request: Request) -> Response:
        file = STATICS.files().get(request.path_params["name"])
        if file is None:
            return Response("Not found.\n", status_code=404, media_type="text/plain", headers=dict(PAGE_HEADERS))
        return Response(file.content, media_type=file.media_type, headers=dict(STATIC_HEADERS))

    async def nowhere(page: PageRequest) -> Response:
        raise OfficeError("not-found", expected=_("a page that there is"), seen=page.request.url.path[:200])

    site.add_route("/static/{name:path}", static, methods=_GET, include_in_schema=False)
    for path, (handler, methods) in OPEN_PAGES.items():
        site.add_route(path, page_for(context, handler, is_open=True), methods=methods, include_in_schema=False)
    for path, (handler, methods) in PAGES.items():
        site.add_route(path, page_for(context, handler), methods=methods, include_in_schema=False)
    site.add_route("/{rest:page}", page_for(context, nowhere, is_open=True), methods=_GET, include_in_schema=False)
