"""What every page shares: who is there, the frame around a page, forms that are checked, problems as pages.

A form counts only with the token of its session, and only when the browser says that it comes from our own pages (or
says nothing). A session's secret is in a cookie that no script reads, no other site sends and no plain HTTP carries.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tallystick.activation.core.people import COURIER_DAYS_MAX, INVITATION_SECONDS, PASSWORD_LENGTH_MIN, TOKEN_DAYS_MAX
from tallystick.activation.core.permissions import VENDOR_ROLES, Permission, Role
from tallystick.activation.services import Office, OfficeError, field_servers, sign_in
from tallystick.activation.services.sign_in import Visitor
from tallystick.errors import Error
from tallystick.pages import PAGE_HEADERS, make_environment, page_reader
from tallystick.protocol.problems import problem_page
from tallystick.protocol.tallyfile import MEDIA_TYPE
from tallystick.sentences import READER, _

SESSION_COOKIE: Final = "__Host-tallystick"
FORM_COOKIE: Final = "__Host-tallystick-form"
KNOWN_COOKIE: Final = "__Host-tallystick-known"  # of a browser that was signed in
PAGE_ROWS: Final = 50
FORM_BYTES_MAX: Final = 64 * 1024
FIELD_LENGTH_MAX: Final = 20_000
_SAFE_SITES: Final = {None, "same-origin", "none"}

ROLE_NAMES: Final = {
    Role.VENDOR_ADMINISTRATOR: _("Vendor administrator"),
    Role.VENDOR_SUPPORT: _("Vendor support"),
    Role.CUSTOMER_ADMINISTRATOR: _("Customer administrator"),
    Role.CUSTOMER_TECHNICIAN: _("Customer technician"),
    Role.COURIER: _("Courier"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalContext:
    """What pages are made with."""

    office: Office
    environment: Environment


class SignInNeeded(Exception):
    """The page is for people who are signed in."""


def make_context(office: Office) -> PortalContext:
    """The context of an office."""
    environment = make_environment(
        "tallystick.activation.http.portal",
        static_prefix="/static",
        extra={
            "role_names": ROLE_NAMES,
            "Permission": Permission,
            "issuer": office.signer.keyset.issuer,
            "password_min": PASSWORD_LENGTH_MIN,
            "invitation_days": INVITATION_SECONDS // 86_400,
            "token_days_max": TOKEN_DAYS_MAX,
            "courier_days_max": COURIER_DAYS_MAX,
        },
    )
    return PortalContext(office=office, environment=environment)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """One request to a page: ``visitor`` is None only on pages for everybody."""

    context: PortalContext
    request: Request
    visitor: Visitor | None

    @property
    def office(self) -> Office:
        """The office."""
        return self.context.office

    @property
    def who(self) -> Visitor:
        """Who is there. Raises ``SignInNeeded``."""
        if self.visitor is None:
            raise SignInNeeded
        return self.visitor

    @property
    def public_url(self) -> str:
        """The address at which people reach the portal, as it stands in invitations."""
        return self.office.public_url or str(self.request.base_url).rstrip("/")

    @property
    def address(self) -> str:
        """The client's address; a proxy's word for it counts only where the settings trust the proxy."""
        return self.request.client.host if self.request.client else "unknown"

    def asked(self, name: str, length_max: int = 200) -> str:
        """A part of the query, cut."""
        return _clean(self.request.query_params.get(name, ""))[:length_max]

    async def show(self, template: str, **values: Any) -> Response:
        """A page from its template, made in a thread. A problem ``document`` among the values gives its status."""
        return await run_in_threadpool(self._render, template, values)

    def _render(self, template: str, values: dict[str, Any]) -> Response:
        READER.set(
            page_reader(self.request.headers.get("accept-language"))
        )  # of this thread's work, and of nothing else
        document = values.get("document")
        frame: dict[str, Any] = {
            "path": self.request.url.path,
            "visitor": self.visitor,
            "said": self.asked("said", 20),
        }
        if self.visitor is not None:
            caller = self.visitor.caller
            frame |= {"me": caller, "csrf": self.visitor.session.csrf, "is_vendor": caller.role in VENDOR_ROLES}
            frame["open_returns"] = (
                field_servers.count_open_returns(self.office, caller) if caller.may(Permission.READ_RETURNS) else 0
            )
            frame["navigation"] = _navigation(frame["open_returns"], self.visitor)
        text = self.context.environment.get_template(f"own/{template}").render(**frame | values)
        headers = dict(PAGE_HEADERS)
        if self.request.url.scheme == "https":
            headers["Strict-Transport-Security"] = "max-age=31536000"
        return HTMLResponse(text, status_code=document["status"] if document else 200, headers=headers)

    async def form(self) -> Form:
        """The form that was sent, checked. Raises ``Error`` (``form-stale``, ``body-too-large``)."""
        data = await read_form(self.request)
        form = Form(data)
        self.check_form(form.text("csrf"))
        return form

    def check_form(self, sent: str) -> None:
        """Raises ``Error`` unless the form is ours and of this session; see ``entrance.open_form`` for who has none yet."""
        expected = self.who.session.csrf
        site = self.request.headers.get("sec-fetch-site")
        if site not in _SAFE_SITES or not expected or not hmac.compare_digest(sent.encode(), expected.encode()):
            raise OfficeError(
                "form-stale",
                expected=_("a form of this session, from our own page"),
                seen=_("one from {site}", site=site or "elsewhere"),
            )

    async def do(self, work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Something that blocks, in a thread."""
        return await run_in_threadpool(work, *arguments, **named)


class Form:
    """The fields of a form, as texts."""

    def __init__(self, data: FormData) -> None:
        self.data = data

    def text(self, name: str) -> str:
        """A field, stripped; empty where there is none."""
        value = self.data.get(name, "")
        return _clean(value) if isinstance(value, str) else ""

    def secret(self, name: str) -> str:
        """A password: as it was typed."""
        value = self.data.get(name, "")
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> list[str]:
        """All fields of a name."""
        return [value.strip() for value in self.data.getlist(name) if isinstance(value, str)]

    def files(self, name: str) -> list[UploadFile]:
        """The files of a name."""
        return [value for value in self.data.getlist(name) if isinstance(value, UploadFile)]

    def whole(self, name: str) -> int:
        """A whole number. Raises ``OfficeError``."""
        text = self.text(name).replace(",", "")
        if not text.isascii() or not text.isdigit() or len(text) > 12:
            raise OfficeError("quantity-wrong", expected=_("a whole number"), seen=repr(text[:40]))
        return int(text)


async def read_form(request: Request) -> FormData:
    """A small form. Raises ``Error`` (``body-too-large``, ``form-stale``)."""
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > FORM_BYTES_MAX:
        raise OfficeError(
            "body-too-large",
            expected=_("a form of at most {form_bytes_max} bytes", form_bytes_max=FORM_BYTES_MAX),
            seen=length or _("no length"),
        )
    kind = request.headers.get("content-type", "").split(";")[0]
    if kind != "application/x-www-form-urlencoded":
        raise OfficeError("form-stale", expected=_("a form of our own page"), seen=kind[:60] or _("nothing"))
    return await request.form(max_fields=2000)


Handler = Callable[[PageRequest], Awaitable[Response]]


def page_for(
    context: PortalContext, handler: Handler, *, is_open: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a handler. ``is_open``: for people who are not signed in, too."""

    async def endpoint(request: Request) -> Response:
        secret = request.cookies.get(SESSION_COOKIE)
        visitor = await run_in_threadpool(sign_in.visitor_of, context.office, secret)
        if visitor is not None and request.client is not None:
            visitor = replace(visitor, address=request.client.host)
        page = PageRequest(context, request, visitor)
        try:
            if visitor is None and not is_open:
                raise SignInNeeded
            return await handler(page)
        except SignInNeeded:
            return await _to_sign_in(page)
        except Error as error:
            return await show_problem(page, error)
        except HTTPException as error:  # a multipart form that is none, or has too many parts
            stale = OfficeError("form-stale", expected=_("a form of our own page"), seen=str(error.detail)[:100])
            return await show_problem(page, stale)

    endpoint.__name__ = getattr(handler, "__name__", "page")
    return endpoint


async def show_problem(page: PageRequest, error: Error) -> Response:
    """A problem as a page, with what to do next."""
    document = problem_page(error)
    reasons = getattr(error, "reasons", ())
    response = await page.show(
        "problem.html",
        document=document,
        reasons=reasons if len(reasons) > 1 else (),
        back=page.request.url.path if page.request.method == "GET" else "",
    )
    wait_seconds = getattr(error, "wait_seconds", None)
    if wait_seconds is not None:
        response.headers["Retry-After"] = str(wait_seconds)
    return response


async def _to_sign_in(page: PageRequest) -> Response:
    if not await run_in_threadpool(sign_in.is_set_up, page.office):
        return redirect("/set-up")
    if page.request.method == "GET" and page.request.url.path != "/":
        return redirect(f"/sign-in?to={quote(page.request.url.path, safe='')}")
    return redirect("/sign-in")


def redirect(address: str) -> Response:
    """See the page at ``address`` next, which is one of ours."""
    return RedirectResponse(address, status_code=303, headers=dict(PAGE_HEADERS))


def set_session(response: Response, secret: str) -> Response:
    """Give the browser its session."""
    response.set_cookie(SESSION_COOKIE, secret, secure=True, httponly=True, samesite="strict", path="/")
    return response


def _clean(text: str) -> str:
    """Stripped, and without the one symbol that no database keeps."""
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}").strip()


def own_address(text: str) -> str:
    """``text`` where it is a path of ours, else Home."""
    return text if text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable() else "/"


def _navigation(open_returns: int, visitor: Visitor) -> list[list[tuple[str, str, int]]]:
    caller = visitor.caller
    daily = [
        (_("Home"), "/", 0, None),
        (_("Deliver messages"), "/deliver", 0, Permission.DELIVER),
        (_("Entitlements"), "/entitlements", 0, Permission.READ),
        (_("Field servers"), "/field-servers", 0, Permission.READ),
        (_("Open returns"), "/returns", open_returns, Permission.READ_RETURNS),
        (_("Incidents"), "/incidents", 0, Permission.READ),
    ]
    rest = [
        (_("Ledger"), "/ledger", 0, Permission.READ),
        (_("Catalog"), "/catalog", 0, Permission.READ),
        (_("People and tokens"), "/people", 0, Permission.PEOPLE),
        (_("Webhooks"), "/webhooks", 0, Permission.WEBHOOKS),
        (_("Audit trail"), "/trail", 0, Permission.READ_TRAIL),
        (_("API reference"), "/api-reference", 0, Permission.READ),
        (_("Your account"), "/me", 0, None),
    ]
    return [
        [(name, address, count) for name, address, count, needs in group if needs is None or caller.may(needs)]
        for group in (daily, rest)
    ]


def cursor_parts(text: str, parts: int) -> list[str] | None:
    """The parts of a cursor; None where it is none of ours: then the list begins at its beginning."""
    found = text.split(".", parts - 1)
    return found if len(found) == parts and found[0].isascii() and found[0].isdigit() and len(found[0]) < 13 else None


def download(file: bytes, name: str) -> Response:
    """A tally file under a name."""
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(file, media_type=MEDIA_TYPE, headers=headers)
