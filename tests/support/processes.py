"""The real ``tallystick`` as processes on loopback: commands that answer in JSON, and services that listen."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("tallystick"))
CATALOG = Path(__file__).parents[2] / "examples" / "catalog.yaml"


def environment(**variables):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYSTICK_")}
    return kept | variables


def run(*words, expect=0, env=None, **variables):
    """A command with ``--json``; what it printed."""
    done = subprocess.run(
        [COMMAND, *map(str, words), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment(**(env or {}), **variables),
    )
    assert expect is None or done.returncode == expect, (words, done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout.strip() else None


@contextmanager
def serving(*words, env=None, stderr=None):
    """A service that prints one JSON line when it listens; yields that and the process."""
    log = stderr or subprocess.DEVNULL
    process = subprocess.Popen(
        [COMMAND, *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=log,
        env=environment(**(env or {})),
    )
    try:
        ready, _, _ = select.select([process.stdout], [], [], 300)
        assert ready, "it does not listen"
        yield json.loads(process.stdout.readline()), process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def wait_until(condition, seconds=20, what="it"):
    """Poll until ``condition`` gives something true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not happen within {seconds} s")


def make_activation(directory, *options, env=None):
    """Init and a catalog, and an entitlement of six SmartDrivers. Returns (data, init's answer, entitlement)."""
    data = directory / "activation"
    made = run("activation", "init", "--data", data, "--issuer", "Maker", *options, env=env)
    run("activation", "catalog", "load", CATALOG, "--data", data, env=env)
    bought = run(
        *("activation", "entitlement", "create", "--data", data, "--account", "Harbour"),
        *("--product", "smartdriver=6"),
        env=env,
    )
    return data, made, bought
