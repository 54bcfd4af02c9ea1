"""What may still be out when a freeze is lifted: what people should know before lines grow again (protocol, section 9)."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from tallystick.activation.core.ports import FieldServer, Status, Transaction
from tallystick.domain.entitlement import Line
from tallystick.domain.ids import DeviceId, LineId


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAfterRestore:
    """``unheard``: field servers that have not spoken since the restore; ``unheard_rights`` are kept for them on these lines.

    ``below_zero``: lines of which more was given out than there is, ``missing_rights`` together. What was enrolled after the
    backup and has not spoken since is not in any of these numbers: nobody here knows it. ``restored_at``: None, never.
    """

    unheard: int
    unheard_rights: int
    below_zero: int
    missing_rights: int
    restored_at: int | None


def survey_restore(transaction: Transaction, lines: Collection[LineId] | None) -> OpenAfterRestore:
    """Look at what may still be out of ``lines`` (None: all). Changes nothing."""
    unheard = unheard_rights = 0
    for server in _all_field_servers(transaction):
        if server.recovering is None or server.status is Status.LISTED:
            continue
        unheard += 1
        kept = server.reserved()
        chosen = kept.keys() if lines is None else kept.keys() & set(lines)
        unheard_rights += sum(kept[line_id].held + kept[line_id].returning for line_id in chosen)
    missing = [
        -line.balances.available
        for line in _all_lines(transaction)
        if line.balances.available < 0 and (lines is None or line.line_id in lines)
    ]
    restore = transaction.load_restore()
    return OpenAfterRestore(
        unheard=unheard,
        unheard_rights=unheard_rights,
        below_zero=len(missing),
        missing_rights=sum(missing),
        restored_at=restore.at if restore is not None else None,
    )


def _all_field_servers(transaction: Transaction) -> Iterator[FieldServer]:
    after: DeviceId | None = None
    while page := transaction.find_field_servers(after=after):
        yield from page
        after = page[-1].device_id


def _all_lines(transaction: Transaction) -> Iterator[Line]:
    after: LineId | None = None
    while page := transaction.find_lines(after=after):
        yield from page
        after = page[-1].line_id
