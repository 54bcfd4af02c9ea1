"""Seeded errors, for processes that have this directory on ``PYTHONPATH``: ``TALLYSTICK_TEST_FAULT`` names one.

The product has no switch for any of them; it is the operating system, as the process sees it, that lies.
"""

import os
import sqlite3
import stat

_FAULT = os.environ.get("TALLYSTICK_TEST_FAULT", "")


def _is_directory(file):
    return stat.S_ISDIR(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode)


def _without_sync(sync, *, of_directories):
    def lie(file):
        if _is_directory(file) is not of_directories:
            sync(file)

    return lie


if _FAULT in {"no-file-sync", "no-directory-sync"}:
    os.fsync = _without_sync(os.fsync, of_directories=_FAULT == "no-directory-sync")
    os.fdatasync = _without_sync(os.fdatasync, of_directories=_FAULT == "no-directory-sync")

if _FAULT in {"sqlite-normal", "sqlite-off"}:
    _connect = sqlite3.connect

    class _Connection(sqlite3.Connection):
        def execute(self, statement, *parameters):
            if statement.startswith("PRAGMA synchronous"):
                statement = f"PRAGMA synchronous = {_FAULT.removeprefix('sqlite-')}"
            return super().execute(statement, *parameters)

    sqlite3.connect = lambda *arguments, **options: _connect(*arguments, **({"factory": _Connection} | options))

if _FAULT == "no-sync-at-load":
    from tallystick.fieldserver.vault import Vault

    Vault.load = Vault.peek
