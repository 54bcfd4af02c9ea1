"""Decisions over end states: whole or not at all, with every reason at once."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tallystick.domain.catalog import Product
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import EntitlementId, LineId
from tallystick.domain.ledger import Balances
from tallystick.domain.rules import (
    LINES_MAX,
    RESERVED_LINES_MAX,
    Denied,
    Granted,
    Want,
    decide_activation,
    decide_change,
    decide_company,
    decide_return,
)

NOW = 1_000
DRIVER = Product(sku="driver", name="Driver", kinds=frozenset({"AS-P", "AS-B"}), features={"driver": 1})


def line(name: str, available: int = 10, **terms: object) -> Line:
    terms.setdefault("account", "acme")
    terms.setdefault("product", DRIVER)
    return Line(
        line_id=LineId(name),
        entitlement_id=EntitlementId("EN-1"),
        secret=b"s" * 16,
        balances=Balances(bought=available, available=available),
        **terms,
    )


def activate(wants: dict[str, int], lines: list[Line], *, held=(), reserved=(), kind="AS-P", now=NOW, proven=True):
    return decide_activation(
        [Want(line_id=LineId(name), quantity=quantity, is_proven=proven) for name, quantity in wants.items()],
        kind=kind,
        lines={item.line_id: item for item in lines},
        held=dict(held),
        reserved=dict(reserved or held),
        now=now,
    )


def give_back(wants: dict[str, int], lines: list[Line], held: dict[str, int], *, everything=False):
    return decide_return(
        [Want(line_id=LineId(name), quantity=quantity) for name, quantity in wants.items()],
        lines={item.line_id: item for item in lines},
        held=held,
        return_all=everything,
    )


def codes(decision) -> dict[str, set[str]]:
    assert isinstance(decision, Denied), decision
    found: dict[str, set[str]] = {}
    for reason in decision.reasons:
        found.setdefault(reason.line or "", set()).add(reason.code)
    return found


def test_an_end_state_is_set_and_other_lines_stay():
    decision = activate({"A": 3}, [line("A"), line("B")], held={"B": 2})
    assert decision == Granted(quantities={"A": 3, "B": 2})


def test_an_end_state_is_not_added():
    assert activate({"A": 3}, [line("A", 1)], held={"A": 2}) == Granted(quantities={"A": 3})


def test_an_end_state_of_nothing_leaves_the_line_out():
    assert activate({"A": 0}, [line("A")], held={"A": 2}) == Granted(quantities={})


def test_only_what_exceeds_the_reservation_must_be_available():
    short = line("A", 1)
    assert activate({"A": 6}, [short], held={"A": 2}, reserved={"A": 5}) == Granted(quantities={"A": 6})
    assert codes(activate({"A": 7}, [short], held={"A": 2}, reserved={"A": 5})) == {"A": {"not-enough"}}


def test_the_last_available_one_can_be_had_and_not_one_more():
    assert isinstance(activate({"A": 10}, [line("A", 10)]), Granted)
    assert codes(activate({"A": 11}, [line("A", 10)])) == {"A": {"not-enough"}}


def test_a_negative_availability_denies_growth_but_not_what_is_reserved():
    short = replace(line("A"), balances=Balances(bought=1, available=-1, held=2))
    assert isinstance(activate({"A": 2}, [short], held={"A": 1}, reserved={"A": 2}), Granted)
    assert codes(activate({"A": 3}, [short], held={"A": 1}, reserved={"A": 2})) == {"A": {"not-enough"}}


def test_every_reason_of_every_line_is_given_at_once_and_nothing_is_granted():
    worst = line("A", 0, expires_at=NOW, suspended=True, frozen=True)
    decision = activate({"A": 1, "B": 1, "C": 1}, [worst, line("B")], kind="Edge Server")
    assert codes(decision) == {
        "A": {"kind-mismatch", "line-expired", "line-suspended", "line-frozen", "not-enough"},
        "B": {"kind-mismatch"},
        "C": {"activation-id-wrong"},
    }


def test_a_kind_mismatch_names_the_kinds_it_does_apply_to():
    decision = activate({"A": 1}, [line("A")], kind="Edge Server")
    assert decision.reasons[0].values == {"sku": "driver", "kinds": ("AS-B", "AS-P"), "kind": "Edge Server"}


def test_without_a_proof_a_line_that_exists_and_one_that_does_not_are_told_apart_by_nothing():
    decision = activate({"A": 1, "B": 1}, [line("A")], proven=False)
    one, two = decision.reasons
    assert replace(one, line=None) == replace(two, line=None)


@pytest.mark.parametrize("terms", [{"expires_at": NOW}, {"suspended": True}, {"frozen": True}], ids=str)
def test_terms_and_kinds_hinder_growth_only(terms):
    bad = line("A", **terms)
    for quantity in (0, 1, 2):
        assert isinstance(activate({"A": quantity}, [bad], held={"A": 2}, kind="Edge Server"), Granted)
    assert isinstance(activate({"A": 3}, [bad], held={"A": 2}), Denied)


def test_a_line_expires_at_its_moment_and_not_before():
    ending = line("A", expires_at=NOW)
    assert isinstance(activate({"A": 1}, [ending], now=NOW - 1), Granted)
    assert codes(activate({"A": 1}, [ending], now=NOW)) == {"A": {"line-expired"}}


def test_a_line_named_twice_is_denied_even_with_the_same_end_state():
    want = Want(line_id=LineId("A"), quantity=1, is_proven=True)
    decision = decide_activation([want, want], kind="AS-P", lines={"A": line("A")}, held={}, reserved={}, now=NOW)
    assert codes(decision) == {"A": {"line-twice"}}
    decision = decide_return([want, want], lines={"A": line("A")}, held={"A": 2})
    assert codes(decision) == {"A": {"line-twice"}}


def test_a_person_at_the_activation_server_needs_no_proof_but_the_same_terms():
    wants = [Want(line_id=LineId("A"), quantity=1)]
    options = {"kind": "AS-P", "held": {}, "reserved": {}, "now": NOW, "takes_back": False}
    assert isinstance(decide_change(wants, lines={"A": line("A")}, **options), Granted)
    assert codes(decide_change(wants, lines={"A": line("A", 0)}, **options)) == {"A": {"not-enough"}}


def test_an_activation_with_less_gives_back_only_what_can_be_returned():
    fixed = line("A", product=replace(DRIVER, returnable=False))
    assert codes(activate({"A": 2, "B": 0}, [fixed, line("B")], held={"A": 3, "B": 1})) == {"A": {"not-returnable"}}
    assert codes(activate({"A": 0}, [fixed], held={"A": 3})) == {"A": {"not-returnable"}}
    assert isinstance(activate({"A": 3, "B": 0}, [fixed, line("B")], held={"A": 3, "B": 1}), Granted)
    assert isinstance(activate({"A": 4}, [fixed], held={"A": 3}), Granted)
    assert isinstance(activate({"A": 1}, [fixed], held={}, reserved={"A": 3}), Granted)  # what was proven to be held


def test_only_a_person_of_the_vendor_takes_back_what_is_sold_without_return():
    fixed = line("A", product=replace(DRIVER, returnable=False))
    options = {"kind": "AS-P", "held": {"A": 3}, "reserved": {"A": 3}, "now": NOW, "lines": {"A": fixed}}
    less = [Want(line_id=LineId("A"), quantity=1)]
    assert codes(decide_change(less, takes_back=False, **options)) == {"A": {"not-returnable"}}
    assert decide_change(less, takes_back=True, **options) == Granted(quantities={"A": 1})


def test_a_return_lowers_chosen_lines():
    assert give_back({"A": 1}, [line("A"), line("B")], {"A": 3, "B": 2}) == Granted(quantities={"A": 1, "B": 2})


def test_a_return_of_everything_leaves_nothing():
    assert give_back({}, [line("A"), line("B")], {"A": 3, "B": 2}, everything=True) == Granted(quantities={})


def test_a_return_to_what_is_held_changes_nothing_and_is_granted():
    assert give_back({"A": 3}, [line("A")], {"A": 3}) == Granted(quantities={"A": 3})


def test_a_return_never_raises():
    assert codes(give_back({"A": 4, "B": 1}, [line("A")], {"A": 3})) == {"A": {"return-raises"}, "B": {"return-raises"}}


def test_what_is_sold_without_return_stays_and_hinders_the_whole_return():
    fixed = line("A", product=replace(DRIVER, returnable=False))
    assert codes(give_back({"A": 1, "B": 0}, [fixed, line("B")], {"A": 3, "B": 1})) == {"A": {"not-returnable"}}
    assert codes(give_back({}, [fixed], {"A": 3}, everything=True)) == {"A": {"not-returnable"}}
    assert isinstance(give_back({"A": 3}, [fixed], {"A": 3}), Granted)


def test_a_return_asks_for_neither_kind_nor_terms():
    bad = line("A", expires_at=0, suspended=True, frozen=True)
    assert give_back({"A": 0}, [bad], {"A": 1}) == Granted(quantities={})


def many(count: int, first: int = 0) -> dict[str, int]:
    return {f"L{number:07}": 1 for number in range(first, first + count)}


def company(quantities: dict[str, int], reserved: dict[str, int]):
    lines = {name: line(name) for name in quantities | reserved}
    return decide_company(Granted(quantities=quantities), lines=lines, reserved=reserved)


def test_a_grant_has_room_for_so_many_lines():
    assert isinstance(company(many(LINES_MAX), {}), Granted)
    assert codes(company(many(LINES_MAX + 1), {})) == {"": {"too-many-lines"}}


def test_lines_whose_return_is_not_proven_count_because_one_credit_must_hold_them_all():
    others = many(RESERVED_LINES_MAX - 1, first=1)
    assert isinstance(company(many(1), others), Granted)
    assert codes(company(many(2, first=5000), others)) == {"": {"too-many-lines"}}


def test_whatever_is_reserved_already_giving_up_is_never_hindered():
    everything = many(RESERVED_LINES_MAX + 20)
    assert isinstance(company({}, everything), Granted)
    assert isinstance(company(many(3), everything), Granted)


def test_two_accounts_do_not_meet_even_while_one_is_only_returning():
    lines = {"A": line("A"), "B": line("B", account="other")}
    decision = decide_company(Granted(quantities={"B": 1}), lines=lines, reserved={"A": 1})
    assert codes(decision) == {"": {"account-differs"}}


def test_a_denial_stays_what_it_is():
    denied = activate({"A": 1}, [])
    assert decide_company(denied, lines={}, reserved={}) is denied
