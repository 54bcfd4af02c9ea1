"""The way in: first run, sign-in, the second factor, invitations; and one's own password and authenticator."""

from __future__ import annotations

import hmac
from io import BytesIO
from urllib.parse import quote

import segno
from markupsafe import Markup
from starlette.responses import Response

from tallystick.activation.core import people
from tallystick.activation.http.portal.base import (
    FORM_COOKIE,
    KNOWN_COOKIE,
    SESSION_COOKIE,
    Form,
    PageRequest,
    own_address,
    read_form,
    redirect,
    set_session,
)
from tallystick.activation.http.portal.forms import check_named
from tallystick.activation.services import OfficeError
from tallystick.activation.services import sign_in as sign_in_service
from tallystick.activation.services.sign_in import NewSession, Origin
from tallystick.errors import Error
from tallystick.protocol.problems import problem_page
from tallystick.sentences import _


async def show_form(page: PageRequest, template: str, *, error: Error | None = None, **values: object) -> Response:
    """A form for somebody who is not signed in: its token is in a cookie of its own."""
    token = page.request.cookies.get(FORM_COOKIE) or people.new_secret("form", page.office.random_bytes(24))
    document = problem_page(error) if error else None
    response = await page.show(template, csrf=token, document=document, **values)
    wait_seconds = getattr(error, "wait_seconds", None)
    if wait_seconds is not None:
        response.headers["Retry-After"] = str(wait_seconds)
    response.set_cookie(FORM_COOKIE, token, secure=True, httponly=True, samesite="strict", path="/")
    return response


async def open_form(page: PageRequest) -> Form:
    """A form of somebody who is not signed in, checked against the cookie."""
    form = Form(await read_form(page.request))
    expected = page.request.cookies.get(FORM_COOKIE, "")
    site = page.request.headers.get("sec-fetch-site")
    fits = bool(expected) and hmac.compare_digest(form.text("csrf").encode(), expected.encode())
    if not fits or site not in {None, "same-origin", "none"}:
        raise OfficeError(
            "form-stale",
            expected=_("a form of our own page, and a browser that keeps its cookie (over HTTPS, or on this machine)"),
            seen=_("a form without the cookie") if not expected else _("another one"),
        )
    return form


async def set_up(page: PageRequest) -> Response:
    """The first-run page, in place of a default password."""
    if await page.do(sign_in_service.is_set_up, page.office):
        return redirect("/sign-in")
    if page.request.method == "GET":
        return await show_form(page, "set_up.html", email="", name="")
    form = await open_form(page)
    email, name = form.text("email"), form.text("name")
    try:
        check_named(name, _("your name"))
        signed_in = await page.do(
            sign_in_service.set_up,
            page.office,
            code=form.text("code"),
            email=email,
            name=name,
            password=form.secret("password"),
            address=page.address,
        )
    except Error as error:
        return await show_form(page, "set_up.html", error=error, email=email[:254], name=name[:128])
    return _enter(signed_in, "/")


async def sign_in(page: PageRequest) -> Response:
    """E-mail address and password."""
    if not await page.do(sign_in_service.is_set_up, page.office):
        return redirect("/set-up")
    if page.request.method == "GET":
        if page.visitor is not None:
            return redirect("/")
        return await show_form(page, "sign_in.html", email="", to=own_address(page.asked("to")))
    form = await open_form(page)
    email, to = form.text("email"), own_address(form.text("to"))
    try:
        signed_in = await page.do(
            sign_in_service.sign_in, page.office, email=email, password=form.secret("password"), origin=_origin(page)
        )
    except Error as error:
        return await show_form(page, "sign_in.html", error=error, email=email[:254], to=to)
    return _enter(signed_in, to)


async def sign_in_code(page: PageRequest) -> Response:
    """The second factor."""
    to = own_address(page.asked("to"))
    if page.request.method == "GET":
        return await show_form(page, "sign_in_code.html", to=to)
    form = await open_form(page)
    to = own_address(form.text("to"))
    secret = page.request.cookies.get(SESSION_COOKIE, "")
    try:
        signed_in = await page.do(
            sign_in_service.enter_code, page.office, secret, form.text("code"), origin=_origin(page)
        )
    except Error as error:
        return await show_form(page, "sign_in_code.html", error=error, to=to)
    return _enter(signed_in, to)


async def invitation(page: PageRequest) -> Response:
    """Choose a password with an invitation."""
    code = page.request.path_params["invitation"]
    person = await page.do(sign_in_service.invited_person, page.office, code)
    if page.request.method == "GET":
        return await show_form(page, "invitation.html", person=person)
    form = await open_form(page)
    try:
        signed_in = await page.do(
            sign_in_service.accept_invitation, page.office, invitation=code, password=form.secret("password")
        )
    except Error as error:
        return await show_form(page, "invitation.html", error=error, person=person)
    return _enter(signed_in, "/me?said=welcome")


async def sign_out(page: PageRequest) -> Response:
    """End the session."""
    form = await page.form()
    await page.do(sign_in_service.sign_out, page.office, page.who, everywhere=form.text("everywhere") == "yes")
    response = redirect("/sign-in")
    response.delete_cookie(SESSION_COOKIE, secure=True, httponly=True, samesite="strict", path="/")
    return response


async def me(page: PageRequest) -> Response:
    """One's own password and authenticator."""
    if page.request.method == "GET":
        return await _show_me(page)
    form = await page.form()
    try:
        match form.text("do"):
            case "password":
                await page.do(
                    sign_in_service.change_password,
                    page.office,
                    page.who,
                    old=form.secret("old"),
                    code=form.text("old_code"),
                    new=form.secret("password"),
                    address=page.address,
                )
            case "authenticator":
                await page.do(
                    sign_in_service.confirm_totp,
                    page.office,
                    page.who,
                    secret=form.text("secret"),
                    code=form.text("code"),
                    password=form.secret("old"),
                    old_code=form.text("old_code"),
                    address=page.address,
                )
            case "no-authenticator":
                await page.do(
                    sign_in_service.stop_totp,
                    page.office,
                    page.who,
                    password=form.secret("old"),
                    code=form.text("old_code"),
                    address=page.address,
                )
            case _:
                raise OfficeError("form-stale", expected=_("a form of this page"), seen=_("another one"))
    except Error as error:
        return await _show_me(page, error=error, secret=form.text("secret")[:64])
    return redirect("/me?said=saved")


async def _show_me(page: PageRequest, *, error: Error | None = None, secret: str = "") -> Response:
    person = page.who.person
    if len(secret) != 32 or not secret.isascii() or not secret.isalnum():
        secret = sign_in_service.new_totp_secret(page.office)
    address = people.totp_address(secret, email=person.email, issuer=page.office.signer.keyset.issuer)
    document = problem_page(error) if error else None
    return await page.show(
        "me.html",
        document=document,
        person=person,
        secret=secret,
        picture=_picture(address),
    )


def _picture(address: str) -> Markup:
    """The address as a QR code: an inline SVG without styles."""
    out = BytesIO()
    segno.make(address, error="m").save(
        out,
        kind="svg",
        xmldecl=False,
        svgns=False,
        omitsize=True,
        border=2,
        svgclass="qr",
        lineclass="qr-line",
        light="white",
    )
    return Markup(out.getvalue().decode())  # noqa: S704 - drawn by segno from its own numbers


def _enter(signed_in: NewSession, to: str) -> Response:
    if signed_in.needs_code:
        return set_session(redirect(f"/sign-in/code?to={quote(to, safe='')}"), signed_in.secret)
    response = set_session(redirect(to), signed_in.secret)
    if signed_in.known is not None:
        response.set_cookie(
            KNOWN_COOKIE,
            signed_in.known,
            max_age=people.KNOWN_SECONDS,
            secure=True,
            httponly=True,
            samesite="strict",
            path="/",
        )
    return response


def _origin(page: PageRequest) -> Origin:
    return Origin(address=page.address, known=page.request.cookies.get(KNOWN_COOKIE, "")[:100])
