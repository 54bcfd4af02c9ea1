"""Letters on paper: which symbols the fonts have, what stands for those that they lack, and joined Arabic letters.

The fonts are DejaVu Sans (``fonts/``): Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian. A symbol that no font
has becomes a box, and the paper says so. Arabic letters take the form that their neighbours ask for; who copies the text
out of the paper gets the letters themselves with Unicode's compatibility normalisation (NFKC).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Container
from functools import cache
from pathlib import Path
from typing import Final

FONTS: Final = Path(__file__).with_name("fonts")
REGULAR: Final = FONTS / "DejaVuSans.ttf"
BOLD: Final = FONTS / "DejaVuSans-Bold.ttf"
BOX: Final = "▯"
_FORMS: Final = range(0xFE70, 0xFEFD)  # Arabic Presentation Forms-B


def fit(text: str, known: Container[int]) -> tuple[str, bool]:
    """The text as it can be drawn with ``known`` code points; whether a box stands for something in it."""
    joined = join_arabic(unicodedata.normalize("NFC", text))
    drawn = "".join(symbol if ord(symbol) in known or symbol == "\n" else _instead(symbol, known) for symbol in joined)
    return drawn, BOX in drawn and BOX not in text


def _instead(symbol: str, known: Container[int]) -> str:
    """A near one, nothing for what cannot be seen anyway, or the box."""
    if symbol.isspace():
        return " "
    if unicodedata.category(symbol) in {"Cf", "Cc", "Mn"}:
        return ""
    plain = unicodedata.normalize("NFKC", symbol)
    if plain != symbol and all(ord(one) in known for one in plain):
        return plain
    return BOX


def join_arabic(text: str) -> str:
    """Each Arabic letter in the form that its neighbours ask for; other symbols as they are."""
    forms = _forms()
    out: list[str] = []
    before = ""  # the letter before, marks passed over, if it joins to the next
    for place, symbol in enumerate(text):
        if unicodedata.combining(symbol):
            out.append(symbol)
            continue
        found = forms.get(symbol)
        if found is None:
            before = ""
            out.append(symbol)
            continue
        after = next((one for one in text[place + 1 :] if not unicodedata.combining(one)), "")
        is_joined, joins = bool(before), "<initial>" in found and "<final>" in forms.get(after, {})
        name = {
            (False, False): "<isolated>",
            (True, False): "<final>",
            (False, True): "<initial>",
            (True, True): "<medial>",
        }[is_joined, joins]
        out.append(found.get(name, symbol))
        before = symbol if "<initial>" in found else ""
    return "".join(out)


@cache
def _forms() -> dict[str, dict[str, str]]:
    """By letter, then by the name of the form, from Unicode's own table."""
    found: dict[str, dict[str, str]] = {}
    for code in _FORMS:
        name, _, letters = unicodedata.decomposition(chr(code)).partition(" ")
        if letters and " " not in letters:  # ligatures and marks aside
            found.setdefault(chr(int(letters, 16)), {})[name] = chr(code)
    return found
