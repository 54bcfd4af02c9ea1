"""How a technician does things: the command of the shell, and the button or place of a page, for use in sentences."""

from __future__ import annotations

from typing import Final

from tallystick.sentences import N_, Sentence, way
from tallystick.terminal import arguments

SYNC: Final = way("tallystick admin sync", N_("“Carry what waits”"))
EXPORT: Final = way("tallystick admin export FILE.tally", N_("save the file on the page What to carry"))
TAKE_IN: Final = way(
    "tallystick admin import REPLY.tally", N_("drop the reply file into the box on the page What to carry")
)
GO_ON: Final = way("tallystick admin go-on", N_("“Go on”"))
ADD: Final = way("tallystick admin add URL", N_("the page Add"))
ADD_ENTITLEMENT: Final = way("tallystick admin entitlement add", N_("the page Plan"))
NAME_ACTIVATION: Final = way("tallystick admin entitlement add ENTITLEMENT --activation URL", N_("the page Route"))
NAME_ADDRESS: Final = way("--activation URL", N_("the field “Activation server”"))
ASSIGN: Final = way("tallystick admin assign LINE=QTY SERVER, or use --line LINE=QTY", N_("the page Plan"))
GIVE_BACK: Final = way("tallystick admin return, or unassign", N_("“Return…”, or 0 on the page Plan"))


def activate(name: str) -> Sentence:
    """Have a field server ask for what is planned."""
    return way("tallystick admin activate {name}", N_("tick it and press “Activate…”"), name=arguments(name))


def remove(name: str) -> Sentence:
    """Remove a field server from the list."""
    return way("tallystick admin remove {name}", N_("“Remove from the list” on its page"), name=arguments(name))
