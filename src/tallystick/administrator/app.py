"""Puts Device Administrator together: its data directory, the real network, the real clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from tallystick.administrator.courier import Courier, at_once
from tallystick.administrator.database import Database, open_database
from tallystick.administrator.inventory import Inventory
from tallystick.administrator.mailbag import Mailbag
from tallystick.administrator.network import RealNetwork
from tallystick.administrator.operations import Operations
from tallystick.administrator.ports import Route
from tallystick.administrator.workflows import Workflows
from tallystick.domain.ids import DeviceId

HOME_VARIABLE: Final = "TALLYSTICK_HOME"
ROUTE_VARIABLE: Final = "TALLYSTICK_ROUTE"
PROXY_SETTING: Final = "proxy"


class SystemClock:
    """The wall clock of this computer."""

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """Everything that a command, or a page, works with."""

    inventory: Inventory
    mailbag: Mailbag
    network: RealNetwork
    courier: Courier
    workflows: Workflows
    operations: Operations
    clock: SystemClock

    def look(self) -> tuple[dict[DeviceId, bool], bool]:
        """Ask all field servers and activation servers at the same time: who is reached, and is there a route?"""
        reached: dict[DeviceId, bool] = {}
        routes: list[bool] = []

        def field_servers() -> None:
            reached.update(self.workflows.look())

        def activation() -> None:
            routes.extend(probe.reachable for probe in self.courier.find_route([]).activation)

        work: list[Callable[[], None]] = [field_servers, activation]
        at_once(lambda part: part(), work)
        return reached, any(routes)


def home_directory() -> Path:
    """``$TALLYSTICK_HOME``, else the place where this platform keeps a person's data."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_path("tallystick", appauthor=False))


@contextmanager
def open_administrator(*, forced: Route | None = None, directory: Path | None = None) -> Iterator[Administrator]:
    """One run. Raises ``Error`` (``database-unavailable``, ``database-newer``, ``disk-failed``, ``disk-full``)."""
    database = open_database(directory or home_directory())
    try:
        with administrator_on(database, forced=forced) as administrator:
            yield administrator
    finally:
        database.close()


@contextmanager
def administrator_on(database: Database, *, forced: Route | None = None) -> Iterator[Administrator]:
    """One run on a database that stays open: what is found out about the route holds for it and no longer."""
    inventory, mailbag, clock = Inventory(database), Mailbag(database), SystemClock()
    network = RealNetwork(proxy=inventory.setting(PROXY_SETTING))
    try:
        courier = Courier(network, inventory, forced=forced)
        yield Administrator(
            inventory=inventory,
            mailbag=mailbag,
            network=network,
            courier=courier,
            workflows=Workflows(inventory=inventory, mailbag=mailbag, network=network, courier=courier, clock=clock),
            operations=Operations(database),
            clock=clock,
        )
    finally:
        network.close()
