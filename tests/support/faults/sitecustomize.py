"""Seeded errors, for processes that have this directory on ``PYTHONPATH``: ``TALLYSTICK_TEST_FAULT`` names one.

The product has no switch for any of them: either the operating system, as the process sees it, lies, or a module is
edited while it is imported.
"""

import os
import sqlite3
import stat
import sys

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

# An error in the code of a module, as somebody might write it: what stands there once becomes something else while it is
# imported. Where it does not stand there (any more), the import fails, so no control passes for want of its error.
EDITS = {
    "no-sync-at-load": ("tallystick.fieldserver.vault", "if slot.mac != self._durable:", "if False:"),
    "reply-before-commit": (
        "tallystick.activation.services.batcher",
        "            return answers\n",
        """            start, early = 0, []
            for submission in batch:
                early.append((submission, answers[start : start + len(submission.messages)]))
                start += len(submission.messages)
            self._deliver(early)
            threading.Event().wait(0.03)  # a disk that takes its time
            return answers
""",
    ),
    "unlocked-lines": ("tallystick.activation.storage.batches_postgres", " FOR UPDATE OF lines", ""),
    "unchecked-settle": (
        "tallystick.activation.core.interventions",
        "if field_server.status is Status.LOST and (field_server.waits_until or 0) <= clock.seconds:",
        "if True:",
    ),
    "pruned-recovering": ("tallystick.activation.storage.pruning", "FIELD_SERVERS.c.recovering.is_(None),", ""),
    "sequence-twice": (
        "tallystick.activation.core.issuing",
        "batch.used.setdefault((decision.device_id, request.sequence), digest)",
        "pass",
    ),
}

if _FAULT in EDITS:
    from importlib.machinery import PathFinder, SourceFileLoader

    _MODULE, _OLD, _NEW = EDITS[_FAULT]

    class _Loader(SourceFileLoader):
        def get_code(self, fullname):
            source = self.get_data(self.path).decode()
            if _OLD not in source:
                raise ImportError(f"{fullname} does not say {_OLD!r}")
            return compile(source.replace(_OLD, _NEW), self.path, "exec")

    class _Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name != _MODULE:
                return None
            spec = PathFinder.find_spec(name, path, target)
            spec.loader = _Loader(name, spec.origin)
            return spec

    sys.meta_path.insert(0, _Finder)
