"""A leaf tells nothing to whoever has not seen the thing."""

from __future__ import annotations

import itertools

import pytest

from support.activation import Bench, seeded
from tallystick.domain.ledger import Account, Balances, apply_booking
from tallystick.log.leaves import LEAF_BYTES, LeafKind, blind_of, leaf_of_entry, leaf_of_envelope, leaf_of_record

SECRET = seeded("the secret of a log")


def test_a_leaf_is_one_kind_byte_and_a_hash():
    for kind, leaf in {
        LeafKind.ENTRY: leaf_of_entry("ab" * 32, blind_of(SECRET, "line:7K3M9Q2A")),
        LeafKind.ENVELOPE: leaf_of_envelope("a.b.c"),
        LeafKind.RECORD: leaf_of_record("ab" * 32, blind_of(SECRET, "trail")),
    }.items():
        assert (leaf[0], len(leaf)) == (kind, LEAF_BYTES)


@pytest.mark.parametrize("make", [leaf_of_entry, leaf_of_record])
def test_who_guesses_what_is_chained_and_has_not_its_secret_does_not_find_the_leaf(make):
    """The first entry of a line can be guessed whole: what was bought of it, when and by whom."""
    _, entry = apply_booking(
        Balances(),
        line_id="7K3M9Q2A",
        source=Account.BOUGHT,
        target=Account.AVAILABLE,
        quantity=5,
        device_id=None,
        cause="person:ana: sold",
        booked_at=1_800_000_000,
    )
    leaf = make(entry.chain, blind_of(SECRET, "line:7K3M9Q2A"))
    guesses = itertools.chain(
        [b"", bytes(32)],
        [blind_of(SECRET, name) for name in ("line:7K3M9Q2B", "trail", "", "line:")],
        [blind_of(bytes(32), "line:7K3M9Q2A"), seeded("another")],
    )
    assert leaf not in {make(entry.chain, guess) for guess in guesses}


def test_an_envelope_has_a_signature_in_it_that_nobody_can_guess():
    bench = Bench()
    compact = bench.signer.sign("tally-grant+jwt", b'{"iss":"Example Controls"}')
    signed, _, signature = compact.rpartition(".")
    assert len(signature) == 86
    assert leaf_of_envelope(compact) != leaf_of_envelope(f"{signed}.{'A' * 86}")


def test_the_same_thing_has_another_leaf_in_each_kind_and_for_each_line():
    chain = "ab" * 32
    found = {
        leaf_of_entry(chain, blind_of(SECRET, "line:7K3M9Q2A")),
        leaf_of_entry(chain, blind_of(SECRET, "line:7K3M9Q2B")),
        leaf_of_record(chain, blind_of(SECRET, "trail")),
        leaf_of_record(chain, blind_of(SECRET, "line:7K3M9Q2A")),
        leaf_of_envelope(chain),
    }
    assert len(found) == 5
