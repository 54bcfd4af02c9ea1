"""What happens in a run: a list of steps that follows from the seed alone.

A step carries its own numbers and its own salt, so that it means the same when the steps before it are taken away:
that is what makes a failing run shrink. How often each kind of step and fault comes is itself drawn from the seed, and
some kinds do not come at all, so that different seeds are different worlds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import zip_longest
from typing import Final

from tallystick.simulator.dice import Dice
from tallystick.simulator.faults import CARRIAGE_FAULTS, DISK_FAULTS, STORE_FAULTS, Fault


class Act(StrEnum):
    """What a step does."""

    WISH = "wish"  # a person at a field server asks for something
    EXCHANGE = "exchange"  # a courier carries all legs of one field server at once
    GATHER = "gather"  # a courier copies an outbox
    POST = "post"  # some of what is carried reaches the activation server
    HAND_OVER = "hand-over"  # some of what is carried reaches a field server, not always the right one
    LOSE = "lose"  # some of what is carried is lost for ever
    POWER = "power"  # a field server loses power, or its process is killed, between two steps
    SNAPSHOT = "snapshot"  # somebody copies a field server's disk
    ROLL_BACK = "roll-back"  # and puts it back later
    CLONE = "clone"  # or into a second machine
    HOST = "host"  # its host id changes
    DIE = "die"  # a field server is gone for ever
    DECLARE_LOST = "declare-lost"  # a person says so, rightly or not
    SETTLE = "settle"  # waiting periods are ended
    RELEASE = "release"  # a person releases a hold
    START_CHANGE = "start-change"  # a person changes what a field server holds
    START_RETURN = "start-return"  # or takes everything back
    TERMS = "terms"  # a line is suspended, extended, or taken up again
    BACKUP = "backup"  # of the activation server
    RESTORE = "restore"  # it is put back, and announced
    LIFT = "lift"  # the freeze is lifted, if everybody was heard from
    CLOCK = "clock"  # a clock jumps
    ROTATE = "rotate"  # a new signing key
    FORGE = "forge"  # a stranger signs something
    ROT = "rot"  # a bit of a field server's disk flips
    HOLD = "hold"  # a person puts a field server on hold
    RETIRE = "retire"  # or takes one that holds nothing out of service
    REPLACE = "replace"  # or sets another one to what a dead one held
    LIST = "list"  # a field server is listed before its first contact
    QUANTITY = "quantity"  # a line grows or shrinks
    SELL = "sell"  # a line is sold late, perhaps to another account
    LIFT_SOME = "lift-some"  # the freeze of one line is lifted
    REMOVE_KEY = "remove-key"  # an old signing key leaves the keyset
    HAND_OVER_ROOT = "hand-over-root"  # another root signs keysets
    PRUNE = "prune"  # old stored replies are deleted
    COPY = "copy"  # the database is copied, and the copy is served
    TECHNICIAN = "technician"  # Device Administrator works on a field server
    GIVE_UP = "give-up"  # a field server gives up what it holds in one carry, so that its epoch rises


SQL_SEEDS: Final = 10  # one seed in ten runs on the real store
GUIDED_SEEDS: Final = 5  # one seed in five leans to cells of the decision table that others seldom reach

USUAL: Final = {
    Act.WISH: 24,
    Act.EXCHANGE: 20,
    Act.GATHER: 6,
    Act.POST: 20,
    Act.HAND_OVER: 20,
    Act.LOSE: 3,
    Act.POWER: 3,
    Act.START_CHANGE: 2,
    Act.START_RETURN: 2,
    Act.CLOCK: 2,
    Act.TERMS: 1,
    Act.HOST: 1,
    Act.SETTLE: 1,
}
# Each of these groups is there in some seeds and not in others; the number is per mille of seeds.
RARE: Final = (
    (250, {Act.SNAPSHOT: 4, Act.ROLL_BACK: 4, Act.RELEASE: 4}),
    (200, {Act.CLONE: 1, Act.RELEASE: 4}),
    (250, {Act.DIE: 1, Act.DECLARE_LOST: 3, Act.SETTLE: 3}),
    (200, {Act.BACKUP: 3, Act.RESTORE: 1, Act.LIFT: 3}),
    (300, {Act.ROTATE: 1}),
    (500, {Act.FORGE: 2}),
)
# People's verbs: drawn apart, so that worlds without them are what they were before there was any.
PEOPLE: Final = (
    (300, {Act.HOLD: 2, Act.RELEASE: 4}),
    (300, {Act.RETIRE: 2}),
    (250, {Act.REPLACE: 2, Act.DIE: 1, Act.SETTLE: 2}),
    (300, {Act.LIST: 3}),
    (300, {Act.QUANTITY: 3}),
    (250, {Act.SELL: 2}),
    (250, {Act.BACKUP: 3, Act.RESTORE: 1, Act.LIFT: 3, Act.LIFT_SOME: 2}),
    (200, {Act.ROTATE: 2, Act.REMOVE_KEY: 2}),
    (150, {Act.HAND_OVER_ROOT: 1}),
    (300, {Act.PRUNE: 2, Act.COPY: 1}),
)


# Guided seeds have few field servers; people's verbs, restores, copies and rollbacks come often and close together, so that
# one message meets two or three of them (see ``cells``).
_CARRIED: Final = {Act.WISH: 14, Act.EXCHANGE: 8, Act.GATHER: 6, Act.POST: 16, Act.HAND_OVER: 14}
_RESTORED: Final = {Act.BACKUP: 4, Act.RESTORE: 4, Act.LIFT: 2}
_COPIED: Final = {Act.SNAPSHOT: 4, Act.ROLL_BACK: 4, Act.CLONE: 1, Act.GIVE_UP: 3}
# A refusal, and a message after it; now there are two of it. The first hears its fence, the second goes on without.
_ONE_OF_TWO_FENCED: Final = (
    *((Act.GIVE_UP, 0), (Act.EXCHANGE, 0), (Act.CLONE, 0), (Act.EXCHANGE, 0)),
    *((Act.WISH, 1),) * 5,
    (Act.POST, 0),
)
_THEN_IT_GIVES_UP: Final = ((Act.GIVE_UP, 0), (Act.POST, 0), (Act.POST, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Theme:
    """Which acts come, how often, and among how many field servers. ``begins``: the first ones in order, and who does each."""

    leads_to: str
    field_servers: int
    acts: Mapping[Act, int]
    begins: tuple[tuple[Act, int], ...] = ()


THEMES: Final = (
    Theme(
        leads_to="hold, and hold with recovering",
        field_servers=1,
        acts={**_CARRIED, **_RESTORED, **_COPIED, Act.HOLD: 6, Act.RELEASE: 2},
    ),
    Theme(
        leads_to="lost with recovering, and used sequences of one that is lost",
        field_servers=1,
        acts={**_CARRIED, **_RESTORED, **_COPIED, Act.DECLARE_LOST: 6, Act.SETTLE: 1, Act.RELEASE: 2},
    ),
    Theme(
        leads_to="retired, with and without recovering",
        field_servers=1,
        acts={
            **_CARRIED,
            **_RESTORED,
            **_COPIED,
            Act.RETIRE: 12,
            Act.START_RETURN: 3,
            Act.DECLARE_LOST: 2,
            Act.SETTLE: 4,
        },
    ),
    Theme(
        leads_to="listed, with and without recovering",
        field_servers=3,
        acts={**_CARRIED, **_COPIED, Act.LIST: 12, Act.HOST: 12, Act.BACKUP: 2, Act.RESTORE: 2, Act.LIFT: 2},
    ),
    Theme(
        leads_to="higher epochs that are late, and everything of one that is recovering",
        field_servers=1,
        acts={
            **_CARRIED,
            **_RESTORED,
            Act.GIVE_UP: 12,
            Act.SNAPSHOT: 8,
            Act.ROLL_BACK: 8,
            Act.CLONE: 3,
            Act.RELEASE: 6,
        },
    ),
    Theme(
        leads_to="two copies after a restore, of which one has its fence: late and used sequences of higher epochs",
        field_servers=1,
        acts={**_CARRIED, Act.GIVE_UP: 10, Act.RELEASE: 1, Act.HOLD: 1},
        begins=(
            *((Act.WISH, 0), (Act.EXCHANGE, 0), (Act.BACKUP, 0), (Act.RESTORE, 0)),
            *_ONE_OF_TWO_FENCED,
            *_THEN_IT_GIVES_UP,
        ),
    ),
    *(
        Theme(
            leads_to=f"the same, retired meanwhile; {leads_to}",
            field_servers=1,
            acts={**_CARRIED, Act.GIVE_UP: 10, Act.RETIRE: 6},
            begins=(
                *((Act.WISH, 0), (Act.EXCHANGE, 0), (Act.GIVE_UP, 0), (Act.EXCHANGE, 0), (Act.BACKUP, 0)),
                *((Act.RESTORE, 0), *_ONE_OF_TWO_FENCED, (Act.RETIRE, 0), *then),
            ),
        )
        for leads_to, then in (
            ("the relinquish comes first", _THEN_IT_GIVES_UP),
            ("the proof of the fence comes first", ((Act.GATHER, 0), (Act.POST, 0), (Act.POST, 0))),
        )
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens. ``who``, ``what`` and ``salt`` are read by the act; ``fault`` strikes inside it."""

    act: Act
    who: int
    what: int
    salt: int
    fault: Fault | None = None
    call: int = 0  # at which disk call, or on which line, the fault strikes
    legs: int = 0  # of an exchange, there and back; 0: as the dice say


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A world to be, and what happens in it."""

    seed: int
    field_servers: int
    lines: tuple[tuple[str, int], ...]  # SKU and quantity
    kinds: tuple[str, ...]
    steps: tuple[Step, ...]
    has_sql: bool = False  # the activation server's store is the real one, on SQLite in memory
    has_table: bool = False  # each answer is compared with the decision table


def theme_of(seed: int) -> Theme | None:
    """The theme of a guided seed."""
    if seed % GUIDED_SEEDS != GUIDED_SEEDS // 2:
        return None
    return Dice("guidance", seed).pick(THEMES)


def make_plan(seed: int, *, steps: int, field_servers: int | None = None, often: Act | None = None) -> Plan:
    """The plan of a seed. ``often``: an act whose group comes in any case, and three times as much."""
    dice = Dice("plan", seed)
    count = field_servers or dice.weighted({1: 2, 2: 4, 3: 4, 4: 1})
    lines = tuple(
        (dice.weighted({"smartdriver": 6, "logs": 2, "edge": 1, "fixed": 1}), dice.between(1, 5))
        for _ in range(dice.weighted({1: 4, 2: 4, 3: 1}))
    )
    weights = {act: weight * dice.between(1, 4) for act, weight in USUAL.items()}
    for per_mille, group in RARE:
        if dice.chance(per_mille) or often in group:
            weights |= {act: weights.get(act, 0) + weight * dice.between(1, 3) for act, weight in group.items()}
        if often in group:
            weights |= {act: weights[act] * 3 for act in group}
    # Drawn apart, so that worlds without them are what they were before there was any.
    for act, per_mille, most in ((Act.TECHNICIAN, 400, 60), (Act.ROT, 150, 12)):
        apart = Dice(act.value, seed)
        if apart.chance(per_mille) or often is act:
            weights[act] = apart.between(5, most)
    people = Dice("people", seed)
    if people.chance(500) or any(often in group for _, group in PEOPLE):
        for per_mille, group in PEOPLE:
            if people.chance(per_mille) or often in group:
                weights |= {act: weights.get(act, 0) + weight * people.between(1, 3) for act, weight in group.items()}
    theme = theme_of(seed) if often is None else None
    if theme is not None:
        count, weights = field_servers or theme.field_servers, dict(theme.acts)
    kinds = tuple(
        fault for fault in (*DISK_FAULTS, *STORE_FAULTS, *CARRIAGE_FAULTS, Fault.COURIER_DIES) if dice.chance(600)
    )
    per_mille = dice.pick((0, 30, 100, 250)) if kinds else 0
    return Plan(
        seed=seed,
        field_servers=count,
        lines=lines,
        kinds=tuple(dice.pick(("AS-P", "AS-B", "Edge Server")) for _ in range(count)),
        steps=tuple(
            step if led is None else replace(step, act=led[0], who=led[1], legs=1, fault=None)
            for step, led in zip_longest(
                (_make_step(dice, weights, kinds, per_mille) for _ in range(steps)),
                () if theme is None else theme.begins[:steps],
            )
        ),
        has_sql=seed % SQL_SEEDS == SQL_SEEDS - 1,
        has_table=theme is not None,
    )


def _make_step(dice: Dice, weights: dict[Act, int], kinds: tuple[Fault, ...], per_mille: int) -> Step:
    return Step(
        act=dice.weighted(weights),
        who=dice.below(1 << 16),
        what=dice.below(1 << 16),
        salt=dice.below(1 << 32),
        fault=dice.pick(kinds) if dice.chance(per_mille) else None,
        call=dice.below(9),
    )
