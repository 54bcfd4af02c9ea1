"""A whole activation server in this process: real storage, real API and pages, with the clock in the test's hand."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import shutil
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from starlette.testclient import TestClient

from support.activation import Device
from support.browser import Reader
from tallystick.activation.core import catalog_file
from tallystick.activation.core.entitlements import create_entitlement
from tallystick.activation.core.people import Person
from tallystick.activation.core.permissions import EVERYTHING, Caller, Role, Scope
from tallystick.activation.core.ports import Policy
from tallystick.activation.outbound.webhooks import Dispatcher
from tallystick.activation.server import instance, service
from tallystick.activation.server.office import make_office
from tallystick.activation.services import Office, people, sign_in
from tallystick.activation.services.batcher import Batcher
from tallystick.activation.settings import WebhookSettings
from tallystick.domain.entitlement import Entitlement, Line

CATALOG = b"""
kinds: [AS-P, AS-B, Edge Server]
products:
  smartdriver: {name: SmartDriver, kinds: [AS-P, AS-B, Edge Server], features: {smartdriver: 1}}
  mqtt: {name: MQTT client, kinds: [Edge Server], features: {mqtt: 1}}
  engineering: {name: Engineering, kinds: [AS-P, AS-B, Edge Server], features: {smartdriver: 9}, engineering: true}
"""
PASSWORD = "four quiet words apart"
INSIDE = ("127.0.0.1",)
ISSUER = "licenses.example.com"


@cache
def _initialised() -> Path:
    """A data directory as init makes it, once for all tests of a process."""
    data = Path(tempfile.mkdtemp(prefix="tallystick-test-")) / "data"
    atexit.register(shutil.rmtree, data.parent, ignore_errors=True)
    instance.initialise(data, issuer=ISSUER, policy=Policy(), database=None).close()
    return data


@dataclass
class Site:
    """``client(role, account)`` speaks with a token of that role."""

    data: Path
    database: str | None = None  # another than the SQLite file of the data directory
    now: int = 1_800_000_000
    is_there: bool = False  # a data directory that was made before, and its database
    activation: instance.Activation = field(init=False)
    office: Office = field(init=False)
    web: Any = field(init=False)

    def __post_init__(self) -> None:
        if self.is_there:
            self.activation = instance.open_activation(self.data / "data", database=self.database)
        elif self.database is None:
            shutil.copytree(_initialised(), self.data / "data")
            self.activation = instance.open_activation(self.data / "data")
        else:
            self.activation = instance.initialise(
                self.data / "data", issuer=ISSUER, policy=Policy(), database=self.database
            )
        self.batcher = Batcher(
            self.activation.store, self.activation.signer, Policy(), clock=self.clock, on_broken=lambda _: None
        )
        self.batcher.start()
        self._random = itertools.count()
        self._ends = contextlib.ExitStack()
        self._portal = self._ends.enter_context(start_blocking_portal())
        made = make_office(self.activation, self.batcher)
        self.office = Office(
            store=made.store,
            signer=made.signer,
            policy=made.policy,
            batcher=self.batcher,
            clock=self.clock,
            random_bytes=self.random_bytes,
            public_url=made.public_url,
            webhooks_inside=INSIDE,
        )
        self.web = service.make_site(self.activation, self.batcher, office=self.office)
        if not self.is_there:
            self.activation.transact(lambda transaction: transaction.save_catalog(catalog_file.parse_catalog(CATALOG)))

    def clock(self) -> int:
        return self.now

    def random_bytes(self, count: int) -> bytes:
        return hashlib.shake_256(f"random {next(self._random)}".encode()).digest(count)

    def dispatcher(self) -> Dispatcher:
        """What takes events to webhooks; loopback is inside, and allowed."""
        return Dispatcher(
            store=self.activation.store,
            settings=WebhookSettings(allow_private=INSIDE),
            kept_days=90,
            clock=self.clock,
            random_bytes=self.random_bytes,
        )

    def close(self) -> None:
        self._ends.close()
        self.batcher.close()
        self.activation.close()

    @property
    def root(self) -> Caller:
        return Caller(name="root", role=Role.VENDOR_ADMINISTRATOR, scope=EVERYTHING, subject="root")

    def token(self, role: Role, account: str | None = None, **options: Any) -> str:
        devices = options.pop("devices", ())
        made = people.create_token(
            self.office,
            self.root,
            name=f"{role.value} of {account or 'the vendor'}",
            role=role,
            account=account,
            days=30,
            is_read_only=options.pop("is_read_only", False),
            devices=devices,
            once=None,
        )
        return str(made.token)

    def client(self, role: Role = Role.VENDOR_ADMINISTRATOR, account: str | None = None, **options: Any) -> TestClient:
        token = self.token(role, account, **options)
        # That a token was made is an event. What tests look at comes behind it.
        self.activation.transact(lambda tx: tx.events.assign_positions(self.activation.random_bytes))
        return self.client_with(token)

    def client_with(self, token: str) -> TestClient:
        client = self.browser(follow_redirects=False)
        client.headers["Authorization"] = f"Bearer {token}"
        return client

    def browser(self, **options: Any) -> TestClient:
        """A client of nobody. All share one event loop: by itself, each would start one for each request."""
        as_usual = {"raise_server_exceptions": False, "base_url": "https://test", "follow_redirects": True}
        client = TestClient(self.web, **(as_usual | options))
        client.portal = self._portal
        return client

    def signed_in(self, email: str, role: Role = Role.VENDOR_ADMINISTRATOR, account: str | None = None) -> Reader:
        """A browser in which a new person is signed in."""
        self.person(email, role, account)
        reader = Reader(self.browser())
        answer = reader.send("/sign-in", email=email, password=PASSWORD)
        assert answer.url.path == "/", answer.text
        return reader

    def account(self, account: str) -> str:
        people.create_account(self.office, self.root, account, once=None)
        return account

    def person(self, email: str, role: Role = Role.VENDOR_ADMINISTRATOR, account: str | None = None) -> Person:
        made = people.invite_person(
            self.office,
            self.root,
            email=email,
            name=email.split("@", maxsplit=1)[0].title(),
            role=role,
            account=account,
            once=None,
        )
        sign_in.accept_invitation(self.office, invitation=str(made.invitation), password=PASSWORD)
        found = self.activation.read(lambda transaction: transaction.people.find_person(email=email))
        assert found is not None
        return found

    def sell(self, account: str, *products: tuple[str, int], expires_at: int | None = None) -> Entitlement:
        return self.activation.transact(
            lambda transaction: create_entitlement(
                transaction,
                self.activation.signer,
                account=account,
                products=products,
                expires_at=expires_at,
                random_bytes=self.random_bytes,
                by="root",
                now=self.now,
            )
        )

    def line(self, line_id: str) -> Line:
        found = self.activation.read(lambda transaction: transaction.within(Scope(account=None)).line(line_id))
        assert found is not None
        return found

    def device(self, name: str, kind: str = "AS-P") -> Device:
        return Device(name, kind=kind, aud=ISSUER)

    def post(self, *compacts: str) -> list[dict[str, Any]]:
        answer = self.browser(raise_server_exceptions=True).post(
            "/v1/messages", content="\n".join(compacts), headers={"Accept": "application/json"}
        )
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()
        return rows

    def activated(self, device: Device, *wants: tuple[Line, int]) -> Device:
        """The device holds ``wants`` and has applied its grant."""
        (row,) = self.post(device.activate(*wants))
        assert row["outcome"] == "granted", row
        device.take(row["reply"].split("\n")[0])
        return device
