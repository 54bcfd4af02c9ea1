"""The pages Field servers and one field server: the list, sites, passwords, leaving the list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from tallystick.administrator.core import pinning
from tallystick.administrator.core.next_steps import NextStep, Phase, step_sentence
from tallystick.administrator.core.planning import normal_address
from tallystick.administrator.memory.inventory import FieldServerRecord
from tallystick.administrator.ports import PortError
from tallystick.administrator.web.base import SENT_MAX, PageRequest, at_field
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.sentences import _

OPEN: Final = frozenset({Phase.TROUBLE, Phase.DELIVER, Phase.PROVE, Phase.ASK, Phase.PLANNED})
_SITE_SYMBOLS_MAX: Final = 80
SORTS: Final = (
    ("site", _("site")),
    ("name", _("name")),
    ("kind", _("kind")),
    ("open", _("what is open")),
    ("reach", _("reach")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A field server as the list shows it. ``is_reached`` is None where nobody has looked yet."""

    record: FieldServerRecord
    step: NextStep
    is_reached: bool | None

    @property
    def violations(self) -> list[str]:
        """Features of which there is too little."""
        report = self.record.report
        return [] if report is None else [one.feature for one in report.features if one.violation]

    @property
    def text(self) -> str:
        """The next step."""
        return step_sentence(self.step)

    @property
    def looks(self) -> tuple[object, ...]:
        """All that the list shows of it."""
        record, report = self.record, self.record.report
        licenses = () if report is None else tuple((one.quantity, one.product, one.expired) for one in report.licenses)
        trust = None if report is None else report.trust
        facts = (record.name, record.address, record.kind, record.site, report is None, licenses, trust)
        return (*facts, self.is_reached, self.step.phase, str(self.text), tuple(self.violations))

    @property
    def is_open(self) -> bool:
        """Whether somebody has to do something."""
        return self.step.phase in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFilter:
    """What of the list is shown."""

    text: str = ""
    site: str = ""
    kind: str = ""
    show: str = ""
    sort: str = "site"

    def fits(self, row: Row) -> bool:
        """Whether a row is shown."""
        record, text = row.record, self.text.casefold()
        return (
            (not text or text in f"{record.name} {record.address} {record.device_id} {record.site}".casefold())
            and (not self.site or record.site == ("" if self.site == "-" else self.site))
            and (not self.kind or record.kind == self.kind)
            and {
                "open": row.is_open,
                "violations": bool(row.violations),
                "silent": row.is_reached is False or row.step.phase is Phase.SILENT,
                "holding": bool(record.held),
            }.get(self.show, True)
        )

    def order(self, row: Row) -> tuple[object, ...]:
        """Where a row stands."""
        record = row.record
        first: object = {
            "site": (record.site == "", record.site.casefold()),
            "kind": record.kind,
            "open": list(Phase).index(row.step.phase),
            "reach": row.is_reached is not False,
        }.get(self.sort, "")
        return (first, record.name.casefold(), record.device_id)


def wanted_of(page: PageRequest) -> ListFilter:
    """From the address or the form."""
    return ListFilter(
        text=page.text("q", 100), site=page.text("site", 100), kind=page.text("kind", 100), show=page.text("show", 20),
        sort=page.text("sort", 20) or "site",
    )  # fmt: skip


def rows_of(page: PageRequest, records: Iterable[FieldServerRecord] | None = None) -> list[Row]:
    """Field servers with what is open on them, as they were when this page was read."""
    reading = page.reading
    reached = {} if reading.seen is None else reading.seen.reached
    wanted = None if records is None else {record.device_id for record in records}
    return [
        Row(record=record, step=reading.steps[record.device_id], is_reached=reached.get(record.device_id))
        for record in reading.records
        if wanted is None or record.device_id in wanted
    ]


def chosen_of(page: PageRequest) -> list[FieldServerRecord]:
    """The ticked field servers, or all that the list showed. Raises ``Error`` (``usage``)."""
    every = page.administrator.inventory.field_servers()
    if page.text("everyone"):
        wanted = wanted_of(page)
        chosen = [row.record for row in rows_of(page, every) if wanted.fits(row)]
    else:
        ticked = set(page.texts("device"))
        chosen = [record for record in every if record.device_id in ticked]
    if not chosen:
        raise Error("usage", expected=_("at least one field server ticked, or “All shown here”"), seen=_("none"))
    return chosen


def list_page(page: PageRequest) -> Response:
    """All field servers."""
    every = rows_of(page)
    wanted = wanted_of(page)
    shown = sorted((row for row in every if wanted.fits(row)), key=wanted.order)
    records = [row.record for row in every]
    return page.show(
        "field_servers.html",
        rows=shown,
        total=len(every),
        wanted=wanted,
        sorts=SORTS,
        is_grouped=wanted.sort == "site" and any(record.site for record in records),
        sites=sites_of(records),
        kinds=sorted({record.kind for record in records}),
        open_count=sum(row.is_open for row in every),
        violation_count=sum(bool(row.violations) for row in every),
        unfinished=[
            operation
            for operation in reversed(page.administrator.operations.unfinished())
            if not page.context.jobs.running(operation.number)
        ],
        changed=_changed_since(page, shown),
    )


def _changed_since(page: PageRequest, shown: Sequence[Row]) -> frozenset[str] | None:
    """The rows that a browser that asks again lacks; None: all, because it has others, or nothing."""
    sent = page.context.sent
    looks: dict[str, int] = {row.record.device_id: hash(row.looks) for row in shown}
    before = sent.get(page.had_version)
    sent.pop(page.version, None)
    sent[page.version] = looks
    while len(sent) > SENT_MAX:
        sent.pop(next(iter(sent)), None)
    if before is None or list(before) != list(looks):
        return None
    return frozenset(device_id for device_id, look in looks.items() if before[device_id] != look)


def sites_of(records: Sequence[FieldServerRecord]) -> list[str]:
    """The sites that there are."""
    return sorted({record.site for record in records if record.site}, key=str.casefold)


def one_page(page: PageRequest) -> Response:
    """One field server."""
    record = page.field_server()
    inventory, mailbag = page.administrator.inventory, page.administrator.mailbag
    return page.show(
        "field_server.html",
        row=rows_of(page, [record])[0],
        shown=_shown_instead(page, record),
        plan=inventory.assignments(record.device_id),
        lines=inventory.lines(),
        outbound=mailbag.outbound(record.device_id),
        inbound=mailbag.inbound(record.device_id),
        receipts=[receipt for receipt in mailbag.receipts() if receipt.device_id == record.device_id],
        sites=sites_of(inventory.field_servers()),
    )


def _shown_instead(page: PageRequest, record: FieldServerRecord) -> str:
    """The fingerprint that is shown now in place of the pinned one; empty where nothing was noticed, or nobody answers."""
    if record.trouble is None or record.trouble.code != "certificate-changed":
        return ""
    try:
        found = page.administrator.network.certificate(record.address).fingerprint
    except PortError:
        return ""
    return found if found != record.contact.fingerprint else ""


def look(page: PageRequest) -> Response:
    """Ask everyone anew."""
    page.context.jobs.look()
    return page.go("/")


def set_site(page: PageRequest) -> Response:
    """Put the ticked field servers into a site."""
    site = page.text("new_site", _SITE_SYMBOLS_MAX)
    chosen = chosen_of(page)
    page.administrator.inventory.set_site([record.device_id for record in chosen], site)
    return page.go("/")


def set_one_site(page: PageRequest) -> Response:
    """Put one field server into a site."""
    record = page.field_server()
    page.administrator.inventory.set_site([record.device_id], page.text("new_site", _SITE_SYMBOLS_MAX))
    return page.go(f"/servers/{record.device_id}")


def renew(page: PageRequest) -> Response:
    """Another password, or another address."""
    record = page.field_server()
    with at_field("password"):
        pinning.add_field_server(
            page.administrator.network,
            page.administrator.inventory,
            address=record.address,
            password=page.text("password"),
            fingerprint=record.contact.fingerprint,
            now=page.now,
        )
    return page.go(f"/servers/{record.device_id}")


def pin_again(page: PageRequest) -> Response:
    """Its certificate was changed on purpose: the one that was compared is pinned, and everything else stays."""
    record = page.field_server()
    with at_field("pin-password"):
        pinning.repin(
            page.administrator.network,
            page.administrator.inventory,
            record,
            shown=page.text("shown", 100),
            password=page.text("pin-password"),
            now=page.now,
        )
    page.context.jobs.reach.note_field_server(record.device_id)
    return page.go(f"/servers/{record.device_id}")


def move(page: PageRequest) -> Response:
    """It has another address now; its certificate is the pinned one."""
    record = page.field_server()
    with at_field("address"):
        pinning.add_field_server(
            page.administrator.network,
            page.administrator.inventory,
            address=normal_address(page.text("address", 300)),
            password=record.contact.password or "",
            fingerprint=record.contact.fingerprint,
            now=page.now,
        )
    return page.go(f"/servers/{record.device_id}")


def remove(page: PageRequest) -> Response:
    """Off the list; licenses are not touched, and count on in the plan."""
    record = page.field_server()
    step = page.administrator.workflows.next_step(record.device_id)
    if (record.held or step.phase in {Phase.DELIVER, Phase.PROVE, Phase.ASK}) and not page.text("force"):
        seen = step_sentence(step) or _("{count} licenses on it", count=sum(record.held.values()))
        with at_field("force"):
            raise Error("usage", expected=_("nothing open on it, or the tick that says “also then”"), seen=seen)
    page.administrator.inventory.remove_field_server(DeviceId(record.device_id), now=page.now)
    return page.go("/")
