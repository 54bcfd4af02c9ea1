"""Writes the vectors of the conformance kit: `src/tallystick/conformance/vectors-1.json` (see docs/protocol/conformance.md).

For each step of docs/protocol/checks.md, what a licensed program gets and how it must decide: good and bad, at both sides of every
limit. Made from fixed seeds and from the golden wire files, so that two runs write the same bytes. ``--check``: writes nothing, and
refuses if the file is not what would be written. A vector that is published is not changed; a new one gets a new name.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tallystick.protocol.envelope import PrivateKey, PublicKey, digest_of, encode_base64url, open_envelope

CHECKOUT: Final = Path(__file__).resolve().parent.parent
FILE: Final = CHECKOUT / "src" / "tallystick" / "conformance" / "vectors-1.json"
GOLDEN: Final = CHECKOUT / "tests" / "golden" / "v1"
START: Final = 1_800_000_000
BIGGEST: Final = 2**53 - 1
ORDER: Final = 2**252 + 27742317777372353535851937790883648493  # of the group of Ed25519
NONCE: Final = "q83vEjRWeJCrze8SNFZ4kA"
FEATURE: Final = "mqtt-client"
Json = dict[str, Any]


def key(name: str) -> PrivateKey:
    """A key by its name, for tests only."""
    return PrivateKey(hashlib.sha256(f"conformance {name}".encode()).digest())


ROOT, NEXT_ROOT, LAST_ROOT, OTHER_ROOT = key("root"), key("next root"), key("last root"), key("other root")
SIGNING, NEXT_SIGNING, DEVICE, OTHER_DEVICE = key("signing"), key("next signing"), key("device"), key("other device")
ISSUER: Final = "Example Controls"


def dump(value: object) -> bytes:
    """JSON as most programs write it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def raw(header: bytes | Mapping[str, Any], payload: bytes, signer: PrivateKey) -> str:
    """An envelope with any header and any payload, really signed."""
    head = header if isinstance(header, bytes) else dump(header)
    signed = f"{encode_base64url(head)}.{encode_base64url(payload)}"
    return f"{signed}.{encode_base64url(sign(signer, signed.encode()))}"


def sign(signer: PrivateKey, data: bytes) -> bytes:
    """A signature over any bytes."""
    from nacl.signing import SigningKey  # noqa: PLC0415 - only here

    return SigningKey(signer.seed()).sign(data).signature


def license_claim(**changes: Any) -> Json:
    """One license of a grant."""
    claims = {
        "license": f"LC-7K3M9Q2A-{DEVICE.public.thumbprint[:12]}",
        "line": "7K3M9Q2A",
        "product": "mqtt",
        "quantity": 2,
        "features": {FEATURE: 5},
        "expires": None,
        "one_carry": True,
    }
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def grant_claims(**changes: Any) -> Json:
    """A grant's claims; ``...`` leaves one out."""
    claims = {
        "iss": ISSUER,
        "sub": DEVICE.public.thumbprint,
        "iat": START,
        "epoch": 3,
        "number": 7,
        "request": None,
        "seen": 4,
        "licenses": [license_claim()],
        "confirm": False,
    }
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def grant(signer: PrivateKey = SIGNING, **changes: Any) -> str:
    """A grant."""
    return signer.sign("tally-grant+jwt", dump(grant_claims(**changes)))


def signing_key(signer: PrivateKey = SIGNING, **changes: Any) -> Json:
    """A member of ``keys``."""
    claims: Json = {"jwk": signer.public.jwk, "valid_from": START - 1000}
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def keyset_claims(root: PrivateKey = ROOT, **changes: Any) -> Json:
    """A keyset's claims."""
    claims = {"iss": ISSUER, "version": 5, "iat": START, "root": root.public.jwk, "keys": [signing_key()]}
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def keyset(root: PrivateKey = ROOT, signer: PrivateKey | None = None, **changes: Any) -> str:
    """A keyset."""
    return (signer or root).sign("tally-keys+jwt", dump(keyset_claims(root, **changes)))


def handover(
    root: PrivateKey = ROOT,
    successor: PrivateKey | PublicKey | None = NEXT_ROOT,
    signer: PrivateKey | None = None,
    **changes: Any,
) -> str:
    """A hand-over."""
    claims = {
        "iss": ISSUER,
        "version": 4,
        "iat": START,
        "root": root.public.jwk,
        "successor": ...
        if successor is None
        else (successor.public if isinstance(successor, PrivateKey) else successor).jwk,
    } | changes
    return (signer or root).sign(
        "tally-root+jwt", dump({name: value for name, value in claims.items() if value is not ...})
    )


def answer_claims(keys: str | None, granted: str | None, **changes: Any) -> Json:
    """An answer's claims."""
    claims = {
        "iss": DEVICE.public.thumbprint,
        "nonce": NONCE,
        "iat": START + 100,
        "time_seen": START + 100,
        "epoch": 3,
        "feature": FEATURE,
        "required": 1,
        "grant": None if granted is None else digest_of(granted),
        "keys": None if keys is None else digest_of(keys),
    } | changes
    return {name: value for name, value in claims.items() if value is not ...}


def answer(keys: str | None, granted: str | None, signer: PrivateKey = DEVICE, **changes: Any) -> str:
    """An answer's envelope."""
    return signer.sign("tally-answer+jwt", dump(answer_claims(keys, granted, **changes)), with_jwk=True)


def body(*envelopes: str | None) -> bytes:
    """The body of an answer."""
    return "".join(f"{line}\n" for line in envelopes if line is not None).encode()


def shown(data: bytes) -> Json:
    """Bytes in JSON: as text where they are text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    return {"text": text}


class Vectors:
    """What was said so far, each under its own name."""

    def __init__(self) -> None:
        self.found: list[Json] = []

    def _add(self, name: str, step: int, says: str, result: str, vector: Json) -> None:
        if any(other["name"] == name for other in self.found):
            raise SystemExit(f"{name}: twice")
        self.found.append({"name": name, "step": step, "says": says, "result": result, **vector})

    def answer(
        self,
        name: str,
        step: int,
        says: str,
        result: str,
        *,
        keys: str | None = keyset(),
        granted: str | None = grant(),
        data: bytes | None = None,
        roots: Sequence[str] = (ROOT.public.thumbprint,),
        feature: str = FEATURE,
        required: int = 1,
        nonce: str = NONCE,
        remembers: Json | None = None,
        activated: int | None = None,
        afterwards: Json | None = None,
        **changes: Any,
    ) -> None:
        """An answer over the socket. ``changes``: of the answer's claims."""
        asked = {"required": required} if required != 1 else {}
        content = data if data is not None else body(answer(keys, granted, **(asked | changes)), granted, keys)
        vector: Json = {
            "kind": "answer",
            "roots": list(roots),
            "feature": feature,
            "required": required,
            "nonce": nonce,
        }
        if remembers is not None:
            vector["remembers"] = remembers
        vector["answer"] = shown(content)
        if activated is not None:
            vector["activated"] = activated
        if afterwards is not None:
            vector["afterwards"] = afterwards
        self._add(name, step, says, result, vector)

    def files(
        self,
        name: str,
        step: int,
        says: str,
        result: str,
        *,
        keys: bytes | None,
        granted: bytes | None,
        roots: Sequence[str],
        device: str,
        now: int,
        feature: str,
        required: int = 1,
        activated: int | None = None,
    ) -> None:
        """Without an agent."""
        vector: Json = {"kind": "files", "roots": list(roots), "feature": feature, "required": required}
        vector |= {"device": device, "now": now}
        vector["keys"] = None if keys is None else shown(keys)
        vector["grant"] = None if granted is None else shown(granted)
        if activated is not None:
            vector["activated"] = activated
        self._add(name, step, says, result, vector)

    def socket(self, name: str, step: int, says: str, result: str, *, reply: bytes | None, then: str) -> None:
        """What an agent writes to the connection, whatever it was asked, and whether it closes or falls silent then."""
        vector: Json = {"kind": "socket", "roots": [ROOT.public.thumbprint], "feature": FEATURE, "required": 1}
        vector["reply"] = None if reply is None else shown(reply)
        vector["then"] = then
        self._add(name, step, says, result, vector)


def memory(epoch: int, number: int, moment: int, device: PrivateKey = DEVICE) -> Json:
    """What a program remembers."""
    return {"device": device.public.thumbprint, "epoch": epoch, "number": number, "moment": moment}


def licensed(v: Vectors) -> None:
    """What must be taken: a reader that refuses too much is wrong, too."""
    v.answer("licensed", 16, "Everything fits.", "licensed", activated=10, afterwards=memory(3, 7, START + 100))
    v.answer("licensed-all", 16, "As many are required as there are.", "licensed", required=10, activated=10)
    v.answer(
        "licensed-none-required",
        16,
        "With 0 required, one in force still has to be there.",
        "licensed",
        required=0,
        activated=10,
    )
    v.answer("licensed-eight-roots", 9, "Eight roots are named, and the last one is it.", "licensed",
             roots=[key(f"root {number}").public.thumbprint for number in range(7)] + [ROOT.public.thumbprint])  # fmt: skip
    v.answer("licensed-engineering", 16, "For commissioning only is a license, too.", "licensed", activated=10,
             granted=grant(licenses=[license_claim(engineering=True)]))  # fmt: skip
    v.answer("licensed-engineering-false", 6, "`engineering` may be said to be false.", "licensed",
             granted=grant(licenses=[license_claim(engineering=False)]))  # fmt: skip
    two = [license_claim(), license_claim(line="D0R2X5YV", quantity=1, features={"x": 1, FEATURE: 3})]
    v.answer(
        "licensed-added-up",
        16,
        "Licenses of several lines are added up.",
        "licensed",
        required=13,
        activated=13,
        granted=grant(licenses=two),
    )
    over = [
        license_claim(expires=START + 100),
        license_claim(line="D0R2X5YV", quantity=1, features={FEATURE: 3}, expires=START + 101),
    ]
    v.answer(
        "licensed-one-is-over",
        15,
        "One of two is over: the other one counts.",
        "licensed",
        required=3,
        activated=3,
        granted=grant(licenses=over),
    )
    most = [
        license_claim(line=f"7K3M9Q{number:02d}", quantity=10**9, features={FEATURE: 10**9}) for number in range(50)
    ]
    v.answer("licensed-beyond-64-bits", 16, "Fifty times 10^18 is beyond 64 bits: counted up to 2^53 - 1.", "licensed",
             required=10**9, activated=BIGGEST, granted=grant(licenses=most))  # fmt: skip
    signed = SIGNING.sign("tally-grant+jwt", dump(grant_claims()))
    v.answer("licensed-alg-ed25519", 6, "`alg` Ed25519 is read, too (RFC 9864).", "licensed",
             granted=raw({"alg": "Ed25519", "typ": "tally-grant+jwt", "kid": SIGNING.public.thumbprint}, dump(grant_claims()), SIGNING))  # fmt: skip
    spaced = json.dumps(grant_claims(), indent=1).replace("\n", "\r\n\t").encode()
    v.answer("licensed-json-with-spaces", 6, "White space between what JSON is made of says nothing.", "licensed",
             granted=raw({"alg": "EdDSA", "typ": "tally-grant+jwt", "kid": SIGNING.public.thumbprint}, spaced, SIGNING))  # fmt: skip
    backwards = dump(dict(reversed(grant_claims().items())))
    v.answer(
        "licensed-claims-in-another-order",
        6,
        "Claims may stand in any order.",
        "licensed",
        granted=SIGNING.sign("tally-grant+jwt", backwards),
    )
    escaped = (
        dump(grant_claims())
        .replace(b'"sub"', b'"\\u0073\\u0075b"')
        .replace(b"mqtt-client", b"mqtt\\u002Dclient")
        .replace(b"7K3M9Q2A", b"\\u0037K3M9Q2A")
    )
    v.answer(
        "licensed-escapes",
        6,
        "What is written as an escape is the same text, in names, too.",
        "licensed",
        granted=SIGNING.sign("tally-grant+jwt", escaped),
    )
    zero = dump(grant_claims(seen=0)).replace(b'"seen":0', b'"seen":-0')
    v.answer(
        "licensed-minus-zero",
        6,
        "-0 is a whole number in JSON.",
        "licensed",
        granted=SIGNING.sign("tally-grant+jwt", zero),
    )
    name = "Ü" * 64 + "\N{CHEERING MEGAPHONE}" * 64
    v.answer(
        "licensed-issuer-of-128-symbols",
        6,
        "A text has up to 128 symbols, whatever their bytes.",
        "licensed",
        keys=keyset(iss=name),
        granted=grant(iss=name),
    )
    paired = dump(grant_claims(iss="X")).replace(b'"X"', b'"\\ud83d\\udce3"')
    v.answer("licensed-a-pair-of-surrogates", 6, "A pair of escaped surrogates is one symbol.", "licensed", keys=keyset(iss="\N{CHEERING MEGAPHONE}"),
             granted=SIGNING.sign("tally-grant+jwt", paired))  # fmt: skip
    v.answer(
        "licensed-endless-key",
        6,
        "`valid_until` may be null.",
        "licensed",
        keys=keyset(keys=[signing_key(valid_until=None)]),
    )
    v.answer(
        "licensed-first-second",
        12,
        "Issued in the first second of the key.",
        "licensed",
        keys=keyset(keys=[signing_key(valid_from=START)]),
    )
    v.answer("licensed-last-second", 12, "Issued in the last second of the key; later is no matter.", "licensed",
             keys=keyset(keys=[signing_key(valid_until=START + 1)]))  # fmt: skip
    many = [signing_key(key(f"signing {number}")) for number in range(31)] + [signing_key()]
    v.answer("licensed-32-keys", 6, "A keyset has up to 32 keys.", "licensed", keys=keyset(keys=many))
    v.answer("licensed-no-handovers", 6, "`handovers` may be there and empty.", "licensed", keys=keyset(handovers=[]))
    keys, granted = keyset(), grant()
    lines = body(answer(keys, granted), granted, keys)
    v.answer("licensed-comments", 6, "Lines for people are passed over, at any place.", "licensed",
             data=b"# mqtt-client: licensed\n\n" + lines.replace(b"\n", b"\n# ---\n \t\n"))  # fmt: skip
    v.answer("licensed-windows-lines", 6, "CR, spaces, tabs and a byte order mark around an envelope are passed over.", "licensed",
             data=b"\xef\xbb\xbf" + lines.replace(b"\n", b" \t\r\n\xef\xbb\xbf \t").rstrip(b"\xef\xbb\xbf \t"))  # fmt: skip
    v.answer("licensed-no-last-line-end", 6, "The last line needs no end.", "licensed", data=lines.rstrip(b"\n"))
    v.answer(
        "licensed-a-long-comment",
        6,
        "A comment has no limit but the answer's.",
        "licensed",
        data=b"#" * 70_000 + b"\n" + lines,
    )
    del signed


def envelopes_malformed(v: Vectors) -> None:
    """Step 6, the same for each of the three envelopes: what one signed message may not be spelled like."""
    keys, granted = keyset(), grant()
    said = answer(keys, granted)
    for place, (who, good, signer, typ) in enumerate(
        (
            ("answer", said, DEVICE, "tally-answer+jwt"),
            ("grant", granted, SIGNING, "tally-grant+jwt"),
            ("keys", keys, ROOT, "tally-keys+jwt"),
        )
    ):
        head, payload, signature = good.split(".")
        opened = open_envelope(good.encode())
        whose: Json = {"jwk": signer.public.jwk} if who == "answer" else {"kid": signer.public.thumbprint}
        other: Json = {"kid": signer.public.thumbprint} if who == "answer" else {"jwk": signer.public.jwk}
        header: Json = {"alg": "EdDSA", "typ": typ, **whose}
        bad = {
            "padding": (f"{head}=.{payload}.{signature}", "base64url has no padding"),
            "plain-base64": (f"{head}+.{payload}.{signature}", "plain base64 has other symbols"),
            "two-parts": (f"{head}.{payload}", "two parts are no envelope"),
            "four-parts": (f"{good}.AAAA", "four parts are no envelope"),
            "no-payload": (f"{head}..{signature}", "an empty part is none"),
            "respelled-signature": (f"{head}.{payload}.{respell(signature)}", "the unused bits of the last symbol are zero"),
            "long-signature": (f"{good}AA", "a signature has 86 symbols"),
            "alg-none": (raw(header | {"alg": "none"}, opened.payload, signer), "the algorithm is EdDSA or Ed25519"),
            "alg-hs256": (raw(header | {"alg": "HS256"}, opened.payload, signer), "the header does not choose another algorithm"),
            "no-alg": (raw({name: value for name, value in header.items() if name != "alg"}, opened.payload, signer), "a header has an alg"),
            "crit": (raw(header | {"crit": ["exp"]}, opened.payload, signer), "a header has no other names"),
            "kid-and-jwk": (raw(header | other, opened.payload, signer), "one of kid and jwk, not both"),
            "neither-kid-nor-jwk": (raw({"alg": "EdDSA", "typ": typ}, opened.payload, signer), "one of kid and jwk, not none"),
            "other-name-of-the-key": (raw({"alg": "EdDSA", "typ": typ, **other}, opened.payload, signer), "the answer has a jwk, the others a kid"),
            "other-kind": (raw(header | {"typ": "tally-refusal+jwt"}, opened.payload, signer), "the kinds are an answer, a grant, a keyset"),
            "alg-twice": (raw(dump(header)[:-1] + b',"alg":"EdDSA"}', opened.payload, signer), "a name stands once, in headers, too"),
            "name-twice": (signed(signer, header, opened.payload[:-1] + b',"iss":' + dump(json.loads(opened.payload)["iss"]) + b"}"), "a name stands once"),
            "name-twice-escaped": (
                signed(signer, header, opened.payload[:-1] + b',"\\u0069ss":' + dump(json.loads(opened.payload)["iss"]) + b"}"),
                "a name stands once, however it is written",
            ),
            "unknown-claim": (signed(signer, header, opened.payload[:-1] + b',"note":1}'), "every claim is known"),
            "claim-missing": (
                signed(signer, header, dump({name: value for name, value in json.loads(opened.payload).items() if name != "iat"})),
                "every claim is there",
            ),
            "a-fraction": (signed(signer, header, opened.payload.replace(b'"iat":1800000', b'"iat":1.800000')), "numbers are whole"),
            "an-exponent": (signed(signer, header, number(opened.payload, b"18e8")), "numbers have no exponent"),
            "a-huge-exponent": (signed(signer, header, number(opened.payload, b"1e999")), "what no machine counts is no number"),
            "a-leading-zero": (signed(signer, header, number(opened.payload, b"01800000000")), "numbers are as JSON writes them"),
            "a-plus": (signed(signer, header, number(opened.payload, b"+1800000000")), "numbers are as JSON writes them"),
            "beyond-2-53": (signed(signer, header, number(opened.payload, b"9007199254740992")), "numbers are below 2^53"),
            "far-beyond-2-64": (signed(signer, header, number(opened.payload, b"1" + b"0" * 40)), "numbers are below 2^53, and do not wrap"),
            "a-number-as-text": (signed(signer, header, number(opened.payload, b'"1800000000"')), "a text is no number"),
            "true-is-not-1": (signed(signer, header, number(opened.payload, b"true")), "true is not 1"),
            "null-is-no-moment": (signed(signer, header, number(opened.payload, b"null")), "null is allowed only where the page says so"),
            "nan": (signed(signer, header, number(opened.payload, b"NaN")), "NaN is no JSON"),
            "not-utf-8": (signed(signer, header, issuer(opened.payload, b"\xff\xfe")), "JSON is UTF-8"),
            "overlong-utf-8": (signed(signer, header, issuer(opened.payload, b"\xc1\x81")), "UTF-8 has one form of each symbol"),
            "a-surrogate-in-utf-8": (signed(signer, header, issuer(opened.payload, b"\xed\xa0\x80")), "surrogates are no symbols"),
            "a-lone-surrogate": (signed(signer, header, issuer(opened.payload, b"\\ud800")), "surrogates come in pairs"),
            "a-low-surrogate": (signed(signer, header, issuer(opened.payload, b"\\udc00")), "surrogates come in pairs, the high one first"),
            "a-control-character": (signed(signer, header, issuer(opened.payload, b"\x01")), "a string has no bare control characters"),
            "a-nul": (signed(signer, header, issuer(opened.payload, b"\x00")), "a string has no bare control characters, and does not end there"),
            "an-escaped-nul": (signed(signer, header, issuer(opened.payload, b"\\u0000")), "a text has no control characters, and does not end there"),
            "a-nul-behind": (signed(signer, header, opened.payload + b"\x00"), "a zero byte is no white space"),
            "a-wrong-escape": (signed(signer, header, issuer(opened.payload, b"\\x41")), "JSON knows no such escape"),
            "a-byte-order-mark-inside": (signed(signer, header, b"\xef\xbb\xbf" + opened.payload), "JSON begins without a byte order mark"),
            "a-comment-inside": (signed(signer, header, opened.payload[:-1] + b"/* */}"), "JSON has no comments"),
            "a-comma-too-much": (signed(signer, header, opened.payload[:-1] + b",}"), "JSON has no comma at the end"),
            "more-behind": (signed(signer, header, opened.payload + b"{}"), "nothing stands behind the claims"),
            "an-array": (signed(signer, header, b"[" + opened.payload + b"]"), "claims are an object"),
            "nested": (signed(signer, header, b"[" * 3_000), "a thousand brackets fell no reader"),
            "cut-in-a-string": (signed(signer, header, opened.payload[: opened.payload.rindex(b'"')]), "JSON is whole"),
            "no-payload-json": (signed(signer, header, b" "), "JSON is something"),
        }  # fmt: skip
        for what, (line, says) in bad.items():
            envelopes = [said, granted, keys]
            envelopes[place] = line
            if who != "answer":  # the digests fit, so that only this reader can find it
                envelopes[0] = answer(envelopes[2], envelopes[1])
            v.answer(f"malformed-{who}-{what}", 6, f"In the {who}: {says}.", "answer-malformed", data=body(*envelopes))
        long = f"{encode_base64url(dump(header) + b' ' * 49_000)}.{payload}"
        envelopes = [said, granted, keys]
        envelopes[place] = f"{long}.{encode_base64url(sign(signer, long.encode()))}"
        v.answer(
            f"malformed-{who}-too-long",
            6,
            f"In the {who}: an envelope has at most 65,536 bytes.",
            "answer-malformed",
            data=body(*envelopes),
        )


def signed(signer: PrivateKey, header: Json, payload: bytes) -> str:
    """A payload that is no good, with a good signature."""
    return raw(header, payload, signer)


def number(payload: bytes, written: bytes) -> bytes:
    """The claim ``iat``, written otherwise."""
    was = dump(json.loads(payload)["iat"])
    return payload.replace(b'"iat":' + was, b'"iat":' + written, 1)


def issuer(payload: bytes, written: bytes) -> bytes:
    """The claim ``iss``, with other bytes at its end."""
    was = dump(json.loads(payload)["iss"])
    return payload.replace(was, was[:-1] + written + b'"', 1)


def respelled(private: PrivateKey) -> Json:
    """A public key with unused bits set."""
    return private.public.jwk | {"x": respell(private.public.x)}


def respell(part: str) -> str:
    """The same bytes with unused bits set."""
    symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return part[:-1] + symbols[symbols.index(part[-1]) + 1]


def claims_malformed(v: Vectors) -> None:
    """Step 6: each claim has its type and its limits."""
    bad_answers: dict[str, Json] = {
        "iss-short": {"iss": "A" * 42},
        "nonce-short": {"nonce": "A" * 21},
        "nonce-long": {"nonce": "A" * 65},
        "nonce-not-base64url": {"nonce": "q83vEjRWeJCrze8SNFZ4k+"},
        "time-seen-missing": {"time_seen": ...},
        "time-seen-null": {"time_seen": None},
        "epoch-0": {"epoch": 0},
        "feature-empty": {"feature": ""},
        "feature-long": {"feature": "x" * 33},
        "feature-with-a-space": {"feature": "mqtt client"},
        "required-negative": {"required": -1},
        "required-too-high": {"required": 10**9 + 1},
        "grant-missing": {"grant": ...},
        "keys-missing": {"keys": ...},
        "grant-no-digest": {"grant": "A" * 44},
        "grant-null-and-there": {"grant": None},
        "keys-null-and-there": {"keys": None},
        "says-licensed": {"licensed": True},
    }
    for what, changes in bad_answers.items():
        claims = {
            name: value for name, value in (answer_claims(keyset(), grant()) | changes).items() if value is not ...
        }
        said = DEVICE.sign("tally-answer+jwt", dump(claims), with_jwk=True)
        v.answer(f"malformed-answer-{what}", 6, "A claim of the answer that is not as the table says.", "answer-malformed",
                 data=body(said, grant(), keyset()))  # fmt: skip
    bad_licenses: dict[str, Json] = {
        "license-long": {"license": "L" * 65},
        "line-short": {"line": "7K3M9Q2"},
        "line-with-an-i": {"line": "7K3M9Q2I"},
        "line-small-letters": {"line": "7k3m9q2a"},
        "product-empty": {"product": ""},
        "product-long": {"product": "p" * 41},
        "quantity-0": {"quantity": 0},
        "quantity-too-high": {"quantity": 10**9 + 1},
        "quantity-missing": {"quantity": ...},
        "features-nine": {"features": {f"f{number}": 1 for number in range(9)}},
        "features-name-long": {"features": {"f" * 33: 1}},
        "features-name-empty": {"features": {"": 1}},
        "features-count-0": {"features": {FEATURE: 0}},
        "features-an-array": {"features": [FEATURE]},
        "expires-missing": {"expires": ...},
        "expires-a-text": {"expires": "never"},
        "one-carry-1": {"one_carry": 1},
        "engineering-null": {"engineering": None},
        "unknown": {"seats": 1},
    }
    for what, changes in bad_licenses.items():
        v.answer(f"malformed-license-{what}", 6, "A member of a license that is not as the table says.", "answer-malformed",
                 granted=grant(licenses=[license_claim(**changes)]))  # fmt: skip
    bad_grants: dict[str, Json] = {
        "iss-empty": {"iss": ""},
        "iss-long": {"iss": "x" * 129},
        "iss-with-a-line-feed": {"iss": "Example\nControls"},
        "sub-short": {"sub": "A" * 42},
        "epoch-0": {"epoch": 0},
        "number-0": {"number": 0},
        "request-empty": {"request": ""},
        "request-missing": {"request": ...},
        "seen-negative": {"seen": -1},
        "licenses-51": {"licenses": [license_claim()] * 51},
        "licenses-an-object": {"licenses": {}},
        "confirm-null": {"confirm": None},
    }
    for what, changes in bad_grants.items():
        v.answer(
            f"malformed-grant-{what}",
            6,
            "A claim of the grant that is not as the table says.",
            "answer-malformed",
            granted=grant(**changes),
        )
    stranger = {"crv": "Ed25519", "kty": "OKP", "x": SIGNING.public.x, "d": "A" * 43}
    bad_keysets: dict[str, Json] = {
        "iss-a-number": {"iss": 1},
        "version-0": {"version": 0},
        "root-missing": {"root": ...},
        "root-of-another-curve": {"root": ROOT.public.jwk | {"crv": "X25519"}},
        "keys-none": {"keys": []},
        "keys-33": {"keys": [signing_key()] * 33},
        "keys-with-a-secret": {"keys": [signing_key(jwk=stranger)]},
        "root-respelled": {"root": respelled(ROOT)},
        "keys-respelled": {"keys": [signing_key(), signing_key(jwk=respelled(NEXT_SIGNING))]},
        "handovers-respelled": {"handovers": [handover(successor=PublicKey(respell(NEXT_ROOT.public.x)))]},
        "keys-without-a-beginning": {"keys": [signing_key(valid_from=...)]},
        "keys-with-a-name": {"keys": [signing_key(name="old")]},
        "handovers-null": {"handovers": None},
        "handovers-17": {"handovers": [handover()] * 17},
        "handovers-no-envelope": {"handovers": ["hello"]},
        "handovers-a-keyset": {"handovers": [keyset()]},
        "handovers-no-base64url": {"handovers": [handover() + "="]},
        "handovers-of-version-0": {"handovers": [handover(version=0)]},
        "handovers-without-successor": {"handovers": [handover(successor=None)]},
        "handovers-with-a-jwk": {"handovers": [raw({"alg": "EdDSA", "typ": "tally-root+jwt", "jwk": ROOT.public.jwk},
            dump({"iss": ISSUER, "version": 4, "iat": START, "root": ROOT.public.jwk, "successor": NEXT_ROOT.public.jwk}), ROOT)]},
    }  # fmt: skip
    for what, changes in bad_keysets.items():
        claims = {name: value for name, value in (keyset_claims() | changes).items() if value is not ...}
        v.answer(f"malformed-keys-{what}", 6, "A claim of the keyset that is not as the table says.", "answer-malformed",
                 keys=ROOT.sign("tally-keys+jwt", dump(claims)))  # fmt: skip
    keys, granted = keyset(), grant()
    said = answer(keys, granted)
    bodies: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "There is an answer."),
        "only-comments": (b"# mqtt-client: licensed\n", "There is an answer, not only a comment."),
        "licensed": (b"licensed\n", "A word is no answer."),
        "binary": (bytes(range(256)), "Bytes are no answer."),
        "json": (b'{"licensed":true}\n', "JSON is no answer."),
        "without-its-grant": (body(said, keys), "The grant that it speaks of is there."),
        "without-its-keys": (body(said, granted), "The keyset that it speaks of is there."),
        "in-another-order": (body(said, keys, granted), "The answer, the grant, the keyset: in this order."),
        "grant-first": (body(granted, said, keys), "The answer comes first."),
        "two-answers": (body(said, said, granted, keys), "One answer."),
        "four-envelopes": (body(said, granted, keys, keys), "At most three envelopes."),
        "grant-without-keys": (body(answer(None, granted), granted), "No grant without a keyset."),
        "cut": (body(said, granted, keys)[:-100], "What is cut is no envelope."),
        "quoted": (b"> " + body(said, granted, keys), "What a mail puts before a line is no part of an answer."),
        "utf-16": (body(said, granted, keys).decode().encode("utf-16"), "An answer is not written in UTF-16."),
        "a-vertical-tab": (b"\x0b" + body(said, granted, keys), "What is passed over is CR, spaces, tabs and one byte order mark."),
        "two-byte-order-marks": (b"\xef\xbb\xbf\xef\xbb\xbf" + body(said, granted, keys), "One byte order mark is passed over."),
        "a-line-between": (body(said, granted, keys).replace(b"\n", b"\nhello\n", 1), "Every line is an envelope, blank or a comment."),
    }  # fmt: skip
    for what, (data, says) in bodies.items():
        v.answer(f"malformed-{what}", 6, says, "answer-malformed", data=data)


def answers(v: Vectors) -> None:
    """Steps 1, 7 and 8."""
    wrong = "check-wrong"
    v.answer("wrong-no-root", 1, "A program names at least one root.", wrong, roots=[])
    v.answer(
        "wrong-nine-roots",
        1,
        "At most eight roots.",
        wrong,
        roots=[key(f"root {number}").public.thumbprint for number in range(9)],
    )
    v.answer("wrong-nine-times-the-same", 1, "At most eight, however often one of them is said.", wrong,
             roots=[ROOT.public.thumbprint] * 9)  # fmt: skip
    v.answer("wrong-root", 1, "A root is 43 symbols.", wrong, roots=[ROOT.public.thumbprint[:-1]])
    v.answer("wrong-root-symbols", 1, "Of base64url.", wrong, roots=["+" * 43])
    v.answer(
        "wrong-root-respelled",
        1,
        "With the unused bits of its last symbol zero.",
        wrong,
        roots=[respell(ROOT.public.thumbprint)],
    )
    v.answer("wrong-feature-empty", 1, "A feature has a name.", wrong, feature="")
    v.answer("wrong-feature-long", 1, "Of at most 32 symbols.", wrong, feature="x" * 33)
    v.answer("wrong-feature-symbols", 1, "Of the symbols of a feature.", wrong, feature="mqtt&required=1")
    v.answer("wrong-required-negative", 1, "From 0.", wrong, required=-1)
    v.answer("wrong-required-too-high", 1, "To 1,000,000,000.", wrong, required=10**9 + 1)
    v.answer("differs-nonce", 7, "An answer that was given before.", "answer-differs", nonce="AAAAAAAAAAAAAAAAAAAAAA")
    v.answer("differs-nonce-case", 7, "Nonces are compared symbol by symbol.", "answer-differs", nonce=NONCE.lower())
    v.answer("differs-feature", 7, "An answer about another feature.", "answer-differs", feature="reports")
    v.answer(
        "differs-required",
        7,
        "An answer about another quantity.",
        "answer-differs",
        required=5,
        data=body(answer(keyset(), grant()), grant(), keyset()),
    )
    v.answer("differs-before-forged", 7, "Another nonce, and forged as well: the first that fails is the result.", "answer-differs",
             nonce="AAAAAAAAAAAAAAAAAAAAAA", signer=OTHER_DEVICE)  # fmt: skip
    forged = "answer-forged"
    keys, granted = keyset(), grant()
    said = answer(keys, granted)
    head, payload, _signature = said.split(".")
    stranger = f"{head}.{payload}.{encode_base64url(sign(OTHER_DEVICE, f'{head}.{payload}'.encode()))}"
    v.answer(
        "forged-answer-signature",
        8,
        "The signature is not of the key in the header.",
        forged,
        data=body(stranger, granted, keys),
    )
    v.answer(
        "forged-answer-device", 8, "`iss` is not the thumbprint of the key in the header.", forged, signer=OTHER_DEVICE
    )
    v.answer(
        "forged-answer-other-grant",
        8,
        "Another grant than the answer speaks of.",
        forged,
        data=body(said, grant(number=8), keys),
    )
    v.answer(
        "forged-answer-other-keys",
        8,
        "Another keyset than the answer speaks of.",
        forged,
        data=body(said, granted, keyset(version=6)),
    )
    v.answer("forged-answer-time", 8, "A changed claim under the old signature.", forged,
             data=body(f"{head}.{encode_base64url(dump(answer_claims(keys, granted, time_seen=0)))}.{_signature}", granted, keys))  # fmt: skip
    v.answer(
        "forged-answer-high-s", 8, "S is below the order of the group.", forged, data=body(high_s(said), granted, keys)
    )
    v.answer(
        "forged-answer-small-order",
        8,
        "A key of small order fits every message, and is none.",
        forged,
        data=body(small_order(keys, granted), granted, keys),
    )
    v.answer("forged-answer-small-r", 8, "R is no point of small order: a device that signs so could give one signature to many messages.", forged,
             data=body(small_r(said, DEVICE), granted, keys))  # fmt: skip


def small_r(compact: str, signer: PrivateKey) -> str:
    """The message, signed with the neutral element as R: S is the hash times the secret scalar."""
    signed_part, _dot, _signature = compact.rpartition(".")
    neutral = b"\x01" + b"\0" * 31
    expanded = bytearray(hashlib.sha512(signer.seed()).digest()[:32])
    expanded[0] &= 248
    expanded[31] = expanded[31] & 63 | 64
    message = neutral + base64.urlsafe_b64decode(signer.public.x + "=") + signed_part.encode()
    factor = int.from_bytes(hashlib.sha512(message).digest(), "little")
    scalar = factor * int.from_bytes(expanded, "little") % ORDER
    return f"{signed_part}.{encode_base64url(neutral + scalar.to_bytes(32, 'little'))}"


def high_s(compact: str) -> str:
    """The same signature, with the order of the group added to S."""
    signed_part, _dot, signature = compact.rpartition(".")
    data = base64.urlsafe_b64decode(signature + "==")
    raised = int.from_bytes(data[32:], "little") + ORDER
    return f"{signed_part}.{encode_base64url(data[:32] + raised.to_bytes(32, 'little'))}"


def small_order(keys: str, granted: str) -> str:
    """An answer by the neutral element: R is the neutral element, and S is 0."""
    neutral = PublicKey(encode_base64url(b"\x01" + b"\0" * 31))
    header = {"alg": "EdDSA", "typ": "tally-answer+jwt", "jwk": neutral.jwk}
    claims = answer_claims(keys, granted, iss=neutral.thumbprint)
    signature = b"\x01" + b"\0" * 63
    return f"{encode_base64url(dump(header))}.{encode_base64url(dump(claims))}.{encode_base64url(signature)}"


def issuers(v: Vectors) -> None:
    """Steps 9 and 10."""
    other, forged = "other-issuer", "keys-forged"
    attacker = keyset(OTHER_ROOT, keys=[signing_key(NEXT_SIGNING)])
    v.answer(
        "other-issuer",
        9,
        "The whole attack: a keyset and a grant of one's own, by whatever name.",
        other,
        keys=attacker,
        granted=grant(NEXT_SIGNING),
    )
    v.answer(
        "other-issuer-without-a-grant",
        9,
        "The keyset of somebody else, and nothing granted.",
        other,
        keys=keyset(OTHER_ROOT),
        granted=None,
    )
    v.answer(
        "other-issuer-in-small-letters",
        9,
        "Fingerprints are compared symbol by symbol.",
        other,
        roots=[ROOT.public.thumbprint[0].swapcase() + ROOT.public.thumbprint[1:]],
    )
    v.answer("other-issuer-signed-by-none", 9, "A foreign keyset that is forged as well: the first that fails is the result.", other,
             keys=keyset(OTHER_ROOT, NEXT_ROOT))  # fmt: skip
    v.answer("other-issuer-lists-the-root", 9, "The vendor's root among the signing keys of somebody else's keyset.", other,
             keys=keyset(OTHER_ROOT, keys=[signing_key(ROOT), signing_key()]))  # fmt: skip
    v.answer("other-issuer-successor-only", 9, "The program names a root that this one was handed over to later: its keyset is needed.", other,
             roots=[NEXT_ROOT.public.thumbprint])  # fmt: skip
    handed = keyset(NEXT_ROOT, handovers=[handover()])
    v.answer("licensed-handed-over", 10, "The root that the program names was handed over.", "licensed", keys=handed)
    v.answer(
        "licensed-handed-over-to-the-named",
        9,
        "The program names the next root.",
        "licensed",
        keys=handed,
        roots=[NEXT_ROOT.public.thumbprint],
    )
    v.answer("licensed-while-handed-over", 9, "The program names both roots, and the keyset is of the first.", "licensed",
             roots=[NEXT_ROOT.public.thumbprint, ROOT.public.thumbprint])  # fmt: skip
    twice = [handover(version=3), handover(NEXT_ROOT, LAST_ROOT, version=4)]
    v.answer(
        "licensed-handed-over-twice",
        10,
        "Two hand-overs, and the program names the first root.",
        "licensed",
        keys=keyset(LAST_ROOT, handovers=twice),
    )
    v.answer("licensed-handed-over-in-the-middle", 10, "Two hand-overs, and the program names the second root.", "licensed",
             keys=keyset(LAST_ROOT, handovers=twice), roots=[NEXT_ROOT.public.thumbprint])  # fmt: skip
    v.answer("licensed-handed-over-at-this-version", 10, "The last hand-over is not above the keyset's version.", "licensed",
             keys=keyset(NEXT_ROOT, handovers=[handover(version=5)]))  # fmt: skip
    escaped = dump(keyset_claims(NEXT_ROOT, handovers=[handover()])).replace(
        b'"handovers":["ey', b'"handovers":["\\u0065\\u0079'
    )
    v.answer(
        "licensed-handed-over-escaped",
        10,
        "A hand-over is a text, which may be written with escapes.",
        "licensed",
        keys=NEXT_ROOT.sign("tally-keys+jwt", escaped),
    )
    chain = [key(f"root {number}") for number in range(17)]
    sixteen = [handover(chain[place], chain[place + 1], version=place + 1) for place in range(16)]
    v.answer("licensed-handed-over-16-times", 10, "Sixteen hand-overs.", "licensed",
             keys=keyset(chain[16], version=17, handovers=sixteen), roots=[chain[0].public.thumbprint])  # fmt: skip
    keys = keyset()
    head, payload, _signature = keys.split(".")
    bad = {
        "signature": (f"{head}.{payload}.{encode_base64url(sign(OTHER_ROOT, f'{head}.{payload}'.encode()))}", "The signature is not the root's."),
        "kid": (raw({"alg": "EdDSA", "typ": "tally-keys+jwt", "kid": OTHER_ROOT.public.thumbprint}, dump(keyset_claims()), ROOT), "`kid` is not the root's."),
        "signed-by-another": (keyset(ROOT, OTHER_ROOT), "Another key says that it speaks for the root."),
        "signed-by-a-signing-key": (keyset(ROOT, SIGNING), "A signing key signs no keysets."),
        "high-s": (high_s(keys), "S is below the order of the group."),
        "small-r": (small_r(keys, ROOT), "R is no point of small order."),
        "claims": (f"{head}.{encode_base64url(dump(keyset_claims(keys=[signing_key(NEXT_SIGNING)])))}.{_signature}", "Other keys under the old signature."),
        "handover-by-the-successor": (keyset(NEXT_ROOT, handovers=[handover(signer=NEXT_ROOT)]), "A hand-over is signed by the root that is given up."),
        "handover-signature": (keyset(NEXT_ROOT, handovers=[torn(handover())]), "The signature of a hand-over fits."),
        "handover-to-itself": (keyset(ROOT, handovers=[handover(ROOT, ROOT)]), "The successor is another root."),
        "handover-of-another-issuer": (keyset(NEXT_ROOT, handovers=[handover(iss="Somebody Else")]), "Hand-overs are of the keyset's issuer."),
        "handover-to-another-root": (keyset(NEXT_ROOT, handovers=[handover(successor=LAST_ROOT)]), "The last successor is the keyset's root."),
        "handover-to-nobody": (keyset(LAST_ROOT, handovers=[handover(), handover(OTHER_ROOT, LAST_ROOT, version=5)]), "A successor is the root of the next hand-over."),
        "handovers-swapped": (keyset(LAST_ROOT, handovers=[handover(NEXT_ROOT, LAST_ROOT, version=3), handover(version=4)]), "Oldest first."),
        "handovers-same-version": (keyset(LAST_ROOT, handovers=[handover(version=4), handover(NEXT_ROOT, LAST_ROOT, version=4)]), "Versions rise."),
        "handovers-falling": (keyset(LAST_ROOT, handovers=[handover(version=5), handover(NEXT_ROOT, LAST_ROOT, version=4)]), "Versions rise."),
        "handover-later-than-the-keyset": (keyset(NEXT_ROOT, handovers=[handover(version=6)]), "The last hand-over is not above the keyset's version."),
        "handover-by-the-attacker": (keyset(OTHER_ROOT, handovers=[handover(ROOT, OTHER_ROOT, OTHER_ROOT)], keys=[signing_key(NEXT_SIGNING)]),
            "The attack by a hand-over that the named root never signed."),
    }  # fmt: skip
    for what, (line, says) in bad.items():
        v.answer(f"forged-keys-{what}", 10, says, forged, keys=line)


def torn(compact: str) -> str:
    """The envelope with another bit in its signature."""
    signed_part, _dot, signature = compact.rpartition(".")
    return f"{signed_part}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"


def grants(v: Vectors) -> None:
    """Steps 11 to 16."""
    none, forged, older = "not-licensed", "grant-forged", "older-grant"
    v.answer(
        "not-licensed-nothing-known", 11, "The agent knows no activation server yet.", none, keys=None, granted=None
    )
    v.answer("not-licensed-no-grant", 11, "A keyset, and nothing granted.", none, granted=None)
    v.answer("forged-grant-signature", 12, "The signature does not fit.", forged, granted=torn(grant()))
    v.answer(
        "forged-grant-unknown-key",
        12,
        "Signed by a key that the keyset does not list.",
        forged,
        granted=grant(NEXT_SIGNING),
    )
    v.answer(
        "forged-grant-by-the-root",
        12,
        "The root is no signing key unless the keyset lists it.",
        forged,
        granted=grant(ROOT),
    )
    v.answer(
        "licensed-by-the-root-if-listed",
        12,
        "The root is one where the keyset lists it.",
        "licensed",
        keys=keyset(keys=[signing_key(ROOT)]),
        granted=grant(ROOT),
    )
    v.answer("forged-grant-by-the-device", 12, "Signed by the device itself.", forged, granted=grant(DEVICE))
    names = raw(
        {"alg": "EdDSA", "typ": "tally-grant+jwt", "kid": SIGNING.public.thumbprint}, dump(grant_claims()), NEXT_SIGNING
    )
    v.answer(
        "forged-grant-in-its-name", 12, "It names a key of the keyset, and another one signed.", forged, granted=names
    )
    v.answer("forged-grant-swapped-keys", 12, "Of two keys of the keyset, it names one, and the other signed.", forged, granted=names,
             keys=keyset(keys=[signing_key(), signing_key(NEXT_SIGNING)]))  # fmt: skip
    v.answer("forged-grant-issuer", 12, "Of another issuer.", forged, granted=grant(iss="Somebody Else"))
    v.answer(
        "forged-grant-too-early",
        12,
        "Issued before its key was valid.",
        forged,
        keys=keyset(keys=[signing_key(valid_from=START + 1)]),
    )
    v.answer(
        "forged-grant-too-late",
        12,
        "Issued when its key was over.",
        forged,
        keys=keyset(keys=[signing_key(valid_until=START)]),
    )
    v.answer("forged-grant-small-r", 12, "R is no point of small order.", forged, granted=small_r(grant(), SIGNING))
    v.answer("forged-grant-high-s", 12, "S is below the order of the group.", forged, granted=high_s(grant()))
    v.answer(
        "other-device",
        13,
        "The grant of another field server.",
        "other-device",
        granted=grant(sub=OTHER_DEVICE.public.thumbprint),
    )
    v.answer("other-device-answers", 13, "Another device answers with the grant of this one.", "other-device", signer=OTHER_DEVICE,
             iss=OTHER_DEVICE.public.thumbprint, remembers=memory(1, 1, 5), afterwards=memory(1, 1, 5))  # fmt: skip
    v.answer(
        "older-grant-epoch", 14, "The agent is in a later epoch: what was granted before was given up.", older, epoch=4
    )
    v.answer("older-grant-later-epoch", 14, "A grant of a later epoch than the agent's.", older, epoch=2)
    v.answer("older-grant-number", 14, "The program has seen a newer grant of this device.", older, remembers=memory(3, 8, START),
             afterwards=memory(3, 8, START))  # fmt: skip
    v.answer("older-grant-remembered-epoch", 14, "The program has seen a grant of a later epoch.", older, remembers=memory(4, 1, START),
             afterwards=memory(4, 1, START))  # fmt: skip
    v.answer(
        "licensed-same-grant",
        14,
        "The grant that the program remembers.",
        "licensed",
        remembers=memory(3, 7, START),
        afterwards=memory(3, 7, START + 100),
    )
    v.answer(
        "licensed-newer-grant",
        14,
        "A newer one.",
        "licensed",
        remembers=memory(3, 6, START + 10**6),
        afterwards=memory(3, 7, START + 100),
    )
    v.answer(
        "licensed-newer-epoch",
        14,
        "A lower number in a higher epoch is newer.",
        "licensed",
        remembers=memory(2, 9, START),
        afterwards=memory(3, 7, START + 100),
    )
    v.answer("licensed-other-device-remembered", 14, "What is remembered is of another device, and forgotten.", "licensed",
             remembers=memory(9, 9, START + 10**6, OTHER_DEVICE), afterwards=memory(3, 7, START + 100))  # fmt: skip
    ending = grant(licenses=[license_claim(expires=START + 1000)])
    v.answer(
        "expired", 15, "At the very moment that it ends, it is over.", "expired", granted=ending, time_seen=START + 1000
    )
    v.answer(
        "licensed-last-moment",
        15,
        "A second before, it is not.",
        "licensed",
        granted=ending,
        time_seen=START + 999,
        activated=10,
    )
    v.answer(
        "expired-by-the-clock",
        15,
        "The agent's clock is later than what it has seen.",
        "expired",
        granted=ending,
        iat=START + 1000,
    )
    v.answer(
        "expired-clock-of-1970",
        15,
        "A clock that was set back gains nothing.",
        "expired",
        granted=ending,
        iat=0,
        time_seen=START + 1000,
    )
    v.answer(
        "expired-clock-of-2106", 15, "A clock that jumped ahead.", "expired", granted=ending, iat=2**32, time_seen=START
    )
    v.answer("licensed-clock-of-2106", 15, "A license without an end does not mind.", "licensed", iat=2**32 + 1)
    v.answer("licensed-clock-before-1970", 15, "Nor a clock before 1970.", "licensed", iat=-1, time_seen=-BIGGEST)
    v.answer("expired-as-remembered", 15, "The program remembers a later moment with this very grant.", "expired", granted=ending,
             remembers=memory(3, 7, START + 1000), afterwards=memory(3, 7, START + 1000))  # fmt: skip
    v.answer("licensed-healed", 15, "A newer grant heals a clock that had jumped ahead.", "licensed", granted=ending,
             remembers=memory(3, 6, 2**32), afterwards=memory(3, 7, START + 100))  # fmt: skip
    v.answer(
        "not-licensed-other-feature",
        15,
        "No license has the feature.",
        none,
        granted=grant(licenses=[license_claim(features={"reports": 1})]),
        activated=0,
    )
    v.answer(
        "not-licensed-no-licenses",
        15,
        "A grant of nothing.",
        none,
        granted=grant(licenses=[]),
        afterwards=memory(3, 7, START + 100),
    )
    v.answer(
        "not-licensed-features-case",
        15,
        "Names of features are compared symbol by symbol.",
        none,
        granted=grant(licenses=[license_claim(features={FEATURE.upper(): 1})]),
    )
    v.answer(
        "not-licensed-none-required",
        15,
        "With 0 required, none is still none.",
        none,
        required=0,
        granted=grant(licenses=[]),
    )
    v.answer("too-few", 16, "One more is required than there are.", "too-few", required=11, activated=10)
    v.answer("too-few-one-is-over", 16, "What is over does not count.", "too-few", required=4, activated=3, granted=grant(
        licenses=[license_claim(expires=START), license_claim(line="D0R2X5YV", quantity=1, features={FEATURE: 3})]))  # fmt: skip


def files(v: Vectors) -> None:
    """Without an agent: the golden files, as the activation server wrote them once and for ever."""

    def line(name: str, typ: str) -> bytes:
        found = [row for row in (GOLDEN / name).read_bytes().split(b"\n") if row and open_envelope(row).typ == typ]
        return found[0] + b"\n"

    first, second, third = (line(f"keys-{number}.tally", "tally-keys+jwt") for number in (1, 2, 3))
    granted = line("returns-01-activate.reply.tally", "tally-grant+jwt")
    claims = json.loads(open_envelope(granted.strip()).payload)
    roots = {number: open_envelope(keys.strip()).kid or "" for number, keys in ((1, first), (2, second), (3, third))}
    here: Json = {"device": claims["sub"], "now": START + 200, "feature": "smartdriver", "roots": [roots[1]]}
    for number, keys in ((1, first), (2, second), (3, third)):
        v.files(f"files-golden-keys-{number}", 16, f"The golden grant under the golden keyset {number}, by the first root.", "licensed",
                keys=keys, granted=granted, required=2, activated=2, **here)  # fmt: skip
    v.files(
        "files-golden-next-root",
        9,
        "The root after the hand-over is named.",
        "licensed",
        keys=third,
        granted=granted,
        **(here | {"roots": [roots[3]]}),
    )
    v.files(
        "files-golden-other-issuer",
        9,
        "Another root is named.",
        "other-issuer",
        keys=third,
        granted=granted,
        **(here | {"roots": [ROOT.public.thumbprint]}),
    )
    v.files(
        "files-golden-other-device",
        13,
        "On another device.",
        "other-device",
        keys=first,
        granted=granted,
        **(here | {"device": DEVICE.public.thumbprint}),
    )
    v.files(
        "files-golden-too-few", 16, "Too few.", "too-few", keys=first, granted=granted, required=3, activated=2, **here
    )
    v.files("files-golden-in-force", 15, "A second before the end.", "licensed", keys=first, granted=granted, activated=10,
            **(here | {"feature": "connected-devices", "now": 1_899_999_999}))  # fmt: skip
    v.files(
        "files-golden-expired",
        15,
        "At the end.",
        "expired",
        keys=first,
        granted=granted,
        **(here | {"feature": "connected-devices", "now": 1_900_000_000}),
    )
    v.files("files-golden-no-grant", 11, "No grant.", "not-licensed", keys=first, granted=None, **here)
    v.files(
        "files-golden-no-keys", 6, "A grant without a keyset.", "answer-malformed", keys=None, granted=granted, **here
    )
    v.files("files-golden-nothing", 11, "Nothing at all.", "not-licensed", keys=None, granted=None, **here)
    v.files(
        "files-golden-swapped",
        6,
        "The keyset in the place of the grant.",
        "answer-malformed",
        keys=granted,
        granted=first,
        **here,
    )
    v.files(
        "files-golden-two-grants",
        6,
        "Two envelopes in one file.",
        "answer-malformed",
        keys=first,
        granted=granted + granted,
        **here,
    )
    v.files(
        "files-golden-comments",
        6,
        "What is for people is passed over.",
        "licensed",
        keys=b"# keys\r\n\r\n" + first,
        granted=b"\xef\xbb\xbf \t" + granted,
        **here,
    )
    v.files("files-golden-cut", 6, "Half a grant.", "answer-malformed", keys=first, granted=granted[:300], **here)
    v.files(
        "files-wrong-device",
        1,
        "A device id is 43 symbols.",
        "check-wrong",
        keys=first,
        granted=granted,
        **(here | {"device": "here"}),
    )
    v.files(
        "files-wrong-time",
        1,
        "A time is below 2^53.",
        "check-wrong",
        keys=first,
        granted=granted,
        **(here | {"now": 2**53}),
    )
    v.files(
        "files-golden-last-time",
        15,
        "The highest time that there is: what has no end is in force.",
        "licensed",
        keys=first,
        granted=granted,
        **(here | {"now": 2**53 - 1}),
    )
    refused = line("refusals-02-denied.reply.tally", "tally-refusal+jwt")
    v.files(
        "files-golden-refusal", 6, "A refusal is no grant.", "answer-malformed", keys=first, granted=refused, **here
    )
    certificate = line("entitlement.tally", "tally-entitlement+jwt")
    v.files(
        "files-golden-certificate",
        6,
        "A certificate of what was bought is no grant.",
        "answer-malformed",
        keys=first,
        granted=certificate,
        **here,
    )


def sockets(v: Vectors) -> None:
    """Steps 2 to 6, before there is anything to be read. What is written does not depend on what was asked."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-tally\r\n"
    v.socket("socket-nobody", 2, "Nobody listens.", "agent-absent", reply=None, then="absent")
    v.socket(
        "socket-silent", 3, "The connection is taken, and nothing is said.", "agent-silent", reply=b"", then="silent"
    )
    v.socket("socket-silent-head", 3, "Half a head.", "agent-silent", reply=head, then="silent")
    v.socket(
        "socket-silent-body",
        3,
        "Half a body.",
        "agent-silent",
        reply=head + b"content-length: 100\r\n\r\n# wait",
        then="silent",
    )
    v.socket(
        "socket-closed",
        6,
        "The connection is closed, and nothing was said.",
        "answer-malformed",
        reply=b"",
        then="close",
    )
    v.socket("socket-closed-head", 6, "Half a head.", "answer-malformed", reply=head, then="close")
    v.socket(
        "socket-cut",
        6,
        "The body is cut.",
        "answer-malformed",
        reply=head + b"content-length: 100\r\n\r\n# cut\n",
        then="close",
    )
    for status in (
        b"400 Bad Request",
        b"404 Not Found",
        b"500 Internal Server Error",
        b"204 No Content",
        b"301 Moved Permanently",
    ):
        v.socket(f"socket-status-{status[:3].decode()}", 4, "Another status than 200.", "agent-refused",
                 reply=b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n", then="close")  # fmt: skip
    v.socket(
        "socket-too-large",
        5,
        "One byte above the limit is refused before it is read.",
        "answer-too-large",
        reply=head + b"content-length: 204801\r\n\r\n",
        then="silent",
    )
    v.socket(
        "socket-gigabyte",
        5,
        "A gigabyte.",
        "answer-too-large",
        reply=head + b"content-length: 1073741824\r\n\r\n",
        then="silent",
    )
    v.socket(
        "socket-far-too-large",
        5,
        "More than 64 bits.",
        "answer-too-large",
        reply=head + b"content-length: 36893488147419103232\r\n\r\n",
        then="silent",
    )
    v.socket("socket-no-length", 6, "No content-length.", "answer-malformed", reply=head + b"\r\n", then="close")
    v.socket(
        "socket-chunked",
        6,
        "Chunks are no content-length.",
        "answer-malformed",
        reply=head + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        then="close",
    )
    v.socket(
        "socket-length-minus",
        6,
        "A content-length that is no number.",
        "answer-malformed",
        reply=head + b"content-length: -1\r\n\r\n",
        then="close",
    )
    v.socket(
        "socket-not-http", 6, "No HTTP.", "answer-malformed", reply=b"licensed\r\n\r\nlicensed\r\n\r\n", then="close"
    )
    v.socket(
        "socket-comments-only",
        6,
        "A whole body with nothing in it.",
        "answer-malformed",
        reply=head + b"Content-Length: 12\r\n\r\n# licensed\r\n",
        then="close",
    )


def heads(v: Vectors) -> None:
    """Steps 4 to 7: a whole answer, that of an earlier question, behind heads that are none, or just are."""
    whole = body(answer(keyset(), grant()), grant(), keyset())
    length = b"content-length: %d\r\n" % len(whole)
    first = b"HTTP/1.1 200 OK\r\n"
    fill = 4096 - len(first + length) - len(b"x: \r\n\r\n")
    replies: dict[str, tuple[str, bytes, str]] = {
        "replayed": ("answer-differs", first + length + b"\r\n" + whole, "An answer to an earlier question."),
        "replayed-http-1-0": ("answer-differs", b"HTTP/1.0 200\r\nCONTENT-LENGTH:\t%d \r\n\r\n" % len(whole) + whole, "In other words of HTTP."),
        "more-behind": ("answer-differs", first + length + b"\r\n" + whole + b"licensed", "What stands behind the answer is not looked at."),
        "head-of-4096": ("answer-differs", first + length + b"x: " + b"y" * fill + b"\r\n\r\n" + whole, "A head of 4,096 bytes."),
        "head-of-4097": ("answer-malformed", first + length + b"x: " + b"y" * fill + b"y\r\n\r\n" + whole, "A head of 4,097 bytes."),
        "length-twice": ("answer-malformed", first + length * 2 + b"\r\n" + whole, "Two lengths are none, even the same."),
        "length-and-chunked": ("answer-malformed", first + length + b"Transfer-Encoding: a\rb\r\n\r\n" + whole, "Chunked, and a length."),
        "length-empty": ("answer-malformed", first + b"content-length:\r\n\r\n" + whole, "A length that says nothing."),
        "length-a-word-and-a-number": ("answer-malformed", first + b"content-length: x\r\n" + length + b"\r\n" + whole, "Two lengths, of which one counts."),
        "length-behind-a-line-feed": ("answer-malformed", first + b"x: y\n" + length + b"\r\n" + whole, "Lines of a head end with CR LF."),
        "length-of-4000-digits": ("answer-too-large", first + b"content-length: " + b"9" * 4000 + b"\r\n\r\n", "A length without end."),
        "status-and-cr": ("answer-malformed", b"HTTP/1.1 200\rOK\r\n" + length + b"\r\n" + whole, "A status ends with a space or the line."),
        "status-of-4-digits": ("answer-malformed", b"HTTP/1.1 2000 OK\r\n" + length + b"\r\n" + whole, "A status has three digits."),
        "http-2": ("answer-malformed", b"HTTP/2 200\r\n" + length + b"\r\n" + whole, "HTTP/1.0 or 1.1."),
        "continue": ("agent-refused", b"HTTP/1.1 100 Continue\r\n\r\n" + first + length + b"\r\n" + whole, "Nothing comes before the answer."),
    }  # fmt: skip
    steps = {"answer-differs": 7, "answer-malformed": 6, "answer-too-large": 5, "agent-refused": 4}
    for what, (code, reply, says) in replies.items():
        v.socket(f"socket-{what}", steps[code], says, code, reply=reply, then="close")


def vectors() -> Json:
    """All of them."""
    v = Vectors()
    for part in (licensed, envelopes_malformed, claims_malformed, answers, issuers, grants, files, sockets, heads):
        part(v)
    return {
        "format": "tallystick-check-vectors",
        "version": 1,
        "license": "Apache-2.0",
        "vectors": sorted(v.found, key=lambda vector: (vector["kind"], vector["step"])),
    }


def main() -> int:
    """Write, or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    text = json.dumps(vectors(), indent=1, ensure_ascii=True) + "\n"
    if options.check:
        if not FILE.exists() or FILE.read_text("utf-8") != text:
            print(f"{FILE.name} is not what tools/vectors.py writes", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text, "utf-8")
    print(f"{len(vectors()['vectors'])} vectors, {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
