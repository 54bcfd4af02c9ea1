"""Readers that are built once."""

from __future__ import annotations

import pytest

from support.readers import READERS


@pytest.fixture(scope="session")
def reader(tmp_path_factory):
    """The program of a language."""
    made = {}

    def build(language):
        if language not in made:
            made[language] = READERS[language](tmp_path_factory.mktemp("reader"))
        return made[language]

    return build
