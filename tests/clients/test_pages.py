"""The pages for Go and JavaScript: what stands on them is what runs here, over every vector."""

from __future__ import annotations

import shutil

import pytest

from support.clients import CLIENT_TESTS, blocks, build_go, run, write_blocks
from tallystick.conformance import client, vectors

pytestmark = [pytest.mark.clients, pytest.mark.xdist_group("clients")]


def wrong(program) -> list[str]:
    outcomes = list(client.run([str(part) for part in program], vectors.load(), "json"))
    assert len(outcomes) == len(vectors.load())
    return [f"{outcome.vector.name}: {outcome.wrong}" for outcome in outcomes if outcome.wrong]


def test_the_go_page_decides_every_vector_as_it_must(tmp_path):
    write_blocks("go.md", tmp_path)
    shutil.copy(CLIENT_TESTS / "harness.go", tmp_path)
    assert run(["gofmt", "-l", *(str(tmp_path / name) for name in blocks("go.md"))]) == ""
    assert wrong([build_go(tmp_path, "vectors", "check.go", "harness.go")]) == []


def test_the_javascript_page_decides_every_vector_as_it_must(tmp_path):
    write_blocks("javascript.md", tmp_path)
    shutil.copy(CLIENT_TESTS / "harness.mjs", tmp_path)
    assert wrong(["node", tmp_path / "harness.mjs"]) == []


@pytest.mark.parametrize("page", ["go.md", "javascript.md"])
def test_a_page_needs_nothing_but_the_language(page):
    code = blocks(page)["check.go" if page == "go.md" else "check.mjs"]
    if page == "go.md":
        imported = code.partition("import (")[2].partition(")")[0].split()
        assert imported
        assert all("." not in name for name in imported)  # what is not of the standard library begins with a host
    else:
        imported = [line for line in code.splitlines() if line.startswith("import")]
        assert imported
        assert all("'node:" in line for line in imported)
