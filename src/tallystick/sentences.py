"""Sentences for people: English with named values in the code, the reader's language at the edge.

``_`` marks a sentence where it is made, and what it returns is a string: the English text, which programs, logs and
signed files get. It remembers what it was made of, so that the edge that shows it to a person (a page, a command line,
a mail) can word it anew with ``spoken``. A text that is no ``Sentence`` came from outside, is a name or a number, and
is shown as it is. Translations are compiled catalogs of gettext beside this file; English is its own catalog.
``docs/reference/sentences.md`` tells how a sentence gets there.
"""

from __future__ import annotations

import gettext
import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Final, Self

DOMAIN: Final = "tallystick"
ENGLISH: Final = "en"
FOLDER_VARIABLE: Final = "TALLYSTICK_TRANSLATIONS"  # a folder of catalogs to use in place of our own
LANGUAGE: ContextVar[str] = ContextVar("language", default=ENGLISH)
_VARIABLES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


class Sentence(str):
    """The English text; ``spoken`` words it in another language.

    Joining, cutting or formatting it makes a plain string of it, which stays English. msgspec takes exact strings only:
    what goes into a struct is ``str(sentence)``.
    """

    __slots__ = ("msgid", "plural", "values")

    msgid: str
    plural: str | None
    values: Mapping[str, object]

    def __new__(cls, msgid: str, values: Mapping[str, object], plural: str | None = None) -> Self:
        """``plural``: the text for any ``values["count"]`` but 1."""
        self = super().__new__(cls, _filled(msgid if plural is None or values["count"] == 1 else plural, values))
        self.msgid, self.plural, self.values = msgid, plural, values
        return self

    def __reduce__(self) -> tuple[type, tuple[str, Mapping[str, object], str | None]]:
        """What a copy is made of."""
        return Sentence, (self.msgid, self.values, self.plural)


def _(msgid: str, /, **values: object) -> Sentence:
    """A sentence with its values; braces as in ``str.format``, but only where there are values."""
    return Sentence(msgid, values)


def _n(one: str, many: str, /, *, count: int, **values: object) -> Sentence:
    """A sentence that depends on a number; each language has its own forms."""
    return Sentence(one, {"count": count, **values}, many)


def N_(msgid: str) -> str:  # noqa: N802 -- gettext's own name for a mark without effect
    """Mark a text of a table, from which ``_`` makes a sentence later."""
    return msgid


def spoken(text: str, language: str | None = None) -> str:
    """A sentence in a language (None: the reader's, ``LANGUAGE``); any other text as it is."""
    if not isinstance(text, Sentence):
        return text
    language = language or LANGUAGE.get()
    if language == ENGLISH:
        return str(text)
    catalog = translations(language)
    values = {name: spoken(value, language) if isinstance(value, str) else value for name, value in text.values.items()}
    if text.plural is None:
        return _filled(catalog.gettext(text.msgid), values)
    count = values["count"]
    return _filled(catalog.ngettext(text.msgid, text.plural, count if isinstance(count, int) else 2), values)


def translations(language: str) -> gettext.NullTranslations:
    """The catalog of a language; for English, or one that there is none of, every text is its own translation."""
    return _loaded(_folder(), language)


def languages() -> frozenset[str]:
    """What there is a catalog of."""
    found = _folder().glob(f"*/LC_MESSAGES/{DOMAIN}.mo")
    return frozenset({ENGLISH, *(path.parent.parent.name for path in found)})


def language_of_shell(environ: Mapping[str, str]) -> str:
    """The first language of the environment, in gettext's order, that there is a catalog of."""
    text = next((environ[name] for name in _VARIABLES if environ.get(name)), "")
    return _first(part.split(".")[0].split("@")[0] for part in text.split(":"))


def language_of_browser(accepted: str) -> str:
    """The first language of an Accept-Language header that there is a catalog of."""
    weighted = []
    for part in accepted[:1000].split(","):
        name, _semicolon, weight = part.partition(";")
        digits = weight.strip().removeprefix("q=").replace(".", "", 1)
        weighted.append((float(weight.strip()[2:]) if digits.isascii() and digits.isdigit() else 1.0, name.strip()))
    weighted.sort(key=lambda pair: -pair[0])
    return _first(name.replace("-", "_") for _weight, name in weighted)


def _first(wanted: Iterable[str]) -> str:
    there = languages()
    for name in wanted:
        for form in (name, name.split("_")[0]):
            if form in there:
                return form
    return ENGLISH


def _folder() -> Path:
    return Path(os.environ.get(FOLDER_VARIABLE) or Path(__file__).parent / "translations")


@cache
def _loaded(folder: Path, language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, folder, [language], fallback=True)


def _filled(text: str, values: Mapping[str, object]) -> str:
    return text.format_map(values) if values else text
