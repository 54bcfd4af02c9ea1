"""Answers that a licensed program may get: one that is right, and every way in which one can be wrong, with its code.

What a program decides is the same in every language, so whatever tests a program in another one can take the bytes from
``bad_answers`` (docs/protocol/checks.md has the rules).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tallystick.protocol import answers
from tallystick.protocol.answers import ANSWER, Question, Remembered
from tallystick.protocol.envelope import (
    PrivateKey,
    PublicKey,
    digest_of,
    encode_base64url,
    open_envelope,
    seal,
)
from tallystick.protocol.messages import GRANT, KEYS, ROOT

NOW = 1_900_000_000
YEAR = 365 * 86_400
NONCE = "AAAAAAAAAAAAAAAAAAAAAA"
QUESTION = Question(feature="mqtt-client", required=2, nonce=NONCE)
LICENSE = {
    "license": "LC-7K3M9Q2A-ZhCEAdEz1_MT",
    "line": "7K3M9Q2A",
    "product": "mqtt",
    "quantity": 3,
    "features": {"mqtt-client": 1},
    "expires": None,
    "one_carry": True,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who signs, and what is said. Every member may be replaced, one at a time."""

    root: PrivateKey = field(default_factory=lambda: PrivateKey(b"r" * 32))
    signer: PrivateKey = field(default_factory=lambda: PrivateKey(b"s" * 32))
    device: PrivateKey = field(default_factory=lambda: PrivateKey(b"d" * 32))
    listed: PrivateKey | None = None  # the key in the keyset, where it is another than signs
    keyset_signer: PrivateKey | None = None
    answer_signer: PrivateKey | None = None
    handovers: tuple[str, ...] = ()
    keyset: Mapping[str, Any] = field(default_factory=dict)  # claims that differ
    grant: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    licenses: tuple[Mapping[str, Any], ...] = (LICENSE,)
    has_grant: bool = True
    has_keyset: bool = True
    payloads: Mapping[str, bytes] = field(default_factory=dict)  # of a kind, in place of the claims

    def keyset_line(self) -> str:
        """The keyset's envelope."""
        listed = self.listed or self.signer
        claims = {
            "iss": "Example Controls",
            "version": 5,
            "iat": NOW - YEAR,
            "root": self.root.public.jwk,
            "keys": [{"jwk": listed.public.jwk, "valid_from": NOW - YEAR}],
            **({"handovers": list(self.handovers)} if self.handovers else {}),
            **self.keyset,
        }
        return (self.keyset_signer or self.root).sign(KEYS, self._payload(KEYS, claims))

    def grant_line(self) -> str:
        """The grant's envelope."""
        claims = {
            "iss": "Example Controls",
            "sub": self.device.public.thumbprint,
            "iat": NOW - 100,
            "epoch": 3,
            "number": 7,
            "request": None,
            "seen": 9,
            "licenses": list(self.licenses),
            "confirm": False,
            **self.grant,
        }
        return self.signer.sign(GRANT, self._payload(GRANT, claims))

    def lines(self) -> list[str]:
        """The answer's envelope, and what comes with it."""
        grant = self.grant_line() if self.has_grant else None
        keyset = self.keyset_line() if self.has_keyset else None
        claims = {
            "iss": self.device.public.thumbprint,
            "nonce": NONCE,
            "iat": NOW,
            "time_seen": NOW,
            "epoch": 3,
            "feature": "mqtt-client",
            "required": 2,
            "grant": grant and digest_of(grant),
            "keys": keyset and digest_of(keyset),
            **self.answer,
        }
        signer = self.answer_signer or self.device
        answer = signer.sign(ANSWER, self._payload(ANSWER, claims), with_jwk=True)
        return [line for line in (answer, grant, keyset) if line is not None]

    def body(self) -> bytes:
        """A whole answer."""
        return ("# For people.\n" + "".join(f"{line}\n" for line in self.lines())).encode()

    def _payload(self, kind: str, claims: Mapping[str, Any]) -> bytes:
        return self.payloads.get(kind, json.dumps(claims).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One answer, and what a program that names ``roots`` and remembers ``remembered`` makes of it."""

    code: str
    body: bytes
    roots: tuple[str, ...]
    question: Question = QUESTION
    remembered: Remembered | None = None


GOOD = World()
ROOT_OF_GOOD = GOOD.root.public.thumbprint
OTHER = PrivateKey(b"o" * 32)
NEXT = PrivateKey(b"n" * 32)
LAST = PrivateKey(b"l" * 32)


def handover(root: PrivateKey, successor: PrivateKey, version: int = 4, **changes: Any) -> str:
    """A hand-over, with claims that differ."""
    claims = {
        "iss": "Example Controls",
        "version": version,
        "iat": NOW - YEAR,
        "root": root.public.jwk,
        "successor": successor.public.jwk,
        **changes,
    }
    return root.sign(ROOT, json.dumps(claims).encode())


def forged_handover(root: PrivateKey, successor: PrivateKey, signer: PrivateKey) -> str:
    """One that names ``root``, and that somebody else signed."""
    header, payload, _signature = handover(root, successor).split(".")
    signature = signer.sign(ROOT, _payload_of(handover(root, successor))).split(".")[2]
    return f"{header}.{payload}.{signature}"


def licensed(**changes: Any) -> tuple[dict[str, Any], ...]:
    """The usual license, changed."""
    return ({**LICENSE, **changes},)


def good_answers() -> dict[str, Case]:
    """Answers by which the feature is licensed."""
    handed = replace(GOOD, root=NEXT, handovers=(handover(GOOD.root, NEXT),))
    twice = replace(GOOD, root=LAST, handovers=(handover(GOOD.root, NEXT, 3), handover(NEXT, LAST, 5)))
    before = Remembered(device=GOOD.device.public.thumbprint, epoch=3, number=7, moment=NOW + 50)
    return {
        "the usual": _case("licensed", GOOD),
        "one of two roots": _case("licensed", GOOD, roots=(OTHER.public.thumbprint, ROOT_OF_GOOD)),
        "handed over": _case("licensed", handed),
        "handed over, and the new root is named": _case("licensed", handed, roots=(NEXT.public.thumbprint,)),
        "handed over twice": _case("licensed", twice),
        "handed over twice, and the one between is named": _case("licensed", twice, roots=(NEXT.public.thumbprint,)),
        "the same grant again": _case("licensed", GOOD, remembered=before),
        "a newer grant after an older one": _case("licensed", GOOD, remembered=_changed(before, number=6)),
        "a newer epoch": _case("licensed", GOOD, remembered=_changed(before, epoch=2, number=99)),
        "another device was remembered": _case("licensed", GOOD, remembered=_changed(before, device="x" * 43, epoch=9)),
        "a clock of 1970": _case("licensed", replace(GOOD, answer={"iat": 0})),
        "a clock of 1969": _case("licensed", replace(GOOD, answer={"iat": -1})),
        "a clock of 2106": _case("licensed", replace(GOOD, answer={"iat": 2**32})),
        "it ends a second later": _case("licensed", replace(GOOD, licenses=licensed(expires=NOW + 1))),
        "two licenses together": _case("licensed", replace(GOOD, licenses=licensed(quantity=1) * 2)),
        "a count for each unit": _case(
            "licensed", replace(GOOD, licenses=licensed(quantity=1, features={"mqtt-client": 2}))
        ),
        "more than 64 bits": _case(
            "licensed",
            replace(
                GOOD,
                licenses=licensed(quantity=1_000_000_000, features={"mqtt-client": 1_000_000_000}) * 50,
                answer={"required": 1_000_000_000},
            ),
            question=Question(feature="mqtt-client", required=1_000_000_000, nonce=NONCE),
        ),
        "one is over, and the other is enough": _case(
            "licensed", replace(GOOD, licenses=(*licensed(expires=NOW), *licensed(quantity=2)))
        ),
        "none required": _case(
            "licensed",
            replace(GOOD, answer={"required": 0}),
            question=Question(feature="mqtt-client", required=0, nonce=NONCE),
        ),
        "lines as they may be": _case("licensed", GOOD, change=_decorated),
    }


def bad_answers() -> dict[str, Case]:
    """Answers by which it is not, each with its code."""
    return {**_malformed(), **_of_others(), **_of_the_past(), **_of_too_little()}


def _malformed() -> dict[str, Case]:
    def form(world: World = GOOD, **options: Any) -> Case:
        return _case("answer-malformed", world, **options)

    answer, grant, keyset = GOOD.lines()
    claims = json.loads(_payload_of(answer))
    return {
        "nothing": form(change=lambda _lines: b""),
        "only lines for people": form(change=lambda _lines: b"# mqtt-client: licensed\n"),
        "a web page": form(change=lambda _lines: b"<html><body>licensed</body></html>"),
        "binary": form(change=lambda _lines: bytes(range(256)) * 4),
        "cut in the answer": form(change=lambda lines: _join(lines)[: len(lines[0]) // 2]),
        "cut in the keyset": form(change=lambda lines: _join(lines)[:-50]),
        "cut before the keyset": form(change=lambda lines: _join(lines[:2])),
        "cut before the grant": form(change=lambda lines: _join(lines[:1])),
        "a grant that is not named": form(replace(GOOD, answer={"grant": None})),
        "a keyset that is not named": form(replace(GOOD, has_grant=False, answer={"keys": None})),
        "a grant without a keyset": form(replace(GOOD, has_keyset=False)),
        "another order": form(change=lambda lines: _join([lines[0], lines[2], lines[1]])),
        "the answer last": form(change=lambda lines: _join([*lines[1:], lines[0]])),
        "twice": form(change=lambda lines: _join([*lines, *lines])),
        "a fourth line": form(change=lambda lines: _join([*lines, lines[2]])),
        "a line that is too long": form(change=lambda lines: _join([*lines[:2], "A" * 65_537])),
        "an answer with a kid": form(
            change=lambda lines: _join([GOOD.device.sign(ANSWER, _payload_of(lines[0])), *lines[1:]])
        ),
        "a grant with a jwk": form(
            change=lambda lines: _join(
                [lines[0], GOOD.signer.sign(GRANT, _payload_of(lines[1]), with_jwk=True), lines[2]]
            )
        ),
        "a claim more": form(replace(GOOD, payloads={ANSWER: json.dumps({**claims, "licensed": True}).encode()})),
        "a claim less": form(
            replace(GOOD, payloads={ANSWER: json.dumps({k: v for k, v in claims.items() if k != "time_seen"}).encode()})
        ),
        "a claim twice": form(replace(GOOD, payloads={ANSWER: json.dumps(claims).encode()[:-1] + b',"epoch":3}'})),
        "a number with a point": form(replace(GOOD, payloads={ANSWER: json.dumps({**claims, "epoch": 3.0}).encode()})),
        "a number as text": form(replace(GOOD, answer={"epoch": "3"})),
        "true for 1": form(replace(GOOD, answer={"epoch": True})),
        "an epoch of 0": form(replace(GOOD, answer={"epoch": 0})),
        "beyond 2^53": form(replace(GOOD, answer={"iat": 2**53})),
        "a nonce that is short": form(replace(GOOD, answer={"nonce": "A" * 21})),
        "a device id that is none": form(replace(GOOD, answer={"iss": "A" * 42})),
        "no JSON": form(replace(GOOD, payloads={ANSWER: b"licensed"})),
        "a grant that is no grant": form(replace(GOOD, payloads={GRANT: b"{}"})),
        "a grant with a claim more": form(replace(GOOD, grant={"unheard_of": 1})),
        "a quantity of 0": form(replace(GOOD, licenses=licensed(quantity=0))),
        "51 licenses": form(replace(GOOD, licenses=licensed() * 51)),
        "a feature with a space": form(replace(GOOD, licenses=licensed(features={"mqtt client": 1}))),
        "a keyset without keys": form(replace(GOOD, keyset={"keys": []})),
        "33 keys": form(replace(GOOD, keyset={"keys": [{"jwk": OTHER.public.jwk, "valid_from": 0}] * 33})),
        "a root with bits that say nothing": form(
            replace(GOOD, keyset={"keys": [{"jwk": {**OTHER.public.jwk, "x": "A" * 42 + "B"}, "valid_from": 0}]})
        ),
        "a hand-over that is none": form(replace(GOOD, handovers=("x.y.z",))),
        "17 hand-overs": form(replace(GOOD, handovers=(handover(GOOD.root, NEXT),) * 17)),
        "a hand-over that is a grant": form(replace(GOOD, handovers=(grant,))),
        "a keyset in place of the grant": form(change=lambda lines: _join([lines[0], keyset, lines[2]])),
        "too large": replace(
            form(change=lambda lines: _join(lines) + b"# filling\n" * 20_480), code="answer-too-large"
        ),
        "a little too large": replace(
            form(change=lambda lines: _join(lines).ljust(answers.ANSWER_BYTES_MAX + 1, b"\n")), code="answer-too-large"
        ),
    }


def _of_others() -> dict[str, Case]:
    stranger = replace(GOOD, root=OTHER)
    mallory = replace(GOOD, root=OTHER, handovers=(forged_handover(GOOD.root, OTHER, OTHER),))
    return {
        "another nonce": _case("answer-differs", replace(GOOD, answer={"nonce": "B" * 22})),
        "another feature": _case("answer-differs", replace(GOOD, answer={"feature": "mqtt"})),
        "another quantity": _case("answer-differs", replace(GOOD, answer={"required": 1})),
        "another nonce, and everything else is wrong, too": _case(
            "answer-differs", replace(stranger, answer={"nonce": "B" * 22, "iss": "A" * 43})
        ),
        "the id of another device": _case("answer-forged", replace(GOOD, answer={"iss": OTHER.public.thumbprint})),
        "an altered answer": _case("answer-forged", GOOD, change=_altered),
        "another grant than was signed": _case("answer-forged", replace(GOOD, answer={"grant": digest_of("x")})),
        "another keyset than was signed": _case("answer-forged", replace(GOOD, answer={"keys": digest_of("x")})),
        "a jwk of small order": _case("answer-forged", GOOD, change=_small_order),
        "another vendor": _case("other-issuer", stranger),
        "another vendor, without a grant": _case("other-issuer", replace(stranger, has_grant=False)),
        "another vendor, whose keyset is forged": _case("other-issuer", replace(stranger, keyset_signer=NEXT)),
        "handed over from another vendor": _case(
            "other-issuer", replace(GOOD, root=NEXT, handovers=(handover(OTHER, NEXT),))
        ),
        "only the successor is named, and the keyset is older": _case(
            "other-issuer", GOOD, roots=(NEXT.public.thumbprint,)
        ),
        "a keyset that names the root, and is another's": _case("keys-forged", replace(GOOD, keyset_signer=OTHER)),
        "an altered keyset": _case("keys-forged", GOOD, change=lambda lines: _with_altered(lines, 2)),
        "a hand-over that the root did not sign": _case("keys-forged", mallory),
        "a hand-over to somebody else": _case(
            "keys-forged", replace(GOOD, root=OTHER, handovers=(handover(GOOD.root, NEXT),))
        ),
        "a hand-over after the keyset": _case(
            "keys-forged", replace(GOOD, root=NEXT, handovers=(handover(GOOD.root, NEXT, 6),))
        ),
        "hand-overs in falling versions": _case(
            "keys-forged",
            replace(GOOD, root=LAST, handovers=(handover(GOOD.root, NEXT, 4), handover(NEXT, LAST, 4))),
        ),
        "a hand-over of another issuer": _case(
            "keys-forged", replace(GOOD, root=NEXT, handovers=(handover(GOOD.root, NEXT, iss="Other"),))
        ),
        "a hand-over to itself": _case("keys-forged", replace(GOOD, handovers=(handover(GOOD.root, GOOD.root),))),
        "a grant of a key that is not listed": _case("grant-forged", replace(GOOD, listed=OTHER)),
        "a grant that the root signed": _case("grant-forged", replace(GOOD, signer=GOOD.root, listed=OTHER)),
        "an altered grant": _case("grant-forged", GOOD, change=lambda lines: _with_altered(lines, 1)),
        "a grant of another issuer": _case("grant-forged", replace(GOOD, grant={"iss": "Other"})),
        "a grant before its key": _case("grant-forged", replace(GOOD, grant={"iat": NOW - YEAR - 1})),
        "a grant after its key": _case(
            "grant-forged",
            replace(
                GOOD,
                keyset={
                    "keys": [{"jwk": GOOD.signer.public.jwk, "valid_from": 0, "valid_until": NOW - 100}],
                },
            ),
        ),
        "the same key twice, the first one over": _case(
            "grant-forged",
            replace(
                GOOD,
                keyset={
                    "keys": [
                        {"jwk": GOOD.signer.public.jwk, "valid_from": 0, "valid_until": 1},
                        {"jwk": GOOD.signer.public.jwk, "valid_from": 0},
                    ],
                },
            ),
        ),
        "a fake agent with a key of its own": _case(
            "other-device",
            replace(GOOD, answer_signer=OTHER, answer={"iss": OTHER.public.thumbprint}),
        ),
        "licenses of another device": _case("other-device", replace(GOOD, grant={"sub": OTHER.public.thumbprint})),
        "no grant at all": _case("not-licensed", replace(GOOD, has_grant=False)),
        "no keys at all": _case("not-licensed", replace(GOOD, has_grant=False, has_keyset=False)),
    }


def _of_the_past() -> dict[str, Case]:
    before = Remembered(device=GOOD.device.public.thumbprint, epoch=3, number=7, moment=NOW)
    dated = replace(GOOD, licenses=licensed(expires=NOW + 10))
    return {
        "an epoch that was given up": _case("older-grant", replace(GOOD, answer={"epoch": 4})),
        "an epoch that did not begin": _case("older-grant", replace(GOOD, answer={"epoch": 2})),
        "an older epoch than is remembered": _case("older-grant", GOOD, remembered=_changed(before, epoch=4, number=1)),
        "an older number than is remembered": _case("older-grant", GOOD, remembered=_changed(before, number=8)),
        "it is over": _case("expired", replace(GOOD, licenses=licensed(expires=NOW))),
        "it is over by the highest time": _case("expired", replace(dated, answer={"time_seen": NOW + 10})),
        "it is over, and the clock is of 1970": _case(
            "expired", replace(dated, answer={"iat": 0, "time_seen": NOW + 10})
        ),
        "it is over, because the clock is of 2106": _case("expired", replace(dated, answer={"iat": 2**32})),
        "it is over by what is remembered": _case("expired", dated, remembered=_changed(before, moment=NOW + 10)),
        "all are over": _case("expired", replace(GOOD, licenses=licensed(expires=NOW) * 2)),
        "over since before 1970": _case("expired", replace(GOOD, licenses=licensed(expires=-1), answer={"iat": 0})),
    }


def _of_too_little() -> dict[str, Case]:
    return {
        "one too few": _case("too-few", replace(GOOD, licenses=licensed(quantity=1))),
        "too few, because one is over": _case(
            "too-few", replace(GOOD, licenses=(*licensed(quantity=1), *licensed(expires=NOW)))
        ),
        "another feature only": _case("not-licensed", replace(GOOD, licenses=licensed(features={"mqtt": 9}))),
        "a feature that begins alike": _case(
            "not-licensed", replace(GOOD, licenses=licensed(features={"mqtt-client-2": 9, "MQTT-CLIENT": 9}))
        ),
        "an empty grant": _case("not-licensed", replace(GOOD, licenses=())),
        "none required, and none there": _case(
            "not-licensed",
            replace(GOOD, licenses=(), answer={"required": 0}),
            question=Question(feature="mqtt-client", required=0, nonce=NONCE),
        ),
    }


def _case(
    code: str,
    world: World,
    *,
    change: Callable[[list[str]], bytes] | None = None,
    roots: tuple[str, ...] = (ROOT_OF_GOOD,),
    question: Question = QUESTION,
    remembered: Remembered | None = None,
) -> Case:
    body = world.body() if change is None else change(world.lines())
    return Case(code=code, body=body, roots=roots, question=question, remembered=remembered)


def _changed(before: Remembered, **changes: Any) -> Remembered:
    members = {"device": before.device, "epoch": before.epoch, "number": before.number, "moment": before.moment}
    return Remembered(**{**members, **changes})


def _join(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _payload_of(line: str) -> bytes:
    return open_envelope(line.encode()).payload


def _decorated(lines: list[str]) -> bytes:
    """With a mark, CR LF, blanks, blank lines and no end of the last line."""
    return b"\xef\xbb\xbf# For people\r\n\r\n" + b"\r\n# more\r\n".join(f" {line}\t".encode() for line in lines)


def _altered(lines: list[str]) -> bytes:
    """Another moment in the answer, under the signature of before."""
    header, _payload, signature = lines[0].split(".")
    claims = json.loads(_payload_of(lines[0]))
    other = encode_base64url(json.dumps({**claims, "time_seen": 1}).encode())
    return _join([f"{header}.{other}.{signature}", *lines[1:]])


def _with_altered(lines: list[str], place: int) -> bytes:
    """The signature of another message under a grant or a keyset, named by an answer that fits it."""
    header, payload, signature = lines[place].split(".")
    turned = signature[:10] + ("B" if signature[10] == "A" else "A") + signature[11:]
    changed = [*lines]
    changed[place] = f"{header}.{payload}.{turned}"
    claims = json.loads(_payload_of(lines[0]))
    claims |= {"grant": digest_of(changed[1]), "keys": digest_of(changed[2])}
    changed[0] = GOOD.device.sign(ANSWER, json.dumps(claims).encode(), with_jwk=True)
    return _join(changed)


def _small_order(lines: list[str]) -> bytes:
    """A key of small order, under which a signature that needs no secret would fit every message."""
    point = PublicKey(encode_base64url(b"\1" + bytes(31)))
    claims = json.loads(_payload_of(lines[0])) | {"iss": point.thumbprint}
    forged = seal(point, ANSWER, json.dumps(claims).encode(), lambda _data: b"\1" + bytes(63), with_jwk=True)
    return _join([forged, *lines[1:]])
