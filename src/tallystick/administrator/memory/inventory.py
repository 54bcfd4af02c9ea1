"""What Device Administrator knows: field servers, activation servers and their keys, entitlements, the plan.

Guarantees: a field server's certificate is pinned when it is added and never replaced silently; a root is pinned the
first time that its issuer is met, and keysets of it only rise; a certificate of an entitlement is taken only if a known
keyset signed it, and only a newer one replaces it. Passwords are sealed (``passwords``).
What is on its way is the mailbag's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import msgspec

from tallystick.administrator.memory.database import Database
from tallystick.administrator.memory.passwords import Sealer
from tallystick.administrator.ports import Contact
from tallystick.domain.ids import DeviceId, EntitlementId, LineId
from tallystick.errors import Error
from tallystick.protocol import keys, messages
from tallystick.protocol.device_api import Identity, LicenseReport
from tallystick.protocol.envelope import PublicKey, Unverified, Verified, open_envelope
from tallystick.protocol.keys import Keyset, KeysetClaims
from tallystick.protocol.messages import EntitlementCertificate, EntitlementLine
from tallystick.protocol.problems import WireError
from tallystick.sentences import _
from tallystick.structs import decode_kept, encode_kept, know


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why the last contact with a field server failed."""

    code: str
    seen: str
    next_step: str
    at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldServerRecord:
    """A field server in the list. ``report`` is what it said at ``seen_at``, for when it is out of reach."""

    device_id: DeviceId
    name: str
    kind: str
    host_id: str
    contact: Contact
    added_at: int
    seen_at: int | None = None
    report: LicenseReport | None = None
    trouble: Trouble | None = None
    site: str = ""
    returning: Mapping[LineId, int] = field(
        default_factory=dict
    )  # given up, and not proven yet, as far as is known here

    @property
    def address(self) -> str:
        """Its URL."""
        return self.contact.address

    @property
    def held(self) -> Mapping[LineId, int]:
        """Quantity per line, as it was last seen."""
        return {} if self.report is None else self.report.held


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLine:
    """A line of a known entitlement."""

    entitlement_id: EntitlementId
    issuer: str
    account: str
    terms: EntitlementLine
    available: int | None = None  # as the activation server said
    available_at: int | None = None
    held_then: Mapping[str, int] = field(default_factory=dict)  # by device id, as far as was known here

    @property
    def line_id(self) -> LineId:
        """The line id."""
        return LineId(self.terms.line)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownEntitlement:
    """An entitlement, with the certificate that proves it, verbatim."""

    entitlement_id: EntitlementId
    issuer: str
    account: str
    compact: str = field(repr=False)
    issued_at: int
    added_at: int
    lines: tuple[KnownLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Planned: ``quantity`` of a line on a field server. The activation ID is kept, so that no entitlement is needed."""

    device_id: DeviceId
    line_id: LineId
    activation_id: str = field(repr=False)
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Departed:
    """What a field server held when it was removed from the list."""

    device_id: DeviceId
    name: str
    line_id: LineId
    quantity: int
    removed_at: int


class Inventory:
    """The list of what is known, on one database."""

    def __init__(self, database: Database, sealer: Sealer | None = None) -> None:
        """``sealer`` None: passwords are stored as they are, for simulations."""
        self._database = database
        self._sealer = sealer

    # Field servers

    def add_field_server(self, identity: Identity, contact: Contact, *, now: int) -> bool:
        """Add it, or renew its address and password. False: it was there. Raises ``Error`` (``certificate-changed``)."""
        with self._database.write(durable=True) as sql:
            sql.execute("DELETE FROM departed WHERE device_id = ?", (identity.device_id,))
            known = sql.execute(
                "SELECT * FROM field_servers WHERE device_id = ? OR address = ?", (identity.device_id, contact.address)
            ).fetchall()
            for row in known:
                if row["fingerprint"] != contact.fingerprint or row["device_id"] != identity.device_id:
                    raise Error(
                        "certificate-changed",
                        expected=_(
                            "{fingerprint}, pinned for {name} at {address}",
                            fingerprint=row["fingerprint"],
                            name=row["name"],
                            address=row["address"],
                        ),
                        seen=_(
                            "{fingerprint}, of {identity} at {address}",
                            fingerprint=contact.fingerprint,
                            identity=identity.name,
                            address=contact.address,
                        ),
                    )
            sql.execute(
                "INSERT INTO field_servers (device_id, name, kind, host_id, address, certificate, fingerprint, password,"
                " added_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (device_id) DO UPDATE SET name = excluded.name,"
                " kind = excluded.kind, host_id = excluded.host_id, address = excluded.address,"
                " password = coalesce(excluded.password, password), trouble = NULL",
                (
                    identity.device_id,
                    identity.name,
                    identity.kind,
                    identity.host_id,
                    contact.address,
                    contact.certificate,
                    contact.fingerprint,
                    self._sealed(contact.password, identity.device_id),
                    now,
                ),
            )
        return not known

    def _sealed(self, password: str | None, device_id: DeviceId) -> str | None:
        return password if password is None or self._sealer is None else self._sealer.seal(password, device_id)

    def remove_field_server(self, device_id: DeviceId, *, now: int = 0) -> None:
        """Remove it from the list, with its plan. What is on its way stays, and what it holds counts on: it is not free."""
        with self._database.write(durable=True) as sql:
            row = sql.execute("SELECT * FROM field_servers WHERE device_id = ?", (device_id,)).fetchone()
            if row is not None:
                record = _record(row, None)
                sql.executemany(
                    "INSERT OR REPLACE INTO departed (device_id, name, line_id, quantity, removed_at) VALUES (?, ?, ?, ?, ?)",
                    [(device_id, record.name, line, count, now) for line, count in record.held.items()],
                )
            sql.execute("DELETE FROM field_servers WHERE device_id = ?", (device_id,))

    def departed(self) -> list[Departed]:
        """What field servers held when they were removed from the list."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT * FROM departed ORDER BY name, line_id").fetchall()
        return [
            Departed(
                device_id=DeviceId(row["device_id"]),
                name=row["name"],
                line_id=LineId(row["line_id"]),
                quantity=row["quantity"],
                removed_at=row["removed_at"],
            )
            for row in rows
        ]

    def forget_departed(self, device_id: DeviceId) -> None:
        """A person says that it holds nothing any more."""
        with self._database.write(durable=True) as sql:
            sql.execute("DELETE FROM departed WHERE device_id = ?", (device_id,))

    def repin(self, device_id: DeviceId, contact: Contact) -> None:
        """A person says that another certificate is of the same field server. Site, plan and what it holds stay."""
        with self._database.write(durable=True) as sql:
            sql.execute(
                "UPDATE field_servers SET certificate = ?, fingerprint = ?, password = coalesce(?, password), trouble = NULL"
                " WHERE device_id = ?",
                (contact.certificate, contact.fingerprint, self._sealed(contact.password, device_id), device_id),
            )

    def field_servers(self) -> list[FieldServerRecord]:
        """All, by name."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT * FROM field_servers ORDER BY name, device_id").fetchall()
        return [_record(row, self._sealer) for row in rows]

    def names(self) -> dict[DeviceId, str]:
        """Their names, and nothing else."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT device_id, name FROM field_servers").fetchall()
        return {DeviceId(row["device_id"]): row["name"] for row in rows}

    def pinned_at(self, address: str) -> str | None:
        """The fingerprint that is pinned for an address."""
        with self._database.read() as sql:
            row = sql.execute("SELECT fingerprint FROM field_servers WHERE address = ?", (address,)).fetchone()
        return None if row is None else str(row["fingerprint"])

    def field_server(self, device_id: DeviceId) -> FieldServerRecord | None:
        """One by its device id."""
        with self._database.read() as sql:
            row = sql.execute("SELECT * FROM field_servers WHERE device_id = ?", (device_id,)).fetchone()
        return None if row is None else _record(row, self._sealer)

    def keep_report(
        self, report: LicenseReport, *, now: int, was_proving: bool = False, is_proving: bool = False
    ) -> None:
        """What a field server said, for when it is out of reach. Trouble is over.

        ``was_proving``, ``is_proving``: whether a proof of what it gave up was, and is, on its way: then what it holds
        less than before is returning.
        """
        with self._database.write() as sql:
            known = sql.execute("SELECT * FROM field_servers WHERE device_id = ?", (report.device_id,)).fetchone()
            returning: dict[str, int] = {}
            if known is not None and is_proving:
                before = _record(known, None)
                returning |= {str(line): count for line, count in before.returning.items() if was_proving}
                for line_id, count in before.held.items():
                    less = count - report.held.get(line_id, 0)
                    if less > 0:
                        returning[line_id] = returning.get(line_id, 0) + less
            sql.execute(
                "UPDATE field_servers SET name = ?, kind = ?, report = ?, seen_at = ?, trouble = NULL, unproven = ?"
                " WHERE device_id = ?",
                (
                    report.name,
                    report.kind,
                    msgspec.json.encode(report),
                    now,
                    msgspec.json.encode(returning),
                    report.device_id,
                ),
            )

    def keep_trouble(self, device_id: DeviceId, trouble: Trouble) -> None:
        """Why it could not be used. What was seen before stays."""
        with self._database.write() as sql:
            sql.execute("UPDATE field_servers SET trouble = ? WHERE device_id = ?", (encode_kept(trouble), device_id))

    def set_site(self, device_ids: Sequence[DeviceId], site: str) -> None:
        """Put field servers into the group ``site``; empty: into none."""
        with self._database.write() as sql:
            sql.executemany(
                "UPDATE field_servers SET site = ? WHERE device_id = ?", [(site, device) for device in device_ids]
            )

    # Settings

    def setting(self, name: str) -> str:
        """What was set, or nothing."""
        with self._database.read() as sql:
            row = sql.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return "" if row is None else str(row["value"])

    def set_setting(self, name: str, value: str) -> None:
        """Remember it; empty: forget it."""
        with self._database.write() as sql:
            if value:
                sql.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, value))
            else:
                sql.execute("DELETE FROM settings WHERE name = ?", (name,))

    def secret(self, name: str) -> str:
        """What was set, and sealed like a password; nothing where another key had sealed it."""
        stored = self.setting(name)
        return stored if self._sealer is None else self._sealer.open(stored, name) or ""

    def set_secret(self, name: str, value: str) -> None:
        """Seal and remember it; empty: forget it."""
        self.set_setting(name, self._sealed(value, DeviceId(name)) or "" if value else "")

    # Activation servers and keys

    def add_activation(self, url: str, issuer: str | None = None) -> None:
        """Remember the address of an activation server, and which issuer answers there."""
        with self._database.write() as sql:
            sql.execute(
                "INSERT INTO activation_servers (url, issuer) VALUES (?, ?)"
                " ON CONFLICT (url) DO UPDATE SET issuer = coalesce(excluded.issuer, issuer)",
                (url, issuer),
            )

    def activation_urls(self, issuer: str | None = None) -> list[str]:
        """Addresses, of an issuer those that are its own or not known yet; its own first."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT url FROM activation_servers WHERE ?1 IS NULL OR issuer IS NULL OR issuer = ?1"
                " ORDER BY issuer IS NULL, url",
                (issuer,),
            ).fetchall()
        return [row["url"] for row in rows]

    def activation_urls_of(self, issuer: str) -> list[str]:
        """The addresses at which an issuer is known to answer."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT url FROM activation_servers WHERE issuer = ? ORDER BY url", (issuer,)).fetchall()
        return [row["url"] for row in rows]

    def remove_issuer(self, issuer: str) -> None:
        """Its root is trusted no more; its entitlements and addresses go with it. What is on its way stays."""
        for known in self.entitlements():
            if known.issuer == issuer:
                self.remove_entitlement(known.entitlement_id)
        with self._database.write(durable=True) as sql:
            sql.execute("DELETE FROM keysets WHERE issuer = ?", (issuer,))
            sql.execute("DELETE FROM activation_servers WHERE issuer = ?", (issuer,))

    def learn_keyset(self, envelope: Unverified) -> tuple[Keyset, bool]:
        """Take a keyset; True if it is newer than what was known. Raises ``WireError``.

        The first root that an issuer shows is pinned; another one counts if it was handed over to. An older keyset is
        genuine and changes nothing.
        """
        issuer = messages.convert_claims(envelope.payload, KeysetClaims).iss
        with self._database.write(durable=True) as sql:
            known = _keyset_of(sql, issuer)
            keyset = keys.parse_keyset(envelope) if known is None else keys.parse_successor(envelope, known)
            if known is not None and keyset.version <= known.version:
                return known, False
            sql.execute(
                "INSERT OR REPLACE INTO keysets (issuer, version, root, compact) VALUES (?, ?, ?, ?)",
                (issuer, keyset.version, keyset.root.x, keyset.compact),
            )
        return keyset, True

    def keyset(self, issuer: str) -> Keyset | None:
        """The newest keyset of an issuer."""
        with self._database.read() as sql:
            return _keyset_of(sql, issuer)

    def keysets(self) -> list[Keyset]:
        """The newest of every issuer."""
        with self._database.read() as sql:
            return [
                _parse_keyset(row["compact"], row["root"])
                for row in sql.execute("SELECT * FROM keysets ORDER BY issuer")
            ]

    def verify(self, envelope: Unverified) -> tuple[Verified, Keyset]:
        """Check a message of an activation server with the keyset that has its key. Raises ``WireError``."""
        known = self.keysets()
        for keyset in known:
            if any(PublicKey(key.jwk.x).thumbprint == envelope.kid for key in keyset.keys):
                return keyset.verify(envelope), keyset
        names = ", ".join(keyset.issuer for keyset in known) or _("none known so far")
        raise WireError(
            "key-unknown",
            expected=_("a key of an activation server that is known here ({names})", names=names),
            seen=_("kid {kid}", kid=str(envelope.kid)[:12])
            if envelope.kid
            else _("a message that carries its own key"),
        )

    # Entitlements

    def add_entitlement(self, envelope: Unverified, *, now: int) -> tuple[KnownEntitlement, bool]:
        """Take a certificate; False if this one, or a newer one, was known. Raises ``WireError``."""
        verified, keyset = self.verify(envelope)
        certificate = messages.parse_entitlement(verified)
        keyset.check_issued(verified, issuer=certificate.iss, issued_at=certificate.iat)
        with self._database.write(durable=True) as sql:
            row = sql.execute(
                "SELECT * FROM entitlements WHERE entitlement_id = ?", (certificate.entitlement,)
            ).fetchone()
            if row is not None and (row["issued_at"] > certificate.iat or row["compact"] == verified.compact):
                return _entitlement(row), False
            sql.execute(
                "INSERT OR REPLACE INTO entitlements (entitlement_id, issuer, issued_at, compact, added_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (certificate.entitlement, certificate.iss, certificate.iat, verified.compact, now),
            )
            row = sql.execute(
                "SELECT * FROM entitlements WHERE entitlement_id = ?", (certificate.entitlement,)
            ).fetchone()
        return _entitlement(row), True

    def remove_entitlement(self, entitlement_id: EntitlementId) -> None:
        """Forget a certificate, what is available of its lines, and what is planned of them."""
        with self._database.write(durable=True) as sql:
            row = sql.execute("SELECT * FROM entitlements WHERE entitlement_id = ?", (entitlement_id,)).fetchone()
            lines = [] if row is None else [(line.line_id,) for line in _entitlement(row).lines]
            sql.executemany("DELETE FROM available WHERE line_id = ?", lines)
            sql.executemany("DELETE FROM plan WHERE line_id = ?", lines)
            sql.execute("DELETE FROM entitlements WHERE entitlement_id = ?", (entitlement_id,))

    def entitlements(self) -> list[KnownEntitlement]:
        """All, by their id."""
        with self._database.read() as sql:
            rows = sql.execute("SELECT * FROM entitlements ORDER BY entitlement_id").fetchall()
        return [_entitlement(row) for row in rows]

    def lines(self) -> dict[LineId, KnownLine]:
        """Every line of every known entitlement, with what the activation server said that is available of it."""
        with self._database.read() as sql:
            said = {row["line_id"]: row for row in sql.execute("SELECT * FROM available")}
        return {
            line.line_id: _with_available(line, said.get(line.line_id))
            for entitlement in self.entitlements()
            for line in entitlement.lines
        }

    def keep_available(self, available: Mapping[LineId, int], *, now: int) -> None:
        """What the activation server says that is available of lines, now; and who holds some now, as far as is known."""
        held = {record.device_id: record.held for record in self.field_servers()}
        rows = [
            (line_id, count, now, msgspec.json.encode({one: lines.get(line_id, 0) for one, lines in held.items()}))
            for line_id, count in available.items()
        ]
        with self._database.write() as sql:
            sql.executemany(
                "INSERT OR REPLACE INTO available (line_id, quantity, said_at, held) VALUES (?, ?, ?, ?)", rows
            )

    # The plan

    def plan(self, assignments: Sequence[Assignment], *, now: int) -> None:
        """Set planned end states, all or none."""
        with self._database.write(durable=True) as sql:
            sql.executemany(
                "INSERT OR REPLACE INTO plan (device_id, line_id, activation_id, quantity, planned_at)"
                " VALUES (?, ?, ?, ?, ?)",
                [(one.device_id, one.line_id, one.activation_id, one.quantity, now) for one in assignments],
            )

    def unplan(self, device_id: DeviceId, line_ids: Sequence[LineId] | None = None) -> None:
        """Forget what was planned for these lines on a field server (None: all of it)."""
        with self._database.write() as sql:
            if line_ids is None:
                sql.execute("DELETE FROM plan WHERE device_id = ?", (device_id,))
            else:
                sql.executemany(
                    "DELETE FROM plan WHERE device_id = ? AND line_id = ?", [(device_id, line) for line in line_ids]
                )

    def assignments(self, device_id: DeviceId | None = None) -> list[Assignment]:
        """The plan, of one field server or of all."""
        with self._database.read() as sql:
            rows = sql.execute(
                "SELECT * FROM plan WHERE ?1 IS NULL OR device_id = ?1 ORDER BY device_id, line_id", (device_id,)
            ).fetchall()
        return [
            Assignment(
                device_id=DeviceId(row["device_id"]),
                line_id=LineId(row["line_id"]),
                activation_id=row["activation_id"],
                quantity=row["quantity"],
            )
            for row in rows
        ]


def _record(row: sqlite3.Row, sealer: Sealer | None) -> FieldServerRecord:
    password = row["password"]
    if password is not None and sealer is not None:
        password = sealer.open(password, row["device_id"])
    return FieldServerRecord(
        device_id=DeviceId(row["device_id"]),
        name=row["name"],
        kind=row["kind"],
        host_id=row["host_id"],
        contact=Contact(
            address=row["address"],
            certificate=row["certificate"],
            fingerprint=row["fingerprint"],
            password=password,
        ),
        added_at=row["added_at"],
        seen_at=row["seen_at"],
        report=None if row["report"] is None else msgspec.json.decode(row["report"], type=LicenseReport),
        trouble=None if row["trouble"] is None else decode_kept(row["trouble"], Trouble),
        site=row["site"],
        returning=msgspec.json.decode(row["unproven"] or b"{}", type=dict[LineId, int]),
    )


def _with_available(line: KnownLine, row: sqlite3.Row | None) -> KnownLine:
    if row is None:
        return line
    held = msgspec.json.decode(row["held"], type=dict[str, int])
    return replace(line, available=row["quantity"], available_at=row["said_at"], held_then=held)


def _entitlement(row: sqlite3.Row) -> KnownEntitlement:
    """Read out of the certificate, whose signature was checked when it was taken."""
    certificate = _parse_certificate(row["compact"])
    entitlement_id = certificate.entitlement_id
    return KnownEntitlement(
        entitlement_id=entitlement_id,
        issuer=certificate.iss,
        account=certificate.account,
        compact=row["compact"],
        issued_at=certificate.iat,
        added_at=row["added_at"],
        lines=tuple(
            KnownLine(entitlement_id=entitlement_id, issuer=certificate.iss, account=certificate.account, terms=terms)
            for terms in certificate.lines
        ),
    )


def _keyset_of(sql: sqlite3.Connection, issuer: str) -> Keyset | None:
    row = sql.execute("SELECT * FROM keysets WHERE issuer = ?", (issuer,)).fetchone()
    return None if row is None else _parse_keyset(row["compact"], row["root"])


@lru_cache(maxsize=64)
def _parse_keyset(compact: str, root: str) -> Keyset:
    return keys.parse_keyset(open_envelope(compact.encode()), root=PublicKey(root))


@lru_cache(maxsize=256)
def _parse_certificate(compact: str) -> EntitlementCertificate:
    return messages.convert_claims(open_envelope(compact.encode()).payload, EntitlementCertificate)


know(Trouble)
