"""All routes of the management API, and the OpenAPI document that describes them."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi

from tallystick.activation.http.management.dependencies import Problem, ReasonDocument
from tallystick.activation.services import Office

# The modules with a router, each with the nouns that begin its paths: ``/v1/NOUN``.
MODULES: Final = {
    "people": ("accounts", "people", "tokens"),
    "catalog": ("catalog",),
    "entitlements": ("entitlements", "lines"),
    "field_servers": ("field-servers", "messages", "returns"),
    "incidents": ("incidents",),
    "ledger": ("ledger",),
    "trail": ("trail",),
    "webhooks": ("webhooks",),
}
_MODULE_OF: Final = {noun: module for module, nouns in MODULES.items() for noun in nouns}


def add_management(api: FastAPI, office: Office) -> None:
    """Add all routes to the application."""
    add_office(api, office)
    for module in MODULES:
        add_module(api, module)


def module_of(path: str) -> str | None:
    """The module that has the routes of a path, None where there is none."""
    return _MODULE_OF.get(path.removeprefix("/v1/").partition("/")[0])


def router_of(module: str) -> APIRouter:
    """The router of a module, which is loaded by its name: a command needs one of them."""
    router: APIRouter = import_module(f"{__package__}.{module}").router
    return router


def add_module(api: FastAPI, module: str) -> None:
    """Add the routes of one module to the application."""
    api.include_router(router_of(module))


def add_office(api: FastAPI, office: Office) -> None:
    """What every route needs, and the document that describes those that were added."""
    api.state.office = office

    def openapi() -> dict[str, Any]:
        if api.openapi_schema is None:
            document = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for model in (ReasonDocument, Problem):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schema.pop("$defs", None)
                schemas[model.__name__] = schema
            _say_what_is_sent(document)
            api.openapi_schema = document
        return api.openapi_schema

    api.openapi = openapi  # type: ignore[method-assign]  # how FastAPI wants it


def _say_what_is_sent(document: dict[str, Any]) -> None:
    """A parameter that may be left out is no null: there is no null in a query or a header."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                choices = parameter["schema"].pop("anyOf", None)
                if choices is not None:
                    (kind,) = (choice for choice in choices if choice != {"type": "null"})
                    parameter["schema"] |= kind
