"""The cells of the decision table: where a message may meet the activation server (protocol, "Rules of the activation server").

What the rules look at is where the field server stands (its status, and whether it is recovering from a restore), and how
the message's epoch and sequence compare with the ones that count. A field server that is not known is told by what it
shows. A run counts the cells in which messages were decided: observed from outside, before the decision, in the rows
that it will load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final

from tallystick.activation.core.ports import Status
from tallystick.activation.core.reading import Message
from tallystick.simulator.store import Tables

Cell = tuple[str, ...]

EPOCHS: Final = ("lower", "same", "higher")
SEQUENCES: Final = ("new", "late", "used")  # above the highest; not above it and unused; used by another message
STRANGERS: Final = ("nothing", "an activation ID", "a grant of ours")

TABLE: Final[tuple[Cell, ...]] = (
    *(("unknown", shown) for shown in STRANGERS),
    *product(map(str, Status), ("", "recovering"), EPOCHS, SEQUENCES),
)


def _unreached() -> Iterator[tuple[Cell, str]]:
    raised = "nobody is told of a raised epoch before the field server is heard, and then it is no longer lost"
    for sequence in SEQUENCES:
        yield ("listed", "", "lower", sequence), "one that is listed counts epoch 1, and there is no lower one"
        for epoch in ("same", "higher"):
            yield (
                ("listed", "recovering", epoch, sequence),
                "nobody is told of the epoch to which it was jumped before it is enrolled",
            )
            for recovering in ("", "recovering"):
                yield ("lost", recovering, epoch, sequence), raised
    for epoch in ("same", "higher"):
        yield ("listed", "", epoch, "late"), "one that is listed counts sequence 0, and there is no lower one"


# Which cells a run is not asked to reach, each with its reason; also shown in docs/assurance/cells.md.
UNREACHED: Final[Mapping[Cell, str]] = dict(_unreached())


def cells_of(batch: Sequence[Message], tables: Tables) -> Iterator[Cell]:
    """The cells in which a batch will be decided. Of several messages of one field server, only for the first that is new.

    The others are decided by rows that the first has changed, which nobody sees from outside.
    """
    seen = set()
    for message in sorted(batch, key=lambda message: message.request.sequence):
        if message.digest not in tables.messages and message.device_id not in seen:
            seen.add(message.device_id)
            yield cell_of(message, tables)


def cell_of(message: Message, tables: Tables) -> Cell:
    """The cell of one message that was never decided."""
    request = message.request
    known = tables.field_servers.get(message.device_id)
    if known is None:
        shown = 2 if message.repeated is not None else 1 if request.wants and request.purpose == "activate" else 0
        return ("unknown", STRANGERS[shown])
    used_by = tables.sequences.get((message.device_id, request.sequence))
    late = request.sequence <= known.sequence
    return (
        str(known.status),
        "" if known.recovering is None else "recovering",
        EPOCHS[(request.epoch >= known.epoch) + (request.epoch > known.epoch)],
        SEQUENCES[2 if used_by is not None else int(late)],
    )


def name_of(cell: Cell) -> str:
    """In words."""
    if cell[0] == "unknown":
        return f"unknown, shows {cell[1]}"
    status, recovering, epoch, sequence = cell
    return ", ".join(filter(None, (status, recovering, f"{epoch} epoch", f"{sequence} sequence")))
