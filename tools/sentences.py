"""Sentences for translators: extracted from code and templates, compiled, and checked for completeness.

    python tools/sentences.py                   update every translations/LANGUAGE/LC_MESSAGES/tallystick.po, compile it
    python tools/sentences.py --language de     the same, and begin a language
    python tools/sentences.py --check           fail where anything is missing, left over, unsure or does not fit
    python tools/sentences.py --pseudo FOLDER   a made-up language, en_XA, that shows what went through the catalog

English is in the code, so what was extracted is not kept: ``build/tallystick.pot`` is for programs that want a template.
"""

from __future__ import annotations

import argparse
import io
import re
import string
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from babel.messages import extract
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "src" / "tallystick"
TRANSLATIONS: Final = SOURCE / "translations"
PSEUDO: Final = "en_XA"
# What marks a sentence, and which of its arguments are one. `_row` is the table of problems.
KEYWORDS: Final[Mapping[str, tuple[int, ...] | None]] = {
    "_": None,
    "N_": None,
    "_n": (1, 2),
    "gettext": None,
    "ngettext": (1, 2),
    "_row": (3, 4, 5),
}
_JINJA: Final = {"trimmed": "true", "newstyle_gettext": "true", "silent": "false"}
_PRINTF: Final = re.compile(r"%\((\w+)\)[sd]|%%")
_ACCENTS: Final = str.maketrans("aeiouycnszAEIOUYCNSZ", "áéíóúýçñšžÁÉÍÓÚÝÇÑŠŽ")

Text = str | tuple[str, ...]


def extracted() -> Catalog:
    """Every marked sentence, without line numbers: a sentence that moved is the same."""
    catalog = Catalog(project="Tallystick", charset="utf-8")
    for path in sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.html")]):
        is_code = path.suffix == ".py"
        method = "python" if is_code else "jinja2.ext:babel_extract"
        found = extract.extract(
            method,
            io.BytesIO(path.read_bytes()),
            KEYWORDS,
            ["Translators:"],
            {} if is_code else _JINJA,
        )
        for _line, text, comments, _context in found:
            for one in _sentences(text):
                catalog.add(one, locations=[(path.relative_to(ROOT).as_posix(), 0)], auto_comments=comments)
    return catalog


def _sentences(text: object) -> Iterator[Text]:
    """``_row`` gives three sentences that are no plural of each other."""
    if isinstance(text, str):
        yield text
    elif isinstance(text, tuple):
        parts = tuple(part for part in text if isinstance(part, str))
        if len(parts) > len(("one", "many")):
            yield from parts
        elif parts:
            yield parts


def faults(template: Catalog, translated: Catalog) -> Iterator[str]:
    """What keeps a language from being complete."""
    wanted = {message.id for message in template if message.id}
    for message in template:
        there = translated.get(message.id) if message.id else None
        if not message.id:
            continue
        if there is None or not there.string or not all(_texts(there.string)):
            yield f"missing: {message.id!r}"
        elif there.fuzzy:
            yield f"not sure: {message.id!r}"
        else:
            yield from _misfits(there)
    yield from (f"left over: {message.id!r}" for message in translated if message.id and message.id not in wanted)


def _misfits(message: Message) -> Iterator[str]:
    allowed = _values(_texts(message.id)[-1])
    for text in _texts(message.string):
        try:
            unknown = _values(text) - allowed
        except ValueError as error:
            yield f"{text!r}: {error}"
        else:
            if unknown:
                yield f"{text!r} wants {', '.join(sorted(unknown))}, which {message.id!r} does not have"


def _texts(text: Text | Iterable[str] | None) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else tuple(text or ())


def _values(text: str) -> set[str]:
    """The values that a text names. Raises ``ValueError`` for braces that do not fit."""
    in_printf = {found[1] for found in _PRINTF.finditer(text) if found[1]}
    if in_printf:
        return in_printf
    return {name for _literal, name, _spec, _conversion in string.Formatter().parse(text) if name is not None}


def pseudo(text: str) -> str:
    """``⟦áççéñťš⟧``, with values and tags as they were."""
    parts = re.split(r"(\{[^{}]*\}|%\(\w+\)[sd]|<[^>]*>|&\w+;)", text)
    return "⟦" + "".join(part if index % 2 else part.translate(_ACCENTS) for index, part in enumerate(parts)) + "⟧"


def write_pseudo(folder: Path) -> None:
    """Compile it; for ``TALLYSTICK_TRANSLATIONS=FOLDER LANGUAGE=en_XA``."""
    template, catalog = extracted(), Catalog(locale="en")
    for message in template:
        if message.id:
            said = tuple(map(pseudo, _texts(message.id)))
            catalog.add(message.id, said if isinstance(message.id, tuple) else said[0])
    path = folder / PSEUDO / "LC_MESSAGES" / "tallystick.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_compiled(catalog))


def _compiled(catalog: Catalog) -> bytes:
    data = io.BytesIO()
    write_mo(data, catalog)
    return data.getvalue()


def _po(catalog: Catalog) -> bytes:
    data = io.BytesIO()
    write_po(data, catalog, width=120, sort_output=True, omit_header=False, include_lineno=False)
    return data.getvalue()


def update(template: Catalog, new: str | None) -> None:
    """Every language gets what is new, and is compiled."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    (build / "tallystick.pot").write_bytes(_po(template))
    if new:
        path = TRANSLATIONS / new / "LC_MESSAGES" / "tallystick.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(_po(Catalog(locale=new, project="Tallystick")))
    for path in sorted(TRANSLATIONS.glob("*/LC_MESSAGES/tallystick.po")):
        catalog = read_po(io.BytesIO(path.read_bytes()), locale=path.parent.parent.name)
        catalog.update(template, no_fuzzy_matching=True)
        path.write_bytes(_po(catalog))
        path.with_suffix(".mo").write_bytes(_compiled(catalog))
        print(f"{path.relative_to(ROOT)}: {sum(1 for _ in faults(template, catalog))} to do")


def check(template: Catalog) -> bool:
    """Whether every text can be filled, and every language is complete and compiled."""
    found = [f"English: {fault}" for message in template if message.id for fault in _english_faults(message)]
    for path in sorted(TRANSLATIONS.glob("*/LC_MESSAGES/tallystick.po")):
        catalog = read_po(io.BytesIO(path.read_bytes()), locale=path.parent.parent.name)
        found += [f"{path.parent.parent.name}: {fault}" for fault in faults(template, catalog)]
        if not path.with_suffix(".mo").exists() or path.with_suffix(".mo").read_bytes() != _compiled(catalog):
            found.append(f"{path.parent.parent.name}: not compiled; run make sentences")
    for line in found:
        print(line, file=sys.stderr)
    languages = len(list(TRANSLATIONS.glob("*/LC_MESSAGES/tallystick.po")))
    print(f"sentences: {sum(1 for message in template if message.id)} in English, {languages} other languages")
    return not found


def _english_faults(message: Message) -> Iterator[str]:
    for text in _texts(message.id):
        try:
            names = _values(text)
        except ValueError as error:
            yield f"{text!r}: {error}"
        else:
            if any(not re.fullmatch(r"\w+", name) for name in names):
                yield f"{text!r}: a value has a plain name"


def main() -> None:
    """Do what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--language")
    parser.add_argument("--pseudo", type=Path)
    arguments = parser.parse_args()
    if arguments.pseudo:
        write_pseudo(arguments.pseudo)
    elif arguments.check:
        sys.exit(0 if check(extracted()) else 1)
    else:
        update(extracted(), arguments.language)


if __name__ == "__main__":
    main()
