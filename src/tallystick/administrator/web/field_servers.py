"""The pages Field servers and one field server: the list, sites, passwords, leaving the list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from tallystick.administrator.core import pinning
from tallystick.administrator.core.next_steps import NextStep, Phase
from tallystick.administrator.memory.inventory import FieldServerRecord
from tallystick.administrator.web.base import PageRequest, in_pages
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error

OPEN: Final = frozenset({Phase.TROUBLE, Phase.DELIVER, Phase.PROVE, Phase.ASK, Phase.PLANNED})
_SITE_SYMBOLS_MAX: Final = 80
SORTS: Final = (("site", "site"), ("name", "name"), ("kind", "kind"), ("open", "what is open"), ("reach", "reach"))


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
        return in_pages(self.step.text)

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


def wanted_of(ask: PageRequest) -> ListFilter:
    """From the address or the form."""
    return ListFilter(
        text=ask.text("q", 100), site=ask.text("site", 100), kind=ask.text("kind", 100), show=ask.text("show", 20),
        sort=ask.text("sort", 20) or "site",
    )  # fmt: skip


def rows_of(ask: PageRequest, records: Iterable[FieldServerRecord] | None = None) -> list[Row]:
    """Field servers with what is open on them."""
    seen = ask.desk.jobs.seen
    steps = ask.administrator.workflows.standings(has_route=None if seen is None else seen.has_route)
    reached = {} if seen is None else seen.reached
    return [
        Row(record=record, step=steps[record.device_id], is_reached=reached.get(record.device_id))
        for record in (ask.administrator.inventory.field_servers() if records is None else records)
        if record.device_id in steps
    ]


def chosen_of(ask: PageRequest) -> list[FieldServerRecord]:
    """The ticked field servers, or all that the list showed. Raises ``Error`` (``usage``)."""
    every = ask.administrator.inventory.field_servers()
    if ask.text("everyone"):
        wanted = wanted_of(ask)
        chosen = [row.record for row in rows_of(ask, every) if wanted.fits(row)]
    else:
        ticked = set(ask.texts("device"))
        chosen = [record for record in every if record.device_id in ticked]
    if not chosen:
        raise Error("usage", expected="at least one field server ticked, or “All shown here”", seen="none")
    return chosen


def list_page(ask: PageRequest) -> Response:
    """All field servers."""
    every = rows_of(ask)
    wanted = wanted_of(ask)
    shown = sorted((row for row in every if wanted.fits(row)), key=wanted.order)
    records = [row.record for row in every]
    return ask.page(
        "fieldservers.html",
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
            for operation in reversed(ask.administrator.operations.unfinished())
            if not ask.desk.jobs.running(operation.number)
        ],
        seen=ask.desk.jobs.seen,
    )


def sites_of(records: Sequence[FieldServerRecord]) -> list[str]:
    """The sites that there are."""
    return sorted({record.site for record in records if record.site}, key=str.casefold)


def one_page(ask: PageRequest) -> Response:
    """One field server."""
    record = ask.field_server()
    inventory, mailbag = ask.administrator.inventory, ask.administrator.mailbag
    return ask.page(
        "fieldserver.html",
        row=rows_of(ask, [record])[0],
        plan=inventory.assignments(record.device_id),
        lines=inventory.lines(),
        outbound=mailbag.outbound(record.device_id),
        inbound=mailbag.inbound(record.device_id),
        receipts=[receipt for receipt in mailbag.receipts() if receipt.device_id == record.device_id],
        sites=sites_of(inventory.field_servers()),
    )


def look(ask: PageRequest) -> Response:
    """Ask everyone anew."""
    ask.desk.jobs.look()
    return ask.go("/")


def set_site(ask: PageRequest) -> Response:
    """Put the ticked field servers into a site."""
    site = ask.text("new_site", _SITE_SYMBOLS_MAX)
    chosen = chosen_of(ask)
    ask.administrator.inventory.set_site([record.device_id for record in chosen], site)
    return ask.go("/")


def set_one_site(ask: PageRequest) -> Response:
    """Put one field server into a site."""
    record = ask.field_server()
    ask.administrator.inventory.set_site([record.device_id], ask.text("new_site", _SITE_SYMBOLS_MAX))
    return ask.go(f"/servers/{record.device_id}")


def renew(ask: PageRequest) -> Response:
    """Another password, or another address."""
    record = ask.field_server()
    pinning.add_field_server(
        ask.administrator.network,
        ask.administrator.inventory,
        address=record.address,
        password=ask.text("password"),
        fingerprint=record.contact.fingerprint,
        now=ask.now,
    )
    return ask.go(f"/servers/{record.device_id}")


def remove(ask: PageRequest) -> Response:
    """Off the list; licenses are not touched."""
    record = ask.field_server()
    step = ask.administrator.workflows.next_step(record.device_id)
    if step.phase in {Phase.DELIVER, Phase.PROVE, Phase.ASK} and not ask.text("force"):
        raise Error("usage", expected="nothing open on it, or the tick that says “also then”", seen=in_pages(step.text))
    ask.administrator.inventory.remove_field_server(DeviceId(record.device_id))
    return ask.go("/")
