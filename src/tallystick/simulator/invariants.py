"""The auditor: an independent judge of the promises P1 to P7 (protocol, section 1).

It shares no code with the parties. It is fed plain data (dictionaries, numbers, compact envelopes as text), takes
envelopes apart by itself (``evidence``), checks signatures with ``cryptography`` alone, keeps its own double entry, and applies the
reservation rule by brute force to all grants that were ever issued, without the forgetting that the parties do.
What it must know beyond that is the ground truth of the faults: which copies were rolled back, cloned, declared lost,
and when the activation server was restored.

``Violation`` is raised at the first contradiction, and names the promise.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tallystick.simulator.evidence import Violation, check_signature, read_envelope, thumbprint

Row = Mapping[str, Any]
Position = tuple[int, int]  # an epoch, and the number of a grant in it; 0 is "none yet"

# After these refusals, nothing that the message says was taken note of.
_NOT_HEARD: Final = frozenset({"superseded", "fork", "on-hold", "not-enrolled", "restored"})
_ACCUSATIONS: Final = frozenset({"rollback", "fork", "epoch-behind"})
_ACCOUNTS: Final = ("available", "held", "returning", "quarantined", "retired")


@dataclass(slots=True)
class _Line:
    bought: int = 0
    bought_ever: int = 0  # the most; a restore may forget a sale, but not the buyer
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_ACCOUNTS, 0))
    entries: int = 0
    chain: str = ""
    frozen: bool = False


@dataclass(slots=True)
class _Device:
    """What the activation server committed about one field server, and what follows from it."""

    status: str = "unknown"
    epoch: int = 1
    sequence: int = 0
    decided: int = 0  # the highest sequence of a message that was decided
    recovering: bool = False
    proven: Position = (0, 0)
    newest: Position = (0, 0)
    grants: dict[Position, dict[str, int]] = field(default_factory=dict)
    void_below: int = 0  # a waiting period ended: what older epochs granted is no longer kept for it
    reserved: dict[str, int] = field(default_factory=dict)
    intended: dict[str, int] = field(default_factory=dict)
    holdings: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    taken: dict[int, str] = field(default_factory=dict)  # which message used a sequence first, by its digest

    def newest_of(self, epoch: int) -> dict[str, int]:
        """What it should hold once it has spoken in ``epoch``: older epochs are void."""
        if self.newest < (max(epoch, self.void_below), 0):
            return {}
        return self.grants.get(self.newest, {})

    def recompute(self) -> None:
        """The reservation rule, over every grant from the last proven one on."""
        floor = max(self.proven, (self.void_below, 0))
        possible = {place: grant for place, grant in self.grants.items() if place >= floor}
        self.intended = possible.get(self.newest, {})
        self.reserved = {}
        for quantities in possible.values():
            for line, quantity in quantities.items():
                self.reserved[line] = max(self.reserved.get(line, 0), quantity)


@dataclass(slots=True)
class _Copy:
    """One physical field server. Two of them may have one device id: clones."""

    device: str
    alive: bool = True
    epoch: int = 1
    number: int = 0
    sequence: int = 0
    rolled_back_at: int | None = None
    floor: tuple[int, int, int] = (0, 0, 0)  # epoch, grant and sequence when all of it was durable, the last time
    held: dict[str, int] = field(default_factory=dict)
    outbox: dict[str, int] = field(default_factory=dict)  # digest and sequence, when it was durable, the last time
    offered: int = 0  # the highest sequence to which a reply was delivered


@dataclass(slots=True)
class _Owed:
    """A rollback that must be named: after one exchange, at the next message that is taken."""

    incidents: int
    told_before: int | None
    first: str | None = None
    answered: bool = False
    second: str | None = None
    has_caught_up: bool = False  # its sequence is one that nobody had heard: without reuse, nothing shows
    is_reuse: bool = False  # it held more than was kept for it: then the activation server must know


class Auditor:
    """Feed it every fact; it raises ``Violation``. ``codes``: the documented error codes."""

    def __init__(self, *, issuer: str, codes: Collection[str]) -> None:
        self.issuer = issuer
        self.codes = frozenset(codes)
        self.secrets: dict[str, bytes] = {}
        self.keys: set[str] = set()
        self.lines: dict[str, _Line] = {}
        self.ledger_lines: set[str] = set()  # that the ledger has; what was sold after a backup, a restore forgets
        self.devices: dict[str, _Device] = {}
        self.copies: dict[str, _Copy] = {}
        self.messages: dict[str, tuple[str, ...]] = {}  # digest -> reply
        self.misdirected: set[str] = set()  # messages for another activation server
        self.signed: dict[str, str] = {}  # digest of a message -> device id that signed it
        self.sequences: dict[str, int] = {}  # of every message that was let out, by digest
        self.incidents: dict[str, list[str]] = {}
        self.suspects: set[str] = set()
        self.declared: set[str] = set()
        self.unheard: set[str] = set()
        self.was_restored = False
        self.is_replay = False  # rows that were judged before, and come in another order now
        self.host_ids_may_clash = False
        self.owed: dict[str, _Owed] = {}
        self.checks = 0

    # What the activation server committed

    def trust(self, key: str) -> None:
        """A key (base64url) with which the activation server signs grants."""
        self.keys.add(key)

    def sold(self, line: str, secret: bytes) -> None:
        """A line, and the secret of its activation ID."""
        self.secrets[line] = secret

    def committed(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Rows that one transaction wrote, as plain dictionaries."""
        touched: set[str] = set()
        self.ledger_lines.update(row["line"] for row in rows.get("entries", ()))
        on_hold = {device for device, known in self.devices.items() if known.status == "hold"}
        for row in rows.get("field_servers", ()):
            self._field_server(row)
            touched.add(row["device"])
        for row in rows.get("grants", ()):
            if row["envelope"]:
                self._grant(row["envelope"])
                touched.add(row["device"])
        for row in rows.get("messages", ()):
            refused = self._message(row)
            if row["device"] in on_hold and refused not in {"on-hold", "restored"}:
                raise Violation("hold", f"{_short(row['device'])} is on hold, and a message of it was decided")
            touched.add(row["device"])
        for row in rows.get("entries", ()):
            self._entry(row)
        for row in rows.get("holdings", ()):
            kept = (row["held"], row["returning"], row["quarantined"])
            self._device(row["device"]).holdings[row["line"]] = kept
            touched.add(row["device"])
        for row in rows.get("incidents", ()):
            self._incident(row)
        for row in rows.get("messages", ()):
            self._pay(read_envelope(row["compact"])[2])
        for device in touched:
            self._check_reservation(device)
        for row in rows.get("lines", ()):
            self._check_line(row)

    def answered(self, digests: Collection[str]) -> None:
        """Messages that were read and answered; those for another activation server never are (P3)."""
        wrong = self.misdirected.intersection(digests)
        if wrong:
            raise Violation("P3", f"message {min(wrong)[:8]} is for another activation server, and was answered")

    def pruned(self, digests: Collection[str]) -> None:
        """Messages whose replies are no longer kept. Said again, they may be answered by other bytes."""
        for digest in digests:
            self.messages.pop(digest, None)

    def restored(self, rows: Mapping[str, Sequence[Row]], *, present: Collection[str], void: Mapping[str, int]) -> None:
        """The activation server was put back to what ``rows`` say. ``present``: devices that are out there."""
        ever, self.lines = {line: known.bought_ever for line, known in self.lines.items()}, {}
        self.ledger_lines = set()
        self.devices = {}
        self.messages = {}
        for device, epoch in void.items():
            self._device(device).void_below = epoch
        incidents, self.incidents = self.incidents, {}
        self.is_replay = True
        self.committed(rows)
        self.is_replay = False
        self.incidents = incidents
        for line, known in self.lines.items():
            known.bought_ever = max(known.bought_ever, ever.get(line, 0))
        self.unheard = set(present) | set(self.devices)
        self.was_restored = True

    def _device(self, device: str) -> _Device:
        return self.devices.setdefault(device, _Device())

    def _field_server(self, row: Row) -> None:
        known = self._device(row["device"])
        if known.status == "hold" and row["status"] == "active" and row["epoch"] <= known.epoch and not self.is_replay:
            raise Violation("hold", f"{_short(row['device'])} was released in the epoch in which its copies speak")
        if row["status"] == "retired" and known.status == "lost":
            known.void_below = row["epoch"]
        known.status, known.epoch, known.sequence = row["status"], row["epoch"], row["sequence"]
        known.recovering = row["recovering"] is not None
        if row["status"] not in {"lost", "retired"} and not known.recovering:
            self.unheard.discard(row["device"])

    def _grant(self, compact: str) -> None:
        claims = self._read_signed(compact)
        known = self._device(claims["sub"])
        place = (claims["epoch"], claims["number"])
        quantities = {item["line"]: item["quantity"] for item in claims["licenses"]}
        if known.grants.get(place, quantities) != quantities:
            raise Violation("P4", f"two grants {place} for {_short(claims['sub'])}")
        known.grants[place] = quantities
        known.newest = max(known.newest, place)

    def _message(self, row: Row) -> str | None:
        """A message that was taken: whose it is, what its answer is, and what both prove. The code of a refusal."""
        if row["compact"] is None:
            raise Violation("P3", f"a message of {_short(row['device'])} was taken that nobody ever sent")
        header, claims, digest = read_envelope(row["compact"])
        check_signature(row["compact"], header["jwk"]["x"])
        if thumbprint(header["jwk"]["x"]) != claims["iss"] or claims["iss"] != row["device"]:
            raise Violation(
                "P3", f"message {digest[:8]} was taken for {_short(row['device'])}, whose key did not sign it"
            )
        if claims["aud"] != self.issuer:
            raise Violation("P3", f"message {digest[:8]} is for {claims['aud']}, and was taken")
        reply = tuple(row["reply"])
        if self.messages.setdefault(digest, reply) != reply:
            raise Violation("P4", f"message {digest[:8]} was answered twice, differently")
        self.signed[digest] = claims["iss"]
        before = self._device(claims["iss"]).newest_of(claims["epoch"])
        refused: str | None = None
        answered = None
        for compact in reply:
            reply_header, said, _ = read_envelope(compact)
            if said["sub"] != claims["iss"] or said["request"] != digest:
                raise Violation("P4", f"the reply to {digest[:8]} is for another message")
            if reply_header["typ"] == "tally-grant+jwt":
                self._grant(compact)
                answered = said
            elif reply_header["typ"] == "tally-refusal+jwt":
                refused = said["code"]
                self.refused(refused)
        is_wish = answered is not None and answered["epoch"] == claims["epoch"] and "grant" not in claims
        if answered is not None and is_wish and not self.is_replay:
            self._check_wish(claims, before, {item["line"]: item["quantity"] for item in answered["licenses"]})
        is_reused = self._device(claims["iss"]).taken.setdefault(claims["sequence"], digest) != digest
        self._prove(claims, refused=refused, answered=answered, is_reused=is_reused)
        return refused

    def _check_wish(self, claims: Row, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """A wish is granted whole or not at all, lines that it does not name stay, and growth is proven (P3)."""
        wants = {want["line"]: want for want in claims.get("wants") or ()}
        asked = {} if claims.get("all") else {**before, **{line: want["quantity"] for line, want in wants.items()}}
        if after not in (before, {line: quantity for line, quantity in asked.items() if quantity}):
            raise Violation("wish", f"{claims['purpose']} made {before} into {after}, asked was {asked}")
        for line, quantity in after.items():
            if quantity <= before.get(line, 0):
                continue
            text = f"{claims['iss']}\x00{claims['jti']}".encode()
            proof = hmac.digest(self.secrets.get(line, b"?"), text, "sha256")
            if wants[line].get("proof") != base64.urlsafe_b64encode(proof).rstrip(b"=").decode():
                raise Violation("P3", f"line {line} was granted without the proof of its secret")

    def _prove(self, claims: Row, *, refused: str | None, answered: Row | None, is_reused: bool) -> None:
        known = self._device(claims["iss"])
        if "grant" in claims and answered is not None:
            place = (claims["epoch"], claims["applied"]["number"])
            if place not in known.grants and not is_reused:  # adopted, but for lines that were sold after the backup
                self._grant(claims["grant"])
                quantities = known.grants[place]
                known.grants[place] = {line: quantities[line] for line in quantities if line in self.ledger_lines}
                known.proven = max(known.proven, place)
        if refused is None and claims.get("final"):
            known.grants = {}  # it takes none any more
        if refused in _NOT_HEARD or (refused == "host-id-taken" and known.status in {"unknown", "listed"}):
            return  # a known one that moved onto a host of another one is heard, and only its wish is refused
        if answered is not None and answered["epoch"] > claims["epoch"]:  # a fence
            if not is_reused:
                number = claims["applied"]["number"] if claims["applied"] is not None else 0
                known.proven = max(known.proven, (claims["epoch"], number))
            return
        if refused == "grant-unknown" and claims["epoch"] < known.epoch:
            return
        if refused != "grant-unknown":
            if claims["sequence"] <= known.decided and not self.is_replay:
                raise Violation("order", f"message {claims['sequence']} was decided after message {known.decided}")
            known.decided = max(known.decided, claims["sequence"])
        place = (claims["epoch"], 0)
        if refused != "grant-unknown" and claims["applied"] is not None:
            place = (claims["epoch"], claims["applied"]["number"])
        known.proven = max(known.proven, place)

    def _entry(self, row: Row) -> None:
        line = self.lines.setdefault(row["line"], _Line())
        if row["number"] != line.entries + 1:
            raise Violation("P5", f"entry {row['number']} of line {row['line']} follows entry {line.entries}")
        fields = (row["line"], row["number"], row["source"], row["target"], row["quantity"], row["device"] or "")
        text = "\x1f".join((line.chain, *map(str, fields), row["cause"], str(row["booked_at"])))
        if hashlib.sha256(text.encode()).hexdigest() != row["chain"]:
            raise Violation("P5", f"entry {row['number']} of line {row['line']} is not chained to the one before")
        line.entries, line.chain = row["number"], row["chain"]
        if row["source"] == "bought":
            line.bought += row["quantity"]
        else:
            line.totals[row["source"]] -= row["quantity"]
        if row["target"] == "bought":
            line.bought -= row["quantity"]
        else:
            line.totals[row["target"]] += row["quantity"]
        line.bought_ever = max(line.bought_ever, line.bought)
        if row["target"] == "available" and row["source"] != "bought":
            self._check_credit(row)

    def _check_credit(self, row: Row) -> None:
        """P3: nothing becomes available again without a message of that field server, or the end of a quarantine."""
        if row["source"] == "quarantined" and row["cause"].startswith("time:"):
            return
        if self.signed.get(row["cause"]) != row["device"]:
            raise Violation(
                "P3",
                f"{row['quantity']} of line {row['line']} were credited because of {row['cause'][:24]!r}, "
                f"which {_short(row['device'])} did not sign",
            )

    def _incident(self, row: Row) -> None:
        device, kind = row["device"], row["kind"]
        self.incidents.setdefault(device, []).append(kind)
        allowed = {
            "reappeared": device in self.declared,
            "host-id-taken": self.host_ids_may_clash,
            "grant-adopted": self.was_restored,
            "clock-jumped": not device,  # of the activation server, which is no field server
        }.get(kind, device in self.suspects)
        if not allowed:
            raise Violation("P7", f"{_short(device)} is accused of {kind}, and is innocent")

    def _check_line(self, row: Row) -> None:
        """P5: what is stored is what the ledger gives by our own arithmetic, and it adds up."""
        line = self.lines.setdefault(row["line"], _Line())
        line.frozen = row["frozen"]
        stored = {account: row[account] for account in _ACCOUNTS}
        if stored != line.totals or row["bought"] != line.bought or row["entries"] != line.entries:
            raise Violation("P5", f"line {row['line']}: stored {stored}, the ledger gives {line.totals}")
        if sum(line.totals.values()) != line.bought:
            raise Violation("P5", f"line {row['line']}: {line.totals} does not add up to {line.bought} bought")
        negative = [account for account in _ACCOUNTS[1:] if line.totals[account] < 0]
        if negative or (line.totals["available"] < 0 and not self.was_restored):
            raise Violation("P5", f"line {row['line']}: below zero in {line.totals}")

    def _check_reservation(self, device: str) -> None:
        """The books of one field server against the reservation rule by brute force."""
        known = self.devices[device]
        known.recompute()
        booked = {line: kept for line, kept in known.holdings.items() if any(kept)}
        expected = {}
        for line, most in known.reserved.items():
            held = known.intended.get(line, 0)
            kept = (0, 0, most) if known.status == "lost" else (held, most - held, 0)
            if any(kept):
                expected[line] = kept
        if booked != expected:
            raise Violation(
                "P1",
                f"the books keep {booked} (held, returning, quarantined) for {_short(device)}; all grants since "
                f"{known.proven} ask for {expected}",
            )

    # What field servers are

    def field_server(self, copy: str, row: Row) -> None:
        """The state that a field server would load now: ``grant`` is the compact envelope in force, or None."""
        held: dict[str, int] = {}
        number = 0
        if row["grant"] is not None:
            claims = self._read_signed(row["grant"])
            if claims["sub"] != row["device"]:
                raise Violation("P3", f"{copy} holds a grant for {_short(claims['sub'])}")
            number = claims["number"]
            held = {item["line"]: item["quantity"] for item in claims["licenses"]}
            if claims["epoch"] != row["epoch"]:
                raise Violation("P1", f"{copy} is in epoch {row['epoch']} and holds a grant of epoch {claims['epoch']}")
        before = self.copies.get(copy)
        if before is None:
            before = self.copies[copy] = _Copy(device=row["device"])
        elif (row["epoch"], number) < before.floor[:2] or row["sequence"] < before.floor[2]:
            raise Violation("vault", f"{copy} went back from epoch, grant and sequence {before.floor}")
        before.epoch, before.number, before.sequence, before.held = row["epoch"], number, row["sequence"], held
        before.rolled_back_at = row["rolled_back_at"]
        lost = [seq for digest, seq in before.outbox.items() if digest not in row["outbox"] and seq > before.offered]
        if lost:
            raise Violation("outbox", f"{copy} forgot messages {lost}, and no reply has come to them or to a later one")
        if row["is_durable"]:
            before.outbox = dict(row["outbox"])
            before.floor = (row["epoch"], number, row["sequence"])
        if before.rolled_back_at is not None and before.device not in self.suspects:
            raise Violation("P7", f"{copy} believes that it was rolled back, and was not")

    def vault(self, copy: str, *, found: bytes, allowed: Sequence[bytes]) -> None:
        """After a crash or an error: what is found must be the state before or after the step."""
        self.checks += 1
        if found not in allowed:
            raise Violation("vault", f"{copy} has neither the state before nor the one after the step")

    def spoken(self, copy: str, compact: str, *, durable_outbox: Collection[str], durable_sequence: int) -> None:
        """A message leaves a field server: it must be durable already."""
        header, claims, digest = read_envelope(compact)
        check_signature(compact, header["jwk"]["x"])
        self.signed[digest] = claims["iss"]
        self.sequences[digest] = claims["sequence"]
        if compact not in durable_outbox or claims["sequence"] > durable_sequence:
            raise Violation("vault", f"{copy} let message {claims['sequence']} out before it was durable")
        owed = self.owed.get(copy)
        if owed is None or digest in self.messages:
            return
        if owed.first is None:
            owed.first = digest
            known = self.devices.get(self.copies[copy].device)
            owed.has_caught_up = known is not None and claims["sequence"] > known.sequence
        elif owed.answered and owed.second is None:
            owed.second = digest

    def offered(self, copy: str, request: str, *, seen: int) -> None:
        """A reply to the message with digest ``request`` is about to be delivered; ``seen`` is what it says of us."""
        known = self.copies[copy]
        known.offered = max(known.offered, self.sequences.get(request, 0))
        owed = self.owed.get(copy)
        if owed is not None and owed.first == request and seen <= known.sequence:
            owed.has_caught_up = True

    def heard(self, copy: str, request: str) -> None:
        """A field server has taken a reply to the message with digest ``request``."""
        owed = self.owed.get(copy)
        if owed is not None and owed.first == request and request in self.messages:
            owed.answered = True

    def refused(self, code: str) -> None:
        """A code that left a port must be documented."""
        self.checks += 1
        if code not in self.codes:
            raise Violation("errors", f"the code {code!r} is not documented")

    # The truth about faults

    def rolled_back(self, copy: str, row: Row) -> None:
        """The disk of a field server was put back; ``row`` is what it would load now."""
        was = self.copies.pop(copy, None)
        self.field_server(copy, row)
        now = self.copies[copy]
        if was is not None:
            now.alive = was.alive
        self.suspects.add(now.device)
        self.owed.pop(copy, None)
        known = self.devices.get(now.device)
        if known is not None and known.sequence > now.sequence and known.status == "active":
            self.owed[copy] = _Owed(incidents=self._accusations(now.device), told_before=now.rolled_back_at)

    def cloned(self, copy: str) -> None:
        """There are two of it now."""
        self.suspects.add(self.copies[copy].device)

    def scrapped(self, copy: str) -> None:
        """A field server is gone for ever."""
        self.copies[copy].alive = False
        self.owed.pop(copy, None)

    def declared_lost(self, device: str) -> None:
        """A person declared it lost. It may be alive."""
        self.declared.add(device)

    def _accusations(self, device: str) -> int:
        return sum(kind in _ACCUSATIONS for kind in self.incidents.get(device, ()))

    def _pay(self, digest: str) -> None:
        """P7: the second message after a rollback was taken, so the rollback has a name by now."""
        for copy, owed in list(self.owed.items()):
            if owed.second == digest:
                self._check_named(copy, owed)
                del self.owed[copy]

    def _check_named(self, copy: str, owed: _Owed) -> None:
        now = self.copies[copy]
        if self._accusations(now.device) > owed.incidents or self.was_restored or now.device in self.declared:
            return
        if owed.is_reuse:
            raise Violation("P7", f"{copy} was rolled back and used rights again, and there is no incident")
        if owed.has_caught_up:
            return
        if now.rolled_back_at is None or now.rolled_back_at == owed.told_before:
            raise Violation("P7", f"{copy} was rolled back, has spoken twice since, and nobody noticed")

    # At every instant

    def check(self) -> None:
        """P1, for every line and every field server, now."""
        self.checks += 1
        honest: dict[str, int] = {}
        exempt: dict[str, None] = {}
        for name, copy in self.copies.items():
            if not copy.alive:
                continue
            known = self.devices.get(copy.device)
            if copy.device in self.suspects or self._is_released(copy, known):
                exempt[copy.device] = None
                self._note_reuse(name, copy, known)
                continue
            for line, quantity in copy.held.items():
                honest[line] = honest.get(line, 0) + quantity
            if copy.device in self.unheard:
                continue
            reserved = known.reserved if known else {}
            for line, quantity in copy.held.items():
                if quantity > reserved.get(line, 0):
                    raise Violation(
                        "P1", f"{name} holds {quantity} of line {line}, {reserved.get(line, 0)} are kept for it"
                    )
        is_settled = not any(copy.alive and copy.device in self.unheard for copy in self.copies.values())
        for line, total in honest.items():
            known_line = self.lines.get(line)
            if known_line is None:
                if is_settled:
                    raise Violation("P1", f"{total} of the unknown line {line} are held")
                continue
            bought, free, kept = known_line.bought_ever, 0, 0
            if is_settled:
                bought, free = known_line.bought, known_line.totals["available"]
                kept = sum(self.devices[device].reserved.get(line, 0) for device in exempt if device in self.devices)
            if total + kept > bought - free:
                raise Violation(
                    "P1",
                    f"{total} of line {line} are held by honest field servers; {bought} were bought and "
                    f"{free} are available",
                )

    def _note_reuse(self, name: str, copy: _Copy, known: _Device | None) -> None:
        owed = self.owed.get(name)
        if owed is not None and known is not None:
            owed.is_reuse |= any(quantity > known.reserved.get(line, 0) for line, quantity in copy.held.items())

    def _is_released(self, copy: _Copy, known: _Device | None) -> bool:
        """Declared lost while alive, waiting period over, and not heard from since: the one admitted exception."""
        return known is not None and copy.device in self.declared and copy.epoch < known.void_below

    def check_agreement(self) -> None:
        """P2, at the end: nothing under way, and every right held once or available."""
        self.check()
        held: dict[str, int] = {}
        for name, copy in self.copies.items():
            if not copy.alive:
                continue
            known = self.devices.get(copy.device)
            intended = {line: quantity for line, quantity in (known.intended if known else {}).items() if quantity}
            if copy.held != intended:
                raise Violation("P2", f"{name} holds {copy.held}, the activation server thinks {intended}")
            for line, quantity in copy.held.items():
                held[line] = held.get(line, 0) + quantity
        for line_id, known_line in self.lines.items():
            totals, total = known_line.totals, held.get(line_id, 0)
            under_way = totals["returning"] + totals["quarantined"]
            if under_way or total + totals["available"] + totals["retired"] != known_line.bought:
                raise Violation("P2", f"line {line_id}: {total} held, {totals}, {known_line.bought} bought")

    def check_rollbacks_named(self) -> None:
        """P7, at the end: no rollback is left without a name."""
        for copy, owed in self.owed.items():
            if self.copies[copy].alive and owed.answered:
                self._check_named(copy, owed)

    def check_clones_named(self, device: str) -> None:
        """P7: both copies of a device were in contact, twice."""
        if not self._accusations(device) and not self.was_restored and device not in self.declared:
            raise Violation("P7", f"two copies of {_short(device)} were in contact, and nobody noticed")

    def _read_signed(self, compact: str) -> dict[str, Any]:
        """The claims of an envelope that the activation server signed."""
        header, claims, digest = read_envelope(compact)
        key = next((key for key in self.keys if thumbprint(key) == header.get("kid")), None)
        if key is None:
            raise Violation("P3", f"envelope {digest[:8]} is not signed by the activation server")
        check_signature(compact, key)
        return claims


def _short(device: str | None) -> str:
    return str(device)[:8]
