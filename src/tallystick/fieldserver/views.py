"""What a field server shows of itself and is asked for, the same over HTTPS and on the command line.

``protocol.device_api`` has the form, and this what stands where in it. Nothing here is secret, and nothing here is a message: those are shown verbatim or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from tallystick.domain.ids import parse_activation_id, parse_line_id
from tallystick.domain.verdict import License, Verdict, decide_verdict
from tallystick.errors import Error
from tallystick.fieldserver.agent import DeliveryResult, LineResult
from tallystick.fieldserver.state import (
    Activate,
    ActivationWant,
    Device,
    MessageFate,
    Refresh,
    Relinquish,
    Return,
    ReturnWant,
    State,
    Trust,
    Waiting,
    Wish,
    Written,
)
from tallystick.protocol import device_api
from tallystick.protocol.envelope import parse_json, printable
from tallystick.protocol.problems import BY_CODE, WireError
from tallystick.sentences import _
from tallystick.structs import copied


def plain(answer: device_api.Answer) -> dict[str, Any]:
    """An answer as values for JSON."""
    view: dict[str, Any] = msgspec.to_builtins(answer)
    return view


def show_identity(
    device: Device, state: State, *, fingerprint: str, activation: device_api.OwnRoute | None
) -> device_api.Identity:
    """Who this is, for anyone who asks: what Device Administrator needs before it has a password."""
    keyset = state.keyset
    return copied(
        device_api.Identity,
        device.facts,
        device_id=device.device_id,
        certificate_fingerprint=fingerprint,
        root_fingerprint=None if keyset is None else keyset.root_fingerprint,
        trust=_show_trust(device),
        named_root=UNSET if device.root is None else device.root,
        issuer=None if keyset is None else keyset.issuer,
        keyset_version=None if keyset is None else keyset.version,
        protocol=device_api.VERSION,
        activation=activation,
    )


def show_licenses(device: Device, state: State, *, required: Mapping[str, int], now: int) -> device_api.LicenseReport:
    """What is held, what it gives per feature, and what is under way. ``required``: what checks asked for."""
    moment = max(state.time_seen, now)
    features = {feature for license_ in state.licenses for feature, _other in license_.features} | set(required)
    verdicts = (
        decide_verdict(feature, required=required.get(feature, 0), licenses=state.licenses, time_seen=moment, now=now)
        for feature in sorted(features)
    )
    return copied(
        device_api.LicenseReport,
        state,
        name=device.facts.name,
        kind=device.facts.kind,
        trust=_show_trust(device),
        applied=None if state.applied is None else copied(device_api.AppliedNote, state.applied),
        licenses=tuple(_show_license(license_, moment) for license_ in state.licenses),
        features=tuple(copied(device_api.FeatureNote, verdict, violation=verdict.is_violation) for verdict in verdicts),
        outbox=tuple(show_waiting(waiting) for waiting in state.outbox),
        outcomes=tuple(_show_outcome(outcome) for outcome in state.outcomes),
        final=True if state.final else UNSET,
    )


def _show_trust(device: Device) -> str | UnsetType:
    return UNSET if device.trust is Trust.UNRECORDED else str(device.trust)


def show_verdict(verdict: Verdict) -> device_api.CheckResult:
    """The answer of a check."""
    return copied(
        device_api.CheckResult,
        verdict,
        violation=verdict.is_violation,
        licensed=verdict.is_licensed,
        expires=verdict.expires_at,
    )


def show_written(written: Written) -> device_api.WrittenRequest:
    """A message that was asked for."""
    message = written.message
    return copied(device_api.WrittenRequest, message, message=message.compact, repeated=written.is_repeated)


def show_waiting(waiting: Waiting) -> device_api.WaitingNote:
    """A message in the outbox."""
    return copied(device_api.WaitingNote, waiting)


def show_delivery(delivery: DeliveryResult) -> device_api.InboxResult:
    """What a delivered file did."""
    return device_api.InboxResult(results=tuple(_show_line(line) for line in delivery.lines), waiting=delivery.waiting)


def _show_line(line: LineResult) -> device_api.LineResult:
    received = line.received
    problem = BY_CODE.get(received.code or "")
    return copied(
        device_api.LineResult,
        received,
        line_number=line.line_number,
        outcome=received.effect,
        next_step=None if problem is None else str(problem.next_step),
    )


def _show_license(license_: License, moment: int) -> device_api.HeldLicense:
    return copied(
        device_api.HeldLicense,
        license_,
        license=license_.license_id,
        line=license_.line_id,
        features=dict(license_.features),
        expires=license_.expires_at,
        expired=license_.expires_at is not None and license_.expires_at <= moment,
    )


def _show_outcome(outcome: MessageFate) -> device_api.OutcomeNote:
    reasons = tuple(copied(device_api.ReasonNote, reason) for reason in outcome.reasons)
    return copied(device_api.OutcomeNote, outcome, outcome=outcome.fate, reasons=reasons, at=outcome.noted_at)


def parse_wish(body: bytes) -> Wish:
    """What ``POST /v1/requests`` asks for. Raises ``Error``."""
    try:
        return make_wish(msgspec.convert(parse_json(body), device_api.Wish))
    except msgspec.ValidationError as error:
        raise WireError(
            "claims-malformed",
            expected=_("activate with wants, return with wants or all: true, refresh, or relinquish"),
            seen=printable(str(error), 200),
        ) from None


def make_wish(wish: device_api.Wish) -> Wish:
    """A wish with what its texts mean. Raises ``Error``."""
    match wish:
        case device_api.ActivateWish(wants=activations):
            return Activate(
                wants=tuple(
                    copied(ActivationWant, want, activation_id=parse_activation_id(want.activation_id))
                    for want in activations
                )
            )
        case device_api.ReturnWish(wants=tuple() as returns, all=msgspec.UnsetType()):
            return Return(wants=tuple(copied(ReturnWant, want, line_id=parse_line_id(want.line)) for want in returns))
        case device_api.ReturnWish(wants=msgspec.UnsetType(), all=True):
            return Return(wants=None)
        case device_api.ReturnWish():
            raise Error("json-malformed", expected=_("return with wants or with all: true"), seen=_("both or neither"))
        case device_api.RefreshWish():
            return Refresh()
        case device_api.RelinquishWish(final=final):
            return Relinquish(is_final=final)
