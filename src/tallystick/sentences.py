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
import re
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

DOMAIN: Final = "tallystick"
ENGLISH: Final = "en"
FOLDER_VARIABLE: Final = "TALLYSTICK_TRANSLATIONS"  # a folder of catalogs to use in place of our own
_WEIGHT: Final = re.compile(r"q=([01](?:\.[0-9]{0,3})?)")
_VARIABLES: Final = ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads: in which language, and whether a page (which names what to click) or a shell (what to type)."""

    language: str = ENGLISH
    is_page: bool = False


READER: ContextVar[Reader] = ContextVar("reader", default=Reader())  # noqa: B039 -- it is frozen


class Sentence(str):
    """The English text, as a shell says it; ``spoken`` words it for another reader.

    Joining, cutting or formatting it makes a plain string of it, which stays English. msgspec takes exact strings only:
    what goes into a struct is ``str(sentence)``, or is kept by ``structs.encode_kept``.
    """

    __slots__ = ("msgid", "page", "plural", "values")

    msgid: str
    values: Mapping[str, object]
    plural: str | None
    page: str | None

    def __new__(
        cls, msgid: str, values: Mapping[str, object], plural: str | None = None, page: str | None = None
    ) -> Self:
        """``plural``: the text for any ``values["count"]`` but 1; ``page``: the text of a page, where it differs."""
        self = super().__new__(cls, _filled(msgid if plural is None or values["count"] == 1 else plural, values))
        self.msgid, self.values, self.plural, self.page = msgid, values, plural, page
        return self

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        """What a copy is made of."""
        return Sentence, (self.msgid, self.values, self.plural, self.page)


def _(msgid: str, /, **values: object) -> Sentence:
    """A sentence with its values; braces as in ``str.format``, but only where there are values."""
    return Sentence(msgid, values)


def _n(one: str, many: str, /, *, count: int, **values: object) -> Sentence:
    """A sentence that depends on a number; each language has its own forms."""
    return Sentence(one, {"count": count, **values}, many)


def way(command: str, page: str, /, **values: object) -> Sentence:
    """How something is done: the command to type, or (marked with ``N_``) what a page has for it."""
    return Sentence(command, values, page=page)


def N_(msgid: str) -> str:  # noqa: N802 -- gettext's own name for a mark without effect
    """Mark a text of a table, from which ``_`` makes a sentence later."""
    return msgid


def spoken(text: str, reader: Reader | None = None) -> str:
    """A sentence for a reader (None: who reads now, ``READER``); any other text as it is."""
    if not isinstance(text, Sentence):
        return text
    reader = reader or READER.get()
    catalog = translations(reader.language)
    values = {name: spoken(value, reader) if isinstance(value, str) else value for name, value in text.values.items()}
    if text.page is not None and reader.is_page:
        return _filled(catalog.gettext(text.page), values)
    if text.plural is None:
        return _filled(catalog.gettext(text.msgid), values)
    count = values["count"]
    return _filled(catalog.ngettext(text.msgid, text.plural, count if isinstance(count, int) else 2), values)


def pack(value: object) -> object:
    """A sentence as JSON keeps it; msgspec's hook."""
    if not isinstance(value, Sentence):
        raise NotImplementedError  # what msgspec wants to hear about what is not ours
    values = {
        name: pack(one) if isinstance(one, Sentence) else one if isinstance(one, int) else str(one)
        for name, one in value.values.items()
    }
    return {"msgid": value.msgid, "values": values, "plural": value.plural, "page": value.page}


def unpack(value: Any) -> Any:
    """A sentence again; anything else as it is."""
    if not isinstance(value, dict) or "msgid" not in value:
        return value
    values = {name: unpack(one) for name, one in value["values"].items()}
    return Sentence(value["msgid"], values, value["plural"], value["page"])


def translations(language: str) -> gettext.NullTranslations:
    """The catalog of a language; for English, or one that there is none of, every text is its own translation."""
    return _loaded(_folder(), language)


def languages() -> frozenset[str]:
    """What there is a catalog of."""
    return _languages(_folder())


def language_of_shell(environ: Mapping[str, str]) -> str:
    """The first language of the environment, in gettext's order, that there is a catalog of."""
    text = next((environ[name] for name in _VARIABLES if environ.get(name)), "")
    return _first(part.split(".")[0].split("@")[0] for part in text.split(":"))


def language_of_browser(accepted: str) -> str:
    """The first language of an Accept-Language header that there is a catalog of."""
    weighted = []
    for part in accepted[:1000].split(","):
        name, _semicolon, weight = part.partition(";")
        number = _WEIGHT.fullmatch(weight.strip())
        weighted.append((float(number[1]) if number else 1.0, name.strip().replace("-", "_")))
    return _first(name for weight, name in sorted(weighted, key=lambda pair: -pair[0]) if weight)


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
def _languages(folder: Path) -> frozenset[str]:
    found = folder.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")
    return frozenset({ENGLISH, *(path.parent.parent.name for path in found)})


@cache
def _loaded(folder: Path, language: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, folder, [language], fallback=True)


def _filled(text: str, values: Mapping[str, object]) -> str:
    return text.format_map(values) if values else text
