"""Which page is where."""

from __future__ import annotations

from typing import Final

from fastapi import FastAPI
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from tallystick.activation.http.portal import daily, qr_codes, records, sign_in, webhooks
from tallystick.activation.http.portal.base import Handler, PageRequest, make_context, page_for
from tallystick.activation.services import Office, OfficeError
from tallystick.pages import PAGE_HEADERS, STATIC_HEADERS, STATICS

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
    "/": (daily.home, _GET),
    "/sign-out": (sign_in.sign_out, _POST),
    "/me": (sign_in.me, _BOTH),
    "/deliver": (daily.deliver, _BOTH),
    "/deliver/replies": (daily.replies, _POST),
    "/deliver/codes": (qr_codes.read, _BOTH),
    "/deliver/codes/{transfer}": (qr_codes.transfer, _GET),
    "/entitlements": (records.entitlements, _GET),
    "/entitlements/new": (records.new_entitlement, _BOTH),
    "/entitlements/{entitlement_id}": (records.entitlement, _GET),
    "/entitlements/{entitlement_id}/certificate": (records.certificate, _GET),
    "/lines/{line_id}": (records.line, _BOTH),
    "/field-servers": (daily.field_servers, _GET),
    "/field-servers/{device_id}": (daily.field_server, _GET),
    "/field-servers/{device_id}/{act}": (daily.act, _POST),
    "/returns": (daily.returns, _GET),
    "/incidents": (daily.incidents, _GET),
    "/ledger": (records.ledger, _GET),
    "/ledger.csv": (records.ledger_csv, _GET),
    "/catalog": (records.catalog, _BOTH),
    "/people": (records.people, _BOTH),
    "/people/{person_id}": (records.person, _BOTH),
    "/tokens/{token_id}/revoke": (records.revoke, _POST),
    "/webhooks": (webhooks.hooks, _BOTH),
    "/webhooks/{webhook_id}": (webhooks.hook, _BOTH),
    "/webhooks/{webhook_id}/{act}": (webhooks.act, _POST),
    "/trail": (records.trail, _GET),
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
        raise OfficeError("not-found", expected="a page that there is", seen=page.request.url.path[:200])

    site.add_route("/static/{name:path}", static, methods=_GET, include_in_schema=False)
    for path, (handler, methods) in OPEN_PAGES.items():
        site.add_route(path, page_for(context, handler, is_open=True), methods=methods, include_in_schema=False)
    for path, (handler, methods) in PAGES.items():
        site.add_route(path, page_for(context, handler), methods=methods, include_in_schema=False)
    site.add_route("/{rest:page}", page_for(context, nowhere, is_open=True), methods=_GET, include_in_schema=False)
