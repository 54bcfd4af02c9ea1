"""Puts the pages together: routes, the gate, the forms; and serves them on the loopback interface."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from tallystick.administrator.core.next_steps import step_sentence
from tallystick.administrator.memory.database import Database
from tallystick.administrator.memory.passwords import Sealer
from tallystick.administrator.ports import RouteKind as CarryRoute
from tallystick.administrator.web import add, carry, field_servers, operations, plan, qr_codes, report, route, vendors
from tallystick.administrator.web.base import (
    LOOK_EVERY_SECONDS,
    AtField,
    Fault,
    Handler,
    PageRequest,
    WebContext,
    problem_of,
)
from tallystick.administrator.web.gate import ENTER_PATH, Gate, csrf_of
from tallystick.connections.listening import HEAD_BYTES_MAX, Bounded, Places
from tallystick.errors import Error
from tallystick.pages import PAGE_HEADERS, STATIC_HEADERS, STATICS, make_environment, page_reader
from tallystick.protocol.problems import BY_CODE
from tallystick.sentences import READER, _

_FIELDS_MAX: Final = 20_000
_FILES_MAX: Final = 1_000
_TOKEN_BYTES: Final = 32
CONNECTIONS_MAX: Final = 128

_PAGES: Final[tuple[tuple[str, Handler], ...]] = (
    ("/", field_servers.list_page),
    ("/servers/{device_id}", field_servers.one_page),
    ("/add", add.add_page),
    ("/add/{number:int}", add.meeting_page),
    ("/added/{number:int}", add.added_page),
    ("/plan", plan.plan_page),
    ("/drafts/{number:int}", operations.draft_page),
    ("/operations", operations.operations_page),
    ("/operations/{number:int}", operations.operation_page),
    ("/carry", carry.carry_page),
    ("/carry/taken/{number:int}", carry.taken_page),
    ("/carry/whose/{number:int}", carry.whose_page),
    ("/carry/codes", qr_codes.show_page),
    ("/carry/read", qr_codes.read_page),
    ("/route", route.route_page),
    ("/vendors", vendors.vendors_page),
    ("/report", report.report_page),
    ("/report.csv", report.report_as_csv),
    ("/report.pdf", report.report_as_pdf),
    ("/report.zip", report.report_as_folder),
)
_FORMS: Final[tuple[tuple[str, Handler], ...]] = (
    ("/look", field_servers.look),
    ("/sites", field_servers.set_site),
    ("/servers/{device_id}/site", field_servers.set_one_site),
    ("/servers/{device_id}/password", field_servers.renew),
    ("/servers/{device_id}/pin", field_servers.pin_again),
    ("/servers/{device_id}/address", field_servers.move),
    ("/servers/{device_id}/remove", field_servers.remove),
    ("/add", add.add),
    ("/add/find", add.find),
    ("/add/found", add.add_found),
    ("/add/{number:int}", add.pin_met),
    ("/plan/assign", plan.assign),
    ("/plan/entitlement", plan.add_entitlement),
    ("/plan/forget", plan.forget),
    ("/drafts", operations.draft),
    ("/drafts/{number:int}", operations.change_draft),
    ("/drafts/{number:int}/begin", operations.begin),
    ("/operations/{number:int}/cancel", operations.cancel),
    ("/operations/{number:int}/go-on", operations.go_on),
    ("/operations/{number:int}/leave", operations.leave),
    ("/carry/download", carry.download),
    ("/carry/stick", carry.to_stick),
    ("/carry/from-stick", carry.from_stick),
    ("/carry/take", carry.take),
    ("/carry/look", carry.look),
    ("/carry/whose/{number:int}", carry.take_after_all),
    ("/carry/now", carry.carry_now),
    ("/carry/read", qr_codes.read),
    ("/route/force", route.force),
    ("/vendors/remove", vendors.remove_vendor),
    ("/vendors/entitlement", vendors.remove_entitlement),
    ("/route/proxy", route.set_proxy),
    ("/route/activation", route.add_activation),
    ("/route/look", route.look),
)


# Where each form stands: what cannot be done is said there, at its field, with what was typed.
_HOMES: Final[tuple[tuple[str, str], ...]] = (
    ("/add/", "/add"),
    ("/plan/", "/plan"),
    ("/carry/", "/carry"),
    ("/route/", "/route"),
    ("/vendors/", "/vendors"),
    ("/operations/", "/operations"),
    ("/sites", "/"),
    ("/drafts", "/"),
    ("/look", "/"),
)
_PAGE_OF: Final = dict(_PAGES)


def _status(error: Error) -> int:
    row = BY_CODE.get(error.code)
    return row.status if row else 422


def _again(page: PageRequest, error: Error, field: str = "") -> Response:
    """The page with the form, and what is wrong with it; a page of its own where the form has none."""
    problem, status, path = problem_of(error), _status(error), page.request.url.path
    home: Handler | None = None
    if page.request.method == "POST" and error.code != "not-found":
        if "device_id" in page.request.path_params:
            home = field_servers.one_page
        elif "number" in page.request.path_params:
            home = operations.draft_page if path.startswith("/drafts/") else None
        else:
            home = next((_PAGE_OF[to] for form, to in _HOMES if path.startswith(form)), _PAGE_OF.get(path))
    if home is not None:
        try:
            return home(replace(page, fault=Fault(problem=problem, status=status, field=field)))
        except Error as other:
            problem, status = problem_of(other), _status(other)
    return page.show("problem.html", status=status, problem=problem)


class _Protocol(Bounded, H11Protocol):
    """For programs of this computer only, which all have one address."""

    places = Places(connections_max=CONNECTIONS_MAX, address_max=CONNECTIONS_MAX)


class Pages:
    """The application. ``on_entered`` is called when a link was used up."""

    def __init__(self, context: WebContext, gate: Gate, *, on_entered: Callable[[], None] = lambda: None) -> None:
        self.context = context
        self.gate = gate
        self._on_entered = on_entered

    def make_app(self) -> Starlette:
        """All routes."""
        routes = [
            Route(ENTER_PATH, self.enter, methods=["GET"]),
            Route("/static/{name:path}", self.static, methods=["GET"]),
            *(Route(path, self._guarded(handler), methods=["GET"]) for path, handler in _PAGES),
            *(Route(path, self._guarded(handler), methods=["POST"]) for path, handler in _FORMS),
        ]
        handlers: Any = {HTTPException: self._no_page}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def enter(self, request: Request) -> Response:
        """A link becomes a session."""
        try:
            self.gate.check_host(request)
        except Error as error:
            return self._stranger(error)
        session = self.gate.enter(request.query_params.get("token", ""))
        if session is None and self.gate.session_of(request) is None:
            return self._stranger(_LINK_USED)
        response = RedirectResponse("/", status_code=303, headers=dict(PAGE_HEADERS))
        if session is not None:
            response.set_cookie(self.gate.cookie, session, httponly=True, samesite="strict", path="/")
            self._on_entered()
        return response

    async def static(self, request: Request) -> Response:
        """A file of the shared looks."""
        file = STATICS.files().get(request.path_params["name"])
        if file is None:
            return Response(status_code=404, headers=dict(PAGE_HEADERS))
        return Response(file.content, media_type=file.media_type, headers=dict(STATIC_HEADERS))

    def _guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                self.gate.check_host(request)
            except Error as error:
                return self._stranger(error)
            session = self.gate.session_of(request)
            if session is None:
                return self._stranger(_NO_SESSION)
            form = FormData()
            if request.method == "POST":
                form = await request.form(max_fields=_FIELDS_MAX, max_files=_FILES_MAX)
            try:
                return await run_in_threadpool(self._answer, handler, request, session, form)
            finally:
                await form.close()

        return handle

    def _answer(self, handler: Handler, request: Request, session: str, form: FormData) -> Response:
        READER.set(page_reader(request.headers.get("accept-language")))  # of this thread's work, and of nothing else
        with self.context.opened() as administrator:
            page = PageRequest(
                context=self.context, request=request, administrator=administrator, csrf=csrf_of(session), form=form,
                version=self.context.version(),
            )  # fmt: skip
            if page.had_version:
                self.context.jobs.look_if_older(self.context.look_every, now=page.now)
                if page.had_version == page.version:
                    return Response(status_code=204, headers=dict(PAGE_HEADERS))
            try:
                if request.method == "POST":
                    given = form.get("csrf")
                    self.gate.check_own(request, session=session, given=given if isinstance(given, str) else "")
            except Error as error:
                return page.show("problem.html", status=_status(error), problem=problem_of(error))
            try:
                return handler(page)
            except AtField as wrong:
                return _again(page, wrong.error, wrong.name)
            except Error as error:
                return _again(page, error)

    def _stranger(self, error: Error) -> Response:
        text = self.context.environment.get_template("own/stranger.html").render(problem=problem_of(error))
        return Response(text, status_code=403, media_type="text/html", headers=dict(PAGE_HEADERS))

    async def _no_page(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        if (
            status in {404, 405} and self.gate.session_of(request) is not None
        ):  # 405: a form's address, without its form
            home = next((path for form, path in _HOMES if status == 405 and request.url.path.startswith(form)), "/")
            return RedirectResponse(home, status_code=303, headers=dict(PAGE_HEADERS))
        return Response(status_code=status, headers=dict(PAGE_HEADERS))


_LINK_USED: Final = Error(
    "usage",
    expected=_("a link that was not used yet"),
    seen=_("one that was; the window in which “tallystick admin web” runs shows a new one"),
)
_NO_SESSION: Final = Error(
    "usage",
    expected=_("the browser that opened the link"),
    seen=_("another one; the window in which “tallystick admin web” runs shows a link for it"),
)


def make_context(
    database: Database,
    sealer: Sealer,
    *,
    forced: CarryRoute | None = None,
    look_every: int = LOOK_EVERY_SECONDS,
) -> WebContext:
    """The pages' own state on a database."""
    environment = make_environment("tallystick.administrator.web", static_prefix="/static")
    environment.filters["step_sentence"] = step_sentence
    return WebContext(database=database, sealer=sealer, environment=environment, forced=forced, look_every=look_every)


def make_gate(port: int) -> Gate:
    """A gate whose tokens nobody guesses."""
    return Gate(port=port, make_token=lambda: secrets.token_urlsafe(_TOKEN_BYTES))


def serve(
    database: Database,
    sealer: Sealer,
    *,
    port: int,
    forced: CarryRoute | None,
    look_every: int,
    on_link: Callable[[str, bool], None],
) -> None:
    """Serve until somebody stops it. ``on_link`` gets every link; True with the first.

    Raises ``Error`` (``address-taken``).
    """
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise Error(
                "address-taken", expected=_("port {port} of this computer to be free", port=port), seen=str(error)
            ) from None
        base = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gate, context = (
            make_gate(listener.getsockname()[1]),
            make_context(database, sealer, forced=forced, look_every=look_every),
        )
        pages = Pages(context, gate, on_entered=lambda: on_link(base + gate.make_link(), False))
        config = uvicorn.Config(
            pages.make_app(), http=_Protocol, h11_max_incomplete_event_size=HEAD_BYTES_MAX, log_level="warning", access_log=False, server_header=False, lifespan="off",
            timeout_graceful_shutdown=5,
        )  # fmt: skip
        listener.listen(128)
        context.jobs.look()
        on_link(base + gate.make_link(), True)
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            context.jobs.close()
