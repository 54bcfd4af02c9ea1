"""What people look at every day: home, the upload box, field servers, open returns, incidents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from tallystick.activation.core.permissions import Permission
from tallystick.activation.core.ports import IncidentKind, Status
from tallystick.activation.http.portal.base import Form, PageRequest, redirect
from tallystick.activation.http.portal.forms import check_device, check_named
from tallystick.activation.services import (
    OfficeError,
    entitlements,
    history,
    messages,
)
from tallystick.activation.services import (
    field_servers as field_servers_service,
)
from tallystick.pages import PAGE_HEADERS
from tallystick.protocol.tallyfile import MEDIA_TYPE

UPLOAD_BYTES_MAX: Final = 64 * 1024 * 1024
DRAIN_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
FILES_MAX: Final = 100
DAY_SECONDS: Final = 86_400
SOON_DAYS: Final = 30
RECENT_DAYS: Final = 7
_PIECE_BYTES: Final = 256 * 1024
_SHOWN: Final = 20
_PAGE: Final = 50


async def home(page: PageRequest) -> Response:
    """What needs attention."""
    caller, office = page.who.caller, page.office
    if not caller.may(Permission.READ):
        returns = await page.do(field_servers_service.find_open_returns, office, caller, limit=_SHOWN)
        return await page.show("home_technician.html", returns=returns)
    now = office.clock()
    soon = now + SOON_DAYS * DAY_SECONDS
    return await page.show(
        "home.html",
        returns=await page.do(field_servers_service.find_open_returns, office, caller, limit=_SHOWN),
        incidents=await page.do(
            field_servers_service.find_incidents, office, caller, since_at=now - RECENT_DAYS * DAY_SECONDS, limit=_SHOWN
        ),
        used_up=await page.do(entitlements.find_lines, office, caller, is_used_up=True, limit=_SHOWN),
        expiring=await page.do(entitlements.find_lines, office, caller, expires_before=soon, limit=_SHOWN),
        has_lines=bool(await page.do(entitlements.find_lines, office, caller, limit=1)),
        products=len((await page.do(entitlements.load_catalog, office, caller)).products),
        now=now,
    )


# The upload box


async def deliver(page: PageRequest) -> Response:
    """Any tally files, any mixture: what each message wanted and what became of it."""
    page.who.caller.check(Permission.DELIVER)
    if page.request.method == "GET":
        return await page.show("deliver.html", made=None)
    await check_length(page)
    async with page.request.form(max_files=FILES_MAX, max_fields=10) as data:
        form = Form(data)
        page.check_form(form.text("csrf"))
        files = [file for file in form.files("files") if file.filename or file.size]
        if not files:
            raise OfficeError("no-messages", expected="at least one tally file", seen="no file chosen")
        named = [((file.filename or "")[:128], _pieces(file)) for file in files]
        made = await page.do(messages.deliver, page.office, page.who.caller, named)
    return await page.show("deliver.html", made=made)


async def check_length(page: PageRequest) -> None:
    """Raises ``OfficeError`` for too long an upload, after reading it away: a browser shows no answer that comes before."""
    length = page.request.headers.get("content-length", "")
    if length.isdigit() and int(length) <= UPLOAD_BYTES_MAX:
        return
    seen_bytes = 0
    try:
        async for piece in page.request.stream():
            seen_bytes += len(piece)
            if seen_bytes > DRAIN_BYTES_MAX:
                break
    except ClientDisconnect:
        pass
    raise OfficeError(
        "body-too-large",
        expected=f"at most {UPLOAD_BYTES_MAX // 1024 // 1024} MiB at once; tally files are small, and larger ones go to POST /v1/messages",
        seen=f"{length or 'an unknown number of'} bytes",
    )


def _pieces(file: UploadFile) -> Iterator[bytes]:
    while piece := file.file.read(_PIECE_BYTES):
        yield piece


async def replies(page: PageRequest) -> Response:
    """The replies to some messages, as one file to download."""
    length = page.request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > UPLOAD_BYTES_MAX:
        raise OfficeError("body-too-large", expected="the form of the page before", seen=length or "no length")
    form = Form(await page.request.form(max_fields=500_000))
    page.check_form(form.text("csrf"))
    digests = form.text("digests").split()
    file = await page.do(messages.replies, page.office, page.who.caller, digests)
    return _download(file, "replies.tally")


def _download(file: bytes, name: str) -> Response:
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(file, media_type=MEDIA_TYPE, headers=headers)


# Field servers


async def field_servers(page: PageRequest) -> Response:
    """Search."""
    status = page.asked("status")
    after = page.asked("after")
    found = await page.do(
        field_servers_service.find_field_servers,
        page.office,
        page.who.caller,
        text=page.asked("text", 128),
        status=Status(status) if status in set(Status) else None,
        after=after,
        limit=_PAGE + 1,
    )
    return await page.show(
        "field_servers.html",
        servers=found[:_PAGE],
        text=page.asked("text", 128),
        status=status,
        statuses=[("", "any")] + [(known.value, known.value) for known in Status],
        next_after=found[_PAGE - 1].device_id if len(found) > _PAGE else "",
        is_filtered=bool(page.asked("text") or status or after),
    )


async def field_server(page: PageRequest) -> Response:
    """What it holds, its history, and what can be done."""
    caller, office = page.who.caller, page.office
    device_id = page.request.path_params["device_id"]
    server = await page.do(field_servers_service.load_field_server, office, caller, device_id)
    events, older = await page.do(
        history.find_history, office, caller, device_id, before=page.asked("history"), limit=_PAGE
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


async def act(page: PageRequest) -> Response:
    """Start a return, declare lost, hold, release, retire, replace."""
    caller, office = page.who.caller, page.office
    device_id = page.request.path_params["device_id"]
    form = await page.form()
    match page.request.path_params["act"]:
        case "return":
            started = await page.do(field_servers_service.start_return, office, caller, device_id, once=None)
            return _download(started.file.encode(), f"return-{device_id[:12]}.tally")
        case "lost":
            reason = check_named(form.text("reason"), "a reason")
            if form.text("sure") != "yes":
                raise OfficeError("not-sure", expected="that you have read what follows, and ticked it", seen="no tick")
            override = form.text("override") == "yes"
            await page.do(
                field_servers_service.declare_lost, office, caller, device_id, reason=reason, override=override
            )
        case "hold":
            reason = check_named(form.text("reason"), "a reason")
            await page.do(field_servers_service.hold, office, caller, device_id, reason=reason)
        case "release":
            await page.do(field_servers_service.release, office, caller, device_id)
        case "retire":
            await page.do(field_servers_service.retire, office, caller, device_id)
        case "replace":
            reason = check_named(form.text("reason"), "a reason")
            if form.text("sure") != "yes":
                raise OfficeError("not-sure", expected="that you have read what follows, and ticked it", seen="no tick")
            by_device = check_device(form.text("by"))
            started = await page.do(
                field_servers_service.replace_field_server,
                office,
                caller,
                device_id,
                by_device=by_device,
                reason=reason,
                once=None,
            )
            return _download(started.file.encode(), f"change-{by_device[:12]}.tally")
        case _:
            raise OfficeError("not-found", expected="something that can be done here", seen="another word")
    return redirect(f"/field-servers/{device_id}?said=done")


async def returns(page: PageRequest) -> Response:
    """Open returns, oldest first."""
    after = page.asked("after").split(".")
    place = (
        (int(after[0]), after[1], after[2]) if len(after) == 3 and after[0].isdigit() and len(after[0]) < 13 else None
    )
    found = await page.do(
        field_servers_service.find_open_returns, page.office, page.who.caller, after=place, limit=_PAGE + 1
    )
    last = found[_PAGE - 1] if len(found) > _PAGE else None
    return await page.show(
        "returns.html",
        returns=found[:_PAGE],
        next_after=f"{last.since_at}.{last.device_id}.{last.line}" if last else "",
    )


async def incidents(page: PageRequest) -> Response:
    """Incidents, newest first."""
    kind, before = page.asked("kind"), page.asked("before")
    found = await page.do(
        field_servers_service.find_incidents,
        page.office,
        page.who.caller,
        kind=IncidentKind(kind) if kind in set(IncidentKind) else None,
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None,
        limit=_PAGE + 1,
    )
    return await page.show(
        "incidents.html",
        incidents=found[:_PAGE],
        kind=kind,
        kinds=[("", "any")] + [(known.value, known.value) for known in IncidentKind],
        next_before=found[_PAGE - 1].number if len(found) > _PAGE else "",
    )
