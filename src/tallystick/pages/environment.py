"""The Jinja environment of every page, and the filters that turn values into what people read.

Everything is escaped; a name that is missing in a template is an error, not an empty text. What came from outside
(names of field servers, reasons) is shown with ``name``: isolated, so that right-to-left marks in it change nothing
around it, with invisible symbols made visible, and cut.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import Environment, PackageLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup, escape

from tallystick.pages.statics import STATICS
from tallystick.sentences import READER, Reader, _, _n, language_of_browser, spoken, translations

NAME_LENGTH_SHOWN_MAX: Final = 128
_UNREAL: Final = "Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"


def make_environment(package: str, *, static_prefix: str, extra: Mapping[str, Any] | None = None) -> Environment:
    """An environment for the templates in ``package``'s folder ``templates``.

    The shared ones are ``shared/base.html`` and ``shared/macros.html``, its own are under ``own/``. ``static_prefix``
    is where the party serves the static files, without a slash at its end.
    """
    environment = Environment(
        loader=PrefixLoader({"shared": PackageLoader("tallystick.pages"), "own": PackageLoader(package)}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
        finalize=spoken,
    )
    environment.policies["ext.i18n.trimmed"] = True  # lines of a template may be broken anywhere
    i18n: Any = environment  # the extension has added what follows
    i18n.install_gettext_callables(_gettext, _ngettext, newstyle=True)
    filters: dict[str, Callable[..., object]] = {
        "moment": show_moment,
        "second": show_second,
        "day": show_day,
        "age": show_age,
        "quantity": show_quantity,
        "name": show_name,
        "short": show_short,
        "spoken": spoken,
        "translated": _gettext,  # a text of a table, marked with N_
    }
    environment.filters |= filters
    environment.globals["static"] = lambda name: f"{static_prefix}/{STATICS.hashed_name(name)}"
    environment.globals["language"] = lambda: READER.get().language.replace("_", "-")
    environment.globals |= dict(extra or {})
    return environment


def page_reader(accept_language: str | None) -> Reader:
    """Who reads a page, from the header of their browser."""
    return Reader(language=language_of_browser(accept_language or ""), is_page=True)


def _gettext(text: str) -> str:
    return translations(READER.get().language).gettext(text)


def _ngettext(one: str, many: str, count: int) -> str:
    return translations(READER.get().language).ngettext(one, many, count)


def show_moment(seconds: int | None) -> Markup:
    """A moment (Unix seconds, UTC) as ``2027-01-15 08:00 UTC``; None is never."""
    moment = _moment(seconds)
    if moment is None:
        return escape(spoken(_("never")))
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M UTC")
    )


def show_second(seconds: int) -> Markup:
    """A moment of today, for what is watched: ``08:00:31 UTC``, with the day in its title."""
    moment = _moment(seconds) or datetime.min.replace(tzinfo=UTC)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d"), moment.strftime("%H:%M:%S UTC")
    )


def show_day(seconds: int | None) -> Markup:
    """The day of a moment; None is never."""
    moment = _moment(seconds)
    if moment is None:
        return escape(spoken(_("never")))
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d")
    )


def show_age(seconds: int) -> str:
    """How long: the largest unit of which there is at least one, ``3 days``."""
    if seconds >= 86_400:
        return spoken(_n("{count} day", "{count} days", count=seconds // 86_400))
    if seconds >= 3_600:
        return spoken(_n("{count} hour", "{count} hours", count=seconds // 3_600))
    if seconds >= 60:
        return spoken(_n("{count} minute", "{count} minutes", count=seconds // 60))
    if seconds >= 1:
        return spoken(_n("{count} second", "{count} seconds", count=seconds))
    return spoken(_("a moment"))


def show_quantity(number: int) -> str:
    """A number with its thousands apart: ``12,500``."""
    return f"{number:,}"


def show_name(text: str | None, length_max: int = NAME_LENGTH_SHOWN_MAX) -> Markup:
    """A text from outside, isolated from its surroundings; symbols that nobody can see become ``\N{REPLACEMENT CHARACTER}``."""
    if not text:
        return Markup('<span class="quiet">{}</span>').format(spoken(_("none")))
    text = spoken(text)
    shown = "".join("\N{REPLACEMENT CHARACTER}" if _is_unreal(symbol) else symbol for symbol in text[:length_max])
    rest = "\N{HORIZONTAL ELLIPSIS}" if len(text) > length_max else ""
    return Markup("<bdi>{}</bdi>").format(escape(shown + rest))


def show_short(text: str, length: int = 12) -> Markup:
    """The beginning of a long id; the whole is in its title."""
    if len(text) <= length:
        return Markup("<code>{}</code>").format(text)
    return Markup('<code title="{}">{}\N{HORIZONTAL ELLIPSIS}</code>').format(text, text[:length])


def _is_unreal(symbol: str) -> bool:
    return unicodedata.category(symbol) in _UNREAL


def _moment(seconds: int | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.max.replace(tzinfo=UTC)
