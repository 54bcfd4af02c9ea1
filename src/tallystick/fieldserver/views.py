"""What a field server shows of itself, as plain values for JSON: the same over HTTPS and on the command line.

Moments are Unix seconds. Nothing here is secret, and nothing here is a message: those are shown verbatim or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tallystick.domain.verdict import License, Verdict, decide_verdict
from tallystick.fieldserver.agent import DeliveryResult, LineResult
from tallystick.fieldserver.state import Device, MessageFate, State, Waiting, Written
from tallystick.protocol.problems import BY_CODE

PROTOCOL: Final = 1

View = dict[str, Any]


def show_identity(device: Device, state: State, *, fingerprint: str, activation: View | None) -> View:
    """Who this is, for anyone who asks: what Device Administrator needs before it has a password."""
    keyset = state.keyset
    return {
        "device_id": device.device_id,
        "kind": device.facts.kind,
        "host_id": device.facts.host_id,
        "name": device.facts.name,
        "software": device.facts.software,
        "certificate_fingerprint": fingerprint,
        "root_fingerprint": None if keyset is None else keyset.root_fingerprint,
        "issuer": None if keyset is None else keyset.issuer,
        "keyset_version": None if keyset is None else keyset.version,
        "protocol": PROTOCOL,
        "activation": activation,
    }


def show_licenses(device: Device, state: State, *, required: Mapping[str, int], now: int) -> View:
    """What is held, what it gives per feature, and what is under way. ``required``: what checks asked for."""
    moment = max(state.time_seen, now)
    features = {feature for license_ in state.licenses for feature, _ in license_.features} | set(required)
    verdicts = [
        decide_verdict(feature, required=required.get(feature, 0), licenses=state.licenses, time_seen=moment)
        for feature in sorted(features)
    ]
    applied = state.applied
    return {
        "device_id": device.device_id,
        "name": device.facts.name,
        "kind": device.facts.kind,
        "epoch": state.epoch,
        "applied": None if applied is None else {"number": applied.number, "digest": applied.digest},
        "licenses": [_show_license(license_, moment) for license_ in state.licenses],
        "features": [_show_feature(verdict) for verdict in verdicts],
        "outbox": [show_waiting(waiting) for waiting in state.outbox],
        "outcomes": [_show_outcome(outcome) for outcome in state.outcomes],
        "time_seen": state.time_seen,
        "rolled_back_at": state.rolled_back_at,
    }


def show_verdict(verdict: Verdict) -> View:
    """The answer of a check."""
    return {
        **_show_feature(verdict),
        "licensed": verdict.is_licensed,
        "expires": verdict.expires_at,
        "engineering": verdict.engineering,
    }


def show_written(written: Written) -> View:
    """A message that was asked for."""
    message = written.message
    return {
        "sequence": message.sequence,
        "digest": message.digest,
        "purpose": message.purpose,
        "message": message.compact,
        "repeated": written.is_repeated,
    }


def show_waiting(waiting: Waiting) -> View:
    """A message in the outbox."""
    return {
        "sequence": waiting.sequence,
        "purpose": waiting.purpose,
        "digest": waiting.digest,
        "written_at": waiting.written_at,
    }


def show_delivery(delivery: DeliveryResult) -> View:
    """What a delivered file did."""
    return {"results": [_show_line(line) for line in delivery.lines], "waiting": delivery.waiting}


def _show_line(line: LineResult) -> View:
    received = line.received
    problem = BY_CODE.get(received.code or "")
    return {
        "line_number": line.line_number,
        "digest": received.digest,
        "kind": received.kind,
        "outcome": received.effect,
        "code": received.code,
        "detail": received.detail,
        "next_step": None if problem is None else problem.next_step,
    }


def _show_license(license_: License, moment: int) -> View:
    return {
        "license": license_.license_id,
        "line": license_.line_id,
        "product": license_.product,
        "quantity": license_.quantity,
        "features": dict(license_.features),
        "expires": license_.expires_at,
        "engineering": license_.engineering,
        "one_carry": license_.one_carry,
        "expired": license_.expires_at is not None and license_.expires_at <= moment,
    }


def _show_feature(verdict: Verdict) -> View:
    return {
        "feature": verdict.feature,
        "required": verdict.required,
        "used": verdict.used,
        "available": verdict.available,
        "activated": verdict.activated,
        "violation": verdict.is_violation,
        "standing": verdict.standing,
        "why": verdict.why,
    }


def _show_outcome(outcome: MessageFate) -> View:
    return {
        "sequence": outcome.sequence,
        "digest": outcome.digest,
        "purpose": outcome.purpose,
        "outcome": outcome.fate,
        "code": outcome.code,
        "detail": outcome.detail,
        "reasons": [
            {"line": note.line, "code": note.code, "expected": note.expected, "seen": note.seen}
            for note in outcome.reasons
        ],
        "at": outcome.noted_at,
    }
