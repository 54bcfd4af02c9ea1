import pytest
from starlette.routing import Route

from tallystick.activation.http.management.routes import MODULES, module_of, router_of


@pytest.mark.parametrize("module", MODULES)
def test_every_path_of_a_module_begins_with_one_of_its_nouns_and_every_noun_begins_one(module):
    routes = [route for route in router_of(module).routes if isinstance(route, Route)]
    assert routes
    assert {module_of(route.path) for route in routes} == {module}
    assert {route.path.split("/")[2] for route in routes} == set(MODULES[module])


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/nothing", "/v2/lines", "/healthz", "/x/v1/lines"])
def test_a_path_of_nobody_is_in_no_module(path):
    assert module_of(path) is None
