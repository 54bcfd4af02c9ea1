"""What is on its way: messages up, replies down, and the receipts, which are kept for ever.

Guarantees: an envelope is in the bag before it is passed on, and leaves it only when the other side has it: a message
when a reply to it or to a later one is here, a reply when its field server has taken it. Everything is found by its
digest, so the same envelope any number of times is one. What leaves too early comes again: field servers and activation
servers repeat themselves byte for byte.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from tallystick.administrator.memory.database import Database
from tallystick.domain.ids import DeviceId, Digest, LineId
from tallystick.protocol import envelope, messages
from tallystick.protocol.device_api import LicenseReport
from tallystick.protocol.envelope import Unverified, Verified
from tallystick.protocol.messages import CREDIT, GRANT, REFUSAL, Credit, Reply
from tallystick.protocol.problems import WireError
from tallystick.sentences import _

TAKEN_MAX = 100_000  # of so many delivered replies it is known that they were
_KINDS = {GRANT: "grant", REFUSAL: "refusal", CREDIT: "credit"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """A field server's message, on its way to its activation server. ``written_at`` is by the field server's clock.

    ``code`` and ``detail``: why the activation server could not read it, the last time.
    """

    digest: Digest
    device_id: DeviceId
    issuer: str
    sequence: int
    purpose: str
    written_at: int
    compact: str = field(repr=False)
    gathered_at: int = 0
    exported_at: int | None = None
    code: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A reply, on its way to its field server. ``code`` and ``detail``: why that could not use it, the last time."""

    digest: Digest
    device_id: DeviceId
    kind: str
    request: Digest | None
    compact: str = field(repr=False)
    kept_at: int = 0
    code: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A credit: proof, signed by the activation server, that rights came back."""

    digest: Digest
    device_id: DeviceId
    name: str
    issuer: str
    issued_at: int
    credits: tuple[tuple[LineId, int], ...]
    compact: str = field(repr=False)
    kept_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownReply:
    """A reply whose signature was checked, and what it says."""

    verified: Verified
    claims: Reply

    @property
    def device_id(self) -> DeviceId:
        """For whom it is."""
        return DeviceId(self.claims.sub)


def read_message(line: Unverified) -> Outbound:
    """A field server's message, checked with the key that it carries. Raises ``WireError``."""
    if line.jwk is None:
        raise WireError("header-refused", expected=_("the field server's key as jwk"), seen=_("none"))
    verified = envelope.verify(line, line.jwk)
    request = messages.parse_request(verified)
    return Outbound(
        digest=verified.digest,
        device_id=request.device_id,
        issuer=request.aud,
        sequence=request.sequence,
        purpose=request.purpose,
        written_at=request.iat,
        compact=verified.compact,
    )


class Mailbag:
    """Both directions, on one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # Up

    def gather(self, found: Sequence[Outbound], *, now: int, durable: bool = False) -> int:
        """Put messages into the bag; how many are new."""
        if not found:
            return 0
        with self._database.write(durable=durable) as sql:
            before = sql.total_changes
            sql.executemany(
                "INSERT OR IGNORE INTO outbound (digest, device_id, issuer, sequence, purpose, written_at, compact,"
                " gathered_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (one.digest, one.device_id, one.issuer, one.sequence, one.purpose, one.written_at, one.compact, now)
                    for one in found
                ],
            )
            return sql.total_changes - before

    def forget_answered(self, report: LicenseReport) -> None:
        """Drop messages that the field server has had a reply to, also when it came by another hand."""
        waiting = {note.digest for note in report.outbox}
        told = [note.sequence for note in report.outcomes]
        if not told:
            return
        rows = [
            row for row in self.outbound(report.device_id) if row.digest not in waiting and row.sequence <= max(told)
        ]
        if rows:
            with self._database.write() as sql:
                sql.executemany("DELETE FROM outbound WHERE digest = ?", [(row.digest,) for row in rows])

    def outbound(self, device_id: DeviceId | None = None) -> list[Outbound]:
        """What waits to be carried up, in the order of the field servers and their sequence."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT * FROM outbound WHERE ?1 IS NULL OR device_id = ?1 ORDER BY device_id, sequence, digest",
                (device_id,),
            ).fetchall()
        return [_outbound(row) for row in rows]

    def note_exported(self, digests: Collection[Digest], *, now: int) -> None:
        """Remember when messages were first written to a file."""
        with self._database.write() as sql:
            sql.executemany(
                "UPDATE outbound SET exported_at = coalesce(exported_at, ?) WHERE digest = ?",
                [(now, digest) for digest in digests],
            )

    def note_unread(self, digest: Digest, *, code: str, detail: str) -> None:
        """The activation server could not read a message."""
        with self._database.write() as sql:
            sql.execute("UPDATE outbound SET code = ?, detail = ? WHERE digest = ?", (code, detail, digest))

    # Down

    def keep_replies(
        self, replies: Sequence[KnownReply], *, now: int, names: Mapping[DeviceId, str], durable: bool = False
    ) -> int:
        """Put replies into the bag, receipts among them, and drop the messages that they answer; how many are new.

        A reply is for those in ``names``; a receipt is kept whosever it is.
        """
        if not replies:
            return 0
        fresh = 0
        with self._database.write(durable=durable) as sql:
            for reply in replies:
                fresh += _keep_reply(sql, reply, now=now, names=names)
        return fresh

    def inbound(self, device_id: DeviceId | None = None) -> list[Inbound]:
        """What waits to be delivered, oldest first."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT * FROM inbound WHERE ?1 IS NULL OR device_id = ?1 ORDER BY device_id, kept_at, rowid",
                (device_id,),
            ).fetchall()
        return [_inbound(row) for row in rows]

    def note_delivered(self, taken: Collection[Digest], unusable: Sequence[tuple[Digest, str, str]]) -> None:
        """Replies that a field server has taken leave the bag; those that it could not use stay, with the reason."""
        with self._database.write() as sql:
            sql.executemany("DELETE FROM inbound WHERE digest = ?", [(digest,) for digest in taken])
            sql.executemany("INSERT OR IGNORE INTO taken (digest) VALUES (?)", [(digest,) for digest in taken])
            sql.execute("DELETE FROM taken WHERE place <= (SELECT max(place) FROM taken) - ?", (TAKEN_MAX,))
            sql.executemany(
                "UPDATE inbound SET code = ?, detail = ? WHERE digest = ?",
                [(code, detail, digest) for digest, code, detail in unusable],
            )

    def receipts(self) -> list[Receipt]:
        """All receipts, newest first."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT * FROM receipts ORDER BY issued_at DESC, digest").fetchall()
        return [_receipt(row) for row in rows]


def _keep_reply(sql: sqlite3.Connection, reply: KnownReply, *, now: int, names: Mapping[DeviceId, str]) -> int:
    claims, verified, device_id = reply.claims, reply.verified, reply.device_id
    before = sql.total_changes
    if isinstance(claims, Credit):
        sql.execute(
            "INSERT OR IGNORE INTO receipts (digest, device_id, name, issuer, issued_at, credits, compact, kept_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                verified.digest,
                device_id,
                names.get(device_id, ""),
                claims.iss,
                claims.iat,
                msgspec.json.encode([(credit.line, credit.quantity) for credit in claims.credits]),
                verified.compact,
                now,
            ),
        )
    if device_id in names:
        sql.execute(
            "INSERT OR IGNORE INTO inbound (digest, device_id, kind, request, compact, kept_at) VALUES (?, ?, ?, ?, ?, ?)",
            (verified.digest, device_id, _KINDS[verified.typ], claims.request, verified.compact, now),
        )
    fresh = sql.total_changes - before
    if sql.execute("SELECT 1 FROM taken WHERE digest = ?", (verified.digest,)).fetchone() is not None:
        fresh = 0  # delivered before; it is delivered again all the same, which changes nothing
    if claims.request is not None:
        row = sql.execute("SELECT sequence FROM outbound WHERE digest = ?", (claims.request,)).fetchone()
        if row is not None:
            sql.execute("DELETE FROM outbound WHERE device_id = ? AND sequence <= ?", (device_id, row["sequence"]))
    return min(fresh, 1)


def _outbound(row: sqlite3.Row) -> Outbound:
    return Outbound(
        digest=Digest(row["digest"]),
        device_id=DeviceId(row["device_id"]),
        issuer=row["issuer"],
        sequence=row["sequence"],
        purpose=row["purpose"],
        written_at=row["written_at"],
        compact=row["compact"],
        gathered_at=row["gathered_at"],
        exported_at=row["exported_at"],
        code=row["code"],
        detail=row["detail"],
    )


def _inbound(row: sqlite3.Row) -> Inbound:
    return Inbound(
        digest=Digest(row["digest"]),
        device_id=DeviceId(row["device_id"]),
        kind=row["kind"],
        request=None if row["request"] is None else Digest(row["request"]),
        compact=row["compact"],
        kept_at=row["kept_at"],
        code=row["code"],
        detail=row["detail"],
    )


def _receipt(row: sqlite3.Row) -> Receipt:
    pairs = msgspec.json.decode(row["credits"], type=list[tuple[str, int]])
    return Receipt(
        digest=Digest(row["digest"]),
        device_id=DeviceId(row["device_id"]),
        name=row["name"],
        issuer=row["issuer"],
        issued_at=row["issued_at"],
        credits=tuple((LineId(line), quantity) for line, quantity in pairs),
        compact=row["compact"],
        kept_at=row["kept_at"],
    )
