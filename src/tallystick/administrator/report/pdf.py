"""The site report as PDF: fpdf2 and fonts of our own (``lettering``), of which what is used is put into the file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from unicodedata import bidirectional

from fpdf import FPDF
from fpdf.bidi import BidiParagraph
from fpdf.enums import TableBordersLayout, VAlign
from fpdf.fonts import FontFace, TTFFont

from tallystick.administrator.core.next_steps import step_sentence
from tallystick.administrator.report.glyphs import BOLD, BOX, REGULAR, fit
from tallystick.administrator.report.site import SiteReport, moment_text
from tallystick.sentences import _, spoken

_FONT: Final = "DejaVu Sans"
_SMALL: Final = 8
_BODY: Final = 9
_INK: Final = (33, 30, 26)
_WOOD: Final = (138, 90, 34)
_SOFT: Final = (243, 233, 218)
_BOXES: Final = _(
    "{box} stands for a symbol that the fonts of this paper do not have. The CSV file has every name as it is.", box=BOX
)


class _Paper(FPDF):
    def __init__(self) -> None:
        super().__init__(format="A4")
        self.add_font(_FONT, fname=REGULAR)
        self.add_font(_FONT, style="B", fname=BOLD)
        self._known = set.intersection(*(set(font.cmap) for font in self.fonts.values() if isinstance(font, TTFFont)))
        self.has_boxes = False

    def fitted(self, text: str) -> str:
        """The text as the fonts can draw it."""
        drawn, has_boxes = fit(spoken(text), self._known)
        self.has_boxes |= has_boxes
        if any(bidirectional(symbol) in {"R", "AL"} for symbol in drawn):
            drawn = "\n".join(BidiParagraph(line).get_reordered_string() for line in drawn.split("\n"))
        return drawn

    def footer(self) -> None:
        """The number of the page."""
        self.set_y(-12)
        self.set_font(_FONT, size=_SMALL)
        self.cell(0, 6, f"{self.page_no()}/{{nb}}", align="R")


def report_pdf(report: SiteReport) -> bytes:
    """The report on A4 pages. The same report gives the same bytes."""
    paper = _Paper()
    paper.set_creation_date(datetime.fromtimestamp(report.made_at, UTC))
    title = _("Licenses: {site}", site=report.site or _("all sites"))
    paper.set_title(spoken(title))
    paper.set_auto_page_break(auto=True, margin=16)
    paper.set_text_color(*_INK)
    paper.add_page()
    paper.set_font(_FONT, "B", 18)
    paper.cell(0, 10, paper.fitted(title), new_x="LMARGIN", new_y="NEXT")
    paper.set_draw_color(*_WOOD)
    paper.line(paper.l_margin, paper.get_y(), paper.w - paper.r_margin, paper.get_y())
    paper.set_font(_FONT, size=_BODY)
    paper.ln(2)
    summary = _(
        "Made {moment}. {servers} field servers, {violations} violations, {open} open, {receipts} credit receipts. What is "
        "not reached is told as it was last seen.",
        moment=moment_text(report.made_at),
        servers=len(report.records),
        violations=len(report.violations),
        open=len(report.open_returns),
        receipts=len(report.receipts),
    )
    paper.multi_cell(0, 5, paper.fitted(summary), new_x="LMARGIN", new_y="NEXT")
    _table(
        paper,
        _("Features"),
        (_("Feature"), _("Required"), _("Used"), _("Available"), _("Activated"), _("Violations")),
        [
            (one.feature, one.required, one.used, one.available, one.activated, one.violations)
            for one in report.features
        ],
        widths=(50, 25, 25, 25, 25, 25),
    )
    _table(
        paper,
        _("What is licensed where"),
        (_("Field server"), _("Kind"), _("Licenses"), _("Last seen")),
        [
            (
                f"{record.name}\n{record.address}",
                record.kind,
                ", ".join(f"{one.quantity} x {one.product} ({one.line})" for one in record.report.licenses) or _("none")
                if record.report is not None
                else _("not seen yet"),
                moment_text(record.seen_at) or _("never"),
            )
            for record in report.records
        ],
        widths=(52, 24, 68, 38),
    )
    _table(
        paper,
        _("Violations"),
        (_("Field server"), _("Feature"), _("Why")),
        [(record.name, feature.feature, feature.why) for record, feature in report.violations],
        widths=(45, 40, 95),
    )
    _table(
        paper,
        _("Open"),
        (_("Field server"), _("Since"), _("What is open")),
        [(record.name, moment_text(step.since_at), step_sentence(step)) for record, step in report.open_returns],
        widths=(40, 38, 102),
    )
    _table(
        paper,
        _("Credit receipts"),
        (_("Field server"), _("Issued"), _("Credited"), _("Digest")),
        [
            (
                receipt.name or receipt.device_id[:12],
                moment_text(receipt.issued_at),
                ", ".join(f"{line} +{quantity}" for line, quantity in receipt.credits),
                receipt.digest[:16],
            )
            for receipt in report.receipts
        ],
        widths=(42, 38, 60, 40),
    )
    if paper.has_boxes:
        paper.ln(4)
        paper.set_font(_FONT, size=_SMALL)
        paper.multi_cell(0, 4.5, spoken(_BOXES), new_x="LMARGIN", new_y="NEXT")
    return bytes(paper.output())


def _table(
    paper: _Paper, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, widths: tuple[int, ...]
) -> None:
    paper.ln(4)
    paper.set_font(_FONT, "B", 12)
    paper.cell(0, 7, paper.fitted(title), new_x="LMARGIN", new_y="NEXT")
    paper.set_font(_FONT, size=_SMALL)
    if not rows:
        paper.cell(0, 6, "None.", new_x="LMARGIN", new_y="NEXT")
        return
    head = FontFace(emphasis="BOLD", fill_color=_SOFT)
    with paper.table(
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        col_widths=widths,
        headings_style=head,
        line_height=4.5,
        text_align="LEFT",
        padding=0.8,
        v_align=VAlign.T,
    ) as table:
        for cells in (columns, *rows):
            row = table.row()
            for cell in cells:
                row.cell(paper.fitted(str(cell)))
