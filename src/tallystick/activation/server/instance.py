"""Settings and wiring: what stands in a data directory, and an activation server opened on it.

``DATA/settings.toml`` is written last by ``init``: where it is, everything else is. The real clock and the real
source of randomness are made here.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tallystick.activation import settings as settings_
from tallystick.activation.core import entitlements, interventions, issuing
from tallystick.activation.core.ports import Answer, Policy
from tallystick.activation.core.reading import Message
from tallystick.activation.files import file_fault, locked, remove_drafts, save_file
from tallystick.activation.keys import lifecycle, signing
from tallystick.activation.keys.signing import KeySigner
from tallystick.activation.outbound.mail import Digest, send_mail
from tallystick.activation.outbound.webhooks import Dispatcher
from tallystick.activation.settings import SETTINGS_FILE, KeySettings, Settings, SettingsError
from tallystick.activation.storage import (
    DatabaseError,
    Deployment,
    SqlStore,
    SqlTransaction,
    check_not_moved,
    open_store,
)
from tallystick.directories import make_directory
from tallystick.domain.ids import DeviceId
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.keys import Keyset
from tallystick.sentences import _

ROOT_PASSPHRASE: Final = "TALLYSTICK_ROOT_PASSPHRASE"  # noqa: S105 - where it is, not what it is
DATABASE_FILE: Final = "tallystick.sqlite"
_SEED_BYTES: Final = 32
_OURS: Final = {
    signing.KEYS_DIRECTORY,
    signing.KEYSET_FILE,
    DATABASE_FILE,
    f"{DATABASE_FILE}-journal",  # before the log is turned on
    f"{DATABASE_FILE}-wal",
    f"{DATABASE_FILE}-shm",
    f"{DATABASE_FILE}-use",
}

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """An activation server on its data, for a command or for service."""

    data: Path
    settings: Settings
    signer: KeySigner
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
        """End the waiting periods that are over, and the incidents that a fence has ended."""
        now = self.now()
        if self.store.read(lambda transaction: transaction.incidents.fenced(limit=1)):
            from tallystick.activation.services import incidents  # noqa: PLC0415 - most commands never need it

            self.store.transact(lambda transaction: incidents.settle_fenced(transaction, now=now))
        if not self.store.read(lambda transaction: transaction.load_due_quarantines(transaction.load_clock().seconds)):
            return []
        return self.store.transact(
            lambda transaction: interventions.settle_quarantines(transaction, self.signer, now=now)
        )

    def dispatcher(self) -> Dispatcher:
        """What takes events to webhooks."""
        return Dispatcher(
            store=self.store,
            settings=self.settings.webhooks,
            kept_days=self.settings.events_kept_days,
            clock=self.now,
            random_bytes=self.random_bytes,
        )

    def digest(self) -> Digest:
        """What reports to people by mail."""
        return Digest(
            store=self.store,
            settings=self.settings.mail,
            issuer=self.settings.issuer,
            clock=self.now,
            send=send_mail,
        )

    def close(self) -> None:
        """Close the database."""
        self.store.close()


def initialise(data: Path, *, issuer: str | None, policy: Policy, database: str | None) -> Activation:
    """Make keys, keyset, database and settings in a new or empty directory.

    A crash in between leaves no settings, and ``initialise`` can be run again. Raises ``Error``.
    """
    settings_.check_policy(policy)
    try:
        make_directory(data)
    except OSError as error:
        raise file_fault(data, error) from error
    with locked(data):
        _check_empty(data)
        root_seed = secrets.token_bytes(_SEED_BYTES)
        if issuer is None:
            issuer = f"activation-{PrivateKey(root_seed).public.thumbprint[:8]}"
        entitlements.check_text(issuer, _("a name for the activation server"))
        settings = Settings(issuer=issuer, policy=policy, database=database)
        store = open_store(_database_url(data, settings), create=True)
        try:
            _check_unused(data, store)
            signer = lifecycle.create_keys(
                data,
                issuer=issuer,
                root_seed=root_seed,
                signing_seed=secrets.token_bytes(_SEED_BYTES),
                now=Activation.now(),
                settings=secrets_of(os.environ),
                root_passphrase=os.environ.get(ROOT_PASSPHRASE),
            )
            root = signer.keyset.root_fingerprint
            if not store.transact(lambda transaction: transaction.deployment.claim(issuer=issuer, root=root)):
                raise _used(_("one that another init has just taken"))
            save_file(data / SETTINGS_FILE, [settings_.format_settings(settings).encode()], mode=0o600)
        except BaseException:
            store.close()
            raise
    return Activation(data=data, settings=settings, signer=signer, store=store)


def open_activation(
    data: Path, *, database: str | None = None, service: bool = False, is_moved_good: bool = False
) -> Activation:
    """Open what ``initialise`` made. ``service``: for ``serve``, which brings a SQLite schema up to date.

    ``database`` is used instead of the one in the settings. ``is_moved_good``: also one that was copied into another.
    Due quarantines are settled. Raises ``Error``.
    """
    settings = load_settings(data)
    signer = signing.load_signer(data, settings.keys)
    if signer.keyset.issuer != settings.issuer:
        settings_.refuse("issuer", _("{issuer}, as in the keyset", issuer=signer.keyset.issuer), settings.issuer)
    store = open_store(database or _database_url(data, settings), service=service)
    activation = Activation(data=data, settings=settings, signer=signer, store=store)
    try:
        check_database(store, signer.keyset, is_moved_good=is_moved_good)
        if not is_moved_good:
            activation.settle()
    except BaseException:
        store.close()
        raise
    return activation


def try_database(data: Path, settings: Settings) -> None:
    """Open the database and read from it, as ``serve`` would; nothing is changed. Raises ``DatabaseError``."""
    url = _database_url(data, settings)
    try:
        store = open_store(url)
    except DatabaseError as error:
        if error.code == "database-older" and url.startswith("sqlite:"):
            return  # serve brings it up to date
        raise
    try:
        found = store.read(lambda transaction: transaction.deployment.load())
    finally:
        store.close()
    if found is not None and found.issuer != settings.issuer:
        settings_.refuse("database", _("the database of {issuer}", issuer=settings.issuer), found.issuer)


def check_database(store: SqlStore, keyset: Keyset, *, is_moved_good: bool = False) -> None:
    """Raises ``DatabaseError`` unless the database is that of these keys and no copy serves in its place.

    A database that was made before it could say whose it is becomes that of the keys that it is used with.
    """
    found = store.read(lambda transaction: transaction.deployment.load())

    def name(transaction: SqlTransaction) -> Deployment | None:
        transaction.deployment.claim(issuer=keyset.issuer, root=keyset.root_fingerprint)
        now = transaction.deployment.load()
        if now is not None and now.root in keyset.root_fingerprints and now.issuer == keyset.issuer:
            transaction.deployment.set_root(keyset.root_fingerprint, before=now.root)
        return transaction.deployment.load()

    if found is None or found.root != keyset.root_fingerprint:
        found = store.transact(name)
    if found is None or found.issuer != keyset.issuer or found.root != keyset.root_fingerprint:
        seen = (
            _("one of {issuer}, root {root}", issuer=found.issuer, root=found.root[:12])
            if found
            else _("one of nobody")
        )
        root = keyset.root_fingerprint[:12]
        expected = _("the database of {issuer}, root {root}", issuer=keyset.issuer, root=root)
        raise DatabaseError("database-foreign", expected=expected, seen=seen)
    if not is_moved_good:
        check_not_moved(found)
        store.dialect.refuse_moved()


def database_url(data: Path, database: str | None) -> str:
    """Where the database of a data directory is. Raises ``Error``."""
    return database or _database_url(data, load_settings(data))


def sqlite_file(data: Path, database: str | None) -> Path | None:
    """The SQLite file of a data directory; None where the database is elsewhere. Raises ``Error``."""
    url = database or _database_url(data, load_settings(data))
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def load_settings(data: Path) -> Settings:
    """The settings of a data directory, with those of the environment. Raises ``Error``."""
    return settings_.load_settings(data, os.environ)


def _database_url(data: Path, settings: Settings) -> str:
    return settings.database or f"sqlite:///{(data / DATABASE_FILE).absolute()}"


def _check_unused(data: Path, store: SqlStore) -> None:
    interrupted = signing.load_keyset(data).root_fingerprint if (data / signing.KEYSET_FILE).exists() else None

    def work(transaction: SqlTransaction) -> str | None:
        if interrupted is not None:
            transaction.deployment.forget(interrupted)  # by an init that did not come to its settings
        return transaction.deployment.used_table()

    used = store.transact(work)
    if used is not None:
        raise _used(_("one that an activation server uses: rows in its table {used}", used=used))


def _used(seen: str) -> SettingsError:
    return SettingsError("already-initialised", expected=_("a database that nobody uses"), seen=seen)


def _check_empty(data: Path) -> None:
    remove_drafts(data, (SETTINGS_FILE, signing.KEYSET_FILE))
    names = {path.name for path in data.iterdir()}
    if SETTINGS_FILE in names:
        raise SettingsError(
            "already-initialised", expected=_("a new or empty directory"), seen=_("{data} in use", data=data)
        )
    if names - _OURS:  # what an interrupted init left may be there
        raise SettingsError(
            "already-initialised",
            expected=_("a new or empty directory"),
            seen=_("{names!r} in {data}", names=min(names - _OURS), data=data),
        )


def secrets_of(environment: Mapping[str, str]) -> KeySettings:
    """What ``init`` takes from the environment to protect the first signing key."""
    return settings_.parse_settings({"issuer": "none yet"}, environment).keys
