"""The proof is about the code: what the real parties do, step by step, is a step of the model in ``proof``.

Two real field servers and the real activation server, under seeded events: wishes, carriers that lose, repeat and reorder, changes
by people, declared lost, held and released, backups, restores, lifts. After each event the model must have a step from
where it was to what is seen now; what nobody sees (what is true, and forgotten) follows from the model alone.
"""

from __future__ import annotations

import random
from dataclasses import fields, replace
from itertools import product

import pytest
import z3
from msgspec.structs import replace as changed

from proof import claims
from proof.model import REVISION_1, Bounded, Memory, Model, Rules, State, make_state, steps_of
from support.activation import DAY, Bench
from tallystick.activation.core import interventions, issuing, reading
from tallystick.activation.core.ports import Status
from tallystick.domain.rules import Want
from tallystick.errors import Error
from tallystick.fieldserver import engine
from tallystick.fieldserver.state import (
    Activate,
    ActivationWant,
    Device,
    Refresh,
    Relinquish,
    Return,
    ReturnWant,
    Written,
)
from tallystick.fieldserver.state import State as FieldServerState
from tallystick.protocol import envelope, messages
from tallystick.protocol.envelope import PrivateKey, digest_of, open_envelope

pytestmark = pytest.mark.slow

BOUGHT = 3


class Contents:
    """What stands in the grants and messages of a walk, by their numbers; see ``proof.model.Contents``."""

    def __init__(self) -> None:
        self.grants: list[tuple[int, int, int]] = []
        self.messages: list[tuple[int, int, int, bool, bool]] = []
        self.numbers: dict[str, int] = {}

    def add_grant(self, compact: str, line_id: str) -> int:
        digest = digest_of(compact)
        if digest not in self.numbers:
            claims_ = messages.convert_claims(open_envelope(compact.encode()).payload, messages.Grant)
            quantity = sum(item.quantity for item in claims_.licenses if item.line == line_id)
            self.grants.append((claims_.epoch, claims_.number, quantity))
            self.numbers[digest] = len(self.grants)
        return self.numbers[digest]

    def add_message(self, compact: str) -> int:
        digest = digest_of(compact)
        if digest not in self.numbers:
            said = messages.convert_claims(open_envelope(compact.encode()).payload, messages.Request)
            applied = self.numbers[said.applied.digest] if said.applied else 0
            is_relinquish = said.purpose == "relinquish"
            self.messages.append((said.epoch, said.sequence, applied, is_relinquish, bool(said.final)))
            self.numbers[digest] = len(self.messages)
        return self.numbers[digest]

    @property
    def size(self) -> int:
        return max(len(self.grants), len(self.messages), 1)

    def _look(self, rows, place: int, number, nothing):
        number = z3.simplify(number)
        if z3.is_int_value(number):
            known = 1 <= number.as_long() <= len(rows)
            return z3.simplify(_value(rows[number.as_long() - 1][place])) if known else nothing
        found = nothing
        for other, row in enumerate(rows, 1):
            found = z3.If(number == other, _value(row[place]), found)
        return found

    def grant_epoch(self, x):
        return self._look(self.grants, 0, x, z3.IntVal(0))

    def grant_number(self, x):
        return self._look(self.grants, 1, x, z3.IntVal(0))

    def quantity(self, x):
        return self._look(self.grants, 2, x, z3.IntVal(0))

    def message_epoch(self, m):
        return self._look(self.messages, 0, m, z3.IntVal(0))

    def message_sequence(self, m):
        return self._look(self.messages, 1, m, z3.IntVal(0))

    def applied(self, m):
        return self._look(self.messages, 2, m, z3.IntVal(0))

    def is_relinquish(self, m):
        return self._look(self.messages, 3, m, z3.BoolVal(False))

    def is_final(self, m):
        return self._look(self.messages, 4, m, z3.BoolVal(False))


def _value(value):
    return z3.BoolVal(value) if isinstance(value, bool) else z3.IntVal(value)


class Watch:
    """The model's state for one field server, and what is seen of it."""

    def __init__(self, bench: Bench, line, number: int) -> None:
        self.bench, self.line = bench, line
        self.contents = Contents()
        key = PrivateKey(bytes([100 + number] * 32))
        self.device = Device(
            key=key, facts=messages.Facts(kind="AS-P", host_id=f"host-{number}", name=f"f{number}", software="1")
        )
        self.id = key.public.device_id
        self.fs: FieldServerState = FieldServerState(device_id=self.id)
        keys = open_envelope(bench.signer.keyset.compact.encode())
        self.fs, _ = engine.receive(self.fs, keys, device=self.device, now=bench.now, random=bytes(16))
        self.up: list[str] = []
        self.down: list[str] = []
        self.true_signed: set[int] = set()
        self.rules = Rules()
        self.taken: list[str] = []
        model = self.model()
        first = make_state("first")
        solver = z3.Solver()
        solver.add(model.initial(first), *self.seen(first))
        solver.add(first.true_raised == z3.K(z3.IntSort(), z3.BoolVal(False)))
        assert solver.check() == z3.sat
        self.state = self.settle_on(solver.model(), first)

    def model(self) -> Model:
        return Model(logic=Bounded(self.contents.size, self.contents), rules=self.rules)

    def settle_on(self, values, state: State) -> State:
        """The values of a state."""

        def of(part):
            return {each.name: of_one(getattr(part, each.name)) for each in fields(part) if each.name not in _PARTS}

        def of_one(expression):
            found = values.eval(expression, model_completion=True)
            if not z3.is_array(expression) or expression.decl().name().endswith("true_raised"):
                return found
            members = z3.K(z3.IntSort(), z3.BoolVal(False))
            for x in range(1, self.contents.size + 1):  # of others nothing was asked
                if z3.is_true(values.eval(expression[x], model_completion=True)):
                    members = z3.Store(members, x, z3.BoolVal(True))
            return members

        return State(memory=Memory(**of(state.memory)), backup=Memory(**of(state.backup)), **of(state))

    # What is seen

    def row(self):
        return self.bench.store.tables.field_servers.get(self.id)

    def kept(self, *, other: bool) -> int:
        holdings = self.bench.store.tables.holdings.values()
        return sum(
            item.held + item.returning + item.quarantined for item in holdings if (item.device_id != self.id) is other
        )

    def seen(self, state: State) -> list:
        row, line = self.row(), self.bench.store.tables.lines[self.line.line_id]
        memory = state.memory
        applied = self.contents.numbers[self.fs.applied.digest] if self.fs.applied else 0
        parts = [
            state.epoch == self.fs.epoch,
            state.grant == applied,
            state.sequence == self.fs.sequence,
            state.final == self.fs.final,
            state.frozen == line.frozen,
            state.bought == line.balances.bought,
            state.others == self.kept(other=True),
            memory.kept == self.kept(other=False),
            memory.known == (row is not None),
        ]
        parts += [state.signed[x] == (x in self.true_signed) for x in range(1, len(self.contents.grants) + 1)]
        parts += [state.said[m] for m in range(1, len(self.contents.messages) + 1)]
        if row is None:
            return parts
        places = {(epoch, number): x for x, (epoch, number, _) in enumerate(self.contents.grants, 1)}
        newest = row.outstanding[-1] if row.outstanding else None
        digests = {key: grant.digest for key, grant in self.bench.store.tables.grants.items() if key[0] == self.id}
        issued = {self.contents.numbers[digest] for digest in digests.values()}
        parts += [
            memory.epoch == row.epoch,
            memory.sequence == row.sequence,
            memory.number == row.number,
            memory.recovering == (row.recovering or 0),
            memory.lost == (row.status is Status.LOST),
            memory.newest == (places[newest.epoch, newest.number] if newest else 0),
        ]
        parts += [memory.issued[x] == (x in issued) for x in range(1, len(self.contents.grants) + 1)]
        for kept in row.outstanding:  # an adopted one is covered by its fence
            x = places[kept.epoch, kept.number]
            parts.append(z3.Or(memory.outstanding[x], kept.quantities.get(self.line.line_id, 0) <= memory.kept))
        return parts

    # Steps

    def is_step(self, *chain: tuple[str, dict[str, int]], more=()) -> bool:
        """Whether these steps of the model lead from where it was to what is seen now; if so, it goes there."""
        model = self.model()
        relations = steps_of(model)
        states = [self.state, *(make_state(f"s{number}") for number in range(len(chain)))]
        solver = z3.Solver()
        for (name, given), before, after in zip(chain, states, states[1:], strict=False):
            about = {what: z3.IntVal(number) for what, number in given.items()}
            solver.add(relations[name][0](before, after, **about))
        solver.add(*self.seen(states[-1]), *(part(states[-1]) for part in more))
        if solver.check() != z3.sat:
            return False
        self.state = self.settle_on(solver.model(), states[-1])
        self.taken += [name for name, _ in chain]
        return True

    def must_be(self, *chains, more=()) -> None:
        assert any(self.is_step(*chain, more=more) for chain in chains), (
            f"no step of the model: {chains} of {self.fs.epoch}.{self.fs.sequence}, row {self.row()}"
        )

    def follows_others(self, other: Watch) -> None:
        """The other field server, or the line, has changed."""
        due = other.state.true_due
        self.must_be([("elsewhere", {})], more=(lambda state: state.true_others_due == due,))


_PARTS = {"memory", "backup"}


class Walk:
    """Two field servers, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.bench = Bench()
        self.line = self.bench.buy(BOUGHT)
        self.watches = [Watch(self.bench, self.line, number) for number in range(2)]
        self.backup = None

    def step(self) -> None:
        self.bench.now += 60
        watch, other = self.dice.sample(self.watches, 2)
        events = [
            (self.wish, 5), (self.post, 9), (self.deliver, 9), (self.exchange, 9), (self.change, 2), (self.lose, 1),
            (self.hold, 1), (self.settle, 1), (self.back_up, 1), (self.restore, 1), (self.lift, 3),
        ]  # fmt: skip
        (event,) = self.dice.choices([one for one, _ in events], [weight for _, weight in events])
        event(watch, other)

    def wish(self, watch: Watch, _other: Watch) -> None:
        dice = self.dice
        activation = ActivationWant(activation_id=self.line.activation_id, quantity=dice.randint(1, BOUGHT))
        wishes = [
            Activate(wants=(activation,)), Activate(wants=(activation,)), Refresh(), Relinquish(), Return(wants=None),
            Return(wants=(ReturnWant(line_id=self.line.line_id, quantity=1),)),
        ]  # fmt: skip
        if dice.random() < 0.02:
            wishes = [Relinquish(is_final=True)]
        after, result = engine.write_request(
            watch.fs, dice.choice(wishes), device=watch.device, now=self.bench.now, random=dice.randbytes(16)
        )
        if isinstance(result, Written) and not result.is_repeated:
            self._wrote(watch, after, [])

    def _wrote(self, watch: Watch, after: FieldServerState, chain: list) -> None:
        fresh = [waiting for waiting in after.outbox if waiting.digest not in watch.contents.numbers]
        watch.fs = after
        for waiting in fresh:
            number = watch.contents.add_message(waiting.compact)
            watch.up.append(waiting.compact)
            chain.append(("relinquish" if waiting.purpose == "relinquish" else "say", {"message": number}))
        if chain:
            watch.must_be(chain)

    def exchange(self, watch: Watch, other: Watch) -> None:
        for waiting in watch.fs.outbox:
            for reply in self._post(watch, other, waiting.compact):
                self._deliver(watch, reply)

    def post(self, watch: Watch, other: Watch) -> None:
        if watch.up:
            watch.down += self._post(watch, other, self.dice.choice(watch.up[-8:]))

    def _post(self, watch: Watch, other: Watch, compact: str) -> tuple[str, ...]:
        bench = self.bench
        message = reading.read_message(open_envelope(compact.encode()), bench.signer.keyset)
        is_repeated, was_known = message.digest in bench.store.tables.messages, watch.row() is not None
        before = watch.row()
        (answer,) = bench.store.transact(
            lambda tx: issuing.process([message], tx, signer=bench.signer, policy=bench.policy, now=bench.now)
        )
        bench.check()
        if is_repeated:
            assert watch.row() == before
            return answer.reply
        number = watch.contents.add_message(compact)
        grants = [one for one in answer.reply if open_envelope(one.encode()).typ == messages.GRANT]
        about = {"message": number}
        if grants:
            (grant,) = grants
            about["grant"] = watch.contents.add_grant(grant, self.line.line_id)
            watch.true_signed.add(about["grant"])
            chains = [[(name, about)] for name in ("fence", "answer", "answer_first")]
        else:
            chains = [[("credit", about)], [("hear_final", about)], [("pass_over", {})], [("doubt", {})], []]
            chains.append([("credit", about), ("doubt", {})])
        if not was_known and watch.row() is not None:
            chains = [[("enrol", {"message": number}), *chain] for chain in chains]
        watch.must_be(*chains)
        other.follows_others(watch)
        return answer.reply

    def deliver(self, watch: Watch, _other: Watch) -> None:
        if watch.down:
            self._deliver(watch, self.dice.choice(watch.down[-12:]))

    def _deliver(self, watch: Watch, compact: str) -> None:
        before = watch.fs
        after, _ = engine.receive(
            before,
            open_envelope(compact.encode()),
            device=watch.device,
            now=self.bench.now,
            random=self.dice.randbytes(16),
        )
        chain = []
        said = envelope.parse_json(open_envelope(compact.encode()).payload)
        if said["seen"] > before.sequence and after != before:
            chain.append(("follow", {}))
        if after.applied is not None and after.applied != before.applied:
            chain.append(("take", {"grant": watch.contents.numbers[after.applied.digest]}))
        self._wrote(watch, after, chain)

    def _people(self, work) -> bool:
        try:
            self.bench.store.transact(work)
        except Error:
            return False
        self.bench.check()
        return True

    def change(self, watch: Watch, other: Watch) -> None:
        want = Want(line_id=self.line.line_id, quantity=self.dice.randint(0, BOUGHT))
        found: list[str] = []

        def work(tx) -> None:
            found.append(
                interventions.start_change(
                    tx, self.bench.signer, watch.id, [want], by="support", now=self.bench.now, takes_back=True
                )
            )

        if self._people(work) and digest_of(found[0]) not in watch.contents.numbers:
            number = watch.contents.add_grant(found[0], self.line.line_id)
            watch.true_signed.add(number)
            watch.down.append(found[0])
            watch.must_be([("change", {"grant": number})])
            other.follows_others(watch)

    def lose(self, watch: Watch, other: Watch) -> None:
        policy = replace(self.bench.policy, lost_per_year=99)
        if self._people(
            lambda tx: interventions.declare_lost(
                tx, self.bench.signer, watch.id, reason="dead", by="s", policy=policy, now=self.bench.now
            )
        ):
            watch.must_be([("raise_epoch", {})])
            other.follows_others(watch)

    def hold(self, watch: Watch, other: Watch) -> None:
        row = watch.row()
        if row is None or row.status is not Status.ACTIVE:
            return
        self.bench.store.tables.field_servers[watch.id] = changed(row, status=Status.HOLD)
        for compact in self.dice.sample(watch.up, min(2, len(watch.up))):
            watch.down += self._post(watch, other, compact)
        self._people(lambda tx: interventions.release_hold(tx, self.bench.signer, watch.id, by="s", now=self.bench.now))
        watch.must_be([("raise_epoch", {})])
        other.follows_others(watch)

    def settle(self, _watch: Watch, _other: Watch) -> None:
        lost = [one for one in self.watches if one.row() is not None and one.row().status is Status.LOST]
        if lost:
            self.bench.now += 14 * DAY
            for one in lost:  # as if they were due one after the other
                row = one.row()
                later = {watch.id: watch.row() for watch in lost if watch is not one}
                for device, other in later.items():
                    self.bench.store.tables.field_servers[device] = changed(other, lost_until=self.bench.now + 1)
                assert row.lost_until is not None
                self.bench.store.tables.field_servers[one.id] = changed(row, lost_until=self.bench.now)
                self.bench.settle()
                one.must_be([("settle", {})])
                next(other for other in self.watches if other is not one).follows_others(one)

    def back_up(self, _watch: Watch, _other: Watch) -> None:
        self.backup = self.bench.store.tables.copy()
        for watch in self.watches:
            watch.must_be([("back_up", {})])

    def restore(self, _watch: Watch, _other: Watch) -> None:
        if self.backup is None:
            return
        self.bench.store.tables = self.backup.copy()
        self.bench.store.transact(lambda tx: interventions.announce_restore(tx, self.bench.signer, now=self.bench.now))
        self.bench.check()
        for watch in self.watches:
            watch.must_be([("restore", {})])

    def lift(self, _watch: Watch, _other: Watch) -> None:
        """When everybody was heard from, and who is not known has nothing."""
        if not self.bench.store.tables.lines[self.line.line_id].frozen:
            return
        for watch in self.watches:
            row = watch.row()
            here = (watch.fs.epoch, watch.fs.applied.number if watch.fs.applied else 0)
            if row is None and not watch.fs.final:
                signed = [watch.contents.grants[x - 1] for x in watch.true_signed]
                if any((epoch, number) >= here and quantity for epoch, number, quantity in signed):
                    return
            if row is not None and row.recovering is not None:
                return
        self.bench.store.transact(lambda tx: interventions.lift_freeze(tx, self.bench.signer, None, now=self.bench.now))
        for watch in self.watches:
            watch.must_be([("lift", {})])

    def check(self) -> None:
        """The invariant, and what follows from it, of what is."""
        for watch in self.watches:
            model = watch.model()
            for claim in (*claims.INVARIANT.values(), *claims.FOLLOWS.values()):
                solver = z3.Solver()
                solver.add(z3.Not(claim(model, watch.state)))
                assert solver.check() == z3.unsat, claim.__name__


@pytest.mark.parametrize("seed", range(12))
def test_what_the_parties_do_is_a_step_of_the_model(seed):
    walk = Walk(seed)
    for _ in range(60):
        walk.step()
    walk.check()


def test_the_walks_make_every_step_that_is_proved():
    taken: set[str] = set()
    for seed in range(100, 120):
        walk = Walk(seed)
        for _ in range(60):
            walk.step()
        taken |= {name for watch in walk.watches for name in watch.taken}
        if taken >= steps_of(walk.watches[0].model()).keys() - {"doubt", "answer_first"}:
            return
    missing = steps_of(Walk(0).watches[0].model()).keys() - taken
    assert missing <= {"doubt", "answer_first"}


@pytest.mark.parametrize("rule", ["jumps_epochs", "fences_nothing"])
def test_the_code_is_not_a_model_of_the_old_rules(rule):
    """The watch can fail: with a rule of revision 1 in the model, some walk leaves it."""
    found = []
    for seed, _ in product(range(40), [0]):
        walk = Walk(seed)
        for watch in walk.watches:
            watch.rules = replace(Rules(), **{rule: getattr(REVISION_1, rule)})
        try:
            for _ in range(60):
                walk.step()
        except AssertionError as error:
            found.append(str(error))
            break
    assert found
    assert "no step of the model" in found[0]
