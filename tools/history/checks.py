"""What must hold of a history, whatever was killed meanwhile. Pure: a record and the books go in, findings come out.

The ledger says in which order rights moved on each line. So strict serialisability needs no search there: each entry
has a moment before which its cause was not sent, and one at which it was answered; an order that real time allows is one
in which no entry was answered before an earlier one was sent. Terms of a line (suspended, frozen) have no entries; they are a
register, and for it a search as Porcupine does it (Wing and Gong, with memory) finds an order or shows that there is none.
"""

from __future__ import annotations

import base64
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

from history.record import NEVER, History, Verb

Row = Mapping[str, Any]
Books = Mapping[str, Sequence[Row]]  # the rows of each table, at rest

ACCOUNTS: Final = ("available", "held", "returning", "quarantined", "retired")
RESERVED: Final = frozenset({"held", "returning", "quarantined"})
NOT_DECIDED: Final = frozenset(
    {"fork", "on-hold", "superseded", "restored", "not-enrolled", "host-id-taken", "grant-unknown"}
)
STRANGERS: Final = frozenset({"not-enrolled", "host-id-taken"})
NOT_LOOKED_AT: Final = frozenset({"on-hold", "restored", "not-enrolled", "host-id-taken"})
_TERMS: Final = ("suspended", "frozen")


@dataclass(slots=True)
class _Entry:
    """A ledger entry, and between which moments it was committed."""

    row: Row
    first: float
    last: float


@dataclass(slots=True)
class _Known:
    """What follows from a history and the books together."""

    history: History
    books: Books
    sent: dict[str, float] = field(default_factory=dict)
    answered: dict[str, float] = field(default_factory=dict)
    replies: dict[str, tuple[str, ...]] = field(default_factory=dict)
    claims: dict[str, dict[str, Any]] = field(default_factory=dict)
    ledger: dict[str, list[_Entry]] = field(default_factory=dict)


def check(history: History, books: Books) -> list[str]:
    """Every contradiction, in words; none is the promise kept."""
    known = _Known(history, books)
    found = list(_check_replies(known))
    _read_ledger(known)
    for part in (
        _check_stored,
        _check_chains,
        _check_order,
        _check_holders,
        _check_receipts,
        _check_sequences,
        _check_looks,
        _check_terms,
        _check_incidents,
    ):
        found += part(known)
    return found


# Replies


def _is_forgotten(said: Row) -> bool:
    """Whether it is the refusal of one that was not known then, and may have been forgotten at once."""
    return "code" in said and said.get("seen") == 0


def _check_replies(known: _Known) -> Iterator[str]:
    """P4: the same message, the same bytes."""
    known.claims = {digest: claims_of(compact) for digest, compact in known.history.messages.items()}
    for post in sorted(known.history.posts, key=lambda post: post.ended):
        for digest in post.digests:
            known.sent[digest] = min(known.sent.get(digest, NEVER), post.begun)
        for digest, reply in post.replies.items():
            known.answered[digest] = min(known.answered.get(digest, NEVER), post.ended)
            before = known.replies.setdefault(digest, reply)
            if before != reply and not _may_be_pruned(known, digest):
                yield f"P4: message {digest[:8]} was answered {_short(before)}, and later {_short(reply)}"


def _check_stored(known: _Known) -> Iterator[str]:
    """No acknowledgement is lost: what was answered is stored, as it was."""
    stored = {row["digest"]: tuple(row["reply"].split()) for row in known.books["messages"]}
    for digest, reply in known.replies.items():
        if digest not in stored:
            if not _may_be_pruned(known, digest):
                yield f"lost: message {digest[:8]} was answered {_short(reply)}, and is not in the books"
        elif stored[digest] != reply and not _may_be_pruned(known, digest):
            yield f"lost: message {digest[:8]} was answered {_short(reply)}; stored is {_short(stored[digest])}"
    for digest in stored.keys() - known.sent.keys():
        yield f"P3: message {digest[:8]} is in the books, and nobody has sent it"


def _may_be_pruned(known: _Known, digest: str) -> bool:
    """Whether some prune was allowed to forget the reply: its field server had gone on, and was not in doubt; or was none."""
    claims = known.claims[digest]
    device, sent = claims["iss"], known.sent[digest]
    said = claims_of(known.replies[digest][0])
    if _is_forgotten(said):
        return True
    is_stranger = said.get("code") in STRANGERS
    for prune in known.history.verbs:
        if prune.name != "prune" or prune.ended < sent:
            continue
        if is_stranger:
            return True
        if _is_recovering(known, device, prune):
            continue
        for other, other_claims in known.claims.items():
            is_later = other_claims["iss"] == device and other_claims["sequence"] > claims["sequence"]
            if is_later and known.sent.get(other, NEVER) < prune.ended:
                return True
    return False


def _is_recovering(known: _Known, device: str, prune: Verb) -> bool:
    """Whether a field server surely had not been heard from between an announced restore and the end of a prune."""
    for freeze in known.history.verbs:
        if freeze.name != "freeze" or freeze.outcome != "done" or freeze.ended > prune.begun:
            continue
        if not any(
            post.begun < prune.ended and post.ended > freeze.begun
            for post in known.history.posts
            if any(known.claims[digest]["iss"] == device for digest in post.digests)
        ):
            return True
    return False


# The ledger


def _read_ledger(known: _Known) -> None:
    for row in sorted(known.books["entries"], key=lambda row: (row["line_id"], row["number"])):
        cause = row["cause"]
        entry = _Entry(row, known.sent.get(cause, -NEVER), known.answered.get(cause, NEVER))
        known.ledger.setdefault(row["line_id"], []).append(entry)


def _check_chains(known: _Known) -> Iterator[str]:
    """P5: no gap, each chained to the one before, and the balances are what they give."""
    lines = {row["line_id"]: row for row in known.books["lines"]}
    for line, entries in known.ledger.items():
        chain = ""
        for number, entry in enumerate(entries, 1):
            row = entry.row
            fields = (line, row["number"], row["source"], row["target"], row["quantity"], row["device_id"] or "")
            text = "\x1f".join((chain, *map(str, fields), row["cause"], str(row["booked_at"])))
            chain = sha256(text.encode()).hexdigest()
            if row["number"] != number or row["chain"] != chain:
                yield f"P5: entry {row['number']} of line {line} does not follow the one before"
        totals = _balances(entries)[-1]
        stored = tuple(lines[line][account] for account in ACCOUNTS)
        if totals != stored:
            yield f"P5: line {line} is stored as {stored}, its ledger gives {totals}"


def _balances(entries: Sequence[_Entry]) -> list[tuple[int, ...]]:
    """The balances before the first entry and after each."""
    totals = dict.fromkeys(ACCOUNTS, 0)
    found = [tuple(totals.values())]
    for entry in entries:
        for account, sign in ((entry.row["source"], -1), (entry.row["target"], 1)):
            if account in totals:
                totals[account] += sign * entry.row["quantity"]
        found.append(tuple(totals.values()))
    return found


def _check_order(known: _Known) -> Iterator[str]:
    """The order of the ledger is one that real time allows. Narrows the moments of every entry by its neighbours."""
    for line, entries in known.ledger.items():
        latest = -NEVER
        for entry in entries:
            latest = entry.first = max(latest, entry.first)
        soonest = NEVER
        for entry in reversed(entries):
            soonest = entry.last = min(soonest, entry.last)
        for entry in entries:
            if entry.first > entry.last:
                yield (
                    f"order: a later entry than {entry.row['number']} of line {line} was answered "
                    f"{entry.first - entry.last:.3f} s before an earlier one was asked for"
                )
                break


def _check_holders(known: _Known) -> Iterator[str]:
    """P1 at every instant: what a field server holds, the ledger keeps for it, at that instant.

    Since the balances of a line add up (``_check_chains``), all of them together hold at most what was bought less what is
    available.
    """
    kept: dict[tuple[str, str], list[_Entry]] = {}
    declared = list(_declared(known.history))
    for line, entries in known.ledger.items():
        for entry in entries:
            if entry.row["device_id"]:
                kept.setdefault((entry.row["device_id"], line), []).append(entry)
    for held in known.history.held:
        if held.device in known.history.suspects:
            continue
        # From then on it need not be kept: declared lost while alive, the one exception that the protocol names.
        released = [moment for device, epoch, moment in declared if device == held.device and held.epoch <= epoch]
        ended = min([held.ended, *released])
        for line, quantity in held.quantities.items():
            for first, last, reserved in _reservations(kept.get((held.device, line), [])):
                if quantity > reserved and max(first, held.begun) < min(last, ended):
                    yield (
                        f"P1: {held.device[:8]} held {quantity} of line {line} while {reserved} were kept for it, "
                        f"for {min(last, ended) - max(first, held.begun):.3f} s or more"
                    )


def _reservations(entries: Sequence[_Entry]) -> Iterator[tuple[float, float, int]]:
    """From when until when it is sure that so much was kept for one field server."""
    reserved, first = 0, -NEVER
    for entry in entries:
        yield first, entry.first, reserved
        row = entry.row
        reserved += row["quantity"] * ((row["target"] in RESERVED) - (row["source"] in RESERVED))
        first = entry.last
    yield first, NEVER, reserved


def _declared(history: History) -> Iterator[tuple[str, int, float]]:
    """Field servers that were declared lost: in which epoch they were then, at most, and since when."""
    for verb in history.verbs:
        if verb.name in {"lost", "replace"} and verb.outcome in {"done", None}:
            epochs = [held.epoch for held in history.held if held.device == verb.subject and held.begun <= verb.ended]
            yield verb.subject, max(epochs, default=0), verb.begun


def _check_receipts(known: _Known) -> Iterator[str]:
    """One receipt for each entry that gives rights back because of a message, and it says what the ledger says."""
    receipts: dict[tuple[str, int], Row] = {}
    replies = known.replies | {row["digest"]: tuple(row["reply"].split()) for row in known.books["messages"]}
    for digest, reply in replies.items():
        for claims in map(claims_of, reply):
            for entry in claims.get("entries", ()):
                place = (entry["line"], entry["number"])
                if place in receipts:
                    yield f"receipts: entry {place} has two"
                receipts[place] = entry | {"cause": digest}
    for line, entries in known.ledger.items():
        for one in entries:
            row = one.row
            if row["target"] != "available" or row["cause"] not in known.sent:
                continue
            receipt = receipts.pop((line, row["number"]), None)
            if receipt is None:
                if row["cause"] in replies:
                    yield f"receipts: entry {row['number']} of line {line} gave {row['quantity']} back, and has none"
            elif (receipt["chain"], receipt["quantity"], receipt["cause"]) != (
                row["chain"],
                row["quantity"],
                row["cause"],
            ):
                yield f"receipts: that of entry {row['number']} of line {line} says something else than the ledger"
    for place in receipts:
        yield f"receipts: one for entry {place}, which is not in the ledger"


def _check_sequences(known: _Known) -> Iterator[str]:
    """Of two messages with one sequence, at most one is decided, and whoever wrote them is named."""
    used: dict[tuple[str, int, int], list[str]] = {}
    for digest, reply in known.replies.items():
        claims = known.claims[digest]
        said = claims_of(reply[0])
        if said.get("code") not in NOT_LOOKED_AT and not _is_forgotten(said):
            used.setdefault((claims["iss"], claims["epoch"], claims["sequence"]), []).append(digest)
    named = {row["digest"] for row in known.books["incidents"]}
    for (device, _, sequence), digests in used.items():
        if len(digests) > 1 and not named & set(digests):
            yield f"fork: two messages {sequence} of {device[:8]} were answered, and nobody noticed that there are two of it"
    decided: dict[tuple[str, int, int], str] = {}
    for digest, reply in known.replies.items():
        claims = known.claims[digest]
        said = claims_of(reply[0])
        if (
            said.get("code") in NOT_DECIDED
            or _is_forgotten(said)
            or said.get("epoch", claims["epoch"]) != claims["epoch"]
        ):
            continue
        before = decided.setdefault((claims["iss"], claims["epoch"], claims["sequence"]), digest)
        if before != digest:
            yield f"fork: two messages {claims['sequence']} of {claims['iss'][:8]} were both decided"


# Lines as they were shown, and their terms


def _check_looks(known: _Known) -> Iterator[str]:
    """What a line was shown to have is what its ledger gave at some moment between question and answer."""
    for line, entries in known.ledger.items():
        balances = _balances(entries)
        firsts, lasts = [entry.first for entry in entries], [entry.last for entry in entries]
        for look in known.history.looks:
            if look.line != line:
                continue
            fewest, most = bisect_left(lasts, look.begun), bisect_right(firsts, look.ended)
            shown = tuple(look.shown[account] for account in ACCOUNTS)
            if shown not in balances[fewest : most + 1]:
                yield f"look: line {line} was shown with {shown}, which it did not have then"


@dataclass(frozen=True, slots=True)
class _Step:
    """A write of some terms, or a read that found them. ``ended`` is never for what nobody answered."""

    begun: float
    ended: float
    is_write: bool
    terms: tuple[tuple[str, bool], ...]


def _check_terms(known: _Known) -> Iterator[str]:
    """Each line's terms, as written, shown and obeyed, have an order that real time allows."""
    for line in known.ledger:
        steps = sorted(_steps(known, line), key=lambda step: step.begun)
        stuck = find_order(steps)
        if stuck is not None:
            yield f"terms: line {line} had no {dict(stuck.terms)} any more, or not yet: no order explains what was seen"


def _steps(known: _Known, line: str) -> Iterator[_Step]:
    sold = next(
        (verb for verb in known.history.verbs if verb.name == "sell" and line in verb.change.get("lines", ())), None
    )
    for verb in known.history.verbs:
        is_done = verb.outcome in {"done", None}
        if is_done and verb.subject in {line, "*"} and (terms := _of(verb.change)):
            if sold is not None and verb.ended < sold.begun:
                continue  # there was no such line
            is_sure = verb.outcome is not None and (sold is None or verb.begun > sold.ended)
            yield _Step(verb.begun, verb.ended if is_sure else NEVER, is_write=True, terms=terms)
    for look in known.history.looks:
        if look.line == line:
            yield _Step(look.begun, look.ended, is_write=False, terms=_of(look.shown))
    for row in known.books["lines"]:
        if row["line_id"] == line:
            moments = [one.ended for some in (known.history.looks, known.history.verbs) for one in some]
            end = 1 + max((moment for moment in moments if moment != NEVER), default=0.0)
            yield _Step(end, end, is_write=False, terms=_of(row))
    for digest, reply in known.replies.items():
        yield from _obeyed(known, line, digest, reply)


def _obeyed(known: _Known, line: str, digest: str, reply: Sequence[str]) -> Iterator[_Step]:
    """What the answer to a wish says about the terms: growth was granted, or refused because of them."""
    said = claims_of(reply[0])
    begun, ended = known.sent[digest], known.answered[digest]
    reasons = {reason["code"] for reason in said.get("reasons", ()) if reason.get("line") == line}
    if reasons & {"line-suspended", "line-frozen"}:
        terms = (("frozen", "line-frozen" in reasons), ("suspended", "line-suspended" in reasons))
        yield _Step(begun, ended, is_write=False, terms=terms)
    took = any(
        entry.row["cause"] == digest
        and entry.row["source"] == "available"
        and known.claims[digest]["purpose"] == "activate"
        for entry in known.ledger[line]
    )
    if took:
        yield _Step(begun, ended, is_write=False, terms=(("frozen", False), ("suspended", False)))


def _of(shown: Row) -> tuple[tuple[str, bool], ...]:
    return tuple(sorted((name, bool(shown[name])) for name in _TERMS if name in shown))


def find_order(steps: Sequence[_Step]) -> _Step | None:
    """None where the steps have an order in which every read finds what was written last; else one that has no place.

    ``steps`` are in the order in which they began. A read that may come next, and finds what is there, comes next: that
    takes nothing from anybody. So only writes branch, and few of them are ever under way.
    """
    furthest, stuck = -1, None
    seen: set[tuple[frozenset[int], tuple[tuple[str, bool], ...], int]] = set()
    stack = [(dict.fromkeys(_TERMS, False), frozenset[int](), 0)]
    while stack:
        terms, ahead, start = stack.pop()
        ahead, start, blocked = _read_on(steps, terms, ahead, start)
        if all(step.is_write and step.ended == NEVER for step in _left(steps, ahead, start)):
            return None
        if start > furthest and blocked is not None:
            furthest, stuck = start, blocked
        key = (ahead, tuple(sorted(terms.items())), start)
        if key in seen:
            continue
        seen.add(key)
        # Of writes that nobody answered, and that do the same, the first will do: they are there for ever, all of them.
        unanswered: set[tuple[tuple[str, bool], ...]] = set()
        for place in _next(steps, ahead, start):
            step = steps[place]
            if not step.is_write:
                continue
            after = {**terms, **dict(step.terms)}
            if step.ended == NEVER:
                if step.terms in unanswered or after == terms:
                    continue
                unanswered.add(step.terms)
            stack.append((after, ahead | {place}, start))
    return stuck or steps[0]


def _read_on(
    steps: Sequence[_Step], terms: Mapping[str, bool], ahead: frozenset[int], start: int
) -> tuple[frozenset[int], int, _Step | None]:
    """Place every read that may come next and finds what is there; also one that does not."""
    blocked = None
    while True:
        ready = [place for place in _next(steps, ahead, start) if not steps[place].is_write]
        fitting = {place for place in ready if all(terms[name] == value for name, value in steps[place].terms)}
        blocked = next((steps[place] for place in ready if place not in fitting), None)
        ahead |= fitting
        while start in ahead:
            ahead -= {start}
            start += 1
        if not fitting:
            return ahead, start, blocked


def _next(steps: Sequence[_Step], ahead: frozenset[int], start: int) -> list[int]:
    """Steps that may come next: none of those left ended before they began."""
    found: list[int] = []
    soonest = NEVER
    for place in range(start, len(steps)):
        if steps[place].begun > soonest:
            break
        if place not in ahead:
            found.append(place)
            soonest = min(soonest, steps[place].ended)
    return found


def _left(steps: Sequence[_Step], ahead: frozenset[int], start: int) -> Iterator[_Step]:
    return (steps[place] for place in range(start, len(steps)) if place not in ahead)


def _check_incidents(known: _Known) -> Iterator[str]:
    """P7: nobody is accused who has no copy, but for those declared lost who are back."""
    declared = {verb.subject for verb in known.history.verbs if verb.name in {"lost", "replace"}}
    for row in known.books["incidents"]:
        if row["device_id"] in known.history.suspects or (row["kind"] == "reappeared" and row["device_id"] in declared):
            continue
        yield f"P7: {row['device_id'][:8]} is accused of {row['kind']}, and is innocent"


def claims_of(compact: str) -> dict[str, Any]:
    """What an envelope says, without looking at its signature."""
    payload = compact.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


def _short(reply: Sequence[str]) -> str:
    return sha256(" ".join(reply).encode()).hexdigest()[:8]
