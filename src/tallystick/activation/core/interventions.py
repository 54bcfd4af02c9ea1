"""What people at the activation server do to field servers (protocol, sections 7 and 9).

Start a return or a change, declare lost, release a hold, announce a restore and lift its freeze; and what time does:
end a quarantine. Each function works in the caller's unit of work and refuses with ``RefusedError``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from tallystick.activation.core import events
from tallystick.activation.core.books import Books
from tallystick.activation.core.jumps import jump, raise_epoch
from tallystick.activation.core.ports import FieldServer, LostDeclaration, Policy, Restore, Signer, Status, Transaction
from tallystick.domain import rules
from tallystick.domain.ids import DeviceId, LineId
from tallystick.domain.rules import Denied, Want
from tallystick.errors import Error
from tallystick.protocol.reasons import reason_sentences
from tallystick.sentences import _

DAY_SECONDS: Final = 86_400
YEAR_SECONDS: Final = 365 * DAY_SECONDS


class RefusedError(Error):
    """A person asked for something that cannot be."""

    def __init__(self, code: str, *, expected: str, seen: str, reasons: Sequence[rules.Reason] = ()) -> None:
        super().__init__(code, expected=expected, seen=seen)
        self.reasons = tuple(reasons)


def start_return(
    transaction: Transaction, signer: Signer, device_id: DeviceId, *, by: str, now: int, takes_back: bool
) -> str:
    """A grant of nothing, to be carried to the field server; its rights are returning until it proves the grant.

    Asked again before anything else happened, it is the same envelope.
    """
    return start_change(transaction, signer, device_id, None, by=by, now=now, takes_back=takes_back)


def start_change(
    transaction: Transaction,
    signer: Signer,
    device_id: DeviceId,
    wants: Sequence[Want] | None,
    *,
    by: str,
    now: int,
    takes_back: bool,
) -> str:
    """A grant that sets ``wants`` (end states; None: everything to nothing) on a field server, started here.

    ``takes_back``: also what is sold without return, as its vendor may.
    """
    books = Books(transaction, signer, now=now)
    books.load([device_id])
    field_server = _in_service(books, device_id)
    books.load_lines([want.line_id for want in wants or ()])
    if wants is None:
        wants = [Want(line_id=line_id, quantity=0) for line_id in field_server.intended]
    reserved = {line_id: kept.held + kept.returning for line_id, kept in field_server.reserved().items()}
    decision = rules.decide_change(
        wants,
        kind=field_server.kind,
        lines=books.lines,
        held=field_server.intended,
        reserved=reserved,
        now=now,
        takes_back=takes_back,
    )
    decision = rules.decide_company(decision, lines=books.lines, reserved=reserved)
    if isinstance(decision, Denied):
        reasons = books.tell_quarantines(decision.reasons)
        expected, seen = reason_sentences(reasons[0])
        raise RefusedError(reasons[0].code, expected=expected, seen=seen, reasons=reasons)
    newest = transaction.load_issued_grant(device_id, field_server.number)
    if newest is not None and newest.envelope and decision.quantities == field_server.intended:
        return newest.envelope
    for line_id in decision.quantities:
        field_server = field_server.changed(account=books.line(line_id).account)
    envelope = books.grant(field_server, decision.quantities, request=None, cause=f"person:{by}: change", confirm=True)
    books.save()
    return envelope


def declare_lost(
    transaction: Transaction,
    signer: Signer,
    device_id: DeviceId,
    *,
    reason: str,
    by: str,
    policy: Policy,
    now: int,
    override_by: str | None = None,
) -> FieldServer:
    """A dead field server: its epoch rises, its reservation goes into quarantine for the waiting period."""
    books = Books(transaction, signer, now=now)
    books.load([device_id])
    field_server = _known(books, device_id)
    if field_server.status in {Status.LOST, Status.RETIRED, Status.LISTED}:
        raise RefusedError(
            "lost-already",
            expected=_("a field server in service"),
            seen=_("one that is {status}", status=field_server.status),
        )
    declared = [
        declaration
        for declaration in transaction.load_declarations(account=field_server.account, since_at=now - YEAR_SECONDS)
        if declaration.undone_at is None
    ]
    if len(declared) >= policy.lost_per_year and override_by is None:
        raise RefusedError(
            "lost-too-often",
            expected=_(
                "at most {lost_per_year} in a rolling year for account {account}",
                lost_per_year=policy.lost_per_year,
                account=field_server.account,
            ),
            seen=_("{count} already", count=len(declared)),
        )
    books.load_lines()
    after = field_server.changed(
        status=Status.LOST,
        epoch=raise_epoch(field_server),
        lost_at=now,
        lost_until=now + policy.waiting_days * DAY_SECONDS,
        waits_until=transaction.load_clock().seconds + policy.waiting_days * DAY_SECONDS,
    )
    books.change(after, cause=f"person:{by}: declared lost: {reason}")
    books.changes.declarations.append(
        LostDeclaration(
            device_id=device_id,
            account=field_server.account,
            at=now,
            reason=reason,
            by=by,
            override_by=override_by,
            held={line_id: field_server.intended.get(line_id, 0) for line_id in sorted(field_server.reserved())},
        )
    )
    books.save()
    return after


def hold(transaction: Transaction, signer: Signer, device_id: DeviceId, *, by: str, now: int) -> FieldServer:
    """Nothing that it asks for is granted until the hold is released."""
    return _set_status(transaction, signer, device_id, Status.HOLD, cause=f"person:{by}: held", now=now)


def retire(transaction: Transaction, signer: Signer, device_id: DeviceId, *, by: str, now: int) -> FieldServer:
    """Take a field server that holds nothing out of service; its host id is free again. If it speaks, it is back."""
    return _set_status(transaction, signer, device_id, Status.RETIRED, cause=f"person:{by}: retired", now=now)


def replace_field_server(
    transaction: Transaction,
    signer: Signer,
    device_id: DeviceId,
    *,
    with_device: DeviceId,
    reason: str,
    by: str,
    policy: Policy,
    now: int,
) -> str:
    """Let another field server have what a dead one held, and declare that one lost unless it is. Whole or not at all.

    It gives nothing back: where it holds more of a line already, that stays.
    """
    books = Books(transaction, signer, now=now)
    books.load([device_id, with_device])
    old, new = _known(books, device_id), _known(books, with_device)
    if old.device_id == new.device_id or new.account not in {None, old.account}:
        raise RefusedError("replace-wrong", expected=_("another field server of the same account"), seen=with_device)
    wants = [
        Want(line_id=line_id, quantity=max(quantity, new.intended.get(line_id, 0)))
        for line_id, quantity in _held(transaction, old).items()
        if quantity
    ]
    if old.is_declared_lost and not wants:
        raise RefusedError(
            "replace-nothing",
            expected=_("a field server of which is known what it held"),
            seen=_("{name}, which held nothing when it was declared lost", name=old.name or device_id),
        )
    if not old.is_declared_lost:
        declare_lost(transaction, signer, device_id, reason=reason, by=by, policy=policy, now=now)
    return start_change(transaction, signer, with_device, wants, by=by, now=now, takes_back=False)


def release_hold(transaction: Transaction, signer: Signer, device_id: DeviceId, *, by: str, now: int) -> FieldServer:
    """A person found the second copy. The epoch rises, so that the next contact of any copy gets a fence."""
    books = Books(transaction, signer, now=now)
    books.load([device_id])
    field_server = _known(books, device_id)
    if field_server.status is not Status.HOLD:
        raise RefusedError(
            "not-on-hold",
            expected=_("a field server on hold"),
            seen=_("one that is {status}", status=field_server.status),
        )
    books.load_lines()
    after = field_server.changed(status=Status.ACTIVE, epoch=raise_epoch(field_server))
    books.change(after, cause=f"person:{by}: released")
    books.save()
    return after


def settle_quarantines(transaction: Transaction, signer: Signer, *, now: int) -> list[DeviceId]:
    """End every waiting period that is over: what was in quarantine becomes available.

    It is over by the seconds of service (``core.clock``), not by the calendar; while a jump of the clock waits for a
    person, none is.
    """
    clock = transaction.load_clock()
    due = transaction.load_due_quarantines(clock.seconds) if clock.doubted_at is None else []
    if not due:
        return []
    books = Books(transaction, signer, now=now)
    books.load(due)
    books.load_lines()
    for device_id in sorted(due):
        field_server = books.field_servers[device_id]
        if field_server.status is Status.LOST and (field_server.waits_until or 0) <= clock.seconds:
            after = field_server.changed(status=Status.RETIRED, outstanding=(), recovering=None)
            books.change(after, cause="time: the waiting period ended")
    books.save()
    return due


def announce_restore(transaction: Transaction, signer: Signer, *, now: int) -> tuple[int, int]:
    """The data is an old backup: freeze growth on every line, jump every field server's epoch and numbers (section 9).

    Returns how many lines were frozen and how many field servers must be heard from.
    """
    books = Books(transaction, signer, now=now)
    lines = 0
    after_line: LineId | None = None
    while page := transaction.find_lines(after=after_line):
        after_line = page[-1].line_id
        for line in transaction.load_lines_for_update([line.line_id for line in page]).values():
            books.keep_line(replace(line, frozen=True))
            lines += 1
    field_servers = 0
    after_device: DeviceId | None = None
    while servers := transaction.find_field_servers(after=after_device):
        after_device = servers[-1].device_id
        books.load([server.device_id for server in servers])
        for server in servers:
            known = books.field_servers[server.device_id]
            books.change(jump(known, now=now), cause="restore")
            field_servers += known.status is not Status.LISTED
    transaction.save_restore(Restore(at=now, is_open=True))
    books.changes.events.append(events.restore_announced(lines=lines, field_servers=field_servers, now=now))
    if lines:
        books.changes.events.append(events.lines_frozen(lines=lines, now=now))
    books.save()
    return lines, field_servers


def lift_freeze(transaction: Transaction, signer: Signer, lines: Sequence[LineId] | None, *, now: int) -> int:
    """Let lines grow again (None: all). Returns how many were frozen.

    The restore is over when no line is frozen any more: who becomes known later begins as after no restore.
    """
    books = Books(transaction, signer, now=now)
    chosen = set(lines or ())
    after: LineId | None = None
    left = 0
    while page := transaction.find_lines(after=after):
        after = page[-1].line_id
        if lines is None:
            chosen |= {line.line_id for line in page}
        left += sum(line.frozen and line.line_id not in chosen for line in page)
    books.load_lines(chosen)
    lifted = [line for line in books.lines.values() if line.frozen]
    for line in lifted:
        books.keep_line(replace(line, frozen=False))
    restore = transaction.load_restore()
    if restore is not None and restore.is_open and not left:
        transaction.save_restore(replace(restore, is_open=False))
    books.save()
    return len(lifted)


def _held(transaction: Transaction, server: FieldServer) -> Mapping[LineId, int]:
    """What it is to hold; of one whose waiting period is over, what it was to hold when it was declared lost."""
    if server.status is Status.LOST or not server.is_declared_lost:
        return server.intended
    declaration = transaction.load_last_declaration(server.device_id)
    return declaration.held if declaration is not None else {}


def _known(books: Books, device_id: DeviceId) -> FieldServer:
    try:
        return books.field_servers[device_id]
    except KeyError:
        raise RefusedError("not-found", expected=_("a field server that is known here"), seen=device_id) from None


def _set_status(
    transaction: Transaction, signer: Signer, device_id: DeviceId, status: Status, *, cause: str, now: int
) -> FieldServer:
    books = Books(transaction, signer, now=now)
    books.load([device_id])
    before = _known(books, device_id)
    if before.status is not Status.ACTIVE:
        raise RefusedError(
            "not-in-service",
            expected=_("a field server in service"),
            seen=_("one that is {status}", status=before.status.value),
        )
    kept = before.reserved()
    if status is Status.RETIRED and kept:
        raise RefusedError(
            "holds-licenses",
            expected=_("a field server that holds nothing and whose returns are all proven"),
            seen=_("one that {count} lines keep something for", count=len(kept)),
        )
    books.load_lines()
    after = before.changed(status=status)
    books.change(after, cause=cause)
    books.save()
    return after


def _in_service(books: Books, device_id: DeviceId) -> FieldServer:
    field_server = _known(books, device_id)
    if field_server.status is not Status.ACTIVE:
        code = {Status.HOLD: "on-hold", Status.LISTED: "listed-only"}.get(field_server.status, "lost-already")
        raise RefusedError(
            code, expected=_("a field server in service"), seen=_("one that is {status}", status=field_server.status)
        )
    if field_server.recovering is not None:
        raise RefusedError(
            "restored",
            expected=_("a field server that was heard from since the restore"),
            seen=_("one of which only the backup is known"),
        )
    return field_server
