"""The activation server's side of the field server's tests: real keys, real builders, no decisions."""

import itertools
from dataclasses import replace

from tallystick.domain.ids import ActivationId, LineId
from tallystick.fieldserver import engine
from tallystick.fieldserver.state import Activate, ActivationWant, Device, State, Written
from tallystick.protocol import keys, messages
from tallystick.protocol.envelope import PrivateKey, open_envelope
from tallystick.protocol.messages import (
    Credit,
    EntitlementCertificate,
    Facts,
    Grant,
    LicenseClaim,
    LineCredit,
    LineReason,
    Refusal,
)

NOW = 1_900_000_000
LINE = LineId("7K3M9Q2A")
OTHER_LINE = LineId("7K3M9Q2B")
FACTS = Facts(kind="AS-P", host_id="host-1", name="Roof", software="1.0")


def activation_id(line=LINE, secret=b"s" * 16):
    return ActivationId(line_id=line, secret=secret)


def activate(line=LINE, quantity=1, secret=b"s" * 16):
    return Activate(wants=(ActivationWant(activation_id=activation_id(line, secret), quantity=quantity),))


def license_claim(line=LINE, **changes):
    fields = {
        "license": f"LC-{line}",
        "line": line,
        "product": "mqtt-client",
        "quantity": 1,
        "features": {"mqtt": 1},
        "expires": None,
        "one_carry": True,
    }
    return LicenseClaim(**{**fields, **changes})


class Issuer:
    """Signs whatever it is told to, with a root and one signing key."""

    def __init__(self, name="vendor.example", seed=1):
        self.name = name
        self.root = PrivateKey(bytes([seed]) * 32)
        self.key = PrivateKey(bytes([seed + 100]) * 32)

    def keyset(self, version=1, *, since=0, until=None, issuer=None, at=NOW):
        key = keys.SigningKey(jwk=keys.Jwk(**self.key.public.jwk), valid_from=since, valid_until=until)
        return keys.make_keyset(self.root, issuer=issuer or self.name, version=version, issued_at=at, keys=(key,))

    def grant(self, device_id, number, **changes):
        fields = {
            "iss": self.name,
            "sub": device_id,
            "iat": NOW,
            "epoch": 1,
            "number": number,
            "request": None,
            "seen": 0,
            "licenses": (license_claim(),),
            "confirm": False,
        }
        return self.key.sign(messages.GRANT, messages.encode_claims(Grant(**{**fields, **changes})))

    def refusal(self, device_id, request, code="not-enough", **changes):
        fields = {
            "iss": self.name,
            "sub": device_id,
            "iat": NOW,
            "request": request,
            "seen": 0,
            "code": code,
            "detail": "No.",
            "reasons": (LineReason(code=code, expected="2", seen="1", line=LINE),),
        }
        return self.key.sign(messages.REFUSAL, messages.encode_claims(Refusal(**{**fields, **changes})))

    def credit(self, device_id, request, **changes):
        fields = {
            "iss": self.name,
            "sub": device_id,
            "iat": NOW,
            "request": request,
            "seen": 0,
            "credits": (LineCredit(line=LINE, quantity=1),),
            "entries": (),
        }
        return self.key.sign(messages.CREDIT, messages.encode_claims(Credit(**{**fields, **changes})))

    def certificate(self):
        claims = EntitlementCertificate(iss=self.name, iat=NOW, entitlement="EN-1", account="Harbour", lines=())
        return self.key.sign(messages.ENTITLEMENT, messages.encode_claims(claims))


class Desk:
    """One field server's state under test: wishes in, envelopes in, and what came of them."""

    def __init__(self, *, seed=b"d" * 32, issuer=None):
        self.issuer = issuer or Issuer()
        self.device = Device(key=PrivateKey(seed), facts=FACTS)
        self.id = self.device.device_id
        self.state = State(device_id=self.id)
        self.now = NOW
        self._random = itertools.count(1)

    def wish(self, wish):
        random = next(self._random).to_bytes(16, "big")
        self.state, result = engine.write_request(self.state, wish, device=self.device, now=self.now, random=random)
        return result

    def ask(self, wish):
        result = self.wish(wish)
        assert isinstance(result, Written), result
        return result.message

    def take(self, compact):
        random = next(self._random).to_bytes(16, "big")
        envelope = open_envelope(compact.encode())
        self.state, received = engine.receive(self.state, envelope, device=self.device, now=self.now, random=random)
        return received

    def grant(self, number, **changes):
        return self.take(self.issuer.grant(self.id, number, **changes))

    def refuse(self, message, code="not-enough", **changes):
        return self.take(self.issuer.refusal(self.id, message.digest, code, **changes))

    def credit(self, message, **changes):
        return self.take(self.issuer.credit(self.id, message.digest, **changes))

    def purposes(self):
        return [waiting.purpose for waiting in self.state.outbox]

    def fates(self):
        return {outcome.sequence: str(outcome.fate) for outcome in self.state.outcomes}

    def roll_back_to(self, state):
        self.state = state


def pinned(**options):
    desk = Desk(**options)
    desk.take(desk.issuer.keyset())
    return desk


def holding(number=1, **changes):
    desk = pinned()
    desk.grant(number, **changes)
    return desk


def with_sequence(desk, sequence):
    desk.state = replace(desk.state, sequence=sequence)
    return desk
