"""The words of a run's story: a wish, an envelope, and what was answered, in one line each."""

from __future__ import annotations

from tallystick.activation.core.ports import Answer, MessageOutcome
from tallystick.fieldserver.state import Activate, Refresh, Relinquish, Return, Wish
from tallystick.protocol import messages
from tallystick.simulator.evidence import read_envelope


def describe_wish(wish: Wish) -> str:
    """A wish in a few words."""
    match wish:
        case Activate(wants=wants):
            return "activate " + ", ".join(f"{want.quantity} of {want.activation_id.line_id}" for want in wants)
        case Return(wants=None):
            return "return all"
        case Return(wants=tuple() as lowered):
            return "return down to " + ", ".join(f"{want.quantity} of {want.line_id}" for want in lowered)
        case Refresh():
            return "refresh"
        case Relinquish(is_final=True):
            return "relinquish for good"
        case _:
            return "relinquish"


def describe(compact: str) -> str:
    """An envelope in a few words."""
    try:
        header, claims, _ = read_envelope(compact)
    except ValueError:
        return "junk"
    match header.get("typ"):
        case messages.REQUEST:
            applied = claims["applied"]["number"] if claims["applied"] else 0
            return f"{claims['purpose']} {claims['epoch']}.{claims['sequence']} at {applied}"
        case messages.GRANT:
            held = ", ".join(f"{item['quantity']} of {item['line']}" for item in claims["licenses"]) or "nothing"
            return f"grant {claims['epoch']}.{claims['number']} of {held}" + (
                " to confirm" if claims["confirm"] else ""
            )
        case messages.REFUSAL:
            return f"refusal {claims['code']} seen {claims['seen']}"
        case messages.CREDIT:
            held = ", ".join(f"{item['quantity']} of {item['line']}" for item in claims["credits"]) or "nothing"
            return f"credit of {held}"
        case typ:
            return str(typ)


def describe_answers(sent: list[str], answers: list[Answer]) -> str:
    """What was sent, and what was said to it."""
    said = [
        " and ".join(map(describe, answer.reply))
        if answer.outcome is not MessageOutcome.ERROR
        else f"error {answer.code}"
        for answer in answers
    ]
    return f"{', '.join(map(describe, sent))} -> {'; '.join(said) or 'no answer'}"
