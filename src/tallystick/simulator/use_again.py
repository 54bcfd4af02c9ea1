"""The end of every run: what is there can be used. Nobody who may have something is refused it.

All else that is judged is that nothing is given out twice and that everything comes to rest; an activation server that refuses
everybody would pass it. So, in peace and with everything returned, each line is taken whole, by one right and by all that is left, and
is given back.
"""

from __future__ import annotations

from typing import Final

from tallystick.activation.core.ports import Status
from tallystick.domain.entitlement import Line
from tallystick.fieldserver.state import Activate, ActivationWant, Return, ReturnWant, Wish
from tallystick.simulator import healing
from tallystick.simulator.evidence import Violation
from tallystick.simulator.parties import FieldServerCopy
from tallystick.simulator.world import World

ROUNDS_MAX: Final = 12
TRIES_MAX: Final = 2


def use_again(world: World) -> None:
    """Raises ``Violation`` (P2) where a wish is not granted that nothing forbids."""
    for turn, line in enumerate(_open_lines(world)):
        may = [copy for copy in world.living if _may_have(world, copy, line)]
        if not may:
            continue
        copy = may[turn % len(may)]
        for quantity in dict.fromkeys((1, line.balances.available)):
            want = ActivationWant(activation_id=line.activation_id, quantity=quantity)
            _ask(world, copy, Activate(wants=(want,)), line, quantity)
        _ask(world, copy, Return(wants=(ReturnWant(line_id=line.line_id, quantity=0),)), line, 0)


def _open_lines(world: World) -> list[Line]:
    now = world.activation.clock.at
    return [
        line
        for line in world.activation.store.tables.lines.values()
        if line.product.returnable
        and not line.suspended
        and not line.frozen
        and (line.expires_at is None or line.expires_at > now)
        and line.balances.available > 0
    ]


def _may_have(world: World, copy: FieldServerCopy, line: Line) -> bool:
    state = copy.look()
    if state.final or copy.device.facts.kind not in line.product.kinds:
        return False
    known = world.activation.store.tables.field_servers.get(copy.device.device_id)
    if known is None:  # whoever has the activation ID may begin here, but for one whose past nobody has judged yet
        return state.applied is None and copy.device.device_id not in world.auditor.suspicion.ever
    return known.status is Status.ACTIVE and known.account in {None, line.account}


def _ask(world: World, copy: FieldServerCopy, wish: Wish, line: Line, quantity: int) -> None:
    world.log.append(f"{copy.name} has {quantity} of {line.line_id}, in peace")
    for _ in range(TRIES_MAX):  # who was not heard of since a restore is told so first
        if world.ask(copy, wish) is None:
            raise Violation("P2", f"{copy.name} does not ask for {quantity} of {line.line_id}, in peace")
        for _ in range(ROUNDS_MAX):
            if not healing.exchange(world, copy):
                break
        if _held(copy, line) == quantity:
            return
    raise Violation("P2", f"{copy.name} cannot have {quantity} of line {line.line_id}, which nothing forbids")


def _held(copy: FieldServerCopy, line: Line) -> int:
    return sum(license_.quantity for license_ in copy.look().licenses if license_.line_id == line.line_id)
