"""Courses of events: what revision 1 allowed and must not, and what revision 2 must still allow.

A course names its steps; which messages, grants and quantities they are about, Z3 finds. Under the old rules each of A1 to A5
ends in a contradiction of the promise; under the new ones the same steps cannot be made, or end well. The other way round, a
proof about steps that never happen would prove nothing: so every step is in a course that the new rules allow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import z3

from proof import claims
from proof.model import REVISION_1, Bounded, Expr, Model, Rules, State, make_state, steps_of

NUMBERS: Final = 7  # so many grants and so many messages in a course
_ACTIVATED: Final = ("say", "enrol", "answer", "take", "say", "credit")


@dataclass(frozen=True, kw_only=True)
class Course:
    """``breaks``: the claim that its end contradicts."""

    says: str
    steps: Sequence[str]
    breaks: str = "used_once"


OLD: Final[Mapping[str, Course]] = {
    "A1, A2": Course(
        says="backup; the epoch is raised (declared lost, or a hold released); the fence stays on a stick; restore; everybody is "
        "heard from; all is returned; the freeze is lifted; others take all; the stick arrives",
        steps=(
            *_ACTIVATED,
            *("back_up", "raise_epoch", "say", "fence", "restore", "follow", "say", "answer", "take", "say", "answer"),
            *("take", "say", "credit", "lift", "elsewhere", "take"),
        ),
    ),
    "A3, A4": Course(
        says="enrolled after the backup, its grant is delayed; restore; it becomes known again, listed or by a line sold later; "
        "the freeze is lifted; others take all; the old grant arrives",
        steps=("back_up", "say", "enrol", "answer", "restore", "say", "enrol", "credit", "lift", "elsewhere", "take"),
    ),
    "A5": Course(
        says="the epoch is raised, twice, and a fence is on its way; it relinquishes: what it gave up comes back",
        steps=(*_ACTIVATED, "raise_epoch", "say", "fence", "raise_epoch", "relinquish", "fence"),
        breaks="one_carry",
    ),
    "A5, in one number": Course(
        says="the same, and the relinquish has the very number of the raised epoch: nothing is credited",
        steps=(*_ACTIVATED, "raise_epoch", "say", "fence", "relinquish", "credit"),
        breaks="one_carry",
    ),
}
POSSIBLE: Final[Mapping[str, Sequence[str]]] = {
    "a restore is mended": (
        *(
            *_ACTIVATED,
            "back_up",
            "raise_epoch",
            "say",
            "fence",
            "restore",
            "pass_over",
            "follow",
            "say",
            "fence",
            "take",
        ),
        *("say", "credit", "say", "answer", "lift", "elsewhere", "change"),
    ),
    "a relinquish crosses a raised epoch": (*_ACTIVATED, "raise_epoch", "say", "fence", "relinquish", "fence", "take"),
    "known again, and jumped": (
        "back_up",
        "say",
        "enrol",
        "answer",
        "restore",
        "enrol",
        "follow",
        "say",
        "fence",
        "take",
    ),
    "out of service for good": (*_ACTIVATED, "raise_epoch", "relinquish", "hear_final"),
    "declared lost": (*_ACTIVATED, "raise_epoch", "settle", "say", "fence", "take"),
    "a first grant after a lifted restore": ("back_up", "restore", "lift", "say", "enrol", "answer_first", "take"),
    "a grant that is not known": (*_ACTIVATED, "doubt", "follow", "say", "fence", "take"),
}


@dataclass(frozen=True, kw_only=True)
class Found:
    """A course that can be: its states, and what its steps are about."""

    states: Sequence[State]
    steps: Sequence[tuple[str, Mapping[str, int]]]
    values: Any

    def value(self, expression: Expr) -> Any:
        """What something is."""
        return self.values.eval(expression, model_completion=True)


def find(steps: Sequence[str], rules: Rules, *, breaks: str | None) -> Found | None:
    """How a course can be, if it can. ``breaks``: the claim that its end contradicts; None: that nothing is contradicted."""
    model = Model(logic=Bounded(NUMBERS), rules=rules)
    states = [make_state(f"s{number}") for number in range(len(steps) + 1)]
    solver = z3.Solver()
    solver.add(model.initial(states[0]), states[0].bought == 2, states[0].others == 0)
    relations = steps_of(model)
    made = []
    given: dict[str, Expr] = {}
    for number, name in enumerate(steps):
        relation, about = relations[name]
        given = {what: z3.Int(f"{what}{number}") for what in about}
        for value in given.values():
            solver.add(value >= 1, value <= NUMBERS)
        solver.add(relation(states[number], states[number + 1], **given))
        made.append((name, given))
    end = states[-1]
    if breaks == "one_carry":
        solver.add(z3.Not(claims.one_carry(model, end, given["message"])))
    elif breaks is not None:
        solver.add(z3.Not(claims.FOLLOWS[breaks](model, end)))
    else:
        solver.add(claims.invariant(model, end), end.memory.kept + end.others + model.held(end) >= 0)
    if solver.check() != z3.sat:
        return None
    values = solver.model()
    known = [(name, {what: values.eval(one).as_long() for what, one in about.items()}) for name, about in made]
    return Found(states=states, steps=known, values=values)


def story(found: Found) -> str:
    """A course as a reader sees it: where the field server is, what the activation server keeps, what others hold."""
    lines = []
    model = Model(logic=Bounded(NUMBERS))
    for state, (name, about) in zip(found.states[1:], found.steps, strict=True):
        said = ", ".join(f"{what} {number}" for what, number in about.items())
        numbers = {
            "epoch": state.epoch,
            "holds": model.held(state),
            "epoch here": state.memory.epoch,
            "kept": state.memory.kept,
            "others": state.others,
        }
        shown = ", ".join(f"{label} {found.value(expression)}" for label, expression in numbers.items())
        lines.append(f"  {name:12} {said:22} {shown}")
    return "\n".join(lines)


__all__ = ["OLD", "POSSIBLE", "REVISION_1", "Course", "Found", "find", "story"]
