"""A third process on the same data, as commands are: announces restores, lifts freezes, settles, prunes.

``python -m history.desk DATA DATABASE``: a JSON object with ``do`` a line in, the outcome a line out. One process for all of
them, because a command of its own would take a second to start; the functions are those that the commands call.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from msgspec.structs import replace

from tallystick.activation.core import interventions
from tallystick.activation.core.ports import Transaction
from tallystick.activation.server.instance import Activation, open_activation
from tallystick.activation.storage import prune
from tallystick.errors import Error

WAITED_SECONDS = 30 * 86_400


def do(activation: Activation, what: str) -> None:
    """One act, in one transaction (a prune: in several)."""
    signer, now = activation.signer, activation.now()
    match what:
        case "freeze":
            activation.transact(lambda transaction: interventions.announce_restore(transaction, signer, now=now))
        case "lift":
            activation.transact(lambda transaction: interventions.lift_freeze(transaction, signer, None, now=now))
        case "settle":  # as if the waiting period had been served
            activation.transact(_serve_for_long)
            activation.transact(lambda transaction: interventions.settle_quarantines(transaction, signer, now=now))
        case "prune":
            prune(activation.store, before=now + 1, advance=lambda _: None)
        case _:
            raise ValueError(what)


def _serve_for_long(transaction: Transaction) -> None:
    """The clock of the service counts on, as after a month in which the activation server was there."""
    clock = transaction.load_clock_for_update()
    transaction.save_clock(replace(clock, seconds=clock.seconds + WAITED_SECONDS))


def main() -> None:
    """Until the end of standard input."""
    data, database = sys.argv[1:]
    activation = open_activation(Path(data), database=database)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            do(activation, json.loads(line)["do"])
            outcome = "done"
        except Error as error:
            outcome = error.code
        print(outcome, flush=True)


if __name__ == "__main__":
    main()
