"""Whose a file is, before any of it is taken in: issuer, account, sites, and whether its root is one that is trusted here.

Read out of lines whose signatures nobody has checked yet, so it is what the file says of itself; ``Import`` verifies every
line. A keyset proves its own root, and no more: whether that root is to be trusted is what a person is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tallystick.administrator.core.file_courier import TallyFileError, lines_of
from tallystick.administrator.memory.inventory import Inventory
from tallystick.protocol import keys
from tallystick.protocol.envelope import Unverified
from tallystick.protocol.messages import CREDIT, ENTITLEMENT, GRANT, KEYS, REFUSAL, REQUEST
from tallystick.protocol.problems import WireError
from tallystick.protocol.tallyfile import GoodLine

NAMES_MAX = 20


@dataclass(slots=True, kw_only=True)
class Sender:
    """One issuer, and what a file says that comes from it, or is for it."""

    issuer: str
    fingerprint: str = ""  # of the root that the file brings, or else of the one that is trusted here
    is_trusted: bool = False
    is_new_root: bool = False  # the file would make another root trusted, beside one that is
    is_new_account: bool = False
    accounts: list[str] = field(default_factory=list)
    sites: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    replies: int = 0
    entitlements: int = 0
    messages: int = 0

    @property
    def is_strange(self) -> bool:
        """Whether a person is asked before it is taken in."""
        return self.is_new_root or self.is_new_account


def senders_of(paths: Iterable[Path], inventory: Inventory) -> list[Sender]:
    """In the order in which they are met. What cannot be read at all says nothing here, and is handed back by ``Import``."""
    trusted = {keyset.issuer: keyset for keyset in inventory.keysets()}
    accounts = {known.account for known in inventory.entitlements()}
    records = {record.device_id: record for record in inventory.field_servers()}
    found: dict[str, Sender] = {}

    def sender(issuer: str) -> Sender:
        if issuer not in found:
            known = trusted.get(issuer)
            fingerprint = known.root_fingerprint if known else ""
            found[issuer] = Sender(issuer=issuer, fingerprint=fingerprint, is_trusted=known is not None)
        return found[issuer]

    def note(envelope: Unverified) -> None:
        claims = _claims(envelope)
        issuer = claims.get("aud" if envelope.typ == REQUEST else "iss")
        if not isinstance(issuer, str) or not 0 < len(issuer) <= 128:
            return
        one = sender(issuer)
        record = records.get(claims.get("iss" if envelope.typ == REQUEST else "sub", ""))
        if record is not None:
            _add(one.sites, record.site)
            _add(one.names, record.name)
        if envelope.typ == KEYS:
            _note_keyset(one, envelope, is_second=bool(trusted) and issuer not in trusted)
        elif envelope.typ == ENTITLEMENT:
            one.entitlements += 1
            account = claims.get("account")
            if isinstance(account, str):
                _add(one.accounts, account[:128])
                one.is_new_account = one.is_new_account or (bool(accounts) and account not in accounts)
        elif envelope.typ in {GRANT, REFUSAL, CREDIT}:
            one.replies += 1
        elif envelope.typ == REQUEST:
            one.messages += 1

    for path in paths:
        try:
            for line in lines_of(path):
                if isinstance(line, GoodLine):
                    note(line.envelope)
        except TallyFileError:
            continue
    return list(found.values())


def _note_keyset(sender: Sender, envelope: Unverified, *, is_second: bool) -> None:
    try:
        keyset = keys.parse_keyset(envelope)
    except WireError:
        return
    if not sender.is_trusted:
        sender.fingerprint = keyset.root_fingerprint
        sender.is_new_root = is_second


def _claims(envelope: Unverified) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(envelope.payload, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}
    return found


def _add(texts: list[str], text: str) -> None:
    if text and text not in texts and len(texts) < NAMES_MAX:
        texts.append(text)
