"""Both HTTP APIs do what their OpenAPI documents say, whatever is sent to them; schemathesis makes it up."""

import json
import os

import pytest
from starlette.routing import Route

from support.parties import TRACEBACK, Activation, FieldServer, Technician, basic
from support.schemas import check_api
from tallystick.fieldserver import api

pytestmark = pytest.mark.slow

EXAMPLES = 200 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 15


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    directory = tmp_path_factory.mktemp("schemas")
    activation = Activation(directory / "activation")
    activation.make()
    (directory / "fs").mkdir()
    server = FieldServer(directory / "fs" / "roof")
    server.make()
    try:
        activation.start()
        server.start()
        technician = Technician(directory / "home")
        technician.add(server)
        bought = activation.buy("smartdriver=5")
        technician("entitlement", "add", bought["entitlement_id"], "--activation", activation.url)
        technician("activate", "roof", "--line", f"{bought['lines'][0]['line']}=2")
        yield activation, server
    finally:
        server.stop()
        activation.stop()


def test_the_activation_server_does_what_its_document_says(site, tmp_path):
    activation, _ = site
    before = activation.lines()
    check_api(f"{activation.url}/openapi.json", directory=tmp_path, examples=EXAMPLES)
    assert activation.lines() == before
    activation.verify()
    assert activation.call("GET", "/healthz")[0] == 200
    assert TRACEBACK not in activation.log.read_text()


def test_a_field_server_does_what_its_document_says(site, tmp_path):
    _, server = site
    check_api(
        f"{server.url}/v1/openapi.json",
        directory=tmp_path,
        headers={"Authorization": basic(server.password)},
        examples=EXAMPLES,
        exclude_checks=["ignored_auth"],  # the next test: its wrong passwords slow this address down
    )
    status, _, licenses = server.call("GET", "/v1/licenses")
    assert (status, set(licenses) >= {"licenses", "outbox"}) == (200, True)
    assert TRACEBACK not in server.log.read_text()


def test_a_field_server_never_forgets_to_ask_for_the_password(site, tmp_path):
    _, server = site
    check_api(
        f"{server.url}/v1/openapi.json",
        directory=tmp_path,
        headers={"Authorization": basic(server.password)},
        examples=2,
        checks="ignored_auth,not_a_server_error",
    )
    assert TRACEBACK not in server.log.read_text()


def test_the_field_servers_document_names_every_path_and_no_other():
    document = json.loads(api.DOCUMENT.read_text("utf-8"))
    routes = api.make_app(api.Api.__new__(api.Api))._app.routes  # type: ignore[attr-defined]  # the application below its middleware
    found = {(route.path, method) for route in routes if isinstance(route, Route) for method in route.methods}
    named = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}
    assert found - {(path, "HEAD") for path, _ in found} == named
