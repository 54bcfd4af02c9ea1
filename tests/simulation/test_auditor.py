"""An auditor that is told something wrong must complain. Every check is shown a lie that only it can see."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tallystick.simulator.evidence import Violation, read_envelope, thumbprint
from tallystick.simulator.invariants import Auditor


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Hand:
    """Signs anything, without any code of the parties."""

    def __init__(self, seed: int) -> None:
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        self.x = base64url(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        self.id = thumbprint(self.x)

    def sign(self, typ: str, claims: dict, *, with_jwk: bool = False) -> str:
        name = {"jwk": {"crv": "Ed25519", "kty": "OKP", "x": self.x}} if with_jwk else {"kid": self.id}
        parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "EdDSA", "typ": typ, **name}, claims)]
        signed = ".".join(parts)
        return signed + "." + base64url(self.key.sign(signed.encode()))


A, F, STRANGER = Hand(1), Hand(2), Hand(3)
LINE = "7K3M9Q2A"


def message(sequence: int = 1, by: Hand = F, **claims) -> str:
    known = {
        "iss": by.id, "aud": "us", "jti": "j" * 16, "iat": 0, "purpose": "refresh", "epoch": 1,
        "sequence": sequence, "applied": None,
    }  # fmt: skip
    return by.sign("tally-request+jwt", {**known, **claims}, with_jwk=True)


def grant(number: int, quantity: int, request: str | None, by: Hand = A, **claims) -> str:
    licenses = [{"line": LINE, "quantity": quantity}] if quantity else []
    digest = None if request is None else read_envelope(request)[2]
    known = {"sub": F.id, "epoch": 1, "number": number, "request": digest, "licenses": licenses, "seen": 1}
    return by.sign("tally-grant+jwt", {**known, **claims})


def entry(number: int, source: str, target: str, quantity: int, cause: str, before: str, device=F.id) -> dict:
    device = None if source == "bought" else device
    text = "\x1f".join((before, LINE, str(number), source, target, str(quantity), device or "", cause, "0"))
    return {
        "line": LINE, "number": number, "source": source, "target": target, "quantity": quantity, "device": device,
        "cause": cause, "booked_at": 0, "chain": hashlib.sha256(text.encode()).hexdigest(),
    }  # fmt: skip


def line_row(entries: int, **accounts) -> dict:
    zero = dict.fromkeys(("available", "held", "returning", "quarantined", "retired"), 0)
    return {"line": LINE, "bought": 3, "entries": entries, "frozen": False, **zero, **accounts}


def server_row(**changes) -> dict:
    return {"device": F.id, "status": "active", "epoch": 1, "sequence": 1, "recovering": None, **changes}


def holding(held=0, returning=0, quarantined=0) -> dict:
    return {"device": F.id, "line": LINE, "held": held, "returning": returning, "quarantined": quarantined}


def state(compact: str | None, **changes) -> dict:
    known = {
        "device": F.id, "epoch": 1, "sequence": 1, "grant": compact, "rolled_back_at": None, "is_durable": True,
        "outbox": {},
    }  # fmt: skip
    return {**known, **changes}


SECRET = b"s" * 16
PROOF = base64url(hmac.digest(SECRET, f"{F.id}\x00{'j' * 16}".encode(), "sha256"))


def activation(quantity: int, proof: str = PROOF, **claims) -> str:
    return message(purpose="activate", wants=[{"line": LINE, "quantity": quantity, "proof": proof}], **claims)


def give_back(sequence: int) -> str:
    return message(sequence, purpose="return", all=True)


BOUGHT = entry(1, "bought", "available", 3, "bought", "")
ASKED = activation(2)
DIGEST = read_envelope(ASKED)[2]
GRANTED = grant(1, 2, ASKED)
MOVED = entry(2, "available", "held", 2, DIGEST, BOUGHT["chain"])


def rows(**changes) -> dict:
    known = {
        "field_servers": [server_row()],
        "messages": [{"device": F.id, "compact": ASKED, "reply": [GRANTED]}],
        "entries": [MOVED],
        "holdings": [holding(held=2)],
        "lines": [line_row(2, available=1, held=2)],
    }
    return {**known, **changes}


@pytest.fixture
def auditor() -> Auditor:
    auditor = Auditor(issuer="us", codes=["superseded", "grant-unknown"])
    auditor.trust(A.x)
    auditor.sold(LINE, SECRET)
    auditor.committed({"entries": [BOUGHT], "lines": [line_row(1, available=3)]})
    return auditor


@pytest.fixture
def granted(auditor) -> Auditor:
    auditor.committed(rows())
    auditor.field_server("fs", state(GRANTED))
    auditor.check()
    return auditor


def complains(promise: str):
    return pytest.raises(Violation, match=f"^{promise}:")


def test_the_truth_is_accepted(granted):
    granted.check_agreement()


def test_more_held_than_reserved(granted):
    granted.committed({"grants": [{"device": F.id, "envelope": None}]})
    with complains("P1"):
        granted.field_server("fs", state(grant(2, 3, None), epoch=1))
        granted.check()


def test_a_grant_that_was_issued_and_is_not_reserved(granted):
    with complains("P1"):
        granted.committed({"grants": [{"device": F.id, "envelope": grant(2, 3, None)}]})


def test_a_return_that_is_available_before_it_is_proven(granted):
    asked = give_back(2)
    with complains("P1"):
        granted.committed(
            rows(
                messages=[{"device": F.id, "compact": asked, "reply": [grant(2, 0, asked)]}],
                entries=[entry(3, "held", "available", 2, read_envelope(asked)[2], MOVED["chain"])],
                holdings=[holding()],
                lines=[line_row(3, available=3)],
            )
        )


def test_two_honest_field_servers_with_more_than_was_bought(granted):
    other = Hand(9)
    compact = A.sign(
        "tally-grant+jwt",
        {"sub": other.id, "epoch": 1, "number": 1, "request": None, "licenses": [{"line": LINE, "quantity": 2}]},
    )
    with complains("P1"):
        granted.field_server("other", {**state(compact), "device": other.id})
        granted.check()


def test_a_credit_without_a_message(granted):
    with complains("P3"):
        granted.committed({"entries": [entry(3, "held", "available", 2, "person:ann: why not", MOVED["chain"])]})


def test_a_credit_because_of_somebody_elses_message(granted):
    other = message(by=Hand(9))
    granted.spoken("other", other, durable_outbox=[other], durable_sequence=1)
    with complains("P3"):
        granted.committed({"entries": [entry(3, "held", "available", 2, read_envelope(other)[2], MOVED["chain"])]})


def test_a_message_that_its_field_server_did_not_sign(auditor):
    header, payload, _ = ASKED.split(".")
    forged = f"{header}.{payload}.{message(by=STRANGER).rsplit('.', 1)[1]}"
    with complains("P3"):
        auditor.committed(rows(messages=[{"device": F.id, "compact": forged, "reply": []}]))


def test_a_message_for_another_issuer(auditor):
    with complains("P3"):
        auditor.committed(rows(messages=[{"device": F.id, "compact": message(aud="them"), "reply": []}]))


def test_a_grant_that_the_activation_server_did_not_sign(auditor):
    with complains("P3"):
        auditor.field_server("fs", state(grant(1, 2, ASKED, by=STRANGER)))


def test_a_grant_for_another_field_server(auditor):
    with complains("P3"):
        auditor.field_server("fs", state(grant(1, 2, ASKED, sub=STRANGER.id)))


def test_growth_without_the_proof_of_the_secret(auditor):
    asked = activation(2, proof="x" * 43)
    with complains("P3"):
        auditor.committed(rows(messages=[{"device": F.id, "compact": asked, "reply": [grant(1, 2, asked)]}]))


def test_another_reply_to_the_same_message(granted):
    with complains("P4"):
        granted.committed(rows(messages=[{"device": F.id, "compact": ASKED, "reply": [grant(2, 2, ASKED)]}]))


def test_a_reply_to_another_message(auditor):
    with complains("P4"):
        auditor.committed(rows(messages=[{"device": F.id, "compact": message(2), "reply": [GRANTED]}]))


def test_two_grants_with_one_number(granted):
    with complains("P4"):
        granted.committed({"grants": [{"device": F.id, "envelope": grant(1, 1, None)}]})


def test_balances_that_the_ledger_does_not_give(granted):
    with complains("P5"):
        granted.committed({"lines": [line_row(2, available=2, held=1)]})


def test_an_entry_that_is_missing(granted):
    with complains("P5"):
        granted.committed({"entries": [entry(4, "held", "returning", 1, DIGEST, MOVED["chain"])]})


def test_an_entry_that_was_altered(granted):
    altered = entry(3, "held", "returning", 1, DIGEST, MOVED["chain"]) | {"quantity": 2}
    with complains("P5"):
        granted.committed({"entries": [altered]})


def test_less_than_nothing_available(granted):
    with complains("P5"):
        granted.committed(
            {
                "entries": [entry(3, "available", "held", 2, DIGEST, MOVED["chain"])],
                "lines": [line_row(3, available=-1, held=4)],
            }
        )


def test_an_accusation_of_an_innocent(granted):
    for kind in ("rollback", "fork", "epoch-behind", "reappeared", "host-id-taken", "grant-adopted"):
        with complains("P7"):
            granted.committed({"incidents": [{"device": F.id, "kind": kind}]})


def test_one_that_believes_falsely_that_it_was_rolled_back(granted):
    with complains("P7"):
        granted.field_server("fs", state(GRANTED, rolled_back_at=7))


def test_a_rollback_that_nobody_named(granted):
    granted.committed({"field_servers": [server_row(sequence=5)]})
    granted.rolled_back("fs", state(GRANTED))
    first, second = message(2), message(6)
    granted.spoken("fs", first, durable_outbox=[first], durable_sequence=2)
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": read_envelope(first)[2], "credits": []})
    granted.committed({"messages": [{"device": F.id, "compact": first, "reply": [reply]}]})
    granted.heard("fs", read_envelope(first)[2])
    granted.spoken("fs", second, durable_outbox=[second], durable_sequence=6)
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": read_envelope(second)[2], "credits": []})
    with complains("P7"):
        granted.committed({"messages": [{"device": F.id, "compact": second, "reply": [reply]}]})


def test_a_message_that_is_decided_while_its_field_server_is_on_hold(granted):
    granted.committed({"field_servers": [server_row(status="hold")]})
    asked = message(2)
    with complains("hold"):
        granted.committed(rows(messages=[{"device": F.id, "compact": asked, "reply": [grant(2, 2, asked)]}]))


def test_a_rollback_with_reuse_of_which_there_is_no_incident(granted):
    granted.committed({"field_servers": [server_row(sequence=5)]})
    granted.rolled_back("fs", state(GRANTED))
    granted.devices[F.id].reserved = {}
    granted.check()
    first, second = message(2), message(6)
    granted.spoken("fs", first, durable_outbox=[first], durable_sequence=2)
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": read_envelope(first)[2], "credits": []})
    granted.committed({"messages": [{"device": F.id, "compact": first, "reply": [reply]}]})
    granted.heard("fs", read_envelope(first)[2])
    granted.field_server("fs", state(GRANTED, rolled_back_at=7))
    granted.spoken("fs", second, durable_outbox=[second], durable_sequence=6)
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": read_envelope(second)[2], "credits": []})
    with complains("P7"):
        granted.committed({"messages": [{"device": F.id, "compact": second, "reply": [reply]}]})


def test_a_hold_that_is_released_without_a_new_epoch(granted):
    granted.committed({"field_servers": [server_row(status="hold")]})
    with complains("hold"):
        granted.committed({"field_servers": [server_row()]})


def test_a_message_that_is_decided_after_a_later_one(granted):
    for sequence in (5, 4):
        asked = message(sequence)
        late = rows(
            messages=[{"device": F.id, "compact": asked, "reply": [grant(10 - sequence, 2, asked)]}], entries=[]
        )
        if sequence == 5:
            granted.committed(late)
    with complains("order"):
        granted.committed(late)


def test_a_rollback_that_was_caught_up_with_before_anybody_answered_owes_no_name_without_reuse(granted):
    """Found by a soak: enough messages had been written again when the first reply came, so nothing was ahead."""
    granted.committed({"field_servers": [server_row(sequence=3)]})
    granted.rolled_back("fs", state(GRANTED))
    first, second = message(2), message(4)
    granted.spoken("fs", first, durable_outbox=[first], durable_sequence=3)
    granted.field_server("fs", state(GRANTED, sequence=3))
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": read_envelope(first)[2], "credits": []})
    granted.committed({"messages": [{"device": F.id, "compact": first, "reply": [reply]}]})
    granted.offered("fs", read_envelope(first)[2], seen=3)
    granted.heard("fs", read_envelope(first)[2])
    granted.spoken("fs", second, durable_outbox=[second], durable_sequence=4)
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": read_envelope(second)[2], "credits": []})
    granted.committed({"messages": [{"device": F.id, "compact": second, "reply": [reply]}]})


def rolled_back_and_fenced(granted) -> None:
    """Its disk was put back, it was fenced in a higher epoch, and it has spoken there."""
    granted.rolled_back("fs", state(GRANTED))
    fence = grant(9, 2, None, epoch=1024)
    granted.committed({"field_servers": [server_row(epoch=1024)], "grants": [{"device": F.id, "envelope": fence}]})
    granted.field_server("fs", state(fence, epoch=1024, sequence=2, rolled_back_at=7))
    proof = message(2, epoch=1024, applied={"number": 9, "digest": "d"}, rolled_back_at=7)
    say(granted, proof, epoch=1024)


def say(auditor, compact: str, *, epoch: int) -> None:
    """It leaves the field server, is decided, and nothing is credited."""
    claims, digest = read_envelope(compact)[1:]
    auditor.spoken("fs", compact, durable_outbox=[compact], durable_sequence=claims["sequence"])
    reply = A.sign("tally-credit+jwt", {"sub": F.id, "request": digest, "credits": []})
    auditor.committed(
        {
            "field_servers": [server_row(epoch=epoch, sequence=claims["sequence"])],
            "messages": [{"device": F.id, "compact": compact, "reply": [reply]}],
        }
    )


def test_one_that_was_rolled_back_is_judged_again_when_its_fence_is_proven(granted):
    rolled_back_and_fenced(granted)
    assert not granted.suspects
    with complains("P1"):
        granted.field_server("fs", state(grant(10, 3, None, epoch=1024), epoch=1024, sequence=2, rolled_back_at=7))
        granted.check()


def test_one_that_was_rolled_back_is_not_judged_before_its_fence_is_proven(granted):
    granted.rolled_back("fs", state(GRANTED))
    granted.field_server("fs", state(grant(2, 3, None)))
    granted.check()
    assert granted.suspects == {F.id}


def test_an_accusation_of_one_whose_fence_is_proven(granted):
    rolled_back_and_fenced(granted)
    for kind in ("rollback", "fork", "epoch-behind"):
        with complains("P7"):
            granted.committed({"incidents": [{"device": F.id, "kind": kind}]})
    with complains("P7"):
        granted.field_server("fs", state(grant(9, 2, None, epoch=1024), epoch=1024, sequence=2, rolled_back_at=8))


def test_what_another_history_said_may_still_be_an_accusation(granted):
    early = message(5)
    granted.spoken("fs", early, durable_outbox=[early], durable_sequence=5)
    rolled_back_and_fenced(granted)
    assert not granted.suspects  # it is of an older epoch, and can undo nothing
    refusal = A.sign("tally-refusal+jwt", {"sub": F.id, "request": read_envelope(early)[2], "code": "fork"})
    granted.codes |= {"fork"}
    granted.committed(
        {
            "messages": [{"device": F.id, "compact": early, "reply": [refusal]}],
            "incidents": [{"device": F.id, "kind": "epoch-behind"}],
        }
    )
    assert granted.suspects == {F.id}


def test_one_is_not_judged_while_a_message_of_another_history_could_still_be_decided(granted):
    early = message(5, epoch=1024)
    granted.spoken("fs", early, durable_outbox=[early], durable_sequence=5)
    rolled_back_and_fenced(granted)
    assert granted.suspects == {F.id}


def test_one_is_not_judged_while_a_reply_that_is_ahead_of_it_may_still_come(granted):
    """Found by a guided seed: the reply was from before a restore, after which sequences began lower."""
    early = message(9)
    refusal = {"sub": F.id, "request": read_envelope(early)[2], "code": "superseded", "seen": 9}
    granted.committed(
        {"messages": [{"device": F.id, "compact": early, "reply": [A.sign("tally-refusal+jwt", refusal)]}]}
    )
    rolled_back_and_fenced(granted)
    assert granted.suspects == {F.id}


def test_a_clone_is_judged_again_when_the_other_copy_is_stopped_and_not_before(granted):
    granted.field_server("twin", state(GRANTED))
    granted.cloned("twin")
    say(granted, message(2, applied={"number": 1, "digest": "d"}), epoch=1)
    assert granted.suspects == {F.id}
    granted.scrapped("twin")
    say(granted, message(3, applied={"number": 1, "digest": "d"}), epoch=1)
    assert not granted.suspects
    with complains("P7"):
        granted.committed({"incidents": [{"device": F.id, "kind": "fork"}]})


TERMS = {
    "account": "acme", "sku": "driver", "features": {"driver": 1}, "kinds": ("AS-P",), "returnable": True,
    "one_carry": True, "engineering": False, "expires": None, "suspended": False,
}  # fmt: skip


def license_(quantity: int, **changes) -> dict:
    known = {
        "line": LINE, "quantity": quantity, "product": "driver", "features": {"driver": 1}, "expires": None,
        "one_carry": True, "engineering": False,
    }  # fmt: skip
    return {**known, **changes}


def granting(*licenses: dict, **facts) -> dict:
    """The rows of an activation of two of the line, with these licenses in the grant."""
    asked = activation(2, facts={"kind": "AS-P", **facts})
    reply = grant(1, 2, asked, licenses=list(licenses), iat=100)
    moved = entry(2, "available", "held", 2, read_envelope(asked)[2], BOUGHT["chain"])
    return rows(messages=[{"device": F.id, "compact": asked, "reply": [reply]}], entries=[moved], lines=[])


def judging_terms(auditor, **changes) -> Auditor:
    auditor.sold(LINE, SECRET, {**TERMS, **changes})
    return auditor


def test_terms_that_are_kept_are_accepted(auditor):
    judging_terms(auditor).committed(granting(license_(2)))


@pytest.mark.parametrize(
    "changes", [{"expires": 900}, {"one_carry": False}, {"product": "other"}, {"features": {}}, {"engineering": True}]
)
def test_a_grant_that_says_other_terms_than_were_sold(auditor, changes):
    with complains("terms"):
        judging_terms(auditor).committed(granting(license_(2, **changes)))


@pytest.mark.parametrize("changes", [{"expires": 100}, {"suspended": True}, {"kinds": ("AS-B",)}])
def test_growth_that_the_terms_do_not_allow(auditor, changes):
    said = {"expires": changes["expires"]} if "expires" in changes else {}
    with complains("terms"):
        judging_terms(auditor, **changes).committed(granting(license_(2, **said)))


def test_growth_of_a_frozen_line(auditor):
    judging_terms(auditor).committed({"lines": [line_row(1, available=3) | TERMS | {"frozen": True}]})
    with complains("terms"):
        auditor.committed(granting(license_(2)))


def test_growth_that_a_person_started_against_the_terms(auditor):
    judging_terms(auditor, suspended=True).committed({"field_servers": [server_row(kind="AS-P")]})
    started = grant(1, 2, None, licenses=[license_(2)], iat=100)
    with complains("terms"):
        auditor.committed({"grants": [{"device": F.id, "envelope": started}]})


def test_a_return_of_what_cannot_be_returned(auditor):
    judging_terms(auditor, returnable=False).committed(granting(license_(2, one_carry=False)))
    asked = give_back(2)
    with complains("terms"):
        auditor.committed(rows(messages=[{"device": F.id, "compact": asked, "reply": [grant(2, 0, asked)]}]))


def test_an_activation_with_less_of_what_cannot_be_returned(auditor):
    judging_terms(auditor, returnable=False).committed(granting(license_(2, one_carry=False)))
    asked = activation(1, sequence=2)
    reply = grant(2, 1, asked, licenses=[license_(1, one_carry=False)])
    with complains("terms"):
        auditor.committed(rows(messages=[{"device": F.id, "compact": asked, "reply": [reply]}]))


@pytest.mark.parametrize("changes", [{"returnable": False}, {"one_carry": False}])
def test_one_carry_of_what_must_be_confirmed(granted, changes):
    judging_terms(granted, **changes)
    with complains("terms"):
        granted.field_server("fs", state(None, epoch=2, sequence=2))


def test_lines_of_two_accounts_on_one_field_server(auditor):
    other = "00000000"
    judging_terms(auditor).sold(other, b"o" * 16, {**TERMS, "account": "other"})
    proof = base64url(hmac.digest(b"o" * 16, f"{F.id}\x00{'j' * 16}".encode(), "sha256"))
    wants = [{"line": LINE, "quantity": 2, "proof": PROOF}, {"line": other, "quantity": 1, "proof": proof}]
    asked = message(purpose="activate", wants=wants, facts={"kind": "AS-P"})
    reply = grant(1, 2, asked, licenses=[license_(2), license_(1, line=other)], iat=100)
    with complains("terms"):
        auditor.committed(
            rows(
                messages=[{"device": F.id, "compact": asked, "reply": [reply]}],
                entries=[],
                holdings=[holding(held=2), holding(held=1) | {"line": other}],
            )
        )


@pytest.mark.parametrize("changes", [{"account": "other"}, {"returnable": False}, {"expires": 5}, {"suspended": True}])
def test_terms_that_change_and_nobody_asked_for_it(auditor, changes):
    with complains("terms"):
        judging_terms(auditor).committed({"lines": [line_row(1, available=3) | TERMS | changes]})


def test_terms_that_a_person_changed_and_that_stay_as_they_were(auditor):
    judging_terms(auditor).terms.ordered(LINE, suspended=True)
    with complains("terms"):
        auditor.terms.obeyed(LINE, suspended=True)
    auditor.committed({"lines": [line_row(1, available=3) | TERMS | {"suspended": True}]})
    auditor.terms.obeyed(LINE, suspended=True)


def test_clones_that_nobody_named(granted):
    granted.cloned("fs")
    with complains("P7"):
        granted.check_clones_named(F.id)


def test_a_message_that_is_not_durable(granted):
    late = message(2)
    with complains("vault"):
        granted.spoken("fs", late, durable_outbox=[], durable_sequence=1)


def test_a_state_that_went_back(granted):
    granted.field_server("fs", state(GRANTED, sequence=3))
    with complains("vault"):
        granted.field_server("fs", state(GRANTED, sequence=2))


def test_a_message_that_leaves_the_outbox_before_anybody_answered(granted):
    granted.field_server("fs", state(GRANTED, outbox={"one": 1, "two": 2}))
    with complains("outbox"):
        granted.field_server("fs", state(GRANTED, outbox={"one": 1}))


def test_a_state_in_between(granted):
    with complains("vault"):
        granted.vault("fs", found=b"torn", allowed=[b"before", b"after"])


def test_a_code_that_is_not_documented(granted):
    with complains("errors"):
        granted.refused("oops")


def test_parties_that_do_not_agree_at_the_end(granted):
    granted.field_server("fs", state(None, epoch=2))
    with complains("P2"):
        granted.check_agreement()


def test_more_than_was_asked_for(auditor):
    with complains("wish"):
        auditor.committed(
            rows(messages=[{"device": F.id, "compact": activation(1), "reply": [grant(1, 2, activation(1))]}])
        )


def test_a_line_that_was_not_named_and_vanishes(granted):
    asked = message(2, purpose="return", wants=[{"line": "00000000", "quantity": 0}])
    with complains("wish"):
        granted.committed(rows(messages=[{"device": F.id, "compact": asked, "reply": [grant(2, 0, asked)]}]))


def test_rights_that_hang_at_the_end(granted):
    asked = give_back(2)
    granted.committed(
        rows(
            messages=[{"device": F.id, "compact": asked, "reply": [grant(2, 0, asked)]}],
            entries=[entry(3, "held", "returning", 2, DIGEST, MOVED["chain"])],
            holdings=[holding(returning=2)],
            lines=[line_row(3, available=1, returning=2)],
        )
    )
    granted.field_server("fs", state(grant(2, 0, asked)))
    with complains("P2"):
        granted.check_agreement()


def test_the_auditor_imports_nothing_of_the_parties():
    import ast
    from pathlib import Path

    import tallystick.simulator

    found = set()
    files = ("evidence", "invariants", "judged", "suspicion", "terms")
    for file in files:
        text = (Path(tallystick.simulator.__file__).parent / f"{file}.py").read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                found.add(node.module)
            elif isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
    named = {name for name in found if name.startswith("tallystick")}
    assert named == {f"tallystick.simulator.{file}" for file in files} - {"tallystick.simulator.invariants"}
