"""The page What to carry: what waits, one file out, one box for whatever comes back, what is open and how old."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, Response

from tallystick.administrator.core.file_courier import BadImport, Import, ImportSummary, export_bytes, write_durably
from tallystick.administrator.core.goals import Sync
from tallystick.administrator.core.next_steps import PROOFS, Phase
from tallystick.administrator.core.senders import Sender, senders_of
from tallystick.administrator.core.usb_sticks import Stick, find_sticks
from tallystick.administrator.memory.messages import Outbound
from tallystick.administrator.web.base import PageRequest
from tallystick.administrator.web.field_servers import rows_of
from tallystick.administrator.web.operations import progress_of
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.pages import PAGE_HEADERS
from tallystick.protocol.tallyfile import MEDIA_TYPE
from tallystick.sentences import _

CODES_DEVICES_MAX: Final = 30  # at once, as QR codes
FILE_NAME: Final = "requests-to-carry.tally"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenFiles:
    """What came back. ``operation``: the delivery of it, where there is something to deliver."""

    result: ImportSummary
    bad: tuple[BadImport, ...]
    files: tuple[str, ...]
    operation: int | None
    note: str = ""
    devices: tuple[DeviceId, ...] = ()
    senders: tuple[Sender, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangeFiles:
    """Files that somebody is asked about. ``directory``: where they are until then; None on a stick."""

    paths: list[Path]
    senders: tuple[Sender, ...]
    directory: tempfile.TemporaryDirectory[str] | None

    @property
    def files(self) -> list[str]:
        """Their names."""
        return [path.name for path in self.paths]


def carry_page(page: PageRequest) -> Response:
    """Everything about carrying."""
    mailbag, names = page.administrator.mailbag, page.administrator.inventory.names()
    up, down = mailbag.outbound(), mailbag.inbound()
    open_rows = [row for row in rows_of(page) if row.step.phase in {Phase.PROVE, Phase.ASK, Phase.DELIVER}]
    open_rows.sort(key=lambda row: row.step.since_at or 0)
    return page.show(
        "carry.html", up=up, down=down, names=names, up_devices=len({one.device_id for one in up}),
        down_devices=len({one.device_id for one in down}), oldest=min((one.gathered_at for one in up), default=0),
        devices_up=[(one, names.get(one, one[:12])) for one in dict.fromkeys(one.device_id for one in up)],
        issuers=sorted({one.issuer for one in up}), sticks=[_on_stick(stick) for stick in find_sticks()],
        open_rows=open_rows, exported=sum(one.exported_at is not None for one in up),
    )  # fmt: skip


def download(page: PageRequest) -> Response:
    """One file with all that waits."""
    up = _waiting(page)
    data = export_bytes(up, names=page.administrator.inventory.names())
    page.administrator.mailbag.note_exported([one.digest for one in up], now=page.now)
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{FILE_NAME}"'}
    return Response(data, media_type=MEDIA_TYPE, headers=headers)


def to_stick(page: PageRequest) -> Response:
    """The same onto a stick that is there now."""
    stick, up = _stick(page), _waiting(page)
    data = export_bytes(up, names=page.administrator.inventory.names())
    write_durably(stick.path / FILE_NAME, data, device=stick.device)
    page.administrator.mailbag.note_exported([one.digest for one in up], now=page.now)
    result = _(
        "{count} messages are on {stick} as {file}. Remove the stick safely before pulling it out.",
        count=len(up),
        stick=stick.name,
        file=FILE_NAME,
    )
    return page.go(f"/carry/taken/{page.context.kept.keep(_told(result))}")


def from_stick(page: PageRequest) -> Response:
    """All files on a stick that are not our own."""
    return take_files(page, _on_stick(_stick(page)).paths, None)


def take(page: PageRequest) -> Response:
    """Whatever was put into the box, and its delivery to field servers that can be reached."""
    files = page.files("files")
    if not files:
        raise Error("usage", expected=_("at least one file in the box"), seen=_("none"))
    directory = tempfile.TemporaryDirectory()  # removed with the last who knows it
    return take_files(page, _saved(files, Path(directory.name)), directory)


def look(page: PageRequest) -> Response:
    """Whose the chosen files are, before any is sent for good: for the script of the box."""
    with tempfile.TemporaryDirectory() as directory:
        senders = senders_of(_saved(page.files("files"), Path(directory)), page.administrator.inventory)
    text = page.context.environment.get_template("own/senders.html").render(senders=senders)
    return HTMLResponse(text, headers=dict(PAGE_HEADERS))


def whose_page(page: PageRequest) -> Response:
    """Is that expected?"""
    kept: StrangeFiles = page.context.kept.find(StrangeFiles, page.number())
    known = [keyset.issuer for keyset in page.administrator.inventory.keysets()]
    return page.show("whose.html", kept=kept, number=page.number(), known=known)


def take_after_all(page: PageRequest) -> Response:
    """A person has said what of it is taken in."""
    kept: StrangeFiles = page.context.kept.find(StrangeFiles, page.number())
    page.context.kept.forget(page.number())
    strange = [one for one in kept.senders if one.is_strange] if page.text("do") != "all" else []
    known = {one.account for one in page.administrator.inventory.entitlements()}
    response = _take(
        page,
        kept.paths,
        left_out={one.issuer for one in strange if one.is_new_root},
        accounts_left_out={account for one in strange for account in one.accounts} - known,
    )
    if kept.directory is not None:
        kept.directory.cleanup()
    return response


def take_files(page: PageRequest, paths: list[Path], directory: tempfile.TemporaryDirectory[str] | None) -> Response:
    """Take them in, or ask first, where they are not like what is known here."""
    senders = senders_of(paths, page.administrator.inventory)
    if not any(one.is_strange for one in senders):
        response = _take(page, paths)
        if directory is not None:
            directory.cleanup()
        return response
    kept = StrangeFiles(paths=paths, senders=tuple(senders), directory=directory)
    return page.go(f"/carry/whose/{page.context.kept.keep(kept)}")


def _saved(files: list[UploadFile], directory: Path) -> list[Path]:
    paths = []
    for number, file in enumerate(files):
        folder = directory / str(number)
        folder.mkdir()
        path = folder / (Path(file.filename or "file").name[:200] or "file")
        with path.open("xb") as out:
            while chunk := file.file.read(1 << 20):
                out.write(chunk)
        paths.append(path)
    return paths


def take_content(page: PageRequest, name: str, content: bytes) -> Response:
    """A tally file that came another way than through the box."""
    directory = tempfile.TemporaryDirectory()  # removed with the last who knows it
    path = Path(directory.name) / name
    with path.open("xb") as out:
        out.write(content)
    return take_files(page, [path], directory)


def taken_page(page: PageRequest) -> Response:
    """What came back, how its delivery goes, and what to carry next."""
    taken: TakenFiles = page.context.kept.find(TakenFiles, page.number())
    mailbag = page.administrator.mailbag
    up = mailbag.outbound()
    progress = None if taken.operation is None else progress_of(page, taken.operation)
    return page.show(
        "taken.html", taken=taken, progress=progress, up=len(up), down=len(mailbag.inbound()), sticks=find_sticks(),
        proofs=any(one.purpose in PROOFS for one in up),
    )  # fmt: skip


def carry_now(page: PageRequest) -> Response:
    """Carry what waits by the route that there is, in both directions."""
    every = page.administrator.inventory.field_servers()
    if not every:
        raise Error("not-found", expected=_("a field server in the list"), seen=_("none so far"))
    return page.go(f"/operations/{page.context.jobs.begin({record.device_id: Sync() for record in every})}")


def _take(
    page: PageRequest, paths: list[Path], *, left_out: Collection[str] = (), accounts_left_out: Collection[str] = ()
) -> Response:
    administrator = page.administrator
    senders = senders_of(paths, administrator.inventory)
    reading = Import(
        inventory=administrator.inventory,
        mailbag=administrator.mailbag,
        courier=administrator.courier,
        now=page.now,
        left_out=left_out,
        accounts_left_out=accounts_left_out,
    )
    for path in paths:
        reading.read(path)
    waiting = {reply.device_id for reply in administrator.mailbag.inbound()}
    goals = {device_id: Sync() for device_id in sorted(reading.device_ids & waiting)}
    operation, note = None, ""
    if goals:
        try:
            operation = page.context.jobs.begin(goals)
        except Error as error:  # it is in the bag: deliver it when the other operation has ended
            note = _("Delivery waits: {seen}. Then press “Carry what waits”.", seen=error.said[1])
    taken = TakenFiles(
        result=reading.result, bad=tuple(reading.bad_lines), files=tuple(path.name for path in paths),
        senders=tuple(senders), operation=operation, note=note, devices=tuple(goals) if len(goals) <= CODES_DEVICES_MAX else (),
    )  # fmt: skip
    return page.go(f"/carry/taken/{page.context.kept.keep(taken)}")


def _told(note: str) -> TakenFiles:
    return TakenFiles(result=ImportSummary(), bad=(), files=(), operation=None, note=note)


def _waiting(page: PageRequest) -> list[Outbound]:
    up = page.administrator.mailbag.outbound()
    if not up:
        raise Error("no-messages", expected=_("a message that waits"), seen=_("none; “Carry what waits” gathers them"))
    return up


def _stick(page: PageRequest) -> Stick:
    wanted = page.text("stick")
    found = next((stick for stick in find_sticks() if str(stick.path) == wanted), None)
    if found is None:
        raise Error(
            "not-found",
            expected=_("a stick that is plugged in"),
            seen=_("{wanted} is gone; nothing was written", wanted=wanted[:80]),
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class StickFile:
    """A stick and the files on it that may be for us."""

    stick: Stick
    paths: list[Path]


def _on_stick(stick: Stick) -> StickFile:
    try:
        paths = sorted(path for path in stick.path.glob("*.tally") if path.name != FILE_NAME and path.is_file())
    except OSError:
        paths = []
    return StickFile(stick=stick, paths=paths)
