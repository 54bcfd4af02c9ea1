"""What the fast path needs of uvicorn, and what the log says where it is not there."""

import logging

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tallystick.activation.http.fast_path import HOOKS, Shortcut


def test_a_uvicorn_with_every_hook_is_not_spoken_of(caplog):
    Shortcut.on(None, None, None)
    assert caplog.records == []


@pytest.mark.parametrize("hook", HOOKS)
def test_a_uvicorn_without_a_hook_is_a_warning_that_names_it(hook, monkeypatch, caplog):
    for owner in HttpToolsProtocol.__mro__[:-1]:
        if hook in vars(owner):
            monkeypatch.delattr(owner, hook)
    with caplog.at_level(logging.WARNING):
        Shortcut.on(None, None, None)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert hook in caplog.text


def test_what_the_fast_path_overrides_of_uvicorn_is_what_it_watches():
    overridden = {name for name in vars(Shortcut) if hasattr(HttpToolsProtocol, name) and not name.startswith("__")}
    assert overridden == set(HOOKS)
