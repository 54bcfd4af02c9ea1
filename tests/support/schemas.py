"""An HTTP API against its own OpenAPI document, by schemathesis: every check, on a running process.

Import ``check_api`` for any API of ours. A failure prints what schemathesis printed: the request that brings it out, and
a seed that repeats the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from support.parties import surroundings
from tallystick.activation.http.management import add_management
from tallystick.activation.http.protocol_api import create_api

_HOOKS = Path(__file__).parent
# What no schema can say: an id has a check symbol; a wish may be refused for the state that the field server is in.
_REFUSABLE = '["2xx", "401", "403", "404", "409", "422", "429"]'  # 429: what strangers may say has a rate


def management_api() -> FastAPI:
    """Every route of the activation server, with nothing behind it."""
    api = create_api(None)
    add_management(api, None)
    return api


def management_document() -> dict[str, Any]:
    """Its OpenAPI document."""
    return management_api().openapi()


def check_api(
    document: str | Path,
    *,
    directory: Path,
    url: str | None = None,
    headers: Mapping[str, str] | None = None,
    examples: int = 30,
    checks: str = "all",
    exclude_checks: Sequence[str] = (),
    exclude_paths: Sequence[str] = (),
    settings: str = "",
    seconds: float = 1800,
) -> str:
    """Raises ``AssertionError`` unless every check passes. ``settings``: more of a schemathesis.toml.

    A document is an URL or a file (then ``url`` is the base). ``TALLYSTICK_SCHEMA_SEED`` repeats a run.
    """
    config = directory / "schemathesis.toml"
    config.write_text(f"[checks]\npositive_data_acceptance.expected-statuses = {_REFUSABLE}\n{settings}")
    words = [sys.executable, "-m", "support.schema_runner", f"--config-file={config}", "run", str(document)]
    words += ["--checks", checks, "--max-examples", str(examples), "--no-color", "--tls-verify", "false"]
    words += ["--seed", os.environ.get("TALLYSTICK_SCHEMA_SEED", "1"), "--generation-database", "none"]
    words += [
        "--suppress-health-check",
        "all",
        "--request-timeout",
        "300",
        "--continue-on-failure",
        "--warnings",
        "off",
    ]
    words += [] if url is None else ["--url", url]
    words += ["--exclude-checks", ",".join(exclude_checks)] if exclude_checks else []
    for path in exclude_paths:
        words += ["--exclude-path", path]
    for name, value in (headers or {}).items():
        words += ["--header", f"{name}: {value}"]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        cwd=directory,
        env=surroundings(PYTHONPATH=str(_HOOKS.parent), COLUMNS="200"),
    )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-3000:]
    return done.stdout
