"""Round trips and rubbish: typed identifiers, and the ledger under any sequence of moves."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tallystick.domain import ids
from tallystick.domain.ids import ActivationId, IdError
from tallystick.domain.ledger import Account, Balances, apply_booking, recompute
from tallystick.errors import InvariantError

PARSERS = [ids.parse_activation_id, ids.parse_entitlement_id, ids.parse_line_id]
SYMBOLS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ACTIVATION_IDS = st.builds(
    lambda line, secret: ActivationId(line_id=ids.new_line_id(line), secret=secret),
    st.binary(min_size=5, max_size=5),
    st.binary(min_size=16, max_size=16),
)


@given(ACTIVATION_IDS, st.data())
def test_an_activation_id_reads_back_however_it_is_typed(activation_id, data):
    typed = []
    for symbol in str(activation_id).replace("-", ""):
        alike = {"0": "0Oo", "1": "1IiLl"}.get(symbol, symbol + symbol.lower())
        alike = alike if len(typed) > 1 else symbol + symbol.lower()
        typed.append(data.draw(st.sampled_from(alike)) + data.draw(st.sampled_from(["", "", "-", " ", "\t", "\r\n"])))
    assert ids.parse_activation_id("".join(typed)) == activation_id


@given(st.binary(min_size=16, max_size=40))
def test_an_entitlement_id_reads_back(random):
    entitlement_id = ids.new_entitlement_id(random)
    assert ids.parse_entitlement_id(entitlement_id) == entitlement_id


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.text() | st.text(SYMBOLS + "*~$=U- ").map("AT-".__add__) | st.text(st.characters()).map("EN".__add__))
def test_any_text_is_an_id_or_an_id_error(parse, text):
    try:
        parse(text)
    except IdError as error:
        str(error).encode()


@given(ACTIVATION_IDS, st.integers(3, 37), st.sampled_from(SYMBOLS))
def test_one_wrong_symbol_is_caught(activation_id, place, symbol):
    bare = str(activation_id).replace("-", "")
    place = min(place, len(bare) - 1)
    if bare[place] != symbol:
        with pytest.raises(IdError):
            ids.parse_activation_id(bare[:place] + symbol + bare[place + 1 :])


MOVES = st.lists(st.tuples(st.sampled_from(Account), st.sampled_from(Account), st.integers(-1, 5)), max_size=30)


def book(moves):
    """Every move that the ledger allows, and a model of where every right is."""
    balances, entries = Balances(), []
    model = dict.fromkeys(Account, 0)
    for number, (source, target, quantity) in enumerate(moves):
        try:
            after, entry = apply_booking(
                balances,
                line_id=ids.new_line_id(b"12345"),
                source=source,
                target=target,
                quantity=quantity,
                device_id=None,
                cause=str(number),
                booked_at=number,
            )
        except InvariantError:
            continue
        balances = after
        entries.append(entry)
        model[source] -= quantity
        model[target] += quantity
    return balances, entries, model


@given(MOVES)
def test_every_right_is_in_exactly_one_place(moves):
    balances, entries, model = book(moves)
    for account in Account:
        expected = -model[account] if account is Account.BOUGHT else model[account]
        assert getattr(balances, account) == expected
    assert recompute(entries) == balances
    assert sum(model.values()) == 0


@given(MOVES, st.data())
def test_no_single_change_to_a_ledger_goes_unnoticed(moves, data):
    balances, entries, _ = book(moves)
    if not entries:
        return
    place = data.draw(st.integers(0, len(entries) - 1))
    entry = entries[place]
    changed = data.draw(
        st.sampled_from(
            [
                replace(entry, quantity=entry.quantity + 1),
                replace(entry, cause=entry.cause + "x"),
                replace(entry, booked_at=entry.booked_at + 1),
                replace(entry, source=entry.target, target=entry.source),
            ]
        )
    )
    entries[place] = data.draw(st.sampled_from([changed, replace(changed, chain=changed.chained(""))]))
    with contextlib.suppress(InvariantError):
        assert recompute(entries) != balances
