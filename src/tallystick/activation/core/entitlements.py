"""What people manage: entitlements and their lines, their certificates, field servers listed beforehand.

Each function works in the caller's unit of work; time and randomness are arguments. Every right that appears or
disappears here is a ledger entry: raising moves BOUGHT to AVAILABLE, lowering AVAILABLE to RETIRED.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from msgspec.structs import replace

from tallystick.activation.core import events
from tallystick.activation.core.books import Books
from tallystick.activation.core.interventions import RefusedError
from tallystick.activation.core.jumps import jump
from tallystick.activation.core.ports import Changes, FieldServer, Signer, Status, Transaction
from tallystick.domain.entitlement import Entitlement, Line
from tallystick.domain.ids import SECRET_BYTES, DeviceId, LineId, new_entitlement_id, new_line_id
from tallystick.domain.ledger import Account, Entry, apply_booking
from tallystick.domain.text import is_seen, normal
from tallystick.protocol import messages, tallyfile
from tallystick.protocol.envelope import LINE_BYTES_MAX
from tallystick.protocol.messages import ENTITLEMENT, QUANTITY_MAX, EntitlementCertificate, EntitlementLine
from tallystick.sentences import _

LINES_MAX: Final = 100
TEXT_LENGTH_MAX: Final = 128
_DEVICE_ID: Final = re.compile(r"[A-Za-z0-9_-]{43}")

RandomBytes = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """What a person changes about a line. None leaves a term as it is.

    ``quantity`` is how many rights there are to be, held ones included. ``expires_at`` counts only with
    ``has_expiry``: then None means never. ``is_bought`` turns an engineering line into a bought one.
    """

    quantity: int | None = None
    has_expiry: bool = False
    expires_at: int | None = None
    is_bought: bool = False
    suspended: bool | None = None


def check_text(text: str, what: str) -> str:
    """A name or reason that a person gave. Raises ``RefusedError`` (``text-wrong``)."""
    text = normal(text)
    if not 1 <= len(text) <= TEXT_LENGTH_MAX or not is_seen(text) or not text.strip():
        raise RefusedError(
            "text-wrong",
            expected=_(
                "{what} of 1 to {text_length_max} printable symbols", what=what, text_length_max=TEXT_LENGTH_MAX
            ),
            seen=repr(text)[:60],
        )
    return text


def create_entitlement(
    transaction: Transaction,
    signer: Signer,
    *,
    account: str,
    products: Sequence[tuple[str, int]],
    expires_at: int | None,
    random_bytes: RandomBytes,
    by: str,
    now: int,
) -> Entitlement:
    """A new entitlement with a line for each (SKU, quantity); its rights are available at once."""
    check_text(account, _("an account name"))
    if not 1 <= len(products) <= LINES_MAX:
        raise RefusedError(
            "entitlement-too-large",
            expected=_("1 to {lines_max} products", lines_max=LINES_MAX),
            seen=str(len(products)),
        )
    catalog = transaction.load_catalog()
    entitlement_id = new_entitlement_id(random_bytes(SECRET_BYTES))
    lines: list[Line] = []
    entries: list[Entry] = []
    for sku, quantity in products:
        product = catalog.products.get(sku)
        if product is None:
            known = ", ".join(sorted(catalog.products)) or _("none: the catalog is empty")
            raise RefusedError("product-unknown", expected=_("one of {known}", known=known[:400]), seen=sku[:60])
        if not 1 <= quantity <= QUANTITY_MAX:
            raise RefusedError(
                "quantity-wrong",
                expected=_("a quantity from 1 to {quantity_max}", quantity_max=QUANTITY_MAX),
                seen=str(quantity),
            )
        line = Line(
            line_id=_new_line_id(transaction, random_bytes, taken=lines),
            entitlement_id=entitlement_id,
            account=account,
            product=product,
            secret=random_bytes(SECRET_BYTES),
            expires_at=expires_at,
            engineering=product.engineering,
        )
        balances, entry = apply_booking(
            line.balances,
            line_id=line.line_id,
            source=Account.BOUGHT,
            target=Account.AVAILABLE,
            quantity=quantity,
            device_id=None,
            cause=f"person:{by}: bought",
            booked_at=now,
        )
        lines.append(replace(line, balances=balances))
        entries.append(entry)
    entitlement = Entitlement(entitlement_id=entitlement_id, account=account, created_at=now, lines=tuple(lines))
    make_certificate(entitlement, signer, now=now)  # refuses what would not fit into one
    transaction.save_entitlement(entitlement, entries)
    transaction.save(Changes(events=[events.entitlement_created(entitlement, by=by, now=now)]))
    return entitlement


def make_certificate(entitlement: Entitlement, signer: Signer, *, now: int) -> str:
    """The signed certificate by which Device Administrator learns an entitlement. One envelope."""
    claims = EntitlementCertificate(
        iss=signer.keyset.issuer,
        iat=now,
        entitlement=entitlement.entitlement_id,
        account=entitlement.account,
        lines=tuple(certified_line(line) for line in entitlement.lines),
    )
    certificate = signer.sign(ENTITLEMENT, messages.encode_claims(claims))
    if len(certificate) > LINE_BYTES_MAX:
        raise RefusedError(
            "entitlement-too-large",
            expected=_("a certificate of at most {line_bytes_max} bytes", line_bytes_max=LINE_BYTES_MAX),
            seen=_("{count} bytes with {lines} lines", count=len(certificate), lines=len(entitlement.lines)),
        )
    return certificate


def certificate_file(entitlement: Entitlement, signer: Signer, *, now: int) -> Iterator[bytes]:
    """The certificate as a tally file, with the keys that it is checked with."""
    comment = (
        f"Tallystick: entitlement {entitlement.entitlement_id} of {entitlement.account}\n"
        "Give this file to Device Administrator: tallystick admin entitlement add FILE.tally\n"
        "It contains the activation IDs: whoever has it can activate these licenses."
    )
    return tallyfile.format_file(
        [signer.keyset.compact, make_certificate(entitlement, signer, now=now)], comment=comment
    )


def quantity_of(line: Line) -> int:
    """How many rights of a line there are: bought and not retired."""
    return line.balances.bought - line.balances.retired


def change_line(
    transaction: Transaction, signer: Signer, line_id: LineId, change: LineChange, *, by: str, now: int
) -> Line:
    """Change quantity or terms of a line. What field servers hold follows at their next refresh."""
    books = Books(transaction, signer, now=now)
    books.load_lines([line_id])
    if line_id not in books.lines:
        raise RefusedError("not-found", expected=_("a line that exists here"), seen=line_id)
    if change.quantity is not None:
        _set_quantity(books, line_id, change.quantity, by=by)
    line = books.line(line_id)
    after = replace(
        line,
        expires_at=change.expires_at if change.has_expiry else line.expires_at,
        engineering=line.engineering and not change.is_bought,
        suspended=line.suspended if change.suspended is None else change.suspended,
    )
    if after != line:
        books.keep_line(after)
    books.save()
    return after


def list_field_server(
    transaction: Transaction, signer: Signer, device_id: str, *, account: str | None, now: int
) -> FieldServer:
    """List a field server beforehand, so that its first contact enrols it. Listed again, it stays as it is."""
    if not _DEVICE_ID.fullmatch(device_id):
        raise RefusedError("device-id-mistyped", expected=_("43 symbols"), seen=f"{len(device_id)}: {device_id[:50]!r}")
    if account is not None:
        check_text(account, _("an account name"))
    books = Books(transaction, signer, now=now)
    books.load([DeviceId(device_id)])
    known = books.field_servers.get(DeviceId(device_id))
    if known is not None:
        return known
    listed = FieldServer(
        device_id=DeviceId(device_id), public_key="", account=account, status=Status.LISTED, first_seen_at=now
    )
    restore = transaction.load_restore()
    if restore is not None and restore.is_open:  # it may be one that the restore made us forget
        listed = jump(listed, now=now)
    books.change(listed, cause="listed")
    books.save()
    return listed


def _set_quantity(books: Books, line_id: LineId, quantity: int, *, by: str) -> None:
    line = books.line(line_id)
    have = quantity_of(line)
    if not 0 <= quantity <= QUANTITY_MAX:
        raise RefusedError(
            "quantity-wrong",
            expected=_("a quantity from 0 to {quantity_max}", quantity_max=QUANTITY_MAX),
            seen=str(quantity),
        )
    if quantity > have:
        books.book(
            line_id, Account.BOUGHT, Account.AVAILABLE, quantity - have, cause=f"person:{by}: raised", device=None
        )
    elif quantity < have:
        if have - quantity > line.balances.available:
            raise RefusedError(
                "not-enough",
                expected=_(
                    "at least {have}, because the rest is not available", have=have - max(line.balances.available, 0)
                ),
                seen=_("an end state of {quantity}", quantity=quantity),
            )
        books.book(
            line_id, Account.AVAILABLE, Account.RETIRED, have - quantity, cause=f"person:{by}: lowered", device=None
        )


def _new_line_id(transaction: Transaction, random_bytes: RandomBytes, *, taken: Sequence[Line]) -> LineId:
    """A line id that no line has. Forty bits are short enough to type, so a collision is looked for."""
    while True:
        line_id = new_line_id(random_bytes(5))
        is_taken = any(line.line_id == line_id for line in taken)
        if not is_taken and not transaction.load_lines_for_update([line_id]):
            return line_id


def certified_line(line: Line) -> EntitlementLine:
    """A line as its certificate says it."""
    product = line.product
    return EntitlementLine(
        line=line.line_id,
        activation_id=str(line.activation_id),
        product=product.sku,
        name=product.name,
        quantity=quantity_of(line),
        kinds=tuple(sorted(product.kinds)),
        features=dict(product.features),
        expires=line.expires_at,
        one_carry=product.one_carry and product.returnable,
        returnable=product.returnable,
        engineering=line.engineering,
    )
