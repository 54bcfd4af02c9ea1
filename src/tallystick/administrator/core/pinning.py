"""Field servers at first contact, one or many: read from CSV, looked at, pinned; and entitlements by id or certificate.

Guarantees: looking at a certificate sends nothing; the fingerprint is compared, with what was expected and with what
was pinned, before a password is sent; one field server that fails stops no other, and each has its sentence; a
certificate of an entitlement is believed only if a known keyset signed it.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tallystick.administrator.core.courier import Courier, at_once
from tallystick.administrator.core.file_courier import Import
from tallystick.administrator.core.planning import normal_address
from tallystick.administrator.core.ways import NAME_ADDRESS
from tallystick.administrator.memory.inventory import FieldServerRecord, Inventory, KnownEntitlement
from tallystick.administrator.memory.messages import Mailbag
from tallystick.administrator.ports import Contact, FoundEntitlement, Network, PortError, ShownCertificate, next_step_of
from tallystick.domain.ids import EntitlementId, LineId, parse_entitlement_id
from tallystick.domain.text import is_among
from tallystick.errors import Error
from tallystick.protocol.device_api import Identity
from tallystick.protocol.envelope import open_envelope
from tallystick.sentences import _

_SCHEMES: Final = ("https://", "http://")
ROWS_MAX: Final = 10_000
_BYTES_MAX: Final = 4 * 1024 * 1024
COLUMNS: Final = ("name", "address", "password", "site", "fingerprint")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFieldServer:
    """A field server that is in the list now. ``is_new``: it was not before."""

    identity: Identity
    address: str
    fingerprint: str
    is_new: bool
    warning: str = ""


def add_field_server(
    network: Network, inventory: Inventory, *, address: str, password: str, fingerprint: str | None, now: int
) -> PinnedFieldServer:
    """Pin the certificate that ``address`` shows and add the field server, or renew its address and password.

    Raises ``PortError``: ``certificate-changed`` where ``fingerprint``, or what was pinned for this address, is another.
    """
    shown = network.certificate(address)
    if fingerprint is not None and fingerprint.strip().rstrip("=") != shown.fingerprint:
        raise PortError(
            "certificate-changed",
            expected=fingerprint,
            seen=_("{fingerprint}; nothing was sent to {address}", fingerprint=shown.fingerprint, address=address),
        )
    pinned = inventory.pinned_at(address)
    if pinned is not None and pinned != shown.fingerprint:
        raise PortError(
            "certificate-changed",
            expected=_("{pinned}, pinned for {address}", pinned=pinned, address=address),
            seen=_("{fingerprint}; nothing was sent to it", fingerprint=shown.fingerprint),
        )
    contact = Contact(address=address, certificate=shown.certificate, fingerprint=shown.fingerprint, password=password)
    with network.field_server(contact) as port:
        identity = port.identity()
        report = port.licenses()
    is_new = inventory.add_field_server(identity, contact, now=now)
    inventory.keep_report(report, now=now)
    if identity.activation is not None:
        inventory.add_activation(identity.activation.url)
    return PinnedFieldServer(
        identity=identity,
        address=address,
        fingerprint=shown.fingerprint,
        is_new=is_new,
        warning=_strange_kind(identity.kind, inventory),
    )


def repin(
    network: Network, inventory: Inventory, record: FieldServerRecord, *, shown: str, password: str, now: int
) -> None:
    """Pin the certificate that a person has just compared, of a field server that says it is the same.

    Raises ``PortError``: ``certificate-changed`` where it is another one than was shown, ``device-wrong``.
    """
    found = network.certificate(record.address)
    if found.fingerprint != shown:
        raise PortError("certificate-changed", expected=shown, seen=found.fingerprint)
    contact = Contact(
        address=record.address,
        certificate=found.certificate,
        fingerprint=found.fingerprint,
        password=password or record.contact.password,
    )
    with network.field_server(contact) as port:
        identity = port.identity()
        if identity.device_id != record.device_id:
            raise PortError(
                "device-wrong",
                expected=_("{name}, {device_id}", name=record.name, device_id=record.device_id[:12]),
                seen=_("{name}, {device_id}", name=identity.name, device_id=identity.device_id[:12]),
            )
        report = port.licenses()
    inventory.repin(record.device_id, contact)
    inventory.keep_report(report, now=now)


def _strange_kind(kind: str, inventory: Inventory) -> str:
    """What to say of a kind that none of the products that are known here is for; else nothing."""
    known = {one for line in inventory.lines().values() for one in line.terms.kinds}
    if not known or is_among(kind, known):
        return ""
    return _(
        "No product that is known here is for a field server of kind {kind}; they are for {kinds}. If that is a slip, set the "
        "field server up again with the right kind.",
        kind=kind,
        kinds=", ".join(sorted(known)),
    )


def learn_entitlement(
    courier: Courier, inventory: Inventory, *, text: str, url: str | None, now: int
) -> KnownEntitlement:
    """Look an entitlement up by its ID. ``url`` None: at the one activation server that is known here."""
    entitlement_id = parse_entitlement_id(text)
    known = inventory.activation_urls()
    if url is None and len(known) != 1:
        raise Error(
            "usage",
            expected=_("the address of the activation server: {name}", name=NAME_ADDRESS),
            seen=_("{count} activation servers that are known here", count=len(known)),
        )
    return _keep(
        inventory, courier.lookup(normal_url(url) if url else known[0], entitlement_id), entitlement_id, now=now
    )


def ask_available(courier: Courier, inventory: Inventory, line_ids: Collection[LineId], *, now: int) -> bool:
    """Ask what is available of lines, where there is a route to their activation server. Whether any was heard of."""
    heard = False
    for known in inventory.entitlements():
        if any(line.line_id in line_ids for line in known.lines):
            with contextlib.suppress(Error):  # no route, or the ID was replaced: what was known stays, with its moment
                told = courier.lookup_of(known.issuer, known.entitlement_id)
                _keep(inventory, told, known.entitlement_id, now=now)
                heard = True
    return heard


def _keep(inventory: Inventory, told: FoundEntitlement, entitlement_id: EntitlementId, *, now: int) -> KnownEntitlement:
    found, _other = inventory.add_entitlement(open_envelope(told.certificate.encode("utf-8", "replace")), now=now)
    if found.entitlement_id != entitlement_id:
        raise PortError(
            "unreachable",
            expected=_("the certificate of {entitlement_id}", entitlement_id=entitlement_id),
            seen=_("that of {entitlement_id}", entitlement_id=found.entitlement_id),
        )
    available = {line.line_id: told.available[line.line_id] for line in found.lines if line.line_id in told.available}
    inventory.keep_available(available, now=now)
    return found


def learn_certificate(
    courier: Courier, inventory: Inventory, mailbag: Mailbag, *, path: Path, url: str | None, now: int
) -> list[KnownEntitlement]:
    """Learn the entitlements of a certificate file. ``url``: where their activation server is, if it is known."""
    reading = Import(inventory=inventory, mailbag=mailbag, courier=courier, now=now)
    reading.read(path)
    if not reading.certificates:
        bad = reading.bad_lines
        code, seen = (bad[0].code, bad[0].detail) if bad else ("kind-unexpected", "none")
        raise PortError(
            code,
            expected=_("an entitlement certificate in {path}", path=path.name),
            seen=seen,
            next_step=bad[0].next_step if bad else _("Choose the certificate file that came with the entitlement."),
        )
    chosen = [known for known in inventory.entitlements() if known.entitlement_id in reading.certificates]
    if url is not None:
        for issuer in {known.issuer for known in chosen}:
            inventory.add_activation(normal_url(url), issuer)
    return chosen


def normal_url(text: str) -> str:
    """An activation server's URL. Raises ``Error`` (``usage``)."""
    url = text.rstrip("/")
    if not url.startswith(_SCHEMES):
        raise Error("usage", expected=_("an activation server's URL, with https:// or http://"), seen=text)
    return url


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A row: where a field server is said to be. ``name`` and ``fingerprint`` are compared where they are given."""

    address: str
    password: str = field(repr=False)
    name: str = ""
    site: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstContact:
    """What an address shows, or why it shows nothing that could be pinned."""

    candidate: Candidate
    shown: ShownCertificate | None = None
    error: Error | None = None
    is_known: bool = False

    @property
    def next_step(self) -> str:
        """What to do about the error."""
        return next_step_for(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class PinResult:
    """What came of a candidate."""

    candidate: Candidate
    enrolled: PinnedFieldServer | None = None
    error: Error | None = None
    warning: str = ""

    @property
    def next_step(self) -> str:
        """What to do about the error."""
        return next_step_for(self.error)


def next_step_for(error: Error | None) -> str:
    """Its own next step, or that of its code."""
    if error is None:
        return ""
    return error.next_step if isinstance(error, PortError) else next_step_of(error.code)


def parse_candidates(data: bytes) -> list[Candidate]:
    """A CSV file with the columns address and password, and perhaps name, site and fingerprint, in any order.

    Commas or semicolons; the first line may name the columns, else they are name, address, password, site.
    Raises ``Error`` (``usage``) with the line that is wrong; then none is taken.
    """
    if len(data) > _BYTES_MAX:
        raise Error(
            "body-too-large",
            expected=_("a CSV file of at most {bytes_max} bytes", bytes_max=_BYTES_MAX),
            seen=_("{count} bytes", count=len(data)),
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Error("usage", expected=_("a CSV file in UTF-8"), seen=_("other bytes; save it as “CSV UTF-8”")) from None
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise Error("usage", expected=_("a CSV file"), seen=str(error)) from None
    columns: Sequence[str] = COLUMNS
    heads = [cell.strip().casefold() for cell in rows[0]] if rows else []
    start = 0
    if "address" in heads:
        columns, start = heads, 1
    candidates = [
        _candidate(dict(zip(columns, (cell.strip() for cell in row), strict=False)), number)
        for number, row in enumerate(rows[start:], start + 1)
        if any(cell.strip() for cell in row)
    ]
    if not candidates or len(candidates) > ROWS_MAX:
        raise Error(
            "usage",
            expected=_("1 to {rows_max} field servers in the CSV file", rows_max=ROWS_MAX),
            seen=str(len(candidates)),
        )
    twice = [one.address for one in candidates if sum(one.address == other.address for other in candidates) > 1]
    if twice:
        raise Error("usage", expected=_("each address once"), seen=_("{twice} twice", twice=twice[0]))
    return candidates


def _candidate(cells: dict[str, str], number: int) -> Candidate:
    try:
        address = normal_address(cells.get("address", ""))
    except Error as error:
        raise Error(
            "usage",
            expected=_("{expected} in row {number}", expected=error.said[0], number=number),
            seen=error.seen or _("none"),
        ) from None
    if not cells.get("password"):
        raise Error(
            "usage",
            expected=_("a password in row {number}, for {address}", number=number, address=address),
            seen=_("none"),
        )
    return Candidate(
        address=address,
        password=cells["password"],
        name=cells.get("name", ""),
        site=cells.get("site", "")[:80],
        fingerprint=cells.get("fingerprint", ""),
    )


def meet(network: Network, inventory: Inventory, candidates: Sequence[Candidate]) -> list[FirstContact]:
    """What each of them shows. Nothing is sent."""
    pinned = {record.address: record.contact.fingerprint for record in inventory.field_servers()}

    def one(candidate: Candidate) -> FirstContact:
        try:
            shown = network.certificate(candidate.address)
        except PortError as error:
            return FirstContact(candidate=candidate, error=error)
        known = (pinned.get(candidate.address), candidate.fingerprint.rstrip("="))
        wanted = next((one for one in known if one and one != shown.fingerprint), None)
        if wanted is not None:
            changed = PortError(
                "certificate-changed",
                expected=wanted,
                seen=_("{fingerprint}; nothing was sent to it", fingerprint=shown.fingerprint),
            )
            return FirstContact(candidate=candidate, error=changed)
        return FirstContact(candidate=candidate, shown=shown, is_known=candidate.address in pinned)

    return at_once(one, candidates)


def pin(network: Network, inventory: Inventory, met: Sequence[FirstContact], *, now: int) -> list[PinResult]:
    """Pin what was shown, send the password there, and keep what they say."""

    def one(meeting: FirstContact) -> PinResult:
        candidate = meeting.candidate
        if meeting.shown is None:
            return PinResult(candidate=candidate, error=meeting.error)
        try:
            enrolled = add_field_server(
                network,
                inventory,
                address=candidate.address,
                password=candidate.password,
                fingerprint=meeting.shown.fingerprint,
                now=now,
            )
        except Error as error:
            return PinResult(candidate=candidate, error=error)
        if candidate.site:
            inventory.set_site([enrolled.identity.device_id], candidate.site)
        warning = enrolled.warning
        if candidate.name and candidate.name != enrolled.identity.name:
            said = _(
                "The file calls it {name}; it calls itself {own}.", name=candidate.name, own=enrolled.identity.name
            )
            warning = f"{said} {warning}".strip()
        return PinResult(candidate=candidate, enrolled=enrolled, warning=warning)

    return at_once(one, met)
