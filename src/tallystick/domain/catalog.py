"""What can be bought: kinds of field servers, products, and the features that a unit of a product carries."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from tallystick.structs import know


class Product(Struct, frozen=True, kw_only=True):
    """Something to buy, by its SKU.

    ``features`` maps a feature to the count that one unit carries; ``kinds`` are the kinds of field server that it
    applies to; ``one_carry`` says whether a field server may give it up without asking first (protocol, section 8).
    """

    sku: str
    name: str
    kinds: frozenset[str]
    features: Mapping[str, int]
    returnable: bool = True
    one_carry: bool = True
    engineering: bool = False


class Catalog(Struct, frozen=True, kw_only=True):
    """All kinds of field servers and all products of one vendor."""

    kinds: tuple[str, ...] = ()
    products: Mapping[str, Product] = field(default_factory=dict)


know(Product, Catalog)
