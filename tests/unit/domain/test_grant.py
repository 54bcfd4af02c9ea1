"""The reservation rule: whatever the field server may be at, its rights are kept."""

from __future__ import annotations

from tallystick.domain.grant import Outstanding, Reserved, append, prove, reserve
from tallystick.domain.ids import LineId

A, B = LineId("AAAAAAAA"), LineId("BBBBBBBB")


def at(number: int, epoch: int = 1, **quantities: int) -> Outstanding:
    names = {"a": A, "b": B}
    return Outstanding(
        epoch=epoch, number=number, quantities={names[name]: quantity for name, quantity in quantities.items()}
    )


def test_nothing_outstanding_keeps_nothing():
    assert reserve(()) == {}


def test_the_newest_grant_is_held_and_what_was_more_is_returning():
    grants = (at(1, a=2), at(2, a=5, b=1), at(3, a=1))
    assert reserve(grants) == {A: Reserved(held=1, returning=4), B: Reserved(held=0, returning=1)}


def test_more_is_held_at_once():
    assert reserve((at(1, a=2), at(2, a=5))) == {A: Reserved(held=5, returning=0)}


def test_the_maximum_counts_and_not_the_last_but_one():
    assert reserve((at(1, a=9), at(2, a=1), at(3, a=2)))[A] == Reserved(held=2, returning=7)


def test_a_covered_older_grant_is_forgotten():
    assert append((at(1, a=1), at(2, a=3)), at(3, a=2)) == (at(2, a=3), at(3, a=2))


def test_a_grant_that_is_more_on_any_line_is_remembered():
    assert append((at(1, a=1, b=1),), at(2, a=9)) == (at(1, a=1, b=1), at(2, a=9))


def test_equal_again_and_again_does_not_grow():
    grants: tuple[Outstanding, ...] = ()
    for number in range(1, 100):
        grants = append(grants, at(number, a=2))
    assert grants == (at(99, a=2),)


def test_a_proof_forgets_what_is_older_and_nothing_else():
    grants = (at(1, a=9), at(2, a=5), at(3, a=1))
    assert prove(grants, epoch=1, number=1) == grants
    assert prove(grants, epoch=1, number=2) == grants[1:]
    assert prove(grants, epoch=1, number=3) == grants[2:]


def test_an_older_epoch_is_older_whatever_its_number():
    grants = (at(7, epoch=1, a=9), at(3, epoch=2, a=1))
    assert prove(grants, epoch=2, number=2) == grants[1:]
