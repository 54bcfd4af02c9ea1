"""Whatever changes what a field server may hold is booked; whatever is signed is reserved, and can be read."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from support.activation import Bench, Device
from tallystick.activation.core.books import Books
from tallystick.activation.core.ports import FieldServer, Status
from tallystick.domain.grant import Outstanding
from tallystick.domain.ledger import Account
from tallystick.domain.rules import LINES_MAX, RESERVED_LINES_MAX
from tallystick.errors import InvariantError
from tallystick.protocol import envelope
from tallystick.protocol.envelope import LINE_BYTES_MAX
from tallystick.protocol.messages import Credit, Grant


@pytest.fixture
def bench() -> Bench:
    return Bench()


def books(bench, transaction, *devices) -> Books:
    opened = Books(transaction, bench.signer, now=bench.now)
    opened.load([device.id for device in devices])
    opened.load_lines(bench.store.tables.lines)
    return opened


def enrolled(bench, device, line, quantity) -> None:
    _, compact = bench.grant(device.activate((line, quantity)))
    device.take(compact)
    bench.post(device.say("refresh"))


def moves(bench, line) -> list[tuple[str, str, int]]:
    entries = bench.store.transact(lambda tx: tx.find_entries(line.line_id))
    return [(str(entry.source), str(entry.target), entry.quantity) for entry in entries]


def test_a_reservation_that_does_not_change_books_nothing(bench):
    line = bench.buy(3)
    device = Device("a")
    enrolled(bench, device, line, 2)
    before = moves(bench, line)
    bench.grant(device.say("refresh"))
    bench.grant(device.activate((line, 2)))
    assert moves(bench, line) == before


def test_each_move_is_booked_once_from_where_it_was_to_where_it_is(bench):
    line = bench.buy(5)
    device = Device("a")
    enrolled(bench, device, line, 4)
    _, compact = bench.grant(device.give_back((line, 1)))
    device.take(compact)
    bench.credit(device.say("confirm"))
    bench.declare_lost(device)
    assert moves(bench, line) == [
        ("bought", "available", 5),
        ("available", "held", 4),
        ("held", "returning", 3),
        ("returning", "available", 3),
        ("held", "quarantined", 1),
    ]


def test_an_entry_names_the_field_server_and_the_message_that_made_it(bench):
    line = bench.buy(5)
    device = Device("a")
    message = device.activate((line, 4))
    bench.post(message)
    entry = bench.store.transact(lambda tx: tx.find_entries(line.line_id))[-1]
    assert (entry.device_id, entry.cause) == (device.id, envelope.digest_of(message))
    assert entry.booked_at == bench.now


def test_a_holding_with_nothing_left_is_gone(bench):
    line = bench.buy(5)
    device = Device("a")
    enrolled(bench, device, line, 4)
    assert [(item.held, item.returning) for item in bench.holdings()] == [(4, 0)]
    bench.credit(device.relinquish())
    assert bench.holdings() == []


def test_an_open_return_keeps_its_age_while_it_grows(bench):
    line = bench.buy(5)
    device = Device("a")
    enrolled(bench, device, line, 4)
    bench.now += 100
    bench.grant(device.give_back((line, 3)))
    since = bench.now
    bench.now += 100
    bench.grant(device.give_back())
    (holding,) = bench.holdings()
    assert (holding.held, holding.returning, holding.since_at) == (0, 4, since)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_books_the_whole_reservation_somewhere(bench, status):
    line = bench.buy(5)
    device = Device("a")
    outstanding = (
        Outstanding(epoch=1, number=1, quantities={line.line_id: 4}),
        Outstanding(epoch=1, number=2, quantities={line.line_id: 1}),
    )

    def work(tx):
        opened = books(bench, tx, device)
        server = FieldServer(
            device_id=device.id, public_key=device.key.public.x, status=status, number=2, outstanding=outstanding
        )
        opened.change(server, cause="test")
        opened.save()

    bench.store.transact(work)
    bench.check()
    expected = (1, 0, 0, 4) if status is Status.LOST else (1, 1, 3, 0)
    assert bench.where(line) == expected


def test_a_change_of_status_alone_moves_the_reservation(bench):
    line = bench.buy(5)
    device = Device("a")
    enrolled(bench, device, line, 4)

    def work(tx):
        opened = books(bench, tx, device)
        entries = opened.change(opened.field_servers[device.id].changed(status=Status.LOST), cause="test")
        assert [(entry.source, entry.target) for entry in entries] == [(Account.HELD, Account.QUARANTINED)]
        entries = opened.change(opened.field_servers[device.id].changed(status=Status.ACTIVE), cause="test")
        assert [(entry.source, entry.target) for entry in entries] == [(Account.QUARANTINED, Account.HELD)]

    bench.store.transact(work)


def test_a_grant_over_a_line_that_was_not_loaded_stops_everything(bench):
    line = bench.buy(5)
    device = Device("a")
    enrolled(bench, device, line, 1)
    before = bench.store.tables

    def work(tx):
        opened = Books(tx, bench.signer, now=bench.now)
        opened.load([device.id])
        opened.grant(opened.field_servers[device.id], {line.line_id: 2}, request=None, cause="test")

    with pytest.raises(InvariantError):
        bench.store.transact(work)
    assert bench.store.tables is before


def test_a_grant_carries_the_terms_of_its_lines(bench):
    line = bench.buy(3, "logs", expires_at=2_000_000_000, engineering=True)
    grant, _ = bench.grant(Device("a", kind="Edge Server").activate((line, 2)))
    (license_,) = grant.licenses
    assert (license_.product, license_.quantity, license_.features) == ("logs", 2, {"logs": 1})
    assert (license_.expires, license_.engineering, license_.one_carry) == (2_000_000_000, True, False)


def test_the_proof_is_wanted_while_anything_is_returning(bench):
    line = bench.buy(3)
    device = Device("a")
    grant, compact = bench.grant(device.activate((line, 2)))
    assert not grant.confirm
    device.take(compact)
    grant, _ = bench.grant(device.give_back((line, 1)))
    assert grant.confirm
    grant, _ = bench.grant(device.say("refresh"))
    assert grant.confirm
    grant, _ = bench.grant(device.activate((line, 2)))
    assert not grant.confirm


def test_numbers_of_grants_only_rise_also_over_epochs(bench):
    line = bench.buy(3)
    device = Device("a")
    numbers = [bench.grant(device.activate((line, 2)))[0].number]
    bench.credit(device.relinquish())
    numbers.append(bench.grant(device.activate((line, 2)))[0].number)
    numbers.append(bench.grant(device.say("refresh"))[0].number)
    assert numbers == [1, 2, 3]


def test_the_largest_credit_can_be_read_and_fits_in_a_line(bench):
    """As many lines as can be kept, each partly held and partly returning, all given up by one message."""
    device = Device("a")
    lines = [bench.buy(10**9) for _ in range(RESERVED_LINES_MAX)]
    first, second = lines[:LINES_MAX], lines[LINES_MAX:]
    bench.grant(device.activate(*[(line, 10**9) for line in first]))
    bench.grant(device.give_back())
    bench.grant(device.activate(*[(line, 10**9) for line in second]))
    bench.grant(device.give_back(*[(line, 10**8) for line in second]))
    (answer,) = bench.post(device.relinquish())
    assert len(answer.reply[0]) <= LINE_BYTES_MAX
    credit = bench.read(answer.reply[0])
    assert isinstance(credit, Credit)
    assert len(credit.credits) == RESERVED_LINES_MAX
    assert len(credit.entries) == RESERVED_LINES_MAX + LINES_MAX


def test_lines_under_way_do_not_pile_up_beyond_what_a_credit_can_say(bench):
    device = Device("a")
    lines = [bench.buy(1) for _ in range(RESERVED_LINES_MAX + 1)]
    for start in (0, LINES_MAX):
        _, compact = bench.grant(device.activate(*[(line, 1) for line in lines[start : start + LINES_MAX]]))
        bench.grant(device.give_back())
    more = device.activate((lines[-1], 1))
    refusal = bench.refused(more)
    assert refusal.code == "too-many-lines"
    assert bench.where(lines[-1]) == (1, 0, 0, 0)
    device.take(compact)
    bench.post(device.say("refresh"))
    bench.grant(device.activate((lines[-1], 1)))


def test_a_grant_of_the_most_lines_can_be_repeated_by_an_activation_of_the_most_lines(bench):
    """Section 9: the grant travels inside the request, so both must fit in one line, with the longest of everything."""
    features = {f"{number}".ljust(32, "f"): 10**9 for number in range(8)}
    lines = []
    for _ in range(LINES_MAX):
        line = bench.buy(10**9, expires_at=2**53 - 1, engineering=True)
        product = replace(line.product, sku="s" * 40, features=features)
        bench.change_line(line, product=product)
        lines.append(line)
    device = Device("n" * 20, host_id="\N{OLD PERSIAN SIGN A}" * 128)
    _, compact = bench.grant(device.activate(*[(line, 10**9) for line in lines]))
    device.take(compact)
    assert isinstance(bench.read(compact), Grant)
    message = device.activate(*[(line, 10**9) for line in lines], grant=compact)
    assert len(message) <= LINE_BYTES_MAX
    bench.grant(message)


def test_the_longest_refusal_fits_in_a_line_and_says_why_for_every_line_that_it_can(bench):
    """The most lines, five reasons each, and as many kinds to name as a catalog may have, as long as they may be."""
    lines = [bench.buy(1, expires_at=1, suspended=True) for _ in range(LINES_MAX)]
    kinds = frozenset(f"{number} {'k' * 37}" for number in range(10, 26))
    product = replace(lines[0].product, sku="s" * 40, kinds=kinds)
    bench.store.tables.catalog = replace(bench.store.tables.catalog, products={product.sku: product})
    for line in lines:
        bench.change_line(line, product=product)
    (answer,) = bench.post(Device("a").activate(*[(line, 10**9) for line in lines]))
    assert len(answer.reply[0]) <= LINE_BYTES_MAX
    refusal = bench.read(answer.reply[0])
    assert (refusal.code, f"{LINES_MAX * 4} reasons" in refusal.detail) == ("denied", True)
    assert {reason.line for reason in refusal.reasons} >= {line.line_id for line in lines[:40]}
