"""What people at the activation server do in a world, beside what ``acts`` has: each verb of theirs is an act.

Hold, retire, replace, list beforehand; a line's quantity, a late sale, a second account; a root that is handed over, a
key that leaves the keyset; old messages pruned, the database copied, a freeze lifted in part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from tallystick.activation.core import entitlements, interventions
from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.ports import Status
from tallystick.domain.ids import DeviceId
from tallystick.simulator.dice import Dice
from tallystick.simulator.parties import DAY, terms_of
from tallystick.simulator.workload import Act, Step
from tallystick.simulator.world import World, known_devices, name_of

LINES_MAX: Final = 6
KEYS_KEPT: Final = 2  # signing keys that stay when old ones leave
HANDOVERS_MAX: Final = 3


def _pick(world: World, step: Step, *statuses: Status) -> DeviceId | None:
    devices = known_devices(world, *statuses)
    return devices[step.who % len(devices)] if devices else None


def _hold(world: World, step: Step, _dice: Dice) -> str:
    device = _pick(world, step, Status.ACTIVE)
    if device is None:
        return "nobody to hold"
    signer, now = world.activation.signer, world.activation.clock.at
    world.transact(lambda tx: interventions.hold(tx, signer, device, by="support", now=now), step)
    return f"{name_of(world, device)} is put on hold"


def _retire(world: World, step: Step, _dice: Dice) -> str:
    device = _pick(world, step, Status.ACTIVE)
    if device is None:
        return "nobody to retire"
    signer, now = world.activation.signer, world.activation.clock.at
    world.auditor.host_ids_may_clash = True
    world.transact(lambda tx: interventions.retire(tx, signer, device, by="support", now=now), step)
    return f"{name_of(world, device)} is retired, if nothing is kept for it"


def _replace(world: World, step: Step, dice: Dice) -> str:
    devices = known_devices(world, Status.ACTIVE, Status.HOLD, Status.LOST)
    if len(devices) < 2:
        return "nobody to replace"
    living = {copy.device.device_id for copy in world.living}
    old = dice.pick([device for device in devices if device not in living] or devices)
    new = dice.pick([device for device in devices if device != old])
    activation = world.activation
    world.auditor.declared_lost(old)
    compact = world.transact(
        lambda tx: interventions.replace_field_server(
            tx,
            activation.signer,
            old,
            with_device=new,
            reason="dead",
            by="support",
            policy=activation.policy,
            now=activation.clock.at,
        ),
        step,
    )
    if compact is not None:
        world.carry(world.down, [compact], dice)
    return f"{name_of(world, old)} is replaced by {name_of(world, new)}" + ("" if compact else ": refused")


def _list(world: World, step: Step, _dice: Dice) -> str:
    strangers = [
        copy.device.device_id
        for copy in world.copies
        if copy.device.device_id not in world.activation.store.tables.field_servers
    ]
    if not strangers:
        return "nobody to list"
    device = strangers[step.who % len(strangers)]
    signer, now = world.activation.signer, world.activation.clock.at
    world.transact(lambda tx: entitlements.list_field_server(tx, signer, device, account="acme", now=now), step)
    return f"{name_of(world, device)} is listed beforehand"


def _quantity(world: World, step: Step, dice: Dice) -> str:
    line_id = dice.pick(world.activation.lines).line_id
    change = LineChange(quantity=dice.between(0, 7))
    signer, now = world.activation.signer, world.activation.clock.at
    world.transact(lambda tx: entitlements.change_line(tx, signer, line_id, change, by="support", now=now), step)
    return f"line {line_id} is to be {change.quantity}"


def _sell(world: World, _step: Step, dice: Dice) -> str:
    if len(world.activation.lines) >= LINES_MAX:
        return "nothing more is sold"
    line = world.activation.sell(
        dice.between(1, 4), dice.pick(("smartdriver", "logs", "edge")), account=dice.pick(("acme", "acme", "other"))
    )
    world.auditor.sold(str(line.line_id), line.secret, terms_of(line))
    world.tell_committed()
    return f"{line.account} buys {line.balances.bought} of line {line.line_id}"


def _lift_some(world: World, step: Step, dice: Dice) -> str:
    line_id = dice.pick(world.activation.lines).line_id
    signer, now = world.activation.signer, world.activation.clock.at
    if world.auditor.unheard:
        return "not everybody was heard from"
    world.transact(lambda tx: interventions.lift_freeze(tx, signer, [line_id], now=now), step)
    return f"the freeze of {line_id} is lifted"


def _remove_key(world: World, _step: Step, dice: Dice) -> str:
    signer = world.activation.signer
    if len(signer.listed) <= KEYS_KEPT:
        return "no key leaves"
    signer.remove_oldest()
    world.tell_committed()
    for copy in world.living:
        if dice.chance(700):
            world.hand_over(copy, signer.keyset.compact.encode())
    return f"a key leaves: keyset {signer.keyset.version}"


def _hand_over(world: World, _step: Step, dice: Dice) -> str:
    signer = world.activation.signer
    if len(signer.handovers) >= HANDOVERS_MAX:
        return "the root stays"
    signer.hand_over_root()
    for copy in world.living:
        if dice.chance(700):
            world.hand_over(copy, signer.keyset.compact.encode())
    return f"the root is handed over: keyset {signer.keyset.version}"


def _prune(world: World, _step: Step, _dice: Dice) -> str:
    gone = world.activation.store.prune(before=world.activation.clock.at - 30 * DAY)
    world.auditor.pruned([str(digest) for digest in gone])
    return f"{len(gone)} old messages are pruned"


def _copy(world: World, _step: Step, _dice: Dice) -> str:
    world.activation.store.copy_database(now=world.activation.clock.at)
    return "the database is copied, and the copy is served"


ACTS: Final[Mapping[Act, Callable[[World, Step, Dice], str]]] = {
    Act.HOLD: _hold,
    Act.RETIRE: _retire,
    Act.REPLACE: _replace,
    Act.LIST: _list,
    Act.QUANTITY: _quantity,
    Act.SELL: _sell,
    Act.LIFT_SOME: _lift_some,
    Act.REMOVE_KEY: _remove_key,
    Act.HAND_OVER_ROOT: _hand_over,
    Act.PRUNE: _prune,
    Act.COPY: _copy,
}
