"""What came of an operation, from everybody's side, in one sentence that page and command line share."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.administrator.core.goals import GoalResult, Report
from tallystick.sentences import _, _n


def results_sentence(reports: Sequence[Report], *, total: int) -> str:
    """What was delivered, what is left to carry, and how many are done. A delivery that worked is never "0 done"."""
    good = sum(report.is_finished for report in reports)
    proofs, waiting = sum(report.proofs for report in reports), sum(report.waiting for report in reports)
    addressees = sum(bool(report.delivered or report.undelivered) for report in reports)
    delivered = sum(bool(report.delivered) for report in reports)
    carried = sum(report.carried for report in reports)
    done = _("{good} of {total} done.", good=good, total=total)
    parts: list[str] = []
    if proofs:
        parts.append(_n("{count} proof to carry.", "{count} proofs to carry.", count=proofs))
    elif waiting:
        parts.append(_n("{count} message to carry.", "{count} messages to carry.", count=waiting))
    elif carried and good < total:
        parts.append(
            _n(
                "The activation server took {count} message.",
                "The activation server took {count} messages.",
                count=carried,
            )
        )
    if good or not reports or any(report.result is not GoalResult.CARRY for report in reports):
        parts.append(done)
    said = _("{first} {second}", first=parts[0], second=parts[1]) if len(parts) > 1 else parts[0]
    if not addressees:
        return said
    text = (
        _("Delivered {delivered} of {addressees}; {rest}")
        if waiting
        else _("Delivered {delivered} of {addressees}. {rest}")
    )
    return _(text, delivered=delivered, addressees=addressees, rest=said)
