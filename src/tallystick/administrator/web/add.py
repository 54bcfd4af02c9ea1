"""The page Add: one field server, or many from a CSV file; fingerprints are shown and pinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response

from tallystick.administrator.core.enrolling import Candidate, FirstContact, PinResult, meet, parse_candidates, pin
from tallystick.administrator.core.planning import normal_address
from tallystick.administrator.network.discovery import find_field_servers
from tallystick.administrator.web.base import PageRequest
from tallystick.errors import Error


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstContactPage:
    """Candidates whose certificates were looked at; nothing was sent to them."""

    met: tuple[FirstContact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedPage:
    """What came of adding them."""

    results: tuple[PinResult, ...]


_LISTENED_SECONDS: Final = 3.0


def add_page(ask: PageRequest) -> Response:
    """The forms."""
    return ask.page("add.html", found=None)


def find(ask: PageRequest) -> Response:
    """Those that announce themselves; those that are in the list already are left out. Raises ``Error``."""
    try:
        found = find_field_servers(seconds=_LISTENED_SECONDS)
    except OSError as error:
        raise Error("unreachable", expected="a network to listen on", seen=str(error)) from None
    known = ask.administrator.inventory.names()
    return ask.page("add.html", found=[one for one in found if one.device_id not in known])


def add_found(ask: PageRequest) -> Response:
    """Look at the certificates of the ticked ones; one password for all of them."""
    candidates = [
        Candidate(address=normal_address(address), password=ask.text("password"), site=ask.text("site", 80))
        for address in ask.texts("address")
    ]
    if not candidates:
        raise Error("usage", expected="at least one field server ticked", seen="none")
    met = meet(ask.administrator.network, ask.administrator.inventory, candidates)
    return ask.go(f"/add/{ask.desk.kept.keep(FirstContactPage(met=tuple(met)))}")


def add(ask: PageRequest) -> Response:
    """Look at the certificates first, or add all in one step."""
    candidates = _candidates(ask)
    met = meet(ask.administrator.network, ask.administrator.inventory, candidates)
    if ask.text("do") == "pin":
        return _pin(ask, met)
    return ask.go(f"/add/{ask.desk.kept.keep(FirstContactPage(met=tuple(met)))}")


def meeting_page(ask: PageRequest) -> Response:
    """The fingerprints, to be compared."""
    meeting: FirstContactPage = ask.desk.kept.find(FirstContactPage, ask.number())
    return ask.page("add_fingerprints.html", meeting=meeting, number=ask.number())


def pin_met(ask: PageRequest) -> Response:
    """Pin what was shown, of those that are ticked."""
    meeting: FirstContactPage = ask.desk.kept.find(FirstContactPage, ask.number())
    ticked = set(ask.texts("address"))
    met = [one for one in meeting.met if one.candidate.address in ticked and one.shown is not None]
    if not met:
        raise Error("usage", expected="at least one field server ticked", seen="none")
    ask.desk.kept.forget(ask.number())
    return _pin(ask, met)


def added_page(ask: PageRequest) -> Response:
    """What came of it."""
    added: AddedPage = ask.desk.kept.find(AddedPage, ask.number())
    return ask.page("added.html", results=added.results)


def _pin(ask: PageRequest, met: Sequence[FirstContact]) -> Response:
    results = pin(ask.administrator.network, ask.administrator.inventory, met, now=ask.now)
    ask.desk.jobs.look()
    return ask.go(f"/added/{ask.desk.kept.keep(AddedPage(results=tuple(results)))}")


def _candidates(ask: PageRequest) -> list[Candidate]:
    files = ask.files("csv")
    if files:
        data = files[0].file.read()
        return parse_candidates(data)
    if ask.text("address"):
        return [
            Candidate(
                address=normal_address(ask.text("address")),
                password=ask.text("password"),
                site=ask.text("site", 80),
                fingerprint=ask.text("fingerprint", 100),
            )
        ]
    raise Error("usage", expected="an address, or a CSV file", seen="neither")
