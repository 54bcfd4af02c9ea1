"""One folding of text: how what people type is taken at the door, and how it is compared.

Programs and keyboards write one word in several ways: composed or with marks behind the letter, in capitals, with two
blanks or a blank nobody sees at its end. ``normal`` is what is kept and shown, ``folded`` what is compared and searched,
in memory and in the database alike, ``symbols_of`` what is left of an identifier.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

# Letters of other alphabets that look like a Latin one in capitals, each beside it.
_TWINS: Final = {
    **dict(zip("авекмнорстухіјѕ", "abekmhopctyxijs", strict=True)),
    **dict(zip("αβεζηικμνορτυχ", "abezhikmnoptyx", strict=True)),
}
_TWIN_TABLE: Final = str.maketrans(_TWINS)
# What programs and makers of boards write where there is no id.
_NOTHING_WORDS: Final = """null none nil unknown undefined n/a na empty default invalid test localhost uninitialized
    serial|number system|serial|number system|product|name default|string not|specified not|applicable not|available
    not|present no|asset|tag asset|tag chassis|serial|number to|be|filled|by|o.e.m. to|be|filled|by|oem o.e.m. oem
    host host-id hostid machine-id uuid 0123456789 123456789 1234567890 12345678"""
JOINERS: Final = "\u200c\u200d"  # part of the spelling of Persian and of the languages of India
# The alphabets that join, by how Unicode names their letters.
_JOINING: Final = frozenset({
    "ARABIC", "SYRIAC", "MONGOLIAN", "DEVANAGARI", "BENGALI", "GURMUKHI", "GUJARATI", "ORIYA", "TAMIL", "TELUGU", "KANNADA",
    "MALAYALAM", "SINHALA",
})  # fmt: skip
_FOLDED_CACHE: Final = 4096


@lru_cache(1)
def _nothings() -> frozenset[str]:
    return frozenset(folded(word.replace("|", " ")) for word in _NOTHING_WORDS.split())


def normal(text: str) -> str:
    """As it is kept: composed (NFC), one plain blank where there are blanks, none at the ends, no empty marks."""
    shown: list[str] = []
    for symbol in unicodedata.normalize("NFC", text):
        if _is_empty(symbol) or (symbol in JOINERS and not _is_joined(shown[-1:])):
            continue
        shown.append(" " if _is_blank(symbol) else symbol)
    return " ".join(part for part in "".join(shown).split(" ") if part)


@lru_cache(_FOLDED_CACHE)
def folded(text: str) -> str:
    """For comparing and searching: whatever a reader takes for the same is the same. Never shown."""
    plain = unicodedata.normalize("NFKC", normal(text).casefold())
    plain = "".join("-" if is_dash(symbol) else symbol for symbol in plain if symbol not in JOINERS)
    return normal(plain.casefold()).translate(_TWIN_TABLE)


def is_seen(text: str) -> bool:
    """Whether nothing is in ``text`` but what can be seen, and what joins letters or keeps them apart."""
    return all(symbol.isprintable() or symbol in JOINERS for symbol in text)


def symbols_of(text: str) -> str:
    """What identifies in an identifier: in capitals, without blanks, dashes and marks that nobody sees."""
    plain = unicodedata.normalize("NFKC", text).upper()
    return "".join(
        s for s in plain if not s.isspace() and not is_dash(s) and unicodedata.category(s) not in {"Cf", "Zs"}
    )


def pasted(text: str) -> str:
    """What was copied from somewhere, without what came along: blanks at its ends, marks that nobody sees."""
    return "".join(symbol for symbol in text if not _is_empty(symbol) and symbol not in JOINERS).strip()


def is_among(text: str, others: Iterable[str]) -> bool:
    """Whether a reader takes ``text`` for one of ``others``."""
    return folded(text) in map(folded, others)


def identifies(text: str) -> bool:
    """Whether an id of a machine tells it from others: no blank, no word for nothing, no row of zeros."""
    plain = folded(text)
    symbols = {symbol for symbol in plain if symbol.isalnum()}
    return bool(symbols) and symbols not in ({"0"}, {"f"}, {"x"}) and plain not in _nothings()


def is_dash(symbol: str) -> bool:
    """Any of the hyphens, dashes and minus signs."""
    return symbol in "-\u2212" or unicodedata.category(symbol) == "Pd"


def is_trick(text: str) -> bool:
    """Whether a word mixes Latin letters with some of another alphabet that look like Latin ones."""
    words = "".join(symbol if symbol.isalpha() else " " for symbol in normal(text)).split()
    return any(_has_latin(word) and any(symbol in _TWINS for symbol in word.casefold()) for word in words)


def named(symbol: str) -> str:
    """A symbol so that a person finds it, also one that nobody sees."""
    name = unicodedata.name(symbol, "without a name")
    return f"{symbol!r} ({name}, U+{ord(symbol):04X})" if symbol.isprintable() else f"{name} (U+{ord(symbol):04X})"


def _has_latin(word: str) -> bool:
    return any(unicodedata.name(symbol, "").startswith("LATIN ") for symbol in word)


def _is_joined(before: Sequence[str]) -> bool:
    """Whether a joiner behind this letter is part of its spelling; elsewhere it is nothing that anybody sees."""
    return bool(before) and unicodedata.name(before[0], "").partition(" ")[0] in _JOINING


def _is_blank(symbol: str) -> bool:
    return symbol == "\t" or unicodedata.category(symbol) == "Zs"


def _is_empty(symbol: str) -> bool:
    """A mark that shows nothing and means nothing: zero width, byte order, soft hyphen. Not those that turn the writing."""
    return symbol in "\u00ad\u180e\u200b\u2060\ufeff"
