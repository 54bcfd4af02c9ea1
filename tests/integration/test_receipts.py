"""Receipts: anyone can check a grant or a credit with the keyset and standard tools, without Tallystick.

Two JOSE libraries that Tallystick does not use, and the ``openssl`` command alone. None of these tests verifies with
Tallystick's own code.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import jwt
import pytest
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws

from support.activation import Bench, Device, TestSigner

SCRIPT = Path(__file__).parents[2] / "tools" / "verify-receipt.sh"


@dataclass
class Run:
    """What a customer has in hand after a run: the keyset, the receipts, and the fingerprint of the root."""

    keyset: str
    grant: str
    refusal: str
    credit: str
    fingerprint: str
    ledger: list

    @property
    def receipts(self) -> list[str]:
        return [self.grant, self.refusal, self.credit]


@pytest.fixture(scope="module")
def run() -> Run:
    bench = Bench()
    line = bench.buy(3)
    device = Device("a")
    _, grant = bench.grant(device.activate((line, 2)))
    device.take(grant)
    (refused,) = bench.post(device.activate((line, 9)))
    (credited,) = bench.post(device.relinquish())
    return Run(
        keyset=bench.signer.keyset.compact,
        grant=grant,
        refusal=refused.reply[0],
        credit=credited.reply[0],
        fingerprint=bench.signer.keyset.root_fingerprint,
        ledger=bench.store.transact(lambda tx: tx.find_entries(line.line_id)),
    )


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def header(compact: str) -> dict:
    return json.loads(decoded(compact.split(".", maxsplit=1)[0]))


def payload(compact: str) -> dict:
    return json.loads(decoded(compact.split(".")[1]))


def altered(compact: str) -> str:
    """The same with one symbol of the payload changed."""
    head, body, signature = compact.split(".")
    return f"{head}.{body[:20]}{'A' if body[20] != 'A' else 'B'}{body[21:]}.{signature}"


def thumbprint(key: dict) -> str:
    text = json.dumps({name: key[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def key_for(compact: str, keys: dict) -> dict:
    """The key of a keyset that the header of a receipt names."""
    (found,) = [entry["jwk"] for entry in keys["keys"] if thumbprint(entry["jwk"]) == header(compact)["kid"]]
    return found


# jwcrypto


def check_with_jwcrypto(compact: str, key: dict) -> dict:
    token = jwcrypto_jws.JWS()
    token.deserialize(compact, key=jwcrypto_jwk.JWK(**key), alg="EdDSA")
    return json.loads(token.payload)


def test_jwcrypto_verifies_the_keyset_by_its_root_and_the_receipts_by_the_keyset(run):
    root = payload(run.keyset)["root"]
    assert jwcrypto_jwk.JWK(**root).thumbprint() == run.fingerprint
    keys = check_with_jwcrypto(run.keyset, root)
    for compact in run.receipts:
        assert check_with_jwcrypto(compact, key_for(compact, keys)) == payload(compact)
        with pytest.raises(jwcrypto_jws.InvalidJWSSignature):
            check_with_jwcrypto(altered(compact), key_for(compact, keys))
        with pytest.raises(jwcrypto_jws.InvalidJWSSignature):
            check_with_jwcrypto(compact, root)


# PyJWT


def check_with_pyjwt(compact: str, key: dict) -> dict:
    # Its clock has no say: a receipt is as good in ten years as it is today.
    return jwt.decode(compact, jwt.PyJWK(key, algorithm="EdDSA"), algorithms=["EdDSA"], options={"verify_iat": False})


def test_pyjwt_verifies_the_keyset_by_its_root_and_the_receipts_by_the_keyset(run):
    root = payload(run.keyset)["root"]
    assert thumbprint(root) == run.fingerprint
    keys = check_with_pyjwt(run.keyset, root)
    for compact in run.receipts:
        assert check_with_pyjwt(compact, key_for(compact, keys)) == payload(compact)
        with pytest.raises(jwt.InvalidTokenError):
            check_with_pyjwt(altered(compact), key_for(compact, keys))
        with pytest.raises(jwt.InvalidSignatureError):
            check_with_pyjwt(compact, root)


# What they say


def test_a_receipt_says_by_its_typ_what_it_is(run):
    assert [header(compact)["typ"] for compact in run.receipts] == [
        "tally-grant+jwt",
        "tally-refusal+jwt",
        "tally-credit+jwt",
    ]
    assert all(set(header(compact)) == {"alg", "typ", "kid"} for compact in run.receipts)


def test_a_credit_can_be_checked_against_the_ledger_by_anyone(run):
    """As docs/receipts.md says how: the chain is SHA-256 over the fields, joined by the unit separator."""
    chain = ""
    for entry in run.ledger:
        fields = [chain, entry.line_id, entry.number, entry.source.value, entry.target.value, entry.quantity]
        fields += [entry.device_id or "", entry.cause, entry.booked_at]
        chain = hashlib.sha256("\x1f".join(map(str, fields)).encode()).hexdigest()
        assert chain == entry.chain
    (named,) = payload(run.credit)["entries"]
    entry = run.ledger[named["number"] - 1]
    assert (named["chain"], named["quantity"]) == (entry.chain, entry.quantity)
    assert (named["source"], named["target"]) == ("held", "available")


# openssl


def verify(tmp_path, keyset: str, receipts: list[str], fingerprint: str) -> subprocess.CompletedProcess[str]:
    keys, file = tmp_path / "keys.tally", tmp_path / "receipt.tally"
    keys.write_bytes(b"\xef\xbb\xbf# keys of the activation server\r\n" + keyset.encode() + b"\r\n")
    file.write_text("# receipts\n\n" + "\n".join(receipts))
    return subprocess.run([SCRIPT, keys, file, fingerprint], capture_output=True, text=True, check=False)


def test_openssl_alone_verifies_the_keyset_by_its_root_and_the_receipts_by_the_keyset(run, tmp_path):
    done = verify(tmp_path, run.keyset, run.receipts, run.fingerprint)
    assert (done.returncode, done.stderr) == (0, "")
    printed = done.stdout.splitlines()
    assert printed[0] == f"keyset: signed by root {run.fingerprint}"
    for compact, place in zip(run.receipts, (1, 4, 7), strict=True):
        assert printed[place] == f"{header(compact)['typ']}: signed by key {header(compact)['kid']}"
        digest = base64.urlsafe_b64encode(hashlib.sha256(compact.encode()).digest()).decode().rstrip("=")
        assert printed[place + 1] == f"digest: {digest}"
        assert json.loads(printed[place + 2]) == payload(compact)


def test_openssl_refuses_what_was_altered_and_what_is_signed_by_others(run, tmp_path):
    stranger = TestSigner("stranger")
    forged = stranger.sign("tally-credit+jwt", b"{}")
    signed_by_root = TestSigner().root.sign("tally-credit+jwt", b"{}")
    other_root = stranger.keyset
    for keyset, receipts, fingerprint, said in (
        (run.keyset, [altered(run.credit)], run.fingerprint, "the signature does not fit"),
        (run.keyset, [run.grant, altered(run.credit)], run.fingerprint, "the signature does not fit"),
        (run.keyset, [forged], run.fingerprint, "is not in the keyset"),
        (run.keyset, [signed_by_root], run.fingerprint, "is not in the keyset"),
        (run.keyset, [], run.fingerprint, "no receipt"),
        (run.keyset, [run.keyset], run.fingerprint, "no receipt"),
        (run.grant, [run.credit], run.fingerprint, "no keyset"),
        (altered(run.keyset), [run.credit], run.fingerprint, ""),
        (other_root.compact, [forged], run.fingerprint, "not " + run.fingerprint),
        (run.keyset, [run.credit], other_root.root_fingerprint, "not " + other_root.root_fingerprint),
        (run.keyset[:-3] + "AAA", [run.credit], run.fingerprint, ""),
    ):
        done = verify(tmp_path, keyset, receipts, fingerprint)
        assert done.returncode == 1, done
        assert "NOT VERIFIED" in done.stderr
        assert said in done.stderr


def test_the_script_says_how_it_is_used():
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
