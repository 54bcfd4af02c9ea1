"""People and tokens: the list, one person."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.activation.core.permissions import GIVES, Permission, Role
from tallystick.activation.http.portal.base import PAGE_ROWS, ROLE_NAMES, Form, PageRequest, redirect
from tallystick.activation.http.portal.forms import check_account, check_device, check_named, parse_role
from tallystick.activation.services import OfficeError, people, sign_in
from tallystick.activation.services.people import PersonChange
from tallystick.errors import Error
from tallystick.protocol.problems import problem_document
from tallystick.sentences import _


async def list_page(page: PageRequest) -> Response:
    """People and tokens: who there is, and new ones."""
    page.who.caller.check(Permission.PEOPLE)
    if page.request.method == "GET":
        return await _show_list(page)
    caller, office = page.who.caller, page.office
    form = await page.form()
    try:
        await check_again(page, form)
        role = parse_role(form.text("role"))
        account = caller.scope.account or (check_account(form.text("account")) if form.text("account") else None)
        if form.text("do") == "person":
            made = await page.do(
                people.invite_person,
                office,
                caller,
                email=form.text("email"),
                name=check_named(form.text("name"), _("a name")),
                role=role,
                account=account,
                once=None,
            )
            return await _show_list(page, invitation=made.invitation, who=made.email)
        token = await page.do(
            people.create_token,
            office,
            caller,
            name=check_named(form.text("name"), _("a name")),
            role=role,
            account=account,
            days=_days(form),
            is_read_only=form.text("is_read_only") == "yes",
            devices=[check_device(device) for device in form.text("devices").split()],
            once=None,
        )
        return await _show_list(page, token=token.token, who=token.name)
    except Error as error:
        return await _show_list(page, error=error)


async def check_again(page: PageRequest, form: Form) -> None:
    """Before somebody else gets a way in: a stolen session is not enough."""
    await page.do(
        sign_in.check_again,
        page.office,
        page.who,
        password=form.secret("own_password"),
        code=form.text("own_code"),
        address=page.address,
    )


def _days(form: Form) -> int:
    days = form.whole("days")
    if not 1 <= days <= 366:
        raise OfficeError("quantity-wrong", expected=_("1 to 366 days"), seen=str(days))
    return days


async def _show_list(
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
    found = await page.do(people.find_people, office, caller, after=people_after, limit=PAGE_ROWS + 1)
    tokens = await page.do(people.find_tokens, office, caller, after=tokens_after, limit=PAGE_ROWS + 1)
    given = [role for role in Role if role in GIVES.get(caller.role, frozenset())]
    return await page.show(
        "people.html",
        document=document,
        people=found[:PAGE_ROWS],
        tokens=tokens[:PAGE_ROWS],
        next_people=found[PAGE_ROWS - 1].person_id if len(found) > PAGE_ROWS else "",
        next_tokens=tokens[PAGE_ROWS - 1].token_id if len(tokens) > PAGE_ROWS else "",
        person_roles=[(role.value, ROLE_NAMES[role]) for role in given if role is not Role.COURIER],
        token_roles=[(role.value, ROLE_NAMES[role]) for role in given],
        invitation=invitation,
        token=token,
        who=who,
        now=office.clock(),
        base=page.public_url,
    )


async def one_page(page: PageRequest) -> Response:
    """One person: name, role, may sign in or not, a new invitation."""
    caller, office = page.who.caller, page.office
    person_id = page.request.path_params["person_id"]
    document, invitation = None, None
    if page.request.method == "POST":
        form = await page.form()
        try:
            if form.text("do") == "invite":
                await check_again(page, form)
                invitation = (await page.do(people.invite_again, office, caller, person_id, once=None)).invitation
            else:
                change = PersonChange(
                    name=check_named(form.text("name"), _("a name")),
                    role=parse_role(form.text("role")),
                    is_active=form.text("is_active") == "yes",
                )
                version = form.text("version") or "none"
                await page.do(people.change_person, office, caller, person_id, change, version=version)
                return redirect(f"/people/{person_id}?said=saved")
        except Error as error:
            if error.code == "not-found":
                raise
            document = problem_document(error)
    found = await page.do(people.load_person, office, caller, person_id)
    given = [role for role in Role if role in GIVES.get(caller.role, frozenset()) and role is not Role.COURIER]
    return await page.show(
        "person.html",
        document=document,
        person=found,
        roles=[(role.value, ROLE_NAMES[role]) for role in given],
        invitation=invitation,
        base=page.public_url,
    )


async def revoke(page: PageRequest) -> Response:
    """End a token."""
    await page.form()
    await page.do(people.revoke_token, page.office, page.who.caller, page.request.path_params["token_id"])
    return redirect("/people?said=saved")
