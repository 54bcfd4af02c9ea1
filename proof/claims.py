"""What is proved: the invariant, what follows from it, and two lemmas. docs/assurance/proof.md says it in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import z3

from proof.model import Expr, Memory, Model, State

Claim = Callable[[Model, State], Expr]


def heart(model: Model, state: State) -> Expr:
    """Every signed grant of something that is not stale at the field server is outstanding at the activation server.

    "Not stale" is said of what was heard of it; so it holds all the more for where it is. Two exceptions, and no more:
    what an older epoch granted to one that was declared lost, and, while it is recovering, what was signed before the
    restore.
    """
    memory, contents = state.memory, model.logic.contents

    def is_kept(x: Expr) -> Expr:
        is_recent = z3.Or(z3.Not(state.frozen), memory.recovering == 0, contents.grant_epoch(x) >= memory.recovering)
        return z3.Implies(
            z3.And(_is_open(model, state, x), contents.grant_epoch(x) >= state.true_released, is_recent),
            memory.outstanding[x],
        )

    return z3.And(
        z3.Implies(memory.known, model.logic.each(is_kept)),
        z3.Implies(
            z3.And(z3.Not(memory.known), z3.Not(state.frozen)),
            model.logic.each(lambda x: z3.Not(_is_open(model, state, x))),
        ),
    )


def _is_open(model: Model, state: State, x: Expr) -> Expr:
    """A signed grant of something that may be in force, or may come into force, by all that was ever heard."""
    return z3.And(
        state.signed[x],
        model.logic.contents.quantity(x) > 0,
        model.upto(model.heard(state), model.place(x)),
        z3.Not(state.true_heard_final),
    )


def books(model: Model, state: State) -> Expr:
    """What the line keeps is the most that is outstanding; what it keeps for nobody is nothing."""
    memory, contents = state.memory, model.logic.contents
    return z3.And(
        memory.kept >= 0,
        model.logic.each(lambda x: z3.Implies(memory.outstanding[x], contents.quantity(x) <= memory.kept)),
        z3.Implies(z3.Not(memory.known), memory.kept == 0),
    )


def memories(model: Model, state: State) -> Expr:
    """What is in a memory hangs together: the newest is the newest, and nothing is beyond its own epoch and number."""
    return z3.And(_hangs_together(model, state, state.memory), _hangs_together(model, state, state.backup))


def _hangs_together(model: Model, state: State, memory: Memory) -> Expr:
    contents = model.logic.contents
    return z3.And(
        memory.newest >= 0,
        memory.number >= 0,
        memory.recovering >= 0,
        memory.recovering <= memory.epoch,
        memory.sequence <= state.true_seen,
        z3.Implies(memory.known, memory.epoch >= 1),
        z3.Implies(memory.newest != 0, memory.outstanding[memory.newest]),
        model.logic.each(
            lambda x: z3.Implies(
                memory.outstanding[x],
                z3.And(memory.issued[x], memory.newest != 0),
            )
        ),
        model.logic.each(
            lambda x: z3.Implies(
                memory.issued[x],
                z3.And(
                    state.signed[x],
                    contents.grant_epoch(x) <= memory.epoch,
                    contents.grant_number(x) <= memory.number,
                    z3.Implies(memory.newest != 0, model.upto(model.place(x), model.place(memory.newest))),
                ),
            )
        ),
        z3.Implies(z3.Not(memory.known), z3.And(memory.newest == 0, memory.recovering == 0)),
    )


def field_server(model: Model, state: State) -> Expr:
    """A field server goes only forward, and what it said is behind where it is."""
    contents = model.logic.contents

    def was_there(m: Expr) -> Expr:
        applied = contents.applied(m)
        return z3.Implies(
            state.said[m],
            z3.And(
                m > 0,
                model.upto(model.said_at(m), model.position(state)),
                contents.message_sequence(m) <= state.sequence,
                contents.message_sequence(m) >= 1,
                contents.message_epoch(m) >= 1,
                z3.Implies(contents.is_final(m), state.final),
                z3.Implies(contents.is_relinquish(m), applied == 0),
                applied >= 0,
                z3.Implies(
                    applied != 0,
                    z3.And(state.signed[applied], contents.grant_epoch(applied) == contents.message_epoch(m)),
                ),
            ),
        )

    return z3.And(
        state.grant >= 0,
        state.epoch >= 1,
        state.sequence >= 0,
        z3.Implies(
            state.grant != 0,
            z3.And(state.signed[state.grant], contents.grant_epoch(state.grant) == state.epoch),
        ),
        z3.Implies(state.final, state.grant == 0),
        model.upto(model.heard(state), model.position(state)),
        z3.Implies(state.true_heard_final, state.final),
        model.logic.each(was_there),
        model.logic.each(
            lambda x: z3.Implies(
                state.signed[x],
                z3.And(
                    x > 0,
                    contents.quantity(x) >= 0,
                    contents.grant_epoch(x) >= 1,
                    contents.grant_number(x) >= 1,
                ),
            )
        ),
    )


def order(model: Model, state: State) -> Expr:
    """Of two messages, the later one was written further on; a relinquish is the first of its epoch."""
    contents = model.logic.contents

    def in_order(one: Expr, other: Expr) -> Expr:
        both = z3.And(state.said[one], state.said[other])
        return z3.And(
            z3.Implies(
                z3.And(both, contents.message_sequence(one) < contents.message_sequence(other)),
                model.upto(model.said_at(one), model.said_at(other)),
            ),
            z3.Implies(
                z3.And(
                    both,
                    contents.is_relinquish(one),
                    contents.message_epoch(one) == contents.message_epoch(other),
                ),
                contents.message_sequence(one) <= contents.message_sequence(other),
            ),
            z3.Implies(z3.And(both, contents.message_sequence(one) == contents.message_sequence(other)), one == other),
        )

    return model.logic.each(lambda one: model.logic.each(lambda other: in_order(one, other)))


def epochs(model: Model, state: State) -> Expr:
    """What may still be taken is not beyond the activation server's epoch; what it raised, nobody reaches alone."""
    memory, contents = state.memory, model.logic.contents
    return z3.And(
        z3.Implies(
            memory.known,
            model.logic.each(lambda x: z3.Implies(_is_open(model, state, x), contents.grant_epoch(x) <= memory.epoch)),
        ),
        z3.Implies(
            z3.And(memory.known, memory.lost),
            model.logic.each(lambda x: z3.Implies(_is_open(model, state, x), contents.grant_epoch(x) < memory.epoch)),
        ),
        z3.Implies(state.grant == 0, z3.Not(state.true_raised[state.epoch])),
        z3.Implies(z3.And(memory.known, z3.Not(state.true_raised[memory.epoch])), memory.epoch <= state.epoch),
        model.logic.each(
            lambda m: z3.Implies(
                z3.And(state.said[m], state.true_raised[contents.message_epoch(m)]), contents.applied(m) != 0
            )
        ),
        z3.Implies(
            z3.And(memory.known, z3.Not(state.true_raised[memory.epoch])),
            model.logic.each(
                lambda m: z3.Implies(
                    z3.And(state.said[m], contents.message_sequence(m) > memory.sequence),
                    z3.And(
                        contents.message_epoch(m) >= memory.epoch,
                        z3.Or(contents.message_epoch(m) != memory.epoch, z3.Not(contents.is_relinquish(m))),
                    ),
                )
            ),
        ),
    )


def recovery(model: Model, state: State) -> Expr:
    """While it is recovering: fresh messages are from after the restore, and no fence gives more than was due."""
    memory, contents = state.memory, model.logic.contents

    def is_fresh(m: Expr) -> Expr:
        return z3.And(state.said[m], contents.message_sequence(m) > memory.sequence)

    caught_up = z3.Or(state.true_blurred, state.epoch >= state.true_released)
    return z3.And(
        z3.Implies(z3.Not(memory.known), caught_up),
        z3.Implies(
            memory.recovering != 0,
            z3.And(
                model.logic.each(
                    lambda m: z3.Implies(
                        is_fresh(m),
                        z3.And(
                            model.upto(model.heard(state), model.said_at(m)),
                            z3.Implies(state.true_heard_final, contents.is_final(m)),
                            z3.Or(state.true_blurred, contents.message_epoch(m) >= state.true_released),
                        ),
                    )
                ),
                caught_up,
                _is_due(model, state, memory),
                z3.Or(
                    state.true_blurred,
                    state.true_heard_final,
                    model.logic.each(
                        lambda x: z3.Implies(
                            z3.And(memory.outstanding[x], contents.grant_epoch(x) >= memory.recovering),
                            contents.quantity(x) <= state.true_due,
                        )
                    ),
                ),
            ),
        ),
    )


def backups(model: Model, state: State) -> Expr:
    """What any backup thinks that the field server should hold is due, or is stale."""
    return _is_due(model, state, state.backup)


def _is_due(model: Model, state: State, memory: Memory) -> Expr:
    contents = model.logic.contents
    newest = memory.newest
    return z3.Implies(
        z3.And(
            newest != 0,
            model.upto(model.heard(state), model.place(newest)),
            contents.grant_epoch(newest) >= state.true_released,
            z3.Not(state.true_blurred),
            z3.Not(state.true_heard_final),
        ),
        contents.quantity(newest) <= state.true_due,
    )


def due(model: Model, state: State) -> Expr:
    """What is due covers what may be in force, is what is kept where nothing is missing, and fits into the line."""
    contents = model.logic.contents
    return z3.And(
        state.true_due >= 0,
        state.others >= 0,
        state.true_others_due >= 0,
        z3.Implies(model.settled(state.memory), state.true_due == state.memory.kept),
        z3.Implies(
            z3.Not(state.frozen), z3.And(state.true_due == state.memory.kept, state.true_others_due == state.others)
        ),
        z3.Implies(
            z3.Not(state.true_blurred),
            z3.And(
                state.true_due + state.true_others_due <= state.bought,
                model.logic.each(
                    lambda x: z3.Implies(
                        z3.And(_is_open(model, state, x), contents.grant_epoch(x) >= state.true_released),
                        contents.quantity(x) <= state.true_due,
                    )
                ),
            ),
        ),
    )


INVARIANT: Mapping[str, Claim] = {
    claim.__name__: claim for claim in (heart, books, memories, field_server, order, epochs, recovery, backups, due)
}


def invariant(model: Model, state: State) -> Expr:
    """All of it."""
    return z3.And(*[claim(model, state) for claim in INVARIANT.values()])


# What follows


def used_once(model: Model, state: State) -> Expr:
    """P1: what it holds is no more than what the books keep for it, once it was heard from."""
    is_excused = state.epoch < state.true_released
    return z3.Implies(z3.And(model.settled(state.memory), z3.Not(is_excused)), model.held(state) <= state.memory.kept)


def never_more_than_bought(model: Model, state: State) -> Expr:
    """P1 while a restore is being mended: it holds no more than is due, and all that is due fits into the line."""
    is_excused = state.epoch < state.true_released
    return z3.Implies(
        z3.And(z3.Not(state.true_blurred), z3.Not(is_excused)),
        z3.And(
            z3.Implies(state.memory.known, model.held(state) <= state.true_due),
            state.true_due + state.true_others_due <= state.bought,
        ),
    )


FOLLOWS: Mapping[str, Claim] = {claim.__name__: claim for claim in (used_once, never_more_than_bought)}


def one_carry(model: Model, after: State, message: Expr) -> Expr:
    """A relinquish that was heeded leaves the field server nothing that it should hold."""
    return z3.Implies(model.logic.contents.is_relinquish(message), model.intended(after.memory) == 0)


def forgetting(model: Model) -> Expr:
    """Lemma: a grant that a newer one covers never decides what is kept, now or after any proof."""
    contents = model.logic.contents
    older, newest, proven_epoch, proven_number, least = (
        z3.Int(name) for name in ("older", "newest", "e", "n", "least")
    )
    proven = (proven_epoch, proven_number)
    covered = z3.And(
        contents.quantity(older) <= contents.quantity(newest), model.upto(model.place(older), model.place(newest))
    )
    kept: Any = z3.Implies(model.upto(proven, model.place(newest)), contents.quantity(newest) <= least)
    return z3.Implies(
        z3.And(covered, kept), z3.Implies(model.upto(proven, model.place(older)), contents.quantity(older) <= least)
    )
