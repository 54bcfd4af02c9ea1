"""The protocol as a transition system: one field server that stands for any, one line that stands for any.

What the activation server does to one field server reads and writes that field server's row and what the line has
left, and nothing else. So the state is one field server, the activation server's memory of it, and two sums over all the
others. Quantities are those of one line: the rules treat each line alike, and what one line allows, another may only
refuse.

Guarantees: the same formulas are proved (any number of grants and messages: ``Unbounded``), run for counterexamples
(``Bounded``), and compared with what the code does (``tests/simulation/test_model.py``). Leaves to others: signatures
(a courier has nothing but what was signed), durability, and the forgetting of covered grants (a lemma of its own, in
``claims``).

A *grant* and a *message* are numbers; what stands in them never changes: ``grant_epoch(x)``, ``message_sequence(m)``.
Zero is "none". A *position* is an epoch and the number of the grant in force in it, zero for none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import z3

TRUE: Final = z3.BoolVal(True)
FALSE: Final = z3.BoolVal(False)
Expr = Any  # Z3's expressions have no useful types
Position = tuple[Expr, Expr]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the activation server does. The defaults are revision 2; each False is a rule of revision 1."""

    jumps_epochs: bool = True  # a restore moves epochs, not only numbers and sequences
    jumps_newly_known: bool = True  # whoever becomes known while anything is frozen begins jumped, listed or not
    own_epochs: bool = True  # what the activation server raises, a field server never reaches alone
    fences_nothing: bool = True  # who says that it holds nothing gets a fence of nothing


REVISION_1: Final = Rules(jumps_epochs=False, jumps_newly_known=False, own_epochs=False, fences_nothing=False)


class Contents:
    """What stands in grants and messages."""

    def __init__(self) -> None:
        integer, boolean = z3.IntSort(), z3.BoolSort()

        def number(name: str) -> Callable[[Expr], Expr]:
            return z3.Function(name, integer, integer)

        def flag(name: str) -> Callable[[Expr], Expr]:
            return z3.Function(name, integer, boolean)

        self.grant_epoch = number("grant_epoch")
        self.grant_number = number("grant_number")
        self.quantity = number("quantity")
        self.message_epoch = number("message_epoch")
        self.message_sequence = number("message_sequence")
        self.applied = number("applied")  # the grant in force when it was written
        self.is_relinquish = flag("is_relinquish")
        self.is_final = flag("is_final")


class Unbounded:
    """Any number of grants and messages: quantifiers."""

    def __init__(self) -> None:
        self.contents: Any = Contents()
        self._count = 0

    def each(self, body: Callable[[Expr], Expr]) -> Expr:
        """For every number."""
        x = z3.FreshInt("x")
        return z3.ForAll([x], body(x))

    def some(self, body: Callable[[Expr], Expr]) -> Expr:
        """For a number. Only ever assumed, so that a constant will do."""
        return body(z3.FreshInt("w"))


class Bounded:
    """Grants and messages 1 to ``size``: no quantifiers, so that what satisfies a formula is found."""

    def __init__(self, size: int, contents: Any = None) -> None:
        self.contents: Any = contents or Contents()
        self.numbers = [z3.IntVal(number) for number in range(1, size + 1)]

    def each(self, body: Callable[[Expr], Expr]) -> Expr:
        """For every number."""
        return z3.And(*[body(x) for x in self.numbers])

    def some(self, body: Callable[[Expr], Expr]) -> Expr:
        """For a number."""
        return z3.Or(*[body(x) for x in self.numbers])


Logic = Unbounded | Bounded


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What the activation server knows of the field server. A backup is a memory; a restore puts it back."""

    known: Expr
    epoch: Expr
    sequence: Expr
    number: Expr
    outstanding: Expr  # set of grants
    newest: Expr  # the last of them; 0: it should hold nothing
    issued: Expr  # set of grants that it remembers
    recovering: Expr  # the epoch that must be spoken in first; 0: nothing is missing
    lost: Expr
    kept: Expr  # what the books of the line keep for it: held, returning or quarantined


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything. What begins with ``true_`` is known to nobody; it is there for the proof."""

    # The field server.
    epoch: Expr
    grant: Expr
    sequence: Expr
    final: Expr
    # What exists, on the way or not: it may be delivered at any time, any number of times, or never.
    said: Expr
    signed: Expr
    # The activation server.
    memory: Memory
    backup: Memory
    frozen: Expr
    bought: Expr
    others: Expr  # what the books keep for all others
    # The truth.
    true_heard_epoch: Expr  # the highest position that was ever heard of, forgotten or not
    true_heard_number: Expr
    true_heard_final: Expr
    true_due: Expr  # what an activation server that forgot nothing would keep for it
    true_others_due: Expr
    true_raised: Expr  # set of epochs that the activation server raised
    true_released: Expr  # it was declared lost and its waiting period ended: older epochs are excused
    true_blurred: Expr  # a restore forgot that
    true_seen: Expr  # the highest sequence that any reply named


_SETS: Final = {"outstanding", "issued", "said", "signed", "true_raised"}
_FLAGS: Final = {"known", "lost", "final", "frozen", "true_heard_final", "true_blurred"}


def _variable(name: str, kind: str) -> Expr:
    if kind in _SETS:
        return z3.Array(name, z3.IntSort(), z3.BoolSort())
    return z3.Bool(name) if kind in _FLAGS else z3.Int(name)


def make_state(prefix: str) -> State:
    """A state of variables."""

    def memory(part: str) -> Memory:
        return Memory(**{each.name: _variable(f"{prefix}.{part}.{each.name}", each.name) for each in fields(Memory)})

    parts = {"memory": memory("memory"), "backup": memory("backup")}
    rest = {
        each.name: _variable(f"{prefix}.{each.name}", each.name) for each in fields(State) if each.name not in parts
    }
    return State(**parts, **rest)


def _most(one: Expr, other: Expr) -> Expr:
    return z3.If(one > other, one, other)


@dataclass(frozen=True)
class Those:
    """A set, by what is true of its members."""

    body: Callable[[Expr], Expr]


@dataclass(kw_only=True)
class Model:
    """Steps and invariant over a logic. Every step is a relation of the state before and the state after."""

    logic: Logic
    rules: Rules = field(default_factory=Rules)

    # Words

    def before(self, one: Position, other: Position) -> Expr:
        """Positions are compared epoch first."""
        return z3.Or(one[0] < other[0], z3.And(one[0] == other[0], one[1] < other[1]))

    def upto(self, one: Position, other: Position) -> Expr:
        """Not behind."""
        return z3.Not(self.before(other, one))

    def place(self, grant: Expr) -> Position:
        """Where a field server is that has taken this grant."""
        contents = self.logic.contents
        return contents.grant_epoch(grant), contents.grant_number(grant)

    def position(self, state: State) -> Position:
        """Where the field server is."""
        return state.epoch, self._number(state.grant)

    def said_at(self, message: Expr) -> Position:
        """Where it was when it wrote a message."""
        contents = self.logic.contents
        return contents.message_epoch(message), self._number(contents.applied(message))

    def heard(self, state: State) -> Position:
        """The highest position that was ever heard of."""
        return state.true_heard_epoch, state.true_heard_number

    def _number(self, grant: Expr) -> Expr:
        return z3.If(grant == 0, 0, self.logic.contents.grant_number(grant))

    def settled(self, memory: Memory) -> Expr:
        """Known, and nothing is missing."""
        return z3.And(memory.known, memory.recovering == 0)

    def available(self, state: State) -> Expr:
        """What the books say is left of the line."""
        return state.bought - state.others - state.memory.kept

    def held(self, state: State) -> Expr:
        """What the field server holds."""
        return z3.If(state.grant == 0, 0, self.logic.contents.quantity(state.grant))

    def intended(self, memory: Memory) -> Expr:
        """What it should hold."""
        return z3.If(memory.newest == 0, 0, self.logic.contents.quantity(memory.newest))

    # Steps of the field server

    def take(self, before: State, after: State, grant: Expr) -> Expr:
        """It takes a grant: any one that was ever signed for it, if it is above what is in force."""
        return z3.And(
            before.signed[grant],
            grant > 0,
            z3.Not(before.final),
            self.before(self.position(before), self.place(grant)),
            self._only(before, after, grant=grant, epoch=self.place(grant)[0]),
        )

    def say(self, before: State, after: State, message: Expr) -> Expr:
        """It writes a message that gives nothing up."""
        contents = self.logic.contents
        return z3.And(self._writes(before, after, message), z3.Not(contents.is_relinquish(message)))

    def relinquish(self, before: State, after: State, message: Expr) -> Expr:
        """It raises its epoch, drops its grant and says so; perhaps for good."""
        contents = self.logic.contents
        epoch = before.epoch + 1
        is_own = z3.Not(before.true_raised[epoch]) if self.rules.own_epochs else TRUE
        return z3.And(
            z3.Not(before.final),
            is_own,
            contents.is_relinquish(message),
            contents.message_epoch(message) == epoch,
            contents.applied(message) == 0,
            self._writes(
                before,
                after,
                message,
                epoch=epoch,
                grant=z3.IntVal(0),
                final=contents.is_final(message),
            ),
        )

    def _writes(self, before: State, after: State, message: Expr, **changed: Expr) -> Expr:
        contents = self.logic.contents
        final = changed.get("final", before.final)
        return z3.And(
            message > 0,
            z3.Not(before.said[message]),
            contents.message_epoch(message) == changed.get("epoch", before.epoch),
            contents.applied(message) == changed.get("grant", before.grant),
            contents.message_sequence(message) == before.sequence + 1,
            contents.is_final(message) == final,
            self._only(
                before,
                after,
                said=z3.Store(before.said, message, TRUE),
                sequence=before.sequence + 1,
                **changed,
            ),
        )

    def follow(self, before: State, after: State) -> Expr:
        """A reply says that more of it was seen: its sequence follows, never beyond what was ever put into a reply."""
        return z3.And(
            after.sequence >= before.sequence,
            z3.Or(after.sequence <= before.true_seen, after.sequence == before.sequence),
            self._only(before, after, sequence=after.sequence),
        )

    # Steps of the activation server: messages

    def enrol(self, before: State, after: State, message: Expr) -> Expr:
        """First contact, or a person lists it. While anything is frozen, it begins jumped and recovering."""
        contents = self.logic.contents
        memory = before.memory
        plain = {
            "known": TRUE,
            "epoch": contents.message_epoch(message),
            # A relinquish of one that was listed is taken note of at once; whatever else is said is decided next.
            "sequence": contents.message_sequence(message) - z3.If(contents.is_relinquish(message), 0, 1),
            "number": z3.IntVal(0),
            "outstanding": Those(lambda _: FALSE),
            "newest": z3.IntVal(0),
            "issued": Those(lambda _: FALSE),
            "recovering": z3.IntVal(0),
            "lost": FALSE,
            "kept": z3.IntVal(0),
        }
        is_said = z3.And(before.said[message], message > 0, z3.Not(memory.known))
        calm = z3.And(is_said, self._remembers(before, after, **plain))
        if not self.rules.jumps_newly_known:
            return calm
        epoch = after.memory.epoch
        jumped = plain | {
            "epoch": epoch,
            "recovering": epoch,
            "sequence": after.memory.sequence,
            "number": after.memory.number,
        }
        return z3.If(
            before.frozen,
            z3.And(
                z3.Not(memory.known),
                self._is_beyond(before, after),
                after.memory.number >= 0,
                self._remembers(before, after, true_raised=z3.Store(before.true_raised, epoch, TRUE), **jumped),
            ),
            calm,
        )

    def fence(self, before: State, after: State, message: Expr, grant: Expr) -> Expr:
        """A message of a lower epoch: what it shows to be void is credited; a grant of this epoch answers it."""
        contents, memory = self.logic.contents, before.memory
        epoch, applied = contents.message_epoch(message), contents.applied(message)
        newest = self._newest_after(before, message)
        should = z3.If(newest == 0, 0, contents.quantity(newest))
        left = self._proved(before, message)
        if not self.rules.fences_nothing:
            should, left = self.intended(memory), self._still(memory, lambda _: TRUE)
        is_adopted = z3.And(applied != 0, z3.Not(memory.issued[applied]))
        nothing = applied == 0 if self.rules.fences_nothing else z3.And(memory.recovering != 0, applied == 0)
        quantity = z3.If(nothing, 0, z3.If(is_adopted, contents.quantity(applied), should))
        believes = z3.Implies(is_adopted, memory.recovering != 0) if self.rules.jumps_epochs else TRUE
        return z3.And(
            self._is_heeded(before, message),
            epoch < memory.epoch,
            believes,
            self._signs(before, after, message, grant, quantity, left, epoch=memory.epoch),
        )

    def credit(self, before: State, after: State, message: Expr) -> Expr:
        """A message of this epoch or a higher one: older grants are out. No grant answers it."""
        return z3.And(
            self._is_heeded(before, message),
            self.logic.contents.message_epoch(message) >= before.memory.epoch,
            self._heeds(before, after, message, newest=self._newest_after(before, message)),
        )

    def answer(self, before: State, after: State, message: Expr, grant: Expr) -> Expr:
        """The same, and a grant answers it: what it should hold, or a wish; growth only from what is available."""
        contents, memory = self.logic.contents, before.memory
        epoch, quantity = contents.message_epoch(message), contents.quantity(grant)
        left = self._proved(before, message)
        may_grow = z3.And(
            z3.Not(before.frozen),
            z3.Not(contents.is_relinquish(message)),
            after.memory.kept <= self.available(before) + memory.kept,
        )
        newest = self._newest_after(before, message)
        should = z3.If(newest == 0, 0, contents.quantity(newest))
        lowers = quantity <= should
        return z3.And(
            self._is_heeded(before, message),
            epoch >= memory.epoch,
            z3.Or(lowers, may_grow),
            self._signs(before, after, message, grant, quantity, left, epoch=epoch),
        )

    def answer_first(self, before: State, after: State, message: Expr, grant: Expr) -> Expr:
        """The same to one that was never granted anything, as far as A knows, by a server that was restored once: it jumps."""
        contents, memory, epoch = self.logic.contents, before.memory, after.memory.epoch
        is_beyond = [
            epoch > before.epoch,
            epoch > memory.epoch,
            epoch > before.true_released,
            z3.Not(before.true_raised[epoch]),
            self.logic.each(lambda x: z3.Implies(before.signed[x], contents.grant_epoch(x) < epoch)),
        ]
        may_grow = z3.And(
            z3.Not(before.frozen),
            z3.Not(contents.is_relinquish(message)),
            after.memory.kept <= self.available(before) + memory.kept,
        )
        return z3.And(
            self._is_heeded(before, message),
            contents.message_epoch(message) >= memory.epoch,
            memory.number == 0,
            memory.recovering == 0,
            *is_beyond,
            z3.Or(contents.quantity(grant) == 0, may_grow),
            self._new(before, grant, epoch=epoch),
            self._heeds(
                before,
                after,
                message,
                epoch=epoch,
                signed=z3.Store(before.signed, grant, TRUE),
                true_raised=z3.Store(before.true_raised, epoch, TRUE),
                **self._issued(memory, grant, self._proved(before, message), after),
            ),
        )

    def hear_final(self, before: State, after: State, message: Expr) -> Expr:
        """It takes no grant any more: everything is credited, whatever A remembers."""
        contents, memory = self.logic.contents, before.memory
        return z3.And(
            before.said[message],
            message > 0,
            memory.known,
            contents.is_final(message),
            self._remembers(
                before,
                after,
                outstanding=Those(lambda _: FALSE),
                newest=z3.IntVal(0),
                recovering=z3.IntVal(0),
                lost=FALSE,
                kept=z3.IntVal(0),
                sequence=_most(contents.message_sequence(message), memory.sequence),
                epoch=_most(contents.message_epoch(message), memory.epoch),
                true_heard_final=TRUE,
            ),
        )

    def doubt(self, before: State, after: State) -> Expr:
        """A grant that was signed here and is not known: nothing is believed but what is said after a jump."""
        memory = after.memory
        return z3.And(
            self.settled(before.memory),
            self._is_beyond(before, after),
            memory.recovering == memory.epoch,
            self._remembers(
                before,
                after,
                epoch=memory.epoch,
                sequence=memory.sequence,
                number=memory.number,
                recovering=memory.recovering,
                true_raised=z3.Store(before.true_raised, memory.epoch, TRUE),
                true_blurred=z3.Or(before.true_blurred, before.epoch < before.true_released),
            ),
            memory.number >= before.memory.number,
        )

    def pass_over(self, before: State, after: State) -> Expr:
        """A refusal: late, forked, on hold, restored. Nothing changes but perhaps what was seen."""
        sequence = after.memory.sequence
        return z3.And(
            before.memory.known,
            z3.Or(
                sequence == before.memory.sequence,
                self.logic.some(
                    lambda m: z3.And(
                        before.said[m],
                        sequence == self.logic.contents.message_sequence(m),
                        sequence > before.memory.sequence,
                    )
                ),
            ),
            self._remembers(before, after, sequence=sequence),
        )

    # Steps of people, and of time

    def change(self, before: State, after: State, grant: Expr) -> Expr:
        """A person starts a grant."""
        contents, memory = self.logic.contents, before.memory
        quantity = contents.quantity(grant)
        grows = z3.And(z3.Not(before.frozen), after.memory.kept <= self.available(before) + memory.kept)
        return z3.And(
            self.settled(memory),
            z3.Not(memory.lost),
            z3.Or(quantity <= self.intended(memory), grows),
            self._new(before, grant, epoch=memory.epoch),
            self._remembers(
                before,
                after,
                signed=z3.Store(before.signed, grant, TRUE),
                **self._issued(memory, grant, lambda x: memory.outstanding[x], after),
            ),
        )

    def raise_epoch(self, before: State, after: State) -> Expr:
        """Declared lost, or a hold released: an epoch that no field server reaches by itself."""
        memory, epoch = before.memory, after.memory.epoch
        own = z3.And(epoch > before.epoch, epoch > memory.epoch)
        return z3.And(
            memory.known,
            own if self.rules.own_epochs else epoch == memory.epoch + 1,
            self._remembers(
                before,
                after,
                epoch=epoch,
                lost=after.memory.lost,
                true_raised=z3.Store(before.true_raised, epoch, TRUE),
            ),
        )

    def settle(self, before: State, after: State) -> Expr:
        """The waiting period of one that was declared lost ends, and nothing was heard of it."""
        memory = before.memory
        return z3.And(
            memory.known,
            memory.lost,
            self._remembers(
                before,
                after,
                outstanding=Those(lambda _: FALSE),
                newest=z3.IntVal(0),
                lost=FALSE,
                recovering=z3.IntVal(0),
                kept=z3.IntVal(0),
                true_released=memory.epoch,
                true_blurred=z3.Or(before.true_blurred, memory.recovering != 0),
            ),
        )

    def back_up(self, before: State, after: State) -> Expr:
        """The memory is copied away."""
        same = [getattr(after.backup, each.name) == getattr(before.memory, each.name) for each in fields(Memory)]
        return z3.And(*same, self._only(before, replace(after, backup=before.backup)))

    def restore(self, before: State, after: State) -> Expr:
        """The memory is what it once was, and a person says so."""
        backup, memory = before.backup, after.memory
        epoch = memory.epoch if self.rules.jumps_epochs else backup.epoch
        changed: dict[str, Any] = {each.name: getattr(backup, each.name) for each in fields(Memory)}
        changed |= {
            "epoch": z3.If(backup.known, epoch, backup.epoch),
            "number": z3.If(backup.known, memory.number, backup.number),
            "sequence": z3.If(backup.known, memory.sequence, backup.sequence),
            "recovering": z3.If(backup.known, memory.recovering, 0),
        }
        recovers = memory.recovering == (memory.epoch if self.rules.jumps_epochs else 1)
        return z3.And(
            after.others >= 0,
            z3.Implies(backup.known, z3.And(self._is_beyond(before, after), recovers, memory.number > backup.number)),
            self._remembers(
                before,
                after,
                frozen=TRUE,
                others=after.others,
                true_raised=z3.If(backup.known, z3.Store(before.true_raised, epoch, TRUE), before.true_raised),
                true_blurred=z3.Or(before.true_blurred, before.epoch < before.true_released),
                **changed,
            ),
        )

    def lift(self, before: State, after: State) -> Expr:
        """The freeze is lifted when everybody was heard from, and who is not known here has nothing."""
        memory = before.memory
        nothing_out = z3.And(
            self.held(before) == 0,
            self.logic.each(
                lambda x: z3.Implies(
                    z3.And(before.signed[x], self.upto(self.position(before), self.place(x))),
                    self.logic.contents.quantity(x) == 0,
                )
            ),
        )
        is_unknown, here = z3.Not(memory.known), self.position(before)
        # For a field server that is not known here, the person answers: it is heard of, as far as anybody ever will.
        moved = z3.And(is_unknown, z3.Not(before.final))
        return z3.And(
            before.frozen,
            z3.If(memory.known, memory.recovering == 0, z3.Or(before.final, nothing_out)),
            before.others <= before.true_others_due,  # the sum of what is shown for each
            self._only(
                before,
                after,
                frozen=FALSE,
                true_others_due=before.others,
                true_due=memory.kept,
                true_heard_epoch=z3.If(moved, here[0], before.true_heard_epoch),
                true_heard_number=z3.If(moved, here[1], before.true_heard_number),
                true_heard_final=z3.Or(before.true_heard_final, z3.And(is_unknown, before.final)),
            ),
        )

    def elsewhere(self, before: State, after: State) -> Expr:
        """Another field server of the same line makes a step, or some of it is bought."""
        grows = z3.And(
            z3.Not(before.frozen),
            after.others + before.memory.kept <= after.bought,
            after.true_others_due == after.others,
        )
        shrinks = z3.And(
            after.others <= before.others,
            z3.If(
                before.frozen,
                after.true_others_due <= before.true_others_due,
                after.true_others_due == after.others,
            ),
        )
        hears = z3.And(before.frozen, after.true_others_due <= before.true_others_due)
        return z3.And(
            after.others >= 0,
            after.true_others_due >= 0,
            after.bought >= before.bought,
            z3.Or(grows, shrinks, hears),
            self._only(before, after, others=after.others, true_others_due=after.true_others_due, bought=after.bought),
        )

    # Parts of steps

    def _is_heeded(self, before: State, message: Expr) -> Expr:
        memory, contents = before.memory, self.logic.contents
        return z3.And(
            before.said[message],
            message > 0,
            memory.known,
            z3.Not(contents.is_final(message)),
            contents.message_sequence(message) > memory.sequence,
        )

    def _is_beyond(self, before: State, after: State) -> Expr:
        """A jump: past everything that was signed, said, or told, forgotten or not."""
        memory, contents = after.memory, self.logic.contents
        parts = [memory.sequence > before.sequence, memory.sequence > before.true_seen]
        if self.rules.jumps_epochs:
            parts += [
                memory.epoch > before.epoch,
                memory.epoch > before.memory.epoch,
                memory.epoch > before.true_released,
                memory.epoch > before.true_heard_epoch,
                z3.Not(before.true_raised[memory.epoch]),
                self.logic.each(lambda x: z3.Implies(before.signed[x], contents.grant_epoch(x) < memory.epoch)),
            ]
        return z3.And(*parts)

    def _still(self, memory: Memory, body: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
        return lambda x: z3.And(memory.outstanding[x], body(x))

    def _proved(self, before: State, message: Expr) -> Callable[[Expr], Expr]:
        """What is still outstanding after a message of this epoch or a higher one."""
        return self._still(before.memory, lambda x: self.upto(self.said_at(message), self.place(x)))

    def _newest_after(self, before: State, message: Expr) -> Expr:
        newest = before.memory.newest
        is_left = z3.And(newest != 0, self.upto(self.said_at(message), self.place(newest)))
        return z3.If(is_left, newest, 0)

    def _new(self, before: State, grant: Expr, *, epoch: Expr) -> Expr:
        contents = self.logic.contents
        return z3.And(
            grant > 0,
            z3.Not(before.signed[grant]),
            contents.grant_epoch(grant) == epoch,
            contents.grant_number(grant) == before.memory.number + 1,
            contents.quantity(grant) >= 0,
        )

    def _issued(self, memory: Memory, grant: Expr, left: Callable[[Expr], Expr], after: State) -> dict[str, Any]:
        return {
            "outstanding": Those(lambda x: z3.Or(x == grant, left(x))),
            "newest": grant,
            "issued": z3.Store(memory.issued, grant, TRUE),
            "number": memory.number + 1,
            "kept": after.memory.kept,
        }

    def _signs(
        self,
        before: State,
        after: State,
        message: Expr,
        grant: Expr,
        quantity: Expr,
        left: Callable[[Expr], Expr],
        *,
        epoch: Expr,
    ) -> Expr:
        return z3.And(
            self._new(before, grant, epoch=epoch),
            self.logic.contents.quantity(grant) == quantity,
            self._heeds(
                before,
                after,
                message,
                signed=z3.Store(before.signed, grant, TRUE),
                **self._issued(before.memory, grant, left, after),
            ),
        )

    def _heeds(self, before: State, after: State, message: Expr, **changed: Any) -> Expr:
        """What a message proves, beside what answers it."""
        contents, memory = self.logic.contents, before.memory
        said_at, epoch = self.said_at(message), contents.message_epoch(message)
        is_higher = self.before(self.heard(before), said_at)
        recovered = epoch >= memory.recovering if self.rules.jumps_epochs else after.memory.recovering == 0
        own = {
            "sequence": contents.message_sequence(message),
            "epoch": z3.If(epoch > memory.epoch, epoch, memory.epoch),
            "outstanding": Those(self._proved(before, message)),
            "recovering": z3.If(recovered, 0, memory.recovering),
            "lost": FALSE,
            "kept": after.memory.kept,
            "true_heard_epoch": z3.If(is_higher, said_at[0], before.true_heard_epoch),
            "true_heard_number": z3.If(is_higher, said_at[1], before.true_heard_number),
        }
        return self._remembers(before, after, **(own | changed))

    def _remembers(self, before: State, after: State, **changed: Any) -> Expr:
        """The memory changes, and the books with it: what is kept is the most that is outstanding."""
        names = {each.name for each in fields(Memory)}
        ours = {name: value for name, value in changed.items() if name in names}
        rest = {name: value for name, value in changed.items() if name not in names}
        parts = [
            self._equals(getattr(after.memory, name), ours.get(name, getattr(before.memory, name))) for name in names
        ]
        memory, contents = after.memory, self.logic.contents
        most = z3.And(
            memory.kept >= 0,
            self.logic.each(lambda x: z3.Implies(memory.outstanding[x], contents.quantity(x) <= memory.kept)),
            z3.Or(
                memory.kept == 0,
                self.logic.some(lambda x: z3.And(memory.outstanding[x], contents.quantity(x) == memory.kept)),
            ),
        )
        truth = {
            "true_due": z3.If(
                z3.Or(self.settled(memory), z3.Not(rest.get("frozen", before.frozen))), memory.kept, before.true_due
            ),
            "true_seen": z3.If(memory.sequence > before.true_seen, memory.sequence, before.true_seen),
        }
        return z3.And(*parts, most, self._only(before, replace(after, memory=before.memory), **(truth | rest)))

    def _only(self, before: State, after: State, **changed: Any) -> Expr:
        """What is not named stays."""
        parts = []
        for each in fields(State):
            old, new = getattr(before, each.name), getattr(after, each.name)
            if isinstance(old, Memory):
                parts += [
                    getattr(new, name.name) == getattr(old, name.name) for name in fields(Memory) if new is not old
                ]
            else:
                parts.append(self._equals(new, changed.get(each.name, old)))
        return z3.And(*parts)

    def _equals(self, new: Expr, value: Any) -> Expr:
        if isinstance(value, Those):
            return self.logic.each(lambda x: new[x] == value.body(x))
        return new == value

    # The beginning

    def initial(self, state: State) -> Expr:
        """A field server that holds nothing, unknown to an activation server that has never been restored."""
        memory = state.memory
        return z3.And(
            state.epoch == 1,
            state.grant == 0,
            state.sequence == 0,
            z3.Not(state.final),
            state.bought >= 0,
            state.others >= 0,
            state.others <= state.bought,
            state.true_others_due == state.others,
            z3.Not(state.frozen),
            z3.Not(state.true_heard_final),
            z3.Not(state.true_blurred),
            state.true_heard_epoch == 0,
            state.true_heard_number == 0,
            state.true_due == 0,
            state.true_released == 0,
            state.true_seen == 0,
            z3.Not(memory.known),
            memory.kept == 0,
            memory.epoch == 0,
            memory.sequence == 0,
            memory.recovering == 0,
            *[getattr(state.backup, each.name) == getattr(memory, each.name) for each in fields(Memory)],
            *[
                self.logic.each(lambda x, name=name: z3.Not(getattr(state, name)[x]))
                for name in ("said", "signed", "true_raised")
            ],
            *[
                self.logic.each(lambda x, name=name: z3.Not(getattr(memory, name)[x]))
                for name in ("outstanding", "issued")
            ],
            memory.newest == 0,
            memory.number == 0,
            z3.Not(memory.lost),
        )


def steps_of(model: Model) -> Mapping[str, tuple[Callable[..., Expr], Sequence[str]]]:
    """Every step, and what it is about: a grant, a message."""
    return {
        "take": (model.take, ("grant",)),
        "say": (model.say, ("message",)),
        "relinquish": (model.relinquish, ("message",)),
        "follow": (model.follow, ()),
        "enrol": (model.enrol, ("message",)),
        "fence": (model.fence, ("message", "grant")),
        "credit": (model.credit, ("message",)),
        "answer": (model.answer, ("message", "grant")),
        "answer_first": (model.answer_first, ("message", "grant")),
        "hear_final": (model.hear_final, ("message",)),
        "doubt": (model.doubt, ()),
        "pass_over": (model.pass_over, ()),
        "change": (model.change, ("grant",)),
        "raise_epoch": (model.raise_epoch, ()),
        "settle": (model.settle, ()),
        "back_up": (model.back_up, ()),
        "restore": (model.restore, ()),
        "lift": (model.lift, ()),
        "elsewhere": (model.elsewhere, ()),
    }
