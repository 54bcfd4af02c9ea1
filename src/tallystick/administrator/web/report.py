"""The page Site report, and the same as CSV, PDF and a folder with the credit receipts."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.administrator.report.pdf import report_pdf
from tallystick.administrator.report.site import SiteReport, file_stem, make_report, report_csv, report_folder
from tallystick.administrator.web.base import PageRequest
from tallystick.administrator.web.field_servers import sites_of
from tallystick.pages import PAGE_HEADERS


def report_page(page: PageRequest) -> Response:
    """What is licensed where."""
    return page.show(
        "report.html", report=_report(page), sites=sites_of(page.administrator.inventory.field_servers()),
        site=page.text("site"),
    )  # fmt: skip


def report_as_csv(page: PageRequest) -> Response:
    """For a spreadsheet."""
    report = _report(page)
    return _file(report_csv(report), "text/csv; charset=utf-8", f"{file_stem(report)}.csv")


def report_as_pdf(page: PageRequest) -> Response:
    """To hand to the customer."""
    report = _report(page)
    return _file(report_pdf(report), "application/pdf", f"{file_stem(report)}.pdf")


def report_as_folder(page: PageRequest) -> Response:
    """All of it, with the receipts."""
    report = _report(page)
    data = report_folder(report, pdf=report_pdf(report))
    return _file(data, "application/zip", f"{file_stem(report)}.zip")


def _report(page: PageRequest) -> SiteReport:
    administrator = page.administrator
    return make_report(
        administrator.inventory, administrator.mailbag, administrator.workflows.standings(), site=page.text("site"),
        now=page.now,
    )  # fmt: skip


def _file(data: bytes, media_type: str, name: str) -> Response:
    headers = {**PAGE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type=media_type, headers=headers)
