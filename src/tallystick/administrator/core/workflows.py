"""Activate, refresh, return, sync: what Device Administrator does on field servers, each resumable and idempotent.

Many field servers at once, each with a visit of its own (``visit``): one that fails stops no other. And what needs no
visit: carrying what is in the bag, and what is open where.
Leaves to others: what a visit does (``visit``), who carries (``courier``), what a person typed (``planning``), what is
shown (``next_steps``, ``cli``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from tallystick.administrator.core.courier import Courier, Unread, at_once
from tallystick.administrator.core.goals import (
    Goal,
    GoalResult,
    Report,
    Sync,
)
from tallystick.administrator.core.next_steps import NextStep, decide_next_step
from tallystick.administrator.core.reach import NOT_REACHED, Reach
from tallystick.administrator.core.visit import Office, Stopped, Visit
from tallystick.administrator.core.ways import GO_ON
from tallystick.administrator.memory.inventory import Assignment, FieldServerRecord, Inventory
from tallystick.administrator.memory.messages import Inbound, Mailbag, Outbound
from tallystick.administrator.ports import (
    FIELD_SERVERS_AT_ONCE_MAX,
    Clock,
    Network,
    PortError,
    Progress,
    Stage,
    next_step_of,
)
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error, InvariantError
from tallystick.sentences import _


class Silent:
    """Nobody is told."""

    def step(self, device_id: DeviceId, stage: Stage) -> None:
        """Keep silent."""


class Workflows(Office):
    """Everything that operations share. Without threads of its own while ``at_once_max`` is 1, for simulations."""

    def __init__(
        self,
        *,
        inventory: Inventory,
        mailbag: Mailbag,
        network: Network,
        courier: Courier,
        clock: Clock,
        reach: Reach | None = None,
        at_once_max: int = FIELD_SERVERS_AT_ONCE_MAX,
    ) -> None:
        super().__init__(
            inventory=inventory, mailbag=mailbag, network=network, courier=courier, clock=clock, reach=reach
        )
        self._at_once_max = at_once_max

    def run(
        self,
        goals: Mapping[DeviceId, Goal],
        progress: Progress | None = None,
        *,
        stop: threading.Event | None = None,
        on_report: Callable[[Report], object] = lambda _report: None,
    ) -> list[Report]:
        """Work on many field servers at once; a report for each, in the order of ``goals``.

        A KeyboardInterrupt, or ``stop`` set, lets every visit end its step; the reports then say which were interrupted.
        """
        progress, stop = progress or Silent(), stop or threading.Event()
        records = {record.device_id: record for record in self.inventory.field_servers()}
        chosen = [(records[device_id], goal) for device_id, goal in goals.items() if device_id in records]
        if any(isinstance(goal, Sync) for _other, goal in chosen):
            self.courier.learn_keys()  # what field servers lack of them goes along, also where nothing else waits
        reports: dict[DeviceId, Report] = {}
        if self._at_once_max == 1 or len(chosen) <= 1:
            try:
                for record, goal in chosen:
                    reports[record.device_id] = self._visit(record, goal, progress, stop)
                    on_report(reports[record.device_id])
            except KeyboardInterrupt:
                stop.set()
            return [reports.get(record.device_id) or _interrupted(record) for record, _other in chosen]
        with ThreadPoolExecutor(max_workers=min(len(chosen), self._at_once_max)) as pool:
            futures: list[Future[Report]] = []
            try:
                for record, goal in chosen:
                    futures.append(pool.submit(self._visit, record, goal, progress, stop))
                _collect(futures, reports, on_report)
            except KeyboardInterrupt:
                stop.set()
                for future in futures:
                    future.cancel()
                _collect([future for future in futures if not future.cancelled()], reports, on_report)
        return [reports.get(record.device_id) or _interrupted(record) for record, _other in chosen]

    def carry_up(self, device_ids: Iterable[DeviceId] | None = None) -> list[Unread]:
        """Carry what waits in the bag for activation servers, without any field server. Raises ``PortError``."""
        wanted = None if device_ids is None else set(device_ids)
        by_issuer: dict[str, list[Outbound]] = {}
        for message in self.mailbag.outbound():
            if wanted is None or message.device_id in wanted:
                by_issuer.setdefault(message.issuer, []).append(message)
        unread: list[Unread] = []
        failure: PortError | None = None
        for issuer, waiting in by_issuer.items():
            try:
                unread += self.carry(issuer, waiting)
            except PortError as error:
                failure = error
        if failure is not None:
            raise failure
        return unread

    def standings(
        self, records: Iterable[FieldServerRecord] | None = None, *, has_route: bool | None = None
    ) -> dict[DeviceId, NextStep]:
        """What is open on field servers (None: on all), and what to do."""
        outbound: dict[DeviceId, list[Outbound]] = {}
        for message in self.mailbag.outbound():
            outbound.setdefault(message.device_id, []).append(message)
        inbound: dict[DeviceId, list[Inbound]] = {}
        for reply in self.mailbag.inbound():
            inbound.setdefault(reply.device_id, []).append(reply)
        assignments: dict[DeviceId, list[Assignment]] = {}
        for assignment in self.inventory.assignments():
            assignments.setdefault(assignment.device_id, []).append(assignment)
        return {
            record.device_id: decide_next_step(
                record,
                outbound=outbound.get(record.device_id, ()),
                inbound=inbound.get(record.device_id, ()),
                assignments=assignments.get(record.device_id, ()),
                now=self.clock.now(),
                has_route=has_route,
            )
            for record in (self.inventory.field_servers() if records is None else records)
        }

    def look(self, device_ids: Iterable[DeviceId] | None = None) -> dict[DeviceId, bool]:
        """Ask field servers what they hold and keep it; whether each could be reached. Nothing is changed there."""
        wanted = None if device_ids is None else set(device_ids)
        records = [record for record in self.inventory.field_servers() if wanted is None or record.device_id in wanted]
        reached = at_once(self._look_at, records)
        return {record.device_id: is_reached for record, is_reached in zip(records, reached, strict=True)}

    def _look_at(self, record: FieldServerRecord) -> bool:
        try:
            with self.network.field_server(record.contact) as port:
                return Visit(self, record, lambda _stage: None, threading.Event()).look(port)
        except PortError as error:
            self.keep_trouble(record.device_id, error)
            return error.code not in NOT_REACHED

    def _visit(self, record: FieldServerRecord, goal: Goal, progress: Progress, stop: threading.Event) -> Report:
        """One visit, with everything that can go wrong turned into a report."""
        try:
            report = Visit(self, record, lambda stage: progress.step(record.device_id, stage), stop).run(goal)
        except Stopped:
            report = _interrupted(record)
        except InvariantError:
            raise
        except Error as error:
            report = Report(
                device_id=record.device_id,
                name=record.name,
                result=GoalResult.FAILED,
                code=error.code,
                detail=error.sentence,
                next_step=next_step_of(error.code),
            )
        progress.step(record.device_id, Stage.FINISHED)
        return report


def _collect(
    futures: Sequence[Future[Report]], reports: dict[DeviceId, Report], on_report: Callable[[Report], object]
) -> None:
    for report in (future.result() for future in as_completed(futures)):
        if report.device_id not in reports:
            reports[report.device_id] = report
            on_report(report)


def _interrupted(record: FieldServerRecord) -> Report:
    return Report(
        device_id=record.device_id,
        name=record.name,
        result=GoalResult.INTERRUPTED,
        detail=_("stopped before it was finished; nothing is lost"),
        next_step=_("{go_on} goes on where this stopped", go_on=GO_ON),
    )
