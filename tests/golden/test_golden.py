"""Wire files for ever: what was written once is read, answered and taken in the same way by today's code.

The files in ``v1`` and ``v2`` are never changed. If one of these tests fails, the code is wrong, not the file. One thing is
answered otherwise since revision 2, and must be: what comes after an epoch was raised or jumped by the activation
server. There, ``v1`` is what a field server must still take, and ``v2`` what is answered today.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tallystick.protocol import envelope, keys, messages, tallyfile
from tallystick.protocol.envelope import PublicKey
from tallystick.protocol.messages import CREDIT, ENTITLEMENT, GRANT, KEYS, REFUSAL, REQUEST

TOOL = Path(__file__).parents[2] / "tools" / "golden.py"
GOLDEN = Path(__file__).parent
FOLDER = GOLDEN / "v1"

spec = importlib.util.spec_from_file_location("golden_tool", TOOL)
assert spec is not None
assert spec.loader is not None
golden = importlib.util.module_from_spec(spec)
sys.modules["golden_tool"] = golden
spec.loader.exec_module(golden)

WORLD = json.loads((FOLDER / "world.json").read_text("utf-8"))
STEPS = sorted(f"{path.parent.name}/{path.stem}" for path in GOLDEN.glob("v[12]/*-[0-9][0-9]-*.json"))
STORIES = sorted({step.split("-")[0] for step in STEPS})
SINGLE = ["v1/keys-1", "v1/keys-2", "v1/keys-3", "v1/entitlement"]


def record(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


def lines(name: str) -> list[envelope.Unverified]:
    """The envelopes of a file; each of its lines must be one."""
    path = GOLDEN / f"{name}.tally"
    if not path.exists():
        return []
    found = list(tallyfile.parse_chunks([path.read_bytes()]))
    assert all(isinstance(line, tallyfile.GoodLine) for line in found)
    return [line.envelope for line in found]


def keyset() -> keys.Keyset:
    (opened,) = lines("v1/keys-1")
    return keys.parse_keyset(opened)


def everything() -> list[tuple[envelope.Unverified, dict]]:
    """Every golden envelope with its record."""
    found = [(lines(name)[0], record(name)) for name in SINGLE]
    for step in STEPS:
        told = record(step)
        for half, name in (("requests", "request"), ("replies", "reply")):
            opened = lines(f"{step}.{name}")
            assert len(opened) == len(told[half])
            found += zip(opened, told[half], strict=True)
    return found


def test_every_kind_of_message_and_every_purpose_is_there():
    kinds = {opened.typ for opened, _ in everything()}
    assert kinds == {REQUEST, GRANT, REFUSAL, CREDIT, KEYS, ENTITLEMENT}
    purposes = {told["claims"]["purpose"] for opened, told in everything() if opened.typ == REQUEST}
    assert purposes == {"activate", "return", "refresh", "confirm", "relinquish"}
    assert {told["claims"].get("speaks") for opened, told in everything() if opened.typ == REQUEST} == {None, 2}
    assert any(told["claims"].get("final") for opened, told in everything() if opened.typ == REQUEST)
    codes = {told["claims"]["code"] for opened, told in everything() if opened.typ == REFUSAL}
    assert {"denied", "fork", "grant-unknown", "host-id-taken", "not-enrolled", "on-hold", "superseded"} <= codes
    assert {"proof-used", "revision-needed", "restored"} <= codes


def test_every_envelope_has_its_recorded_kind_digest_key_and_claims():
    for opened, told in everything():
        assert envelope.digest_of(opened.compact) == told["digest"]
        assert opened.typ == told["typ"]
        assert opened.kid == told.get("kid")
        assert (opened.jwk.jwk if opened.jwk else None) == told.get("jwk")
        assert json.loads(opened.payload) == told["claims"]


def test_every_envelope_verifies_and_parses_and_says_the_same():
    listed = keyset()
    for opened, told in everything():
        if opened.typ == KEYS:
            parsed = keys.parse_successor(opened, listed)
            assert (parsed.issuer, parsed.version) == (told["claims"]["iss"], told["claims"]["version"])
            continue
        if opened.typ == REQUEST:
            claims = messages.parse_request(envelope.verify(opened, opened.jwk))
        else:
            verified = listed.verify(opened)
            parse = messages.parse_entitlement if opened.typ == ENTITLEMENT else messages.parse_reply
            claims = parse(verified)
            listed.check_issued(verified, issuer=claims.iss, issued_at=claims.iat)
        assert json.loads(messages.encode_claims(claims)) == told["claims"]


def test_today_s_builders_write_the_same_bytes():
    """The claims, in their order, without spaces; then one signature, which Ed25519 makes the same every time."""
    for opened, told in everything():
        if opened.typ in {GRANT, REFUSAL, CREDIT}:
            kind = {GRANT: messages.Grant, REFUSAL: messages.Refusal, CREDIT: messages.Credit}[opened.typ]
            claims = messages.convert_claims(json.dumps(told["claims"]).encode(), kind)
            compact = golden.Issuer(WORLD).sign(opened.typ, messages.encode_claims(claims))
            assert compact == opened.compact


@pytest.mark.parametrize("story", STORIES)
def test_today_s_activation_server_answers_with_the_recorded_bytes(story):
    stage = golden.Stage(WORLD)
    for name in STEPS:
        if not name.startswith(f"{story}-"):
            continue
        step = record(name)
        revision, _, told_by = story.partition("/")
        if revision == "v1" and told_by in golden.ANSWERED_OTHERWISE and step["do"] in golden.RAISING:
            assert f"v2/{told_by}" in STORIES
            return
        answers, replies = stage.play(step, lines(f"{name}.request"))
        assert [str(answer.outcome) for answer in answers] == [told["outcome"] for told in step["answers"]], name
        assert [answer.code for answer in answers] == [told["code"] for told in step["answers"]], name
        assert [len(answer.reply) for answer in answers] == [told["replies"] for told in step["answers"]], name
        assert replies == [opened.compact for opened in lines(f"{name}.reply")], name


@pytest.mark.parametrize("story", STORIES)
def test_today_s_field_server_takes_the_recorded_replies_as_it_did(story):
    listed = keyset()
    known: dict[str, str] = {}
    states: dict = {}
    for name in STEPS:
        if not name.startswith(f"{story}-"):
            continue
        requests = {envelope.digest_of(opened.compact): opened for opened in lines(f"{name}.request")}
        for reply, told in zip(lines(f"{name}.reply"), record(name)["replies"], strict=True):
            if reply.typ == GRANT:
                known[told["digest"]] = reply.compact
            sub = told["claims"]["sub"]
            request = requests.get(told["claims"]["request"])
            states[sub], found = golden.deliver(request, reply, listed, known=known, state=states.get(sub))
            assert found == told["field_server"], name


def test_the_newer_keyset_follows_the_older_and_both_keys_count_in_their_time():
    first, (opened,) = keyset(), lines("v1/keys-2")
    second = keys.parse_keyset(opened, root=first.root)
    assert (first.version, second.version) == (1, 2)
    for opened, told in everything():
        if opened.typ in {GRANT, REFUSAL, CREDIT}:
            claims = told["claims"]
            second.check_issued(second.verify(opened), issuer=claims["iss"], issued_at=claims["iat"])


def test_the_seeds_of_the_world_are_those_that_signed():
    issuer = golden.Issuer(WORLD)
    assert issuer.root.public == keyset().root
    assert {key.jwk.x for key in keyset().keys} == {issuer.key.public.x}
    assert PublicKey(keyset().keys[0].jwk.x) == issuer.key.public


def test_the_mixed_file_reads_as_it_did():
    assert golden.read_mixed((FOLDER / "mixed.tally").read_bytes()) == record("v1/mixed")


def test_the_tool_would_write_the_same_files_and_changes_none(tmp_path):
    before = {path: path.read_bytes() for path in GOLDEN.glob("v?/*")}
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert {path: path.read_bytes() for path in GOLDEN.glob("v?/*")} == before


def test_the_tool_refuses_to_change_a_file_and_adds_a_missing_one(tmp_path, monkeypatch, capsys):
    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(golden, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["golden.py"])
    (tmp_path / "v1" / "keys-2.tally").unlink()
    assert golden.main() == 0
    assert (tmp_path / "v1" / "keys-2.tally").read_bytes() == (FOLDER / "keys-2.tally").read_bytes()
    (tmp_path / "v1" / "keys-1.tally").write_bytes(b"another")
    (tmp_path / "v1" / "keys-2.tally").unlink()
    assert golden.main() == 1
    assert "v1/keys-1.tally: would change" in capsys.readouterr().out
    assert (tmp_path / "v1" / "keys-1.tally").read_bytes() == b"another"
    assert not (tmp_path / "v1" / "keys-2.tally").exists()
