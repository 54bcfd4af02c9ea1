"""Double entry: nothing appears, nothing vanishes, and an altered ledger shows it."""

from __future__ import annotations

import hashlib

import pytest
from msgspec.structs import replace

from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.ledger import Account, Balances, Entry, apply_booking, apply_entry, recompute
from tallystick.errors import InvariantError

LINE = LineId("7K3M9Q2A")
DEVICE = DeviceId("d" * 43)
MOVES = [
    (Account.BOUGHT, Account.AVAILABLE, 10),
    (Account.AVAILABLE, Account.HELD, 6),
    (Account.HELD, Account.RETURNING, 4),
    (Account.RETURNING, Account.AVAILABLE, 3),
    (Account.HELD, Account.QUARANTINED, 2),
    (Account.AVAILABLE, Account.RETIRED, 1),
    (Account.AVAILABLE, Account.BOUGHT, 2),
]


def book(moves=MOVES) -> tuple[Balances, list[Entry]]:
    balances, entries = Balances(), []
    for place, (source, target, quantity) in enumerate(moves):
        balances, entry = apply_booking(
            balances,
            line_id=LINE,
            source=source,
            target=target,
            quantity=quantity,
            device_id=DEVICE if place else None,
            cause=f"cause {place}",
            booked_at=100 + place,
        )
        entries.append(entry)
    return balances, entries


def test_the_accounts_add_up_to_what_was_bought_after_every_move():
    balances = Balances()
    for entry in book()[1]:
        balances = apply_entry(balances, entry)
        kept = balances.available + balances.held + balances.returning + balances.quarantined + balances.retired
        assert kept == balances.bought


def test_every_move_lands_where_it_says():
    balances, _ = book()
    assert (balances.bought, balances.available, balances.held) == (8, 4, 0)
    assert (balances.returning, balances.quarantined, balances.retired) == (1, 2, 1)


def test_entries_are_numbered_without_a_gap_from_one():
    assert [entry.number for entry in book()[1]] == [1, 2, 3, 4, 5, 6, 7]


def test_the_balances_follow_from_the_entries_alone():
    balances, entries = book()
    assert recompute(entries) == balances
    assert balances.chain == entries[-1].chain


def test_the_chain_never_changes_its_form():
    """A receipt names it, so it must come out the same for ever; docs/receipts.md says how it is made."""
    first, second = book()[1][:2]
    text = "\x1f7K3M9Q2A\x1f1\x1fbought\x1favailable\x1f10\x1f\x1fcause 0\x1f100"
    assert first.chain == hashlib.sha256(text.encode()).hexdigest()
    text = f"{first.chain}\x1f7K3M9Q2A\x1f2\x1favailable\x1fheld\x1f6\x1f{'d' * 43}\x1fcause 1\x1f101"
    assert second.chain == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("place", range(len(MOVES)))
@pytest.mark.parametrize(
    "altered",
    [
        {"quantity": 1_000},
        {"quantity": 7},
        {"source": Account.RETIRED},
        {"target": Account.RETIRED},
        {"device_id": DeviceId("e" * 43)},
        {"device_id": DeviceId("")},
        {"cause": "another"},
        {"booked_at": 1},
        {"line_id": LineId("00000000")},
        {"number": 9},
        {"chain": "0" * 64},
    ],
    ids=str,
)
def test_any_altered_field_of_any_entry_is_found(place, altered):
    _, entries = book()
    if all(getattr(entries[place], name) in (value, value or None) for name, value in altered.items()):
        altered = {"cause": "one that differs"}
    entries[place] = replace(entries[place], **altered)
    with pytest.raises(InvariantError):
        recompute(entries)


@pytest.mark.parametrize("place", range(len(MOVES) - 1))
def test_an_entry_removed_doubled_or_swapped_is_found(place):
    _, entries = book()
    without = entries[:place] + entries[place + 1 :]
    doubled = [*entries[: place + 1], *entries[place:]]
    swapped = [*entries[:place], entries[place + 1], entries[place], *entries[place + 2 :]]
    for tampered in (without, doubled, swapped):
        with pytest.raises(InvariantError):
            recompute(tampered)


def test_an_altered_entry_with_a_chain_made_to_fit_breaks_the_next_one():
    _, entries = book()
    forged = replace(entries[1], quantity=5)
    entries[1] = replace(forged, chain=forged.chained(entries[0].chain))
    with pytest.raises(InvariantError):
        recompute(entries)


def test_the_end_cut_off_shows_in_the_balances():
    balances, entries = book()
    assert recompute(entries[:-1]) != balances


@pytest.mark.parametrize("quantity", [0, -1])
def test_a_move_of_nothing_or_less_is_no_move(quantity):
    with pytest.raises(InvariantError):
        book([(Account.BOUGHT, Account.AVAILABLE, quantity)])


def test_a_move_from_an_account_to_itself_is_no_move():
    with pytest.raises(InvariantError):
        book([(Account.BOUGHT, Account.AVAILABLE, 1), (Account.AVAILABLE, Account.AVAILABLE, 1)])


@pytest.mark.parametrize(
    "source", [account for account in Account if account not in {Account.BOUGHT, Account.AVAILABLE}]
)
def test_only_available_may_go_below_zero(source):
    bought = (Account.BOUGHT, Account.AVAILABLE, 1)
    with pytest.raises(InvariantError):
        book([bought, (source, Account.AVAILABLE, 1)])
    assert book([bought, (Account.AVAILABLE, source, 2)])[0].available == -1


def test_more_cannot_be_taken_back_than_was_bought():
    with pytest.raises(InvariantError):
        book([(Account.BOUGHT, Account.AVAILABLE, 1), (Account.AVAILABLE, Account.BOUGHT, 2)])


def test_no_entries_are_no_balances():
    assert recompute([]) == Balances()


def test_a_gap_in_the_numbers_is_found_even_where_the_chain_was_made_to_fit():
    _, entries = book()
    moved = replace(entries[1], number=3)
    entries[1:] = [replace(moved, chain=moved.chained(entries[0].chain))]
    with pytest.raises(InvariantError):
        recompute(entries)


@pytest.mark.parametrize(
    "balances",
    [
        Balances(bought=2, available=1),
        Balances(available=1),
        Balances(bought=1, available=1, retired=1),
        Balances(bought=-1, available=-1),
        Balances(bought=0, available=1, held=-1),
    ],
    ids=str,
)
def test_balances_that_do_not_add_up_are_no_balances(balances):
    with pytest.raises(InvariantError):
        balances.check_conserved()
