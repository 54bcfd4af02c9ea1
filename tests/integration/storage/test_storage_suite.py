"""The store does what the ports say, the same on SQLite and on PostgreSQL, and the same as the store in memory."""

import random

import pytest
from msgspec.structs import replace

from support.activation import DAY, PRODUCTS, START, Bench, Device, serve_until
from support.office import CATALOG, past_of
from tallystick.activation.core import interventions
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
    Past,
    Status,
    TakenMessage,
)
from tallystick.domain.catalog import Catalog
from tallystick.domain.grant import Outstanding
from tallystick.domain.ids import Digest, LineId


def device_id(name):
    return Device(name).id


def server(device, **facts):
    return FieldServer(device_id=device_id(device), public_key=Device(device).key.public.x, **facts)


def save(office, **changes):
    def work(tx):
        tx.load_field_servers_for_update(changes.get("field_servers", {}))
        tx.load_lines_for_update(changes.get("lines", {}))
        tx.save(Changes(**changes))

    office.store.transact(work)


def saved_servers(office, *servers):
    save(office, field_servers={one.device_id: one for one in servers})


def test_a_catalog_is_read_as_it_was_saved(office):
    assert office.store.read(lambda tx: tx.load_catalog()) == CATALOG


def test_a_product_that_the_new_catalog_leaves_out_stays(office):
    office.store.transact(lambda tx: tx.save_catalog(Catalog(kinds=("AS-P",), products={})))
    found = office.store.read(lambda tx: tx.load_catalog())
    assert (found.kinds, found.products) == (("AS-P",), PRODUCTS)


def test_an_entitlement_is_read_as_it_was_saved(office):
    line = office.buy(7)
    found = office.store.read(lambda tx: tx.load_entitlement(line.entitlement_id))
    assert found.lines == (line,)
    assert office.store.read(lambda tx: tx.load_entitlement("EN-other")) is None


def test_a_field_server_is_read_as_it_was_saved_with_every_field_set(office):
    line = office.buy(7)
    found = server(
        "a",
        account="acme",
        kind="AS-P",
        host_id="host",
        name="roof \N{SNOWMAN}",
        software="1",
        status=Status.LOST,
        epoch=2,
        spoken_epoch=1,
        sequence=3,
        number=4,
        proven=2,
        outstanding=(
            Outstanding(epoch=1, number=3, quantities={line.line_id: 2}),
            Outstanding(epoch=2, number=4, quantities={}),
        ),
        recovering=9,
        lost_at=START,
        lost_until=START + DAY,
        first_seen_at=5,
        last_seen_at=6,
    )
    saved_servers(office, found)
    assert office.store.transact(lambda tx: tx.load_field_servers_for_update([found.device_id, "?" * 43])) == {
        found.device_id: found
    }
    changed = found.changed(status=Status.ACTIVE, lost_at=None, lost_until=None, recovering=None, outstanding=())
    saved_servers(office, changed)
    assert office.store.read(lambda tx: tx.find_field_servers()) == [changed]


def test_many_keys_at_once_are_all_found(office):
    servers = [server(f"many {number}") for number in range(2500)]
    saved_servers(office, *servers)
    ids = [one.device_id for one in servers]
    assert office.store.transact(lambda tx: tx.load_field_servers_for_update(ids)).keys() == set(ids)


def test_field_servers_and_lines_come_in_id_order_by_pages(office):
    saved_servers(office, *(server(f"page {number}") for number in range(25)))
    lines = [office.buy(1, name=f"page {number}").line_id for number in range(25)]

    def pages(tx):
        found, after = [], None
        while page := tx.find_field_servers(after=after, limit=10):
            found += [one.device_id for one in page]
            after = found[-1]
        return found

    assert office.store.read(pages) == sorted(device_id(f"page {number}") for number in range(25))
    assert [line.line_id for line in office.store.read(lambda tx: tx.find_lines())] == sorted(lines)


def test_answers_sequences_and_grant_digests_are_found_by_their_keys(office):
    saved_servers(office, server("a"))
    answer = Answer(
        digest=Digest("D" * 43),
        outcome=MessageOutcome.REFUSED,
        reply=("a.b.c", "d.e.f"),
        code="fork",
        detail="two\ncopies",
    )
    message = TakenMessage(
        digest=answer.digest,
        device_id=device_id("a"),
        epoch=1,
        sequence=5,
        purpose="return",
        taken_at=START,
        answer=answer,
    )
    later = replace(
        message, digest=Digest("A" * 43), taken_at=START + 1, answer=replace(answer, digest=Digest("A" * 43), reply=())
    )
    grant = IssuedGrant(device_id=device_id("a"), number=8, epoch=1, digest=Digest("G" * 43), issued_at=START)
    save(office, messages=[message, later], grants=[grant])
    with_others = [(device_id("a"), 5), (device_id("a"), 6), (device_id("b"), 5)]

    def work(tx):
        found = past_of(
            tx,
            digests=[message.digest, later.digest, Digest("?" * 43)],
            sequences=with_others,
            grants=[(device_id("a"), 8), (device_id("a"), 5)],
        )
        nothing = past_of(tx, digests=[], sequences=[], grants=[])
        return found, nothing, tx.load_issued_grant(device_id("a"), 8)

    found, nothing, issued = office.store.transact(work)
    answers, used, digests = found.answers, found.sequences, found.grants
    assert answers == {message.digest: answer, later.digest: later.answer}
    assert used == {(device_id("a"), 5): message.digest}  # the first of the two
    assert digests == {(device_id("a"), 8): grant.digest}
    assert issued == grant
    assert nothing == Past(answers={}, sequences={}, grants={})


def test_host_ids_belong_to_field_servers_in_service_only(office):
    saved_servers(
        office,
        server("a", host_id="h", account="acme", status=Status.ACTIVE),
        server("b", host_id="h", status=Status.HOLD),
        server("c", host_id="h", status=Status.RETIRED),
        server("d", host_id="other"),
    )
    owners = office.store.transact(lambda tx: tx.load_host_id_owners({"h", "nobody's"}))
    assert owners == {"h": {device_id("a"): "acme", device_id("b"): None}}


def test_those_of_an_account_that_hold_nothing_are_counted(office):
    line = office.buy(9)
    saved_servers(
        office,
        server("a", account="acme", status=Status.ACTIVE),
        server("b", account="acme", status=Status.HOLD),
        server("c", account="acme", status=Status.LISTED),
        server("d", account="harbour"),
        server("e", account="acme"),
    )
    holding = Holding(device_id=device_id("e"), line_id=line.line_id, returning=1)
    save(office, holdings={(holding.device_id, holding.line_id): holding})
    assert office.store.read(lambda tx: [tx.count_idle(name) for name in ("acme", "harbour", "nobody")]) == [2, 1, 0]


def test_since_when_a_line_is_returning_is_kept_until_nothing_is(office):
    line = office.buy(9)
    saved_servers(office, server("a"))

    def hold(**amounts):
        holding = Holding(device_id=device_id("a"), line_id=line.line_id, **amounts)
        save(office, holdings={(holding.device_id, holding.line_id): holding})
        return office.store.read(lambda tx: tx.load_holdings([line.line_id]))

    assert [one.since_at for one in hold(held=1, returning=1, since_at=10)] == [10]
    assert [(one.returning, one.since_at) for one in hold(held=0, returning=2, since_at=20)] == [(2, 10)]
    assert office.store.read(lambda tx: tx.find_open_returns())[0].since_at == 10
    assert [one.since_at for one in hold(held=2, since_at=30)] == [30]
    assert [one.since_at for one in hold(returning=1, since_at=40)] == [40]
    assert hold(since_at=50) == []
    assert office.store.read(lambda tx: tx.find_open_returns()) == []


def test_incidents_come_newest_first(office):
    saved_servers(office, server("a"))
    found = [
        Incident(kind=IncidentKind.FORK, device_id=device_id("a"), at=number, detail=f"no. {number}")
        for number in (1, 2, 3)
    ]
    save(office, incidents=found)
    assert office.store.read(lambda tx: tx.find_incidents()) == found[::-1]


def test_declarations_are_counted_per_account_and_replaced_when_undone(office):
    saved_servers(office, server("a", status=Status.LOST, waits_until=START))
    first = LostDeclaration(
        device_id=device_id("a"), account="acme", at=5, reason="burnt", by="me", held={LineId("7K3M9Q2A"): 4}
    )
    second = replace(first, at=9, override_by="boss")
    save(office, declarations=[first, second])
    assert office.store.read(lambda tx: tx.load_declarations(account="acme", since_at=6)) == [second]
    save(office, declarations=[replace(second, undone_at=11)])
    assert office.store.read(lambda tx: tx.load_last_declaration(device_id("a"))).undone_at == 11
    assert office.store.read(lambda tx: tx.load_declarations(account="other", since_at=0)) == []
    assert office.store.read(lambda tx: tx.load_due_quarantines(START - 1)) == []
    assert office.store.read(lambda tx: tx.load_due_quarantines(START)) == [device_id("a")]


def test_a_declaration_of_before_quantities_were_kept_is_read(office):
    saved_servers(office, server("a", status=Status.LOST, waits_until=START))
    one = LostDeclaration(device_id=device_id("a"), account="acme", at=5, reason="burnt", by="me", held={})
    save(office, declarations=[one])
    office.store.transact(
        lambda tx: tx.connection.exec_driver_sql("UPDATE declarations SET line_ids = '[\"7K3M9Q2A\"]'")
    )
    found = office.store.read(lambda tx: tx.load_last_declaration(device_id("a")))
    assert found.held == {LineId("7K3M9Q2A"): 0}


def test_the_first_end_of_the_quarantines_of_a_line_is_found(office):
    line, other = office.buy(7), office.buy(7, name="other")
    servers = [server(name, status=Status.LOST, lost_until=at) for name, at in (("a", 90), ("b", 80))]
    saved_servers(office, *servers)
    kept = [Holding(device_id=one.device_id, line_id=line.line_id, quarantined=2) for one in servers]
    save(office, holdings={(one.device_id, one.line_id): one for one in kept})
    ends = office.store.read(lambda tx: tx.load_quarantine_ends([line.line_id, other.line_id]))
    assert ends == {line.line_id: 80}


def test_a_work_that_fails_leaves_nothing(office):
    line = office.buy(7)
    device = Device("a")

    def work(tx):
        office.process(tx, device.activate((line, 2)))
        raise KeyError

    with pytest.raises(KeyError):
        office.store.transact(work)
    assert office.where(line) == (7, 0, 0, 0)
    assert office.store.read(lambda tx: tx.find_field_servers()) == []


def test_the_life_of_a_license_is_booked_and_every_answer_is_the_same_bytes_again(office):
    line = office.buy(7)
    device = Device("a")
    activate = device.activate((line, 2))
    (granted,) = office.post(activate)
    assert office.where(line) == (5, 2, 0, 0)
    device.take(granted.reply[0])
    give_back = device.give_back()
    (returning,) = office.post(give_back)
    assert office.where(line) == (5, 0, 2, 0)
    device.take(returning.reply[0])
    confirm = device.say("confirm")
    (credited,) = office.post(confirm)
    assert office.where(line) == (7, 0, 0, 0)
    office.now += DAY
    assert office.post(confirm, activate, give_back) == [credited, granted, returning]
    report = office.audit()
    assert (report.lines, report.entries, report.field_servers) == (1, 4, 1)


@pytest.mark.parametrize("seed", range(4))
def test_the_database_and_the_store_in_memory_give_the_same_bytes(office, seed):
    """A random story, the same on both: what an answer says, and what the books say after it."""
    dice = random.Random(seed)
    memory = Bench(signer=office.signer)
    lines = [office.buy(6, name=f"line {number}") for number in range(3)]
    for line in lines:
        entitlement = office.store.read(lambda tx, line=line: tx.load_entitlement(line.entitlement_id))
        entries = office.store.read(lambda tx, line=line: tx.find_entries(line.line_id))
        memory.store.transact(lambda tx, e=entitlement, n=entries: tx.save_entitlement(e, n))
    devices = [Device(f"{number}", kind=dice.choice(["AS-P", "AS-B", "Edge Server"])) for number in range(5)]
    devices.append(devices[0].copy())
    said = []
    for _ in range(40):
        device = dice.choice(devices)
        match dice.randrange(7):
            case 0 | 1 | 2:
                chosen = dice.sample(lines, dice.randint(1, 3))
                message = device.activate(*((line, dice.randint(0, 4)) for line in chosen))
            case 3:
                message = device.give_back()
            case 4:
                message = device.relinquish()
            case 5:
                message = device.say(dice.choice(["confirm", "refresh"]))
            case _:
                message = dice.choice(said) if said else device.say("refresh")
        said.append(message)
        batch = [message, *dice.sample(said, min(len(said), dice.randrange(3)))]
        answers = office.post(*batch)
        assert answers == memory.post(*batch)
        if answers[0].outcome is MessageOutcome.GRANTED and dice.random() < 0.7:
            device.take(answers[0].reply[0])
        if dice.random() < 0.1:
            office.now = memory.now = memory.now + DAY
    office.audit()
    found = office.store.read(lambda tx: tx.find_field_servers())
    assert {one.device_id: one for one in found} == memory.store.tables.field_servers
    held = office.store.read(lambda tx: tx.load_holdings([line.line_id for line in lines]))
    assert {(one.device_id, one.line_id): one for one in held} == memory.store.tables.holdings
    assert office.store.read(lambda tx: tx.find_incidents())[::-1] == list(memory.store.tables.incidents)
    for line in lines:
        entries = [one for (line_id, _), one in sorted(memory.store.tables.entries.items()) if line_id == line.line_id]
        assert office.store.read(lambda tx, line=line: tx.find_entries(line.line_id)) == entries


def test_lost_and_settled_is_the_same_story_on_a_database(office):
    line = office.buy(7)
    device = Device("a")
    office.post(device.activate((line, 2)))
    office.store.transact(
        lambda tx: interventions.declare_lost(
            tx, office.signer, device.id, reason="burnt", by="me", policy=office.policy, now=office.now
        )
    )
    assert office.where(line) == (5, 0, 0, 2)
    assert office.store.transact(lambda tx: interventions.settle_quarantines(tx, office.signer, now=office.now)) == []
    office.now += 15 * DAY
    office.store.transact(lambda tx: serve_until(tx, office.signer, office.now))
    settled = office.store.transact(lambda tx: interventions.settle_quarantines(tx, office.signer, now=office.now))
    assert settled == [device.id]
    assert office.where(line) == (7, 0, 0, 0)
    office.audit()


def test_a_restore_is_announced_on_a_database(office):
    line = office.buy(7)
    device = Device("a")
    office.post(device.activate((line, 2)))
    assert office.store.transact(lambda tx: interventions.announce_restore(tx, office.signer, now=office.now)) == (1, 1)
    assert office.store.transact(lambda tx: interventions.lift_freeze(tx, office.signer, None, now=office.now)) == 1
    office.audit()
