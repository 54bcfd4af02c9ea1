"""Settings and wiring: what stands in a data directory, and an activation server opened on it.

``DATA/settings.toml`` is written last by ``init``: where it is, everything else is. The real clock and the real
source of randomness are made here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Never, TypeVar

from tallystick.activation import accounts, issuing, returns, signing
from tallystick.activation.files import FileError, file_fault, load_file, save_file
from tallystick.activation.issuing import Message
from tallystick.activation.ports import Answer, Enrolment, Policy
from tallystick.activation.signing import FileSigner
from tallystick.activation.storage import SqlStore, SqlTransaction, open_store
from tallystick.domain.ids import DeviceId
from tallystick.errors import Error
from tallystick.protocol.envelope import PrivateKey

SETTINGS_FILE: Final = "settings.toml"
DATABASE_FILE: Final = "tallystick.sqlite"
WAITING_DAYS_MAX: Final = 3650
LOST_PER_YEAR_MAX: Final = 1_000_000
_SETTINGS_BYTES_MAX: Final = 64 * 1024
_SEED_BYTES: Final = 32
_OURS: Final = {
    signing.KEYS_DIRECTORY,
    signing.KEYSET_FILE,
    DATABASE_FILE,
    f"{DATABASE_FILE}-wal",
    f"{DATABASE_FILE}-shm",
}

ResultT = TypeVar("ResultT")


class SettingsError(Error):
    """A data directory or its settings that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What ``settings.toml`` says. ``database`` None: the SQLite file in the data directory."""

    issuer: str
    policy: Policy = field(default_factory=Policy)
    database: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An activation server on its data, for a command or for service."""

    data: Path
    settings: Settings
    signer: FileSigner
    store: SqlStore

    @staticmethod
    def now() -> int:
        """The real time, Unix seconds."""
        return int(time.time())

    @staticmethod
    def random_bytes(count: int) -> bytes:
        """Real randomness."""
        return secrets.token_bytes(count)

    def transact(self, work: Callable[[SqlTransaction], ResultT]) -> ResultT:
        """See ``SqlStore.transact``."""
        return self.store.transact(work)

    def read(self, work: Callable[[SqlTransaction], ResultT]) -> ResultT:
        """See ``SqlStore.read``."""
        return self.store.read(work)

    def process(self, messages: list[Message]) -> list[Answer]:
        """One batch in one transaction, answered after the commit."""
        if not messages:
            return []
        now = self.now()
        return self.store.transact(
            lambda transaction: issuing.process(
                messages, transaction, signer=self.signer, policy=self.settings.policy, now=now
            )
        )

    def settle(self) -> list[DeviceId]:
        """End the waiting periods that are over."""
        now = self.now()
        if not self.store.read(lambda transaction: transaction.load_due_quarantines(now)):
            return []
        return self.store.transact(lambda transaction: returns.settle_quarantines(transaction, self.signer, now=now))

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def initialise(data: Path, *, issuer: str | None, policy: Policy, database: str | None) -> Activation:
    """Make keys, keyset, database and settings in a new or empty directory.

    A crash in between leaves no settings, and ``initialise`` can be run again. Raises ``Error``.
    """
    _check_policy(policy)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise file_fault(data, error) from error
    with _locked(data):
        _check_empty(data)
        root_seed = secrets.token_bytes(_SEED_BYTES)
        if issuer is None:
            issuer = f"activation-{PrivateKey(root_seed).public.thumbprint[:8]}"
        accounts.check_text(issuer, "a name for the activation server")
        settings = Settings(issuer=issuer, policy=policy, database=database)
        store = open_store(_database_url(data, settings), create=True)
        try:
            if store.read(lambda transaction: transaction.find_entitlements(limit=1)):
                raise SettingsError(
                    "already-initialised", expected="an empty database", seen="one that an activation server uses"
                )
            signer = signing.create_keys(
                data,
                issuer=issuer,
                root_seed=root_seed,
                signing_seed=secrets.token_bytes(_SEED_BYTES),
                now=Activation.now(),
            )
            save_file(data / SETTINGS_FILE, [format_settings(settings).encode()], mode=0o600)
        except BaseException:
            store.close()
            raise
    return Activation(data=data, settings=settings, signer=signer, store=store)


def open_activation(data: Path, *, database: str | None = None, service: bool = False) -> Activation:
    """Open what ``initialise`` made. ``service``: for ``serve``, which brings a SQLite schema up to date.

    ``database`` is used instead of the one in the settings. Due quarantines are settled. Raises ``Error``.
    """
    settings = load_settings(data)
    signer = signing.load_signer(data)
    if signer.keyset.issuer != settings.issuer:
        _refuse_settings("issuer", f"{signer.keyset.issuer}, as in the keyset", settings.issuer)
    store = open_store(database or _database_url(data, settings), service=service)
    activation = Activation(data=data, settings=settings, signer=signer, store=store)
    try:
        activation.settle()
    except BaseException:
        store.close()
        raise
    return activation


def database_url(data: Path, database: str | None) -> str:
    """Where the database of a data directory is. Raises ``Error``."""
    return database or _database_url(data, load_settings(data))


def load_settings(data: Path) -> Settings:
    """Read ``settings.toml``. Raises ``Error`` (``not-initialised``, ``settings-wrong``)."""
    path = data / SETTINGS_FILE
    try:
        text = load_file(path, bytes_max=_SETTINGS_BYTES_MAX)
    except FileError as error:
        if error.code != "not-found":
            raise
        raise SettingsError("not-initialised", expected="a data directory that init made", seen=f"no {path}") from None
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        _refuse_settings("the file", "TOML", str(error)[:120])
    return parse_settings(document)


def parse_settings(document: dict[str, Any]) -> Settings:
    """Settings from their names and values, strictly. Raises ``SettingsError`` (``settings-wrong``)."""
    unknown = document.keys() - {"issuer", "database", "enrolment", "waiting_days", "lost_per_year"}
    if unknown:
        _refuse_settings(min(unknown), "a name that there is", "one that there is not")
    issuer, database = document.get("issuer"), document.get("database")
    if not isinstance(issuer, str) or not issuer:
        _refuse_settings("issuer", "the name of the activation server", repr(issuer)[:60])
    if not isinstance(database, str | None):
        _refuse_settings("database", "a database URL", repr(database)[:60])
    try:
        enrolment = Enrolment(document.get("enrolment", Policy().enrolment))
    except ValueError:
        _refuse_settings("enrolment", " or ".join(Enrolment), repr(document["enrolment"])[:60])
    numbers = {}
    for name in ("waiting_days", "lost_per_year"):
        value = document.get(name, getattr(Policy(), name))
        if type(value) is not int:
            _refuse_settings(name, "a whole number", repr(value)[:60])
        numbers[name] = value
    policy = Policy(enrolment=enrolment, **numbers)
    _check_policy(policy)
    return Settings(issuer=issuer, policy=policy, database=database)


def format_settings(settings: Settings) -> str:
    """``settings.toml`` for people to read and change."""
    policy = settings.policy
    lines = [
        "# Settings of a Tallystick activation server. Restart it after a change.",
        "# The issuer is signed into its keys and cannot be changed.",
        f"issuer = {json.dumps(settings.issuer, ensure_ascii=False)}",
        "# open: who proves an activation ID becomes known; listed: only who was listed beforehand.",
        f'enrolment = "{policy.enrolment.value}"',
        "# How long the rights of a field server that was declared lost wait before they are available again.",
        f"waiting_days = {policy.waiting_days}",
        "# How many field servers of one account may be declared lost in a rolling year.",
        f"lost_per_year = {policy.lost_per_year}",
    ]
    if settings.database is not None:
        lines.append(f"database = {json.dumps(settings.database, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _database_url(data: Path, settings: Settings) -> str:
    return settings.database or f"sqlite:///{(data / DATABASE_FILE).absolute()}"


def _check_policy(policy: Policy) -> None:
    if not 0 <= policy.waiting_days <= WAITING_DAYS_MAX:
        _refuse_settings("waiting_days", f"0 to {WAITING_DAYS_MAX} days", str(policy.waiting_days))
    if not 0 <= policy.lost_per_year <= LOST_PER_YEAR_MAX:
        _refuse_settings("lost_per_year", f"0 to {LOST_PER_YEAR_MAX}", str(policy.lost_per_year))


def _check_empty(data: Path) -> None:
    names = {path.name for path in data.iterdir()}
    if SETTINGS_FILE in names:
        raise SettingsError("already-initialised", expected="a new or empty directory", seen=f"{data} in use")
    if names - _OURS:  # what an interrupted init left may be there
        raise SettingsError(
            "already-initialised", expected="a new or empty directory", seen=f"{min(names - _OURS)!r} in {data}"
        )


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    """Keep a second ``init`` of the same directory waiting. Raises ``FileError`` where the directory is not ours."""
    try:
        descriptor = os.open(data, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    except OSError as error:
        raise file_fault(data, error) from error


def _refuse_settings(place: str, expected: str, seen: str) -> Never:
    raise SettingsError("settings-wrong", expected=f"{place}: {expected}", seen=seen)
