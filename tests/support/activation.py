"""An activation server in memory, and field servers written by hand.

``Bench`` runs the real ``issuing`` and ``returns`` on ``MemoryStore``. ``Device`` is *not* the real field server: it
says whatever a test wants it to say, honest or not, signed with its own key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from tallystick.activation.core import interventions, issuing, reading, verification
from tallystick.activation.core.clock import Tick, keep_time
from tallystick.activation.core.ports import Answer, Holding, IncidentKind, Policy, ServiceClock
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import EntitlementId, new_line_id
from tallystick.domain.ledger import Account, Balances, apply_booking
from tallystick.protocol import envelope, keys, messages
from tallystick.protocol.envelope import PrivateKey
from tallystick.protocol.messages import Credit, Grant, Refusal, Reply
from tallystick.simulator.store import MemoryStore

ISSUER = "Example Controls"
START = 1_800_000_000
DAY = 86_400


def seeded(text: str, length: int = 32) -> bytes:
    return hashlib.shake_256(text.encode()).digest(length)


class TestSigner:
    __test__ = False

    def __init__(self, name: str = "issuer", issuer: str = ISSUER) -> None:
        self.root = PrivateKey(seeded(f"{name} root"))
        self.key = PrivateKey(seeded(f"{name} key"))
        signing = keys.SigningKey(jwk=keys.Jwk(**self.key.public.jwk), valid_from=0)
        compact = keys.make_keyset(self.root, issuer=issuer, version=1, issued_at=START, keys=(signing,))
        self.keyset = keys.parse_keyset(envelope.open_envelope(compact.encode()))

    def sign(self, typ: str, payload: bytes) -> str:
        return self.key.sign(typ, payload)


PRODUCTS = {
    product.sku: product
    for product in (
        Product(sku="smartdriver", name="SmartDriver", kinds=frozenset({"AS-P", "AS-B"}), features={"smartdriver": 1}),
        Product(sku="logs", name="Logs", kinds=frozenset({"Edge Server"}), features={"logs": 1}, one_carry=False),
        Product(sku="fixed", name="Fixed", kinds=frozenset({"AS-P"}), features={"fixed": 1}, returnable=False),
    )
}


@dataclass
class Bench:
    """An activation server with its clock in the test's hand."""

    policy: Policy = field(default_factory=Policy)
    signer: TestSigner = field(default_factory=TestSigner)
    store: MemoryStore = field(default_factory=MemoryStore)
    now: int = START

    def __post_init__(self) -> None:
        self.store.tables.catalog = Catalog(kinds=("AS-P", "AS-B", "Edge Server"), products=PRODUCTS)

    def buy(self, quantity: int, sku: str = "smartdriver", **terms: Any) -> Line:
        number = len(self.store.tables.lines)
        line = Line(
            line_id=new_line_id(seeded(f"line {number}")),
            entitlement_id=EntitlementId(f"EN-{number}"),
            account=terms.pop("account", "acme"),
            product=PRODUCTS[sku],
            secret=seeded(f"secret {number}", 16),
            **terms,
        )
        balances, entry = apply_booking(
            Balances(),
            line_id=line.line_id,
            source=Account.BOUGHT,
            target=Account.AVAILABLE,
            quantity=quantity,
            device_id=None,
            cause="bought",
            booked_at=self.now,
        )
        line = structs.replace(line, balances=balances)
        entitlement = Entitlement(
            entitlement_id=line.entitlement_id, account=line.account, created_at=self.now, lines=(line,)
        )
        self.store.transact(lambda tx: tx.save_entitlement(entitlement, [entry]))
        return line

    def change_line(self, line: Line, **terms: Any) -> None:
        lines = self.store.tables.lines
        lines[line.line_id] = structs.replace(lines[line.line_id], **terms)

    def post(self, *compacts: str) -> list[Answer]:
        batch = [
            reading.read_message(envelope.open_envelope(compact.encode()), self.signer.keyset) for compact in compacts
        ]
        answers = self.store.transact(
            lambda tx: issuing.process(batch, tx, signer=self.signer, policy=self.policy, now=self.now)
        )
        self.check()
        return answers

    def ask(self, compact: str) -> Reply:
        """The main reply to one message."""
        (answer,) = self.post(compact)
        return self.read(answer.reply[0])

    def read(self, compact: str) -> Reply:
        verified = self.signer.keyset.verify(envelope.open_envelope(compact.encode()))
        return messages.parse_reply(verified)

    def grant(self, compact: str) -> tuple[Grant, str]:
        """The grant that answers a message, and its envelope."""
        (answer,) = self.post(compact)
        reply = self.read(answer.reply[0])
        assert isinstance(reply, Grant), answer
        return reply, answer.reply[0]

    def refused(self, compact: str) -> Refusal:
        reply = self.ask(compact)
        assert isinstance(reply, Refusal), reply
        return reply

    def credit(self, compact: str) -> Credit:
        reply = self.ask(compact)
        assert isinstance(reply, Credit), reply
        return reply

    def line(self, line: Line) -> Balances:
        return self.store.tables.lines[line.line_id].balances

    def where(self, line: Line) -> tuple[int, int, int, int]:
        """available, held, returning, quarantined"""
        balances = self.line(line)
        return balances.available, balances.held, balances.returning, balances.quarantined

    def incidents(self) -> list[IncidentKind]:
        return [incident.kind for incident in self.store.tables.incidents]

    def holdings(self) -> list[Holding]:
        return list(self.store.tables.holdings.values())

    def check(self) -> None:
        report = self.store.transact(verification.verify_books)
        assert report.is_green, report.faults

    def start_return(self, device: Device) -> str:
        return self.store.transact(
            lambda tx: interventions.start_return(
                tx, self.signer, device.id, by="support", now=self.now, takes_back=True
            )
        )

    def declare_lost(self, device: Device, **options: Any) -> None:
        self.store.transact(lambda tx: serve_until(tx, self.signer, self.now))
        self.store.transact(
            lambda tx: interventions.declare_lost(
                tx,
                self.signer,
                device.id,
                reason="burnt",
                by="support",
                policy=self.policy,
                now=self.now,
                **options,
            )
        )
        self.check()

    def release(self, device: Device) -> None:
        self.store.transact(
            lambda tx: interventions.release_hold(tx, self.signer, device.id, by="support", now=self.now)
        )
        self.check()

    def settle(self) -> None:
        """All time until now was time in service."""

        def work(tx: Any) -> None:
            serve_until(tx, self.signer, self.now)
            interventions.settle_quarantines(tx, self.signer, now=self.now)

        self.store.transact(work)
        self.check()


def serve_until(tx: Any, signer: Any, now: int) -> None:
    """An activation server was in service, with a steady clock, since ``START``."""
    passed = now - (tx.load_clock().at or START)
    if not tx.load_clock_for_update().at:
        tx.save_clock(ServiceClock(at=START))
    keep_time(tx, signer, Tick(now=now, before=now - passed, elapsed=passed))


@dataclass
class Device:
    """A field server that says what the test tells it to. ``copy`` clones it, disk and all."""

    name: str
    kind: str = "AS-P"
    host_id: str = ""
    epoch: int = 1
    sequence: int = 0
    applied: tuple[int, str] | None = None
    applied_grant: str | None = None
    aud: str = ISSUER
    salt: str = ""

    @property
    def key(self) -> PrivateKey:
        return PrivateKey(seeded(f"device {self.name}"))

    @property
    def id(self):
        return self.key.public.device_id

    def copy(self, salt: str = "copy") -> Device:
        return replace(self, salt=salt)

    def take(self, compact: str) -> None:
        """Apply a grant without any of the real field server's checks."""
        claims = messages.convert_claims(envelope.open_envelope(compact.encode()).payload, Grant)
        self.epoch = claims.epoch
        self.applied = (claims.number, envelope.digest_of(compact))
        self.applied_grant = compact

    def say(self, purpose: str, **claims: Any) -> str:
        self.sequence = claims.pop("sequence", self.sequence + 1)
        jti = (
            f"jti-{self.name}-{self.salt}-{self.sequence}-{purpose}".replace(" ", "")
            .encode("ascii", "ignore")
            .decode()[:60]
            .ljust(16, "0")
        )
        wants = claims.pop("wants", None)
        request = messages.Request(
            iss=self.id,
            aud=self.aud,
            jti=jti,
            iat=START,
            purpose=purpose,
            epoch=claims.pop("epoch", self.epoch),
            sequence=self.sequence,
            applied=claims.pop(
                "applied",
                messages.AppliedGrant(number=self.applied[0], digest=self.applied[1]) if self.applied else None,
            ),
            facts=messages.Facts(
                kind=self.kind, host_id=self.host_id or f"host-{self.name}", name=self.name, software="1.0"
            ),
            wants=None if wants is None else tuple(wants),
            **claims,
        )
        return self.key.sign(messages.REQUEST, messages.encode_claims(request), with_jwk=True)

    def activate(self, *wants: tuple[Line, int], **claims: Any) -> str:
        sequence = claims.get("sequence", self.sequence + 1)
        jti = (
            f"jti-{self.name}-{self.salt}-{sequence}-activate".replace(" ", "")
            .encode("ascii", "ignore")
            .decode()[:60]
            .ljust(16, "0")
        )
        return self.say(
            "activate",
            wants=[
                messages.LineWant(
                    line=line.line_id,
                    quantity=quantity,
                    proof=messages.activation_proof(line.activation_id, self.id, jti),
                )
                for line, quantity in wants
            ],
            **claims,
        )

    def give_back(self, *wants: tuple[Line, int], **claims: Any) -> str:
        if not wants:
            return self.say("return", all=True, **claims)
        return self.say(
            "return",
            wants=[messages.LineWant(line=line.line_id, quantity=quantity) for line, quantity in wants],
            **claims,
        )

    def relinquish(self) -> str:
        self.epoch += 1
        self.applied = self.applied_grant = None
        return self.say("relinquish")
