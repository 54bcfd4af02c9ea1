"""The page Vendors: whose roots are trusted here and what came from them; everything of it can be removed again."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from tallystick.administrator.memory.inventory import KnownEntitlement
from tallystick.administrator.web.base import PageRequest
from tallystick.domain.ids import EntitlementId
from tallystick.errors import Error
from tallystick.protocol.keys import Keyset
from tallystick.sentences import _


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """An issuer whose root is trusted here. ``held``: licenses of it on field servers of the list."""

    keyset: Keyset
    entitlements: tuple[KnownEntitlement, ...]
    urls: tuple[str, ...]
    planned: int
    held: int


def vendors_page(page: PageRequest) -> Response:
    """All that was taken in."""
    inventory = page.administrator.inventory
    plan, every = inventory.assignments(), inventory.entitlements()
    vendors = []
    for keyset in inventory.keysets():
        own = tuple(one for one in every if one.issuer == keyset.issuer)
        lines = {line.line_id for one in own for line in one.lines}
        vendors.append(
            Vendor(
                keyset=keyset,
                entitlements=own,
                urls=tuple(inventory.activation_urls_of(keyset.issuer)),
                planned=sum(one.quantity for one in plan if one.line_id in lines),
                held=sum(
                    count for record in page.reading.records for one, count in record.held.items() if one in lines
                ),
            )
        )
    return page.show("vendors.html", vendors=vendors)


def remove_vendor(page: PageRequest) -> Response:
    """Its root, with all that rests on it."""
    issuer = page.text("issuer", 200)
    if page.administrator.inventory.keyset(issuer) is None:
        raise Error("not-found", expected=_("a vendor whose root is trusted here"), seen=issuer[:60] or _("none"))
    page.administrator.inventory.remove_issuer(issuer)
    return page.go("/vendors")


def remove_entitlement(page: PageRequest) -> Response:
    """One certificate, with what was planned of it."""
    wanted = EntitlementId(page.text("entitlement", 100))
    if not any(one.entitlement_id == wanted for one in page.administrator.inventory.entitlements()):
        raise Error("not-found", expected=_("an entitlement that is known here"), seen=wanted[:12] or _("none"))
    page.administrator.inventory.remove_entitlement(wanted)
    return page.go("/vendors")
