"""The page Add: one field server, or many from a CSV file; fingerprints are shown and pinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from tallystick.administrator.core.pinning import Candidate, FirstContact, PinResult, meet, parse_candidates, pin
from tallystick.administrator.core.planning import normal_address
from tallystick.administrator.network.discovery import find_field_servers
from tallystick.administrator.web.base import PageRequest, at_field
from tallystick.errors import Error
from tallystick.sentences import _


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstContactPage:
    """Candidates whose certificates were looked at; nothing was sent to them."""

    met: tuple[FirstContact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedPage:
    """What came of adding them."""

    results: tuple[PinResult, ...]


_LISTENED_SECONDS: Final = 3.0


def add_page(page: PageRequest) -> Response:
    """The forms."""
    return page.show("add.html", found=None)


def find(page: PageRequest) -> Response:
    """Those that announce themselves; those that are in the list already are left out. Raises ``Error``."""
    try:
        found = find_field_servers(seconds=_LISTENED_SECONDS)
    except OSError as error:
        raise Error("unreachable", expected=_("a network to listen on"), seen=str(error)) from None
    known = page.administrator.inventory.names()
    return page.show("add.html", found=[one for one in found if one.device_id not in known])


def add_found(page: PageRequest) -> Response:
    """Look at the certificates of the ticked ones; one password for all of them."""
    candidates = [
        Candidate(address=normal_address(address), password=page.text("password"), site=page.text("site", 80))
        for address in page.texts("address")
    ]
    if not candidates:
        raise Error("usage", expected=_("at least one field server ticked"), seen=_("none"))
    met = meet(page.administrator.network, page.administrator.inventory, candidates)
    return page.go(f"/add/{page.context.kept.keep(FirstContactPage(met=tuple(met)))}")


def add(page: PageRequest) -> Response:
    """Look at the certificates first, or add all in one step."""
    candidates = _candidates(page)
    met = meet(page.administrator.network, page.administrator.inventory, candidates)
    if page.text("do") == "pin":
        return _pin(page, met)
    return page.go(f"/add/{page.context.kept.keep(FirstContactPage(met=tuple(met)))}")


def meeting_page(page: PageRequest) -> Response:
    """The fingerprints, to be compared."""
    meeting: FirstContactPage = page.context.kept.find(FirstContactPage, page.number())
    return page.show("add_fingerprints.html", meeting=meeting, number=page.number())


def pin_met(page: PageRequest) -> Response:
    """Pin what was shown, of those that are ticked."""
    meeting: FirstContactPage = page.context.kept.find(FirstContactPage, page.number())
    ticked = set(page.texts("address"))
    met = [one for one in meeting.met if one.candidate.address in ticked and one.shown is not None]
    if not met:
        raise Error("usage", expected=_("at least one field server ticked"), seen=_("none"))
    page.context.kept.forget(page.number())
    return _pin(page, met)


def added_page(page: PageRequest) -> Response:
    """What came of it."""
    added: AddedPage = page.context.kept.find(AddedPage, page.number())
    return page.show("added.html", results=added.results)


def _pin(page: PageRequest, met: Sequence[FirstContact]) -> Response:
    results = pin(page.administrator.network, page.administrator.inventory, met, now=page.now)
    page.context.jobs.look()
    return page.go(f"/added/{page.context.kept.keep(AddedPage(results=tuple(results)))}")


def _candidates(page: PageRequest) -> list[Candidate]:
    files = page.files("csv")
    if files:
        with at_field("csv"):
            return parse_candidates(files[0].file.read())
    if page.text("address"):
        with at_field("address"):
            address = normal_address(page.text("address"))
        return [
            Candidate(
                address=address,
                password=page.text("password"),
                site=page.text("site", 80),
                fingerprint=page.text("fingerprint", 100),
            )
        ]
    raise Error("usage", expected=_("an address, or a CSV file"), seen=_("neither"))
