"""The second phase of every run: faults stop, everything that is open is repeated, and P2 must follow.

People do what they would do: find and stop second copies, release holds, declare what is dead lost and wait, lift the
freeze of a restore when everybody was heard from, carry every outbox until nothing waits. At the end all parties agree;
then everything is given back, and everything that was bought must be there.
"""

from __future__ import annotations

from typing import Final

from tallystick.activation.core.ports import Status
from tallystick.administrator.core import goals
from tallystick.administrator.core.goals import Sync
from tallystick.fieldserver.state import Refresh, Relinquish, Return, ReturnWant
from tallystick.simulator import acts
from tallystick.simulator.dice import Dice
from tallystick.simulator.evidence import Violation, read_envelope
from tallystick.simulator.parties import FieldServerCopy
from tallystick.simulator.story import describe_answers
from tallystick.simulator.technician import Technician
from tallystick.simulator.world import World, known_devices, name_of

ROUNDS_MAX: Final = 12
TRIES_MAX: Final = 3


def heal(world: World) -> None:
    """Peace. Raises ``Violation`` where something is lost, hangs, or is not named."""
    world.log.append("faults stop; everything open is repeated")
    for copy in world.copies:
        copy.disk.fault = None
        copy.boot()
    for number, copy in enumerate(world.copies):
        if copy.device.facts.host_id != f"host-{number}":
            copy.rename_host(f"host-healed-{number}")
    _deliver_keys(world)
    _stop_second_copies(world)
    _bury_the_dead(world)
    _settle_down(world)
    _finish_workflows(world)
    world.auditor.check_rollbacks_named()
    world.auditor.check_agreement()
    world.verify()
    _give_everything_back(world)


def exchange(world: World, copy: FieldServerCopy) -> bool:
    """Carry an outbox up and the replies down. Whether there was anything to carry."""
    outbox = world.gather(copy)
    if not outbox:
        return False
    answers = world.post("\n".join(outbox).encode())
    world.log.append(f"{copy.name}: {describe_answers(outbox, answers)}")
    replies = [reply for answer in answers for reply in answer.reply]
    world.hand_over(copy, "\n".join(replies).encode())
    world.auditor.check()
    return True


def _tick(world: World) -> None:
    world.activation.clock.at += 1
    for copy in world.copies:
        copy.clock.at += 1


def _deliver_keys(world: World) -> None:
    for copy in world.living:
        world.hand_over(copy, world.activation.signer.keyset.compact.encode())


def _stop_second_copies(world: World) -> None:
    """Both copies of a clone are in contact, which must be noticed; then one of them is stopped."""
    _release_holds(world)  # whoever is on hold is told so, and nothing else
    by_device: dict[str, list[FieldServerCopy]] = {}
    for copy in world.living:
        by_device.setdefault(copy.device.device_id, []).append(copy)
    dice = Dice("healing", world.plan.seed)
    for device, copies in by_device.items():
        if len(copies) < 2:
            continue
        for _ in range(3):
            for copy in copies:
                _tick(world)
                world.ask(copy, Refresh())
                exchange(world, copy)
        known = world.auditor.devices.get(device)
        if known is not None and known.status in {"active", "hold"}:
            world.auditor.check_clones_named(device)
        kept = dice.pick(copies)
        for copy in copies:
            if copy is not kept:
                copy.alive = False
                world.auditor.scrapped(copy.name)
                world.log.append(f"{copy.name} is stopped")


def _release_holds(world: World) -> None:
    for device in known_devices(world, Status.HOLD):
        acts.release(world, device, None)
        world.log.append(f"the hold on {name_of(world, device)} is released")


def _is_key_gone(world: World, copy: FieldServerCopy) -> bool:
    """Whether it waits to be heard since a restore with a grant whose key has left the keyset, which proves nothing."""
    grant = copy.look().applied
    if grant is None or copy.device.device_id not in world.auditor.unheard:
        return False
    return read_envelope(grant.compact)[0]["kid"] not in {
        key.public.thumbprint for key in world.activation.signer.listed
    }


def _set_up_anew(world: World, copy: FieldServerCopy) -> None:
    """It gives up what it holds, or where that is not allowed, a new one takes its place."""
    if all(license_.one_carry for license_ in copy.look().licenses):
        world.ask(copy, Relinquish())
        return
    copy.alive = False
    world.auditor.scrapped(copy.name)
    world.log.append(f"{copy.name} is set up anew")
    _bury_the_dead(world)


def _bury_the_dead(world: World) -> None:
    living = {copy.device.device_id for copy in world.living}
    for device in known_devices(world, Status.ACTIVE, Status.HOLD):
        if device not in living:
            acts.declare_lost(world, device, None, override_by="boss")
            world.log.append(f"{name_of(world, device)} is declared lost")


def _settle_down(world: World) -> None:
    """Carry and repeat until nothing moves any more."""
    for number in range(ROUNDS_MAX):
        _tick(world)
        _release_holds(world)
        for copy in world.living:
            if number >= 1 and _is_key_gone(world, copy):
                _set_up_anew(world, copy)
                continue
            if not copy.look().outbox:
                world.ask(copy, Refresh())
            for _ in range(ROUNDS_MAX):
                if not exchange(world, copy):
                    break
            else:
                raise Violation("P2", f"{copy.name} never stops having something to say")
        if acts.lift(world, None) and number >= 1 and not known_devices(world, Status.HOLD):
            break
    else:
        raise Violation("P2", "the parties do not come to rest")
    acts.settle(world, None)  # counts the time in service until now
    # Who is still in quarantine is dead: the living were all heard from.
    tables = world.activation.store.tables
    waits = max((server.waits_until or 0 for server in tables.field_servers.values()), default=0) - tables.clock.seconds
    world.activation.clock.at = max(world.activation.clock.at, tables.clock.at) + max(0, waits)
    acts.settle(world, None)
    world.auditor.check()


def _finish_workflows(world: World) -> None:
    """Every operation of Device Administrator ends: nothing waits on the laptop, and it says so."""
    if not isinstance(world.technician, Technician):
        return
    for copy in world.living:
        if copy.name in world.technician.known:
            report = None
            for _ in range(TRIES_MAX):  # an old refusal is told once
                report = world.technician.run(copy, Sync())
                if report is not None and report.is_finished:
                    break
            if report is None or not report.is_finished:
                raise Violation("P2", f"the technician does not come to an end with {copy.name}: {report}")
            up = world.technician.mailbag.outbound(copy.device.device_id)
            down = world.technician.mailbag.inbound(copy.device.device_id)
            if up or down:
                raise Violation("P2", f"{len(up)} messages and {len(down)} replies of {copy.name} stay on the laptop")
    world.auditor.check()


def _give_everything_back(world: World) -> None:
    """The proof that nothing is lost: everything is returned, and all of it is available."""
    lines = {str(line.line_id): line for line in world.activation.lines}
    for copy in world.living:
        kept = {license_.line_id for license_ in copy.look().licenses}
        wants = tuple(ReturnWant(line_id=line, quantity=0) for line in sorted(kept) if lines[line].product.returnable)
        if not wants:
            continue
        if isinstance(world.technician, Technician) and copy.name in world.technician.known and len(wants) == len(kept):
            report = world.technician.run(copy, goals.Return())
            if report is None or not report.is_finished:
                raise Violation("P2", f"the technician's return on {copy.name} does not end: {report}")
            continue
        world.ask(copy, Return(wants=wants))
        for _ in range(ROUNDS_MAX):
            if not exchange(world, copy):
                break
        left = [license_.line_id for license_ in copy.look().licenses if lines[license_.line_id].product.returnable]
        if left:
            raise Violation("P2", f"{copy.name} cannot return {left}")
    world.auditor.check_agreement()
    for line_id, line in lines.items():
        known = world.auditor.lines[line_id]
        free, bought = known.totals["available"], known.bought - known.totals["retired"]
        if line.product.returnable and free != bought:
            raise Violation("P2", f"everything is returned, but of line {line_id} only {free} of {bought} are there")
