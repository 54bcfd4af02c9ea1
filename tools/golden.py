"""Writes golden wire files: ``tests/golden/v1/`` and ``v2/``, by the revision of the wire; added to and never changed.

Each story is a world (seeds, products, lines) and steps: messages to the activation server and what people do there,
each at a fixed moment. The replies are recorded, with what they say and what they do on a field server. Tests replay
the files, not this script. Without arguments: writes what is missing, and refuses if an existing file would differ.
``--check``: writes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tallystick.activation.core import interventions, issuing, reading
from tallystick.activation.core.ports import Answer, Policy
from tallystick.domain.catalog import Catalog, Product
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import ActivationId, DeviceId, EntitlementId, LineId
from tallystick.domain.ledger import Account, Balances, Entry, apply_booking
from tallystick.fieldserver import engine
from tallystick.fieldserver.state import Device, State, make_applied, make_waiting
from tallystick.protocol import answers, envelope, keys, messages, tallyfile
from tallystick.protocol.envelope import PrivateKey, Unverified, digest_of
from tallystick.protocol.keys import Keyset
from tallystick.simulator.store import MemoryStore, Tables

FOLDER: Final = Path(__file__).resolve().parent.parent / "tests" / "golden"
# What revision 1 answered after an epoch was raised or jumped: today's answers are in ``v2``, under the same names.
ANSWERED_OTHERWISE: Final = ("refusals", "people", "restore")
RAISING: Final = ("release", "declare-lost", "put-back")
START: Final = 1_800_000_000
Json = dict[str, Any]

WORLD: Final[Json] = {
    "issuer": "Example Controls",
    "seeds": {name: hashlib.sha256(f"golden {name}".encode()).hexdigest() for name in ("root", "key", "next key")},
    "kinds": ["AS-P", "AS-B", "Edge Server"],
    "products": {
        "smartdriver": {"name": "SmartDriver", "kinds": ["AS-P", "AS-B"], "features": {"smartdriver": 1}},
        "connected-devices": {
            "name": "Connected devices",
            "kinds": ["AS-P", "Edge Server"],
            "features": {"connected-devices": 10, "reports": 1},
        },
        "log-storage": {
            "name": "External log storage",
            "kinds": ["Edge Server"],
            "features": {"log-storage": 1},
            "one_carry": False,
        },
    },
    "lines": [
        {"line": "7K3M9Q2A", "product": "smartdriver", "quantity": 3},
        {"line": "D0R2X5YV", "product": "connected-devices", "quantity": 5, "expires": 1_900_000_000},
        {"line": "M4T8W6ZC", "product": "log-storage", "quantity": 1, "engineering": True},
    ],
    "entitlement": "EN-0123456789ABCDEFGHJKMNPQRSX",
    "account": "Harbour Estates",
}


def seeded(text: str) -> bytes:
    """Fixed bytes by a name."""
    return hashlib.sha256(f"golden {text}".encode()).digest()


def secret_of(line: str) -> bytes:
    """The activation secret of a line."""
    return seeded(f"secret {line}")[:16]


class Issuer:
    """The activation server's keys."""

    def __init__(self, world: Json) -> None:
        self.root = PrivateKey(bytes.fromhex(world["seeds"]["root"]))
        self.key = PrivateKey(bytes.fromhex(world["seeds"]["key"]))
        self.next_key = PrivateKey(bytes.fromhex(world["seeds"]["next key"]))
        self.issuer: str = world["issuer"]
        self.first = self._keyset(1, self._signing(self.key))
        self.second = self._keyset(2, self._signing(self.key, START + 500_000), self._signing(self.next_key))
        self.keyset = keys.parse_keyset(envelope.open_envelope(self.first.encode()))
        successor = PrivateKey(hashlib.sha256(b"golden: the root after the hand-over").digest())
        handover = keys.make_handover(
            self.root, issuer=self.issuer, version=3, issued_at=START, successor=successor.public
        )
        listed = self._signing(self.key, START + 500_000), self._signing(self.next_key)
        self.third = keys.make_keyset(
            successor, issuer=self.issuer, version=3, issued_at=START, keys=listed, handovers=[handover]
        )

    def sign(self, typ: str, payload: bytes) -> str:
        """As ``activation.ports.Signer``."""
        return self.key.sign(typ, payload)

    def _signing(self, key: PrivateKey, valid_until: int | None = None) -> keys.SigningKey:
        return keys.SigningKey(jwk=keys.Jwk(**key.public.jwk), valid_from=START - 1000, valid_until=valid_until)

    def _keyset(self, version: int, *listed: keys.SigningKey) -> str:
        return keys.make_keyset(self.root, issuer=self.issuer, version=version, issued_at=START, keys=listed)


class Stage:
    """A fresh activation server with a world, on which the steps of a story are played."""

    def __init__(self, world: Json) -> None:
        self.world = world
        self.issuer = Issuer(world)
        self.store = MemoryStore()
        self.backup: Tables | None = None
        products = {
            sku: Product(**{**fields, "sku": sku, "kinds": frozenset(fields["kinds"])})
            for sku, fields in world["products"].items()
        }
        self.store.tables.catalog = Catalog(kinds=tuple(world["kinds"]), products=products)
        self._buy(products)

    def play(self, step: Json, requests: list[Unverified]) -> tuple[list[Answer], list[str]]:
        """One step: the answers to its messages, or the envelopes that a person asked for."""
        now, device = step["at"], DeviceId(step.get("device", ""))
        policy = Policy()
        match step["do"]:
            case "post":
                batch = [reading.read_message(request, self.issuer.keyset) for request in requests]
                answers = self.store.transact(
                    lambda tx: issuing.process(batch, tx, signer=self.issuer, policy=policy, now=now)
                )
                return answers, [reply for answer in answers for reply in answer.reply]
            case "start-return":
                return [], [
                    self.store.transact(
                        lambda tx: interventions.start_return(
                            tx, self.issuer, device, by="support", now=now, takes_back=True
                        )
                    )
                ]
            case "declare-lost":
                self.store.transact(
                    lambda tx: interventions.declare_lost(
                        tx, self.issuer, device, reason="burnt", by="support", policy=policy, now=now
                    )
                )
            case "release":
                self.store.transact(
                    lambda tx: interventions.release_hold(tx, self.issuer, device, by="support", now=now)
                )
            case "back-up":
                self.backup = self.store.tables.copy()
            case "put-back" if self.backup is not None:
                self.store.tables = self.backup.copy()
                self.store.transact(lambda tx: interventions.announce_restore(tx, self.issuer, now=now))
            case "lift-freeze":
                self.store.transact(lambda tx: interventions.lift_freeze(tx, self.issuer, None, now=now))
            case other:
                raise ValueError(other)
        return [], []

    def _buy(self, products: dict[str, Product]) -> None:
        lines: list[Line] = []
        entries: list[Entry] = []
        for bought in self.world["lines"]:
            line_id = LineId(bought["line"])
            balances, entry = apply_booking(
                Balances(),
                line_id=line_id,
                source=Account.BOUGHT,
                target=Account.AVAILABLE,
                quantity=bought["quantity"],
                device_id=None,
                cause="person:support: bought",
                booked_at=START - 1000,
            )
            line = Line(
                line_id=line_id,
                entitlement_id=EntitlementId(self.world["entitlement"]),
                account=self.world["account"],
                product=products[bought["product"]],
                secret=secret_of(line_id),
                expires_at=bought.get("expires"),
                engineering=bought.get("engineering", False),
                balances=balances,
            )
            lines.append(line)
            entries.append(entry)
        entitlement = Entitlement(
            entitlement_id=EntitlementId(self.world["entitlement"]),
            account=self.world["account"],
            created_at=START - 1000,
            lines=tuple(lines),
        )
        self.store.transact(lambda tx: tx.save_entitlement(entitlement, entries))


def deliver(
    request: Unverified | None, reply: Unverified, keyset: Keyset, *, known: dict[str, str], state: State | None
) -> tuple[State, Json]:
    """Hand a reply to a field server that is where ``request`` says it is; its new state, and what came of it.

    ``known`` are the grants of the story so far by digest. Without a request (a grant that the activation server
    started) the field server is in ``state``.
    """
    if request is not None:
        claims = messages.convert_claims(request.payload, messages.Request)
        applied = None
        if claims.applied is not None:
            compact = known[claims.applied.digest]
            grant = messages.parse_grant(keyset.verify(envelope.open_envelope(compact.encode())))
            applied = make_applied(compact, grant, keyset)
        waiting = make_waiting(request.compact, claims)
        state = State(
            device_id=claims.device_id,
            epoch=claims.epoch,
            sequence=claims.sequence,
            applied=applied,
            keyset=keyset,
            outbox=(waiting,),
        )
    if state is None:
        raise ValueError("a state or a request")
    facts = messages.Facts(kind="AS-P", host_id="golden", name="golden", software="1")
    device = Device(key=PrivateKey(seeded("any")), facts=facts)
    after, received = engine.receive(state, reply, device=device, now=START, random=bytes(16))
    told = {
        "effect": str(received.effect),
        "code": received.code,
        "epoch": after.epoch,
        "number": after.applied.number if after.applied else 0,
        "licenses": {str(license_.line_id): license_.quantity for license_ in after.licenses},
        "writes": [waiting.purpose for waiting in after.outbox if waiting not in state.outbox],
    }
    return after, told


class Hand:
    """A field server by hand: says what a story tells it to, in plain JSON."""

    def __init__(self, name: str, kind: str = "AS-P") -> None:
        self.key = PrivateKey(seeded(f"device {name}"))
        self.id = self.key.public.device_id
        self.name, self.kind = name, kind
        self.epoch, self.sequence = 1, 0
        self.grant: str | None = None
        self.salt = ""

    def copy(self) -> Hand:
        """A clone, disk and all."""
        other = Hand(self.name, self.kind)
        other.epoch, other.sequence, other.grant, other.salt = self.epoch, self.sequence, self.grant, "copy"
        return other

    def take(self, compact: str) -> None:
        """Apply a grant."""
        self.grant = compact
        self.epoch = self._applied()[0]

    def say(self, purpose: str, wants: dict[str, int] | None = None, **more: object) -> str:
        """The next message."""
        self.sequence += 1
        jti = envelope.encode_base64url(seeded(f"{self.name} {self.salt} {self.sequence}")[:18])
        claims: Json = {
            "iss": self.id,
            "aud": WORLD["issuer"],
            "jti": jti,
            "iat": START + self.sequence,
            "purpose": purpose,
            "epoch": self.epoch,
            "sequence": self.sequence,
            "applied": None,
            "facts": {
                "kind": self.kind,
                "host_id": f"00:80:67:{self.name[:2]}",
                "name": self.name,
                "software": "0.1.0",
            },
        }
        if self.grant is not None:
            claims["applied"] = {"number": self._applied()[1], "digest": digest_of(self.grant)}
        if wants is not None:
            claims["wants"] = [{"line": line, "quantity": quantity} for line, quantity in wants.items()]
        if purpose == "activate":
            for want in claims["wants"]:
                activation_id = ActivationId(line_id=LineId(want["line"]), secret=secret_of(want["line"]))
                want["proof"] = messages.activation_proof(activation_id, self.id, jti)
        return self.key.sign(messages.REQUEST, envelope.encode_json({**claims, **more}), with_jwk=True)

    def relinquish(self) -> str:
        """Give everything up, and say so."""
        self.epoch, self.grant = self.epoch + 1, None
        return self.say("relinquish")

    def _applied(self) -> tuple[int, int]:
        claims = json.loads(envelope.open_envelope((self.grant or "").encode()).payload)
        return claims["epoch"], claims["number"]


class Scribe:
    """Plays a story and keeps its files."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stage = Stage(WORLD)
        self.files: dict[str, str] = {}
        self.now = START
        self.count = 0
        self.known: dict[str, str] = {}
        self.states: dict[str, State] = {}

    def post(self, what: str, *compacts: str) -> list[str]:
        """Messages to the activation server, as one batch; its replies."""
        return self._step(what, {"do": "post"}, compacts)

    def person(self, what: str, do: str, device: Hand | None = None) -> list[str]:
        """Something that a person does at the activation server."""
        return self._step(what, {"do": do, **({"device": device.id} if device else {})}, ())

    def _step(self, what: str, step: Json, compacts: tuple[str, ...]) -> list[str]:
        self.count += 1
        self.now += 60
        name = f"{self.name}-{self.count:02}-{what}"
        step["at"] = self.now
        requests = [envelope.open_envelope(compact.encode()) for compact in compacts]
        answers, replies = self.stage.play(step, requests)
        step["requests"] = [describe(request) for request in requests]
        step["answers"] = [
            {"outcome": str(answer.outcome), "code": answer.code, "replies": len(answer.reply)} for answer in answers
        ]
        step["replies"] = []
        by_digest = {digest_of(request.compact): request for request in requests}
        for compact in replies:
            reply = envelope.open_envelope(compact.encode())
            claims = json.loads(reply.payload)
            if reply.typ == messages.GRANT:
                self.known[digest_of(compact)] = compact
            request = by_digest.get(claims["request"])
            state, told = deliver(
                request, reply, self.stage.issuer.keyset, known=self.known, state=self.states.get(claims["sub"])
            )
            self.states[claims["sub"]] = state
            step["replies"].append({**describe(reply), "field_server": told})
        if compacts:
            self.files[f"{name}.request.tally"] = "".join(f"{compact}\n" for compact in compacts)
        if replies:
            self.files[f"{name}.reply.tally"] = "".join(f"{compact}\n" for compact in replies)
        self.files[f"{name}.json"] = as_json(step)
        return replies


def describe(opened: Unverified) -> Json:
    """What an envelope is and says."""
    named = {"kid": opened.kid} if opened.kid else {"jwk": opened.jwk.jwk if opened.jwk else None}
    return {
        "typ": opened.typ,
        "digest": digest_of(opened.compact),
        **named,
        "claims": json.loads(opened.payload),
    }


def as_json(value: object) -> str:
    """JSON that people read."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


# Stories


DRIVER, DEVICES, LOGS = (line["line"] for line in WORLD["lines"])


def story_returns() -> Scribe:
    """Activation, refresh, and both returns."""
    story, plant, roof = Scribe("returns"), Hand("Plant room"), Hand("Roof", "AS-B")
    (grant,) = story.post("activate", plant.say("activate", {DRIVER: 2, DEVICES: 1}))
    plant.take(grant)
    (grant,) = story.post("refresh", plant.say("refresh"))
    plant.take(grant)
    (grant,) = story.post("return-some", plant.say("return", {DRIVER: 1}))
    plant.take(grant)
    story.post("confirm-some", plant.say("confirm"))
    (grant,) = story.post("return-all", plant.say("return", all=True))
    plant.take(grant)
    story.post("confirm-all", plant.say("confirm"))
    (grant,) = story.post("activate-elsewhere", roof.say("activate", {DRIVER: 3}))
    roof.take(grant)
    story.post("relinquish", roof.relinquish())
    return story


def story_refusals() -> Scribe:
    """Every shape of a refusal."""
    story, plant, roof = Scribe("refusals"), Hand("Plant room"), Hand("Roof", "AS-B")
    story.post("not-enrolled", plant.say("refresh"))
    story.post("denied", plant.say("activate", {DRIVER: 4, DEVICES: 1, LOGS: 1}))
    late = plant.say("activate", {DRIVER: 1})
    (grant,) = story.post("activate", plant.say("activate", {DRIVER: 2}))
    story.post("superseded", late)
    plant.take(grant)
    story.post("return-raises", plant.say("return", {DRIVER: 3}))
    facts = {"kind": "AS-B", "host_id": "00:80:67:Pl", "name": "Roof", "software": "0.1.0"}
    story.post("host-id-taken", roof.say("activate", {DRIVER: 1}, facts=facts))
    copy = plant.copy()
    story.post("before-the-fork", plant.say("refresh"))
    story.post("fork", copy.say("activate", {DRIVER: 3}))
    story.post("on-hold", plant.say("refresh"))
    story.person("released", "release", plant)
    (grant,) = story.post("fence", plant.say("refresh"))
    plant.take(grant)
    story.post("confirm", plant.say("confirm"))
    return story


def story_faults() -> Scribe:
    """Lost, late and rolled back."""
    story, plant = Scribe("faults"), Hand("Plant room")
    (grant,) = story.post("activate", plant.say("activate", {DRIVER: 3}))
    plant.take(grant)
    story.post("one-batch-out-of-order", *reversed([plant.say("refresh"), plant.say("return", {DRIVER: 1})]))
    old = plant.copy()
    plant.relinquish()
    grant, _ = story.post("activate-after-a-lost-relinquish", plant.say("activate", {DRIVER: 2}))
    plant.take(grant)
    (grant,) = story.post("return", plant.say("return", all=True))
    rolled_back = plant.copy()
    plant.take(grant)
    story.post("refusal-with-a-credit", plant.say("activate", {LOGS: 1}))
    rolled_back.sequence = plant.sequence
    (grant,) = story.post("rollback", rolled_back.say("refresh"))
    rolled_back.take(grant)
    story.post("rollback-confirm", rolled_back.say("confirm"))
    old.sequence = rolled_back.sequence
    story.post("epoch-behind", old.say("refresh"))
    return story


def story_people() -> Scribe:
    """A return started at the activation server; a field server declared lost that comes back."""
    story, edge = Scribe("people"), Hand("Edge", "Edge Server")
    (grant,) = story.post("activate", edge.say("activate", {LOGS: 1, DEVICES: 2}))
    edge.take(grant)
    story.post("refresh", edge.say("refresh"))
    (grant,) = story.person("start-return", "start-return", edge)
    edge.take(grant)
    story.post("confirm", edge.say("confirm"))
    (grant,) = story.post("activate-again", edge.say("activate", {DEVICES: 2}))
    edge.take(grant)
    story.post("refresh-again", edge.say("refresh"))
    story.person("declared-lost", "declare-lost", edge)
    (grant,) = story.post("reappeared", edge.say("refresh"))
    edge.take(grant)
    story.post("confirm-again", edge.say("confirm"))
    return story


def story_restore() -> Scribe:
    """An activation server put back from an old backup."""
    story, plant = Scribe("restore"), Hand("Plant room")
    (grant,) = story.post("activate", plant.say("activate", {DRIVER: 1}))
    plant.take(grant)
    story.post("refresh", plant.say("refresh"))
    story.person("back-up", "back-up")
    (grant,) = story.post("activate-more", plant.say("activate", {DRIVER: 3}))
    plant.take(grant)
    story.person("put-back", "put-back")
    (refusal,) = story.post("restored", plant.say("refresh"))
    plant.sequence = json.loads(envelope.open_envelope(refusal.encode()).payload)["seen"]
    story.post("grant-unknown", plant.say("refresh"))
    (grant,) = story.post("grant-repeated", plant.say("refresh", grant=plant.grant))
    plant.take(grant)
    story.post("confirm", plant.say("confirm"))
    story.post("line-frozen", plant.say("activate", {DRIVER: 3, DEVICES: 1}))
    story.person("lift-freeze", "lift-freeze")
    story.post("activate-again", plant.say("activate", {DRIVER: 3, DEVICES: 1}))
    return story


def story_revisions() -> Scribe:
    """What revision 2 brings: `speaks`, `final`, proofs that count once, epochs that cross."""
    story, plant, roof, edge = (
        Scribe("revisions"),
        Hand("Plant room"),
        Hand("Roof", "AS-B"),
        Hand("Edge", "Edge Server"),
    )
    (grant,) = story.post("activate", plant.say("activate", {DRIVER: 2}, speaks=2))
    plant.take(grant)
    more = plant.say("activate", {DRIVER: 2, DEVICES: 1}, speaks=2)
    story.post("activate-more", more)
    used, claims = (
        json.loads(envelope.open_envelope(said.encode()).payload)
        for said in (more, plant.say("activate", {DEVICES: 5}, speaks=2))
    )
    claims |= {"jti": used["jti"], "wants": [{**used["wants"][1], "quantity": 5}]}
    story.post("proof-used", plant.key.sign(messages.REQUEST, envelope.encode_json(claims), with_jwk=True))
    story.person("declared-lost", "declare-lost", plant)
    story.post("relinquish-crosses", plant.relinquish())
    (grant,) = story.post("activate-on-the-roof", roof.say("activate", {DRIVER: 2}))
    roof.take(grant)
    roof.epoch, roof.grant = roof.epoch + 1, None
    story.post("revision-needed", roof.say("relinquish", final=True))
    story.post("final", roof.say("refresh", speaks=2, final=True))
    story.person("back-up", "back-up")
    (grant,) = story.post("enrol", edge.say("activate", {DEVICES: 1}, speaks=2))
    story.person("put-back", "put-back")
    (refusal,) = story.post("enrol-while-frozen", edge.say("activate", {DEVICES: 1}, speaks=2))
    edge.sequence = json.loads(envelope.open_envelope(refusal.encode()).payload)["seen"]
    (grant,) = story.post("fence-of-nothing", edge.say("refresh", speaks=2))
    edge.take(grant)
    story.post("confirm", edge.say("confirm", speaks=2))
    return story


def stored_answers() -> Iterator[tuple[str, bytes]]:
    """What the agent answers to licensed programs, and what they make of it (docs/protocol/checks.md)."""
    issuer, plant, story = Issuer(WORLD), Hand("Plant room"), Scribe("answers")
    (grant,) = story.post("activate", plant.say("activate", {DRIVER: 2, DEVICES: 1}, speaks=2))
    later, end = START + 3600, 1_900_000_000
    for what, code, activated, question, said in (
        ("licensed", "licensed", 2, ("smartdriver", 2), {}),
        ("none-required", "licensed", 10, ("connected-devices", 0), {}),
        ("too-few", "too-few", 2, ("smartdriver", 3), {}),
        ("not-licensed", "not-licensed", 0, ("log-storage", 1), {}),
        ("last-second", "licensed", 10, ("connected-devices", 10), {"now": end - 1, "time_seen": end - 1}),
        ("expired", "expired", 0, ("connected-devices", 1), {"now": end, "time_seen": end}),
        ("clock-of-1970", "expired", 0, ("connected-devices", 1), {"now": 0, "time_seen": end}),
        ("clock-of-2106", "licensed", 2, ("smartdriver", 1), {"now": 2**32, "time_seen": 2**32}),
        ("handed-over", "licensed", 2, ("smartdriver", 1), {"keyset": issuer.third}),
        ("given-up", "not-licensed", 0, ("smartdriver", 1), {"epoch": 2, "grant": None}),
        ("older-epoch", "older-grant", 0, ("smartdriver", 1), {"epoch": 2}),
        ("new", "not-licensed", 0, ("smartdriver", 1), {"grant": None, "keyset": None}),
    ):
        found: dict[str, Any] = {
            "now": later,
            "time_seen": later,
            "epoch": 1,
            "grant": grant,
            "keyset": issuer.first,
        } | said
        nonce = envelope.encode_base64url(seeded(f"nonce {what}")[:16])
        asked = answers.Question(feature=question[0], required=question[1], nonce=nonce)
        digests = {name: found[name] and digest_of(found[name]) for name in ("grant", "keyset")}
        made = answers.make_answer(plant.key, asked, **(found | digests))
        lines = [line for line in (made, found["grant"], found["keyset"]) if line is not None]
        record = {
            "roots": [issuer.root.public.thumbprint],
            "question": {"feature": asked.feature, "required": asked.required, "nonce": nonce},
            "code": code,
            "activated": activated,
            "envelopes": [describe(envelope.open_envelope(line.encode())) for line in lines],
        }
        yield f"answer-{what}.tally", "".join(f"{line}\n" for line in lines).encode()
        yield f"answer-{what}.json", as_json(record).encode()


def certificate(issuer: Issuer) -> str:
    """The entitlement certificate of the world."""
    lines = []
    for bought in WORLD["lines"]:
        product = WORLD["products"][bought["product"]]
        lines.append(
            {
                "line": bought["line"],
                "activation_id": str(ActivationId(line_id=LineId(bought["line"]), secret=secret_of(bought["line"]))),
                "product": bought["product"],
                "name": product["name"],
                "quantity": bought["quantity"],
                "kinds": product["kinds"],
                "features": product["features"],
                "expires": bought.get("expires"),
                "one_carry": product.get("one_carry", True),
                "returnable": True,
                **({"engineering": True} if "engineering" in bought else {}),
            }
        )
    claims = {
        "iss": WORLD["issuer"],
        "iat": START,
        "entitlement": WORLD["entitlement"],
        "account": WORLD["account"],
        "lines": lines,
    }
    return issuer.sign(messages.ENTITLEMENT, envelope.encode_json(claims))


def mixed(issuer: Issuer, returned: dict[str, str]) -> bytes:
    """A tally file as it comes back from the field: everything in it, some of it broken."""
    request = returned["returns-01-activate.request.tally"].strip()
    grant = returned["returns-01-activate.reply.tally"].strip()
    credit = returned["returns-06-confirm-all.reply.tally"].strip()
    return "\n".join(
        [
            "\ufeff# Tallystick: for Harbour Estates, carried by Ann\r",
            "# a comment is for people; not this either: " + request,
            "",
            issuer.first,
            f"  {request}\t\r",
            "   ",
            grant[:-40],
            grant,
            "<html><body>Please sign in to the network</body></html>",
            credit.replace(".", ".A", 1),
            credit,
            certificate(issuer),
            request,
        ]
    ).encode()


def read_mixed(data: bytes) -> list[Json]:
    """Line numbers, and what stands there."""
    found = []
    for line in tallyfile.parse_chunks([data]):
        if isinstance(line, tallyfile.GoodLine):
            digest = digest_of(line.envelope.compact)
            found.append({"line": line.line_number, "typ": line.envelope.typ, "digest": digest})
        else:
            found.append({"line": line.line_number, "code": line.error.code})
    return found


def golden_files() -> Iterator[tuple[str, bytes]]:
    """Every file that today's code writes, by its revision and name."""
    for story in (story_refusals, story_people, story_restore, story_revisions):
        for name, text in story().files.items():
            yield f"v2/{name}", text.encode()
    for name, data in stored_answers():
        yield f"v2/{name}", data
    for name, data in first_files():
        yield f"v1/{name}", data


def first_files() -> Iterator[tuple[str, bytes]]:
    """Those of revision 1, as far as they are answered in the same bytes."""
    issuer = Issuer(WORLD)
    yield "world.json", as_json(WORLD).encode()
    for name, compact in (
        ("keys-1", issuer.first),
        ("keys-2", issuer.second),
        ("keys-3", issuer.third),
        ("entitlement", certificate(issuer)),
    ):
        yield f"{name}.tally", f"{compact}\n".encode()
        yield f"{name}.json", as_json(describe(envelope.open_envelope(compact.encode()))).encode()
    written: dict[str, str] = {}
    for story in (story_returns, story_faults):
        written |= story().files
    for name, text in written.items():
        yield name, text.encode()
    data = mixed(issuer, written)
    yield "mixed.tally", data
    yield "mixed.json", as_json(read_mixed(data)).encode()


def main() -> int:
    """Add what is missing; 1 if something that exists would change, or with ``--check`` if something is missing."""
    parser = argparse.ArgumentParser(description="Adds golden wire files; never changes one.")
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    missing, changed = [], []
    for name, data in golden_files():
        path = FOLDER / name
        if not path.exists():
            missing.append((path, data))
        elif path.read_bytes() != data:
            changed.append(name)
    for name in changed:
        print(f"{name}: would change. Golden files stay as they are; add a story under another name.")
    if changed:
        return 1
    for path, data in missing:
        print(f"{path.parent.name}/{path.name}: {'missing' if asked.check else 'written'}")
        if not asked.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return 1 if asked.check and missing else 0


if __name__ == "__main__":
    sys.exit(main())
