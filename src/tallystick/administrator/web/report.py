"""The page Site report, and the same as CSV, PDF and a folder with the credit receipts."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.administrator.report.pdf import report_pdf
from tallystick.administrator.report.site import SiteReport, file_stem, make_report, report_csv, report_folder
from tallystick.administrator.web.base import PageRequest
from tallystick.administrator.web.field_servers import sites_of
from tallystick.pages import PAGE_HEADERS


def report_page(ask: PageRequest) -> Response:
    """What is licensed where."""
    return ask.page(
        "report.html", report=_report(ask), sites=sites_of(ask.administrator.inventory.field_servers()),
        site=ask.text("site"),
    )  # fmt: skip


def report_as_csv(ask: PageRequest) -> Response:
    """For a spreadsheet."""
    report = _report(ask)
    return _file(report_csv(report), "text/csv; charset=utf-8", f"{file_stem(report)}.csv")


def report_as_pdf(ask: PageRequest) -> Response:
    """To hand to the customer."""
    report = _report(ask)
    return _file(report_pdf(report), "application/pdf", f"{file_stem(report)}.pdf")


def report_as_folder(ask: PageRequest) -> Response:
    """All of it, with the receipts."""
    report = _report(ask)
    data = report_folder(report, pdf=report_pdf(report))
    return _file(data, "application/zip", f"{file_stem(report)}.zip")


def _report(ask: PageRequest) -> SiteReport:
    administrator = ask.administrator
    return make_report(
        administrator.inventory, administrator.mailbag, administrator.workflows.standings(), site=ask.text("site"),
        now=ask.now,
    )  # fmt: skip


def _file(data: bytes, media_type: str, name: str) -> Response:
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)
