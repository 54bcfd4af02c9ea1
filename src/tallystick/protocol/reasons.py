"""The sentences of the domain's reasons, and the claim that a signed refusal makes of one (protocol, section 7).

A decision says a code and values. What is signed keeps the English sentences for whoever reads the file by itself;
whoever shows a reason words it in the reader's language.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from tallystick.domain.dates import moment_text
from tallystick.domain.rules import Reason
from tallystick.protocol.messages import LineReason
from tallystick.sentences import N_, Sentence, _

# What was expected, and what was seen. Two reasons may have a code in common: then their values differ.
_SENTENCES: Final[Mapping[str, tuple[str, str]]] = {
    "account-differs": (
        N_("licenses of one account on a field server"),
        N_("a line of another account than those it holds"),
    ),
    "activation-id-wrong": (
        N_("a line that exists, proven with its activation ID"),
        N_("no such line, or a proof that does not fit"),
    ),
    "kind-mismatch": (N_("a field server of kind {kinds} for {sku}"), N_("one of kind {kind}")),
    "line-expired": (N_("a line that has not expired"), N_("one that expired {seconds} seconds ago")),
    "line-frozen": (N_("a line that may grow"), N_("one that is frozen since the activation server was restored")),
    "line-suspended": (N_("a line that is not suspended"), N_("one that its vendor suspended")),
    "line-twice": (N_("each line once"), N_("the same line twice in one message")),
    "not-enough": (N_("{wanted} more available"), N_("{available} available")),
    "not-enough quarantined": (
        N_("{wanted} more available"),
        N_("{available} available, and {quarantined} in quarantine until {until} at the earliest"),
    ),
    "not-returnable": (N_("a product that can be returned"), N_("{sku}, which its vendor sells without return")),
    "return-raises": (N_("at most the {held} that this field server holds"), N_("an end state of {wanted}")),
    "too-many-lines": (N_("at most {most} lines"), N_("{held} lines")),
    "too-many-lines reserved": (
        N_("at most {most} lines, with those whose return is not proven"),
        N_("{reserved} lines"),
    ),
}

_MORE: Final = ("reserved", "quarantined")  # values with which a reason has sentences of its own


def reason_sentences(reason: Reason | LineReason) -> tuple[str, str]:
    """What was expected and what was seen; of a claim, in the English that was signed."""
    if isinstance(reason, LineReason):
        return reason.expected, reason.seen
    more = next((name for name in _MORE if name in reason.values), "")
    key = f"{reason.code} {more}".strip()
    values = {name: ", ".join(value) if isinstance(value, tuple) else value for name, value in reason.values.items()}
    if isinstance(values.get("until"), int):
        values["until"] = moment_text(int(values["until"]))
    expected, seen = _SENTENCES[key]
    return _(expected, **values), _(seen, **values)


def reason_text(reason: Reason | LineReason) -> Sentence:
    """Both in one sentence."""
    expected, seen = reason_sentences(reason)
    return _("expected {expected}; saw {seen}", expected=expected, seen=seen)


def claim_of(reason: Reason) -> LineReason:
    """What is signed, in English."""
    expected, seen = map(str, reason_sentences(reason))
    return LineReason(code=reason.code, expected=expected, seen=seen, line=reason.line)


def reason_document(reason: Reason | LineReason) -> dict[str, str | None]:
    """The member of ``reasons`` in a problem document, in English."""
    expected, seen = map(str, reason_sentences(reason))
    return {"code": reason.code, "expected": expected, "seen": seen, "line": reason.line}
