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
from typing import Any, Final

from tallystick.simulator.evidence import Violation, check_signature, read_envelope, thumbprint
from tallystick.simulator.judged import ACCOUNTS, Copy, Device, Line, Owed
from tallystick.simulator.suspicion import Suspicion
from tallystick.simulator.terms import TermsJudge

Row = Mapping[str, Any]

# After these refusals, nothing that the message says was taken note of.
_NOT_HEARD: Final = frozenset({"superseded", "fork", "on-hold", "not-enrolled", "restored"})
_ACCUSATIONS: Final = frozenset({"rollback", "fork", "epoch-behind"})


class Auditor:
    """Feed it every fact; it raises ``Violation``. ``codes``: the documented error codes."""

    def __init__(self, *, issuer: str, codes: Collection[str]) -> None:
        self.issuer = issuer
        self.codes = frozenset(codes)
        self.secrets: dict[str, bytes] = {}
        self.keys: set[str] = set()
        self.lines: dict[str, Line] = {}
        self.ledger_lines: set[str] = set()  # that the ledger has; what was sold after a backup, a restore forgets
        self.devices: dict[str, Device] = {}
        self.copies: dict[str, Copy] = {}
        self.messages: dict[str, tuple[str, ...]] = {}  # digest -> reply
        self.misdirected: set[str] = set()  # messages for another activation server
        self.signed: dict[str, str] = {}  # digest of a message -> device id that signed it
        self.sequences: dict[str, int] = {}  # of every message that was let out, by digest
        self.incidents: dict[str, list[str]] = {}
        self.suspicion = Suspicion()
        self.terms = TermsJudge()
        self.grown: set[str] = set()  # field servers that were granted more, within the present commit
        self.declared: set[str] = set()
        self.unheard: set[str] = set()
        self.was_restored = False
        self.is_replay = False  # rows that were judged before, and come in another order now
        self.host_ids_may_clash = False
        self.owed: dict[str, Owed] = {}
        self.checks = 0

    # What the activation server committed

    def trust(self, key: str) -> None:
        """A key (base64url) with which the activation server signs grants."""
        self.keys.add(key)

    def sold(self, line: str, secret: bytes, terms: Row | None = None) -> None:
        """A line, and the secret of its activation ID; its terms, if they shall be judged."""
        self.secrets[line] = secret
        if terms is not None:
            self.terms.sold(line, terms)

    @property
    def suspects(self) -> set[str]:
        """Whoever was rolled back or cloned, and is not judged now."""
        return self.suspicion.suspects

    def committed(self, rows: Mapping[str, Sequence[Row]]) -> None:
        """Rows that one transaction wrote, as plain dictionaries."""
        touched: set[str] = set()
        self.grown = set()
        self.suspicion.begin_commit()
        self.ledger_lines.update(row["line"] for row in rows.get("entries", ()))
        on_hold = {device for device, known in self.devices.items() if known.status == "hold"}
        for row in rows.get("field_servers", ()):
            self._field_server(row)
            touched.add(row["device"])
        for row in rows.get("grants", ()):
            if row["envelope"]:
                self._check_started(row["envelope"])
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
        self.suspicion.forget()
        self.was_restored = True

    def _device(self, device: str) -> Device:
        return self.devices.setdefault(device, Device())

    def _field_server(self, row: Row) -> None:
        known = self._device(row["device"])
        if known.status == "hold" and row["status"] == "active" and row["epoch"] <= known.epoch and not self.is_replay:
            raise Violation("hold", f"{_short(row['device'])} was released in the epoch in which its copies speak")
        if row["status"] == "retired" and known.status == "lost":
            known.void_below = row["epoch"]
        known.status, known.epoch, known.sequence = row["status"], row["epoch"], row["sequence"]
        known.recovering = row["recovering"] is not None
        known.kind = row.get("kind")
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
            self.suspicion.told(claims["iss"], said.get("seen", 0))
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
            after = {item["line"]: item["quantity"] for item in answered["licenses"]}
            self._check_wish(claims, before, after)
            kind = claims.get("facts", {}).get("kind")
            self._check_growth(claims["iss"], before, after, kind=kind, at=answered.get("iat", 0))
            if claims["purpose"] in {"return", "activate"}:
                self.terms.shrank([line for line in before if after.get(line, 0) < before[line]])
        if answered is not None and not self.is_replay:
            self.terms.granted(answered["licenses"])
        is_reused = self._device(claims["iss"]).taken.setdefault(claims["sequence"], digest) != digest
        self._prove(claims, refused=refused, answered=answered, is_reused=is_reused)
        if not self.is_replay:
            self._judge_again(claims, digest, refused=refused, answered=answered, is_reused=is_reused)
        return refused

    def _judge_again(
        self, claims: Row, digest: str, *, refused: str | None, answered: Row | None, is_reused: bool
    ) -> None:
        """Whoever had two histories is judged again, once its present one is where the activation server thinks."""
        device = claims["iss"]
        if device not in self.suspicion.ever:
            return
        known = self._device(device)
        place = (claims["epoch"], claims["applied"]["number"] if claims["applied"] is not None else 0)
        is_decided = refused not in _NOT_HEARD | {"grant-unknown", "host-id-taken"} and not claims.get("final")
        is_fence = answered is not None and answered["epoch"] != claims["epoch"]
        self.suspicion.decided(
            device,
            digest,
            refused=refused,
            is_reused=is_reused,
            is_proof=is_decided and not is_fence and place == known.proven and claims["epoch"] == known.epoch,
            living=[name for name, copy in self.copies.items() if copy.alive and copy.device == device],
            taken=self.messages,
            heard=(known.epoch, known.sequence),
        )

    def _check_started(self, compact: str) -> None:
        """What a person at the activation server started follows the terms as well, but for what may be taken back."""
        claims = self._read_signed(compact)
        if self.is_replay or claims["request"] is not None:
            return
        known = self._device(claims["sub"])
        after = {item["line"]: item["quantity"] for item in claims["licenses"]}
        self._check_growth(claims["sub"], known.intended, after, kind=known.kind, at=claims.get("iat", 0))
        self.terms.granted(claims["licenses"])

    def _check_growth(
        self, device: str, before: Mapping[str, int], after: Mapping[str, int], *, kind: str | None, at: int
    ) -> None:
        grown = [line for line in after if after[line] > before.get(line, 0)]
        self.terms.grew(grown, kind=kind, at=at)
        if grown:
            self.grown.add(device)

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
        is_final = refused is None and answered is None and bool(claims.get("final"))  # a fence: not believed yet
        if is_final:
            known.grants = {}  # it takes none any more
            if not self.is_replay:
                self.unheard.discard(claims["iss"])
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
            # Nothing that comes after "for good" can be missed: it is believed late, too, where a restore lies between.
            if claims["sequence"] <= known.decided and not is_final and not self.is_replay:
                raise Violation("order", f"message {claims['sequence']} was decided after message {known.decided}")
            known.decided = max(known.decided, claims["sequence"])
        place = (claims["epoch"], 0)
        if refused != "grant-unknown" and claims["applied"] is not None:
            place = (claims["epoch"], claims["applied"]["number"])
        known.proven = max(known.proven, place)

    def _entry(self, row: Row) -> None:
        line = self.lines.setdefault(row["line"], Line())
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
        }.get(kind, device in self.suspicion.accusable)
        if not allowed:
            raise Violation("P7", f"{_short(device)} is accused of {kind}, and is innocent")

    def _check_line(self, row: Row) -> None:
        """P5: what is stored is what the ledger gives by our own arithmetic, and it adds up."""
        line = self.lines.setdefault(row["line"], Line())
        self.terms.row(row, is_put_back=self.is_replay)
        stored = {account: row[account] for account in ACCOUNTS}
        if stored != line.totals or row["bought"] != line.bought or row["entries"] != line.entries:
            raise Violation("P5", f"line {row['line']}: stored {stored}, the ledger gives {line.totals}")
        if sum(line.totals.values()) != line.bought:
            raise Violation("P5", f"line {row['line']}: {line.totals} does not add up to {line.bought} bought")
        negative = [account for account in ACCOUNTS[1:] if line.totals[account] < 0]
        if negative or (line.totals["available"] < 0 and not self.was_restored):
            raise Violation("P5", f"line {row['line']}: below zero in {line.totals}")

    def _check_reservation(self, device: str) -> None:
        """The books of one field server against the reservation rule by brute force."""
        known = self.devices[device]
        was_kept = known.reserved
        known.recompute()
        if device in self.grown:
            self.terms.together(device, known.reserved, was_kept)
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
            believed = row["rolled_back_at"] if row["device"] in self.suspicion.ever else None  # as it was copied
            before = self.copies[copy] = Copy(device=row["device"], rolled_back_at=believed)
        elif (row["epoch"], number) < before.floor[:2] or row["sequence"] < before.floor[2]:
            raise Violation("vault", f"{copy} went back from epoch, grant and sequence {before.floor}")
        elif row["grant"] is None and row["epoch"] == before.epoch + 1:
            self.terms.given_up(copy, before.held)
        before.epoch, before.number, before.sequence, before.held = row["epoch"], number, row["sequence"], held
        is_new_belief = row["rolled_back_at"] not in {None, before.rolled_back_at}
        before.rolled_back_at = row["rolled_back_at"]
        lost = [seq for digest, seq in before.outbox.items() if digest not in row["outbox"] and seq > before.offered]
        if lost:
            raise Violation("outbox", f"{copy} forgot messages {lost}, and no reply has come to them or to a later one")
        if row["is_durable"]:
            before.outbox = dict(row["outbox"])
            before.floor = (row["epoch"], number, row["sequence"])
        if is_new_belief and before.device not in self.suspects:
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
        self.suspicion.spoken(copy, claims["iss"], digest, epoch=claims["epoch"], sequence=claims["sequence"])
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
        self.suspicion.begin_history(copy, row["device"])
        self.field_server(copy, row)
        now = self.copies[copy]
        if was is not None:
            now.alive = was.alive
        self.owed.pop(copy, None)
        known = self.devices.get(now.device)
        if known is not None and known.sequence > now.sequence and known.status == "active":
            self.owed[copy] = Owed(incidents=self._accusations(now.device), told_before=now.rolled_back_at)

    def cloned(self, copy: str) -> None:
        """There are two of it now."""
        self.suspicion.begin_history(copy, self.copies[copy].device)

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

    def _check_named(self, copy: str, owed: Owed) -> None:
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

    def _note_reuse(self, name: str, copy: Copy, known: Device | None) -> None:
        owed = self.owed.get(name)
        if owed is not None and known is not None:
            owed.is_reuse |= any(quantity > known.reserved.get(line, 0) for line, quantity in copy.held.items())

    def _is_released(self, copy: Copy, known: Device | None) -> bool:
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
