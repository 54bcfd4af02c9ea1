"""Field servers: the list, one of them, what a person decides about it; open returns."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.activation.core.ports import Status
from tallystick.activation.http.portal.base import PAGE_ROWS, Form, PageRequest, download, redirect
from tallystick.activation.http.portal.forms import check_device, check_named
from tallystick.activation.services import OfficeError, field_servers, history
from tallystick.sentences import _

DAY_SECONDS: Final = 86_400


async def list_page(page: PageRequest) -> Response:
    """Search."""
    status = page.asked("status")
    after = page.asked("after")
    found = await page.do(
        field_servers.find_field_servers,
        page.office,
        page.who.caller,
        text=page.asked("text", 128),
        status=Status(status) if status in set(Status) else None,
        after=after,
        limit=PAGE_ROWS + 1,
    )
    return await page.show(
        "field_servers.html",
        servers=found[:PAGE_ROWS],
        text=page.asked("text", 128),
        status=status,
        statuses=[("", _("any"))] + [(known.value, known.value) for known in Status],
        next_after=found[PAGE_ROWS - 1].device_id if len(found) > PAGE_ROWS else "",
        is_filtered=bool(page.asked("text") or status or after),
    )


async def one_page(page: PageRequest) -> Response:
    """What it holds, its history, and what can be done."""
    caller, office = page.who.caller, page.office
    device_id = page.request.path_params["device_id"]
    server = await page.do(field_servers.load_field_server, office, caller, device_id)
    events, older = await page.do(
        history.find_history, office, caller, device_id, before=page.asked("history"), limit=PAGE_ROWS
    )
    rights = sum(kept.held + kept.returning for kept in server.licenses)
    return await page.show(
        "field_server.html",
        server=server,
        events=events,
        older=older,
        rights=rights,
        policy=office.policy,
        until=office.clock() + office.policy.waiting_days * DAY_SECONDS,
    )


async def start_return(page: PageRequest) -> Response:
    """Start a return of everything: a message to carry."""
    device_id, _other = await _sent(page)
    started = await page.do(field_servers.start_return, page.office, page.who.caller, device_id, once=None)
    return download(started.file.encode(), f"return-{device_id[:12]}.tally")


async def declare_lost(page: PageRequest) -> Response:
    """Declare a dead one lost."""
    device_id, form = await _sent(page)
    reason = _sure_reason(form)
    override = form.text("override") == "yes"
    await page.do(field_servers.declare_lost, page.office, page.who.caller, device_id, reason=reason, override=override)
    return _done(device_id)


async def hold(page: PageRequest) -> Response:
    """Put it on hold."""
    device_id, form = await _sent(page)
    reason = check_named(form.text("reason"), _("a reason"))
    await page.do(field_servers.hold, page.office, page.who.caller, device_id, reason=reason)
    return _done(device_id)


async def release(page: PageRequest) -> Response:
    """End a hold."""
    device_id, _other = await _sent(page)
    await page.do(field_servers.release, page.office, page.who.caller, device_id)
    return _done(device_id)


async def retire(page: PageRequest) -> Response:
    """Take one that holds nothing out of service."""
    device_id, _other = await _sent(page)
    await page.do(field_servers.retire, page.office, page.who.caller, device_id)
    return _done(device_id)


async def replace(page: PageRequest) -> Response:
    """Declare it lost and set another one to what it held: a message to carry."""
    device_id, form = await _sent(page)
    reason = _sure_reason(form)
    by_device = check_device(form.text("by"))
    started = await page.do(
        field_servers.replace_field_server,
        page.office,
        page.who.caller,
        device_id,
        by_device=by_device,
        reason=reason,
        once=None,
    )
    return download(started.file.encode(), f"change-{by_device[:12]}.tally")


async def _sent(page: PageRequest) -> tuple[str, Form]:
    """Which field server, and the form about it, checked."""
    return str(page.request.path_params["device_id"]), await page.form()


def _sure_reason(form: Form) -> str:
    reason = check_named(form.text("reason"), _("a reason"))
    if form.text("sure") != "yes":
        raise OfficeError("not-sure", expected=_("that you have read what follows, and ticked it"), seen=_("no tick"))
    return reason


def _done(device_id: str) -> Response:
    return redirect(f"/field-servers/{device_id}?said=done")


async def returns_page(page: PageRequest) -> Response:
    """Open returns, oldest first."""
    after = page.asked("after").split(".")
    place = (
        (int(after[0]), after[1], after[2]) if len(after) == 3 and after[0].isdigit() and len(after[0]) < 13 else None
    )
    found = await page.do(
        field_servers.find_open_returns, page.office, page.who.caller, after=place, limit=PAGE_ROWS + 1
    )
    last = found[PAGE_ROWS - 1] if len(found) > PAGE_ROWS else None
    return await page.show(
        "returns.html",
        returns=found[:PAGE_ROWS],
        next_after=f"{last.since_at}.{last.device_id}.{last.line}" if last else "",
    )
