"""Entitlements, lines and what people change about them."""

import pytest

from support.activation import ISSUER, START, Bench, Device, seeded
from tallystick.activation.core import entitlements
from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.interventions import RefusedError
from tallystick.activation.core.ports import Enrolment, Policy, Status
from tallystick.domain.catalog import Catalog, Product
from tallystick.protocol import messages, tallyfile
from tallystick.protocol.messages import Grant


@pytest.fixture
def bench():
    return Bench()


def create(bench, *products, **terms):
    numbers = iter(range(1000))
    options = {"account": "acme", "expires_at": None, "by": "ada", "now": START} | terms
    return bench.store.transact(
        lambda tx: entitlements.create_entitlement(
            tx,
            bench.signer,
            products=products,
            random_bytes=lambda count: seeded(f"made {next(numbers)}", count),
            **options,
        )
    )


def change(bench, line, **terms):
    return bench.store.transact(
        lambda tx: entitlements.change_line(
            tx, bench.signer, line.line_id, LineChange(**terms), by="ada", now=bench.now
        )
    )


def code_of(work, *arguments, **options):
    with pytest.raises(RefusedError) as refused:
        work(*arguments, **options)
    return refused.value.code


class TestCreate:
    def test_what_was_bought_is_available_and_in_the_ledger(self, bench):
        made = create(bench, ("smartdriver", 3), ("smartdriver", 4), expires_at=START + 5)
        assert [line.balances.available for line in made.lines] == [3, 4]
        assert {line.expires_at for line in made.lines} == {START + 5}
        entry = bench.store.tables.entries[made.lines[0].line_id, 1]
        assert (entry.source, entry.target, entry.quantity, entry.cause) == (
            "bought",
            "available",
            3,
            "person:ada: bought",
        )
        bench.check()

    def test_it_can_be_activated_at_once(self, bench):
        (line,) = create(bench, ("smartdriver", 3)).lines
        bench.grant(Device("a").activate((line, 3)))
        assert bench.where(line) == (0, 3, 0, 0)

    def test_a_line_id_that_is_taken_is_not_used_again(self, bench):
        first, second = create(bench, ("smartdriver", 1)), None
        ids = iter([seeded("x", 16), seeded("made 1", 5), seeded("fresh", 5), seeded("y", 16)])
        second = bench.store.transact(
            lambda tx: entitlements.create_entitlement(
                tx,
                bench.signer,
                account="acme",
                products=[("smartdriver", 1)],
                expires_at=None,
                random_bytes=lambda _: next(ids),
                by="ada",
                now=START,
            )
        )
        assert first.lines[0].line_id != second.lines[0].line_id

    @pytest.mark.parametrize(
        ("products", "code"),
        [
            ([("nothing", 1)], "product-unknown"),
            ([("smartdriver", 0)], "quantity-wrong"),
            ([("smartdriver", 1_000_000_001)], "quantity-wrong"),
            ([], "entitlement-too-large"),
            ([("smartdriver", 1)] * 101, "entitlement-too-large"),
        ],
    )
    def test_what_cannot_be_is_refused_and_leaves_nothing(self, bench, products, code):
        assert code_of(create, bench, *products) == code
        assert not bench.store.tables.entitlements

    @pytest.mark.parametrize("account", ["", " ", "a\nb", "\u202e", "x" * 129])
    def test_a_name_that_is_none_is_refused(self, bench, account):
        assert code_of(create, bench, ("smartdriver", 1), account=account) == "text-wrong"

    def test_what_does_not_fit_into_a_certificate_is_refused(self, bench):
        wide = Product(
            sku="wide",
            name="\U0001f9fe" * 128,
            kinds=frozenset(f"{'k' * 38}{number:02}" for number in range(16)),
            features={f"{'f' * 31}{number}": 1 for number in range(8)},
        )
        bench.store.tables.catalog = Catalog(kinds=(), products={"wide": wide})
        assert code_of(create, bench, *[("wide", 1)] * 50) == "entitlement-too-large"


class TestCertificate:
    def test_it_is_a_tally_file_with_the_keys_that_check_it(self, bench):
        made = create(bench, ("logs", 2), ("fixed", 1))
        data = b"".join(entitlements.certificate_file(made, bench.signer, now=START))
        keyset, certificate = [line.envelope for line in tallyfile.parse_chunks([data])]
        assert keyset.compact == bench.signer.keyset.compact
        claims = messages.parse_entitlement(bench.signer.keyset.verify(certificate))
        assert (claims.entitlement, claims.account, claims.iss) == (made.entitlement_id, "acme", ISSUER)
        logs, fixed = claims.lines
        assert logs.activation_id == str(made.lines[0].activation_id)
        assert (logs.kinds, logs.quantity, logs.one_carry, logs.returnable) == (("Edge Server",), 2, False, True)
        assert (fixed.one_carry, fixed.returnable) == (False, False)


class TestChange:
    def test_raise_and_lower(self, bench):
        (line,) = create(bench, ("smartdriver", 3)).lines
        assert change(bench, line, quantity=5).balances.available == 5
        after = change(bench, line, quantity=2)
        assert (after.balances.available, after.balances.retired, entitlements.quantity_of(after)) == (2, 3, 2)
        assert change(bench, line, quantity=2) == after
        assert change(bench, line, quantity=0).balances.available == 0
        bench.check()

    def test_only_what_is_available_can_be_taken_away(self, bench):
        (line,) = create(bench, ("smartdriver", 3)).lines
        bench.grant(Device("a").activate((line, 2)))
        assert code_of(change, bench, line, quantity=1) == "not-enough"
        assert change(bench, line, quantity=2).balances.available == 0
        bench.check()

    @pytest.mark.parametrize("quantity", [-1, 1_000_000_001])
    def test_a_quantity_out_of_range_is_refused(self, bench, quantity):
        (line,) = create(bench, ("smartdriver", 3)).lines
        assert code_of(change, bench, line, quantity=quantity) == "quantity-wrong"

    def test_terms_arrive_with_a_refresh(self, bench):
        (line,) = create(bench, ("smartdriver", 3), expires_at=START + 10).lines
        device = Device("a")
        grant, compact = bench.grant(device.activate((line, 1)))
        assert grant.licenses[0].expires == START + 10
        device.take(compact)
        change(bench, line, has_expiry=True, expires_at=None)
        grant, _ = bench.grant(device.say("refresh"))
        assert grant.licenses[0].expires is None

    def test_engineering_becomes_bought(self, bench):
        (line,) = create(bench, ("smartdriver", 1)).lines
        bench.change_line(line, engineering=True)
        assert change(bench, line, is_bought=True).engineering is False

    def test_a_suspended_line_does_not_grow_and_goes_on_when_resumed(self, bench):
        (line,) = create(bench, ("smartdriver", 3)).lines
        change(bench, line, suspended=True)
        device = Device("a")
        assert bench.refused(device.activate((line, 1))).code == "line-suspended"
        assert change(bench, line, quantity=4).suspended  # other changes leave it
        change(bench, line, suspended=False)
        assert isinstance(bench.ask(device.activate((line, 1))), Grant)

    def test_a_line_that_is_not_there_is_not_found(self, bench):
        (line,) = create(bench, ("smartdriver", 3)).lines
        bench.store.tables.lines.clear()
        assert code_of(change, bench, line, quantity=1) == "not-found"


class TestListing:
    def enrol(self, bench, device_id, account=None):
        return bench.store.transact(
            lambda tx: entitlements.list_field_server(tx, bench.signer, device_id, account=account, now=START)
        )

    def test_who_was_listed_becomes_known_at_first_contact(self, bench):
        bench.policy = Policy(enrolment=Enrolment.LISTED)
        (line,) = create(bench, ("smartdriver", 3)).lines
        listed, other = Device("a"), Device("b")
        assert self.enrol(bench, listed.id, "acme").status is Status.LISTED
        assert self.enrol(bench, listed.id).account == "acme"  # again changes nothing
        assert bench.refused(other.activate((line, 1))).code == "not-enrolled"
        bench.grant(listed.activate((line, 1)))
        assert self.enrol(bench, listed.id).status is Status.ACTIVE

    @pytest.mark.parametrize("text", ["", "abc", "x" * 44, "!" * 43, "x" * 42 + "\n"])
    def test_what_is_no_device_id_is_refused(self, bench, text):
        assert code_of(self.enrol, bench, text) == "device-id-mistyped"
