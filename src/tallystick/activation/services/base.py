"""The office itself: what its functions work with, and the frame around every change."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tallystick.activation.core.permissions import Caller, Permission
from tallystick.activation.core.ports import Changes, Event, EventKind, Policy, Signer
from tallystick.activation.core.trail import Record
from tallystick.activation.services.batcher import Batcher
from tallystick.activation.services.schemas import Document
from tallystick.activation.storage import SqlStore, SqlTransaction
from tallystick.errors import Error
from tallystick.sentences import _

ResultT = TypeVar("ResultT")
DocumentT = TypeVar("DocumentT", bound=Document)


class OfficeError(Error):
    """Something that cannot be done as it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotentRequest:
    """An idempotency key, and the fingerprint of the request that it stands for."""

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Office:
    """What the functions of the office work with."""

    store: SqlStore
    signer: Signer
    policy: Policy
    batcher: Batcher
    clock: Callable[[], int]
    random_bytes: Callable[[int], bytes]
    public_url: str | None = None  # the address at which people reach it; None: the one that they called
    webhooks_inside: Sequence[str] = ()  # hosts and networks inside that the vendor's own webhooks may go to
    watchers: list[Callable[[EventKind], None]] = field(default_factory=list)  # are told of security events

    def read(self, caller: Caller, permission: Permission, work: Callable[[SqlTransaction], ResultT]) -> ResultT:
        """Run ``work``, which writes nothing, when ``caller`` may."""
        caller.check(permission)
        return self.store.read(work)

    def change(self, caller: Caller, permission: Permission, work: Callable[[SqlTransaction, int], ResultT]) -> ResultT:
        """Run ``work`` in one transaction, when ``caller`` may. It gets the time."""
        caller.check(permission)
        now = self.clock()
        return self.store.transact(lambda transaction: work(transaction, now))

    def create(
        self,
        caller: Caller,
        permission: Permission,
        work: Callable[[SqlTransaction, int], DocumentT],
        *,
        kind: type[DocumentT],
        once: IdempotentRequest | None,
    ) -> DocumentT:
        """As ``change``, but the same request with the same key is done once and answered the same."""

        def run(transaction: SqlTransaction, now: int) -> DocumentT:
            if once is None:
                return work(transaction, now)
            known = transaction.people.load_repeat(caller.subject, once.key, now=now)
            if known is not None:
                fingerprint, answer = known
                if fingerprint != once.fingerprint:
                    raise OfficeError(
                        "key-reused",
                        expected=_("the request that this idempotency key was used for"),
                        seen=_("another one"),
                    )
                return kind.model_validate_json(answer)
            document = work(transaction, now)
            answer = document.without_secrets().model_dump_json()
            transaction.people.save_repeat(
                caller.subject, once.key, fingerprint=once.fingerprint, answer=answer, now=now
            )
            return document

        return self.change(caller, permission, run)

    def new_id(self, prefix: str) -> str:
        """A random id of 80 bits."""
        return f"{prefix}-{base64.b32encode(self.random_bytes(10)).decode()}"


def record(
    transaction: SqlTransaction,
    caller: Caller,
    action: str,
    target: str,
    *,
    account: str | None,
    now: int,
    detail: str = "",
) -> None:
    """Write the audit trail, in the transaction of what it records."""
    transaction.trail.save(
        Record(
            at=now,
            actor=caller.name,
            role=caller.title,
            account=account,
            action=action,
            target=target,
            detail=detail,
        )
    )


def record_security(
    office: Office,
    transaction: SqlTransaction,
    caller: Caller,
    kind: EventKind,
    action: str,
    target: str,
    *,
    account: str | None,
    now: int,
    address: str | None = None,
    detail: str = "",
) -> None:
    """Write the audit trail about what opens something; notify webhooks and monitoring, too."""
    address = address or caller.address
    said = ", ".join(part for part in (detail, f"from {address}" if address else "") if part)
    record(transaction, caller, action, target, account=account, now=now, detail=said)
    data = {"action": action, "target": target, "by": caller.name, "address": address, "detail": detail}
    transaction.save(Changes(events=[Event(kind=kind, at=now, account=account, data=data)]))
    for watcher in office.watchers:
        watcher(kind)


def not_found(what: str, seen: str) -> OfficeError:
    """What is not there, or not there for the caller: the same answer."""
    return OfficeError("not-found", expected=what, seen=seen[:80])


def check_version(have: str, wanted: str | None, what: str) -> None:
    """Raises ``OfficeError`` when somebody else changed ``what`` since the caller looked."""
    if wanted is not None and wanted != have:
        raise OfficeError(
            "changed-meanwhile",
            expected=_("{what} as you saw it, version {wanted}", what=what, wanted=wanted[:40]),
            seen=_("version {have}", have=have),
        )
