"""Webhooks: whose programs are notified of what happens, what was sent to them, and what to do when it was not taken."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.activation.core.permissions import Permission
from tallystick.activation.core.ports import EventKind
from tallystick.activation.http.portal.base import PAGE_ROWS, Form, PageRequest, redirect
from tallystick.activation.http.portal.forms import check_account
from tallystick.activation.services import OfficeError, webhooks
from tallystick.activation.services.schemas import NewWebhook
from tallystick.activation.services.webhooks import WebhookChange
from tallystick.activation.storage.events import DeliveryState
from tallystick.errors import Error
from tallystick.protocol.problems import problem_document
from tallystick.sentences import _


async def list_page(page: PageRequest) -> Response:
    """All of them, and a new one."""
    page.who.caller.check(Permission.WEBHOOKS)
    if page.request.method == "GET":
        return await _show_all(page)
    form = await page.form()
    try:
        made = await page.do(
            webhooks.create_webhook,
            page.office,
            page.who.caller,
            url=form.text("url"),
            account=check_account(form.text("account")) if form.text("account") else None,
            kinds=_kinds(form),
            after=None,
            once=None,
        )
    except Error as error:
        return await _show_all(page, sent=form, error=error)
    return await _show_all(page, made=made)


async def _show_all(
    page: PageRequest, *, sent: Form | None = None, error: Error | None = None, made: NewWebhook | None = None
) -> Response:
    found = await page.do(
        webhooks.find_webhooks, page.office, page.who.caller, after=page.asked("after"), limit=PAGE_ROWS + 1
    )
    shown = found[:PAGE_ROWS]
    return await page.show(
        "webhooks.html",
        document=problem_document(error) if error else None,
        webhooks=shown,
        open=await page.do(webhooks.count_open, page.office, page.who.caller, [hook.webhook_id for hook in shown]),
        made=made,
        url=sent.text("url")[:2000] if sent else "",
        account=sent.text("account")[:128] if sent else "",
        kinds=list(EventKind),
        chosen=sent.texts("kinds") if sent else (),
        next_after=shown[-1].webhook_id if len(found) > PAGE_ROWS else "",
    )


async def one_page(page: PageRequest) -> Response:
    """One: its deliveries, and what can be changed about it."""
    page.who.caller.check(Permission.WEBHOOKS)
    webhook_id = page.request.path_params["webhook_id"]
    if page.request.method == "GET":
        return await _show_one(page, webhook_id)
    form = await page.form()
    change = WebhookChange(url=form.text("url"), kinds=_kinds(form))
    return await _change(page, webhook_id, form, change)


async def pause(page: PageRequest) -> Response:
    """Nothing is sent until it goes on."""
    webhook_id, form = await _sent(page)
    return await _change(page, webhook_id, form, WebhookChange(is_enabled=False))


async def go_on(page: PageRequest) -> Response:
    """Send again what is waiting, and go on."""
    webhook_id, form = await _sent(page)
    return await _change(page, webhook_id, form, WebhookChange(is_enabled=True))


async def retry(page: PageRequest) -> Response:
    """Try one delivery again now, or all that failed."""
    webhook_id, form = await _sent(page)
    if form.text("position"):
        await page.do(webhooks.retry_delivery, page.office, page.who.caller, webhook_id, form.whole("position"))
    else:
        await page.do(webhooks.retry_all, page.office, page.who.caller, webhook_id)
    return _again(webhook_id)


async def replay(page: PageRequest) -> Response:
    """Send every event again, from a position on."""
    webhook_id, form = await _sent(page)
    await page.do(webhooks.replay, page.office, page.who.caller, webhook_id, after=form.whole("after"))
    return _again(webhook_id)


async def rotate_secret(page: PageRequest) -> Response:
    """A new secret, shown once."""
    webhook_id, _other = await _sent(page)
    made = await page.do(webhooks.rotate_secret, page.office, page.who.caller, webhook_id, once=None)
    return await _show_one(page, webhook_id, made=made)


async def remove(page: PageRequest) -> Response:
    """Remove it, with what waits for it."""
    webhook_id, form = await _sent(page)
    if form.text("sure") != "yes":
        raise OfficeError("not-sure", expected=_("that you have read what follows, and ticked it"), seen=_("no tick"))
    await page.do(webhooks.remove_webhook, page.office, page.who.caller, webhook_id)
    return redirect("/webhooks?said=removed")


async def _sent(page: PageRequest) -> tuple[str, Form]:
    """Which webhook, and the form about it, checked."""
    page.who.caller.check(Permission.WEBHOOKS)
    return str(page.request.path_params["webhook_id"]), await page.form()


def _again(webhook_id: str) -> Response:
    return redirect(f"/webhooks/{webhook_id}?said=again")


async def _change(page: PageRequest, webhook_id: str, form: Form, change: WebhookChange) -> Response:
    version = form.text("version") or "none"
    try:
        await page.do(webhooks.change_webhook, page.office, page.who.caller, webhook_id, change, version=version)
    except Error as error:
        if error.code == "not-found":
            raise
        return await _show_one(page, webhook_id, error=error)
    return redirect(f"/webhooks/{webhook_id}?said=saved")


async def _show_one(
    page: PageRequest, webhook_id: str, *, error: Error | None = None, made: NewWebhook | None = None
) -> Response:
    caller, office = page.who.caller, page.office
    state, before = page.asked("state"), page.asked("before")
    found = await page.do(
        webhooks.find_deliveries,
        office,
        caller,
        webhook_id,
        state=DeliveryState(state) if state in set(DeliveryState) else None,
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None,
        limit=PAGE_ROWS + 1,
    )
    shown = found[:PAGE_ROWS]
    return await page.show(
        "webhook.html",
        document=problem_document(error) if error else None,
        webhook=await page.do(webhooks.load_webhook, office, caller, webhook_id),
        open=(await page.do(webhooks.count_open, office, caller, [webhook_id])).get(webhook_id, {}),
        deliveries=shown,
        made=made,
        kinds=list(EventKind),
        state=state,
        states=[("", _("any"))] + [(known.value, known.value) for known in DeliveryState],
        is_filtered=bool(state or before),
        next_before=shown[-1].position if len(found) > PAGE_ROWS else "",
        now=office.clock(),
    )


def _kinds(form: Form) -> list[EventKind]:
    try:
        return [EventKind(kind) for kind in form.texts("kinds")]
    except ValueError:
        raise OfficeError("event-kind-unknown", expected=_("kinds of the list"), seen=_("another one")) from None
