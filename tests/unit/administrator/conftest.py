"""A site in memory: the real activation server's core, real field servers' engines, the real Device Administrator.

Only the network is ours: ``site.cut`` names what cannot be reached, and ``site.calls`` counts what was asked.
"""

import threading
from collections import Counter
from contextlib import contextmanager

import msgspec
import pytest

from support.activation import ISSUER, START, Bench, seeded
from tallystick.activation.core import foreseeing, reading
from tallystick.administrator.core.courier import Courier
from tallystick.administrator.core.goals import Activate, Refresh, Return, ReturnOneCarry, Sync, TakeOutOfService
from tallystick.administrator.core.next_steps import step_sentence
from tallystick.administrator.core.workflows import Workflows
from tallystick.administrator.memory.database import open_in_memory
from tallystick.administrator.memory.inventory import Assignment, Inventory
from tallystick.administrator.memory.messages import Mailbag
from tallystick.administrator.ports import Answered, Contact, FoundEntitlement, PortError, ShownCertificate
from tallystick.errors import Error
from tallystick.fieldserver import engine, views
from tallystick.fieldserver.agent import DeliveryResult as FieldServerDelivery
from tallystick.fieldserver.agent import LineResult, _bad
from tallystick.fieldserver.state import Device, Refused, State
from tallystick.protocol import messages, tallyfile
from tallystick.protocol.device_api import Identity, InboxResult, LicenseReport, WrittenRequest
from tallystick.protocol.dry_run import DryRunAnswer
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.messages import EntitlementCertificate, EntitlementLine, Facts
from tallystick.protocol.problems import problem_for
from tallystick.protocol.tallyfile import GoodLine

URL = "https://activation.example"


class FieldServer:
    """Implements ``FieldServerPort`` with the real engine; its state is one attribute, to be copied and put back."""

    def __init__(self, site, name, kind, host_id):
        self.site = site
        self.name = name
        facts = Facts(kind=kind, host_id=host_id, name=name, software="1.0")
        self.device = Device(key=PrivateKey(seeded(f"device {name} {host_id}")), facts=facts)
        self.state = State(device_id=self.device.device_id)
        self.address = f"https://{name}"
        self.own_route = None
        self.drawn = 0
        self.lock = threading.RLock()
        self.fingerprint = f"SHA256:{name}"

    @property
    def id(self):
        return self.device.device_id

    @property
    def held(self):
        return {license_.line_id: license_.quantity for license_ in self.state.licenses}

    def random(self):
        self.drawn += 1
        return seeded(f"{self.name} {self.drawn}")

    def called(self, what):
        self.site.called(self.name, what)

    def identity(self):
        self.called("identity")
        view = views.show_identity(self.device, self.state, fingerprint=self.fingerprint, activation=self.own_route)
        return msgspec.json.decode(msgspec.json.encode(view), type=Identity)

    def licenses(self):
        self.called("licenses")
        view = views.show_licenses(self.device, self.state, required={}, now=self.site.now)
        return msgspec.json.decode(msgspec.json.encode(view), type=LicenseReport)

    def request(self, wish):
        self.called("request")
        with self.lock:
            self.state, result = engine.write_request(
                self.state,
                views.parse_wish(msgspec.json.encode(wish)),
                device=self.device,
                now=self.site.now,
                random=self.random(),
            )
        if isinstance(result, Refused):
            raise PortError(result.code, expected=result.expected, seen=result.seen)
        return msgspec.json.decode(msgspec.json.encode(views.show_written(result)), type=WrittenRequest)

    def outbox(self):
        self.called("outbox")
        return b"".join(tallyfile.format_file(waiting.compact for waiting in self.state.outbox))

    def inbox(self, tally):
        self.called("inbox")
        lines = list(tallyfile.parse_chunks([tally]))
        good = [line for line in lines if isinstance(line, GoodLine)]
        with self.lock:
            self.state, received = engine.receive_all(
                self.state,
                [line.envelope for line in good],
                device=self.device,
                now=self.site.now,
                random=self.random(),
            )
        found = {line.line_number: one for line, one in zip(good, received, strict=True)}
        found |= {line.line_number: _bad(line) for line in lines if not isinstance(line, GoodLine)}
        results = tuple(LineResult(line_number=number, received=found[number]) for number in sorted(found))
        view = views.show_delivery(FieldServerDelivery(lines=results, waiting=len(self.state.outbox)))
        self.site.called(self.name, "inbox answered")
        return msgspec.json.decode(msgspec.json.encode(view), type=InboxResult)


class Activation:
    """Implements ``ActivationPort`` with the real ``issuing``."""

    def __init__(self, site):
        self.site = site

    def keys(self):
        self.site.called("activation", "keys")
        return (self.site.bench.signer.keyset.compact + "\n").encode()

    def exchange(self, envelopes):
        self.site.called("activation", "exchange")
        with self.site.lock:
            answers = [self.answer(compact) for compact in envelopes]
        self.site.called("activation", "exchange answered")
        return tuple(answers)

    def answer(self, compact):
        bench = self.site.bench
        bench.now = self.site.now
        try:
            reading.read_message(open_envelope(compact.encode()), bench.signer.keyset)
        except Error as error:
            return Answered(digest=None, outcome="error", code=error.code, detail=str(error), next_step="mend it")
        (answer,) = bench.post(compact)
        return Answered(
            digest=answer.digest,
            outcome=answer.outcome,
            code=answer.code,
            detail=answer.detail,
            next_step=problem_for(answer.code).next_step if answer.code else "",
            replies=answer.reply,
        )

    def foresee(self, asks):
        self.site.called("activation", "foresee")
        bench = self.site.bench
        answers, _ = bench.store.transact(
            lambda transaction: foreseeing.foresee(asks, transaction, policy=bench.policy, now=self.site.now)
        )
        return DryRunAnswer(issuer=ISSUER, at=self.site.now, answers=tuple(answers))

    def lookup(self, entitlement_id):
        self.site.called("activation", "lookup")
        lines = self.site.bench.store.tables.entitlements[entitlement_id].lines
        available = {line.line_id: self.site.bench.line(line).available for line in lines}
        return FoundEntitlement(certificate=self.site.certificate(*lines), available=available)


class Site:
    """Implements ``Network`` and ``Clock``, and holds everything else."""

    def __init__(self):
        self.bench = Bench()
        self.now = START
        self.cut = set()
        self.calls = Counter()
        self.hook = lambda _who, _what: None
        self.lock = threading.RLock()
        self.servers = {}
        self.database = open_in_memory()
        self.inventory = Inventory(self.database)
        self.mailbag = Mailbag(self.database)

    # Network and Clock

    def called(self, who, what):
        self.calls[who, what] += 1
        if who in self.cut or (who, what) in self.cut:
            raise PortError("unreachable", expected=f"an answer from {who}", seen="No route to host")
        self.hook(who, what)

    @contextmanager
    def field_server(self, contact):
        yield self.servers[contact.address]

    def activation(self, url):
        return Activation(self)

    def certificate_of(self, address):
        return ShownCertificate(certificate="PEM", fingerprint=self.servers[address].fingerprint)

    class _Clock:
        def __init__(self, site):
            self.site = site

        def now(self):
            return self.site.now

    # What tests do

    def add(self, name, kind="AS-P", host_id=None):
        server = FieldServer(self, name, kind, host_id or f"host-{name}")
        self.servers[server.address] = server
        contact = Contact(address=server.address, certificate="PEM", fingerprint=server.fingerprint, password="p")
        self.inventory.add_field_server(server.identity(), contact, now=self.now)
        return server

    def certificate(self, *lines):
        claims = EntitlementCertificate(
            iss=ISSUER,
            iat=self.now,
            entitlement=str(lines[0].entitlement_id),
            account=lines[0].account,
            lines=tuple(
                EntitlementLine(
                    line=line.line_id,
                    activation_id=str(line.activation_id),
                    product=line.product.sku,
                    name=line.product.name,
                    quantity=self.bench.line(line).bought,
                    kinds=tuple(sorted(line.product.kinds)),
                    features=dict(line.product.features),
                    expires=line.expires_at,
                    one_carry=line.product.one_carry,
                    returnable=line.product.returnable,
                )
                for line in lines
            ),
        )
        return self.bench.signer.sign(messages.ENTITLEMENT, messages.encode_claims(claims))

    def know(self, *lines, url=URL):
        """Device Administrator knows the activation server, its keys and these lines."""
        self.inventory.learn_keyset(open_envelope(self.bench.signer.keyset.compact.encode()))
        if url:
            self.inventory.add_activation(url, ISSUER)
        for line in lines:
            self.inventory.add_entitlement(open_envelope(self.certificate(line).encode()), now=self.now)

    def workflows(self, *, forced=None, at_once_max=1):
        courier = Courier(self, self.inventory, forced=forced)
        return Workflows(
            inventory=self.inventory,
            mailbag=self.mailbag,
            network=self,
            courier=courier,
            clock=self._Clock(self),
            at_once_max=at_once_max,
        )

    def do(self, goal, *servers, **options):
        reports = self.workflows(**options).run({server.id: goal for server in servers})
        return reports[0] if len(reports) == 1 else reports

    def activate(self, server, *wants, **options):
        assignments = tuple(
            Assignment(
                device_id=server.id, line_id=line.line_id, activation_id=str(line.activation_id), quantity=quantity
            )
            for line, quantity in wants
        )
        return self.do(Activate(wants=assignments), server, **options)

    def give_back(self, *servers, **options):
        return self.do(Return(), *servers, **options)

    def relinquish(self, *servers, **options):
        return self.do(ReturnOneCarry(), *servers, **options)

    def scrap(self, *servers, **options):
        return self.do(TakeOutOfService(), *servers, **options)

    def refresh(self, *servers, **options):
        return self.do(Refresh(), *servers, **options)

    def sync(self, *servers, **options):
        return self.do(Sync(), *(servers or self.servers.values()), **options)

    def step_text(self, server, **options):
        return step_sentence(self.workflows().next_step(server.id, **options))


@pytest.fixture
def site():
    return Site()


@pytest.fixture
def line(site):
    """Five SmartDrivers, known to Device Administrator."""
    bought = site.bench.buy(5)
    site.know(bought)
    return bought
