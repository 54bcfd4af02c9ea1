"""Puts Device Administrator together: its data directory, the real network, the real clock.

An operation is kept before anything is sent, so that ending the program, or the laptop's battery, leaves one that goes
on where it was. It is marked as running, and whoever asks for it to stop may be another process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from tallystick.administrator.core import pinning
from tallystick.administrator.core.courier import Courier, at_once
from tallystick.administrator.core.goals import Goal, GoalResult, Report
from tallystick.administrator.core.operations import Operations
from tallystick.administrator.core.reach import Reach
from tallystick.administrator.core.workflows import Workflows
from tallystick.administrator.memory.database import Database, open_database
from tallystick.administrator.memory.inventory import Inventory
from tallystick.administrator.memory.messages import Mailbag
from tallystick.administrator.memory.passwords import KEY_BYTES, Sealer, key_from_file, key_from_passphrase
from tallystick.administrator.memory.qr_frames import FrameBox
from tallystick.administrator.network.clients import RealNetwork
from tallystick.administrator.network.proxy import read_stored
from tallystick.administrator.ports import Progress, RouteKind
from tallystick.directories import create_file, make_directory, sync_directory
from tallystick.domain.ids import DeviceId, LineId
from tallystick.errors import Error
from tallystick.sentences import _

HOME_VARIABLE: Final = "TALLYSTICK_HOME"
ROUTE_VARIABLE: Final = "TALLYSTICK_ROUTE"
PASSPHRASE_VARIABLE: Final = "TALLYSTICK_PASSPHRASE"  # noqa: S105 - the name of a variable
KEY_FILE_VARIABLE: Final = "TALLYSTICK_KEY_FILE"
KEY_FILE_NAME: Final = "passwords.key"
KEYRING_SERVICE: Final = "tallystick field server passwords"
PROXY_SETTING: Final = "proxy"
_LISTENED_SECONDS: Final = 0.5


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
    frames: FrameBox
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

    def ask_available(self, line_ids: Collection[LineId]) -> bool:
        """Have the activation server say what is available of lines. Whether it did."""
        return pinning.ask_available(self.courier, self.inventory, line_ids, now=self.clock.now())

    def begin(self, goals: Mapping[DeviceId, Goal]) -> int:
        """Keep the goals; the number of the operation. Raises ``Error``."""
        return self.operations.begin(goals, names=self.inventory.names(), now=self.clock.now())

    def run(
        self,
        number: int,
        goals: Mapping[DeviceId, Goal],
        progress: Progress | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> list[Report]:
        """Run what is open of it, and keep every report as it comes. Raises ``Error`` (``too-busy`` where it runs already)."""
        operations, stop, is_over = self.operations, stop or threading.Event(), threading.Event()

        def keep(report: Report) -> None:
            operations.keep(number, report)

        def listen() -> None:
            while not is_over.wait(_LISTENED_SECONDS):
                with suppress(Error):  # what stands in the way of looking is told by who writes
                    if operations.is_asked_to_stop(number):
                        stop.set()

        with operations.run(number):
            listener = threading.Thread(target=listen, daemon=True)
            listener.start()
            try:
                reports = self.workflows.run(goals, progress, stop=stop, on_report=keep)
                there = {report.device_id for report in reports}
                for report in (*(one for one in reports if one.result is GoalResult.INTERRUPTED), *_gone(goals, there)):
                    keep(report)
                operations.end(number, now=self.clock.now())
            finally:
                is_over.set()
                listener.join()
        return reports


def home_directory() -> Path:
    """``$TALLYSTICK_HOME``, else the place where this platform keeps a person's data."""
    chosen = os.environ.get(HOME_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_path("tallystick", appauthor=False))


def open_sealer(directory: Path) -> Sealer:
    """The key that seals passwords; see ``passwords`` for where it is. Raises ``Error`` (``usage``, ``disk-failed``)."""
    passphrase, named = os.environ.get(PASSPHRASE_VARIABLE), os.environ.get(KEY_FILE_VARIABLE)
    own = directory / KEY_FILE_NAME
    try:
        if passphrase:
            return Sealer(key=key_from_passphrase(passphrase), random=os.urandom, where="a passphrase")
        if named:
            return Sealer(key=key_from_file(Path(named).expanduser().read_bytes()), random=os.urandom, where=named)
        if not own.exists():
            kept = _key_in_keyring(str(directory.resolve()))
            if kept is not None:
                return Sealer(key=kept, random=os.urandom, where="the operating system's keyring")
            _make_key_file(own)
        return Sealer(key=key_from_file(own.read_bytes()), random=os.urandom, where=str(own))
    except OSError as error:
        raise Error("disk-failed", expected=_("the key that seals passwords"), seen=str(error)) from None


def _key_in_keyring(name: str) -> bytes | None:
    """The key that the keyring keeps, or a new one that it now keeps; None where there is no keyring that does."""
    import keyring  # noqa: PLC0415 - only where a key is needed and no file has it
    from keyring.errors import KeyringError  # noqa: PLC0415 - see above

    try:
        found = keyring.get_password(KEYRING_SERVICE, name)
        if found is None:
            keyring.set_password(KEYRING_SERVICE, name, os.urandom(KEY_BYTES).hex())
            found = keyring.get_password(KEYRING_SERVICE, name)  # one that forgets at once is none
        return None if found is None else key_from_file(bytes.fromhex(found))
    except (KeyringError, RuntimeError, OSError, ValueError):
        return None


def _make_key_file(path: Path) -> None:
    """A key of its own for this directory; of two that make one at once, the first is kept."""
    make_directory(path.parent)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = create_file(beside)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(KEY_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
    except FileExistsError:
        beside.unlink()
    except OSError:  # a file system without links
        beside.replace(path)
    else:
        beside.unlink()
    sync_directory(path.parent)  # passwords that it seals are worth nothing without it


@contextmanager
def open_administrator(*, forced: RouteKind | None = None, directory: Path | None = None) -> Iterator[Administrator]:
    """One run. Raises ``Error`` (``database-unavailable``, ``database-newer``, ``disk-failed``, ``disk-full``)."""
    database = open_database(directory or home_directory())
    try:
        with administrator_on(database, open_sealer(directory or home_directory()), forced=forced) as administrator:
            yield administrator
    finally:
        database.close()


@contextmanager
def administrator_on(
    database: Database, sealer: Sealer, *, forced: RouteKind | None = None, reach: Reach | None = None
) -> Iterator[Administrator]:
    """One run on a database that stays open. ``reach``: is told what is found out about the route meanwhile."""
    inventory, mailbag, clock = Inventory(database, sealer), Mailbag(database), SystemClock()
    network = RealNetwork(proxy=read_stored(inventory.secret(PROXY_SETTING)))
    try:
        courier = Courier(network, inventory, forced=forced, reach=reach)
        yield Administrator(
            inventory=inventory,
            mailbag=mailbag,
            frames=FrameBox(database),
            network=network,
            courier=courier,
            workflows=Workflows(
                inventory=inventory, mailbag=mailbag, network=network, courier=courier, clock=clock, reach=reach
            ),
            operations=Operations(database),
            clock=clock,
        )
    finally:
        network.close()


def _gone(goals: Mapping[DeviceId, Goal], there: set[DeviceId]) -> Iterator[Report]:
    """Of field servers that were removed from the list meanwhile."""
    for device_id in goals.keys() - there:
        yield Report(
            device_id=device_id,
            name=device_id[:12],
            result=GoalResult.LEFT,
            detail=_("it was removed from the list meanwhile"),
        )
