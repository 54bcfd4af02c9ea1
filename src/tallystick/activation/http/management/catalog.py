"""The catalog: kinds and products."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import Field

from tallystick.activation.http.management.dependencies import (
    PROBLEM_RESPONSES,
    CallerDependency,
    IfMatch,
    OfficeDependency,
    tag,
    version_from,
)
from tallystick.activation.services import catalog as catalog_service
from tallystick.activation.services.schemas import ONLY_THESE, WHOLE, CatalogDocument, Document, Sku
from tallystick.domain.catalog import Catalog, Product
from tallystick.protocol.messages import QUANTITY_MAX

router = APIRouter(prefix="/v1", responses=PROBLEM_RESPONSES)


KindText = Annotated[str, Field(pattern="^[!-~][ -~]{0,39}$", examples=["AS-P"])]


FeatureText = Annotated[str, Field(pattern="^[A-Za-z0-9._-]{1,32}$")]


class OfferedProduct(Document):
    """Something to buy. ``features``: how much of each one unit carries."""

    name: Annotated[str, Field(pattern="^[!-~][ -~]{0,127}$")]
    kinds: Annotated[list[KindText], Field(min_length=1, max_length=16)]
    features: Annotated[
        dict[FeatureText, Annotated[int, Field(ge=1, le=QUANTITY_MAX), WHOLE]],
        Field(min_length=1, max_length=8, json_schema_extra=ONLY_THESE),
    ]
    returnable: bool = Field(default=True, strict=True)
    one_carry: bool = Field(default=True, strict=True)
    engineering: bool = Field(default=False, strict=True)


class OfferedCatalog(Document):
    """Kinds in the order in which they are shown (what products name beside them is added), products by SKU."""

    kinds: Annotated[tuple[KindText, ...], Field(max_length=16)] = ()
    products: Annotated[dict[Sku, OfferedProduct], Field(min_length=1, max_length=2000, json_schema_extra=ONLY_THESE)]


@router.get("/catalog", tags=["catalog"], summary="Kinds of field servers and products")
def load_catalog(office: OfficeDependency, caller: CallerDependency, response: Response) -> CatalogDocument:
    found = catalog_service.load_catalog(office, caller)
    tag(response, found.version)
    return found


@router.put("/catalog", tags=["catalog"], summary="Load a catalog; products that it does not name stay")
def save_catalog(
    office: OfficeDependency,
    caller: CallerDependency,
    response: Response,
    body: OfferedCatalog,
    if_match: IfMatch = None,
) -> CatalogDocument:
    kinds = dict.fromkeys(body.kinds)
    for product in body.products.values():
        kinds |= dict.fromkeys(product.kinds)
    products = {
        sku: Product(
            sku=sku,
            name=product.name,
            kinds=frozenset(product.kinds),
            features=dict(product.features),
            returnable=product.returnable,
            one_carry=product.one_carry and product.returnable,
            engineering=product.engineering,
        )
        for sku, product in body.products.items()
    }
    catalog = Catalog(kinds=tuple(kinds), products=products)
    saved = catalog_service.save_catalog(office, caller, catalog, version=version_from(if_match))
    tag(response, saved.version)
    return saved
