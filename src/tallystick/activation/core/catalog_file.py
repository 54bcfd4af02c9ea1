"""The catalog as people write it: YAML in, ``domain.catalog.Catalog`` out, or the place that is wrong.

Strict: unknown names, names given twice, wrong types and values beyond the limits of the protocol are refused, and
nothing of a refused catalog is loaded. ``example-catalog.yaml`` beside the party shows every part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Never

import yaml

from tallystick.domain.catalog import Catalog, Product
from tallystick.errors import Error
from tallystick.protocol.messages import QUANTITY_MAX
from tallystick.sentences import _

BYTES_MAX: Final = 1024 * 1024
KINDS_MAX: Final = 16
PRODUCTS_MAX: Final = 2000
FEATURES_MAX: Final = 8
KIND_LENGTH_MAX: Final = 40
NAME_LENGTH_MAX: Final = 128
_SCALAR_LENGTH_MAX: Final = 1000
_SKU: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
_FEATURE: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
_REQUIRED: Final = frozenset({"name", "kinds", "features"})
_OPTIONAL: Final = frozenset({"returnable", "one_carry", "engineering"})


class CatalogError(Error):
    """A catalog that cannot be used (``catalog-wrong``)."""


def parse_catalog(data: bytes) -> Catalog:
    """Read a catalog. Raises ``CatalogError`` that names the place."""
    if len(data) > BYTES_MAX:
        _refuse(_("the file"), _("at most {bytes_max} bytes", bytes_max=BYTES_MAX), _("{count} bytes", count=len(data)))
    try:
        document = yaml.load(data, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader that refuses more
    except (yaml.YAMLError, UnicodeError) as error:
        problem = getattr(error, "problem", None) or str(error)
        _refuse(_place_of(error), _("YAML with each name once"), " ".join(problem.split())[:120])
    except (RecursionError, ValueError) as error:
        _refuse(_("the file"), _("YAML that is not nested so deeply"), str(error)[:120])
    top = _mapping(_("the file"), document, required=frozenset({"kinds", "products"}))
    kinds = _kinds(top["kinds"])
    products = _names("products", top["products"], entries_max=PRODUCTS_MAX)
    return Catalog(kinds=kinds, products={str(sku): _product(sku, value, kinds) for sku, value in products.items()})


def changes_of(
    before: Iterable[Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
    lines_of: Callable[[str], Iterable[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """Of each product that was sold and is changed: what is changed, on which lines, and how many of them are held.

    ``before``, ``after`` (by SKU) and ``lines_of`` (a SKU) are documents as the management API has them.
    """
    found = []
    for now in before:
        then = after.get(now["sku"], {})
        changed = {name: value for name, value in then.items() if _plain(now[name]) != _plain(value)}
        lines = list(lines_of(now["sku"])) if changed else []
        found += [
            {
                "product": now["sku"],
                "what": name,
                "now": now[name],
                "then": value,
                "lines": [line["line"] for line in lines],
                "accounts": sorted({line["account"] for line in lines}),
                "held": sum(line["held"] for line in lines),
            }
            for name, value in changed.items()
            if lines
        ]
    return found


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, list) else value


def value_text(value: Any) -> str:
    """A term of a product for people."""
    match value:
        case bool():
            return _("yes") if value else _("no")
        case dict():
            return ", ".join(f"{count} {feature}" for feature, count in value.items())
        case list():
            return ", ".join(value)
        case _:
            return str(value)


def _kinds(value: object) -> tuple[str, ...]:
    kinds = [
        _text(_("kinds, entry {place}", place=place), kind, KIND_LENGTH_MAX)
        for place, kind in enumerate(_list("kinds", value), 1)
    ]
    if not 1 <= len(kinds) <= KINDS_MAX or len(set(kinds)) != len(kinds):
        _refuse(
            "kinds",
            _("1 to {kinds_max} different kinds of field servers", kinds_max=KINDS_MAX),
            _("{count}, or one of them twice", count=len(kinds)),
        )
    return tuple(kinds)


def _product(sku: object, value: object, kinds: Sequence[str]) -> Product:
    place = f"products.{str(sku)[:40]}"
    if not isinstance(sku, str) or not _SKU.fullmatch(sku):
        _refuse(place, _("a SKU of 1 to 40 letters, digits, dots, hyphens or underscores"), repr(sku)[:60])
    fields = _mapping(place, value, required=_REQUIRED, optional=_OPTIONAL)
    applies = [str(kind) for kind in _list(f"{place}.kinds", fields["kinds"])]
    unknown = [kind for kind in applies if kind not in kinds]
    if unknown or not applies or len(set(applies)) != len(applies):
        seen = f"{unknown[0][:60]!r}" if unknown else _("none, or one of them twice")
        _refuse(f"{place}.kinds", _("some of {kinds}, each once", kinds=", ".join(kinds)), seen)
    product = Product(
        sku=sku,
        name=_text(f"{place}.name", fields["name"], NAME_LENGTH_MAX),
        kinds=frozenset(applies),
        features=_features(f"{place}.features", fields["features"]),
        returnable=_flag(f"{place}.returnable", fields.get("returnable", True)),
        one_carry=_flag(f"{place}.one_carry", fields.get("one_carry", True)),
        engineering=_flag(f"{place}.engineering", fields.get("engineering", False)),
    )
    if product.one_carry and not product.returnable and "one_carry" in fields:
        _refuse(f"{place}.one_carry", _("false, because the product is not returnable"), _("true"))
    return product


def _features(place: str, value: object) -> dict[str, int]:
    features = _names(place, value, entries_max=FEATURES_MAX)
    for feature, count in features.items():
        if not isinstance(feature, str) or not _FEATURE.fullmatch(feature):
            _refuse(place, _("features of 1 to 32 letters, digits, dots, hyphens or underscores"), repr(feature)[:60])
        if type(count) is not int or not 1 <= count <= QUANTITY_MAX:
            _refuse(
                f"{place}.{feature}",
                _("a whole number from 1 to {quantity_max}", quantity_max=QUANTITY_MAX),
                repr(count)[:60],
            )
    return {str(feature): count for feature, count in features.items()}


def _mapping(
    place: str, value: object, *, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        _refuse(place, _("a mapping with {required}", required=", ".join(sorted(required))), type(value).__name__)
    missing, unknown = required - value.keys(), value.keys() - required - optional
    if missing:
        _refuse(place, _("the name {missing}", missing=min(missing)), _("none"))
    if unknown:
        allowed = ", ".join(sorted(required | optional))
        _refuse(place, _("no other names than {allowed}", allowed=allowed), repr(min(unknown, key=str))[:60])
    return value


def _names(place: str, value: object, *, entries_max: int) -> Mapping[object, Any]:
    if not isinstance(value, dict) or not 1 <= len(value) <= entries_max:
        seen = _("{count} entries", count=len(value)) if isinstance(value, dict) else type(value).__name__
        _refuse(place, _("a mapping with 1 to {entries_max} entries", entries_max=entries_max), seen)
    return value


def _list(place: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        _refuse(place, _("a list"), type(value).__name__)
    return value


def _text(place: str, value: object, length_max: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= length_max or not value.isprintable():
        _refuse(place, _("a text of 1 to {length_max} printable symbols", length_max=length_max), repr(value)[:60])
    return value


def _flag(place: str, value: object) -> bool:
    if not isinstance(value, bool):
        _refuse(place, _("true or false"), repr(value)[:60])
    return value


def _place_of(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return f"line {mark.line + 1}" if mark is not None else "the file"


def _refuse(place: str, expected: str, seen: str) -> Never:
    raise CatalogError("catalog-wrong", expected=_("at {place}: {expected}", place=place, expected=expected), seen=seen)


class _StrictLoader(yaml.SafeLoader):
    """Names once; no aliases, no tags and no endless texts, which a catalog does not need and a hostile one would.

    A tag would send a text to a constructor that was not made for it; the constructors fail in their own ways.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # as their stubs have it
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="an alias, which is not used here", problem_mark=event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem="a tag, which is not used here", problem_mark=event.start_mark)
        if len(getattr(event, "value", "")) > _SCALAR_LENGTH_MAX:
            raise yaml.MarkedYAMLError(problem="a text without end", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - theirs
        names = set()
        for key, _other in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str | int | float | bool | None) or name in names:
                problem = f"the name {str(name)[:40]!r} twice, or no name"
                mark: Any = key.start_mark
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            names.add(name)
        return super().construct_mapping(node, deep)
