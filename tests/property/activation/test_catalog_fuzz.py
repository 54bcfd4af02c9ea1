"""Any file as a catalog: a catalog within the limits of the protocol, or the one error that names the place."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tallystick.activation.core.catalog_file import CatalogError, parse_catalog
from tallystick.protocol import messages
from tallystick.protocol.problems import BY_CODE

GOOD = {
    "kinds": ["AS-P", "Edge Server"],
    "products": {
        "mqtt": {"name": "MQTT client", "kinds": ["AS-P"], "features": {"mqtt": 1}, "returnable": True},
        "logs": {"name": "Logs", "kinds": ["Edge Server"], "features": {"logs": 5, "x": 1}, "one_carry": False},
    },
}
ODD = [
    "!!timestamp x",
    "!!bool x",
    "!!int ''",
    "!!int _",
    "!!float ''",
    "!!map [1]",
    "!!python/object/apply:os.system [x]",
    "!<tag:yaml.org,2002:timestamp> x",
    "&a [*a]",
    "&a {b: *a}",
    "{<<: {a: 1}}",
    "{<<: 5}",
    "{=: 1}",
    "0b_",
    "2001-99-99",
    "2001-01-01T25:00:00Z",
    "9999-12-31 23:59:59 -23:59",
    "1" + "0" * 5000,
    "1" + ":1" * 400,
    ".nan",
    "{.nan: 1, .nan: 2}",
    "{1: a, true: b}",
    "? [a]\n: b",
    "? {a: b}\n: c",
    '"\\ud800"',
    '"\\U00110000"',
    "%YAML 9.9\n---\na",
    "---\na\n---\nb",
    "\x00",
    "\x85",
    "[" * 3000,
    "- " * 3000,
]


def own_error(error: CatalogError) -> None:
    assert error.code in BY_CODE
    str(error).encode()
    assert len(str(error)) < 1000


def read(data: bytes) -> None:
    began = time.process_time()
    try:
        catalog = parse_catalog(data)
    except CatalogError as error:
        own_error(error)
    else:
        for product in catalog.products.values():
            claim = messages.LicenseClaim(
                license="",
                line="00000000",
                product=product.sku,
                quantity=1,
                features=dict(product.features),
                expires=None,
                one_carry=product.one_carry,
            )
            assert messages.convert_claims(messages.encode_claims(claim), messages.LicenseClaim) == claim
            assert product.kinds <= set(catalog.kinds)
    assert time.process_time() - began < 20


def test_the_good_one_is_read():
    assert set(parse_catalog(yaml.safe_dump(GOOD).encode()).products) == {"mqtt", "logs"}


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:30]))
@pytest.mark.parametrize("before", ["", "kinds: ", "kinds: [a]\nproducts:\n  x: ", "kinds: [a]\nproducts: {x: {name: "])
def test_odd_yaml_in_every_place(text, before):
    read((before + text.replace("\n", "\n    ")).encode("utf-8", "surrogatepass"))


@pytest.mark.slow
@given(st.binary(max_size=300) | st.text(st.characters(codec="utf-8"), max_size=200).map(str.encode))
@example(b"a: 1" + b":1" * 400_000)
@example(b"[" * 900_000)
@example(b"x" * 1_000_000)
@example(b"x" * 1_100_000)
def test_any_bytes(data):
    read(data)


@given(st.text("ab:-?[]{}&*!|>'\"%@#,\n\t 01.~=<", max_size=80))
def test_any_text_of_the_symbols_that_mean_something(text):
    read(text.encode())


@pytest.mark.slow
def test_many_names_take_no_time_that_grows_with_their_square():
    began = time.process_time()
    with pytest.raises(CatalogError):
        parse_catalog(b"kinds: [a]\nproducts:\n" + b"".join(b"  a%d: 1\n" % number for number in range(40_000)))
    assert time.process_time() - began < 30  # it was minutes


@given(st.data())
def test_a_good_catalog_with_one_place_changed(data):
    document = yaml.safe_load(yaml.safe_dump(GOOD))
    here = document
    while True:
        name = data.draw(st.sampled_from(list(here) if isinstance(here, dict) else list(range(len(here)))))
        if isinstance(here[name], dict | list) and data.draw(st.booleans()):
            here = here[name]
            continue
        here[name] = data.draw(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.dates()
        )
        break
    read(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))
