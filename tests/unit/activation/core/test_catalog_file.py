"""A catalog is read strictly: what is wrong is named with its place, and nothing else is loaded."""

import pytest

from support.served import EXAMPLE_CATALOG
from tallystick.activation.core.catalog_file import BYTES_MAX, CatalogError, parse_catalog

GOOD = """
kinds: [AS-P, AS-B]
products:
  one:
    name: One
    kinds: [AS-P]
    features: {one: 1}
"""


def test_the_example_shows_what_the_demo_sells():
    catalog = parse_catalog(EXAMPLE_CATALOG.read_bytes())
    assert catalog.kinds == ("AS-P", "AS-B", "Edge Server")
    assert list(catalog.products) == [
        "smartdriver",
        "snmp-notification",
        "personal-dashboards",
        "external-log-storage",
        "mqtt-client",
        "connected-devices",
        "engineering",
    ]
    logs = catalog.products["external-log-storage"]
    assert "AS-B" not in logs.kinds
    assert not logs.one_carry
    assert catalog.products["connected-devices"].features == {"connected-devices": 10}
    assert catalog.products["engineering"].engineering


def test_what_is_not_said_has_its_default():
    (product,) = parse_catalog(GOOD.encode()).products.values()
    assert (product.returnable, product.one_carry, product.engineering) == (True, True, False)


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("kinds: [AS-P, AS-B]", "kinds: []", "kinds"),
        ("kinds: [AS-P, AS-B]", "kinds: [AS-P, AS-P]", "kinds"),
        ("kinds: [AS-P, AS-B]", "kinds: [1]", "kinds, entry 1"),
        ("kinds: [AS-P, AS-B]", "kinds: AS-P", "kinds"),
        ("kinds: [AS-P, AS-B]\n", "", "the name kinds"),
        ("kinds: [AS-P, AS-B]", "kinds: [AS-P, AS-B]\nother: 1", "'other'"),
        ("  one:\n", "  a b:\n", "products.a b"),
        ("  one:\n", f"  {'x' * 41}:\n", "products.xxx"),
        ("  one:\n", "  7:\n", "products.7"),
        ("name: One", "name: ''", "products.one.name"),
        ("name: One", f"name: {'x' * 129}", "products.one.name"),
        ("name: One", 'name: "a\\u0007b"', "products.one.name"),
        ("name: One\n", "title: One\n", "the name name"),
        ("kinds: [AS-P]\n", "kinds: [AS-X]\n", "products.one.kinds"),
        ("kinds: [AS-P]\n", "kinds: []\n", "products.one.kinds"),
        ("features: {one: 1}", "features: {}", "products.one.features"),
        ("features: {one: 1}", "features: {one: 0}", "products.one.features.one"),
        ("features: {one: 1}", "features: {one: 1.5}", "products.one.features.one"),
        ("features: {one: 1}", "features: {one: true}", "products.one.features.one"),
        ("features: {one: 1}", "features: {one: 1000000001}", "products.one.features.one"),
        ("features: {one: 1}", f"features: {{{', '.join(f'f{n}: 1' for n in range(9))}}}", "products.one.features"),
        ("features: {one: 1}", "features: {o ne: 1}", "products.one.features"),
        ("features: {one: 1}", "features: {one: 1}\n    one_carry: yes please", "products.one.one_carry"),
        (
            "features: {one: 1}",
            "features: {one: 1}\n    returnable: false\n    one_carry: true",
            "products.one.one_carry",
        ),
        ("features: {one: 1}", "features: {one: 1, one: 2}", "line 7"),
        ("features: {one: 1}", "features: {one: 1", "line"),
        ("name: One", "name: &x One\n    extra: *x", "line 6"),
        ("name: One", "name: !!python/object:os.system One", "line 5"),
        ("name: One", "? [a]\n    : One", "line 5"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(old, new, place):
    assert old in GOOD
    with pytest.raises(CatalogError) as refused:
        parse_catalog(GOOD.replace(old, new).encode())
    assert refused.value.code == "catalog-wrong"
    assert place in str(refused.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"kinds",
        b"[]",
        b"\x00\x01\x02",
        b"\xff\xfe\xff",
        b"{" * 5000,
        b"[" * 5000,
        b"a: " * 3000,
        b"x" * (BYTES_MAX + 1),
        b"kinds: [A]\nproducts: 3",
        b"kinds: 2001-99-99\nproducts: {}",
    ],
)
def test_anything_else_is_refused_too(data):
    with pytest.raises(CatalogError) as refused:
        parse_catalog(data)
    assert refused.value.code == "catalog-wrong"
    assert len(str(refused.value)) < 400
