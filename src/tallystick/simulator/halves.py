"""One field server and the activation server's side of it: half of a small world, stepped by the real code.

``issuing.process`` decides about a field server from that field server's rows and from how many rights of the line are
available, and from nothing else (it loads nothing else). So a world of two field servers and one line is the product of
two halves that share one number, ``available``: whatever the other one has reserved is missing here. ``exhaustive``
builds the product.

A half holds the activation server's rows about its field server, the field server's state, and everything that is on
its way. Everything that was ever sent may arrive at any time, any number of times, or never: that is loss, delay,
repetition and reordering at once. What can have no effect any more is dropped (``_alive``), and numbers are compared by
their order only (``_Ranks``), so that two halves with the same future are one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from msgspec import structs

from tallystick.activation.core import entitlements, interventions, issuing, reading
from tallystick.activation.core.ports import Answer, FieldServer, MessageOutcome, Policy, Status
from tallystick.domain.catalog import Catalog
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import EntitlementId, new_line_id
from tallystick.domain.ledger import Balances
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
    State,
    Wish,
    Written,
)
from tallystick.protocol.envelope import PrivateKey, digest_of, open_envelope
from tallystick.protocol.messages import Facts
from tallystick.simulator.evidence import Violation, read_envelope
from tallystick.simulator.parties import KINDS, PRODUCTS, START, Issuer, seeded
from tallystick.simulator.store import MemoryStore, Tables

ROUNDS_MAX: Final = 10
_RANDOM: Final = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallWorld:
    """What may happen. ``unanswered``: a person asks nothing more of a field server with so many messages waiting;
    ``replies``: or with so many replies on their way to it. ``wishes``: how often anybody asks, None for ever.
    """

    name: str
    says: str
    bought: int = 2
    unanswered: int = 2
    replies: int = 2
    wishes: int | None = None
    changes: int = 1  # grants that a person at the activation server starts
    rollbacks: int = 0
    lost: int = 0  # declared lost while alive, within the waiting period
    restores: int = 0  # the activation server is put back to a backup, and says so; the freeze is not lifted
    verbs: frozenset[str] = frozenset()  # each once: hold, release, list, retire, set to 1; and final, which is said
    asks: frozenset[str] = frozenset()  # what a field server may be asked for; nothing named: everything
    begins: tuple[str, ...] = ()  # what has happened when the exploration begins
    is_alone: bool = False  # one field server instead of two


@dataclass(frozen=True, slots=True, kw_only=True)
class Half:
    """A state. ``up`` and ``down`` are on their way; ``base`` is the copied disk, while it may still be put back."""

    tables: Tables
    state: State
    up: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()
    wishes: int | None = None
    changes: int = 0
    lost: int = 0
    verbs: frozenset[str] = frozenset()  # that are left
    base: State | None = None
    rollbacks: int = 0
    was_rolled_back: bool = False
    was_ahead: bool = False  # when it was rolled back, the activation server had heard more
    was_reuse: bool = False  # and it held more than was kept for it
    backup: Tables | None = None
    limit: int | None = None  # what was kept for it when the activation server was put back: it may never hold more


class Bench:
    """Runs the real code on halves."""

    def __init__(self, world: SmallWorld) -> None:
        self.world = world
        self.signer = Issuer()
        self.policy = Policy()
        key = PrivateKey(seeded("device 0"))
        self.device = Device(key=key, facts=Facts(kind="AS-P", host_id="host-0", name="fs0", software="1.0"))
        self.device_id = self.device.device_id
        self.line = Line(
            line_id=new_line_id(seeded("line 0")),
            entitlement_id=EntitlementId("EN-0"),
            account="acme",
            product=PRODUCTS["smartdriver"],
            secret=seeded("secret 0", 16),
        )
        self.line_id = self.line.line_id
        self.names: dict[object, int] = {}

    def start(self) -> Half:
        """What the world begins with."""
        half = self._fresh()
        for wanted in self.world.begins:
            after = next((after for event, after in self.steps(half, self._left(half)) if event == wanted), None)
            if after is None:
                raise ValueError(f"world {self.world.name} cannot begin with {wanted}")
            half = after
        return half

    def _left(self, half: Half) -> int:
        return self.world.bought - self.reserved(half)

    def _fresh(self) -> Half:
        """A field server that knows its root, and an activation server that does not know it."""
        tables = Tables(catalog=Catalog(kinds=KINDS, products=PRODUCTS), lines={self.line_id: self.line})
        keys = open_envelope(self.signer.keyset.compact.encode())
        state, _ = engine.receive(State(device_id=self.device_id), keys, device=self.device, now=START, random=_RANDOM)
        world = self.world
        return Half(
            tables=tables,
            state=state,
            wishes=world.wishes,
            changes=world.changes,
            lost=world.lost,
            verbs=world.verbs,
            rollbacks=world.rollbacks,
        )

    # What the numbers are

    def server(self, half: Half) -> FieldServer | None:
        """The activation server's row."""
        return half.tables.field_servers.get(self.device_id)

    def reserved(self, half: Half) -> int:
        """What the line keeps for it, by the holdings that the activation server booked."""
        holding = half.tables.holdings.get((self.device_id, self.line_id))
        return holding.held + holding.returning + holding.quarantined if holding else 0

    def held(self, half: Half) -> int:
        """What the field server holds."""
        return sum(license_.quantity for license_ in half.state.licenses)

    # What may happen

    def steps(self, half: Half, available: int) -> Iterator[tuple[str, Half]]:
        """Every event, and the half after it."""
        yield from self._wishes(half)
        for compact in sorted(half.up):
            yield "up", self._tidy(self._take(half, compact, available))
        for compact in sorted(half.down):
            yield "down", self._tidy(self._hear(half, compact))
        server = self.server(half)
        if half.changes and server is not None and len(half.down) < self.world.replies:
            after = self._change(half, available)
            if after is not None:
                yield "change", self._tidy(after)
        if half.lost and server is not None and server.status is Status.ACTIVE:
            yield "lost", self._tidy(self._declare_lost(half, available))
        yield from self._verbs(half, available)
        if self.world.restores and half.limit is None:
            if half.backup is None:
                yield "backup", replace(half, backup=half.tables)
            else:
                yield "restore", self._tidy(self._restore(half, half.backup))
        if half.rollbacks and half.base is None:
            yield "copy", replace(half, base=half.state)
        if half.rollbacks and half.base is not None and half.base != half.state:
            yield "roll back", self._tidy(self._roll_back(half))

    def _wishes(self, half: Half) -> Iterator[tuple[str, Half]]:
        if len(half.state.outbox) >= self.world.unanswered or len(half.down) >= self.world.replies or half.wishes == 0:
            return
        wishes: dict[str, Wish] = {"refresh": Refresh(), "relinquish": Relinquish(), "return all": Return(wants=None)}
        for quantity in range(1, self.world.bought + 1):
            want = ActivationWant(activation_id=self.line.activation_id, quantity=quantity)
            wishes[f"activate {quantity}"] = Activate(wants=(want,))
        if self.held(half) > 1:
            wishes["return to 1"] = Return(wants=(ReturnWant(line_id=self.line_id, quantity=1),))
        if "final" in half.verbs:
            wishes["final"] = Relinquish(is_final=True)
        for name, wish in wishes.items():
            if self.world.asks and name not in self.world.asks and name != "final":
                continue
            after, result = engine.write_request(half.state, wish, device=self.device, now=START, random=_random(half))
            if isinstance(result, Written) and not result.is_repeated:
                left = None if half.wishes is None else half.wishes - 1
                verbs = half.verbs - {"final"} if name == "final" else half.verbs
                yield name, self._tidy(self._wrote(replace(half, wishes=left, verbs=verbs), after))

    def _verbs(self, half: Half, available: int) -> Iterator[tuple[str, Half]]:
        """What people do: each verb once."""
        works: dict[str, Any] = {
            "hold": lambda tx: interventions.hold(tx, self.signer, self.device_id, by="support", now=START),
            "release": lambda tx: interventions.release_hold(tx, self.signer, self.device_id, by="support", now=START),
            "list": lambda tx: entitlements.list_field_server(
                tx, self.signer, self.device_id, account="acme", now=START
            ),
            "retire": lambda tx: interventions.retire(tx, self.signer, self.device_id, by="support", now=START),
            "set to 1": lambda tx: interventions.start_change(
                tx,
                self.signer,
                self.device_id,
                [Want(line_id=self.line_id, quantity=1)],
                by="support",
                now=START,
                takes_back=True,
            ),
        }
        for verb in sorted(half.verbs & works.keys()):
            if (verb == "list") != (self.server(half) is None):
                continue
            try:
                tables, said = self._run(half, available, works[verb])
            except Error:
                continue
            down = half.down | {said} if isinstance(said, str) else half.down
            yield verb, self._tidy(replace(half, tables=tables, down=down, verbs=half.verbs - {verb}))

    def _wrote(self, half: Half, after: State) -> Half:
        known = half.tables.messages
        new = {waiting.compact for waiting in after.outbox if waiting.digest not in known}
        return replace(half, state=after, up=half.up | new)

    def _take(self, half: Half, compact: str, available: int) -> Half:
        return self._answered(half, compact, available)[0]

    def _answered(self, half: Half, compact: str, available: int) -> tuple[Half, frozenset[str]]:
        """The half after a message was taken, and the reply; one that is not kept may be on its way already."""
        message = reading.read_message(open_envelope(compact.encode()), self.signer.keyset)
        tables, answers = self._run(
            half,
            available,
            lambda tx: issuing.process([message], tx, signer=self.signer, policy=self.policy, now=START),
        )
        self._check_order(half, message.request.sequence, message.request.epoch, answers[0])
        up = half.up if self.world.restores else half.up - {compact}
        reply = frozenset(answers[0].reply)
        return replace(half, tables=tables, up=up, down=half.down | reply), reply

    def _check_order(self, half: Half, sequence: int, epoch: int, answer: Answer) -> None:
        """A message that a later one has overtaken is never decided; a fence of a later epoch decides nothing."""
        server = self.server(half)
        if server is None or answer.digest in half.tables.messages or sequence > server.sequence:
            return
        if answer.outcome is not MessageOutcome.REFUSED and epoch >= server.epoch:
            raise Violation("order", f"message {sequence} was decided after message {server.sequence}")

    def _hear(self, half: Half, compact: str) -> Half:
        after, _ = engine.receive(
            half.state, open_envelope(compact.encode()), device=self.device, now=START, random=_random(half)
        )
        return self._wrote(half, after)

    def _change(self, half: Half, available: int) -> Half | None:
        try:
            tables, compact = self._run(
                half,
                available,
                lambda tx: interventions.start_return(
                    tx, self.signer, self.device_id, by="support", now=START, takes_back=True
                ),
            )
        except Error:
            return None
        return replace(half, tables=tables, down=half.down | {compact}, changes=half.changes - 1)

    def _declare_lost(self, half: Half, available: int) -> Half:
        tables, _ = self._run(
            half,
            available,
            lambda tx: interventions.declare_lost(
                tx, self.signer, self.device_id, reason="dead", by="support", policy=self.policy, now=START
            ),
        )
        return replace(half, tables=tables, lost=half.lost - 1)

    def _restore(self, half: Half, backup: Tables) -> Half:
        before = self.reserved(half)
        # What it had heard, it has forgotten.
        half = replace(half, tables=backup, limit=before, backup=None, was_ahead=False, was_reuse=False)
        available = self.world.bought - self.reserved(half)
        tables, _ = self._run(half, available, lambda tx: interventions.announce_restore(tx, self.signer, now=START))
        return replace(half, tables=tables)

    def _roll_back(self, half: Half) -> Half:
        if half.base is None:
            raise Violation("P7", "nothing to put back")
        server = self.server(half)
        was_ahead = (
            server is not None
            and server.sequence > half.base.sequence
            and server.status is Status.ACTIVE
            and server.recovering is None  # or the sequence was jumped, and nothing was heard
        )
        after = replace(half, state=half.base, base=None, rollbacks=half.rollbacks - 1, was_rolled_back=True)
        was_reuse = was_ahead and self.held(after) > self.reserved(after)
        return self._wrote(replace(after, was_ahead=was_ahead, was_reuse=was_reuse), half.base)

    def _run(self, half: Half, available: int, work: Any) -> tuple[Tables, Any]:
        """The real unit of work. What is not available and not reserved here belongs to the other field server."""
        holding = half.tables.holdings.get((self.device_id, self.line_id))
        mine = (holding.held, holding.returning, holding.quarantined) if holding else (0, 0, 0)
        others = self.world.bought - available - sum(mine)
        balances = Balances(
            bought=self.world.bought,
            available=available,
            held=mine[0] + others,
            returning=mine[1],
            quarantined=mine[2],
        )
        tables = half.tables.copy()
        tables.entries.clear()
        tables.lines[self.line_id] = structs.replace(self.line, balances=balances, frozen=half.limit is not None)
        store = MemoryStore(tables)
        result = store.transact(work)
        after = store.tables.lines[self.line_id].balances
        kept = store.tables.holdings.get((self.device_id, self.line_id))
        booked = (kept.held, kept.returning, kept.quarantined) if kept else (0, 0, 0)
        if (after.available < 0 and half.limit is None) or after.available + sum(booked) + others != self.world.bought:
            raise Violation("P5", f"{booked} kept here, {others} elsewhere and {after.available} available")
        return store.tables, result

    # What is the same

    def _tidy(self, half: Half) -> Half:
        """Drop what can have no effect any more, and what the past looks like."""
        states = [half.state] if half.base is None else [half.state, half.base]
        up = frozenset(compact for compact in half.up if self._is_alive_up(half, compact, states))
        down = frozenset(compact for compact in half.down if _is_alive_down(compact, states))
        return replace(half, up=up, down=down)

    def _is_alive_up(self, half: Half, compact: str, states: list[State]) -> bool:
        if self.world.rollbacks or (self.world.restores and half.limit is None):
            return True
        if self.world.restores and digest_of(compact) in half.tables.messages:
            return False
        server = self.server(half)
        if server is None:
            return True
        _, claims, _ = read_envelope(compact)
        is_waiting = any(waiting.compact == compact for state in states for waiting in state.outbox)
        return is_waiting or claims["sequence"] > server.sequence or claims["epoch"] < server.epoch

    def key(self, half: Half) -> tuple[object, ...]:
        """Two halves with the same key have the same future."""
        world = self.world
        ranks = _Ranks(is_exact=bool(world.rollbacks or world.lost or world.restores))
        server = self.server(half)
        parts: list[object] = [
            half.wishes,
            half.changes,
            half.lost,
            half.verbs,
            half.rollbacks,
            half.was_rolled_back,
            half.was_ahead,
            half.was_reuse,
            half.state.rolled_back_at is not None,
            half.state.final,
            len(half.tables.incidents),
            half.limit,
        ]
        if world.restores:
            parts += [None if tables is None else _past(tables) for tables in (half.tables, half.backup)]
        if server is not None:
            parts += [server.status, server.recovering, server.rolled_back_at, server.lost_at]
            ranks.add("e", server.epoch, server.spoken_epoch)
            ranks.add("s", server.sequence)
            ranks.add("n", server.number, server.proven)
            for grant in server.outstanding:
                ranks.add("e", grant.epoch)
                ranks.add("n", grant.number)
            parts.append(tuple(grant.quantities.get(self.line_id, 0) for grant in server.outstanding))
        for state in (half.state, half.base):
            parts.append(None if state is None else self._state_parts(state, ranks))
        for bag in (half.up, half.down):
            parts.append(tuple(self._envelope_parts(compact, ranks) for compact in sorted(bag, key=_order)))
        if self.world.rollbacks:
            low = min(state.sequence for state in (half.state, half.base) if state is not None)
            used = half.tables.sequences
            parts.append(tuple(sorted((seq, digest) for (_, seq), digest in used.items() if seq > low)))
            parts.append(tuple(sorted(digest for digest in half.tables.messages)) if half.rollbacks else ())
        return (tuple(parts), ranks.shape())

    def _state_parts(self, state: State, ranks: _Ranks) -> object:
        ranks.add("e", state.epoch)
        ranks.add("s", state.sequence)
        applied = None if state.applied is None else self._envelope_parts(state.applied.compact, ranks)
        return (applied, tuple(self._envelope_parts(waiting.compact, ranks) for waiting in state.outbox))

    def _envelope_parts(self, compact: str, ranks: _Ranks) -> object:
        header, claims, digest = read_envelope(compact)
        kind = header["typ"]
        request = claims.get("request")
        # Which message is which: with two histories, one sequence is not one message.
        mine, answers = (digest, request) if self.world.rollbacks else (None, None)
        if request in self._sequences:
            ranks.add("s", self._sequences[request])
        if kind == "tally-request+jwt":
            self._sequences[digest] = claims["sequence"]
            ranks.add("e", claims["epoch"])
            ranks.add("s", claims["sequence"])
            ranks.add("n", claims["applied"]["number"] if claims["applied"] else 0)
            wants = tuple(want["quantity"] for want in claims.get("wants") or ())
            return (
                claims["purpose"],
                wants,
                claims.get("all"),
                claims.get("final"),
                claims.get("rolled_back_at"),
                mine,
            )
        ranks.add("s", claims["seen"])
        if kind == "tally-grant+jwt":
            ranks.add("e", claims["epoch"])
            ranks.add("n", claims["number"])
            quantities = tuple(item["quantity"] for item in claims["licenses"])
            return (kind, quantities, claims["confirm"], request is None, answers)
        return (kind, claims.get("code"), answers)

    _sequences: Final[dict[str, int]] = {}

    # What must hold

    def check(self, half: Half) -> None:
        """P1 here: what is held is reserved; nobody is accused who was not rolled back."""
        kinds = [str(incident.kind) for incident in half.tables.incidents]
        if half.was_rolled_back:
            return
        held = self.held(half)
        if half.limit is not None and held > half.limit:
            raise Violation("P1", f"{held} are held, {half.limit} were kept for it before the restore")
        server = self.server(half)
        is_heard = half.limit is None or (server is not None and server.recovering is None)
        if is_heard and held > self.reserved(half):
            raise Violation("P1", f"{held} are held, {self.reserved(half)} are kept for it")
        allowed = {"reappeared"} | ({"grant-adopted"} if half.limit is not None else set())
        if [kind for kind in kinds if kind not in allowed] or half.state.rolled_back_at is not None:
            raise Violation("P7", f"an innocent field server is accused: {kinds}")

    def heal(self, half: Half, available: int) -> None:
        """P2 here: everything open is repeated, and it comes to rest; a rollback has a name by then."""
        server = self.server(half)
        is_behind = half.was_ahead and server is not None and server.sequence > half.state.sequence
        is_asked = False
        for _ in range(ROUNDS_MAX):
            server = self.server(half)
            if server is not None and server.status is Status.HOLD:
                tables, _ = self._run(
                    half,
                    available,
                    lambda tx: interventions.release_hold(tx, self.signer, self.device_id, by="support", now=START),
                )
                half = replace(half, tables=tables)
                is_asked = False
            if not half.state.outbox:
                if is_asked:
                    break
                is_asked = True
                after, _ = engine.write_request(
                    half.state, Refresh(), device=self.device, now=START, random=_random(half)
                )
                half = self._wrote(half, after)
            for waiting in half.state.outbox:
                stored = half.tables.messages.get(waiting.digest)
                if stored is None:
                    reserved = self.reserved(half)
                    half, replies = self._answered(half, waiting.compact, available)
                    available -= self.reserved(half) - reserved
                else:
                    replies = frozenset(stored.answer.reply)
                for compact in sorted(replies, key=_order):
                    half = self._hear(half, compact)
        else:
            raise Violation("P2", "it never stops having something to say")
        holding = half.tables.holdings.get((self.device_id, self.line_id))
        kept = (holding.held, holding.returning, holding.quarantined) if holding else (0, 0, 0)
        if kept != (self.held(half), 0, 0):
            raise Violation("P2", f"{self.held(half)} are held, the books keep {kept}")
        if is_behind and not half.tables.incidents and half.state.rolled_back_at is None:
            raise Violation("P7", "it was rolled back, has spoken twice, and nobody noticed")
        if half.was_reuse and not half.tables.incidents:
            raise Violation("P7", "it was rolled back and used rights again, and there is no incident")


def _random(half: Half) -> bytes:
    """After its disk was put back, a field server draws other secrets than the first time."""
    return b"\1" * 32 if half.was_rolled_back else _RANDOM


def _past(tables: Tables) -> object:
    """What a restore makes unknown: messages, grants, and how and where the field server stood."""
    return (
        tuple(sorted(tables.messages)),
        tuple(sorted((number, grant.digest) for (_, number), grant in tables.grants.items())),
        tuple(
            (
                server.status,
                server.epoch,
                server.spoken_epoch,
                server.sequence,
                server.number,
                server.proven,
                server.recovering,
                server.rolled_back_at,
                server.lost_at,
            )
            for server in tables.field_servers.values()
        ),
        tuple(
            (grant.epoch, grant.number, tuple(grant.quantities.items()))
            for server in tables.field_servers.values()
            for grant in server.outstanding
        ),
    )


class _Ranks:
    """Epochs, numbers and sequences, of which only the order counts (0 is none)."""

    __slots__ = ("is_exact", "numbers")

    def __init__(self, *, is_exact: bool) -> None:
        self.is_exact = is_exact
        self.numbers: dict[str, list[int]] = {"e": [], "s": [], "n": []}

    def add(self, kind: str, *numbers: int) -> None:
        self.numbers[kind].extend(numbers)

    def shape(self) -> tuple[object, ...]:
        if self.is_exact:
            return tuple(tuple(numbers) for numbers in self.numbers.values())
        shapes = []
        for numbers in self.numbers.values():
            places: Mapping[int, int] = {number: place for place, number in enumerate(sorted({0, *numbers}))}
            shapes.append(tuple(places[number] for number in numbers))
        return tuple(shapes)


def _order(compact: str) -> tuple[Any, ...]:
    """An order of envelopes that follows from what they say, not from their bytes."""
    header, claims, _ = read_envelope(compact)
    return (
        header["typ"],
        claims.get("epoch", 0),
        claims.get("number", 0),
        claims.get("sequence", 0),
        claims.get("seen", 0),
        claims.get("code", ""),
        compact,
    )


def _is_alive_down(compact: str, states: list[State]) -> bool:
    """Whether a reply could change anything: a newer grant, a cleared outbox, a sequence ahead."""
    _, claims, _ = read_envelope(compact)
    for state in states:
        if claims["seen"] > state.sequence or any(waiting.digest == claims["request"] for waiting in state.outbox):
            return True
        number = 0 if state.applied is None else state.applied.number
        if "number" in claims and (claims["epoch"], claims["number"]) > (state.epoch, number):
            return True
    return False
