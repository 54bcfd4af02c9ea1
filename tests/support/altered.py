"""Answers that somebody altered, with and without the keys: each as a vector, with what the Python reader makes of it.

By count and by seed, never by time: the same number is the same answer on every machine.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from support.answers import GOOD, LAST, NEXT, NOW, OTHER, Case
from tallystick.conformance.vectors import Json, Vector
from tallystick.protocol.answers import ANSWER, Reader
from tallystick.protocol.envelope import (
    PrivateKey,
    PublicKey,
    Unverified,
    digest_of,
    encode_base64url,
    open_envelope,
    parse_json,
)
from tallystick.protocol.messages import GRANT, KEYS
from tallystick.protocol.problems import WireError

_KEYS: Final = {key.public: key for key in (GOOD.root, GOOD.signer, GOOD.device, OTHER, NEXT, LAST)}
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9]+|true|false|null|[][{}:,]')
_VALUES: Final = (
    *(b"null", b"true", b"false", b"[]", b"{}", b"0", b"-0", b"1", b"-1", b"00", b"+1", b"1.0", b"1e0", b"1E+2", b"1e999"),
    *(b"NaN", b"Infinity", b"-", b"0x10", b"9007199254740991", b"9007199254740992", b"-9007199254740991"),
    *(b"-9007199254740992", b"18446744073709551617", b"9" * 400, b"1900000000", b"4294967296", b"-62135596801"),
    *(b'""', b'" "', b'"\\u0000"', b'"\x00"', b'"\x7f"', b'"\\u007f"', b'"\xc2\x80"', b'"\xc2\x85"', b'"\xe2\x80\xa8"'),
    *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\ud83d\\udce3"', b'"\xed\xa0\x80"', b'"\xff"', b'"\xc0\x80"', b'"\xc3"'),
    *(b'"\xef\xbb\xbf"', b'"\xf4\x90\x80\x80"', b'"\\x41"', b'"\\u12"', b'"\\', b'"' + b"a" * 64 + b'"', b'"' + b"a" * 65 + b'"'),
    *(b'"' + b"a" * 129 + b'"', b'"' + "\N{CHEERING MEGAPHONE}".encode() * 128 + b'"', b'"' + b"A" * 43 + b'"'),
    *(b"[" * 60 + b"]" * 60, b"[" * 70 + b"]" * 70, b"[" * 3000, b'{"a":' * 70 + b"1" + b"}" * 70, b'{"a":1,"\\u0061":2}'),
)  # fmt: skip
_BETWEEN: Final = (
    b" ",
    b"\n",
    b"\r\n\t",
    b"\x00",
    b"\x0b",
    b"\x0c",
    b"\xc2\xa0",
    b"\xef\xbb\xbf",
    b",",
    b"/**/",
    b"#",
    b"\\",
    b"}",
)
_LINES: Final = (
    *(b"\n", b"\r\n", b" ", b"\t", b"\r", b"# more\n", b"\x00", b"\x0b", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"),
    *(b"> ", b">", b"=", b"=\n", b"PK\x03\x04", b"PK\x03\x04\n", b"\x1f\x8b\x08\n", b"\xff\xfe", b"\xfe\xff", b"\xa0", b"\xc2\xa0"),
    *(b"From: a@b\n", b"#" * 70_000 + b"\n", b" " * 66_000, b"A" * 65_537 + b"\n", b"."),
)  # fmt: skip


def altered_answers(cases: Sequence[Case], count: int, seed: str) -> list[Vector]:
    """As many vectors; each says what the Python reader decides, what it counts and what it remembers."""
    return [_vector(Random(f"{seed} {number}"), cases, f"{seed} {number}") for number in range(count)]


def _vector(random: Random, cases: Sequence[Case], name: str) -> Vector:
    case = random.choice(cases)
    data = _altered(random, case.body)
    reader = Reader(case.roots, remembered=case.remembered)
    verdict = reader.decide(case.question, data)
    fields: Json = {
        "name": name,
        "kind": "answer",
        "step": 0,
        "says": "",
        "roots": list(case.roots),
        "feature": case.question.feature,
        "required": case.question.required,
        "nonce": case.question.nonce,
        "answer": {"base64": base64.b64encode(data).decode()},
        "result": verdict.code,
        "activated": verdict.activated,
        "afterwards": _memory(reader.remembered),
    }
    if case.remembered is not None:
        fields["remembers"] = _memory(case.remembered)
    return Vector(fields)


def _memory(found: object) -> Json | None:
    return None if found is None else {name: getattr(found, name) for name in ("device", "epoch", "number", "moment")}


def _altered(random: Random, body: bytes) -> bytes:
    """Inside of envelopes first, signed anew by whoever signed them; then, now and then, outside."""
    lines = [line for line in body.split(b"\n") if line and not line.startswith(b"#")]
    try:
        opened = [open_envelope(line) for line in lines]
        if opened and random.random() < 0.8:
            place = random.randrange(len(opened))
            lines[place] = _envelope_altered(random, opened[place])
            if random.random() < 0.9:
                lines = _named_anew(lines)
            body = b"# For people.\n" + b"".join(line + b"\n" for line in lines)
            if random.random() < 0.8:
                return body
    except WireError:
        pass  # it was none before: other bytes will do
    return _bytes_altered(random, body)


def _envelope_altered(random: Random, opened: Unverified) -> bytes:
    header: bytes = base64.urlsafe_b64decode(opened.compact.split(".")[0] + "==")
    payload = opened.payload
    if opened.typ == KEYS and b"handovers" in payload and random.random() < 0.5:
        claims = json.loads(payload)
        inner = claims["handovers"]
        place = random.randrange(len(inner))
        inner[place] = _envelope_altered(random, open_envelope(inner[place].encode())).decode("latin-1")
        payload = json.dumps(claims).encode()
    elif random.random() < 0.25:
        header = _json_altered(random, header)
    else:
        payload = _json_altered(random, payload)
    return _signed_anew(opened, header, payload)


def _signed_anew(opened: Unverified, header: bytes, payload: bytes) -> bytes:
    keys: dict[str | PublicKey | None, PrivateKey] = {key.public.thumbprint: key for key in _KEYS.values()}
    key = keys.get(opened.kid) if opened.jwk is None else _KEYS.get(opened.jwk)
    signed = f"{encode_base64url(header)}.{encode_base64url(payload)}"
    return f"{signed}.{_signature(key or OTHER, signed)}".encode()


def _signature(key: PrivateKey, signed: str) -> str:
    return encode_base64url(key._sign(signed.encode()))  # any header, also one that nobody would make


def _named_anew(lines: list[bytes]) -> list[bytes]:
    """The answer names what comes behind it, whatever that is now."""
    try:
        answer = open_envelope(lines[0])
        claims = parse_json(answer.payload)
        kinds = [parse_json(base64.urlsafe_b64decode(line.split(b".")[0] + b"==")).get("typ") for line in lines[1:]]
    except (WireError, ValueError, AttributeError):
        return lines
    if answer.typ != ANSWER or not isinstance(claims, dict):
        return lines
    for kind, line in zip(kinds, lines[1:], strict=True):
        if kind in (GRANT, KEYS):  # not a set: it may be anything
            claims["grant" if kind == GRANT else "keys"] = digest_of(line.decode("latin-1"))
    header = base64.urlsafe_b64decode(answer.compact.split(".")[0] + "==")
    return [_signed_anew(answer, header, json.dumps(claims).encode()), *lines[1:]]


def _json_altered(random: Random, data: bytes) -> bytes:
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        tokens = list(_TOKEN.finditer(data))
        if not tokens:
            return data
        data = random.choice(_JSON_CHANGES)(random, data, tokens)
    return data


Tokens = list[re.Match[bytes]]


def _another_value(random: Random, data: bytes, tokens: Tokens) -> bytes:
    found = random.choice([one for one in tokens if one[0] not in b"[]{}:,"] or tokens)
    return data[: found.start()] + random.choice(_VALUES) + data[found.end() :]


def _more_between(random: Random, data: bytes, tokens: Tokens) -> bytes:
    place = random.choice(tokens).start()
    return data[:place] + random.choice(_BETWEEN) + data[place:]


def _an_escape(random: Random, data: bytes, tokens: Tokens) -> bytes:
    found = random.choice([one for one in tokens if one[0].startswith(b'"') and len(one[0]) > 2] or tokens)
    place = (
        random.randrange(found.start(), found.end())
        if len(found[0]) < 3
        else random.randrange(found.start() + 1, found.end() - 1)
    )
    return data[:place] + b"\\u%04x" % data[place] + data[place + 1 :]


def _a_member_twice(random: Random, data: bytes, tokens: Tokens) -> bytes:
    """One of the members of some object once more: as it is, as another value, or with a name of its own."""
    starts = [place for place, one in enumerate(tokens) if one[0] == b"{" and place + 3 < len(tokens)]
    if not starts:
        return data
    place = random.choice(starts)
    name = tokens[place + 1][0]
    if random.random() < 0.3 and len(name) > 2:
        name = b'"\\u%04x' % name[1] + name[2:]
    elif random.random() < 0.3:
        name = b'"x%d"' % random.randrange(9)
    value = random.choice((tokens[place + 3][0], random.choice(_VALUES)))
    at = tokens[place].end()
    return data[:at] + name + b":" + value + b"," + data[at:]


def _without_a_part(random: Random, data: bytes, tokens: Tokens) -> bytes:
    first = random.randrange(len(tokens))
    last = min(first + random.choice((0, 0, 3, 7)), len(tokens) - 1)
    return data[: tokens[first].start()] + data[tokens[last].end() :]


def _a_part_twice(random: Random, data: bytes, tokens: Tokens) -> bytes:
    first = random.randrange(len(tokens))
    last = min(first + random.choice((0, 3, 4, 20)), len(tokens) - 1)
    part = data[tokens[first].start() : tokens[last].end()]
    return data[: tokens[last].end()] + (b"," if random.random() < 0.5 else b"") + part + data[tokens[last].end() :]


def _number_moved(random: Random, data: bytes, tokens: Tokens) -> bytes:
    numbers = [one for one in tokens if one[0].lstrip(b"-").isdigit()]
    if not numbers:
        return data
    found = random.choice(numbers)
    moved = int(found[0]) + random.choice((-1, 1, -100, 100, 10**6, 10**9, -(10**9), 2**31))
    return data[: found.start()] + b"%d" % moved + data[found.end() :]


def _cut_or_longer(random: Random, data: bytes, _tokens: Tokens) -> bytes:
    if random.random() < 0.5:
        return data[: random.randrange(len(data))]
    return data + random.choice((b" ", b"\n", b"\x00", b"}", b"{}", b" 1", b"\xff", b" " * 40_000))


def _other_bytes(random: Random, data: bytes, _tokens: Tokens) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


_JSON_CHANGES: Final[tuple[Callable[[Random, bytes, Tokens], bytes], ...]] = (
    *(_another_value, _another_value, _more_between, _an_escape, _a_member_twice, _without_a_part, _a_part_twice),
    *(_number_moved, _number_moved, _cut_or_longer, _other_bytes),
)


def _bytes_altered(random: Random, body: bytes) -> bytes:
    changed = body
    for _ in range(random.choice((1, 1, 2, 3))):
        ends = [0, *(found.end() for found in re.finditer(rb"\n", changed)), len(changed)]
        match random.randrange(6):
            case 0:
                place = random.choice(ends)
                changed = changed[:place] + random.choice(_LINES) + changed[place:]
            case 1:
                place = max(0, random.choice(ends) - 1)
                changed = changed[:place] + random.choice(_LINES) + changed[place:]
            case 2:
                place = random.randrange(len(changed) + 1)
                changed = changed[:place] + bytes([random.randrange(256)]) + changed[place + random.randrange(2) :]
            case 3:
                changed = changed[: random.randrange(len(changed) + 1)]
            case 4:
                lines = changed.split(b"\n")
                random.shuffle(lines)
                changed = b"\n".join(lines)
            case _:
                lines = changed.split(b"\n")
                changed = b"\n".join([*lines[: random.randrange(len(lines))], *lines])
    return changed


def altered_files(cases: Sequence[Case], count: int, seed: str) -> list[Vector]:
    """Keysets and grants that were altered, as files without an agent. What comes out is not said."""
    return [_files(Random(f"files {one.name}"), one) for one in altered_answers(cases, count, seed)]


def _files(random: Random, vector: Vector) -> Vector:
    data = vector.content("answer") or b""
    lines = [line for line in data.split(b"\n") if line and not line.startswith(b"#")]
    keys, grant = (lines[-1:], lines[1:2]) if random.random() < 0.9 else (lines[:1], lines[-1:])
    kept = {name: vector.fields[name] for name in ("name", "step", "says", "roots", "feature", "required")}
    device = random.choice((*[GOOD.device.public.thumbprint] * 8, OTHER.public.thumbprint, "A" * 43, "x"))
    now = random.choice((NOW, NOW, NOW, 0, -1, 2**32, 2**53 - 1, -(2**53 - 1), 2**53, -(2**53)))
    files = {"keys": _file(random, keys), "grant": _file(random, grant)}
    return Vector({**kept, "kind": "files", "result": "", "device": device, "now": now, **files})


def _file(random: Random, lines: list[bytes]) -> Json | None:
    if random.random() < 0.05:
        return None
    before, behind = (
        random.choice((b"", b"# c\n", b"\n", b"\xef\xbb\xbf")),
        random.choice((b"", b"\n", b"\r\n", b"\n# c")),
    )
    return {"base64": base64.b64encode(before + b"\n".join(lines) + behind).decode()}


_STATUS: Final = (
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200\rx", b"HTTP/1.1 200 a\rb", b"HTTP/1.1 200 a\nb"),
    *(b"HTTP/1.1 200OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/2 200", b"HTTP/1.2 200 OK", b"http/1.1 200 OK", b" HTTP/1.1 200 OK"),
    *(b"HTTP/1.1 404 Not Found", b"HTTP/1.1 100 Continue", b"HTTP/1.1 2000", b"HTTP/1.1 20", b"HTTP/1.1 2x0 OK", b"HTTP/1.1 200 \xff", b"", b"\r"),
)  # fmt: skip
_FIELDS: Final = (
    *(b"content-type: application/x-tally", b"x: y", b"x", b":", b": 5", b"", b"\r", b"\n", b"x: a\rb", b"x: a\nb", b" folded", b"connection: close"),
    *(b"content-length", b"content-length:", b"content-length:x", b"content-length: 5", b"content-length: -1", b"content-length: +%d"),
    *(b"content-length: %d, %d", b"content-length: 0x10", b"content-length: 1_0", b"content-length: \xb2", b"content-length: \xd9\xa5"),
    *(b"content-length : %d", b" content-length: %d", b"x\ncontent-length: %d", b"x\rcontent-length: %d", b"content-length: %d\r", b"content-length: 00%d"),
    *(b"content-length: 36893488147419103232", b"content-length: " + b"9" * 4300, b"content-length: 204801", b"content-length: %d "),
    *(b"transfer-encoding: chunked", b"Transfer-Encoding:", b"transfer-encoding", b"transfer-encoding: a\rb", b"tran\xc5\xbffer-encoding: x"),
    *(b"x: " + b"y" * 4030, b"x: " + b"y" * 4095, b"x: " + b"y" * 8192),
)  # fmt: skip
_LENGTHS: Final = (b"content-length: %d", b"Content-Length:%d", b"CONTENT-LENGTH:\t %d\t", b"content-length: 0%d")


def altered_replies(body: bytes, count: int, seed: str) -> list[Vector]:
    """What an agent may write to a socket: heads of every kind before ``body``; then it closes. What comes out is not said."""
    return [_reply(Random(f"{seed} {number}"), body, f"{seed} {number}") for number in range(count)]


def _reply(random: Random, body: bytes, name: str) -> Vector:
    fields = [random.choice(_LENGTHS)] if random.random() < 0.9 else []
    fields += [random.choice(_FIELDS) for _ in range(random.choice((0, 0, 1, 1, 1, 2, 3)))]
    random.shuffle(fields)
    status = random.choice(_STATUS) if random.random() < 0.4 else b"HTTP/1.1 200 OK"
    head = b"\r\n".join([status, *fields]).replace(b"%d", b"%d" % len(body)) + b"\r\n"
    if random.random() < 0.2:  # at the limit of a head, and beyond it
        head += b"x: " + b"y" * (4096 - 7 - len(head) + random.choice((-1, 0, 1, 2))) + b"\r\n"
    head += b"\r\n" if random.random() < 0.95 else b"\n"
    data = head + body
    if random.random() < 0.2:
        data = random.choice((data[: random.randrange(len(data))], data + b"x", data + data, data[:-1]))
    fields_ = {"name": name, "kind": "socket", "step": 0, "says": "", "roots": [GOOD.root.public.thumbprint]}
    reply = {"reply": {"base64": base64.b64encode(data).decode()}, "then": "close"}
    return Vector({**fields_, "feature": "mqtt-client", "required": 2, "result": "", **reply})
