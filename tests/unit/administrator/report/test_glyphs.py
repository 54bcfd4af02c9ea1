"""The site report in any script: what the fonts have is drawn and can be copied, what they lack is a box that is told."""

import re
import unicodedata
import zlib

import pytest

from tallystick.administrator.report.glyphs import BOX, fit, join_arabic
from tallystick.administrator.report.pdf import report_pdf
from tallystick.administrator.report.site import make_report

NAMES = ["Café Ñandú", "Αίθουσα 1", "Котельная", "Հայաստան", "სახურავი", "roof “north” ½"]


def report_of(site, *names, of=""):
    for name in names:
        site.add(name)
    site.workflows().look()
    return make_report(site.inventory, site.mailbag, site.workflows().standings(), site=of, now=site.now)


def text_of(pdf):
    """What somebody copies out of it: every glyph by the font's own table to Unicode."""
    objects = {int(number): body for number, body in re.findall(rb"(\d+) 0 obj\n(.*?)endobj", pdf, re.DOTALL)}

    def stream(number):
        data = re.search(rb"stream\n(.*)\nendstream", objects[number], re.DOTALL).group(1)
        return zlib.decompress(data) if b"/FlateDecode" in objects[number] else data

    tables = {}
    for number, body in objects.items():
        if b"/ToUnicode" in body:
            cmap = stream(int(re.search(rb"/ToUnicode (\d+)", body).group(1)))
            pairs = re.findall(rb"<([0-9A-F]{4})> <([0-9A-F]+)>", cmap, re.IGNORECASE)
            tables[number] = {
                bytes.fromhex(a.decode()): bytes.fromhex(b.decode()).decode("utf-16-be") for a, b in pairs
            }
    names = {name: int(at) for name, at in re.findall(rb"/(F\d+) (\d+) 0 R", pdf)}
    texts = []
    for number, body in objects.items():
        if b"/Filter /FlateDecode" not in body or b" Tf" not in stream(number):
            continue
        font = {}
        for name, literal in re.findall(rb"/(F\d+) [\d.]+ Tf|\(((?:\\.|[^\\)])*)\) Tj", stream(number), re.DOTALL):
            if name:
                font = tables[names[name]]
                continue
            data = re.sub(rb"\\(.)", lambda m: {b"r": b"\r", b"n": b"\n"}.get(m[1], m[1]), literal, flags=re.DOTALL)
            texts.append("".join(font[data[at : at + 2]] for at in range(0, len(data), 2)))
    return "\n".join(texts)


def test_names_in_many_scripts_are_drawn_and_can_be_copied(site):
    text = text_of(report_pdf(report_of(site, *NAMES, of="")))
    for name in NAMES:
        assert name in text
    assert BOX not in text


def test_the_same_report_gives_the_same_bytes(site):
    report = report_of(site, *NAMES)
    assert report_pdf(report) == report_pdf(report)


def test_what_the_fonts_lack_is_a_box_and_the_paper_says_so(site):
    text = text_of(report_pdf(report_of(site, "機房 2")))
    assert f"{BOX}{BOX} 2" in text
    assert "stands for a symbol that the fonts of this paper do not have" in text


def test_arabic_is_joined_and_runs_from_right_to_left(site):
    text = text_of(report_pdf(report_of(site, "قاعة")))
    (drawn,) = {
        line for line in text.splitlines() if any("\ufe70" <= symbol <= "\ufefc" for symbol in line) and "/" not in line
    }
    assert unicodedata.normalize("NFKC", drawn[::-1]) == "قاعة"
    assert drawn[::-1] == join_arabic("قاعة") != "قاعة"


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("ب", "\ufe8f"),
        ("بب", "\ufe91\ufe90"),
        ("ببب", "\ufe91\ufe92\ufe90"),
        ("دب", "\ufea9\ufe8f"),
        ("roof", "roof"),
        ("", ""),
    ],
)
def test_a_letter_takes_the_form_that_its_neighbours_ask_for(text, joined):
    assert join_arabic(text) == joined


def test_what_cannot_be_seen_is_left_out_and_what_is_near_is_taken():
    known = {ord(symbol) for symbol in "abcfi 1" + BOX}
    assert fit("a\u200bb\x07", known) == ("ab", False)
    assert fit("ﬁ\u2003①", known) == ("fi 1", False)
    assert fit("a中", known) == (f"a{BOX}", True)
    assert fit(BOX, known) == (BOX, False)
