"""The store: what is saved is what is loaded, whole or not at all, on every engine."""

import pytest
from msgspec.structs import replace

from support.activation import ISSUER, START, Device, TestSigner, seeded, serve_until
from support.office import past_of
from tallystick.activation.core import entitlements, interventions, issuing, reading, verification
from tallystick.activation.core.ports import (
    Answer,
    Changes,
    FieldServer,
    Holding,
    Incident,
    IncidentKind,
    IssuedGrant,
    LostDeclaration,
    MessageOutcome,
    Policy,
    Status,
    TakenMessage,
)
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.grant import Outstanding
from tallystick.domain.ids import DeviceId, Digest, LineId
from tallystick.errors import InvariantError
from tallystick.protocol import envelope
from tallystick.simulator.store import MemoryStore

KINDS = ("AS-P", "AS-B", "Edge Server")
CATALOG = Catalog(
    kinds=KINDS,
    products={
        "one": Product(sku="one", name="One", kinds=frozenset(KINDS), features={"one": 1}),
        "two": Product(sku="two", name="Zwei \u2028 \U0001f9fe", kinds=frozenset({"AS-P"}), features={"a": 1, "b": 10}),
    },
)
SIGNER = TestSigner()


def device(text="a", **fields):
    return FieldServer(device_id=DeviceId(text.ljust(43, "x")), public_key="k", **fields)


def random_bytes(seed):
    numbers = iter(range(10_000))
    return lambda count: seeded(f"{seed} {next(numbers)}", count)


def buy(store, *products, account="acme", seed="seed"):
    store.transact(lambda tx: tx.save_catalog(CATALOG))
    return store.transact(
        lambda tx: entitlements.create_entitlement(
            tx,
            SIGNER,
            account=account,
            products=products,
            expires_at=None,
            random_bytes=random_bytes(seed),
            by="test",
            now=START,
        )
    )


def post(store, *compacts, now=START, policy=None):
    batch = [reading.read_message(envelope.open_envelope(compact.encode()), SIGNER.keyset) for compact in compacts]
    return store.transact(lambda tx: issuing.process(batch, tx, signer=SIGNER, policy=policy or Policy(), now=now))


def save(store, **changes):
    store.transact(lambda tx: tx.save(Changes(**changes)))


def save_servers(store, *servers):
    save(store, field_servers={server.device_id: server for server in servers})


class TestWhatIsSavedIsLoaded:
    def test_a_field_server_with_everything_set(self, store):
        full = device(
            account="acme",
            kind="AS-P",
            host_id="host \U0001f3e2",
            name="x" * 128,
            software="1",
            status=Status.LOST,
            epoch=2**53 - 1,
            spoken_epoch=3,
            sequence=2**53 - 1,
            number=7,
            proven=6,
            outstanding=(
                Outstanding(epoch=1, number=6, quantities={LineId("AAAAAAAA"): 1_000_000_000}),
                Outstanding(epoch=2, number=7, quantities={}),
            ),
            recovering=9,
            lost_at=START,
            lost_until=START + 1,
            first_seen_at=1,
            last_seen_at=2,
        )
        empty = device("b")
        save_servers(store, full, empty)
        wanted = [full.device_id, empty.device_id, DeviceId("nobody")]
        found = store.transact(lambda tx: tx.load_field_servers_for_update(wanted))
        assert found == {full.device_id: full, empty.device_id: empty}

    def test_an_entitlement_keeps_its_lines_in_order(self, store):
        made = buy(store, ("two", 1), ("one", 5), ("two", 3))
        assert store.read(lambda tx: tx.load_entitlement(made.entitlement_id)) == made
        assert store.read(lambda tx: tx.find_entitlements()) == [made]
        assert store.read(lambda tx: tx.find_entitlements(after=made.entitlement_id)) == []
        assert store.read(lambda tx: tx.load_entitlement("EN-NOBODY")) is None

    def test_a_line_has_its_product_as_the_catalog_has_it_now(self, store):
        (line,) = buy(store, ("one", 5)).lines
        changed = replace(CATALOG.products["one"], kinds=frozenset({"AS-B"}), engineering=True)
        store.transact(lambda tx: tx.save_catalog(Catalog(kinds=("AS-B",), products={"one": changed})))
        loaded = store.transact(lambda tx: tx.load_lines_for_update([line.line_id]))[line.line_id]
        assert loaded.product == changed
        assert loaded.engineering is False  # the line keeps its own marker

    def test_the_catalog_replaces_kinds_and_keeps_products(self, store):
        store.transact(lambda tx: tx.save_catalog(CATALOG))
        three = Product(sku="three", name="3", kinds=frozenset({"X"}), features={}, returnable=False, one_carry=False)
        store.transact(lambda tx: tx.save_catalog(Catalog(kinds=("X",), products={"three": three})))
        assert store.read(lambda tx: tx.load_catalog()) == Catalog(
            kinds=("X",), products=CATALOG.products | {"three": three}
        )

    def test_messages_answers_grants_incidents_declarations(self, store):
        server = device(account="acme")
        digest = Digest("d" * 43)
        answer = Answer(
            digest=digest, outcome=MessageOutcome.REFUSED, reply=("a.b.c", "d.e.f"), code="fork", detail="w\nhy"
        )
        message = TakenMessage(
            digest=digest, device_id=server.device_id, epoch=1, sequence=5, purpose="return", taken_at=1, answer=answer
        )
        grant = IssuedGrant(
            device_id=server.device_id, number=3, epoch=1, digest=Digest("g" * 43), issued_at=2, envelope="x.y.z"
        )
        incidents = [
            Incident(kind=IncidentKind.FORK, device_id=server.device_id, at=at, detail="d", digest=digest)
            for at in (1, 2)
        ]
        lost = LostDeclaration(
            device_id=server.device_id,
            account="acme",
            at=4,
            reason="r",
            by="b",
            override_by="o",
            held={LineId("AAAAAAAA"): 1},
        )
        save(
            store,
            field_servers={server.device_id: server},
            messages=[message],
            grants=[grant],
            incidents=incidents,
            declarations=[lost],
        )
        key, nothing = (server.device_id, 5), (server.device_id, 6)
        with_tx = store.transact
        past = with_tx(
            lambda tx: past_of(
                tx, digests=[digest, Digest("no")], sequences=[key, nothing], grants=[(server.device_id, 3), nothing]
            )
        )
        assert past.answers == {digest: answer}
        assert past.sequences == {key: digest}
        assert past.grants == {(server.device_id, 3): grant.digest}
        assert with_tx(lambda tx: tx.load_issued_grant(server.device_id, 3)) == grant
        assert with_tx(lambda tx: tx.load_issued_grant(server.device_id, 4)) is None
        assert with_tx(lambda tx: tx.find_incidents()) == incidents[::-1]
        assert with_tx(lambda tx: tx.find_incidents(limit=1)) == incidents[1:]
        assert with_tx(lambda tx: tx.load_last_declaration(server.device_id)) == lost
        assert with_tx(lambda tx: tx.load_declarations(account="acme", since_at=4)) == [lost]
        assert with_tx(lambda tx: tx.load_declarations(account="acme", since_at=5)) == []
        assert with_tx(lambda tx: tx.load_declarations(account=None, since_at=0)) == []
        undone = replace(lost, undone_at=9)
        save(store, declarations=[undone])
        assert with_tx(lambda tx: tx.load_declarations(account="acme", since_at=0)) == [undone]

    def test_of_two_messages_with_one_sequence_the_first_used_it(self, store):
        for at, digest in ((2, "a" * 43), (1, "b" * 43)):
            message = TakenMessage(
                digest=Digest(digest),
                device_id=DeviceId("d"),
                epoch=1,
                sequence=1,
                purpose="refresh",
                taken_at=at,
                answer=Answer(digest=Digest(digest), outcome=MessageOutcome.REFUSED, reply=("x",)),
            )
            save(store, messages=[message])
        past = store.read(lambda tx: past_of(tx, digests=[], sequences=[("d", 1)], grants=[]))
        assert past.sequences == {("d", 1): "b" * 43}

    def test_two_thousand_at_once(self, store):
        servers = [device(f"{number:05}", name=f"n{number}", host_id=f"h{number}") for number in range(2000)]
        save_servers(store, *servers)
        ids = [server.device_id for server in servers]
        found = store.transact(lambda tx: tx.load_field_servers_for_update(ids))
        assert list(found) == sorted(ids)
        assert len(store.transact(lambda tx: tx.load_host_id_owners([server.host_id for server in servers]))) == 2000
        keys = [(device_id, 1) for device_id in ids]
        past = store.transact(lambda tx: past_of(tx, digests=ids, sequences=keys, grants=keys))
        assert (past.answers, past.sequences, past.grants) == ({}, {}, {})
        first = store.read(lambda tx: tx.find_field_servers(limit=999))
        rest = store.read(lambda tx: tx.find_field_servers(after=first[-1].device_id, limit=2000))
        assert (first + rest, len(first)) == (servers, 999)


class TestRules:
    def test_a_work_that_raises_leaves_nothing(self, store):
        def work(tx):
            tx.save(Changes(field_servers={device().device_id: device()}))
            raise KeyError

        with pytest.raises(KeyError):
            store.transact(work)
        assert store.read(lambda tx: tx.find_field_servers()) == []

    def test_a_field_server_that_was_not_loaded_is_never_overwritten(self, store):
        save_servers(store, device(name="first"))
        with pytest.raises(InvariantError):
            save_servers(store, device(name="second"))
        assert [server.name for server in store.read(lambda tx: tx.find_field_servers())] == ["first"]

    def test_balances_that_do_not_add_up_are_refused_by_the_table(self, store):
        (line,) = buy(store, ("one", 5)).lines
        wrong = replace(line, balances=replace(line.balances, held=1))
        with pytest.raises(InvariantError):
            save(store, lines={line.line_id: wrong})
        assert store.read(lambda tx: tx.find_lines()) == [line]

    def test_a_holding_remembers_since_when_some_is_returning_and_goes_when_nothing_is_left(self, store):
        (line,) = buy(store, ("one", 5)).lines
        server = device()
        save_servers(store, server)

        def hold(**fields):
            holding = Holding(device_id=server.device_id, line_id=line.line_id, **fields)
            save(store, holdings={(server.device_id, line.line_id): holding})
            return store.read(lambda tx: tx.load_holdings([line.line_id]))

        assert hold(held=2, since_at=10)[0].since_at == 10
        assert hold(held=1, returning=1, since_at=20)[0].since_at == 20
        assert hold(returning=2, since_at=30)[0].since_at == 20
        assert store.read(lambda tx: tx.find_open_returns())[0].returning == 2
        assert hold(held=2, since_at=40)[0].since_at == 40
        assert store.read(lambda tx: tx.find_open_returns()) == []
        assert hold(since_at=50) == []

    def test_a_host_id_is_owned_only_in_service(self, store):
        states = dict(zip("abcde", Status, strict=True))
        save_servers(store, *(device(name, host_id="h", status=status) for name, status in states.items()))
        owners = store.transact(lambda tx: tx.load_host_id_owners(["h", "other"]))
        assert owners == {
            "h": {device(name).device_id: None for name, status in states.items() if status in {"active", "hold"}}
        }

    def test_quarantines_are_due_when_their_time_is_over(self, store):
        save_servers(
            store,
            device("a", status=Status.LOST, waits_until=10),
            device("b", status=Status.LOST, waits_until=11),
            device("c", status=Status.RETIRED, waits_until=1),
        )
        assert store.read(lambda tx: tx.load_due_quarantines(10)) == [device("a").device_id]

    def test_a_read_does_not_wait_for_a_writer_and_sees_the_last_commit(self, store):
        def work(tx):
            tx.save(Changes(field_servers={device().device_id: device()}))
            return store.read(lambda other: other.find_field_servers())

        assert store.transact(work) == []
        assert len(store.read(lambda tx: tx.find_field_servers())) == 1


def test_a_long_story_is_the_same_on_every_store(store):
    """The same messages on a database and on the simulator's store in memory: same bytes, same books."""
    memory = MemoryStore()
    for either in (store, memory):
        buy(either, ("one", 6), ("two", 4))
    lines = store.read(lambda tx: tx.find_lines())
    one, two = sorted(lines, key=lambda line: line.product.sku)
    now = START
    first, second = Device("first"), Device("second", kind="AS-B")

    def both(*compacts):
        nonlocal now
        now += 60
        answers = [post(either, *compacts, now=now) for either in (store, memory)]
        assert answers[0] == answers[1]
        return answers[0]

    def people(work):
        nonlocal now
        now += 60
        results = [either.transact(lambda tx: work(tx, now)) for either in (store, memory)]
        assert results[0] == results[1]
        return results[0]

    first.take(both(first.activate((one, 3), (two, 2)))[0].reply[0])
    both(first.say("confirm"), second.activate((one, 3), (two, 1)))
    second.take(both(second.activate((one, 2)))[0].reply[0])
    both(second.say("refresh"), first.give_back((one, 1)))
    people(lambda tx, now: interventions.start_return(tx, SIGNER, first.id, by="x", now=now, takes_back=True))
    both(first.relinquish())
    clone = second.copy()
    both(second.say("refresh"))
    both(clone.say("refresh", sequence=second.sequence))
    people(lambda tx, now: interventions.release_hold(tx, SIGNER, second.id, by="x", now=now))
    people(
        lambda tx, now: interventions.declare_lost(tx, SIGNER, second.id, reason="r", by="x", policy=Policy(), now=now)
    )
    people(lambda tx, now: serve_until(tx, SIGNER, now + 15 * 86_400))
    people(lambda tx, now: interventions.settle_quarantines(tx, SIGNER, now=now + 15 * 86_400))
    both(second.say("refresh"))
    people(lambda tx, now: interventions.announce_restore(tx, SIGNER, now=now))
    both(first.activate((one, 1)))
    people(lambda tx, now: interventions.lift_freeze(tx, SIGNER, None, now=now))
    both(first.activate((one, 1)))

    def everything(tx):
        servers = tx.find_field_servers()
        return {
            "servers": servers,
            "lines": tx.find_lines(),
            "holdings": sorted(tx.load_holdings([one.line_id, two.line_id]), key=repr),
            "open": tx.find_open_returns(),
            "incidents": tx.find_incidents(),
            "entries": [tx.find_entries(line.line_id) for line in lines],
            "page": tx.find_entries(one.line_id, after=2, limit=2),
            "declarations": tx.load_declarations(account="acme", since_at=0),
            "grants": [tx.load_issued_grant(server.device_id, server.number) for server in servers],
            "catalog": tx.load_catalog(),
        }

    assert store.read(everything) == memory.transact(everything)
    assert store.read(verification.verify_books).is_green
    assert store.read(everything)["incidents"]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_nothing_on_the_way_to_a_reply_scans_a_table(store):
    """Query plans of SQLite: a key or an index, never a whole table."""
    lines = buy(store, ("one", 5), ("two", 5)).lines
    devices = [Device(name) for name in "abc"]
    for one in devices:
        one.take(post(store, one.activate((lines[0], 1), (lines[1], 1)))[0].reply[0])
    ran = []
    with store.engine.connect() as connection:
        connection.connection.driver_connection.set_trace_callback(ran.append)
    post(store, *(one.say("confirm") for one in devices), Device("new").activate((lines[0], 1)))
    selects = [sql for sql in ran if sql.lstrip().startswith("SELECT")]
    assert 6 <= len(selects) < 10  # a batch asks in a few statements, however many messages it has
    with store.engine.connect() as connection:
        plans = [row[3] for sql in selects for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}")]
    assert [step for step in plans if step.startswith("SCAN") and "json_each" not in step] == []


def test_the_issuer_of_these_tests_is_the_one_of_the_devices():
    assert SIGNER.keyset.issuer == ISSUER
