"""What each kind of step does to a world. A step that makes no sense where it stands does nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from tallystick.activation.core import entitlements, interventions
from tallystick.activation.core.clock import Tick, confirm_clock, keep_time
from tallystick.activation.core.entitlements import LineChange
from tallystick.activation.core.ports import Status, Transaction
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.rules import Want
from tallystick.errors import Error
from tallystick.fieldserver.state import Activate, ActivationWant, Refresh, Relinquish, Return, ReturnWant, Wish
from tallystick.fieldserver.vault import SLOTS
from tallystick.protocol import messages
from tallystick.protocol.envelope import PrivateKey, encode_json, open_envelope, parse_json
from tallystick.simulator import people
from tallystick.simulator.dice import Dice
from tallystick.simulator.evidence import read_envelope
from tallystick.simulator.faults import Fault
from tallystick.simulator.parties import DAY, FieldServerCopy, Issuer, seeded, state_bytes, state_row
from tallystick.simulator.story import describe, describe_answers, describe_wish
from tallystick.simulator.technician import make_goal, technician_of
from tallystick.simulator.workload import Act, Step
from tallystick.simulator.world import World, known_devices, name_of

COPIES_MAX: Final = 6


def perform(world: World, step: Step) -> str:
    """Do a step, and say in one line what was done."""
    world.activation.clock.at += 1
    for copy in world.copies:
        copy.clock.at += 1
    said = _ACTS[step.act](world, step, Dice("step", step.salt))
    world.done[step.act] += 1
    return said


def choose(world: World, step: Step) -> FieldServerCopy | None:
    """The living field server that a step is about."""
    living = world.living
    return living[step.who % len(living)] if living else None


def make_wish(world: World, dice: Dice) -> Wish:
    """Something that a person may ask a field server for."""
    lines = world.activation.lines
    match dice.weighted({"activate": 10, "return": 3, "return-all": 4, "refresh": 3, "relinquish": 3}):
        case "activate":
            chosen = [line for line in lines if dice.chance(700)] or [lines[0]]
            return Activate(
                wants=tuple(
                    ActivationWant(
                        activation_id=replace(line.activation_id, secret=b"?" * 16)
                        if dice.chance(20)
                        else line.activation_id,
                        quantity=dice.between(0, line.balances.bought + (1 if dice.chance(100) else 0)),
                    )
                    for line in chosen
                )
            )
        case "return":
            line = dice.pick(lines)
            return Return(wants=(ReturnWant(line_id=line.line_id, quantity=dice.below(3)),))
        case "return-all":
            return Return(wants=None)
        case "refresh":
            return Refresh()
        case _:
            return Relinquish()


def _wish(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    wish = make_wish(world, dice)
    written = world.ask(copy, wish, step)
    if written is None:
        return f"{copy.name}: {describe_wish(wish)}"
    if dice.chance(500):
        world.carry(world.up, [written.message.compact], dice)
    return f"{copy.name}: {describe_wish(wish)} -> {describe(written.message.compact)}"


def _give_up(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    # One in twenty is scrapped: it takes no license any more.
    wish = Relinquish(is_final=Dice("final", step.salt).chance(50))
    written = world.ask(copy, wish, step)
    if written is None:
        return f"{copy.name}: {describe_wish(wish)}"
    if dice.chance(700):
        world.carry(world.up, [written.message.compact], dice)
    return f"{copy.name}: {describe_wish(wish)} -> {describe(written.message.compact)}"


def _exchange(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    legs = step.legs or dice.between(1, 3)
    said = []
    for leg in range(legs):
        here = step if leg == step.call % legs else None
        outbox = world.gather(copy, here)
        if not outbox:
            break
        answers = world.post(world.pack(outbox, here), here)
        replies = [reply for answer in answers for reply in answer.reply]
        said.append(describe_answers(outbox, answers))
        if here and here.fault is Fault.COURIER_DIES:
            world.struck[Fault.COURIER_DIES] += 1
            said.append("the courier dies")
            break
        if dice.chance(200):
            world.carry(world.down, replies, dice)
        if replies:
            world.hand_over(copy, world.pack(replies, here), here)
    return f"{copy.name} and the activation server: " + ("; ".join(said) or "nothing waits")


def _gather(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    outbox = world.gather(copy, step)
    world.carry(world.up, outbox, dice)
    return f"{copy.name}: gathered, {len(outbox)} in its outbox"


def _some(bag: list[str], dice: Dice) -> list[str]:
    """A few of a bag in any order, perhaps one twice; some leave it, some stay to come again."""
    chosen = []
    for _ in range(dice.weighted({1: 5, 2: 3, 4: 2, 8: 1})):
        if not bag:
            break
        place = len(bag) - 1 - dice.below(min(len(bag), 5)) if dice.chance(700) else dice.below(len(bag))
        chosen.append(bag[place] if dice.chance(400) else bag.pop(place))
    return chosen


def _post(world: World, step: Step, dice: Dice) -> str:
    chosen = _some(world.up, dice)
    if dice.chance(50) and world.down:
        chosen.append(dice.pick(world.down))  # a reply is handed to the wrong party
    if not chosen:
        return "nothing is carried up"
    answers = world.post(world.pack(chosen, step), step)
    world.carry(world.down, [reply for answer in answers for reply in answer.reply], dice)
    return "posted: " + describe_answers(chosen, answers)


def _hand_over(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    own = [compact for compact in world.down if _subject(compact) == copy.device.device_id]
    chosen = _some(own, dice) if dice.chance(850) and own else _some(world.down, dice)
    if dice.chance(50) and world.up:
        chosen.append(dice.pick(world.up))
    if not chosen:
        return "nothing is carried down"
    delivery = world.hand_over(copy, world.pack(chosen, step), step)
    effects = "nothing" if delivery is None else ", ".join(line.received.effect for line in delivery.lines)
    return f"{copy.name} gets {', '.join(map(describe, chosen))} -> {effects}"


def _subject(compact: str) -> str | None:
    try:
        subject: str | None = read_envelope(compact)[1].get("sub")
    except ValueError:
        return None
    return subject


def _lose(world: World, _step: Step, dice: Dice) -> str:
    bag = world.up if dice.chance(500) else world.down
    count = min(len(bag), dice.between(1, 10))
    for _ in range(count):
        bag.pop(dice.below(len(bag)))
    return f"lost on the way: {count}"


def _power(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    if dice.chance(500):
        copy.disk.cut_power(dice)
    copy.boot()
    world.tell_state(copy)
    return f"{copy.name} starts again"


def _snapshot(world: World, step: Step, _dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    copy.snapshots = [*copy.snapshots[-2:], dict(copy.disk.durable)]
    return f"the disk of {copy.name} is copied away"


def _roll_back(world: World, step: Step, dice: Dice) -> str:
    copies = [copy for copy in world.living if copy.snapshots]
    if not copies:
        return "nothing to put back"
    copy = copies[step.who % len(copies)]
    put_back(world, copy, dice.pick(copy.snapshots))
    return f"the disk of {copy.name} is put back"


def put_back(world: World, copy: FieldServerCopy, snapshot: Mapping[str, bytes]) -> None:
    """A field server's disk is what it once was."""
    before = copy.look()
    copy.disk.durable = dict(snapshot)
    copy.disk.cached = dict(snapshot)
    copy.boot()
    if copy.look() != before:
        world.auditor.rolled_back(copy.name, state_row(copy, copy.look()))


def _rot(world: World, step: Step, dice: Dice) -> str:
    """A bit flips at rest. The other slot stands in; where the newest one is hit, that is a rollback by one save."""
    copy = choose(world, step)
    if copy is None or copy.disk.cached != copy.disk.durable:
        return "nothing rots"
    newest = copy.look()
    name = dice.pick(SLOTS)
    data = bytearray(copy.disk.durable[name])
    copy.disk.durable[name] = copy.disk.cached[name] = b""
    try:
        alone = FieldServerCopy.look_at(copy.disk.durable, copy.device)
    except Error:  # the other slot was never written: nothing could stand in
        alone = None
    place = dice.below(max(1, len(bytes(data).rstrip(b"\0"))))
    data[place] ^= 1 << dice.below(8) if alone is not None else 0
    copy.disk.durable[name] = copy.disk.cached[name] = bytes(data)
    copy.boot()
    found = copy.look()
    allowed = [newest] if alone is None else [newest, alone]
    world.auditor.vault(copy.name, found=state_bytes(found), allowed=[state_bytes(state) for state in allowed])
    if found != newest:
        world.auditor.rolled_back(copy.name, state_row(copy, found))
    return f"a bit of {name} of {copy.name} flips"


def _clone(world: World, step: Step, _dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None or len(world.copies) >= COPIES_MAX:
        return "no clone"
    clone = copy.clone(f"{copy.name}-copy{len(world.copies)}")
    world.copies.append(clone)
    world.tell_state(clone)
    world.auditor.cloned(clone.name)
    return f"{copy.name} is cloned into {clone.name}"


def _host(world: World, step: Step, dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None:
        return "nobody is there"
    hosts = [f"host-new-{dice.below(1000)}", *(other.device.facts.host_id for other in world.copies)]
    copy.rename_host(dice.pick(hosts))
    world.auditor.host_ids_may_clash = True
    return f"{copy.name} has host id {copy.device.facts.host_id}"


def _die(world: World, step: Step, _dice: Dice) -> str:
    copy = choose(world, step)
    if copy is None or len(world.living) == 1:
        return "nobody dies"
    copy.alive = False
    world.auditor.scrapped(copy.name)
    return f"{copy.name} is gone for ever"


def _declare_lost(world: World, step: Step, dice: Dice) -> str:
    devices = known_devices(world, Status.ACTIVE, Status.HOLD)
    if dice.chance(700):
        living = {copy.device.device_id for copy in world.living}
        devices = [device for device in devices if device not in living] or devices
    if not devices:
        return "nobody is lost"
    device = devices[step.who % len(devices)]
    declare_lost(world, device, step, override_by="boss" if dice.chance(500) else None)
    return f"{name_of(world, device)} is declared lost"


def declare_lost(world: World, device: DeviceId, step: Step | None, *, override_by: str | None) -> None:
    """A person says that a field server is dead."""
    activation = world.activation
    world.auditor.declared_lost(device)
    world.transact(
        lambda tx: interventions.declare_lost(
            tx,
            activation.signer,
            device,
            reason="dead",
            by="support",
            policy=activation.policy,
            now=activation.clock.at,
            override_by=override_by,
        ),
        step,
    )


def _settle(world: World, step: Step, dice: Dice) -> str:
    if dice.chance(600):
        world.activation.clock.at += dice.between(1, 15) * DAY
    settle(world, step)
    return "waiting periods are ended"


def settle(world: World, step: Step | None) -> None:
    """Whatever is due is released. All of the activation server's time is time in service here."""
    activation = world.activation

    def work(tx: Transaction) -> None:
        now, clock = activation.clock.at, tx.load_clock()
        passed = max(0, now - (clock.at or now))
        keep_time(tx, activation.signer, Tick(now=now, before=now - passed, elapsed=passed))
        confirm_clock(tx)  # a person looks at once
        interventions.settle_quarantines(tx, activation.signer, now=now)

    world.transact(work, step)


def _release(world: World, step: Step, _dice: Dice) -> str:
    devices = known_devices(world, Status.HOLD)
    if not devices:
        return "no hold"
    device = devices[step.who % len(devices)]
    release(world, device, step)
    return f"the hold on {name_of(world, device)} is released"


def release(world: World, device: DeviceId, step: Step | None) -> None:
    """A person looked at a field server on hold."""
    activation = world.activation
    world.transact(
        lambda tx: interventions.release_hold(tx, activation.signer, device, by="support", now=activation.clock.at),
        step,
    )


def _start_change(world: World, step: Step, dice: Dice) -> str:
    lines = [dice.pick(world.activation.lines) for _ in range(dice.between(1, 2))]
    return _started(world, step, dice, [Want(line_id=line.line_id, quantity=dice.below(4)) for line in lines])


def _start_return(world: World, step: Step, dice: Dice) -> str:
    return _started(world, step, dice, None)


def _started(world: World, step: Step, dice: Dice, wants: list[Want] | None) -> str:
    devices = known_devices(world, Status.ACTIVE, Status.HOLD)
    if not devices:
        return "nobody is known"
    device = devices[step.who % len(devices)]
    activation = world.activation
    compact = world.transact(
        lambda tx: interventions.start_change(
            tx, activation.signer, device, wants, by="support", now=activation.clock.at, takes_back=True
        ),
        step,
    )
    if compact is None:
        return f"a change on {name_of(world, device)} is refused"
    world.carry(world.down, [compact], dice)
    return f"a person changes {name_of(world, device)}: {describe(compact)}"


def _terms(world: World, step: Step, dice: Dice) -> str:
    line_id = dice.pick(world.activation.lines).line_id
    days = 30 if step.what % 2 else 1
    expires_at = dice.pick((None, world.activation.clock.at + days * DAY))
    suspended = dice.chance(400)
    change = LineChange(has_expiry=True, expires_at=expires_at, suspended=suspended)
    change_line(world, line_id, change, step)
    return f"line {line_id} is {'suspended' if suspended else 'open'}"


def change_line(world: World, line_id: LineId, change: LineChange, step: Step | None) -> None:
    """A person changes the quantity or the terms of a line."""
    activation = world.activation
    terms: dict[str, object] = {"expires": change.expires_at} if change.has_expiry else {}
    if change.suspended is not None:
        terms["suspended"] = change.suspended
    world.auditor.terms.ordered(line_id, **terms)
    changed = world.transact(
        lambda tx: entitlements.change_line(
            tx, activation.signer, line_id, change, by="support", now=activation.clock.at
        ),
        step,
    )
    if changed is not None:
        world.auditor.terms.obeyed(line_id, **terms)


def _backup(world: World, _step: Step, _dice: Dice) -> str:
    world.backup()
    return "the activation server is backed up"


def _restore(world: World, _step: Step, dice: Dice) -> str:
    if not world.backups or world.activation.clock.at <= world.restored_at:
        return "no backup, or a clock from before the last restore"
    world.restored_at = world.activation.clock.at
    backup = dice.pick(world.backups)
    world.activation.store.put_back(backup.snapshot)
    world.tell_restored(backup)
    activation = world.activation
    world.transact(lambda tx: interventions.announce_restore(tx, activation.signer, now=activation.clock.at), None)
    return "the activation server is put back to a backup, and says so"


def _lift(world: World, step: Step, _dice: Dice) -> str:
    return "the freeze is lifted" if lift(world, step) else "not everybody was heard from"


def lift(world: World, step: Step | None) -> bool:
    """Lift the freeze if everything alive was heard from.

    A field server that is not enrolled here and holds nothing has nothing to say; what may still be on its way to it
    from before the restore is thrown away first, as the instructions for a restore ask.
    """
    servers = world.activation.store.tables.field_servers
    strangers = {
        copy.device.device_id
        for copy in world.living
        if copy.device.device_id not in servers and copy.look().applied is None
    }
    if any(copy.device.device_id in world.auditor.unheard - strangers for copy in world.living):
        return False
    world.down = [compact for compact in world.down if _subject(compact) not in strangers]
    world.auditor.unheard -= strangers
    lines: list[LineId] | None = None
    activation = world.activation
    world.transact(lambda tx: interventions.lift_freeze(tx, activation.signer, lines, now=activation.clock.at), step)
    return True


def _clock(world: World, step: Step, dice: Dice) -> str:
    jump = dice.pick((-400 * DAY, -DAY, -3600, 3600, DAY, 20 * DAY, 400 * DAY))
    copy = choose(world, step)
    if copy is None or dice.chance(300):
        world.activation.clock.at += jump
        return f"the activation server's clock jumps by {jump} s"
    copy.clock.at += jump
    return f"the clock of {copy.name} jumps by {jump} s"


def _rotate(world: World, _step: Step, dice: Dice) -> str:
    world.activation.signer.rotate()
    world.tell_committed()
    keyset = world.activation.signer.keyset
    world.carry(world.down, [keyset.compact], dice)
    for copy in world.living:
        if dice.chance(700):
            world.hand_over(copy, keyset.compact.encode())
    return f"keyset {keyset.version}"


def _forge(world: World, step: Step, dice: Dice) -> str:
    """A stranger who can read and write everything that is carried, but signs with keys of his own."""
    copy = choose(world, step)
    if copy is None or copy.look().keyset is None:  # who has no root yet takes one from its administrator only
        return "nobody to cheat"
    stranger = Issuer("stranger", issuer=dice.pick((world.activation.signer.issuer, "Somebody Else")))
    for _ in range(dice.below(4)):
        stranger.rotate()
    thief = PrivateKey(seeded("thief"))
    if dice.chance(500) and world.down:
        victim = open_envelope(dice.pick(world.down).encode())
        claims = parse_json(victim.payload)
        if victim.typ == messages.GRANT:
            claims = {**claims, "sub": copy.device.device_id, "number": claims["number"] + 1}
        forged = stranger.sign(victim.typ, encode_json(claims))
        if dice.chance(300):
            forged = _with_signature_of(victim.compact, forged)
        world.hand_over(copy, f"{stranger.keyset.compact}\n{forged}".encode())
        return f"a stranger hands {copy.name} {describe(forged)}"
    if world.up:
        victim = open_envelope(dice.pick(world.up).encode())
        claims = parse_json(victim.payload)
        if dice.chance(500):  # somebody else's proof of an activation ID
            claims = {**claims, "iss": thief.public.device_id, "applied": None}
            if dice.chance(300):
                claims = {**claims, "aud": "Somebody Else"}
        elif dice.chance(500):
            claims = {**claims, "sequence": claims["sequence"] + 1}
        forged = thief.sign(victim.typ, encode_json(claims), with_jwk=True)
        if dice.chance(300):
            forged = _with_signature_of(victim.compact, forged)
        digest = read_envelope(forged)[2]
        world.compacts[digest] = forged
        if claims["aud"] != world.activation.signer.issuer:
            world.auditor.misdirected.add(str(digest))
        world.post(forged.encode())
        return f"a stranger posts {describe(forged)}"
    return "nothing to forge"


def _technician(world: World, step: Step, dice: Dice) -> str:
    originals = [copy for copy in world.living if "-copy" not in copy.name]
    if not originals:
        return "nobody to work on"
    copy = originals[step.who % len(originals)]
    goal = make_goal(world, copy, dice)
    report = technician_of(world).run(copy, goal, step)
    said = "nothing" if report is None else f"{report.result}" + (f" ({report.code})" if report.code else "")
    return f"the technician, {type(goal).__name__} on {copy.name}: {said}"


def _with_signature_of(compact: str, other: str) -> str:
    """The claims of one envelope with the signature of another."""
    return other.rpartition(".")[0] + "." + compact.rpartition(".")[2]


_ACTS: Final[Mapping[Act, Callable[[World, Step, Dice], str]]] = {
    **people.ACTS,
    Act.WISH: _wish,
    Act.EXCHANGE: _exchange,
    Act.GIVE_UP: _give_up,
    Act.GATHER: _gather,
    Act.POST: _post,
    Act.HAND_OVER: _hand_over,
    Act.LOSE: _lose,
    Act.POWER: _power,
    Act.SNAPSHOT: _snapshot,
    Act.ROLL_BACK: _roll_back,
    Act.CLONE: _clone,
    Act.HOST: _host,
    Act.DIE: _die,
    Act.DECLARE_LOST: _declare_lost,
    Act.SETTLE: _settle,
    Act.RELEASE: _release,
    Act.START_CHANGE: _start_change,
    Act.START_RETURN: _start_return,
    Act.TERMS: _terms,
    Act.BACKUP: _backup,
    Act.RESTORE: _restore,
    Act.LIFT: _lift,
    Act.CLOCK: _clock,
    Act.ROTATE: _rotate,
    Act.FORGE: _forge,
    Act.ROT: _rot,
    Act.TECHNICIAN: _technician,
}
