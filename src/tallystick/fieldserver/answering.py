"""The agent's answer to a licensed program: signed, fresh, with all that the program needs to judge it itself.

Guarantees: one signature for each answer, and nothing else that takes long: what goes with it is put together when the
vault has changed. The lines for people say what the envelopes say; a program reads the envelopes only.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tallystick.domain.dates import moment_text
from tallystick.domain.ids import Digest
from tallystick.domain.verdict import decide_verdict
from tallystick.fieldserver.checks import Checks
from tallystick.fieldserver.ports import Clock
from tallystick.fieldserver.state import Device, State, Trust, keyset_beside
from tallystick.protocol import answers
from tallystick.protocol.answers import Question
from tallystick.protocol.envelope import digest_of, printable

_SHOWN_MAX = 128
_TRUST = {
    Trust.NAMED: "named when this field server was set up",
    Trust.FIRST: "TRUSTED AT FIRST DELIVERY: whoever brought keys first; for trials only",
    Trust.UNRECORDED: "pinned at first delivery, by a release that did not record more",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attached:
    """What goes with every answer, until the vault changes."""

    state: State
    grant: Digest | None
    keyset: Digest | None
    lines: str  # the envelopes, each with its line feed
    about: str  # who answers, for people


class Answerer:
    """Answers questions of programs. Safe to share among threads."""

    def __init__(self, *, device: Device, checks: Checks, clock: Clock) -> None:
        self._device = device
        self._checks = checks
        self._clock = clock
        self._lock = threading.Lock()
        self._attached: _Attached | None = None

    def answer(self, question: Question) -> bytes:
        """The tally file. Raises ``Error`` where the vault cannot be read."""
        state, time_seen = self._checks.held()
        attached = self._attached
        if attached is None or attached.state is not state:
            with self._lock:
                attached = self._attached = _attach(self._device, state)
        now = self._clock.now()
        envelope = answers.make_answer(
            self._device.key,
            question,
            now=now,
            time_seen=time_seen,
            epoch=state.epoch,
            grant=attached.grant,
            keyset=attached.keyset,
        )
        verdict = decide_verdict(
            question.feature,
            required=question.required,
            licenses=state.licenses,
            time_seen=max(time_seen, now),
            now=now,
        )
        words = f"# {verdict.feature}: {verdict.standing} ({verdict.why})\n# Answered {moment_text(now)}.\n"
        return f"{words}{attached.about}{envelope}\n{attached.lines}".encode()


def _attach(device: Device, state: State) -> _Attached:
    keyset, applied = keyset_beside(state), state.applied
    compacts = [one.compact for one in (applied, keyset) if one is not None]
    facts = device.facts
    about = [
        f"{printable(facts.name, _SHOWN_MAX)} ({printable(facts.kind, _SHOWN_MAX)}), field server {device.device_id}",
        "No keys of an activation server were delivered yet."
        if keyset is None
        else f"Activation server: {printable(keyset.issuer, _SHOWN_MAX)}; root {keyset.root_fingerprint}, {_TRUST[device.trust]}.",
        "No grant is in force."
        if applied is None
        else f"Grant {applied.number} of epoch {state.epoch}: {len(applied.licenses)} licenses.",
        "Lines that begin with # are for people. A program checks the signatures below (docs/protocol/checks.md).",
    ]
    return _Attached(
        state=state,
        grant=None if applied is None else applied.digest,
        keyset=None if keyset is None else digest_of(keyset.compact),
        lines="".join(f"{compact}\n" for compact in compacts),
        about="".join(f"# {line}\n" for line in about),
    )
