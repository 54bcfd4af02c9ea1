"""An activation server on a real database, for tests: what ``support.activation.Bench`` is in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from support.activation import PRODUCTS, START, TestSigner, seeded
from tallystick.activation.core import issuing, reading
from tallystick.activation.core.ports import Answer, Past, Policy
from tallystick.activation.core.verification import Report
from tallystick.activation.storage import SqlStore, open_store, verify_database
from tallystick.domain.catalog import Catalog
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import EntitlementId, new_line_id
from tallystick.domain.ledger import Account, Balances, apply_booking
from tallystick.protocol import envelope
from tallystick.protocol.messages import Reply, parse_reply

CATALOG = Catalog(kinds=("AS-P", "AS-B", "Edge Server"), products=PRODUCTS)


@dataclass
class Office:
    store: SqlStore
    signer: TestSigner = field(default_factory=TestSigner)
    policy: Policy = field(default_factory=Policy)
    now: int = START

    @classmethod
    def at(cls, url: str) -> Office:
        """A new one on an empty database."""
        office = cls(open_store(url, create=True))
        office.store.transact(lambda tx: tx.save_catalog(CATALOG))
        return office

    def buy(self, quantity: int, *, name: str = "line", sku: str = "smartdriver", account: str = "acme") -> Line:
        line = Line(
            line_id=new_line_id(seeded(name)),
            entitlement_id=EntitlementId(f"EN-{name}"),
            account=account,
            product=PRODUCTS[sku],
            secret=seeded(f"secret {name}", 16),
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
        line = replace(line, balances=balances)
        entitlement = Entitlement(
            entitlement_id=line.entitlement_id, account=account, created_at=self.now, lines=(line,)
        )
        self.store.transact(lambda tx: tx.save_entitlement(entitlement, [entry]))
        return line

    def read_message(self, compact: str) -> reading.Message:
        return reading.read_message(envelope.open_envelope(compact.encode()), self.signer.keyset)

    def process(self, tx: Any, *compacts: str) -> list[Answer]:
        batch = [self.read_message(compact) for compact in compacts]
        return issuing.process(batch, tx, signer=self.signer, policy=self.policy, now=self.now)

    def post(self, *compacts: str) -> list[Answer]:
        batch = [self.read_message(compact) for compact in compacts]
        return self.store.transact(
            lambda tx: issuing.process(batch, tx, signer=self.signer, policy=self.policy, now=self.now)
        )

    def ask(self, compact: str) -> Reply:
        (answer,) = self.post(compact)
        return parse_reply(self.signer.keyset.verify(envelope.open_envelope(answer.reply[0].encode())))

    def where(self, line: Line) -> tuple[int, int, int, int]:
        """available, held, returning, quarantined"""
        found = self.store.read(lambda tx: tx.load_lines_for_update([line.line_id]))[line.line_id].balances
        return found.available, found.held, found.returning, found.quarantined

    def audit(self) -> Report:
        report = self.store.read(verify_database)
        assert report.is_green, report.faults
        return report


def past_of(transaction: Any, *, digests: Any, sequences: Any, grants: Any) -> Past:
    """What a unit of work is told of the past."""
    loaded = transaction.load_asked(devices=(), digests=digests, sequences=sequences, grants=grants, lines=())
    return loaded.past
