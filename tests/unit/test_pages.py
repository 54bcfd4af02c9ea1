"""The shared looks: what comes from outside cannot break out, and nothing asks for what the policy forbids."""

import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import DictLoader, UndefinedError

from tallystick import pages
from tallystick.pages import environment as looks

TEMPLATES = sorted((Path(pages.__file__).parent / "templates").glob("*.html"))
LIGHT, DARK = 0, 1
QR = {
    "qr-0.7.0/decode.js": "00e209820dcb11d624e9a03d6383e580766792b57d1651318f0a29e4e1ff0fe8",
    "qr-0.7.0/index.js": "a0de370051f94bd74f218f74401fdf197585e3f9ef0143164f87ea941a3fdd6f",
}


@pytest.fixture
def environment():
    made = pages.make_environment("tallystick.pages", static_prefix="/static")
    macros = '{% import "shared/macros.html" as ui %}'
    made.loader.mapping["test"] = DictLoader(
        {
            "bar": macros + "{{ ui.bar(a, h, r, q) }}",
            "page": '{% extends "shared/base.html" %}{% block title %}{{ name }}{% endblock %}',
            "name": "{{ text | name }}",
            "missing": "{{ nothing }}",
        }
    )
    return made


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x>', "'onload='x"])
def test_a_name_from_outside_is_escaped(environment, text):
    shown = environment.get_template("test/name").render(text=text)
    assert re.fullmatch(r"<bdi>[^<>\"']*</bdi>", shown)


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\u061c", "\x00", "\u2028", "\ue000"])
def test_a_symbol_that_nobody_can_see_is_made_visible(mark):
    assert str(looks.show_name(f"a{mark}b")) == "<bdi>a\ufffdb</bdi>"


def test_a_name_of_ten_thousand_symbols_is_cut():
    assert len(looks.show_name("x" * 10_000)) < 200


def test_a_name_that_is_missing_in_a_template_is_an_error(environment):
    with pytest.raises(UndefinedError):
        environment.get_template("test/missing").render()


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "a moment"), (1, "1 second"), (59, "59 seconds"), (3600, "1 hour"), (90_000, "1 day"), (-5, "a moment")],
)
def test_an_age_is_told_in_its_largest_unit(seconds, shown):
    assert looks.show_age(seconds) == shown


def test_moments_are_told_in_utc():
    assert "2027-01-15 08:00 UTC" in looks.show_moment(1_800_000_000)
    assert looks.show_moment(None) == "never"
    assert "9999" in looks.show_moment(2**60)  # no claim breaks a page


@pytest.mark.parametrize("numbers", [(3, 2, 1, 0), (0, 0, 0, 0), (-2, 4, 0, 0), (1_000_000_000, 1, 1, 1)])
def test_the_bar_says_its_numbers_and_fills_its_width(environment, numbers):
    available, held, returning, quarantined = numbers
    shown = environment.get_template("test/bar").render(a=available, h=held, r=returning, q=quarantined)
    assert f"{available:,} available, {held:,} held, {returning:,} returning, {quarantined:,} quarantined" in shown
    widths = [float(width) for width in re.findall(r'width="([\d.]+)%"', shown)]
    assert not widths or abs(sum(widths) - 100) < 0.01


class _Policy(HTMLParser):
    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        assert "style" not in names, f"an inline style in {tag}"
        assert not [name for name in names if name.startswith("on")], f"an inline script in {tag}"
        assert tag != "style"
        assert tag != "script" or names.get("src")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_template_needs_what_the_content_security_policy_forbids(template):
    _Policy().feed(re.sub(r"\{%.*?%\}|\{#.*?#\}", "", template.read_text("utf-8")))


def test_the_policy_allows_nothing_inline_and_nobody_to_frame():
    policy = pages.PAGE_HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert pages.PAGE_HEADERS["X-Content-Type-Options"] == "nosniff"
    assert pages.PAGE_HEADERS["Referrer-Policy"] == "no-referrer"


def test_a_page_names_static_files_by_their_content(environment):
    shown = environment.get_template("test/page").render(name="Home")
    names = re.findall(r"/static/([\w.-]+)", shown)
    files = pages.STATICS.files()
    assert set(names) == {name for name in files if not name.startswith(("codes.", "qr-"))}
    for file in files.values():
        assert re.search(r"\.[0-9a-f]{16}\.|-\d+\.\d+\.\d+/", file.hashed_name)


def test_what_others_made_is_served_as_they_made_it():
    """The files of qr 0.7.0 as its registry has them; another version gets another folder."""
    found = {
        file.name: hashlib.sha256(file.content).hexdigest()
        for file in pages.STATICS.files().values()
        if file.name.startswith("qr-")
    }
    assert found == QR


# Contrast, computed from the variables of the stylesheet: WCAG AA for text.
PAIRS = [
    *((text, ground) for text in ("ink", "quiet", "link") for ground in ("paper", "sheet", "wood-soft")),
    ("action-ink", "action"),
    ("danger-ink", "danger"),
    ("danger", "danger-soft"),
    ("danger", "sheet"),
    ("warn", "warn-soft"),
    ("good", "sheet"),
    *(("ink", ground) for ground in ("danger-soft", "warn-soft", "good-soft")),
    *(("quiet", ground) for ground in ("danger-soft", "warn-soft", "good-soft")),
]


def schemes():
    css = next(file for file in pages.STATICS.files().values() if file.name.endswith(".css")).content.decode()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[LIGHT]))
    return [light, light | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[DARK]))]


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read_in_both_schemes(scheme, text, ground):
    colours = schemes()[scheme]
    lighter, darker = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_line_of_a_template_can_be_read():
    root = Path(pages.__file__).parents[1]
    long = {
        f"{path.relative_to(root)}:{number}"
        for path in root.rglob("*.html")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if len(line) > 200
    }
    assert long == set()
