"""The reservation rule against a model that forgets nothing and knows where the field server is."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tallystick.domain.grant import Outstanding, append, prove, reserve
from tallystick.domain.ids import LineId

LINES = [LineId(name) for name in ("AAAAAAAA", "BBBBBBBB", "CCCCCCCC")]
QUANTITIES = st.dictionaries(st.sampled_from(LINES), st.integers(1, 4))
# A new grant in this epoch or a higher one; or a proof of one of the grants that were issued.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), QUANTITIES, st.booleans()),
        st.tuples(st.just("prove"), st.integers(0, 100), st.none()),
    ),
    max_size=40,
)


def brute_force(grants: list[Outstanding]) -> dict[LineId, tuple[int, int]]:
    """Per line: what the newest grant holds, and the maximum over all of them."""
    if not grants:
        return {}
    found = {}
    for line in LINES:
        most = max(grant.quantities.get(line, 0) for grant in grants)
        if most:
            found[line] = (grants[-1].quantities.get(line, 0), most)
    return found


def reserved(grants) -> dict[LineId, tuple[int, int]]:
    return {line: (kept.held, kept.held + kept.returning) for line, kept in reserve(grants).items()}


@given(STEPS)
def test_forgetting_covered_grants_never_changes_a_reservation(steps):
    everything: list[Outstanding] = []
    issued: list[Outstanding] = []
    kept: tuple[Outstanding, ...] = ()
    epoch = 1
    for kind, value, rises in steps:
        if kind == "grant":
            epoch += rises
            newest = Outstanding(epoch=epoch, number=len(issued) + 1, quantities=value)
            issued.append(newest)
            everything.append(newest)
            kept = append(kept, newest)
        elif issued:
            proven = issued[value % len(issued)]
            everything = [grant for grant in everything if (grant.epoch, grant.number) >= (proven.epoch, proven.number)]
            kept = prove(kept, epoch=proven.epoch, number=proven.number)
        assert reserved(kept) == brute_force(everything)
        assert all(grant in everything for grant in kept)
        assert kept[-1:] == tuple(everything[-1:])


@given(STEPS)
def test_wherever_the_field_server_is_its_rights_are_reserved(steps):
    """It applies any grant above its own, at any time, and proves it at any later time."""
    issued: list[Outstanding] = []
    kept: tuple[Outstanding, ...] = ()
    at = None
    for kind, value, _ in steps:
        if kind == "grant":
            newest = Outstanding(epoch=1, number=len(issued) + 1, quantities=value)
            issued.append(newest)
            kept = append(kept, newest)
        elif issued:
            arriving = issued[value % len(issued)]
            if at is None or arriving.number > at.number:
                at = arriving
            if value % 3 == 0:
                kept = prove(kept, epoch=1, number=at.number)
        now = reserve(kept)
        for line, quantity in (at.quantities if at else {}).items():
            assert now[line].held + now[line].returning >= quantity


@given(STEPS)
def test_what_is_kept_grows_with_what_was_given_up_and_not_with_history(steps):
    kept: tuple[Outstanding, ...] = ()
    for number, (_, value, _) in enumerate(steps, 1):
        quantities = value if isinstance(value, dict) else {}
        kept = append(kept, Outstanding(epoch=1, number=number, quantities=quantities))
        for older, newer in itertools.pairwise(kept):
            assert any(older.quantities.get(line, 0) > newer.quantities.get(line, 0) for line in LINES)
