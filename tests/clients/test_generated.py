"""Clients that other people's generators make of our OpenAPI document, run against a real activation server.

openapi-python-client (PyPI) in a Python of its own, openapi-typescript with openapi-fetch (npm) on Node: what they send for what a
program leaves out is up to them, and nothing of it may change a line.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from support.clients import CHECKOUT, CLIENT_TESTS, run
from support.served import Data, Served

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("clients")]

HERE = CLIENT_TESTS / "generated"
GENERATORS = CHECKOUT / "build" / "generators" / "bin"
NODE = CHECKOUT / "build" / "node"
UNTIL = 1_956_528_000  # in 2032


@pytest.fixture
def data(tmp_path):
    return Data(tmp_path / "data").init()


@pytest.fixture
def served(data):
    process = Served(data.path)
    yield process
    process.kill()


@pytest.fixture
def document(served, tmp_path) -> Path:
    file = tmp_path / "openapi.json"
    file.write_bytes(served.ask("GET", "/openapi.json").body)
    return file


def python_client(document: Path, folder: Path) -> list[str]:
    assert GENERATORS.is_dir(), "make build/generators/.generators installs the generator"
    generator, package = str(GENERATORS / "openapi-python-client"), str(folder / "office_client")
    path = os.environ | {"PATH": f"{GENERATORS}{os.pathsep}{os.environ['PATH']}"}
    run([generator, "generate", "--path", str(document), "--output-path", package, "--meta", "none"], env=path)
    shutil.copy(HERE / "renew.py", folder)
    return [str(GENERATORS / "python"), str(folder / "renew.py")]


def typescript_client(document: Path, folder: Path) -> list[str]:
    programs = NODE / "node_modules" / ".bin"
    assert programs.is_dir(), "make build/node/.node installs the generator"
    (folder / "node_modules").symlink_to(NODE / "node_modules")
    shutil.copy(NODE / "package.json", folder)
    shutil.copy(HERE / "renew.ts", folder)
    run([str(programs / "openapi-typescript"), str(document), "--output", str(folder / "api.ts")], cwd=folder)
    strict = ["--strict", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    run([str(programs / "tsc"), *strict, "--skipLibCheck", "renew.ts"], cwd=folder)
    return ["node", str(folder / "renew.js")]


@pytest.mark.parametrize("make", [python_client, typescript_client])
def test_a_generated_client_changes_what_it_names_and_nothing_else(make, data, served, document, tmp_path):
    line = data.buy("smartdriver=10", expires="2030-01-01").lines[0]
    token = data.ok("token", "create", "billing", "--role", "vendor-administrator", "--days", "1")["token"]
    before = data.line(line)
    folder = tmp_path / "program"
    folder.mkdir()

    words = [served.announced["url"], token, line.line_id, str(UNTIL)]
    renewed, suspended, resumed, made, again = json.loads(run([*make(document, folder), *words]))

    def beside(row, *names):
        return {name: value for name, value in row.items() if name not in {"version", *names}}

    assert before["quantity"] == 10
    assert renewed["expires_at"] == UNTIL != before["expires_at"]
    assert beside(renewed, "expires_at") == {name: before[name] for name in beside(renewed, "expires_at")}
    assert suspended["suspended"] is True
    assert beside(suspended, "suspended") == beside(renewed, "suspended")
    assert beside(resumed) == beside(renewed)
    assert made["entitlement"] == again["entitlement"]
    assert (made["lines"][0]["quantity"], made["account"]) == (3, "Harbour")
