"""Dry run, doing, progress and summary: every operation is shown before it is begun, and begun by one click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from starlette.responses import Response

from tallystick.administrator.core import planning
from tallystick.administrator.core.dry_run import PredictedEffect, effect_text, standings_of, sums_of
from tallystick.administrator.core.forecast import forecast
from tallystick.administrator.core.goals import Goal, Refresh, Report, Return, ReturnOneCarry, Sync, TakeOutOfService
from tallystick.administrator.core.operations import Operation
from tallystick.administrator.core.results import results_sentence
from tallystick.administrator.memory.inventory import FieldServerRecord
from tallystick.administrator.ports import Stage
from tallystick.administrator.web.base import KINDS, AtField, PageRequest
from tallystick.administrator.web.field_servers import chosen_of
from tallystick.domain.ids import DeviceId, LineId
from tallystick.errors import Error, InvariantError
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.sentences import _

_STAGES: Final = list(Stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What would be done. ``ends``: of a return, the lines and what is left of them; None: everything."""

    kind: str
    device_ids: tuple[DeviceId, ...]
    ends: dict[LineId, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLine:
    """A line that some of the chosen field servers hold."""

    line_id: LineId
    product: str
    most: int
    end: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SameReports:
    """Field servers that ended in the same way."""

    report: Report
    names: tuple[tuple[str, DeviceId], ...]


@dataclass(slots=True, kw_only=True)
class Progress:
    """An operation as the page shows it."""

    operation: Operation
    is_running: bool
    is_elsewhere: bool  # in another process: the command line's, say
    is_stopping: bool
    stages: dict[DeviceId, Stage]
    problem: str = ""
    good: list[Report] = field(default_factory=list)
    bad: list[SameReports] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What it is called."""
        return KINDS.get(self.operation.kind, self.operation.kind)

    @property
    def sentence(self) -> str:
        """What came of it."""
        return results_sentence(self._reports, total=len(self.operation.visits))

    @property
    def is_all_good(self) -> bool:
        """Whether nobody was refused, missed or left."""
        return not self.bad and not self.problem

    @property
    def _reports(self) -> list[Report]:
        return [visit.report for visit in self.operation.visits if visit.report is not None]

    @property
    def ended(self) -> int:
        """How many have a report."""
        return sum(visit.report is not None for visit in self.operation.visits)

    def stage_text(self, device_id: DeviceId) -> str:
        """How far one is."""
        stage = self.stages.get(device_id)
        if stage is None:
            if self.is_elsewhere:
                return _("under way or to come")
            return _("its turn comes") if self.is_running else _("not begun")
        return str(stage)

    def stage_number(self, device_id: DeviceId) -> int:
        """The same for a bar."""
        stage = self.stages.get(device_id)
        return 0 if stage is None else _STAGES.index(stage) + 1


def draft(page: PageRequest) -> Response:
    """What a person asked for on the ticked field servers."""
    kind = page.text("do")
    if kind not in KINDS:
        raise Error("usage", expected=_("one of: {kinds}", kinds=", ".join(KINDS)), seen=kind[:40] or _("none"))
    chosen = chosen_of(page)
    made = Draft(kind=kind, device_ids=tuple(record.device_id for record in chosen))
    goals_of(page, made, chosen)  # a plan that is missing is said at once
    return page.go(f"/drafts/{page.context.kept.keep(made)}")


def draft_page(page: PageRequest) -> Response:
    """The dry run."""
    made: Draft = page.context.kept.find(Draft, page.number())
    records = page.administrator.inventory.field_servers()
    chosen = [record for record in records if record.device_id in set(made.device_ids)]
    goals = goals_of(page, made, chosen)
    lines, seen = page.administrator.inventory.lines(), page.reading.seen
    courier = page.administrator.courier if seen is None or seen.has_route else None
    found = forecast(courier, goals, records, lines=lines, now=page.now)
    return page.show(
        "draft.html", draft=made, title=KINDS[made.kind], found=found, number=page.number(), effect_text=effect_text,
        sums=sums_of(found.rows), chosen=chosen,
        held=_held_lines(chosen, made.ends) if made.kind == "return" else [],
        standings=standings_of(
            {row.line_id for row in found.rows}, records, lines=lines, proving=page.reading.proving
        ) if found.why else [],
        refused=len({row.device_id for row in found.rows if row.effect is PredictedEffect.REFUSED}),
    )  # fmt: skip


def change_draft(page: PageRequest) -> Response:
    """A return of chosen lines, down to chosen quantities."""
    made: Draft = page.context.kept.find(Draft, page.number())
    ends: dict[LineId, int] = {}
    for key in page.form:
        value = page.text(key, 20)
        if key.startswith("end-") and value:
            if not value.isascii() or not value.isdigit() or int(value) > QUANTITY_MAX:
                wrong = Error(
                    "quantity-wrong",
                    expected=_("a quantity up to {quantity_max}", quantity_max=QUANTITY_MAX),
                    seen=value,
                )
                raise AtField(wrong, key)
            ends[LineId(key.removeprefix("end-"))] = int(value)
    return page.go(f"/drafts/{page.context.kept.keep(replace(made, ends=ends or None))}")


def begin(page: PageRequest) -> Response:
    """Do it."""
    made: Draft = page.context.kept.find(Draft, page.number())
    wanted = set(made.device_ids)
    chosen = [record for record in page.administrator.inventory.field_servers() if record.device_id in wanted]
    number = page.context.jobs.begin(goals_of(page, made, chosen))
    page.context.kept.forget(page.number())
    return page.go(f"/operations/{number}")


def goals_of(page: PageRequest, made: Draft, chosen: Sequence[FieldServerRecord]) -> dict[DeviceId, Goal]:
    """The goals of a draft. Raises ``Error``."""
    match made.kind:
        case "activate":
            return planning.activation_goals(page.administrator.inventory.assignments(), chosen, is_everyone=True)
        case "return" if made.ends is None:
            return {record.device_id: Return() for record in chosen}
        case "return":
            return _partial_returns(made.ends or {}, chosen)
        case "one-carry":
            return {record.device_id: ReturnOneCarry() for record in chosen}
        case "out-of-service":
            return {record.device_id: TakeOutOfService() for record in chosen}
        case "refresh":
            return {record.device_id: Refresh() for record in chosen}
        case "sync":
            return {record.device_id: Sync() for record in chosen}
        case kind:
            raise InvariantError("a kind of operation", kind)


def operation_page(page: PageRequest) -> Response:
    """Progress while it runs, the summary afterwards."""
    return page.show("operation.html", progress=progress_of(page, page.number()), **_carry_counts(page))


def operations_page(page: PageRequest) -> Response:
    """The newest operations."""
    return page.show("operations.html", rows=page.administrator.operations.newest())


def cancel(page: PageRequest) -> Response:
    """Let every visit end its step."""
    page.context.jobs.cancel(page.number())
    return page.go(f"/operations/{page.number()}")


def go_on(page: PageRequest) -> Response:
    """Take it up where it was."""
    operation = _find(page, page.number())
    if operation.open_goals and not page.administrator.operations.is_running(operation.number):
        page.context.jobs.go_on(operation)
    else:
        page.administrator.operations.end(operation.number, now=page.now)
    return page.go(f"/operations/{operation.number}")


def leave(page: PageRequest) -> Response:
    """Give up what is open of it."""
    operation = _find(page, page.number())
    if not page.administrator.operations.is_running(operation.number):
        page.administrator.operations.leave(operation.number, now=page.now)
    return page.go("/")


def progress_of(page: PageRequest, number: int) -> Progress:
    """An operation as it is now."""
    running = page.context.jobs.running(number)  # first: what ends meanwhile is then shown once more as running
    operation = _find(page, number)
    operations = page.administrator.operations
    is_elsewhere = running is None and operations.is_running(number)
    if is_elsewhere:
        operation = _find(page, number)
    is_stopping = operations.is_asked_to_stop(number) if running is None else running.stop.is_set()
    progress = Progress(
        operation=operation,
        is_running=running is not None or is_elsewhere,
        is_elsewhere=is_elsewhere,
        is_stopping=is_stopping,
        stages={} if running is None else dict(running.stages),
        problem=page.context.jobs.problems.get(number, ""),
    )
    alike: dict[tuple[object, ...], list[Report]] = {}
    for visit in operation.visits:
        report = visit.report
        if report is None:
            continue
        if report.is_finished:
            progress.good.append(report)
        else:
            key = (report.result, report.code, report.detail, report.next_step, report.reasons)
            alike.setdefault(key, []).append(report)
    progress.bad = [
        SameReports(report=reports[0], names=tuple((one.name, one.device_id) for one in reports))
        for reports in alike.values()
    ]
    return progress


def _carry_counts(page: PageRequest) -> dict[str, int]:
    mailbag = page.administrator.mailbag
    return {"up": len(mailbag.outbound()), "down": len(mailbag.inbound())}


def _find(page: PageRequest, number: int) -> Operation:
    operation = page.administrator.operations.operation(number)
    if operation is None:
        raise Error("not-found", expected=_("an operation"), seen=_("none with number {number}", number=number))
    return operation


def _partial_returns(ends: dict[LineId, int], chosen: Sequence[FieldServerRecord]) -> dict[DeviceId, Goal]:
    """Each field server gives back what it has above the end state; one that has no more is left out."""
    goals: dict[DeviceId, Goal] = {}
    for record in chosen:
        wants = tuple((line, end) for line, end in ends.items() if record.held.get(line, 0) > end)
        if wants:
            goals[record.device_id] = Return(wants=wants)
    if not goals:
        raise Error(
            "nothing-held", expected=_("a field server that holds more than is to be left"), seen=_("none of them")
        )
    return goals


def _held_lines(chosen: Sequence[FieldServerRecord], ends: dict[LineId, int] | None) -> list[HeldLine]:
    found: dict[LineId, HeldLine] = {}
    for record in chosen:
        for license_ in () if record.report is None else record.report.licenses:
            most = max(license_.quantity, found[license_.line].most if license_.line in found else 0)
            end = None if ends is None else ends.get(license_.line)
            found[license_.line] = HeldLine(line_id=license_.line, product=license_.product, most=most, end=end)
    return list(found.values())
