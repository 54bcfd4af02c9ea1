"""Entitlements and their lines: the list, new ones, one of them, the terms of a line."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import PAGE_ROWS, Form, PageRequest, cursor_parts, download, redirect
from tallystick.activation.http.portal.forms import check_account, parse_day
from tallystick.activation.services import catalog, entitlements, ledger, people
from tallystick.activation.services.home import DAY_SECONDS, SOON_DAYS
from tallystick.activation.services.schemas import RevealedEntitlement
from tallystick.errors import Error
from tallystick.protocol.problems import problem_document
from tallystick.sentences import _

_LINES_OF_FORM: Final = 6


async def list_page(page: PageRequest) -> Response:
    """Entitlements with their lines, newest first."""
    place = cursor_parts(page.asked("before"), 2)
    account = page.asked("account", 128)
    found = await page.do(
        entitlements.find_entitlements,
        page.office,
        page.who.caller,
        account=account or None,
        before=(int(place[0]), place[1]) if place else None,
        limit=PAGE_ROWS + 1,
    )
    last = found[PAGE_ROWS - 1] if len(found) > PAGE_ROWS else None
    return await page.show(
        "entitlements.html",
        entitlements=found[:PAGE_ROWS],
        account=account,
        next_before=f"{last.created_at}.{last.entitlement}" if last else "",
    )


async def new_page(page: PageRequest) -> Response:
    """Create an entitlement."""
    caller, office = page.who.caller, page.office
    caller.check(Permission.SELL)
    names = [
        *("account", "expires", "new_account"),
        *(f"{name}{row}" for row in range(_LINES_OF_FORM) for name in ("sku", "quantity")),
    ]
    if page.request.method == "GET":
        return await _show_new(page, dict.fromkeys(names, ""))
    form = await page.form()
    try:
        made = await page.do(
            entitlements.create_entitlement,
            office,
            caller,
            account=check_account(form.text("account")),
            products=_products(form),
            expires_at=parse_day(form.text("expires")),
            once=None,
            is_new_account=form.text("new_account") == "yes",
        )
    except Error as error:
        return await _show_new(page, {name: form.text(name)[:200] for name in names}, error=error)
    return redirect(f"/entitlements/{made.entitlement}?said=created")


def _products(form: Form) -> list[tuple[str, int]]:
    return [
        (form.text(f"sku{row}"), form.whole(f"quantity{row}"))
        for row in range(_LINES_OF_FORM)
        if form.text(f"sku{row}")
    ]


async def _show_new(page: PageRequest, sent: dict[str, str], *, error: Error | None = None) -> Response:
    document = problem_document(error) if error else None
    accounts = await page.do(people.find_accounts, page.office, page.who.caller, after="", limit=200)
    return await page.show(
        "entitlement_new.html",
        document=document,
        sent=sent,
        rows=range(_LINES_OF_FORM),
        accounts=[account.account for account in accounts],
        catalog=await page.do(catalog.load_catalog, page.office, page.who.caller),
    )


async def one_page(page: PageRequest) -> Response:
    """One entitlement."""
    found = await page.do(
        entitlements.load_entitlement, page.office, page.who.caller, page.request.path_params["entitlement_id"]
    )
    return await page.show("entitlement.html", entitlement=found, revealed=None)


async def certificate_file(page: PageRequest) -> Response:
    """Its certificate, to download."""
    await page.form()
    called = page.request.path_params["entitlement_id"]
    file, reference = await page.do(entitlements.certificate, page.office, page.who.caller, called)
    return download(file, f"{reference}.tally")


async def reveal_page(page: PageRequest) -> Response:
    """Its IDs, shown; who did stands in the audit trail."""
    await page.form()
    called = page.request.path_params["entitlement_id"]
    revealed = await page.do(entitlements.reveal_entitlement, page.office, page.who.caller, called)
    return await _show_revealed(page, revealed)


async def rotate_page(page: PageRequest) -> Response:
    """Other IDs; the earlier ones open nothing any more."""
    await page.form()
    called = page.request.path_params["entitlement_id"]
    revealed = await page.do(entitlements.rotate_entitlement, page.office, page.who.caller, called, once=None)
    return await _show_revealed(page, revealed)


async def _show_revealed(page: PageRequest, revealed: RevealedEntitlement) -> Response:
    found = await page.do(entitlements.load_entitlement, page.office, page.who.caller, revealed.entitlement)
    return await page.show("entitlement.html", entitlement=found, revealed=revealed)


LINES_SHOWN: Final = {"": _("any"), "used-up": _("used up"), "expiring": _("expiring or expired")}


async def lines_page(page: PageRequest) -> Response:
    """Lines by id: all, or those that Home counts."""
    shown, account, after = page.asked("show"), page.asked("account", 128), page.asked("after")
    now = page.office.clock()
    found = await page.do(
        entitlements.find_lines,
        page.office,
        page.who.caller,
        account=account or None,
        is_used_up=shown == "used-up",
        expires_before=now + SOON_DAYS * DAY_SECONDS if shown == "expiring" else None,
        after=after,
        limit=PAGE_ROWS + 1,
    )
    return await page.show(
        "lines.html",
        lines=found[:PAGE_ROWS],
        shown=shown,
        choices=LINES_SHOWN,
        account=account,
        next_after=found[PAGE_ROWS - 1].line if len(found) > PAGE_ROWS else "",
        now=now,
    )


async def line_page(page: PageRequest) -> Response:
    """One line: where its rights are, who holds what, its history; and its terms."""
    line_id = page.request.path_params["line_id"]
    if page.request.method == "GET":
        return await _show_line(page, line_id)
    form = await page.form()
    try:
        change = LineChange(
            quantity=form.whole("quantity"),
            has_expiry=True,
            expires_at=await _expiry(page, line_id, form),
            is_bought=form.text("is_bought") == "yes",
            suspended=form.text("suspended") == "yes",
        )
        await page.do(
            entitlements.change_line,
            page.office,
            page.who.caller,
            line_id,
            change,
            version=form.text("version") or "none",
        )
    except Error as error:
        if error.code == "not-found":
            raise
        return await _show_line(page, line_id, error=error)
    return redirect(f"/lines/{line_id}?said=saved")


async def _expiry(page: PageRequest, line_id: str, form: Form) -> int | None:
    """The moment that a day means; the same day as before leaves the moment as it was."""
    expires_at = parse_day(form.text("expires"))
    before = (await page.do(entitlements.load_line, page.office, page.who.caller, line_id)).expires_at
    same = before is not None and expires_at is not None and before // 86_400 == expires_at // 86_400
    return before if same else expires_at


async def _show_line(page: PageRequest, line_id: str, *, error: Error | None = None) -> Response:
    caller, office = page.who.caller, page.office
    found = await page.do(entitlements.load_line, office, caller, line_id)
    document = problem_document(error) if error else None
    holders = await page.do(
        entitlements.find_holders, office, caller, line_id, after=page.asked("holders", 43), limit=PAGE_ROWS + 1
    )
    return await page.show(
        "line.html",
        document=document,
        line=found,
        holders=holders[:PAGE_ROWS],
        next_holders=holders[PAGE_ROWS - 1].device_id if len(holders) > PAGE_ROWS else "",
        entries=await page.do(ledger.find_entries, office, caller, line_id=line_id, limit=PAGE_ROWS),
    )
