"""Grants, and the reservation rule that all safety follows from (protocol, section 7).

A field server may be at any grant from the last one that it proved to the newest one. So per line the activation
server reserves the **maximum** quantity over those grants: ``held`` is the newest grant's quantity, ``returning`` is
reserved minus held.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from tallystick.domain.ids import LineId
from tallystick.structs import know


class Outstanding(Struct, frozen=True, kw_only=True, array_like=True):
    """A grant at which a field server may be: its epoch, number, and quantity per line (lines at zero left out).

    Written down, it is a list of the three.
    """

    epoch: int
    number: int
    quantities: Mapping[LineId, int]


class Reserved(Struct, frozen=True, kw_only=True):
    """What one line keeps for one field server. ``quarantined``: all of it, while the field server is declared lost."""

    held: int = 0
    returning: int = 0
    quarantined: int = 0


def reserve(outstanding: Sequence[Outstanding]) -> dict[LineId, Reserved]:
    """The reservation rule. ``outstanding`` runs from the last proven grant to the newest."""
    if not outstanding:
        return {}
    newest = outstanding[-1].quantities
    most = dict(newest)
    for grant in outstanding[:-1]:
        for line_id, quantity in grant.quantities.items():
            most[line_id] = max(most.get(line_id, 0), quantity)
    return {
        line_id: Reserved(held=newest.get(line_id, 0), returning=quantity - newest.get(line_id, 0))
        for line_id, quantity in most.items()
    }


def append(outstanding: Sequence[Outstanding], newest: Outstanding) -> tuple[Outstanding, ...]:
    """Add a newest grant, and forget every older one that cannot raise a maximum any more.

    A proof drops grants from the old end only. So while an older grant is still possible, so is the newest; where
    the newest has at least as much on every line, the older one never decides. The list therefore grows with what
    was given up without proof, never with history.
    """
    return (*[grant for grant in outstanding if not _covers(newest, grant)], newest)


def prove(outstanding: Sequence[Outstanding], *, epoch: int, number: int) -> tuple[Outstanding, ...]:
    """Forget every grant before ``(epoch, number)``, which the field server has proven to have applied.

    The newest grant stays: it is what the field server should hold. A grant that ``append`` forgot needs no place
    here, because a newer one covers it.
    """
    return tuple(grant for grant in outstanding if (grant.epoch, grant.number) >= (epoch, number))


def _covers(newer: Outstanding, older: Outstanding) -> bool:
    return all(newer.quantities.get(line_id, 0) >= quantity for line_id, quantity in older.quantities.items())


know(Outstanding, Reserved)
