"""What has to be proved, one small claim at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import z3

from proof import claims
from proof.model import Expr, Model, Unbounded, make_state, steps_of

SECONDS_MAX: Final = 60
WAYS: Final = (
    (0.5, 0),
    (5.0, 1),
    (SECONDS_MAX, 2),
)  # for so long, and with which seed: luck plays a part, truth does not
HEEDS: Final = frozenset({"fence", "credit", "answer", "answer_first"})


def conjuncts(goal: Expr) -> Iterator[Expr]:
    """The parts of a claim, each to be proved alone."""
    if z3.is_and(goal):
        for part in goal.children():
            yield from conjuncts(part)
    elif z3.is_implies(goal) and z3.is_and(goal.children()[1]):
        for part in goal.children()[1].children():
            yield from conjuncts(z3.Implies(goal.children()[0], part))
    else:
        yield goal


class Obligations:
    """Everything that is to be proved."""

    def __init__(self) -> None:
        self.model = Model(logic=Unbounded())
        self.before, self.after = make_state("before"), make_state("after")

    def all(self) -> Iterator[tuple[str, Sequence[Expr], Expr]]:
        """Name, what is assumed, what follows."""
        model, before, after = self.model, self.before, self.after
        for name, claim in claims.INVARIANT.items():
            yield f"the beginning: {name}", [model.initial(before)], claim(model, before)
        holds = [claim(model, before) for claim in claims.INVARIANT.values()]
        for step, (relation, about) in steps_of(model).items():
            given = {what: z3.Int(what) for what in about}
            made = relation(before, after, **given)
            for name, claim in claims.INVARIANT.items():
                yield f"{step}: {name}", [made, *holds], claim(model, after)
            if step in HEEDS:
                yield f"{step}: one_carry", [made, *holds], claims.one_carry(model, after, given["message"])
        for name, claim in claims.FOLLOWS.items():
            yield f"always: {name}", holds, claim(model, before)
        yield "lemma: forgetting", [], claims.forgetting(model)


def prove(assumed: Sequence[Expr], goal: Expr) -> bool:
    """Whether the goal follows: whether there is no way in which it does not."""
    for seconds, seed in WAYS:
        solver = z3.Solver()
        solver.set("timeout", int(seconds * 1000))
        solver.set("random_seed", seed)
        solver.add(*assumed, z3.Not(goal))
        found = solver.check()
        if found != z3.unknown:
            return bool(found == z3.unsat)
    return False
