"""The commands about the catalog: load a file, show what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tallystick.activation.commands import console
from tallystick.activation.commands.client import ApiClient, verb
from tallystick.sentences import _

catalog_app = typer.Typer(no_args_is_help=True, help="What can be bought: kinds of field servers and products.")


@catalog_app.command("load", epilog="Example: tallystick activation catalog load catalog.yaml --data DIR")
@verb
def load_catalog(
    client: ApiClient,
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="A catalog as `catalog example` prints it.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change, and where.")] = False,
) -> None:
    """Load kinds and products. Products that are there already take the new terms; none is removed.

    What changes for what was sold already is shown first: the product, its lines, and how many of them are held.
    """
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
    before = client.request("GET", "/v1/catalog")["products"]
    changes = catalog_file.changes_of(before, products, lambda sku: client.all("/v1/lines", product=sku))
    if not client.as_json:
        _show_changes(changes)
    if dry_run:
        if client.as_json:
            console.print_json({"changes": changes})
        return
    saved = client.change("PUT", "/v1/catalog", {"kinds": list(read.kinds), "products": products})
    loaded = {product["sku"]: product for product in saved["products"]}
    _show_catalog(client, saved | {"products": [loaded[sku] for sku in read.products], "changes": changes})


def _show_changes(changes: list[dict[str, Any]]) -> None:
    from tallystick.activation.core.catalog_file import value_text

    headers = (_("Product"), _("What"), _("Now"), _("Then"), _("Lines"), _("Held"), _("Accounts"))
    rows = [
        (
            change["product"],
            change["what"],
            value_text(change["now"]),
            value_text(change["then"]),
            len(change["lines"]),
            change["held"],
            ", ".join(change["accounts"]),
        )
        for change in changes
    ]
    console.print_table(headers, rows, empty=_("Nothing changes for what was sold already."))


@catalog_app.command("example", epilog="Example: tallystick activation catalog example > catalog.yaml")
def print_example() -> None:
    """Print a catalog that shows every part, to change and load."""
    from tallystick.activation.files import EXAMPLE_CATALOG

    console.say(EXAMPLE_CATALOG.read_text("utf-8").rstrip())


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
