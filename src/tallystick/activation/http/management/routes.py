"""All routes of the management API, and the OpenAPI document that describes them."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tallystick.activation.http.management import entitlements, field_servers, people, webhooks
from tallystick.activation.http.management.dependencies import Problem, ReasonDocument
from tallystick.activation.services import Office

ROUTERS: Final = (people.router, entitlements.router, field_servers.router, webhooks.router)


def add_management(api: FastAPI, office: Office) -> None:
    """Add the routes to the application."""
    api.state.office = office
    for router in ROUTERS:
        api.include_router(router)

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
