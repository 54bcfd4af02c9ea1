"""A site's report: what is licensed where, features, violations, open returns and receipts; as values, CSV and a folder."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tallystick.administrator.core.next_steps import NextStep, Phase, step_sentence
from tallystick.administrator.memory.inventory import FieldServerRecord, Inventory
from tallystick.administrator.memory.messages import Mailbag, Receipt
from tallystick.domain.ids import DeviceId
from tallystick.protocol.device_api import FeatureNote
from tallystick.protocol.tallyfile import format_file

_FORMULA = "=+-@\t\r"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSum:
    """One feature over all field servers of the site."""

    feature: str
    required: int
    used: int
    available: int
    activated: int
    violations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteReport:
    """What was known at ``made_at``. ``keys``: the keysets that check the receipts."""

    site: str
    made_at: int
    records: tuple[FieldServerRecord, ...]
    steps: Mapping[DeviceId, NextStep]
    features: tuple[FeatureSum, ...]
    receipts: tuple[Receipt, ...]
    keys: tuple[str, ...]

    @property
    def violations(self) -> list[tuple[FieldServerRecord, FeatureNote]]:
        """Where there is too little of what."""
        return [
            (record, feature)
            for record in self.records
            if record.report is not None
            for feature in record.report.features
            if feature.violation
        ]

    @property
    def open_returns(self) -> list[tuple[FieldServerRecord, NextStep]]:
        """Returns that are not proven yet, and whatever else is on its way, oldest first."""
        rows = [
            (record, self.steps[record.device_id])
            for record in self.records
            if record.device_id in self.steps
            and self.steps[record.device_id].phase in {Phase.PROVE, Phase.ASK, Phase.DELIVER}
        ]
        return sorted(rows, key=lambda row: row[1].since_at or 0)


def make_report(
    inventory: Inventory, mailbag: Mailbag, steps: Mapping[DeviceId, NextStep], *, site: str, now: int
) -> SiteReport:
    """The report of one site, or, with an empty ``site``, of all field servers in the list."""
    records = tuple(record for record in inventory.field_servers() if not site or record.site == site)
    ids = {record.device_id for record in records}
    return SiteReport(
        site=site,
        made_at=now,
        records=records,
        steps=steps,
        features=_sums(records),
        receipts=tuple(receipt for receipt in mailbag.receipts() if not site or receipt.device_id in ids),
        keys=tuple(keyset.compact for keyset in inventory.keysets()),
    )


def report_csv(report: SiteReport) -> bytes:
    """One row for each license and feature of each field server; UTF-8 with a mark, as spreadsheets expect."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(
        [
            "site",
            "name",
            "kind",
            "address",
            "device_id",
            "seen_at",
            "what",
            "item",
            "line",
            "quantity",
            "required",
            "used",
            "available",
            "activated",
            "violation",
            "expires",
            "next_step",
        ]
    )
    for record in report.records:
        step = step_sentence(report.steps[record.device_id]) if record.device_id in report.steps else ""
        seen = moment_text(record.seen_at)
        head = [record.site, record.name, record.kind, record.address, record.device_id, seen]
        rows: list[list[object]] = []
        for license_ in () if record.report is None else record.report.licenses:
            expires = "never" if license_.expires is None else moment_text(license_.expires)
            rows.append(
                ["license", license_.product, license_.line, license_.quantity, "", "", "", "", "", expires, step]
            )
        for one in () if record.report is None else record.report.features:
            numbers = [one.required, one.used, one.available, one.activated]
            rows.append(["feature", one.feature, "", "", *numbers, "yes" if one.violation else "no", "", step])
        for row in rows or [["nothing", "", "", "", "", "", "", "", "", "", step]]:
            writer.writerow([_plain(cell) for cell in (*head, *row)])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8", "replace")


def report_folder(report: SiteReport, *, pdf: bytes) -> bytes:
    """A ZIP file: the report, and every credit receipt in a file of its own, checkable with the keys beside it."""
    out = io.BytesIO()
    when = datetime.fromtimestamp(report.made_at, UTC)
    stem = file_stem(report)

    def add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
        info = zipfile.ZipInfo(f"{stem}/{name}", date_time=(when.year, when.month, when.day, when.hour, when.minute, 0))
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, data)

    with zipfile.ZipFile(out, "w") as archive:
        add(archive, "report.pdf", pdf)
        add(archive, "report.csv", report_csv(report))
        add(archive, "receipts/keys.tally", b"".join(format_file(report.keys)))
        for receipt in report.receipts:
            name = f"receipts/{_slug(receipt.name) or receipt.device_id[:12]}-{receipt.digest[:12]}.tally"
            comment = f"Credit receipt of {receipt.issuer} for {receipt.name or receipt.device_id}"
            add(archive, name, b"".join(format_file([receipt.compact], comment=comment)))
    return out.getvalue()


def file_stem(report: SiteReport) -> str:
    """The beginning of a file's name."""
    day = datetime.fromtimestamp(report.made_at, UTC).strftime("%Y-%m-%d")
    return f"licenses-{_slug(report.site) or 'all-sites'}-{day}"


def moment_text(seconds: int | None) -> str:
    """A moment as ISO 8601, UTC."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _sums(records: Sequence[FieldServerRecord]) -> tuple[FeatureSum, ...]:
    notes: dict[str, list[FeatureNote]] = {}
    for record in records:
        for feature in () if record.report is None else record.report.features:
            notes.setdefault(feature.feature, []).append(feature)
    return tuple(
        FeatureSum(
            feature=name,
            required=sum(one.required for one in found),
            used=sum(one.used for one in found),
            available=sum(one.available for one in found),
            activated=sum(one.activated for one in found),
            violations=sum(one.violation for one in found),
        )
        for name, found in sorted(notes.items())
    )


def _plain(cell: object) -> object:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] and cell[0] in _FORMULA else cell


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:60]
