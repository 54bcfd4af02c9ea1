"""The commands about the catalog: load a file, show what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.client import ApiClient, verb
from tallystick.sentences import _

catalog_app = typer.Typer(no_args_is_help=True, help="What can be bought: kinds of field servers and products.")


@catalog_app.command("load", epilog="Example: tallystick activation catalog load examples/catalog.yaml --data DIR")
@verb
def load_catalog(
    client: ApiClient,
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A catalog as in examples/catalog.yaml.")],
) -> None:
    """Load kinds and products. Products that are there already take the new terms; none is removed."""
    from tallystick.activation.core import catalog_file
    from tallystick.activation.files import load_file

    read = catalog_file.parse_catalog(load_file(file, bytes_max=catalog_file.BYTES_MAX))
    products = {
        sku: {
            "name": product.name,
            "kinds": sorted(product.kinds),
            "features": dict(product.features),
            "returnable": product.returnable,
            "one_carry": product.one_carry,
            "engineering": product.engineering,
        }
        for sku, product in read.products.items()
    }
    saved = client.change("PUT", "/v1/catalog", {"kinds": list(read.kinds), "products": products})
    loaded = {product["sku"]: product for product in saved["products"]}
    _show_catalog(client, saved | {"products": [loaded[sku] for sku in read.products]})


@catalog_app.command("show", epilog="Example: tallystick activation catalog show --data DIR")
@verb
def show_catalog(client: ApiClient) -> None:
    """Kinds of field servers and products, as they are sold now."""
    _show_catalog(client, client.request("GET", "/v1/catalog"))


def _show_catalog(client: ApiClient, catalog: dict[str, Any]) -> None:
    if client.as_json:
        console.print_json(catalog)
        return
    rows = [
        (
            product["sku"],
            product["name"],
            ", ".join(kind for kind in catalog["kinds"] if kind in product["kinds"]),
            ", ".join(f"{count} {feature}" for feature, count in product["features"].items()),
        )
        for product in catalog["products"]
    ]
    console.print_table((_("SKU"), _("Name"), _("Kinds"), _("One unit carries")), rows, empty=_("No products."))
