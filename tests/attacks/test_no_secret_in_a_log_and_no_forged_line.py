"""Rule 7: no secret in a log, paths included; control characters are escaped in every format."""

import ast
import io
import json
import logging
from pathlib import Path

import pytest

import tallystick
from support.site import Site
from tallystick.activation import logs
from tallystick.activation.settings import LogSettings
from tallystick.connections.logs import PlainFormatter

SOURCE = Path(tallystick.__file__).parent
VERBS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
HOSTILE = "a\r\n2026-01-01 CRITICAL root: forged\x1b[2J\x9b31m\x7f\u2028\u202e\x00b"

# Every log call with what it tells. Whoever adds one says here, after a look, that no secret can be in it.
TOLD = {
    (
        "activation/http/fast_path.py",
        (
            "the fast path is off, and messages are answered more slowly: uvicorn %s has no %s; "
            "install a uvicorn that pyproject.toml allows"
        ),
    ): ["uvicorn.__version__", "', '.join(missing)"],
    ("activation/http/monitoring.py", "%s %s: %d, for %s"): ["method", "route", "status", "client"],
    ("activation/http/protocol_api.py", "a fault of Tallystick"): [],
    ("activation/outbound/webhooks.py", "sending an event failed by a fault of Tallystick, it is tried again"): [],
    ("activation/server/background.py", "%s failed, it is tried again: %s"): ["chore.name", "error"],
    ("activation/server/background.py", "%s failed by a fault of Tallystick, it is tried again"): ["chore.name"],
    ("activation/server/tls.py", "a new certificate is used from now on"): [],
    ("activation/server/tls.py", "the changed certificate is not used, and the one before stays: %s"): ["error"],
    ("activation/services/batcher.py", "nothing is written any more: %s"): ["error"],
    (
        "activation/services/batcher.py",
        "a batch of %d neither ends nor fails; whoever waits is told to try again",
    ): ["len(seen)"],
    ("activation/services/batcher.py", "a batch of %d was not taken: %s"): ["len(messages)", "error"],
    ("activation/services/batcher.py", "a fault of Tallystick; nothing was written"): [],
    ("fieldserver/api.py", "A request failed."): [],
    ("fieldserver/local_socket.py", "A check failed."): [],
    ("fieldserver/service.py", "Not announced: %s"): ["error"],
}
SECRET_WORDS = {"path", "url", "token", "secret", "password", "body", "headers", "scope", "request", "query", "cookie"}


def calls():
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
                owner = ast.unparse(node.func.value)
                if owner.lower().strip("_") in {"log", "logger", "logging"} or "getLogger" in owner:
                    yield path.relative_to(SOURCE).as_posix(), node


def test_every_log_call_was_looked_at():
    found = {}
    for file, node in calls():
        first, *rest = node.args
        assert isinstance(first, ast.Constant), f"{file}:{node.lineno}: a log call begins with a literal"
        found[file, first.value] = [ast.unparse(argument) for argument in rest]
    assert {key: found.get(key) for key in found} == {key: TOLD.get(key) for key in found}


def test_no_log_call_names_what_may_be_secret():
    for file, node in calls():
        told = [*node.args[1:], *(keyword.value for keyword in node.keywords if keyword.arg == "extra")]
        names = {inner.id for one in told for inner in ast.walk(one) if isinstance(inner, ast.Name)}
        names |= {inner.attr for one in told for inner in ast.walk(one) if isinstance(inner, ast.Attribute)}
        assert not names & SECRET_WORDS, f"{file}:{node.lineno}"


@pytest.fixture(params=["text", "json", "field server"])
def log(request):
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    if request.param == "field server":
        handler = logging.StreamHandler(stream)
        handler.setFormatter(PlainFormatter())
        logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    else:
        logs.set_up(LogSettings(format=request.param, level="info", requests=True), stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)


def entries(stream):
    return [line for line in stream.getvalue().split("\n") if line]


def test_nothing_from_outside_begins_an_entry_or_moves_a_terminal(log):
    mark = logs.REQUEST_ID.set(HOSTILE)
    try:
        logging.getLogger("x").warning("seen %s", HOSTILE)
        try:
            raise ValueError(HOSTILE)
        except ValueError:
            logging.getLogger(HOSTILE).exception("failed: %s", HOSTILE)
    finally:
        logs.REQUEST_ID.reset(mark)
    text = log.getvalue()
    assert text.replace("\n", "").isprintable()
    assert not [line for line in entries(log) if line.startswith("2026-01-01")]
    begun = [line for line in entries(log) if not line.startswith("    | ")]
    assert len(begun) <= 3  # two entries, and the id behind a traceback
    if text.startswith("{"):
        assert json.loads(entries(log)[0])["message"] == f"seen {HOSTILE}"


SECRETS = ("EN-SECRET-SECRET", "inv-SECRET", "tok-SECRET", "SECRET")


def test_no_route_writes_what_its_path_held(log, tmp_path):
    """Every route that takes something in its path, the pages included, and paths that there are not."""
    site = Site(tmp_path)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the browser of the test, not ours
    try:
        object.__setattr__(find_operations(site.web), "logs_requests", True)
        browser = site.browser()
        paths = {path for path in [*routes(site.web.routes), *site.web.openapi()["paths"]] if "{" in path}
        assert len(paths) > 20
        for path in paths:
            filled = path
            while "{" in filled:
                filled = filled[: filled.index("{")] + "SECRET-7" + filled[filled.index("}") + 1 :]
            for method in ("GET", "POST"):
                browser.request(method, filled, headers={"Authorization": "Bearer tok-SECRET"})
        browser.get("/no/such/SECRET")
        browser.get("/%0d%0aSECRET?token=SECRET")
    finally:
        site.close()
    assert "/v1/lines/{line_id}" in log.getvalue()  # routes are told as they are documented
    assert "/invitation/{invitation}" in log.getvalue()
    assert "SECRET" not in log.getvalue()


def routes(found, prefix=""):
    for route in found:
        path = prefix + getattr(route, "path", "")
        yield path
        yield from routes(getattr(route, "routes", None) or (), path)


def find_operations(site):
    return next(one.kwargs["operations"] for one in site.user_middleware if "operations" in one.kwargs)
