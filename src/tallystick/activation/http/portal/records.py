"""What was bought and what was done: entitlements, lines, catalog, ledger, people, tokens, the audit trail."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final

from starlette.responses import Response, StreamingResponse

from tallystick.activation.core import catalog_file
from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.permissions import GIVES, Permission, Role
from tallystick.activation.http.portal.base import ROLE_NAMES, Form, PageRequest, redirect
from tallystick.activation.http.portal.forms import (
    check_account,
    check_device,
    check_line,
    check_named,
    parse_day,
    parse_role,
)
from tallystick.activation.services import (
    OfficeError,
    field_servers,
)
from tallystick.activation.services import (
    entitlements as entitlements_service,
)
from tallystick.activation.services import (
    people as people_service,
)
from tallystick.activation.services.people import PersonChange
from tallystick.activation.services.schemas import EntryDocument
from tallystick.errors import Error
from tallystick.pages import PAGE_HEADERS
from tallystick.protocol.problems import problem_document
from tallystick.protocol.tallyfile import MEDIA_TYPE

_PAGE: Final = 50
_CSV_PAGE: Final = 1000
_LINES_OF_FORM: Final = 6
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def _place(text: str, parts: int) -> list[str] | None:
    """The parts of a cursor; None where it is none of ours: then the list begins at its beginning."""
    found = text.split(".", parts - 1)
    return found if len(found) == parts and found[0].isascii() and found[0].isdigit() and len(found[0]) < 13 else None


# Entitlements and lines


async def entitlements(page: PageRequest) -> Response:
    """Entitlements with their lines, newest first."""
    place = _place(page.asked("before"), 2)
    account = page.asked("account", 128)
    found = await page.do(
        entitlements_service.find_entitlements,
        page.office,
        page.who.caller,
        account=account or None,
        before=(int(place[0]), place[1]) if place else None,
        limit=_PAGE + 1,
    )
    last = found[_PAGE - 1] if len(found) > _PAGE else None
    return await page.show(
        "entitlements.html",
        entitlements=found[:_PAGE],
        account=account,
        next_before=f"{last.created_at}.{last.entitlement_id}" if last else "",
    )


async def new_entitlement(page: PageRequest) -> Response:
    """Create an entitlement."""
    caller, office = page.who.caller, page.office
    caller.check(Permission.SELL)
    names = [
        *("account", "expires", "new_account"),
        *(f"{name}{row}" for row in range(_LINES_OF_FORM) for name in ("sku", "quantity")),
    ]
    if page.request.method == "GET":
        return await _show_new_entitlement(page, dict.fromkeys(names, ""))
    form = await page.form()
    try:
        made = await page.do(
            entitlements_service.create_entitlement,
            office,
            caller,
            account=check_account(form.text("account")),
            products=_products(form),
            expires_at=parse_day(form.text("expires")),
            once=None,
            is_new_account=form.text("new_account") == "yes",
        )
    except Error as error:
        return await _show_new_entitlement(page, {name: form.text(name)[:200] for name in names}, error=error)
    return redirect(f"/entitlements/{made.entitlement_id}?said=created")


def _products(form: Form) -> list[tuple[str, int]]:
    return [
        (form.text(f"sku{row}"), form.whole(f"quantity{row}"))
        for row in range(_LINES_OF_FORM)
        if form.text(f"sku{row}")
    ]


async def _show_new_entitlement(page: PageRequest, sent: dict[str, str], *, error: Error | None = None) -> Response:
    document = problem_document(error) if error else None
    accounts = await page.do(people_service.find_accounts, page.office, page.who.caller, after="", limit=200)
    return await page.show(
        "new_entitlement.html",
        document=document,
        sent=sent,
        rows=range(_LINES_OF_FORM),
        accounts=[account.account for account in accounts],
        catalog=await page.do(entitlements_service.load_catalog, page.office, page.who.caller),
    )


async def entitlement(page: PageRequest) -> Response:
    """One entitlement."""
    found = await page.do(
        entitlements_service.load_entitlement, page.office, page.who.caller, page.request.path_params["entitlement_id"]
    )
    return await page.show("entitlement.html", entitlement=found)


async def certificate(page: PageRequest) -> Response:
    """Its certificate, to download."""
    entitlement_id = page.request.path_params["entitlement_id"]
    file = await page.do(entitlements_service.certificate, page.office, page.who.caller, entitlement_id)
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{entitlement_id[:11]}.tally"'}
    return Response(file, media_type=MEDIA_TYPE, headers=headers)


async def line(page: PageRequest) -> Response:
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
            entitlements_service.change_line,
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
    before = (await page.do(entitlements_service.load_line, page.office, page.who.caller, line_id)).expires_at
    same = before is not None and expires_at is not None and before // 86_400 == expires_at // 86_400
    return before if same else expires_at


async def _show_line(page: PageRequest, line_id: str, *, error: Error | None = None) -> Response:
    caller, office = page.who.caller, page.office
    found = await page.do(entitlements_service.load_line, office, caller, line_id)
    document = problem_document(error) if error else None
    holders = await page.do(
        entitlements_service.find_holders, office, caller, line_id, after=page.asked("holders", 43), limit=_PAGE + 1
    )
    return await page.show(
        "line.html",
        document=document,
        line=found,
        holders=holders[:_PAGE],
        next_holders=holders[_PAGE - 1].device_id if len(holders) > _PAGE else "",
        entries=await page.do(field_servers.find_entries, office, caller, line_id=line_id, limit=_PAGE),
    )


async def catalog(page: PageRequest) -> Response:
    """Kinds and products; an administrator loads a catalog as in the file."""
    caller, office = page.who.caller, page.office
    document = None
    text = ""
    if page.request.method == "POST":
        form = await page.form()
        text = form.secret("catalog")
        try:
            caller.check(Permission.CATALOG)
            read = await page.do(catalog_file.parse_catalog, text.encode("utf-8", "replace"))
            await page.do(
                entitlements_service.save_catalog, office, caller, read, version=form.text("version") or "none"
            )
            return redirect("/catalog?said=saved")
        except Error as error:
            document = problem_document(error)
    return await page.show(
        "catalog.html",
        document=document,
        text=text,
        catalog=await page.do(entitlements_service.load_catalog, office, caller),
    )


# The ledger


def _filters(page: PageRequest) -> dict[str, object]:
    asked_line, asked_device = page.asked("line"), page.asked("device")
    until_at = parse_day(page.asked("until"))
    return {
        "line_id": check_line(asked_line) if asked_line else None,
        "device_id": check_device(asked_device) if asked_device else None,
        "since_at": parse_day(page.asked("since"), is_end=False),
        "until_at": None if until_at is None else until_at + 1,
    }


async def ledger(page: PageRequest) -> Response:
    """Rights that moved, newest first."""
    page.who.caller.check(Permission.READ)
    document, found = None, []
    place = _place(page.asked("before"), 3)
    before = (int(place[0]), place[1], int(place[2])) if place and place[2].isdigit() and len(place[2]) < 16 else None
    try:
        found = await page.do(
            field_servers.find_entries, page.office, page.who.caller, before=before, limit=_PAGE + 1, **_filters(page)
        )
    except Error as error:
        document = problem_document(error)
    last = found[_PAGE - 1] if len(found) > _PAGE else None
    asked = {name: page.asked(name, 60) for name in ("line", "device", "since", "until")}
    return await page.show(
        "ledger.html",
        document=document,
        entries=found[:_PAGE],
        asked=asked,
        next_before=f"{last.booked_at}.{last.line}.{last.number}" if last else "",
    )


async def ledger_csv(page: PageRequest) -> Response:
    """The same as CSV, all of it."""
    caller, office = page.who.caller, page.office
    caller.check(Permission.READ)
    filters = _filters(page)

    def rows() -> Iterator[str]:
        yield _csv_row(list(EntryDocument.model_fields))
        before: tuple[int, str, int] | None = None
        while True:
            found = field_servers.find_entries(office, caller, before=before, limit=_CSV_PAGE, **filters)  # type: ignore[arg-type]  # as _filters makes them
            yield "".join(_csv_row(list(entry.model_dump(mode="json").values())) for entry in found)
            if len(found) < _CSV_PAGE:
                return
            before = (found[-1].booked_at, found[-1].line, found[-1].number)

    headers = {**PAGE_HEADERS, "Content-Disposition": 'attachment; filename="ledger.csv"'}
    return StreamingResponse(rows(), media_type="text/csv; charset=utf-8", headers=headers)


def _csv_row(values: list[object]) -> str:
    """One row. A text that a spreadsheet would take for a formula is marked as text."""
    texts = ["" if value is None else str(value) for value in values]
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n").writerow(
        [
            f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
            for value, text in zip(values, texts, strict=True)
        ]
    )
    return out.getvalue()


# People, tokens, the trail


async def people(page: PageRequest) -> Response:
    """People and tokens: who there is, and new ones."""
    page.who.caller.check(Permission.PEOPLE)
    if page.request.method == "GET":
        return await _show_people(page)
    caller, office = page.who.caller, page.office
    form = await page.form()
    try:
        role = parse_role(form.text("role"))
        account = caller.scope.account or (check_account(form.text("account")) if form.text("account") else None)
        if form.text("do") == "person":
            made = await page.do(
                people_service.invite_person,
                office,
                caller,
                email=form.text("email"),
                name=check_named(form.text("name"), "a name"),
                role=role,
                account=account,
                once=None,
            )
            return await _show_people(page, invitation=made.invitation, who=made.email)
        token = await page.do(
            people_service.create_token,
            office,
            caller,
            name=check_named(form.text("name"), "a name"),
            role=role,
            account=account,
            days=_days(form),
            is_read_only=form.text("is_read_only") == "yes",
            devices=[check_device(device) for device in form.text("devices").split()],
            once=None,
        )
        return await _show_people(page, token=token.token, who=token.name)
    except Error as error:
        return await _show_people(page, error=error)


def _days(form: Form) -> int:
    days = form.whole("days")
    if not 1 <= days <= 366:
        raise OfficeError("quantity-wrong", expected="1 to 366 days", seen=str(days))
    return days


async def _show_people(
    page: PageRequest,
    *,
    error: Error | None = None,
    invitation: str | None = None,
    token: str | None = None,
    who: str = "",
) -> Response:
    caller, office = page.who.caller, page.office
    document = problem_document(error) if error else None
    people_after, tokens_after = page.asked("people"), page.asked("tokens")
    found = await page.do(people_service.find_people, office, caller, after=people_after, limit=_PAGE + 1)
    tokens = await page.do(people_service.find_tokens, office, caller, after=tokens_after, limit=_PAGE + 1)
    given = [role for role in Role if role in GIVES.get(caller.role, frozenset())]
    return await page.show(
        "people.html",
        document=document,
        people=found[:_PAGE],
        tokens=tokens[:_PAGE],
        next_people=found[_PAGE - 1].person_id if len(found) > _PAGE else "",
        next_tokens=tokens[_PAGE - 1].token_id if len(tokens) > _PAGE else "",
        person_roles=[(role.value, ROLE_NAMES[role]) for role in given if role is not Role.COURIER],
        token_roles=[(role.value, ROLE_NAMES[role]) for role in given],
        invitation=invitation,
        token=token,
        who=who,
        now=office.clock(),
        base=str(page.request.base_url).rstrip("/"),
    )


async def person(page: PageRequest) -> Response:
    """One person: name, role, may sign in or not, a new invitation."""
    caller, office = page.who.caller, page.office
    person_id = page.request.path_params["person_id"]
    document, invitation = None, None
    if page.request.method == "POST":
        form = await page.form()
        try:
            if form.text("do") == "invite":
                invitation = (
                    await page.do(people_service.invite_again, office, caller, person_id, once=None)
                ).invitation
            else:
                change = PersonChange(
                    name=check_named(form.text("name"), "a name"),
                    role=parse_role(form.text("role")),
                    is_active=form.text("is_active") == "yes",
                )
                version = form.text("version") or "none"
                await page.do(people_service.change_person, office, caller, person_id, change, version=version)
                return redirect(f"/people/{person_id}?said=saved")
        except Error as error:
            if error.code == "not-found":
                raise
            document = problem_document(error)
    found = await page.do(people_service.load_person, office, caller, person_id)
    given = [role for role in Role if role in GIVES.get(caller.role, frozenset()) and role is not Role.COURIER]
    return await page.show(
        "person.html",
        document=document,
        person=found,
        roles=[(role.value, ROLE_NAMES[role]) for role in given],
        invitation=invitation,
        base=str(page.request.base_url).rstrip("/"),
    )


async def revoke(page: PageRequest) -> Response:
    """End a token."""
    await page.form()
    await page.do(people_service.revoke_token, page.office, page.who.caller, page.request.path_params["token_id"])
    return redirect("/people?said=saved")


async def trail(page: PageRequest) -> Response:
    """Who did what."""
    before = page.asked("before")
    number = int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None
    found = await page.do(people_service.find_records, page.office, page.who.caller, before=number, limit=_PAGE + 1)
    return await page.show(
        "trail.html",
        records=found[:_PAGE],
        next_before=found[_PAGE - 1].number if len(found) > _PAGE else "",
    )
