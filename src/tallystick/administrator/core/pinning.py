"""What Device Administrator gets to know: field servers at first contact, entitlements by their id or certificate.

Guarantees: the fingerprint is compared, with what was expected and with what was pinned, before a password is sent;
a certificate of an entitlement is believed only if a known keyset signed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tallystick.administrator.core.courier import Courier
from tallystick.administrator.core.file_courier import Import
from tallystick.administrator.memory.inventory import Inventory, KnownEntitlement
from tallystick.administrator.memory.messages import Mailbag
from tallystick.administrator.ports import Contact, Identity, Network, PortError
from tallystick.domain.ids import parse_entitlement_id
from tallystick.errors import Error
from tallystick.protocol.envelope import open_envelope

_SCHEMES: Final = ("https://", "http://")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFieldServer:
    """A field server that is in the list now. ``is_new``: it was not before."""

    identity: Identity
    address: str
    fingerprint: str
    is_new: bool


def add_field_server(
    network: Network, inventory: Inventory, *, address: str, password: str, fingerprint: str | None, now: int
) -> PinnedFieldServer:
    """Pin the certificate that ``address`` shows and add the field server, or renew its address and password.

    Raises ``PortError``: ``certificate-changed`` where ``fingerprint``, or what was pinned for this address, is another.
    """
    shown = network.certificate(address)
    if fingerprint is not None and fingerprint.strip().rstrip("=") != shown.fingerprint:
        raise PortError(
            "certificate-changed", expected=fingerprint, seen=f"{shown.fingerprint}; nothing was sent to {address}"
        )
    pinned = inventory.pinned_at(address)
    if pinned is not None and pinned != shown.fingerprint:
        raise PortError(
            "certificate-changed",
            expected=f"{pinned}, pinned for {address}",
            seen=f"{shown.fingerprint}; nothing was sent to it",
        )
    contact = Contact(address=address, certificate=shown.certificate, fingerprint=shown.fingerprint, password=password)
    with network.field_server(contact) as port:
        identity = port.identity()
        report = port.licenses()
    is_new = inventory.add_field_server(identity, contact, now=now)
    inventory.keep_report(report, now=now)
    if identity.activation is not None:
        inventory.add_activation(identity.activation.url)
    return PinnedFieldServer(identity=identity, address=address, fingerprint=shown.fingerprint, is_new=is_new)


def learn_entitlement(
    courier: Courier, inventory: Inventory, *, text: str, url: str | None, now: int
) -> KnownEntitlement:
    """Look an entitlement up by its ID. ``url`` None: at the one activation server that is known here."""
    entitlement_id = parse_entitlement_id(text)
    known = inventory.activation_urls()
    if url is None and len(known) != 1:
        raise Error("usage", expected="--activation URL", seen=f"{len(known)} activation servers that are known here")
    compact = courier.lookup(normal_url(url) if url else known[0], entitlement_id)
    found, _ = inventory.add_entitlement(open_envelope(compact.encode("utf-8", "replace")), now=now)
    if found.entitlement_id != entitlement_id:
        raise PortError(
            "unreachable", expected=f"the certificate of {entitlement_id}", seen=f"that of {found.entitlement_id}"
        )
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
            expected=f"an entitlement certificate in {path}",
            seen=seen,
            next_step=bad[0].next_step if bad else "Choose the certificate file that came with the entitlement.",
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
        raise Error("usage", expected="an activation server's URL, with https:// or http://", seen=text)
    return url
